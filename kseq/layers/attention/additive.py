"""Additive attention: scores by a layer of tanh between query and memory."""

import keras
from keras import ops

from kseq.layers.attention.base import AttentionMechanism
from kseq.layers.functional import check_positive, linear


class AdditiveMechanism(AttentionMechanism):
    """What the additive mechanisms share: the size of the layer between query, memory and score.

    Args:
        units: size of v.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("kseq")
class BahdanauAttention(AdditiveMechanism):
    """Additive attention (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2).

        e_s = vᵀ tanh(W query + U memory_s)

    Args:
        units: size of v.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_weight((query_shape[-1], self.units), name="query_kernel")
        self.memory_kernel = self.add_weight((memory_shape[-1], self.units), name="memory_kernel")
        self.scale = self.add_weight((self.units,), name="scale")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return additive_score(linear(query, self.query_kernel)[:, None, :] + keys, self.scale)


@keras.saving.register_keras_serializable("kseq")
class NormalizedBahdanauAttention(AdditiveMechanism):
    """Additive attention with a normalized v and a bias (Salimans and Kingma, 2016, https://arxiv.org/abs/1602.07868,
    equation 2).

        e_s = g vᵀ/‖v‖ tanh(W query + U memory_s + b)

    Args:
        units: size of v; g is 1/√units before training.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_weight((query_shape[-1], self.units), name="query_kernel")
        self.memory_kernel = self.add_weight((memory_shape[-1], self.units), name="memory_kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.scale = self.add_weight((self.units,), name="scale")
        self.gain = self.add_weight((), keras.initializers.Constant(self.units**-0.5), name="gain")

    def project(self, memory):
        return linear(memory, self.memory_kernel, self.bias)

    def score(self, query, keys, attention_state):
        summed = linear(query, self.query_kernel)[:, None, :] + keys
        return additive_score(summed, normalized(self.scale, self.gain))


@keras.saving.register_keras_serializable("kseq")
class ConcatAttention(AdditiveMechanism):
    """Additive attention, "concat" (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8).

        e_s = vᵀ tanh(W [query; memory_s])

    Without a bias, W's two blocks are Bahdanau's W and U side by side: the same function in one kernel, whose first
    values are drawn for both parts together.

    Args:
        units: size of v.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_size = query_shape[-1]
        self.kernel = self.add_weight((query_shape[-1] + memory_shape[-1], self.units), name="kernel")
        self.scale = self.add_weight((self.units,), name="scale")

    def project(self, memory):
        return linear(memory, self.kernel, rows=slice(self.query_size, None))

    def score(self, query, keys, attention_state):
        return additive_score(
            linear(query, self.kernel, rows=slice(None, self.query_size))[:, None, :] + keys, self.scale
        )


def additive_score(summed, scale):
    """vᵀ tanh(…): `[batch, source, units]`, `[units]` → float32 `[batch, source]`."""
    return ops.einsum("bsu,u->bs", ops.cast(ops.tanh(summed), "float32"), ops.cast(scale, "float32"))


def normalized(v, g):
    """g v/‖v‖ in float32."""
    v = ops.cast(v, "float32")
    return v * ops.cast(g, "float32") / ops.sqrt(ops.sum(ops.square(v)) + 1e-12)
