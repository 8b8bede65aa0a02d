"""Attention that depends on the position of a row, or on the earlier alignments."""

import keras
from keras import ops

from kseq.layers.attention.additive import AdditiveMechanism, additive_score
from kseq.layers.attention.base import AttentionMechanism, masked_softmax
from kseq.layers.attention.multiplicative import dot_score
from kseq.layers.functional import check_non_negative, check_positive, linear
from kseq.layers.weights import Biases, Kernels


@keras.saving.register_keras_serializable("kseq")
class LocalAttention(Kernels, AttentionMechanism):
    """Local attention with a predicted centre, "local-p", over "general" scores (Luong et al., 2015,
    https://arxiv.org/abs/1508.04025, equations 8 to 10).

        p = S σ(v_pᵀ tanh(W_p query))
        α_s = softmax(queryᵀ W memory_s) exp(−(s − p)² / (2 σ²)),  σ = D/2

    S is the number of real rows, s counts them from 0, and the softmax is over those with |s − p| ≤ D. The weights sum
    to less than 1.

    Args:
        units: size of v_p.
        window: D, in rows; the paper's is 10.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units or window is not a positive whole number.
    """

    def __init__(self, units, window=10, **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.window = check_positive("window", window)

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_kernel((memory_shape[-1], query_shape[-1]), "memory_kernel")
        self.position_kernel = self.add_kernel((query_shape[-1], self.units), "position_kernel")
        self.position_scale = self.add_kernel((self.units, 1), "position_scale")

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return dot_score(query, keys)

    def weigh(self, query, keys, memory_mask, attention_state, training):
        hidden = ops.cast(ops.tanh(linear(query, self.position_kernel)), "float32")
        real = ops.cast(memory_mask, "float32")
        p = ops.sum(real, axis=-1, keepdims=True) * ops.sigmoid(linear(hidden, self.position_scale))
        distance = _positions(real) - p  # [batch, source]
        near = ops.logical_and(memory_mask, ops.abs(distance) <= self.window)
        gaussian = ops.exp(-ops.square(distance) / (2 * (self.window / 2) ** 2))
        return masked_softmax(self.score(query, keys, attention_state), near) * gaussian

    def get_config(self):
        return super().get_config() | {"units": self.units, "window": self.window}


@keras.saving.register_keras_serializable("kseq")
class LocationAttention(Biases, AdditiveMechanism):
    """Location-aware attention (Chorowski et al., 2015, https://arxiv.org/abs/1506.07503, sections 2.1 to 2.3).

        f = F * α₋                                               (a convolution over the source)
        e_s = vᵀ tanh(W query + V memory_s + U f_s + b)
        α = softmax(β e)                                         β is `sharpening`
        α_s = σ(e_s) / Σ_j σ(e_j)                                with `smoothing`

    α₋ is the alignment of the previous step, which is the attention state. With `window` w only the rows at most w away
    from the median of α₋ are weighed; at the first step, the first row and the w after it.

    Args:
        units: size of v.
        filters: number of filters in F; the paper's is 10.
        kernel_size: width of a filter, in rows; the paper's is 201, for frames of speech.
        sharpening: β.
        smoothing: whether the weights come from a sigmoid, which spreads them over more rows.
        window: w, in rows; 0 weighs all rows.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units, filters or kernel_size is not a positive whole number, nor window one or 0; sharpening is not
            positive, or is given together with smoothing.
    """

    stateful_attention = True

    def __init__(self, units, filters=10, kernel_size=201, *, sharpening=1.0, smoothing=False, window=0, **kwargs):
        super().__init__(units, **kwargs)
        self.filters = check_positive("filters", filters)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        if not sharpening > 0:
            raise ValueError(f"sharpening must be positive, got {sharpening!r}")
        if smoothing and sharpening != 1:
            raise ValueError(f"smoothing has no sharpening, got {sharpening!r}; take one of the two")
        self.sharpening = float(sharpening)
        self.smoothing = bool(smoothing)
        self.window = check_positive("window", window) if window else 0

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.location_filters = self.add_kernel((self.kernel_size, 1, self.filters), "location_filters")
        self.location_kernel = self.add_kernel((self.filters, self.units), "location_kernel")
        self.bias = self.add_bias((self.units,), "bias")
        self.scale = self.add_scale()

    def project(self, memory):
        return linear(memory, self.memory_kernel, self.bias)

    def score(self, query, keys, attention_state):
        filters = ops.cast(self.location_filters, keys.dtype)
        f = ops.conv(
            ops.cast(attention_state, keys.dtype)[:, :, None], filters, padding="same"
        )  # [batch, source, filters]
        # No matmul: XLA differentiates none of unknown length inside a loop.
        f = ops.einsum("bsf,fu->bsu", f, ops.cast(self.location_kernel, f.dtype))  # [batch, source, units]
        summed = linear(query, self.query_kernel)[:, None, :] + keys + f
        return additive_score(summed, self.scale)

    def weigh(self, query, keys, memory_mask, attention_state, training):
        if self.window:
            memory_mask = ops.logical_and(memory_mask, self._near(memory_mask, attention_state))
        scores = self.score(query, keys, attention_state)
        # The softmax of log σ(e) is σ(e) / Σ σ(e), and stays so where every σ(e) is next to nothing.
        scores = ops.log_sigmoid(scores) if self.smoothing else self.sharpening * scores
        return masked_softmax(scores, memory_mask)

    def _near(self, memory_mask, attention_state):
        """The rows within the window around the median of the previous alignment: bool `[batch, source]`."""
        half = ops.sum(attention_state, axis=-1, keepdims=True) / 2
        reached = ops.logical_and(memory_mask, ops.cumsum(attention_state, axis=-1) >= half)
        positions = _positions(ops.cast(memory_mask, "float32"))
        median = ops.min(ops.where(reached, positions, 1e9), axis=-1, keepdims=True)
        return ops.abs(positions - median) <= self.window

    def get_config(self):
        names = ("filters", "kernel_size", "sharpening", "smoothing", "window")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kseq")
class CoverageAttention(Biases, AdditiveMechanism):
    """Additive attention that sees how much of each row has been read (See et al., 2017,
    https://arxiv.org/abs/1704.04368, equations 10 to 13).

        c = Σ α over the previous steps, the attention state
        e_s = vᵀ tanh(W_h memory_s + W_s query + w_c c_s + b)
        penalty = λ coverage_loss

    Args:
        units: size of v.
        weight: λ, the weight of `coverage_loss` in training; 0 leaves it out.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number, or weight is negative.
    """

    stateful_attention = True

    def __init__(self, units, *, weight=0.0, **kwargs):
        super().__init__(units, **kwargs)
        self.weight = check_non_negative("weight", weight)

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.coverage_kernel = self.add_kernel((1, self.units), "coverage_kernel")
        self.bias = self.add_bias((self.units,), "bias")
        self.scale = self.add_scale()

    def project(self, memory):
        return linear(memory, self.memory_kernel, self.bias)

    def score(self, query, keys, attention_state):
        # [source, 1] by [1, units], without a matmul: XLA differentiates none of unknown length inside a loop.
        c = ops.cast(attention_state, keys.dtype)[:, :, None] * ops.cast(self.coverage_kernel, keys.dtype)
        return additive_score(keys + linear(query, self.query_kernel)[:, None, :] + c, self.scale)

    def next_attention_state(self, attention_state, alignment):
        return attention_state + alignment

    def penalty(self, alignments, logits, tokens):
        return self.weight * coverage_loss(alignments, tokens != 0) if self.weight else 0.0

    def get_config(self):
        return super().get_config() | {"weight": self.weight}


def coverage_loss(alignments, real):
    """How much is read more than once (See et al., 2017, https://arxiv.org/abs/1704.04368, equation 12).

        mean over the real steps t of Σ_s min(α_ts, c_ts),  c_t = Σ_{u < t} α_u

    Args:
        alignments: `[batch, time, source]`.
        real: bool `[batch, time]`, true where a step is real.

    Returns:
        a scalar.
    """
    alignments, real = ops.cast(alignments, "float32"), ops.cast(real, "float32")
    coverage = ops.cumsum(alignments, axis=1) - alignments
    twice = ops.sum(ops.minimum(alignments, coverage), axis=-1)  # [batch, time]
    return ops.sum(twice * real) / ops.maximum(ops.sum(real), 1)


def _positions(real):
    """The position of each row among the real rows: float `[batch, source]`, for padding on either side."""
    return ops.cumsum(real, axis=-1) - 1
