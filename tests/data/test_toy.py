"""Tests of the generated picture-caption data against its own pixels and a second reading of its captions."""

import hashlib
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from kseq.data import toy

PIXELS = {"small": (10, 15), "large": (18, 25)}

# Analytic, for a shape that fills its box: covered share of the box, share of that in the upper half, and
# whether the middle is covered. They tell the six shapes apart.
MOMENTS = {
    "circle": (0.785, 0.5, 1),
    "square": (1.0, 0.5, 1),
    "triangle": (0.5, 0.25, 1),
    "star": (0.36, 0.51, 1),
    "cross": (0.556, 0.5, 1),
    "ring": (0.589, 0.5, 0),
}


@pytest.fixture(scope="module")
def examples():
    return list(toy.shapes("train", 400)) + list(toy.shapes("dev", 200))


def read(example):
    """Returns the relation (None for one object) and the objects as (size, colour, shape)."""
    (caption,) = example["captions"]
    relation = next((r for r in (" left of ", " above ") if r in caption), None)
    objects = [phrase.split() for phrase in (caption.split(relation) if relation else [caption])]
    assert all(article == "a" for article, *_ in objects)
    return relation, [tuple(words) for _, *words in objects]


def decode(example):
    return np.asarray(Image.open(io.BytesIO(example["image"])), float)


def foreground(pixels):
    """Returns where the picture is strongly coloured: its background is nearly grey, its palette is not."""
    return np.ptp(pixels, axis=-1) > 60


def test_same_arguments_give_the_same_examples_and_a_longer_count_extends_a_shorter():
    short, again, long = (list(toy.shapes("dev", count, seed=3)) for count in (20, 20, 30))
    assert len(short) == 20 and len(long) == 30
    for a, b, c in zip(short, again, long[:20], strict=True):
        assert a["id"] == b["id"] == c["id"]
        assert a["image"] == b["image"] == c["image"]
        assert a["captions"] == b["captions"] == c["captions"]
        np.testing.assert_array_equal(a["boxes"], b["boxes"])
        np.testing.assert_array_equal(a["boxes"], c["boxes"])


def test_ids_name_split_and_index():
    assert [example["id"] for example in toy.shapes("train", 2)] == ["train-00000", "train-00001"]


def test_seed_and_split_give_different_pictures():
    streams = [toy.shapes("train", 20), toy.shapes("train", 20, seed=1), toy.shapes("dev", 20)]
    images = [example["image"] for stream in streams for example in stream]
    assert len(set(images)) == 60


def test_captions_do_not_depend_on_the_size():
    small, large = (list(toy.shapes("train", 20, size=size)) for size in (48, 96))
    assert [example["captions"] for example in small] == [example["captions"] for example in large]


@pytest.mark.slow
def test_no_caption_is_in_both_splits(monkeypatch):
    monkeypatch.setattr(toy, "_draw", lambda rng, kinds, boxes, size: np.zeros([1, 1, 3], np.uint8))
    # The smallest possible language, so that thousands of draws meet nearly every caption.
    monkeypatch.setattr(toy, "_KINDS", toy._KINDS[:12])
    train, dev = ({e["captions"][0] for e in toy.shapes(split, 2000)} for split in ("train", "dev"))
    assert not train & dev
    pairs = [{c for c in captions if c.count(" a ") == 1} for captions in (train, dev)]
    assert 0.05 < len(pairs[1]) / 288 < 0.16 and len(pairs[0]) + len(pairs[1]) > 280
    assert all(" a " in caption for caption in dev)


@pytest.mark.slow
def test_numbers_of_objects(examples):
    train = [len(example["boxes"]) for example in examples[:400]]
    dev = [len(example["boxes"]) for example in examples[400:]]
    np.testing.assert_allclose(np.bincount(train, minlength=4) / 400, [0, 0.16, 0.59, 0.25], atol=0.06)
    np.testing.assert_allclose(np.bincount(dev, minlength=4) / 200, [0, 0, 0.7, 0.3], atol=0.08)


def test_captions_use_the_public_words(examples):
    seen = {words for example in examples for words in read(example)[1]}
    for position, allowed in enumerate((toy.SIZES, toy.COLOURS, toy.SHAPES)):
        assert {words[position] for words in seen} == set(allowed)
    assert set(toy.SHAPES) == toy.NOUNS
    assert {"a", *toy.SIZES, *toy.COLOURS} == toy.MODIFIERS


