"""Generated data: phrases whose labels depend on the order of the words, texts with summaries, and couplets."""

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np

from kseq.data.couplets import couplets
from kseq.data.sales import sales
from kseq.data.toy import COLOURS, SHAPES, SIZES

SPLITS = ("train", "dev", "test")
_HELD_OUT = 0.1  # share of the examples that "train" never shows
_COUNTS = {"train": 6000, "dev": 600, "test": 600}
# Each relation, whether the object that is named first also comes first from left to right or from top to bottom, and
# the inverse relation.
_RELATIONS = {
    "left of": (True, "right of"),
    "right of": (False, "left of"),
    "above": (True, "below"),
    "below": (False, "above"),
}


def places(rng):
    """`text` relates two objects; `label` is the shape that comes first from left to right or from top to bottom."""
    objects = [_object(rng) for _ in range(2)]
    relation = _draw(rng, _RELATIONS)
    first = objects[0] if _RELATIONS[relation][0] else objects[1]
    return {"text": f"{_phrase(objects[0])} is {relation} {_phrase(objects[1])}", "label": first[-1]}


def orders(rng):
    """An order as `text`, a tag for each of its words as `tags`, and the action as `label`.

    In "paint the red circle blue", red describes the object, and blue is the colour it will have.
    """
    kind = _draw(rng, ("put", "paint", "resize", "remove"))
    words = [(_draw(rng, {"paint": ("paint", "make", "turn"), "resize": ("make",)}.get(kind, (kind,))), "O")]
    words += _tagged(_object(rng), "object")
    if kind == "put":
        relation = _draw(rng, _RELATIONS)
        words += [*_span(relation.split(), "relation"), *_tagged(_object(rng), "place")]
    elif kind != "remove":
        words += _span([_draw(rng, COLOURS if kind == "paint" else SIZES)], {"paint": "colour"}.get(kind, "size"))
    if rng.random() < 0.5:
        words.append(("now", "O"))
    text, tags = (" ".join(part) for part in zip(*words, strict=True))
    return {"text": text, "tags": tags, "label": kind}


def claims(rng):
    """A `premise`, a `hypothesis`, and as `label` whether the first entails or contradicts the second, or neither."""
    (_, colour, shape), (_, _, other) = a, b = _two_objects(rng)
    relation = _draw(rng, _RELATIONS)
    back = _RELATIONS[relation][1]
    label = _draw(rng, ("entailment", "contradiction", "neutral"))
    across = _draw(rng, [r for r in _RELATIONS if r not in (relation, back)])
    hypothesis = {
        "entailment": (f"the {other} is {back} the {shape}", f"the {shape} is {colour}"),
        "contradiction": (
            f"the {other} is {relation} the {shape}",
            f"the {shape} is {_draw(rng, [c for c in COLOURS if c != colour])}",
        ),
        "neutral": (f"the {other} is {across} the {shape}", f"the {shape} is beside a cat"),
    }[label]
    premise = f"{_phrase(a)} is {relation} {_phrase(b)}"
    return {"premise": premise, "hypothesis": _draw(rng, hypothesis), "label": label}


PHRASES = {"places": places, "orders": orders, "claims": claims, "sales": sales, "couplets": couplets}


def phrases(name, split, *, seed=0) -> Iterator[tuple[str, dict]]:
    """Yields ("toy:name split[i]", example), the same ones each time. For one seed, no example is in two splits.

    "dev" may show an example twice, and so may "test". Of the orders to remove or to resize something there are so few
    that "train" and "dev" leave next to none for "test".

    Args:
        name: one of `PHRASES`.
        split: one of `SPLITS`.
        seed: at least 0.
    """
    stream = (1,) if split == "test" else ()
    taken = {_text(example) for _, example in phrases(name, "dev", seed=seed)} if split == "test" else ()
    found = 0
    for i in itertools.count():
        if found == _COUNTS[split]:
            return
        example = PHRASES[name](np.random.default_rng((seed, i, *stream)))
        text = _text(example)
        share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
        if (share < _HELD_OUT) == (split != "train") and text not in taken:
            yield f"toy:{name} {split}[{found}]", example
            found += 1


def _text(example):
    return "\n".join(example.values())


def _draw(rng, choices):
    choices = list(choices)
    return choices[rng.integers(len(choices))]


def _object(rng):
    """(size, colour, shape)."""
    return _draw(rng, SIZES), _draw(rng, COLOURS), _draw(rng, SHAPES)


def _two_objects(rng):
    """Two of different shapes."""
    a = _object(rng)
    return a, (_draw(rng, SIZES), _draw(rng, COLOURS), _draw(rng, [shape for shape in SHAPES if shape != a[-1]]))


def _phrase(thing):
    return f"the {' '.join(thing)}"


def _tagged(thing, kind):
    return [("the", "O"), *_span(thing, kind)]


def _span(words, kind):
    return [(word, f"{'I' if i else 'B'}-{kind}") for i, word in enumerate(words)]
