"""Attention mechanisms whose score is a product of query and memory."""

import keras
from keras import ops

from kseq.layers.attention.base import AttentionMechanism
from kseq.layers.functional import linear, product
from kseq.layers.weights import Kernels


@keras.saving.register_keras_serializable("kseq")
class LuongAttention(Kernels, AttentionMechanism):
    """Multiplicative attention, "general" (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8).

        e_s = queryᵀ W memory_s

    Args:
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: a size is given. W has those of the query and the memory.
    """

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_kernel((memory_shape[-1], query_shape[-1]), "memory_kernel")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return dot_score(query, keys)


@keras.saving.register_keras_serializable("kseq")
class ScaledLuongAttention(Kernels, AttentionMechanism):
    """Multiplicative attention, "general" (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8), times a
    learned scale, the g of `NormalizedBahdanauAttention`.

        e_s = g queryᵀ W memory_s,  g = 1 before training

    Args:
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: a size is given. W has those of the query and the memory.
    """

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_kernel((memory_shape[-1], query_shape[-1]), "memory_kernel")
        self.gain = self.add_weight((), "ones", name="gain")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return dot_score(query, keys) * ops.cast(self.gain, "float32")


@keras.saving.register_keras_serializable("kseq")
class DotAttention(AttentionMechanism):
    """Multiplicative attention without weights, "dot" (Luong et al., 2015, https://arxiv.org/abs/1508.04025,
    equation 8).

        e_s = queryᵀ memory_s
        e_s = queryᵀ memory_s / √d    with `scaled` (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, equation 1)

    Args:
        scaled: whether the product is divided by √d, d the size of the memory.
        **kwargs: those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: a size is given; at build, query and memory differ in size.
    """

    def __init__(self, *sizes, scaled=False, **kwargs):
        super().__init__(*sizes, **kwargs)
        self.scaled = bool(scaled)

    def build(self, query_shape, memory_shape):
        if query_shape[-1] != memory_shape[-1]:
            raise ValueError(
                f"dot attention needs a query and a memory of one size, got {query_shape[-1]} and "
                f"{memory_shape[-1]}; use LuongAttention, whose weights join the two"
            )

    def project(self, memory):
        return memory

    def score(self, query, keys, attention_state):
        return dot_score(query, keys) / (keys.shape[-1] ** 0.5 if self.scaled else 1.0)

    def get_config(self):
        return super().get_config() | {"scaled": self.scaled}


def dot_score(query, keys):
    """`[batch, units]`, `[batch, source, units]` → float32 `[batch, source]`."""
    return product(ops.cast(query, "float32"), keys, transposed=True)
