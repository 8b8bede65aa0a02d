"""Layers: tensors in, tensors out. They know nothing of text, files or tasks."""

from kseq.layers.attention import (
    ATTENTIONS,
    AttentionMechanism,
    BahdanauAttention,
    DotAttention,
    LuongAttention,
    Memory,
)
from kseq.layers.bridge import DenseBridge
from kseq.layers.cells import CELLS, GRUCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.decoder import DECODERS, AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.recurrent import Bidirectional, Recurrent
from kseq.layers.unroll import unroll

__all__ = [
    "ATTENTIONS",
    "CELLS",
    "DECODERS",
    "AttentionDecoder",
    "AttentionMechanism",
    "BahdanauAttention",
    "BahdanauDecoder",
    "Bidirectional",
    "DenseBridge",
    "DotAttention",
    "GRUCell",
    "LSTMCell",
    "LuongAttention",
    "LuongDecoder",
    "Memory",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "unroll",
]
