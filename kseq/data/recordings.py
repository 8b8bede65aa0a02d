"""Recordings with what is said in them, from generated data or a table of files."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from kseq.data import tones
from kseq.data.listed import read_listed
from kseq.errors import UserError

FORMS = "toy:tones or tsv:<file>"
TOY_COUNT = {"train": 3_000, "dev": 300, "test": 300}


@dataclass(frozen=True)
class Recording:
    """A recording and its phones.

    Attributes:
        id: its name, unique in its source.
        text: the phones, with spaces between.
        read: function that returns the bytes of the file.
        where: the file and line that name the recording, for messages.
        fingerprint: string that changes when the recording does.
    """

    id: str
    text: str
    read: Callable[[], bytes]
    where: str
    fingerprint: str


def read_recordings(source, split, *, fields, count=0, seed=0, bad_bytes="stop"):
    """The recordings of one split.

    Args:
        source: "toy:tones"; or "tsv:<file>", where `{split}` in the name is replaced by the split.
        split: name of the split.
        fields: names of the table's columns. `audio` and `text` are required; `audio` may be a pattern over columns,
            such as "wav/{name}.wav"; `split` names a column that holds the split.
        count: at most this many recordings; 0 for all, which for toy is `TOY_COUNT`.
        seed: for toy.
        bad_bytes: how lines that are not UTF-8 are read: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        list of `Recording`.

    Raises:
        UserError: the source is unknown, one of its lines is malformed, or two have the same file.
    """
    for key in fields:
        if key not in ("audio", "text", "split"):
            raise UserError(f"data.fields names audio, text and split, not {key!r}")
    kind, _, name = source.partition(":")
    if kind == "toy" and name == "tones":
        found = _toy(split, count or TOY_COUNT.get(split, 1), seed)
    elif kind == "tsv" and name:
        found = _table(name.replace("{split}", split), split, fields, bad_bytes)
    else:
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    found = itertools.islice(found, count or None)
    found = list(tqdm(found, desc=f"{split} of {source}", unit=" recordings", disable=None))
    if not found:
        raise UserError(f"{source}: split {split!r} has no recordings")
    return found


def _toy(split, count, seed):
    try:
        for example in tones.tones(split, count, seed=seed):
            id, audio = example["id"], example["audio"]
            yield Recording(id, example["text"], lambda audio=audio: audio, f"toy:tones {id}", f"{id} {seed}")
    except ValueError as error:
        raise UserError(f"toy:tones: {error}") from None


def _table(path, split, fields, bad_bytes):
    names = {"file": "audio", "text": "text", "kind": "recording"}
    for id, texts, read, where, fingerprint in read_listed(path, split, fields, bad_bytes=bad_bytes, **names):
        if len(texts) > 1:
            raise UserError(f"{where}: {id} stands in {len(texts)} lines of {split}; a recording has one text")
        yield Recording(id, texts[0], read, where, fingerprint)
