"""Models made of the layers: `keras.Model` and nothing of our own."""

from kseq.models.encoders import Encoded, ImageEncoder, TextEncoder, fingerprint, make_backbone, small_cnn
from kseq.models.seq2seq import Seq2Seq, doubly_stochastic_penalty

__all__ = [
    "Encoded",
    "ImageEncoder",
    "Seq2Seq",
    "TextEncoder",
    "doubly_stochastic_penalty",
    "fingerprint",
    "make_backbone",
    "small_cnn",
]
