import math
import random

import numpy as np
import pytest
import sacrebleu

from kseq.metrics import (
    accuracy,
    bleu,
    confusion,
    corpus_bleu,
    macro_f1,
    noun_phrases,
    novel,
    pointing,
    repeated,
    rouge,
    rouge_words,
    span_f1,
    spans,
    token_errors,
    token_pairs,
)

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


def test_corpus_bleu_parts_words_itself():
    """Counted by hand: 5/6 words ("." is one of its own), 3/5 pairs, 2/4 threes, 1/3 fours."""
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    np.testing.assert_allclose(corpus_bleu(["The old red dog ran."], [["The old red dog runs."]]), expected, rtol=1e-9)
    assert corpus_bleu(["Don't go, he said."], [["Don't go, he said.", "Stay."]]) == pytest.approx(100)


def test_corpus_bleu_is_that_of_sacrebleu():
    """Oracle: sacrebleu's corpus_bleu with its own defaults, with 1 to 4 references a text."""
    predictions, references = ([row[i] for row in CORPUS] for i in (0, 1))
    streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(4)]
    np.testing.assert_allclose(corpus_bleu(predictions, references), sacrebleu.corpus_bleu(predictions, streams).score)
    assert corpus_bleu(["我爱北京天安门"], [["我爱北京的天安门"]], tokenize="zh") > 40
    assert corpus_bleu(["我爱北京天安门"], [["我爱北京的天安门"]]) < 1


@pytest.mark.parametrize(
    "text, target, expected",
    [
        # 3 of 4 and 3 of 5 words; pairs: "the cat" of 3 and of 4; in order: "the cat", "mat" or "the cat", "a".
        ("The cat, a mat!", "the cat on a mat", (2 * 4 / 9, 2 * 2 / 7, 2 * 4 / 9)),
        ("mat a cat the", "the cat on a mat", (2 * 4 / 9, 0, 2 * 1 / 9)),
        ("the the the", "the cat", (2 * 1 / 5, 0, 2 * 1 / 5)),
        ("running", "run", (0, 0, 0)),  # no stemming
        ("", "run", (0, 0, 0)),
        ("run 2", "run 2", (1, 1, 1)),
    ],
)
def test_rouge_by_hand(text, target, expected):
    scores = rouge([text], [target])
    assert list(scores) == ["rouge_1", "rouge_2", "rouge_l"]
    np.testing.assert_allclose(list(scores.values()), 100 * np.array(expected), rtol=1e-9)


def test_rouge_is_a_mean_over_texts_and_takes_other_words():
    """By hand: (1 + 0) / 2. Chinese has no words of a…z; by character, 2 of 3 and 2 of 2."""
    assert rouge(["a b", "c"], ["a b", "d"]) == {"rouge_1": 50, "rouge_2": 50, "rouge_l": 50}
    assert rouge(["我爱你"], ["我爱"])["rouge_1"] == 0
    np.testing.assert_allclose(rouge(["我爱你"], ["我爱"], words=list)["rouge_1"], 100 * 2 * 2 / 5)
    assert rouge_words("Don't, RUN-2 é") == ["don", "t", "run", "2"]
    with pytest.raises(ValueError, match="shorter"):
        rouge(["a", "b"], ["a"])


def test_novel_by_hand():
    """5 words, "new" and "too" of them new; pairs: "dog new", "new the", "too a" of … each counted in its own text."""
    predictions, sources = ["A dog, new the", "too a"], ["the dog. A dog", "a new cat"]
    assert novel(predictions, sources) == 2 / 6
    assert novel(predictions, sources, n=2) == 3 / 4
    assert novel(["犬猫"], ["犬"], words=list) == 0.5
    assert math.isnan(novel(["", "a"], ["b", "b"], n=2))


def test_repeated_by_hand():
    """Threes of "a b c a b c a": abc bca cab abc bca, 2 of 5 again; a second text has 1 and no repeat."""
    assert repeated(["a b c. A b, c a"]) == 2 / 5
    assert repeated(["a b c a b c a", "a b c"]) == 2 / 6
    assert repeated(["a a a", "a"], n=1) == 2 / 4
    assert repeated(["犬犬"], n=1, words=list) == 0.5
    assert math.isnan(repeated(["a b", ""]))


