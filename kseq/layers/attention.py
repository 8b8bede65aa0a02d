"""Attention mechanisms: how much each row of a memory matters to a query, and the weighted sum of the rows."""

import abc
from typing import NamedTuple

import keras
from keras import ops

from kseq.layers.functional import linear, positive


class Memory(NamedTuple):
    """What a decoder reads at every step: made once a sequence, handed from step to step, kept on no layer."""

    values: object  # [batch, source, d]
    keys: object  # [batch, source, units]: the values as the mechanism compares them
    mask: object  # bool [batch, source]: true where a row is real


class AttentionMechanism(keras.layers.Layer, abc.ABC):
    """Weighs the rows of a memory by a query.

        e_s = score(query, key_s)
        α = softmax(e) over the rows that the mask leaves
        context = Σ_s α_s memory_s

    Scores and softmax are computed in float32 under every policy. A row without any real memory gets a zero
    alignment and a zero context. A subclass writes `build(query_shape, memory_shape)`, `project` and `score`.

    Call arguments:
        query: `[batch, d_query]`.
        memory: `[batch, source, d]`.
        keys: `project(memory)`, when the caller keeps it over many queries.
        memory_mask: bool `[batch, source]`, true where a row is real.

    Returns:
        context `[batch, d]` and alignment `[batch, source]`.
    """

    def call(self, query, memory, keys=None, memory_mask=None):
        keys = self.project(memory) if keys is None else keys
        scores = self.score(query, keys)
        if memory_mask is None:
            alignment = _softmax(scores)
        else:
            # The second factor is for rows that are all mask: their softmax would spread over the padding.
            alignment = _softmax(ops.where(memory_mask, scores, -1e9)) * ops.cast(memory_mask, "float32")
        alignment = ops.cast(alignment, memory.dtype)
        return ops.einsum("bs,bsd->bd", alignment, memory), alignment

    @abc.abstractmethod
    def project(self, memory):
        """What needs no query, once a sequence: `[batch, source, d]` → keys `[batch, source, units]`."""

    @abc.abstractmethod
    def score(self, query, keys):
        """`[batch, d_query]`, `[batch, source, units]` → float32 `[batch, source]`."""

    def compute_output_shape(self, query_shape, memory_shape):
        return (query_shape[0], memory_shape[-1]), (query_shape[0], memory_shape[1])


@keras.saving.register_keras_serializable("kseq")
class BahdanauAttention(AttentionMechanism):
    """Additive attention (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2).

        e_s = vᵀ tanh(W query + U memory_s)

    Args:
        units: size of v.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = positive("units", units)

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_weight((query_shape[-1], self.units), name="query_kernel")
        self.memory_kernel = self.add_weight((memory_shape[-1], self.units), name="memory_kernel")
        self.scale = self.add_weight((self.units,), name="scale")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys):
        hidden = ops.tanh(linear(query, self.query_kernel)[:, None, :] + keys)  # [batch, source, units]
        return ops.einsum("bsu,u->bs", ops.cast(hidden, "float32"), ops.cast(self.scale, "float32"))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("kseq")
class LuongAttention(AttentionMechanism):
    """Multiplicative attention, "general" (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8).

    e_s = queryᵀ W memory_s
    """

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_weight((memory_shape[-1], query_shape[-1]), name="memory_kernel")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys):
        return _dot(query, keys)


@keras.saving.register_keras_serializable("kseq")
class DotAttention(AttentionMechanism):
    """Multiplicative attention without weights, "dot" (Luong et al., 2015, https://arxiv.org/abs/1508.04025,
    equation 8).

        e_s = queryᵀ memory_s

    Raises:
        ValueError: at build, query and memory are not of one size.
    """

    def build(self, query_shape, memory_shape):
        if query_shape[-1] != memory_shape[-1]:
            raise ValueError(
                f"dot attention needs a query and a memory of one size, got {query_shape[-1]} and "
                f"{memory_shape[-1]}; use LuongAttention, whose weights join the two"
            )

    def project(self, memory):
        return memory

    def score(self, query, keys):
        return _dot(query, keys)


def _dot(query, keys):
    return ops.einsum("bu,bsu->bs", ops.cast(query, "float32"), ops.cast(keys, "float32"))


def _softmax(scores):
    """Over the last axis. `ops.softmax` warns of an axis of size 1, which is right for a memory of one row."""
    weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


ATTENTIONS = {"bahdanau": BahdanauAttention, "luong": LuongAttention, "dot": DotAttention}
