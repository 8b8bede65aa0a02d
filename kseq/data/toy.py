"""Generated data: small pictures of coloured shapes with a caption each, and numbers in words."""

import bisect
import functools
import hashlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

SPLITS = ("train", "dev", "test")
# Extents as fractions of the picture, (least, most); the gap between the two ranges keeps the words apart.
SIZES = {"small": (11 / 64, 14 / 64), "large": (18.5 / 64, 24 / 64)}

COLOURS = {
    "red": (215, 30, 35),
    "orange": (245, 130, 15),
    "yellow": (245, 225, 40),
    "green": (30, 150, 50),
    "cyan": (40, 205, 215),
    "blue": (30, 65, 215),
    "purple": (125, 35, 165),
    "pink": (245, 125, 195),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
NOUNS = frozenset(SHAPES)
MODIFIERS = frozenset(("a", *SIZES, *COLOURS))
# The relation names the axis along which the objects stand: 0 from top to bottom, 1 from left to right.
RELATIONS = ("above", "left of")

_KINDS = tuple((size, colour, shape) for size in SIZES for colour in COLOURS for shape in SHAPES)
_AT_MOST = (0.15, 0.75, 1.0)  # probability of at most one, two, three objects
_HELD_OUT = 0.1  # share of the texts that "train" never shows
FIRST_DEV = 1000  # examples of "dev" that draw from all texts held out; those behind them leave half to "test"
_MARGIN, _GAP = 1 / 64, 2 / 64
_OFF_LINE = 0.2  # of the least distance between neighbours: past 0.5 a row could pass for a column
_HOLE = 0.5  # of a ring's diameter
_OVERSAMPLING = 4

_MOST_DIGITS = 6
_FRENCH, _FRENCH_TENS, _ENGLISH, _ENGLISH_TENS = map(
    str.split,
    (
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
        "dix-huit dix-neuf",
        "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt",
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    ),
)


def _star() -> np.ndarray:
    angles = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2, 0.42, 1.0)
    points = np.stack([-np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    return (points - points.min(0)) / np.ptp(points, axis=0)


# Outlines as (row, column) in the unit square, each touching all four sides, so that extent means size.
_OUTLINES = {
    "square": np.array([(0, 0), (0, 1), (1, 1), (1, 0)]),
    "triangle": np.array([(0, 0.5), (1, 1), (1, 0)]),
    "star": _star(),
    "cross": np.array([[0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1], [1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 1]]).T / 3,
}


def shapes(split: str, count: int, *, size: int = 64, seed: int = 0) -> Iterator[dict]:
    """Yields pictures of one to three shapes, each with its caption.

    Example `i` depends on `seed`, `split` and `i` alone, so a longer `count` has the shorter as its prefix.
    For one seed, no caption is in two splits; every caption of a single object is in "train".

    Args:
        split: "train", "dev" or "test".
        count: number of examples, at least 0.
        size: height and width of the picture in pixels, at least 32.
        seed: at least 0.

    Returns:
        An iterator of dictionaries: `id`, like "train-00017"; `image`, the bytes of an RGB PNG; `captions`,
        a list of one string; `boxes`, float32 `[objects, 4]`, (top, left, bottom, right) as fractions of the
        picture, in the order in which the caption names the objects.

    Raises:
        ValueError: an argument is outside its range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    for name, value, least in (("count", count, 0), ("size", size, 32), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    return (_example(split, index, size, seed) for index in range(count))


def _example(split: str, index: int, size: int, seed: int) -> dict:
    rng, kinds, axis, caption = _captioned(split, index, seed)
    boxes = _layout(rng, [kind[0] for kind in kinds], axis)
    png = io.BytesIO()
    Image.fromarray(_draw(rng, kinds, boxes, size)).save(png, "PNG", compress_level=1)
    name = f"{split}-{index:05d}"
    return {"id": name, "image": png.getvalue(), "captions": [caption], "boxes": boxes.astype(np.float32)}


def _captioned(split: str, index: int, seed: int) -> tuple:
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        objects = 1 + bisect.bisect(_AT_MOST, rng.random())
        axis = int(rng.integers(2))
        kinds = [_KINDS[int(draw * len(_KINDS))] for draw in rng.random(objects)]
        caption = f" {RELATIONS[axis]} ".join(f"a {' '.join(kind)}" for kind in kinds)
        if belongs(caption, objects == 1, split, index, functools.partial(_dev_captions, seed)):
            return rng, kinds, axis, caption


@functools.cache
def _dev_captions(seed: int) -> frozenset:
    return frozenset(_captioned("dev", index, seed)[-1] for index in range(FIRST_DEV))


def belongs(text: str, simple: bool, split: str, index: int, dev_texts) -> bool:
    """Whether a text may be example `index` of a split. Simple texts are all in "train"."""
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    held_out = not simple and share < _HELD_OUT
    if split == "train":
        return not held_out
    for_test = share < _HELD_OUT / 2
    if split == "dev":
        return held_out and (index < FIRST_DEV or not for_test)
    return held_out and for_test and text not in dev_texts()


def _layout(rng: np.random.Generator, sizes: list[str], axis: int) -> np.ndarray:
    free = 1 - 2 * _MARGIN - (len(sizes) - 1) * _GAP
    least, most = np.array([SIZES[name] for name in sizes]).T
    extents = rng.uniform(least, np.minimum(most, free / len(sizes)))  # three of the largest would not fit
    slack = np.sort(rng.uniform(0, free - extents.sum(), len(sizes)))
    along = _MARGIN + slack + np.cumsum(extents) - extents / 2 + _GAP * np.arange(len(sizes))
    off = _OFF_LINE * np.diff(along).min(initial=1.0) * rng.uniform(-1, 1, len(sizes))
    reach = _MARGIN + extents / 2
    across = off + rng.uniform((reach - off).max(), (1 - reach - off).min())
    centres = np.stack([along, across] if axis == 0 else [across, along], axis=1)  # [objects, 2]
    return np.concatenate([centres - extents[:, None] / 2, centres + extents[:, None] / 2], axis=1)


def _draw(rng: np.random.Generator, kinds: list[tuple], boxes: np.ndarray, size: int) -> np.ndarray:
    ramp = np.linspace(-1, 1, size)
    slope = rng.uniform(-10, 10, 2)
    light = slope[0] * ramp[:, None] + slope[1] * ramp
    canvas = light[..., None] + rng.uniform(205, 235) + rng.uniform(-6, 6, 3)  # [size, size, 3]
    for (_, colour, shape), box in zip(kinds, boxes * size, strict=True):
        top, left = np.floor(box[:2]).astype(int)
        bottom, right = np.ceil(box[2:]).astype(int)
        opacity = _opacity(shape, box - (top, left, top, left), bottom - top, right - left)[..., None]
        patch = canvas[top:bottom, left:right]
        patch += opacity * (COLOURS[colour] + rng.uniform(-12, 12, 3) - patch)
    canvas += 4 * rng.standard_normal((size, size, 1), dtype=np.float32)
    return canvas.clip(0, 255).astype(np.uint8)


def _opacity(shape: str, box: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    pen = ImageDraw.Draw(mask)
    start, extent = box[:2] * _OVERSAMPLING, (box[2:] - box[:2]) * _OVERSAMPLING - 1  # Pillow draws both ends
    if shape in _OUTLINES:
        pen.polygon((start + _OUTLINES[shape] * extent)[:, ::-1].ravel().tolist(), fill=255)
    else:
        pen.ellipse([*start[::-1], *(start + extent)[::-1]], fill=255)
        if shape == "ring":
            rim = extent * (1 - _HOLE) / 2
            pen.ellipse([*(start + rim)[::-1], *(start + extent - rim)[::-1]], fill=0)
    return np.asarray(mask.reduce(_OVERSAMPLING)) / 255


def numbers(split: str, count: int, *, seed: int = 0) -> Iterator[dict]:
    """Yields numbers of one to six digits in French words, in English words and in digits.

    French counts by twenties where English does not (97 is "quatre-vingt-dix-sept"), so that one word is read from
    several. In "train", numbers of each length are equally many. Example `i` depends on `seed`, `split` and `i` alone.
    For one seed, no number is in two splits, and those below 100 are all in "train". "test" has hardly any of three
    digits, because "train" and "dev" have nearly all of them.

    Args:
        split: "train", "dev" or "test".
        count: number of examples, at least 0.
        seed: at least 0.

    Returns:
        An iterator of dictionaries: `id`, like "train-00017"; `fr`, `en` and `digits`, strings.

    Raises:
        ValueError: an argument is outside its range.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    for name, value in (("count", count), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    return (_number(split, index, seed) for index in range(count))


def _number(split: str, index: int, seed: int) -> dict:
    number = _drawn_number(split, index, seed)
    name = f"{split}-{index:05d}"
    return {"id": name, "fr": french(number), "en": english(number), "digits": str(number)}


def _drawn_number(split: str, index: int, seed: int) -> int:
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        digits = int(rng.integers(_MOST_DIGITS))
        number = int(rng.integers(10**digits if digits else 0, 10 ** (digits + 1)))
        if belongs(str(number), number < 100, split, index, functools.partial(_dev_numbers, seed)):
            return number


@functools.cache
def _dev_numbers(seed: int) -> frozenset:
    return frozenset(str(_drawn_number("dev", index, seed)) for index in range(FIRST_DEV))


def french(number: int) -> str:
    """A number below a million in French words, as in France, spelled the traditional way."""
    if number < 20:
        return _FRENCH[number]
    if number < 100:
        ten, rest = divmod(number, 10)
        name, rest = _FRENCH_TENS[ten - 2], rest + 10 * (ten in (7, 9))
        if number in (21, 31, 41, 51, 61, 71):
            return f"{name} et {_FRENCH[rest]}"
        return f"{name}-{_FRENCH[rest]}" if rest else name + "s" * (number == 80)
    size, name, plural = (100, "cent", "cents") if number < 1000 else (1000, "mille", "mille")
    count, rest = divmod(number, size)
    many = french(count)
    if many.endswith(("cents", "vingts")):  # they lose their s before another number
        many = many[:-1]
    if not rest:
        return name if count == 1 else f"{many} {plural}"
    return f"{name if count == 1 else f'{many} {name}'} {french(rest)}"


def english(number: int) -> str:
    """A number below a million in English words, with "and" as in Britain."""
    if number < 20:
        return _ENGLISH[number]
    if number < 100:
        ten, rest = divmod(number, 10)
        return _ENGLISH_TENS[ten - 2] + (f"-{_ENGLISH[rest]}" if rest else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    count, rest = divmod(number, size)
    joined = " and " if rest < 100 else " "
    return f"{english(count)} {name}" + (f"{joined}{english(rest)}" if rest else "")
