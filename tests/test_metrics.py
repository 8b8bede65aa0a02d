import math

import numpy as np
import pytest
import sacrebleu

from kseq.metrics import bleu, exact_match, pointing

CORPUS = [
    ("a dog runs on the wet grass", ["a dog runs on wet grass", "the brown dog runs on the grass", "a dog on grass"]),
    ("two men play ball", ["two men are playing ball in a park"]),
    ("a child in a red coat climbs a tree", ["a child in a red coat climbs up a tree", "a child climbs a tree"]),
    ("a man", ["a man rides a horse on a beach at noon", "a man rides", "man", "there is a man on a horse"]),
]


@pytest.mark.parametrize(
    "prediction, references, expected",
    [
        # Papineni et al.'s example of clipping: "the" counts twice, as in the first reference.
        ("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"], 2 / 7),
        # All words right, one of four is missing: brevity penalty exp(1 − 4/3).
        ("a red ball", ["a red small ball"], math.exp(1 - 4 / 3)),
        # Of two references the closer in length counts, so no penalty.
        ("a red ball", ["a red small round ball here", "a green ball"], 1.0),
        ("a red ball", ["a red ball"], 1.0),
        # Too long: 3 of 6 words, no penalty.
        ("a red ball a red ball", ["a red ball"], 0.5),
    ],
)
def test_bleu_1_by_hand(prediction, references, expected):
    np.testing.assert_allclose(bleu([prediction], [references])["bleu_1"], 100 * expected, rtol=1e-9)


def test_bleu_by_hand():
    """Counted by hand: 5/5 words, 3/4 pairs, 2/3 threes, 1/2 fours; equal lengths, so no penalty."""
    scores = bleu(["e a b c d"], [["a b c d e"]])
    precisions = [5 / 5, 3 / 4, 2 / 3, 1 / 2]
    for n in range(1, 5):
        np.testing.assert_allclose(scores[f"bleu_{n}"], 100 * math.prod(precisions[:n]) ** (1 / n), rtol=1e-9)
    assert list(scores) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]


def test_bleu_counts_over_the_corpus():
    """By hand: (3 + 1) of (3 + 3) words; a mean of the two would be 2/3 as well, so lengths differ: (3 + 1) of 8."""
    scores = bleu(["a red ball", "a x x x x"], [["a red ball"], ["a big dog runs here"]])
    np.testing.assert_allclose(scores["bleu_1"], 100 * 4 / 8, rtol=1e-9)


def test_bleu_is_that_of_sacrebleu():
    """Oracle: sacrebleu's corpus_bleu, with 1 to 4 references a text."""
    predictions, references = ([row[i] for row in CORPUS] for i in (0, 1))
    streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(4)]
    scores = bleu(predictions, references)
    expected = sacrebleu.corpus_bleu(predictions, streams, tokenize="none")
    np.testing.assert_allclose(scores["bleu_4"], expected.score, rtol=1e-9)
    np.testing.assert_allclose(scores["bleu_1"], expected.bp * expected.precisions[0], rtol=1e-9)
    assert 20 < scores["bleu_4"] < scores["bleu_3"] < scores["bleu_2"] < scores["bleu_1"] < 100


def test_order_of_the_references_does_not_matter():
    predictions, references = ([row[i] for row in CORPUS] for i in (0, 1))
    assert bleu(predictions, references) == bleu(predictions, [texts[::-1] for texts in references])


def test_bleu_takes_words_as_they_are():
    """By hand: neither case nor punctuation is touched, so of "A dog ." only "dog" and "." match."""
    np.testing.assert_allclose(bleu(["A dog ."], [["a dog ."]])["bleu_1"], 100 * 2 / 3, rtol=1e-9)
    assert bleu(["dog."], [["dog ."]])["bleu_1"] == 0


def test_bleu_of_an_empty_prediction_is_0():
    assert set(bleu([""], [["a dog"]]).values()) == {0.0}


def test_exact_match():
    """By hand."""
    references = [["a b", "a c"], ["a b"], ["a b c"], ["", "a"]]
    assert exact_match(["a c", "b a", "a b", ""], references) == 0.5
    assert exact_match(["a b"], [["a b"]]) == 1.0
    assert isinstance(exact_match(["a"], [["b"]]), float)


def test_exact_match_of_lists_of_other_lengths_raises():
    with pytest.raises(ValueError, match="shorter"):
        exact_match(["a", "b"], [["a"]])


# On a grid of 3 × 3: the upper left third, and the right edge of the middle row.
CORNER, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.4, 0.6, 0.6, 1.0)


def look(*regions):
    """Alignments `[time, 9]` whose largest weight is on one region at each step."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0, 0.1, (len(regions), 9))
    weights[np.arange(len(regions)), regions] = 0.5
    return weights


@pytest.mark.parametrize(
    "words, regions, boxes, expected",
    [
        ("a ball", (4, 0), [CORNER], 1.0),  # hit
        ("a ball", (0, 4), [CORNER], 0.0),  # the look of another step
        ("ball left of star", (0, 4, 4, 5), [CORNER, RIGHT], 1.0),  # region 5: row 1, column 2
        ("ball left of star", (0, 4, 4, 7), [CORNER, RIGHT], 0.5),  # region 7: row 2, column 1
        ("star left of ball", (5, 4, 4, 0), [CORNER, RIGHT], 0.0),  # boxes count by order
        ("ball and star", (0, 0, 5), [CORNER], 0.5),  # a word beyond the boxes
        ("ball ball ball ball", (0, 5, 0, 5), [CORNER, RIGHT], 0.5),
        ("a ball", (0, 1), [(0.0, 0.0, 0.5, 0.49)], 0.0),  # its centre is at (1/6, 1/2)
        ("a ball", (0, 1), [(0.0, 0.0, 0.5, 0.51)], 1.0),
        ("a ball", (0, 0), [], 0.0),
    ],
)
def test_pointing_by_hand(words, regions, boxes, expected):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    assert pointing([words.split()], [look(*regions)], [boxes], {"ball", "star"}) == expected


def test_pointing_is_a_share_of_words_and_not_of_pictures():
    """By hand: 1 of 1 and 0 of 3 make 1/4. Alignments may be longer than the words."""
    words = [["ball"], ["ball", "star", "ball"]]
    boxes = [np.array([CORNER]), np.array([CORNER])]
    assert pointing(words, [look(0, 3, 3), look(8, 8, 8)], boxes, {"ball", "star"}) == 0.25


def test_pointing_without_an_object_word_is_nan():
    assert math.isnan(pointing([["a", "b"]], [look(0, 0)], [np.array([CORNER])], {"ball"}))
    assert math.isnan(pointing([], [], [], {"ball"}))
