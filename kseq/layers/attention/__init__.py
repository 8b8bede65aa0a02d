"""Attention mechanisms: how much each row of a memory matters to a query.

`ATTENTIONS` is the only list of them: whatever chooses a mechanism by name takes name and options from here.
"""

import difflib
import inspect

from kseq.layers.attention.additive import BahdanauAttention, ConcatAttention, NormalizedBahdanauAttention
from kseq.layers.attention.base import AttentionMechanism, Memory
from kseq.layers.attention.hard import HardAttention
from kseq.layers.attention.location import CoverageAttention, LocalAttention, LocationAttention, coverage_loss
from kseq.layers.attention.monotonic import LuongMonotonicAttention, MonotonicAttention
from kseq.layers.attention.multiplicative import DotAttention, LuongAttention, ScaledLuongAttention
from kseq.layers.attention.pairs import MutualAttention, WordByWordAttention
from kseq.layers.attention.pooling import PoolingAttention

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
    "AttentionMechanism",
    "BahdanauAttention",
    "ConcatAttention",
    "CoverageAttention",
    "DotAttention",
    "HardAttention",
    "LocalAttention",
    "LocationAttention",
    "LuongAttention",
    "LuongMonotonicAttention",
    "Memory",
    "MonotonicAttention",
    "MutualAttention",
    "NormalizedBahdanauAttention",
    "PoolingAttention",
    "ScaledLuongAttention",
    "WordByWordAttention",
    "attention_options",
    "coverage_loss",
    "make_attention",
]


def make_attention(name, units, *, dtype=None, **options):
    """The mechanism of a name, with its own options; all names are called alike.

    Args:
        name: one of `ATTENTIONS`.
        units: size of the mechanism; those whose weights have no size of their own, as "luong" and "dot", ignore it.
        dtype: its dtype or dtype policy.
        **options: those of `attention_options(name)`.

    Raises:
        ValueError: there is no such mechanism, it has no such option, or a value is not allowed.

    >>> make_attention("local", 8, window=3).window
    3
    """
    known = attention_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"attention {name!r} has no option {option!r}; its options are {', '.join(known)}")
    sizes = [units] if "units" in _parameters(ATTENTIONS[name]) else []
    return ATTENTIONS[name](*sizes, dtype=dtype, **options)


def attention_options(name):
    """{option: default} of the mechanism of a name: all that its constructor takes but `units` and what every Keras
    layer takes, its own options first.

    Raises:
        ValueError: there is no such mechanism.

    >>> attention_options("coverage")["weight"]
    0.0
    """
    if name not in ATTENTIONS:
        near = difflib.get_close_matches(str(name), ATTENTIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, got {name!r}{hint}")
    return {key: default for key, default in _parameters(ATTENTIONS[name]).items() if key != "units"}


def _parameters(mechanism):
    """{name: default} of what the constructors of a mechanism and its bases take, down to `AttentionMechanism`."""
    parameters = {}
    for base in mechanism.__mro__[: mechanism.__mro__.index(AttentionMechanism)]:
        if "__init__" in vars(base):
            for x in list(inspect.signature(base.__init__).parameters.values())[1:]:
                if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD):
                    parameters.setdefault(x.name, x.default)
    return parameters
