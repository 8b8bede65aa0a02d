"""Data: from any source to batches."""

from kseq.data import toy
from kseq.data.pairs import Sequences, encoded_pairs, paired_batches
from kseq.data.pictures import Picture, picture_file, read_pictures
from kseq.data.pipeline import Clock, length_boundaries, shuffled_batches, teacher_forced
from kseq.data.sources import Examples, read
from kseq.data.store import stored
from kseq.data.tables import read_csv, read_jsonl, read_labelled, read_lines, read_parallel, read_tsv
from kseq.data.vectors import first_words, read_vectors

__all__ = [
    "Clock",
    "Examples",
    "Picture",
    "Sequences",
    "encoded_pairs",
    "first_words",
    "length_boundaries",
    "paired_batches",
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
    "shuffled_batches",
    "stored",
    "teacher_forced",
    "toy",
]
