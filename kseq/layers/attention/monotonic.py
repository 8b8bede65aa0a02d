"""Monotonic attention: it reads from the first row to the last and never goes back."""

import abc

import keras
from keras import ops

from kseq.layers.attention.additive import AdditiveMechanism, additive_score, normalized
from kseq.layers.attention.base import AttentionMechanism
from kseq.layers.attention.multiplicative import dot_score
from kseq.layers.dropout import normal
from kseq.layers.functional import check_non_negative, linear
from kseq.layers.weights import Biases, Kernels


class MonotonicMechanism(AttentionMechanism):
    """Monotonic attention over any energy: soft in training, one row at a time otherwise (Raffel et al., 2017,
    https://arxiv.org/abs/1704.00784, sections 2.2 to 2.5). A subclass implements `build`, `project` and `energy`.

        e_s = energy(query, key_s) + r
        p_s = σ(e_s + noise · ε),  ε ~ N(0, 1), in training
        α_s = p_s Σ_{k ≤ s} α₋_k Π_{k ≤ l < s} (1 − p_l)

    α₋ is the alignment of the previous step, which is the attention state; it starts with all weight on the first real
    row. When hard, α is 1 on the first row from there on with e_s > 0, and zero everywhere if there is none. The soft
    form takes time and memory quadratic in the length of the source.

    Args:
        score_bias: r before training. A negative one makes attention move on.
        noise: standard deviation of the noise added to the energies in training, which drives them away from 0.
        hard: whether the alignment is hard outside training.
        seed: of the noise.
        **kwargs: those of the subclass's other bases.

    Raises:
        ValueError: noise is negative.
    """

    stateful_attention = True

    def __init__(self, *args, score_bias=-1.0, noise=1.0, hard=True, seed=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.score_bias = float(score_bias)
        self.noise = check_non_negative("noise", noise)
        self.hard = bool(hard)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, query_shape, memory_shape):
        self.offset = self.add_weight((), keras.initializers.Constant(self.score_bias), name="offset")

    @abc.abstractmethod
    def energy(self, query, keys):
        """`[batch, d_query]`, `[batch, source, units]` → float32 `[batch, source]`."""

    def score(self, query, keys, attention_state):
        return self.energy(query, keys) + ops.cast(self.offset, "float32")

    def weigh(self, query, keys, memory_mask, attention_state, training):
        e = self.score(query, keys, attention_state)
        if self.hard and not training:
            stops = ops.logical_and(ops.logical_and(memory_mask, e > 0), ops.cumsum(attention_state, axis=-1) > 0)
            first = ops.logical_and(stops, ops.cumsum(ops.cast(stops, "int32"), axis=-1) == 1)
            return ops.cast(first, "float32")
        if training and self.noise:
            e += self.noise * normal(ops.shape(e), self.seed_generator)
        e = ops.where(memory_mask, e, -1e9)
        # log Π (1 − p_l) for k ≤ l < s is a difference of two sums, so nothing is divided by a product near 0.
        passed = -ops.softplus(e)
        before = ops.cumsum(passed, axis=-1) - passed
        steps = before[:, :, None] - before[:, None, :]  # [batch, source, from]
        s = ops.arange(ops.shape(e)[1])
        reach = ops.exp(ops.where(s[:, None] >= s[None, :], steps, -1e9))
        return ops.sigmoid(e) * ops.einsum("bsk,bk->bs", reach, attention_state)

    def initial_attention_state(self, memory_mask):
        real = ops.cast(memory_mask, "float32")
        return real * ops.cast(ops.cumsum(real, axis=-1) == 1, "float32")

    def get_config(self):
        names = ("score_bias", "noise", "hard", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kseq")
class MonotonicAttention(Biases, MonotonicMechanism, AdditiveMechanism):
    """Monotonic attention over an additive energy (Raffel et al., 2017, https://arxiv.org/abs/1704.00784, section 2.4).

        e_s = g vᵀ/‖v‖ tanh(W query + V memory_s + b) + r

    Args:
        units: size of v. g is 1/√units before training.
        score_bias, noise, hard, seed: those of `MonotonicMechanism`.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number, or noise is negative.
    """

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.bias = self.add_bias((self.units,), "bias")
        self.scale = self.add_scale()
        self.gain = self.add_weight((), keras.initializers.Constant(self.units**-0.5), name="gain")
        super().build(query_shape, memory_shape)

    def project(self, memory):
        return linear(memory, self.memory_kernel, self.bias)

    def energy(self, query, keys):
        summed = linear(query, self.query_kernel)[:, None, :] + keys
        return additive_score(summed, normalized(self.scale, self.gain))


@keras.saving.register_keras_serializable("kseq")
class LuongMonotonicAttention(Kernels, MonotonicMechanism):
    """Monotonic attention over a multiplicative energy: the "general" score (Luong et al., 2015,
    https://arxiv.org/abs/1508.04025, equation 8) with a g and an r (Raffel et al., 2017,
    https://arxiv.org/abs/1704.00784, section 2.4).

        e_s = g queryᵀ W memory_s + r,  g = 1 before training

    Args:
        score_bias, noise, hard, seed: those of `MonotonicMechanism`.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: a size is given, or noise is negative.
    """

    def build(self, query_shape, memory_shape):
        self.memory_kernel = self.add_kernel((memory_shape[-1], query_shape[-1]), "memory_kernel")
        self.gain = self.add_weight((), "ones", name="gain")
        super().build(query_shape, memory_shape)

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def energy(self, query, keys):
        return dot_score(query, keys) * ops.cast(self.gain, "float32")
