"""Data: from any source to batches."""

from kseq.data import toy
from kseq.data.pictures import Picture, picture_file, read_pictures
from kseq.data.pipeline import Clock, length_boundaries, shuffled_batches, teacher_forced
from kseq.data.store import stored
from kseq.data.tables import read_tsv

__all__ = [
    "Clock",
    "Picture",
    "length_boundaries",
    "picture_file",
    "read_pictures",
    "read_tsv",
    "shuffled_batches",
    "stored",
    "teacher_forced",
    "toy",
]
