"""Texts from any source: generated, parallel files, tables, JSON lines, TensorFlow Datasets."""

import hashlib
import itertools
import json

from kseq.data import tables, toy
from kseq.data.phrases import PHRASES, SPLITS, phrases
from kseq.data.tfds import read_tfds, value_at
from kseq.errors import UserError

TOYS = ("numbers", *PHRASES)
FORMS = (
    f"{', '.join(f'toy:{name}' for name in TOYS)}, text:<files>, tsv:<file>, csv:<file>, labelled:<file>, "
    "jsonl:<file> or tfds:<name>"
)
TOY_COUNT = {"train": 20_000, "dev": 1_000}


class Examples:
    """Pairs (place, {role: text}), read anew each time that they are iterated; none stays in memory.

    Args:
        rows: function that returns a new iterator over the pairs.
    """

    def __init__(self, rows):
        self._rows = rows

    def __iter__(self):
        return self._rows()

    def first(self, count):
        """At most `count` of them, or all where it is 0."""
        return Examples(lambda: itertools.islice(self, count or None))

    def hold_out(self, share, seed):
        """(the others, about a `share` of them), parted by a hash of the texts and the seed.

        Equal examples fall on one side, and where more are added, those that were there stay on theirs.
        """
        if not 0 < share < 1:
            raise UserError(f"data.holdout must be between 0 and 1, got {share}")

        def part(held):
            return Examples(lambda: (pair for pair in self if (_draw(pair[1], seed) < share) == held))

        return part(False), part(True)


def _draw(example, seed):
    """A number in 0…1 that depends on nothing but the texts and the seed."""
    text = json.dumps([seed, example], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def read(source, split, fields, *, columns=(), quotes=False, bad_bytes="stop"):
    """The examples of one split.

    Args:
        source: where they are. Files may be compressed (`.gz`) and larger than memory; `{split}` in their names stands
            for the split.

            - `toy:numbers`: generated, as `toy.numbers` has them.
            - `text:data/{split}.{field}.gz`: files that hold the same line by line, one for each field, which
              `{field}` stands for.
            - `tsv:<file>`, `csv:<file>`: a table, its columns named by the first line or by `columns`.
            - `labelled:<file>`: the first word of a line is its `label`, the rest its `text`.
            - `jsonl:<file>`: an object a line.
            - `tfds:<name>`: TensorFlow Datasets; classes are their names.
            - `toy:<name>`: generated phrases, one of `PHRASES`.
        split: its name.
        fields: {role: field}: what the task calls a text, and the column, the key or the feature that holds it;
            "a/b" is `b` inside `a`. The role "split" names a field that holds the split of an example.
        columns: names of the columns of a table whose first line does not name them.
        quotes: for tsv, whether fields may stand in quotation marks, as those of csv always may.
        bad_bytes: what becomes of a line that is not UTF-8: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        `Examples`. Numbers, and true and false, are the words JSON has for them; a list of texts is its texts with
        spaces between. Reading them raises `UserError` where a line is not as it must be, naming file and line.

    Raises:
        UserError: there is no such kind of source.
    """
    kind, _, name = source.partition(":")
    path = name.replace("{split}", split)
    names = list(fields.values())
    rows = {
        "text": lambda: _parallel(source, path, names, bad_bytes),
        "tsv": lambda: (
            tables.read_csv(path, columns, separator="\t", bad_bytes=bad_bytes)
            if quotes
            else tables.read_tsv(path, columns, bad_bytes=bad_bytes)
        ),
        "csv": lambda: tables.read_csv(path, columns, bad_bytes=bad_bytes),
        "labelled": lambda: tables.read_labelled(path, bad_bytes=bad_bytes),
        "jsonl": lambda: tables.read_jsonl(path, bad_bytes=bad_bytes),
        "tfds": lambda: read_tfds(name, split, names),
        "toy": lambda: _toy(source, name, split),
    }.get(kind)
    if rows is None or not name or (kind == "toy" and name not in TOYS):
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    return Examples(lambda: _examples(rows(), source, split, fields))


def _toy(source, name, split):
    if split not in SPLITS:
        raise UserError(f"{source}: there is no split {split!r}; it has {' and '.join(SPLITS)}")
    if name in PHRASES:
        return phrases(name, split)
    return ((f"{source} {row['id']}", row) for row in toy.numbers(split, TOY_COUNT[split]))


def _parallel(source, path, names, bad_bytes):
    if "{field}" not in path and len(names) > 1:
        raise UserError(f"data.source {source!r} must hold {{field}}, which stands for {' and '.join(names)} in turn")
    return tables.read_parallel({name: path.replace("{field}", name) for name in names}, bad_bytes=bad_bytes)


def _examples(rows, source, split, fields):
    empty = True
    for where, row in rows:
        example = {role: _text(value_at(row, path, where, role), path, where) for role, path in fields.items()}
        if example.pop("split", split) == split:
            empty = False
            yield where, example
    if empty:
        raise UserError(f"{source}: split {split!r} has no examples")


def _text(value, path, where):
    if hasattr(value, "tolist"):  # TFDS gives NumPy's numbers and arrays
        value = value.tolist()
    if isinstance(value, list) and value and all(isinstance(text, str | bytes) for text in value):
        return " ".join(_text(text, path, where) for text in value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        # JSON can write halves of characters (\ud800), which no UTF-8 has.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UserError(f"{where}: {path!r} is not a text, a number or a list of texts, but {str(value)[:40]}")
