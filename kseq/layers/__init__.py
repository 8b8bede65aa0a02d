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
from kseq.layers.attention_decoder import DECODERS, AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.bridge import DenseBridge
from kseq.layers.cells import GRUCell, KerasCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.convert import from_keras, to_keras
from kseq.layers.decoder import Decoder, FixedContextDecoder
from kseq.layers.location import (
    CoverageAttention,
    LocalAttention,
    LocationAttention,
    MonotonicAttention,
    coverage_loss,
)
from kseq.layers.pointer import PointerGenerator
from kseq.layers.probe import gate_activations, state_gradients
from kseq.layers.recurrent import Bidirectional, Recurrent
from kseq.layers.unroll import unroll
from kseq.layers.variants import LayerNormGRUCell, LayerNormLSTMCell, PeepholeLSTMCell

CELLS = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "peephole": PeepholeLSTMCell,
    "layer_norm_lstm": LayerNormLSTMCell,
    "layer_norm_gru": LayerNormGRUCell,
}

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
    "Decoder",
    "DenseBridge",
    "DotAttention",
    "FixedContextDecoder",
    "GRUCell",
    "KerasCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LocalAttention",
    "LocationAttention",
    "LuongAttention",
    "LuongDecoder",
    "Memory",
    "MonotonicAttention",
    "NormalizedBahdanauAttention",
    "PeepholeLSTMCell",
    "PointerGenerator",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "coverage_loss",
    "from_keras",
    "gate_activations",
    "state_gradients",
    "to_keras",
    "unroll",
]