def test_palette_colours_are_far_apart():
    for a, b in itertools.combinations(toy.COLOURS.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 90  # jitter moves a colour by at most 21


def test_boxes_are_those_of_the_caption(examples):
    for example in examples:
        relation, objects = read(example)
        boxes = example["boxes"]
        assert boxes.dtype == np.float32 and boxes.shape == (len(objects), 4)
        assert boxes.min() > 0 and boxes.max() < 1
        for (size, _, _), extent in zip(objects, 64 * (boxes[:, 2:] - boxes[:, :2]), strict=True):
            assert PIXELS[size][0] < extent.min() and extent.max() < PIXELS[size][1]
        for a, b in itertools.combinations(boxes, 2):
            assert (np.maximum(a[:2], b[:2]) > np.minimum(a[2:], b[2:])).any()
        if relation:
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            along, across = centres.T if relation == " above " else centres.T[::-1]
            assert np.diff(along).min() > 2 * np.ptp(across)


@pytest.mark.slow
def test_every_box_holds_its_object_and_nothing_is_outside(examples):
    for example in examples:
        pixels = decode(example)
        coloured = foreground(pixels)
        for (_, colour, _), box in zip(read(example)[1], 64 * example["boxes"], strict=True):
            top, left = np.floor(box[:2]).astype(int)
            bottom, right = np.ceil(box[2:]).astype(int)
            rows, columns = np.nonzero(coloured[top:bottom, left:right])
            # A tip of less than a pixel's width is too pale to count.
            assert rows.min() <= 3 and columns.min() <= 3
            assert rows.max() >= bottom - top - 4 and columns.max() >= right - left - 4
            median = np.median(pixels[top:bottom, left:right][rows, columns], axis=0)
            assert min(toy.COLOURS, key=lambda c: np.linalg.norm(median - toy.COLOURS[c])) == colour
            coloured[top:bottom, left:right] = False
        assert not coloured.any()


@pytest.mark.slow
def test_shapes_are_told_apart_by_their_pixels(examples):
    """Oracle: areas of the figures by geometry, on the opacity that the colour of a pixel implies."""
    for example in examples:
        pixels = decode(example)
        for (_, _, shape), box in zip(read(example)[1], 64 * example["boxes"], strict=True):
            top, left = np.floor(box[:2]).astype(int)
            bottom, right = np.ceil(box[2:]).astype(int)
            patch = np.ptp(pixels[top:bottom, left:right], axis=-1)
            pale = np.median(np.ptp(pixels, axis=-1))
            opacity = ((patch - pale) / (np.percentile(patch, 95) - pale)).clip(0, 1)
            middle = (box[0] + box[2]) / 2 - top
            above = (middle - np.arange(bottom - top)).clip(0, 1)[:, None]
            row, column = int(middle), int((box[1] + box[3]) / 2 - left)
            found = (
                opacity.sum() / np.prod(box[2:] - box[:2]),
                (opacity * above).sum() / opacity.sum(),
                opacity[row, column],
            )
            distance = {name: np.abs(np.subtract(found, moments)).sum() for name, moments in MOMENTS.items()}
            assert min(distance, key=distance.get) == shape, (example["captions"], found)


@pytest.mark.parametrize("size", [32, 64, 100])
def test_picture_is_an_rgb_png_of_the_size(size):
    for example in toy.shapes("train", 5, size=size):
        picture = Image.open(io.BytesIO(example["image"]))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (size, size))


def test_bad_arguments_raise_at_the_call():
    with pytest.raises(ValueError, match=r"split must be one of \('train', 'dev', 'test'\), got 'valid'"):
        toy.shapes("valid", 1)
    with pytest.raises(ValueError, match="count must be at least 0, got -1"):
        toy.shapes("train", -1)
    with pytest.raises(ValueError, match="size must be at least 32, got 31"):
        toy.shapes("train", 1, size=31)
    with pytest.raises(ValueError, match="seed must be at least 0, got -2"):
        toy.shapes("train", 1, seed=-2)


# --- numbers