def test_labels_by_hand():
    """F1: a 2·2/(3+2), b 2·1/(1+3), c 0 (never predicted), d 0 (never right)."""
    references, predictions = list("aabbbc"), list("aabdad")
    assert accuracy(predictions, references) == 3 / 6
    np.testing.assert_allclose(macro_f1(predictions, references), np.mean([4 / 5, 2 / 4, 0, 0]))
    np.testing.assert_array_equal(
        confusion(predictions, references, list("abcd")), [[2, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    )
    with pytest.raises(ValueError, match="shorter"):
        accuracy("ab", "a")


TAGS = ["O", "B-x", "I-x", "B-y", "I-y", "B-x-y", "I-x-y"]


def conlleval(tags):
    """Oracle: `startOfChunk` and `endOfChunk` of conlleval.pl, line by line."""
    found, first = set(), None
    tags = ["O", *tags, "O"]
    for i in range(1, len(tags)):
        (before, _, was), (now, _, kind) = tags[i - 1].partition("-"), tags[i].partition("-")
        end = (before, now) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")} or (before != "O" and was != kind)
        start = (before, now) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")} or (now != "O" and was != kind)
        if end:
            found.add((was, first, i - 1))
        if start:
            first = i - 1
    return found


def test_spans_are_those_of_conlleval():
    draw = random.Random(0)
    for _ in range(3000):
        tags = draw.choices(TAGS, k=draw.randrange(9))
        assert len(spans(tags)) == len(set(spans(tags))) and set(spans(tags)) == conlleval(tags), tags


@pytest.mark.parametrize(
    "tags, targets, expected",
    [
        ("B-x I-x O B-y", "B-x I-x O B-y", 1),
        ("B-x I-x O B-y", "B-x O O B-y", 2 * 1 / 4),
        ("B-x I-x O O", "B-y I-y O B-y", 0),
        ("I-x I-x O B-y", "B-x I-x O I-y", 1),
        ("B-x B-x", "B-x I-x", 0),
        ("O O O", "O B-x O", 0),
    ],
)
def test_span_f1_by_hand(tags, targets, expected):
    assert span_f1([tags.split()], [targets.split()]) == expected


def test_span_f1_counts_over_all_texts():
    """By hand: 1 of 1 and of 1, 0 of 1 and of 2: 2·1 / (2 + 3)."""
    assert span_f1([["B-x"], ["B-x", "O", "O"]], [["B-x"], ["O", "B-x", "B-y"]]) == 2 / 5
    assert math.isnan(span_f1([["O"]], [["O"]]))


def test_span_f1_of_texts_of_other_lengths_raises():
    with pytest.raises(ValueError, match="1 tags cannot be held against 2"):
        span_f1([["O"]], [["O", "O"]])


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


@pytest.mark.parametrize(
    "regions, strengths, expected",
    [
        ((4, 4, 0, 4, 4, 5, 4), (0.4, 0.4, 0.9, 0.1, 0.3, 0.5, 0.4), 1.0),  # the strongest looks are on their objects
        ((0, 0, 4, 4, 4, 5, 5), (0.4, 0.4, 0.9, 0.9, 0.3, 0.5, 0.4), 0.5),  # "ball" looked away, and hardest
        ((0, 4, 4, 0, 0, 5, 4), (0.3, 0.4, 0.2, 0.9, 0.9, 0.3, 0.4), 0.0),  # "and" and "left" are in no phrase
        ((4, 4, 0, 4, 5, 4, 4), (0.4, 0.4, 0.9, 0.1, 0.9, 0.5, 0.4), 0.5),  # so their looks do not count
    ],
)
def test_pointing_of_a_phrase_is_by_its_strongest_look(regions, strengths, expected):
    """By hand, over "a red ball and left blue star": box 0 holds region 0, box 1 region 5; "left" is no modifier."""
    looks = np.full((7, 9), 0.05)
    looks[np.arange(7), regions] = strengths
    words, boxes = [["a", "red", "ball", "and", "left", "blue", "star"]], [np.array([CORNER, RIGHT])]
    assert pointing(words, [looks], boxes, {"ball", "star"}, {"a", "red", "blue"}) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a red ball", [(0, 3)]),
        ("ball ball", [(0, 1), (1, 2)]),
        ("red of a ball a red", [(2, 4)]),
        ("a red", []),
        ("", []),
    ],
)
def test_a_noun_phrase_is_a_noun_with_the_modifiers_right_before_it(text, expected):
    assert noun_phrases(text.split(), {"ball"}, {"a", "red"}) == expected


def test_pointing_without_an_object_word_is_nan():
    assert math.isnan(pointing([["a", "b"]], [look(0, 0)], [np.array([CORNER])], {"ball"}))
    assert math.isnan(pointing([], [], [], {"ball"}))


# --- tokens of recordings


def distance(a, b):
    """Levenshtein's distance of two lists, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def test_token_errors_are_those_of_the_shortest_edits():
    rng = np.random.default_rng(0)
    texts = [[str(x) for x in rng.choice(list("abc"), rng.integers(least, 7))] for least in (1, 0) * 40]
    references, predictions = ([" ".join(text) for text in texts[i::2]] for i in (0, 1))
    errors = token_errors(predictions, references)
    count = sum(len(text) for text in texts[::2])
    edits = sum(distance(a, b) for a, b in zip(texts[::2], texts[1::2], strict=True))
    assert sum(errors.values()) == pytest.approx(edits / count)
    pairs = token_pairs(predictions, references)
    assert [a for a, _ in pairs if a] == [x for text in texts[::2] for x in text]
    assert [b for _, b in pairs if b] == [x for text in texts[1::2] for x in text]
    assert sum(a != b for a, b in pairs) == edits


def test_token_errors_tell_what_went_wrong():
    kinds = ("insertions", "deletions", "substitutions")
    for prediction, wrong in (("a b x c", kinds[0]), ("a c", kinds[1]), ("a x c", kinds[2]), ("", kinds[1])):
        errors = token_errors([prediction], ["a b c"])
        assert {name for name in kinds if errors[name]} == {wrong}
    assert token_errors(["a b c", "b"], ["a b c", "c"]) == {"insertions": 0, "deletions": 0, "substitutions": 0.25}
