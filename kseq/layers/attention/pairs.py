"""Attention between two sequences, word by word."""

import keras
from keras import ops

from kseq.layers.attention.additive import additive_score
from kseq.layers.attention.base import as_mask, float32_alignment, masked_softmax
from kseq.layers.functional import check_positive, linear, product
from kseq.layers.recurrent.unroll import unroll
from kseq.layers.weights import Biases, Kernels, resolved


@keras.saving.register_keras_serializable("kseq")
class WordByWordAttention(Kernels):
    """Attends to a memory once for each row of a sequence, with what it has read so far in view (Rocktäschel et al.,
    2016, https://arxiv.org/abs/1509.06664, equations 11 to 13; Y is the memory, h the sequence).

        M_t = tanh(W_y Y + W_h h_t + W_r r_{t−1})
        α_t = softmax(wᵀ M_t) over the real rows
        r_t = Σ_s α_ts Y_s + tanh(W_t r_{t−1}),  r_0 = 0

    Scores and softmax are computed in float32 under every dtype policy. Where a row of the sequence is padding, r stays
    and the alignment is zero.

    Args:
        units: size of w.
        recurrent_initializer: of W_t. Its regularizer and constraint are those of the kernels.
        scale_initializer: of w, a vector, likewise.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments:
        inputs: `[batch, time, d_h]`.
        memory: `[batch, source, d]`.
        inputs_mask: bool `[batch, time]`, true where a row is real.
        memory_mask: bool `[batch, source]`. By default each mask is the one that Keras carries with the tensor.

    Returns:
        the last r, `[batch, d]`, and the alignments, float32 `[batch, time, source]`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def __init__(self, units, *, recurrent_initializer="orthogonal", scale_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.recurrent_initializer = resolved(recurrent_initializer, "orthogonal")
        self.scale_initializer = resolved(scale_initializer, "glorot_uniform")
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape):
        d = memory_shape[-1]
        self.inputs_kernel = self.add_kernel((inputs_shape[-1], self.units), "inputs_kernel")
        self.memory_kernel = self.add_kernel((d, self.units), "memory_kernel")
        self.read_kernel = self.add_kernel((d, self.units), "read_kernel")
        self.scale = self.add_kernel((self.units,), "scale", self.scale_initializer)
        self.recurrent_kernel = self.add_kernel((d, d), "recurrent_kernel", self.recurrent_initializer)

    def call(self, inputs, memory, inputs_mask=None, memory_mask=None, training=None):
        inputs_mask = None if inputs_mask is None else as_mask("inputs_mask", inputs_mask, inputs)
        memory_mask = as_mask("memory_mask", memory_mask, memory)
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

    def compute_mask(self, inputs, previous_mask=None):
        return None, previous_mask  # the alignments have the steps of the inputs

    def compute_output_shape(self, inputs_shape, memory_shape):
        return (memory_shape[0], memory_shape[-1]), (*inputs_shape[:2], memory_shape[1])

    def compute_output_spec(self, *args, **kwargs):
        return float32_alignment(super().compute_output_spec(*args, **kwargs))

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
        }


@keras.saving.register_keras_serializable("kseq")
class MutualAttention(Biases, Kernels):
    """Compares two sequences word by word: each row of one with its soft counterpart in the other (Chen et al., 2017,
    https://arxiv.org/abs/1609.06038, equations 11 to 15 and 18, 19; the compared rows are pooled at once, as in Parikh
    et al., 2016, https://arxiv.org/abs/1606.01933, without Chen's second recurrent network). h is the sequence, Y the
    memory.

        e_ts = h_tᵀ Y_s
        Ỹ_t = Σ_s α_ts Y_s,  α_t = softmax(e_t) over the real rows of Y
        h̃_s = Σ_t β_ts h_t,  β_s = softmax(e_s) over the real rows of h
        m_t = relu(W [h_t; Ỹ_t; h_t − Ỹ_t; h_t ∘ Ỹ_t] + b),  n_s = relu(W [Y_s; h̃_s; Y_s − h̃_s; Y_s ∘ h̃_s] + b)
        v = [mean_t m_t; max_t m_t; mean_s n_s; max_s n_s] over the real rows

    One layer should have produced both h and Y: the differences and products then show what the two have in common.
    Scores and softmax are computed in float32 under every dtype policy.

    Args:
        units: size of m and n.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint for W and b, and those of every Keras layer.

    Call arguments:
        inputs: `[batch, time, d]`.
        memory: `[batch, source, d]`.
        inputs_mask: bool `[batch, time]`, true where a row is real.
        memory_mask: bool `[batch, source]`. By default each mask is the one that Keras carries with the tensor.

    Returns:
        v, `[batch, 4 units]`, and the alignments α, float32 `[batch, time, source]`, zero where a row of the sequence
        is padding.

    Raises:
        ValueError: units is not a positive whole number; at build, inputs and memory differ in size.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape):
        if inputs_shape[-1] != memory_shape[-1]:
            raise ValueError(f"inputs and memory must be of one size, got {inputs_shape[-1]} and {memory_shape[-1]}")
        self.kernel = self.add_kernel((4 * inputs_shape[-1], self.units), "kernel")
        self.bias = self.add_bias((self.units,), "bias")

    def call(self, inputs, memory, inputs_mask=None, memory_mask=None):
        inputs_mask = as_mask("inputs_mask", inputs_mask, inputs)
        memory_mask = as_mask("memory_mask", memory_mask, memory)
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

    def compute_mask(self, inputs, previous_mask=None):
        return None, previous_mask  # the alignments have the steps of the inputs

    def compute_output_shape(self, inputs_shape, memory_shape):
        return (memory_shape[0], 4 * self.units), (*inputs_shape[:2], memory_shape[1])

    def compute_output_spec(self, *args, **kwargs):
        return float32_alignment(super().compute_output_spec(*args, **kwargs))

    def get_config(self):
        return super().get_config() | {"units": self.units}
