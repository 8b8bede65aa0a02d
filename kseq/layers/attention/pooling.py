"""One row for a whole memory, weighed by a query that is learned."""

import keras
from keras import ops

from kseq.layers.attention.additive import additive_score
from kseq.layers.attention.base import masked_softmax
from kseq.layers.functional import check_positive, linear, product


@keras.saving.register_keras_serializable("kseq")
class PoolingAttention(keras.layers.Layer):
    """Attention with a query of its own, the same for every sequence (Yang et al., 2016,
    https://aclanthology.org/N16-1174, equations 5 to 7).

        u_s = tanh(W h_s + b)
        α = softmax(u_sᵀ u) over the rows that the mask leaves
        pooled = Σ_s α_s h_s

    Scores and softmax are computed in float32 under every policy. A row without any real memory gets a zero alignment
    and zeros.

    Args:
        units: size of u.

    Call arguments:
        memory: `[batch, source, d]`, the rows h_s.
        memory_mask: bool `[batch, source]`, true where a row is real.

    Returns:
        pooled `[batch, d]` and alignment, float32 `[batch, source]`.

    Raises:
        ValueError: units is not a positive whole number.

    >>> pooled, alignment = PoolingAttention(4)(keras.ops.ones((2, 5, 3)))
    >>> pooled.shape, alignment.shape
    (TensorShape([2, 3]), TensorShape([2, 5]))
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)

    def build(self, memory_shape, memory_mask_shape=None):
        self.kernel = self.add_weight((memory_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.query = self.add_weight((self.units,), name="query")

    def call(self, memory, memory_mask=None):
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        scores = additive_score(linear(memory, self.kernel, self.bias), self.query)
        alignment = masked_softmax(scores, memory_mask)
        return product(ops.cast(alignment, memory.dtype), memory), alignment

    def compute_output_shape(self, memory_shape, memory_mask_shape=None):
        return (memory_shape[0], memory_shape[-1]), (memory_shape[0], memory_shape[1])

    def get_config(self):
        return super().get_config() | {"units": self.units}
