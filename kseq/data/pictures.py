"""Pictures with captions, from generated data, a table of files or TensorFlow Datasets."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kseq.data import toy
from kseq.data.public import fetch_hint
from kseq.data.sources import splitter
from kseq.data.tables import read_tsv
from kseq.data.tfds import open_tfds, value_at
from kseq.errors import UserError

FORMS = "toy:shapes, tsv:<file> or tfds:<name>"
# Captions that name a side are not true of the mirrored picture. These are beginnings of words, then characters that
# may stand anywhere in a text.
_SIDE_WORDS = (
    "left|right|link[se]|recht[se]|gauche|droite?s?\\b|izquierd|derech|sinistr[aoei]\\b|destr[aoei]\\b|esquerd|direit|"
    "vlevo|vpravo|lev[ýáéo]|prav[ýáéo]|lew[aąeoy]|praw[aąeoy]|venstre|høyre|højre|vänster|höger|vasen|vasemm|oike|"
    "слева|справа|налево|направо|лев(?:ый|ая|ое|ой|ую|ом)\\b|прав(?:ый|ая|ое|ой|ую|ом)\\b"
)
SIDES = re.compile(rf"\b(?:{_SIDE_WORDS})|[左右]|왼|오른|يسار|يمين", re.IGNORECASE)
TOY_COUNT = {"train": 20_000, "dev": 1_000, "test": 1_000}


@dataclass(frozen=True)
class Picture:
    """A picture and its captions.

    Attributes:
        id: its name, unique in its source.
        captions: one or more.
        read: function that returns the bytes of the picture file.
        where: the file and line that name the picture, for messages.
        fingerprint: string that changes when the picture does.
        boxes: float32 `[objects, 4]`, (top, left, bottom, right) as fractions of the picture, in the order of the first
            caption; empty if the source has none.
        mirrored: whether left and right are exchanged.
    """

    id: str
    captions: tuple[str, ...]
    read: Callable[[], bytes]
    where: str
    fingerprint: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    mirrored: bool = False

    def mirror(self):
        """The picture with left and right exchanged, without the captions that name a side."""
        top, left, bottom, right = self.boxes.T
        boxes = np.stack([top, 1 - right, bottom, 1 - left], axis=-1)
        captions = tuple(text for text in self.captions if not SIDES.search(text))
        changes = {
            "captions": captions,
            "mirrored": not self.mirrored,
            "fingerprint": f"{self.fingerprint} mirrored",
            "boxes": boxes,
        }
        return dataclasses.replace(self, **changes)


def read_pictures(source, split, *, fields, count=0, size=64, seed=0, bad_bytes="stop"):
    """The pictures of one split.

    Args:
        source: "toy:shapes"; "tsv:<file>", where `{split}` in the name is replaced by the split; or "tfds:<name>".
        split: name of the split.
        fields: names of the table's columns or the dataset's features. `image` and `caption` are required; `image` may
            be a pattern over columns, such as "images/{name}.png"; `split` names a column that holds the split.
        count: at most this many pictures; 0 for all, which for toy is `TOY_COUNT`.
        size: for toy, the side in pixels.
        seed: for toy.
        bad_bytes: for tsv, how lines that are not UTF-8 are read: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        list of `Picture`.

    Raises:
        UserError: the source is unknown, or one of its lines is malformed.
    """
    for key in fields:
        if key not in ("image", "caption", "split"):
            raise UserError(f"data.fields names image, caption and split, not {key!r}")
    kind, _, name = source.partition(":")
    if kind == "toy" and name == "shapes":
        pictures = _toy(split, count or TOY_COUNT.get(split, 1), size, seed)
    elif kind == "tsv" and name:
        pictures = _table(name.replace("{split}", split), split, fields, bad_bytes)
    elif kind == "tfds" and name:
        pictures = _tfds(name, split, fields)
    else:
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    pictures = tqdm(
        itertools.islice(pictures, count or None), desc=f"{split} of {source}", unit=" pictures", disable=None
    )
    pictures = list(pictures)
    if not pictures:
        raise UserError(f"{source}: split {split!r} has no pictures")
    return pictures


def hold_out_pictures(pictures, shares, seed):
    """Takes shares of the pictures for other splits, as `Examples.hold_out` does with examples.

    A picture is chosen by a hash of its id and the seed and keeps all of its captions. Adding pictures does not move
    the others to another split.

    Returns:
        (the remaining pictures, {split: the pictures held out for it}), lists of `Picture`.

    Raises:
        UserError: a share is not between 0 and 1, or a split would have no picture.
    """
    split_of = splitter(shares, seed)
    parts = {None: [], **{split: [] for split in shares}}
    for picture in pictures:
        parts[split_of(picture.id)].append(picture)
    for split, part in parts.items():
        if not part:
            raise UserError(f"holding out {shares} of {len(pictures)} pictures leaves none for {split or 'train'}")
    return parts.pop(None), parts


def _toy(split, count, size, seed):
    try:
        for example in toy.shapes(split, count, size=size, seed=seed):
            yield Picture(
                id=example["id"],
                captions=tuple(example["captions"]),
                read=lambda data=example["image"]: data,
                where=f"toy:shapes {example['id']}",
                fingerprint=f"{example['id']} {size} {seed} {hashlib.sha256(example['image']).hexdigest()}",
                boxes=example["boxes"],
            )
    except ValueError as error:
        raise UserError(f"toy:shapes: {error}") from None


def _table(path, split, fields, bad_bytes):
    """One picture for each file that the table names, with all captions that it has there."""
    path = Path(path)
    rows = {}
    for where, row in read_tsv(path, bad_bytes=bad_bytes):
        _require(fields, row, where)
        if fields.get("split") and row[fields["split"]] != split:
            continue
        caption = row[fields["caption"]].strip()
        if not caption:
            raise UserError(f"{where}: the caption is empty")
        name = _file_name(fields["image"], row)
        rows.setdefault(name, (where, []))[1].append(caption)
    return (_file(path.parent, name, where, captions) for name, (where, captions) in rows.items())


def _require(fields, row, where):
    named = [fields["caption"], *(fields[k] for k in ("split",) if fields.get(k))]
    named += _columns(fields["image"]) or [fields["image"]]
    for column in named:
        if column not in row:
            known = ", ".join(row)
            raise UserError(f"{where}: there is no column {column!r}; the first line names {known}. Set data.fields")


def _parts(pattern):
    """[(text, column or None)] of a pattern like "images/{name}.png".

    Raises:
        UserError: a brace stands alone, or something but the name of a column stands between two.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise UserError(
            f"data.fields.image {pattern!r}: {error}; a column is {{name}}, and a brace that is meant is doubled"
        ) from None
    for _, _, form, conversion in parts:
        if form or conversion:
            raise UserError(f"data.fields.image {pattern!r}: between braces only the name of a column may stand")
    return [(text, column) for text, column, _, _ in parts]


