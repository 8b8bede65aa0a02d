"""Preprocessors: raw examples to tensors and back, the same object in training and inside the SavedModel."""

from kseq.preprocessors.image import ImagePreprocessor
from kseq.preprocessors.text import END, PADDING, SPECIAL, START, UNKNOWN, TextPreprocessor, tokenize

__all__ = [
    "END",
    "PADDING",
    "SPECIAL",
    "START",
    "UNKNOWN",
    "ImagePreprocessor",
    "TextPreprocessor",
    "tokenize",
]
