"""Two sequences held against each other, word by word."""

import keras
from keras import ops

from kseq.layers.attention.additive import additive_score
from kseq.layers.attention.base import masked_softmax
from kseq.layers.functional import check_positive, linear, product
from kseq.layers.recurrent.unroll import unroll


@keras.saving.register_keras_serializable("kseq")
class WordByWordAttention(keras.layers.Layer):
    """Reads a memory once for each row of a sequence, and remembers what it read (Rocktäschel et al., 2016,
    https://arxiv.org/abs/1509.06664, equations 11 to 13; Y is the memory, h the sequence).

        M_t = tanh(W_y Y + W_h h_t + W_r r_{t−1})
        α_t = softmax(wᵀ M_t) over the rows that the mask leaves
        r_t = Σ_s α_ts Y_s + tanh(W_t r_{t−1}),  r_0 = 0

    Scores and softmax are computed in float32 under every policy. Where a row of the sequence is not real, r stays and
    the alignment is zero.

    Args:
        units: size of w.

    Call arguments:
        inputs: `[batch, time, d_h]`.
        memory: `[batch, source, d]`.
        inputs_mask: bool `[batch, time]`, true where a row is real.
        memory_mask: bool `[batch, source]`.

    Returns:
        the last r, `[batch, d]`, and the alignments, float32 `[batch, time, source]`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)

    def build(self, inputs_shape, memory_shape, inputs_mask_shape=None, memory_mask_shape=None):
        d = memory_shape[-1]
        self.inputs_kernel = self.add_weight((inputs_shape[-1], self.units), name="inputs_kernel")
        self.memory_kernel = self.add_weight((d, self.units), name="memory_kernel")
        self.read_kernel = self.add_weight((d, self.units), name="read_kernel")
        self.scale = self.add_weight((self.units,), name="scale")
        self.recurrent_kernel = self.add_weight((d, d), "orthogonal", name="recurrent_kernel")

    def call(self, inputs, memory, inputs_mask=None, memory_mask=None, training=None):
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        keys = linear(memory, self.memory_kernel)

        def step(projected, states):
            [r] = states
            summed = keys + (projected + linear(r, self.read_kernel))[:, None, :]
            alignment = masked_softmax(additive_score(summed, self.scale), memory_mask)
            r = product(ops.cast(alignment, memory.dtype), memory) + ops.tanh(linear(r, self.recurrent_kernel))
            return alignment, [r]

        first = ops.zeros_like(memory[:, 0])
        alignments, [r] = unroll(
            step,
            inputs,
            [first],
            inputs_mask,
            project=lambda x: linear(x, self.inputs_kernel),
            constants=memory,
            training=training,
        )
        return r, alignments

    def compute_output_shape(self, inputs_shape, memory_shape, inputs_mask_shape=None, memory_mask_shape=None):
        return (memory_shape[0], memory_shape[-1]), (*inputs_shape[:2], memory_shape[1])

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("kseq")
class MutualAttention(keras.layers.Layer):
    """Each row of two sequences beside what the other one has for it (Chen et al., 2017,
    https://arxiv.org/abs/1609.06038, equations 11 to 15 and 18, 19; instead of their second network over the rows that
    were compared, as in Parikh et al., 2016, https://arxiv.org/abs/1606.01933, these are pooled at once). h is the
    sequence, Y the memory.

        e_ts = h_tᵀ Y_s
        Ỹ_t = Σ_s α_ts Y_s,  α_t = softmax(e_t) over the real rows of Y
        h̃_s = Σ_t β_ts h_t,  β_s = softmax(e_s) over the real rows of h
        m_t = relu(W [h_t; Ỹ_t; h_t − Ỹ_t; h_t ∘ Ỹ_t] + b),  n_s = relu(W [Y_s; h̃_s; Y_s − h̃_s; Y_s ∘ h̃_s] + b)
        v = [mean_t m_t; max_t m_t; mean_s n_s; max_s n_s] over the real rows

    The differences and products show at once what is equal in both, if one and the same layer has made h and Y. Scores
    and softmax are computed in float32 under every policy.

    Args:
        units: size of m and n.

    Call arguments:
        inputs: `[batch, time, d]`.
        memory: `[batch, source, d]`.
        inputs_mask: bool `[batch, time]`, true where a row is real.
        memory_mask: bool `[batch, source]`.

    Returns:
        v, `[batch, 4 units]`, and the alignments α, float32 `[batch, time, source]`, zeros where a row of the sequence
        is not real.

    Raises:
        ValueError: units is not a positive whole number, or inputs and memory are of different sizes.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)

    def build(self, inputs_shape, memory_shape, inputs_mask_shape=None, memory_mask_shape=None):
        if inputs_shape[-1] != memory_shape[-1]:
            raise ValueError(f"inputs and memory must be of one size, got {inputs_shape[-1]} and {memory_shape[-1]}")
        self.kernel = self.add_weight((4 * inputs_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def call(self, inputs, memory, inputs_mask=None, memory_mask=None):
        if inputs_mask is None:
            inputs_mask = ops.ones(ops.shape(inputs)[:2], "bool")
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        scores = ops.matmul(ops.cast(inputs, "float32"), ops.cast(ops.transpose(memory, (0, 2, 1)), "float32"))
        alignments = masked_softmax(scores, memory_mask[:, None]) * ops.cast(inputs_mask, "float32")[:, :, None]
        backward = masked_softmax(ops.transpose(scores, (0, 2, 1)), inputs_mask[:, None])
        rows = [
            *self._compared(inputs, ops.matmul(ops.cast(alignments, memory.dtype), memory), inputs_mask),
            *self._compared(memory, ops.matmul(ops.cast(backward, inputs.dtype), inputs), memory_mask),
        ]
        return ops.concatenate(rows, axis=-1), alignments

    def _compared(self, x, other, mask):
        """Mean and maximum over the real rows of what is made of each row beside the other's."""
        both = ops.concatenate([x, other, x - other, x * other], axis=-1)
        rows = ops.relu(linear(both, self.kernel, self.bias)) * ops.cast(mask, x.dtype)[:, :, None]
        count = ops.maximum(ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True), 1)
        mean = ops.sum(ops.cast(rows, "float32"), axis=1) / count
        return ops.cast(mean, x.dtype), ops.max(rows, axis=1)

    def compute_output_shape(self, inputs_shape, memory_shape, inputs_mask_shape=None, memory_mask_shape=None):
        return (memory_shape[0], 4 * self.units), (*inputs_shape[:2], memory_shape[1])

    def get_config(self):
        return super().get_config() | {"units": self.units}
