"""Decoders, and the bridges that make their first states. `DECODERS` and `BRIDGES` are the only lists of them."""

from kseq.layers.decoders.attention_decoder import AttentionDecoder, BahdanauDecoder, LuongDecoder
from kseq.layers.decoders.bridges import CopyBridge, DenseBridge, ZeroBridge
from kseq.layers.decoders.decoder import Decoder, FixedContextDecoder
from kseq.layers.decoders.pointer import PointerGenerator

DECODERS = {"bahdanau": BahdanauDecoder, "luong": LuongDecoder, "fixed": FixedContextDecoder}
BRIDGES = {"dense": DenseBridge, "copy": CopyBridge, "zero": ZeroBridge}
__all__ = [
    "BRIDGES",
    "DECODERS",
    "AttentionDecoder",
    "BahdanauDecoder",
    "CopyBridge",
    "Decoder",
    "DenseBridge",
    "FixedContextDecoder",
    "LuongDecoder",
    "PointerGenerator",
    "ZeroBridge",
]
