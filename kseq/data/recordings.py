"""Recordings with what is said in them, from generated data, a table of files, or TextGrids and their files."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from kseq.data import tones
from kseq.data.listed import list_file, read_listed
from kseq.data.public import fetch_hint, of_split
from kseq.data.textgrid import read_text_grid
from kseq.errors import UnreadableFile, UserError

FORMS = "toy:tones, tsv:<file> or textgrid:<folder>"
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")  # of the recordings beside TextGrids
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


def read_recordings(source, split, *, fields, count=0, seed=0, bad_bytes="stop", tier="phones", silences=()):
    """The recordings of one split.

    Args:
        source: "toy:tones"; "tsv:<file>"; or "textgrid:<folder>": all .TextGrid files in it and below it, each with a
            recording of the same name in the same folder. `{split}` in the name is replaced by the split.
        split: name of the split.
        fields: names of the table's columns. `audio` and `text` are required; `audio` may be a pattern over columns,
            such as "wav/{name}.wav"; `split` names a column that holds the split.
        count: at most this many recordings; 0 for all, which for toy is `TOY_COUNT`.
        seed: for toy.
        bad_bytes: how lines that are not UTF-8 are read: "stop", "latin-1" or "replace" (see `read_lines`).
        tier: for textgrid, the name of the tier whose intervals are the phones.
        silences: for textgrid, the labels of intervals without a phone, beside the empty one. A label with spaces is
            several phones.

    Returns:
        list of `Recording`.

    Raises:
        UserError: the source is unknown, one of its lines is malformed, or two have the same file; or a TextGrid has no
            phones, no recording, or more than one.
    """
    for key in fields:
        if key not in ("audio", "text", "split"):
            raise UserError(f"data.fields names audio, text and split, not {key!r}")
    kind, _, name = source.partition(":")
    if kind == "toy" and name == "tones":
        found = _toy(split, count or TOY_COUNT.get(split, 1), seed)
    elif kind == "tsv" and name:
        found = _table(name.replace("{split}", split), split, fields, bad_bytes)
    elif kind == "textgrid" and name:
        found = _text_grids(Path(name.replace("{split}", split)), tier, silences, bad_bytes)
    else:
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    found = itertools.islice(of_split(found, source, split), count or None)
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


def _text_grids(folder, tier, silences, bad_bytes):
    if not folder.is_dir():
        raise UnreadableFile(f"{folder}: there is no such folder{fetch_hint(folder)}")
    grids, beside = [], {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == ".textgrid":
            grids.append(path)
        elif path.suffix.lower() in SUFFIXES:
            beside.setdefault(path.with_suffix(""), []).append(path)
    for path in grids:
        name = str(_only(beside.get(path.with_suffix(""), []), path).relative_to(folder))
        labels = [interval.text for interval in read_text_grid(path, tier, bad_bytes)]
        text = " ".join(phone for label in labels if label not in silences for phone in label.split())
        if not text:
            raise UserError(f"{path}: the tier {tier!r} has no phones")
        id, _, read, where, fingerprint = list_file(folder, name, str(path), [text], "recording")
        yield Recording(id, text, read, where, fingerprint)


def _only(recordings, path):
    """The recording that belongs to a TextGrid, of a list of one."""
    if len(recordings) != 1:
        there = f"there are {' and '.join(x.name for x in recordings)}" if recordings else "there is none"
        kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise UserError(f"{path}: its folder must have one recording of the same name, {kinds}; {there}")
    return recordings[0]
