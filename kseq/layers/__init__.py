"""Layers: tensors in, tensors out. They know nothing of text, files or tasks."""

from kseq.layers.attention import (
    AttentionMechanism,
    BahdanauAttention,
    ConcatAttention,
    Memory,
    NormalizedBahdanauAttention,
)
from kseq.layers.attention_decoder import DECODERS, AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.bridge import CopyBridge, DenseBridge, ZeroBridge
from kseq.layers.cells import GRUCell, KerasCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.convert import from_keras, to_keras
from kseq.layers.decoder import Decoder, FixedContextDecoder
from kseq.layers.hard import HardAttention
from kseq.layers.location import CoverageAttention, LocalAttention, LocationAttention, coverage_loss
from kseq.layers.matching import MutualAttention, WordByWordAttention
from kseq.layers.monotonic import LuongMonotonicAttention, MonotonicAttention
from kseq.layers.multiplicative import DotAttention, LuongAttention, ScaledLuongAttention
from kseq.layers.noise import Dropout
from kseq.layers.pointer import PointerGenerator
from kseq.layers.pooling import PoolingAttention
from kseq.layers.probe import gate_activations, state_gradients
from kseq.layers.recurrent import Bidirectional, Recurrent
from kseq.layers.stack import Stack, StackedCell
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
    "scaled_luong": ScaledLuongAttention,
    "concat": ConcatAttention,
    "dot": DotAttention,
    "local": LocalAttention,
    "location": LocationAttention,
    "coverage": CoverageAttention,
    "monotonic": MonotonicAttention,
    "luong_monotonic": LuongMonotonicAttention,
    "hard": HardAttention,
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
    "CopyBridge",
    "CoverageAttention",
    "Decoder",
    "DenseBridge",
    "DotAttention",
    "Dropout",
    "FixedContextDecoder",
    "GRUCell",
    "HardAttention",
    "KerasCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LocalAttention",
    "LocationAttention",
    "LuongAttention",
    "LuongDecoder",
    "LuongMonotonicAttention",
    "Memory",
    "MonotonicAttention",
    "MutualAttention",
    "NormalizedBahdanauAttention",
    "PeepholeLSTMCell",
    "PointerGenerator",
    "PoolingAttention",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "ScaledLuongAttention",
    "Stack",
    "StackedCell",
    "WordByWordAttention",
    "ZeroBridge",
    "coverage_loss",
    "from_keras",
    "gate_activations",
    "state_gradients",
    "to_keras",
    "unroll",
]
