"""Decoders, what they start from, and what their outputs become."""

from kseq.layers.decoders.attention_decoder import BahdanauDecoder, LuongDecoder

DECODERS = {"bahdanau": BahdanauDecoder, "luong": LuongDecoder}  # with attention
