"""Additive attention: a layer of tanh over query and memory scores each row."""

import keras
from keras import ops

from kseq.layers.attention.base import AttentionMechanism
from kseq.layers.functional import check_positive, linear
from kseq.layers.weights import Biases, Kernels, resolved


class AdditiveMechanism(Kernels, AttentionMechanism):
    """The size of v, and the options of the weights, for all mechanisms that score by vᵀ tanh(…).

    Args:
        units: size of v.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: of `Kernels`, and of every Keras layer.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def __init__(self, units, *, scale_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.scale_initializer = resolved(scale_initializer, "glorot_uniform")

    def add_scale(self):
        """A new v."""
        return self.add_kernel((self.units,), "scale", self.scale_initializer)

    def get_config(self):
        scale_initializer = keras.initializers.serialize(self.scale_initializer)
        return super().get_config() | {"units": self.units, "scale_initializer": scale_initializer}


@keras.saving.register_keras_serializable("kseq")
class BahdanauAttention(AdditiveMechanism):
    """Additive attention (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2).

        e_s = vᵀ tanh(W query + U memory_s)

    Args:
        units: size of v.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.scale = self.add_scale()

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return additive_score(linear(query, self.query_kernel)[:, None, :] + keys, self.scale)


@keras.saving.register_keras_serializable("kseq")
class NormalizedBahdanauAttention(Biases, AdditiveMechanism):
    """Additive attention with a normalized v and a bias (Salimans and Kingma, 2016, https://arxiv.org/abs/1602.07868,
    equation 2).

        e_s = g vᵀ/‖v‖ tanh(W query + U memory_s + b)

    Args:
        units: size of v. g is 1/√units before training.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.bias = self.add_bias((self.units,), "bias")
        self.scale = self.add_scale()
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

    W is Bahdanau's W and U side by side in one kernel: the same function, initialized as one matrix.

    Args:
        units: size of v.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def build(self, query_shape, memory_shape):
        self.query_size = query_shape[-1]
        self.kernel = self.add_kernel((query_shape[-1] + memory_shape[-1], self.units), "kernel")
        self.scale = self.add_scale()

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
