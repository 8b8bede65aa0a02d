"""Data: from any source to batches.

A name is imported when it is first used, so that `python -m kseq.data.fetch` starts without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kseq.data import toy
    from kseq.data.batching import SetEpoch, Share, batches, length_boundaries, teacher_forced
    from kseq.data.cache import cached_columns, cached_folder, cached_rows, code_fingerprint, fingerprint
    from kseq.data.compressed import decoded_wav
    from kseq.data.corpus import Column, Rows, Sequences, Shards, count_truncated, encoded
    from kseq.data.listed import hold_out_listed
    from kseq.data.midi import midi_of_roll, notes_of_roll, require_mido, roll_of_midi
    from kseq.data.pictures import Picture, read_pictures
    from kseq.data.processes import in_processes
    from kseq.data.public import fetch_hint
    from kseq.data.recordings import Recording, read_recordings
    from kseq.data.shards import cached_shards
    from kseq.data.sounds import read_sounds
    from kseq.data.sources import Examples, read, require_splits, source_files
    from kseq.data.tables import read_csv, read_jsonl, read_labelled, read_lines, read_parallel, read_tsv
    from kseq.data.textgrid import attention_times, read_text_grid, text_grid
    from kseq.data.tunes import Tune, estimated_key, read_tunes, share_in_key
    from kseq.data.vectors import first_words, read_vectors
    from kseq.data.wav import wav_of_roll

__all__ = [
    "Column",
    "Examples",
    "Picture",
    "Recording",
    "Rows",
    "Sequences",
    "SetEpoch",
    "Shards",
    "Share",
    "Tune",
    "attention_times",
    "batches",
    "cached_columns",
    "cached_folder",
    "cached_rows",
    "cached_shards",
    "code_fingerprint",
    "count_truncated",
    "decoded_wav",
    "encoded",
    "estimated_key",
    "fetch_hint",
    "fingerprint",
    "first_words",
    "hold_out_listed",
    "in_processes",
    "length_boundaries",
    "midi_of_roll",
    "notes_of_roll",
    "read",
    "read_csv",
    "read_jsonl",
    "read_labelled",
    "read_lines",
    "read_parallel",
    "read_pictures",
    "read_recordings",
    "read_sounds",
    "read_text_grid",
    "read_tsv",
    "read_tunes",
    "read_vectors",
    "require_mido",
    "require_splits",
    "roll_of_midi",
    "share_in_key",
    "source_files",
    "teacher_forced",
    "text_grid",
    "toy",
    "wav_of_roll",
]

# Those that need TensorFlow come last. None has the name of a function: importing it would take the function's place.
_MODULES = (
    "public",
    "tables",
    "vectors",
    "sounds",
    "textgrid",
    "compressed",
    "sources",
    "listed",
    "pictures",
    "recordings",
    "midi",
    "wav",
    "tunes",
    "corpus",
    "cache",
    "processes",
    "shards",
    "batching",
)


def __getattr__(name):
    if name == "toy":
        return importlib.import_module("kseq.data.toy")
    for module in _MODULES if name in __all__ else ():
        found = importlib.import_module(f"kseq.data.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module 'kseq.data' has no attribute {name!r}")


def __dir__():
    return __all__
