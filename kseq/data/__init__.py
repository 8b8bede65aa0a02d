"""Data: from any source to batches."""

from kseq.data import toy
from kseq.data.batches import SetEpoch, batches, length_boundaries, teacher_forced
from kseq.data.cache import cached_columns, cached_folder, cached_rows, code_fingerprint, fingerprint
from kseq.data.corpus import Rows, Sequences, count_truncated, encoded
from kseq.data.pictures import Picture, hold_out_pictures, picture_file, read_pictures
from kseq.data.public import fetch_hint
from kseq.data.sources import Examples, read, require_splits
from kseq.data.tables import read_csv, read_jsonl, read_labelled, read_lines, read_parallel, read_tsv
from kseq.data.vectors import first_words, read_vectors

__all__ = [
    "Examples",
    "Picture",
    "Rows",
    "Sequences",
    "SetEpoch",
    "batches",
    "cached_columns",
    "cached_folder",
    "cached_rows",
    "code_fingerprint",
    "count_truncated",
    "encoded",
    "fetch_hint",
    "fingerprint",
    "first_words",
    "hold_out_pictures",
    "length_boundaries",
    "picture_file",
    "read",
    "read_csv",
    "read_jsonl",
    "read_labelled",
    "read_lines",
    "read_parallel",
    "read_pictures",
    "read_tsv",
    "read_vectors",
    "require_splits",
    "teacher_forced",
    "toy",
]
