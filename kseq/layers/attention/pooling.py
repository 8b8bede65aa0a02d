"""Pooling: the weighted sum of the rows of a memory, by a learned query."""

import keras
from keras import ops

from kseq.layers.attention.additive import additive_score
from kseq.layers.attention.base import as_mask, float32_alignment, masked_softmax
from kseq.layers.functional import check_positive, linear, product
from kseq.layers.weights import Biases, Kernels, resolved


@keras.saving.register_keras_serializable("kseq")
class PoolingAttention(Biases, Kernels):
    """Attention with a learned query, the same for every sequence (Yang et al., 2016,
    https://aclanthology.org/N16-1174, equations 5 to 7).

        u_s = tanh(W h_s + b)
        α = softmax(u_sᵀ u) over the real rows
        pooled = Σ_s α_s h_s

    Scores and softmax are computed in float32 under every dtype policy. Where no row is real, both outputs are zero.

    Args:
        units: size of u.
        return_alignment: whether `call` also returns the alignment. Without it the layer has one output, as
            `keras.Sequential` and `keras.layers.TimeDistributed` ask for.
        query_initializer: of u, a vector. Its regularizer and constraint are those of the kernel.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint for W and b, and those of every Keras layer.

    Call arguments:
        memory: `[batch, source, d]`, the rows h_s.
        mask: bool `[batch, source]`, true where a row is real. By default the mask that Keras carries with `memory`;
            without one all rows are real.

    Returns:
        pooled `[batch, d]`, and with `return_alignment` the alignment, float32 `[batch, source]`.

    Raises:
        ValueError: units is not a positive whole number.

    >>> pooled, alignment = PoolingAttention(4)(keras.ops.ones((2, 5, 3)))
    >>> pooled.shape, alignment.shape
    (TensorShape([2, 3]), TensorShape([2, 5]))
    """

    def __init__(self, units, *, return_alignment=True, query_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.return_alignment = bool(return_alignment)
        self.query_initializer = resolved(query_initializer, "glorot_uniform")
        self.supports_masking = True

    def build(self, memory_shape):
        self.kernel = self.add_kernel((memory_shape[-1], self.units), "kernel")
        self.bias = self.add_bias((self.units,), "bias")
        self.query = self.add_kernel((self.units,), "query", self.query_initializer)

    def call(self, memory, mask=None):
        scores = additive_score(linear(memory, self.kernel, self.bias), self.query)
        alignment = masked_softmax(scores, as_mask("mask", mask, memory))
        pooled = product(ops.cast(alignment, memory.dtype), memory)
        return (pooled, alignment) if self.return_alignment else pooled

    def compute_mask(self, inputs, previous_mask=None):
        return None  # what is pooled has no steps

    def compute_output_shape(self, memory_shape):
        pooled = (memory_shape[0], memory_shape[-1])
        return (pooled, (memory_shape[0], memory_shape[1])) if self.return_alignment else pooled

    def compute_output_spec(self, *args, **kwargs):
        specs = super().compute_output_spec(*args, **kwargs)
        return float32_alignment(specs) if self.return_alignment else specs

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "return_alignment": self.return_alignment,
            "query_initializer": keras.initializers.serialize(self.query_initializer),
        }