def _columns(pattern):
    return [column for _, column in _parts(pattern) if column is not None]


def _file_name(pattern, row):
    if not _columns(pattern):
        return row[pattern]
    return "".join(text + ("" if column is None else row[column]) for text, column in _parts(pattern))


def _file(folder, name, where, captions):
    path = folder / name
    real = Path(os.path.realpath(path))  # unlike `resolve`, without an error for a link that goes in a circle
    if not real.is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{where}: {name!r} leaves the data folder {folder}")

    def read():
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
                raise UserError(f"{where}: picture {path} is not a file")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{where}: picture {path} cannot be read: {error.strerror}{fetch_hint(path)}") from None

    try:
        stat = path.stat()
        fingerprint = f"{real} {stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        fingerprint = f"{real} missing"
    return Picture(name, tuple(captions), read, where, fingerprint)


def _tfds(name, split, fields):
    """Pictures of a dataset with random access; they stay encoded until they are read."""
    import tensorflow_datasets as tfds

    image = fields["image"]
    rows, info = open_tfds(name, split, {image: tfds.decode.SkipDecoding()})
    known = dict(info.features.items())
    if not isinstance(known.get(image), tfds.features.Image):
        names = ", ".join(known)
        raise UserError(f"tfds:{name}: there is no picture {image!r}; the features are {names}. Set data.fields.image")
    for i in range(len(rows)):
        where = f"tfds:{name} {split}[{i}]"
        captions = tuple(_texts(rows[i], fields["caption"], where))
        read = lambda i=i: rows[i][image]  # noqa: E731
        yield Picture(f"{split}-{i:06d}", captions, read, where, f"{info.full_name} {split} {i}")


def _texts(row, path, where):
    """The strings at a path of features, as "captions/text": one, or a sequence of them."""
    value = value_at(row, path, where, "caption")
    texts = value if isinstance(value, list) else [value]
    if texts and all(isinstance(text, bytes) for text in texts):
        with contextlib.suppress(UnicodeDecodeError):
            return [text.decode() for text in texts]
    raise UserError(f"{where}: {path!r} is not a text or a list of texts. Set data.fields.caption")
