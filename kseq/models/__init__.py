"""Models made of the layers: `keras.Model` and nothing of our own."""

import kseq.layers.backend  # noqa: F401 (before all others: it refuses other backends)
from kseq.models.classifier import PairClassifier, SequenceClassifier
from kseq.models.ctc import JointCTC, ctc_loss
from kseq.models.encoders import (
    Encoded,
    ImageEncoder,
    SpeechEncoder,
    TextEncoder,
    VectorEncoder,
    fingerprint,
    make_backbone,
    small_cnn,
)
from kseq.models.pianoroll import PianoRollModel
from kseq.models.pretrained import PretrainedEncoder
from kseq.models.seq2seq import Seq2Seq, doubly_stochastic_penalty, supervised_attention_loss
from kseq.models.tagger import SequenceTagger

__all__ = [
    "Encoded",
    "ImageEncoder",
    "JointCTC",
    "PairClassifier",
    "PianoRollModel",
    "PretrainedEncoder",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceTagger",
    "SpeechEncoder",
    "TextEncoder",
    "VectorEncoder",
    "ctc_loss",
    "doubly_stochastic_penalty",
    "fingerprint",
    "make_backbone",
    "small_cnn",
    "supervised_attention_loss",
]
