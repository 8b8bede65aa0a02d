"""Layers: tensors in, tensors out. They know nothing of text, files or tasks."""

from kseq.layers.attention import ATTENTIONS, attention_options, make_attention
from kseq.layers.attention.additive import BahdanauAttention, ConcatAttention, NormalizedBahdanauAttention
from kseq.layers.attention.base import AttentionMechanism, Memory
from kseq.layers.attention.hard import HardAttention
from kseq.layers.attention.location import CoverageAttention, LocalAttention, LocationAttention, coverage_loss
from kseq.layers.attention.monotonic import LuongMonotonicAttention, MonotonicAttention
from kseq.layers.attention.multiplicative import DotAttention, LuongAttention, ScaledLuongAttention
from kseq.layers.attention.pairs import MutualAttention, WordByWordAttention
from kseq.layers.attention.pooling import PoolingAttention
from kseq.layers.convert import from_keras, to_keras
from kseq.layers.decoders import BRIDGES, DECODERS
from kseq.layers.decoders.attention_decoder import AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.decoders.bridges import CopyBridge, DenseBridge, ZeroBridge
from kseq.layers.decoders.decoder import Decoder, FixedContextDecoder
from kseq.layers.decoders.pointer import PointerGenerator
from kseq.layers.diagnostics import gate_activations, state_gradients
from kseq.layers.dropout import Dropout
from kseq.layers.recurrent import CELLS
from kseq.layers.recurrent.cells import GRUCell, KerasCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.recurrent.recurrent import Bidirectional, Recurrent
from kseq.layers.recurrent.stack import Stack, StackedCell
from kseq.layers.recurrent.unroll import unroll
from kseq.layers.recurrent.variants import LayerNormGRUCell, LayerNormLSTMCell, PeepholeLSTMCell

__all__ = [
    "ATTENTIONS",
    "BRIDGES",
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
    "attention_options",
    "coverage_loss",
    "from_keras",
    "gate_activations",
    "make_attention",
    "state_gradients",
    "to_keras",
    "unroll",
]
