"""Pictures with their captions, from any source: generated, a table of files, or TensorFlow Datasets."""

import hashlib
import itertools
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kseq.data import toy
from kseq.data.tables import read_tsv
from kseq.errors import UserError

FORMS = "toy:shapes, tsv:<file> or tfds:<name>"
TOY_COUNT = {"train": 20_000, "dev": 1_000}


@dataclass(frozen=True)
class Picture:
    """One picture and everything that is said of it.

    Attributes:
        id: what tells it from the others of its source.
        captions: one or more.
        read: function that returns the bytes of the picture file.
        where: file and line it comes from, for messages.
        fingerprint: changes when the picture does.
        boxes: float32 `[objects, 4]`, (top, left, bottom, right) as shares of the picture, in the order of the first
            caption; empty where the source knows none.
    """

    id: str
    captions: tuple[str, ...]
    read: Callable[[], bytes]
    where: str
    fingerprint: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def read_pictures(source, split, *, fields, count=0, size=64, seed=0):
    """The pictures of one split.

    Args:
        source: "toy:shapes"; "tsv:<file>", in whose name `{split}` stands for the split; or "tfds:<name>".
        split: name of the split.
        fields: names the columns of the table or the features of the dataset. `image` and `caption` are needed; a value
            of `image` with braces is a pattern over the columns, as "images/{name}.png"; `split` names a column that
            holds the split; `id` names the picture.
        count: at most so many; 0 for all, of which toy has `TOY_COUNT`.
        size: for toy, the side in pixels.
        seed: for toy.

    Returns:
        list of `Picture`.

    Raises:
        UserError: the source or a line of it is not as it must be.
    """
    kind, _, name = source.partition(":")
    if kind == "toy" and name == "shapes":
        pictures = _toy(split, count or TOY_COUNT.get(split, 1), size, seed)
    elif kind == "tsv" and name:
        pictures = _table(name.replace("{split}", split), split, fields)
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


def picture_file(path):
    """A `Picture` without captions, of a file that a user names."""
    path = Path(path)
    return _file(path.parent, path.name, str(path), ())


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


def _table(path, split, fields):
    """One picture for each file that the table names, with all captions that it has there."""
    path = Path(path)
    rows = {}
    for where, row in read_tsv(path):
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


def _columns(pattern):
    return [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]


def _file_name(pattern, row):
    return pattern.format_map(row) if _columns(pattern) else row[pattern]


def _file(folder, name, where, captions):
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{where}: {name!r} leaves the data folder {folder}")
    try:
        stat = path.stat()
    except OSError as error:
        stat = None
        missing = f"{where}: picture {path} cannot be read: {error.strerror}"

    def read():
        if stat is None:
            raise UserError(missing)
        return path.read_bytes()

    fingerprint = f"{name} {stat.st_size} {stat.st_mtime_ns}" if stat else f"{name} missing"
    return Picture(name, tuple(captions), read, where, fingerprint)


def _tfds(name, split, fields):
    """Pictures of a dataset with random access; they stay encoded until they are read."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare()
        rows = builder.as_data_source(split=split, decoders={fields["image"]: tfds.decode.SkipDecoding()})
    except Exception as error:  # TFDS raises many kinds; each one means that the data cannot be had as asked.
        raise UserError(f"tfds:{name}, split {split!r}: {type(error).__name__}: {error}") from None
    for i in range(len(rows)):
        row = rows[i]
        where = f"tfds:{name} {split}[{i}]"
        if fields["image"] not in row:
            raise UserError(f"{where}: there is no feature {fields['image']!r}; it has {', '.join(row)}")
        captions = tuple(_texts(row, fields["caption"], where))
        read = lambda i=i: rows[i][fields["image"]]  # noqa: E731
        yield Picture(f"{split}-{i:06d}", captions, read, where, f"{name} {builder.version} {split} {i}")


def _texts(row, path, where):
    """The strings at a path of features, as "captions/text": one, or a sequence of them."""
    value = row
    for key in path.split("/"):
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            value = [item[key] for item in value]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise UserError(f"{where}: there is no feature {path!r}; it has {', '.join(row)}. Set data.fields.caption")
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(value)]
