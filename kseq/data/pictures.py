"""Pictures with captions, from generated data, a table of files or TensorFlow Datasets."""

import contextlib
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from kseq.data import toy
from kseq.data.listed import read_listed
from kseq.data.public import of_split
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
    pictures = itertools.islice(of_split(pictures, source, split), count or None)
    pictures = list(tqdm(pictures, desc=f"{split} of {source}", unit=" pictures", disable=None))
    if not pictures:
        raise UserError(f"{source}: split {split!r} has no pictures")
    return pictures


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
    names = {"file": "image", "text": "caption", "kind": "picture"}
    for id, captions, read, where, fingerprint in read_listed(path, split, fields, bad_bytes=bad_bytes, **names):
        yield Picture(id, captions, read, where, fingerprint)


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
