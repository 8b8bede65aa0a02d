"""Layers: tensors in, tensors out. They know nothing of text, files or tasks."""

from kseq.layers.attention import (
    AttentionMechanism,
    BahdanauAttention,
    ConcatAttention,
    DotAttention,
    LuongAttention,
    Memory,
    NormalizedBahdanauAttention,
)
from kseq.layers.bridge import DenseBridge
from kseq.layers.cells import CELLS, GRUCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.decoder import DECODERS, AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.location import (
    CoverageAttention,
    LocalAttention,
    LocationAttention,
    MonotonicAttention,
    coverage_loss,
)
from kseq.layers.recurrent import Bidirectional, Recurrent
from kseq.layers.unroll import unroll

ATTENTIONS = {
    "bahdanau": BahdanauAttention,
    "normalized": NormalizedBahdanauAttention,
    "luong": LuongAttention,
    "concat": ConcatAttention,
    "dot": DotAttention,
    "local": LocalAttention,
    "location": LocationAttention,
    "coverage": CoverageAttention,
    "monotonic": MonotonicAttention,
}

__all__ = [
    "ATTENTIONS",
    "CELLS",
    "DECODERS",
    "AttentionDecoder",
    "AttentionMechanism",
    "BahdanauAttention",
    "BahdanauDecoder",
    "Bidirectional",
    "ConcatAttention",
    "CoverageAttention",
    "DenseBridge",
    "DotAttention",
    "GRUCell",
    "LSTMCell",
    "LocalAttention",
    "LocationAttention",
    "LuongAttention",
    "LuongDecoder",
    "Memory",
    "MonotonicAttention",
    "NormalizedBahdanauAttention",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "coverage_loss",
    "unroll",
]
