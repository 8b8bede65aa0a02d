"""Decoders, and the bridges that make their first states. `DECODERS` and `BRIDGES` are the only lists of them."""

from kseq.layers.decoders.attention_decoder import BahdanauDecoder, LuongDecoder
from kseq.layers.decoders.bridges import CopyBridge, DenseBridge, ZeroBridge
from kseq.layers.decoders.decoder import FixedContextDecoder

DECODERS = {"bahdanau": BahdanauDecoder, "luong": LuongDecoder, "fixed": FixedContextDecoder}
BRIDGES = {"dense": DenseBridge, "copy": CopyBridge, "zero": ZeroBridge}