NAMES = """
zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize
vingt trente quarante cinquante soixante
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
eighteen nineteen
twenty thirty forty fifty sixty seventy eighty ninety
"""
SMALL, TENS, ENGLISH_SMALL, ENGLISH_TENS = (line.split() for line in NAMES.strip().splitlines())
FRENCH = {name: i for i, name in enumerate(SMALL)} | {name: 10 * i for i, name in enumerate(TENS, 2)}
ENGLISH = {name: i for i, name in enumerate(ENGLISH_SMALL)} | {name: 10 * i for i, name in enumerate(ENGLISH_TENS, 2)}


def value(text, units, hundred, thousand):
    """A second reading of a number: what it is worth, word by word. "quatre-vingt" multiplies, all else adds."""
    total = part = 0
    for word in text.replace("-", " ").split():
        word = {"cents": "cent", "vingts": "vingt"}.get(word, word)
        if word in ("et", "and"):
            continue
        if word == hundred:
            part = max(part, 1) * 100
        elif word == thousand:
            total, part = max(part, 1) * 1000, 0
        elif word == "vingt" and part % 100 == 4:
            part += 76
        else:
            part += units[word]
    return total + part


def test_numbers_in_words_are_worth_what_their_digits_say():
    for number in [*range(1200), *range(1200, 1_000_000, 997), 80_000, 200_000, 999_999]:
        assert value(toy.french(number), FRENCH, "cent", "mille") == number, toy.french(number)
        assert value(toy.english(number), ENGLISH, "hundred", "thousand") == number, toy.english(number)


@pytest.mark.parametrize(
    "number, french, english",
    [
        (0, "zéro", "zero"),
        (21, "vingt et un", "twenty-one"),
        (71, "soixante et onze", "seventy-one"),
        (80, "quatre-vingts", "eighty"),
        (91, "quatre-vingt-onze", "ninety-one"),
        (200, "deux cents", "two hundred"),
        (203, "deux cent trois", "two hundred and three"),
        (1001, "mille un", "one thousand and one"),
        (80_100, "quatre-vingt mille cent", "eighty thousand one hundred"),
        (200_000, "deux cent mille", "two hundred thousand"),
        (303_000, "trois cent trois mille", "three hundred and three thousand"),
    ],
)
def test_numbers_are_spelled_as_in_france_and_britain(number, french, english):
    assert (toy.french(number), toy.english(number)) == (french, english)


@pytest.mark.slow
def test_no_text_of_test_is_in_another_split():
    """Dev is read beyond the examples that draw from all that is held out."""
    for texts in (
        [{row["digits"] for row in toy.numbers(split, 1500)} for split in toy.SPLITS],
        [{toy._captioned(split, i, 0)[-1] for i in range(1500)} for split in toy.SPLITS],
    ):
        assert sum(map(len, texts)) == len(set.union(*texts)) and len(texts[2]) > 500


@pytest.mark.parametrize("split, digest", [("train", "bcc3482c3a76925f"), ("dev", "8601650f2a161c7b")])
def test_train_and_dev_stay_what_they_were(split, digest):
    """Recorded figures hold for these examples."""
    found = hashlib.sha256()
    for row in toy.numbers(split, 1000):
        found.update(row["fr"].encode())
    for example in toy.shapes(split, 20):
        found.update(example["captions"][0].encode() + example["boxes"].tobytes())
    assert found.hexdigest()[:16] == digest


@pytest.mark.slow
def test_numbers_of_both_splits_are_apart_and_the_small_ones_are_in_train():
    train, dev = (list(toy.numbers(split, 2000)) for split in ("train", "dev"))
    digits = [{row["digits"] for row in rows} for rows in (train, dev)]
    assert not digits[0] & digits[1] and min(map(int, digits[1])) >= 100
    assert train[:5] == list(toy.numbers("train", 5)) and train[:5] != list(toy.numbers("train", 5, seed=1))
    assert [row["id"] for row in dev[:2]] == ["dev-00000", "dev-00001"]
    lengths = np.bincount([len(row["digits"]) for row in train])[1:]
    assert len(lengths) == 6 and lengths.min() > 250
    for row in dev:
        assert (row["fr"], row["en"]) == (toy.french(int(row["digits"])), toy.english(int(row["digits"])))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "valid"}, "split must be one of"),
        ({"count": -1}, "count must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        toy.numbers(**({"split": "train", "count": 1} | arguments))
