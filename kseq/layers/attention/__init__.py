"""Attention mechanisms: how much each row of a memory matters to a query."""

from kseq.layers.attention.additive import BahdanauAttention, ConcatAttention, NormalizedBahdanauAttention
from kseq.layers.attention.hard import HardAttention
from kseq.layers.attention.location import CoverageAttention, LocalAttention, LocationAttention
from kseq.layers.attention.monotonic import LuongMonotonicAttention, MonotonicAttention
from kseq.layers.attention.multiplicative import DotAttention, LuongAttention, ScaledLuongAttention

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
