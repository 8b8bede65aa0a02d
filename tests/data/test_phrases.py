"""The generated phrases: their labels against rules written anew, and the same phrases every time."""

import itertools
import re
from collections import Counter

import pytest

from kseq.data import read
from kseq.data.phrases import PHRASES, SPLITS, phrases
from kseq.errors import UserError
from kseq.metrics import spans


def some(name, split="train", count=300):
    return [example for _, example in itertools.islice(phrases(name, split), count)]


def halves(text):
    """((size, colour, shape), relation, (size, colour, shape))."""
    first, _, second = text.partition(" is ")
    *relation, _, size, colour, shape = second.split()
    return tuple(first.split()[1:]), " ".join(relation), (size, colour, shape)


def test_a_place_is_that_of_the_object_further_left_or_up():
    for example in some("places"):
        first, relation, second = halves(example["text"])
        assert example["label"] == (first if relation in ("left of", "above") else second)[2]


def test_the_spans_of_an_order_are_what_it_speaks_of():
    kinds = set()
    for example in some("orders"):
        words, tags = example["text"].split(), example["tags"].split()
        assert len(words) == len(tags)
        found = {kind: words[first:end] for kind, first, end in spans(tags)}
        assert len(found["object"]) == 3 and words[1] == "the" and tags[1] == "O"
        assert (
            set(found) - {"object"}
            == {"put": {"relation", "place"}, "paint": {"colour"}, "resize": {"size"}, "remove": set()}[
                example["label"]
            ]
        )
        kinds.add(example["label"])
    assert len(kinds) == 4


BACK = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def test_a_claim_follows_from_its_premise_or_not():
    """Oracle: the premise's facts, looked up."""
    labels = set()
    for example in some("claims"):
        first, relation, second = halves(example["premise"])
        _, subject, _, *claim = example["hypothesis"].split()
        colours = {thing[2]: thing[1] for thing in (first, second)}
        if len(claim) == 1:
            want = "entailment" if colours[subject] == claim[0] else "contradiction"
        elif claim[-1] == "cat":
            want = "neutral"
        else:
            said = " ".join(claim[:-2])
            true = relation if (subject, claim[-1]) == (first[2], second[2]) else BACK[relation]
            want = {true: "entailment", BACK[true]: "contradiction"}.get(said, "neutral")
        assert example["label"] == want
        labels.add(want)
    assert len(labels) == 3


def test_a_summary_tells_the_one_deal_of_its_text():
    """Oracle: the sentence with a verb of giving or of taking, found with a regular expression."""
    gives = {"sold": "buys", "lent": "borrows", "gave": "gets", "left": "inherits"}
    takes = {"bought": "buys", "borrowed": "borrows", "got": "gets", "had": "inherits"}
    told, found = f"([A-Z][a-z]+) ({'|'.join([*gives, *takes])}) a ([a-z]+) (to|from) ([A-Z][a-z]+)[.]", set()
    for example in some("sales"):
        ((first, verb, thing, way, second),) = re.findall(told, example["text"])
        giver, taker = (first, second) if verb in gives else (second, first)
        assert way == ("to" if verb in gives else "from")
        assert example["summary"] == f"{taker} {(gives | takes)[verb]} a {thing} from {giver}"
        assert example["text"].count(". ") in (2, 3)
        found.add(verb)
    assert found == {*gives, *takes}


def test_names_are_rare():
    """A vocabulary of words that stand five times has none of those of dev."""
    counts = Counter(re.findall("[A-Z][a-z]{5,}", "".join(example["text"] for example in some("sales", count=6000))))
    common = {word for word, count in counts.items() if count >= 4} - {"Yesterday", "Monday"}
    names = {word for example in some("sales", "dev") for word in re.findall("[A-Z][a-z]{5,}", example["summary"])}
    assert len(names) > 500 and not common & names


@pytest.mark.parametrize("name", PHRASES)
def test_they_are_the_same_every_time_and_no_phrase_is_in_two_splits(name):
    counts = {"train": 600, "dev": 200, "test": 200}
    parts = [[tuple(example.values()) for example in some(name, split, counts[split])] for split in SPLITS]
    assert [len(part) for part in parts] == [*counts.values()]
    assert parts[2][:50] == [tuple(example.values()) for example in some(name, "test", 50)]
    assert sum(len(set(part)) for part in parts) == len({example for part in parts for example in part})


def test_train_has_thousands_and_the_others_600_each():
    assert [len(some("places", split, 6000)) for split in SPLITS] == [6000, 600, 600]


def test_they_are_read_by_their_name():
    where, example = next(iter(read("toy:places", "dev", {"text": "text", "label": "label"})))
    assert where == "toy:places dev[0]" and example.keys() == {"text", "label"}
    with pytest.raises(UserError, match="toy:places: there is no split 'valid'; it has train, dev, test"):
        list(read("toy:places", "valid", {"text": "text"}))


def test_a_line_of_a_couplet_is_answered_word_by_word():
    """Oracle: pairs in plain words; a colour goes on by the season, a number makes ten with its answer."""
    pairs = "spring autumn sun moon hill river bird fish wind rain flower leaf gate road cloud field monk king"
    pairs = f"{pairs} rises falls sings sleeps opens closes comes goes wakes dreams".split()
    of = {a: b for one, other in zip(pairs[::2], pairs[1::2], strict=True) for a, b in ((one, other), (other, one))}
    colours = ["red", "golden", "green", "blue", "white", "black"]
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lengths = set()
    for example in some("couplets"):
        above, below = example["line"].split(), example["next"].split()
        assert len(above) == len(below)
        for one, other in zip(above, below, strict=True):
            if one in colours:
                turn = 1 if above[0] == "spring" else -1
                assert colours[(colours.index(one) + turn) % 6] == other
            elif one in numbers:
                assert numbers.index(one) + numbers.index(other) == 10
            else:
                assert of[one] == other
        lengths.add(len(above))
    assert lengths == {3, 5, 7}
