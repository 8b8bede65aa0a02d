"""Hard attention: a single row is read, drawn at random in training."""

import keras
from keras import ops

from kseq.layers.attention.additive import AdditiveMechanism, additive_score
from kseq.layers.dropout import categorical
from kseq.layers.functional import check_fraction, check_non_negative, linear, replica_share


@keras.saving.register_keras_serializable("kseq")
class HardAttention(AdditiveMechanism):
    """Additive attention to a single row, "stochastic hard" attention (Xu et al., 2015,
    https://arxiv.org/abs/1502.03044, section 4.1).

        e_s = vᵀ tanh(W query + U memory_s)
        α = softmax(e)
        k ~ α in training, else argmax_s α_s
        context = memory_k

    A draw passes no gradient to the scores. `penalty` supplies it by REINFORCE with a baseline, as in the paper but
    without its entropy term and without the steps that use the expected row:

        A_t = Σ_{u ≥ t} (log p(y_u) − b)
        ∂ penalty = −λ/N Σ_t A_t ∂ log α_tk
        b ← decay b + (1 − decay) mean_u log p(y_u)

    The paper sums over all words. Those before t do not depend on the draw at t and only add noise of mean 0, so they
    are left out. b is a baseline per word, which suits sentences of every length. N counts the words and the end token,
    but the end token's own probability is not in the sums: with λ = 1, cross-entropy and penalty together have the
    gradient of the expected cross-entropy except for that term. The value of the penalty is 0, and each call updates b.

    The alignment is 1 on the row that is read, and its gradient there is that of log α.

    Args:
        units: size of v.
        weight: λ.
        decay: of the baseline b, which is 0 before training.
        seed: of the draws.
        scale_initializer: of v, a vector. Its regularizer and constraint are those of the kernels.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, and those of every Keras layer.

    Call arguments and result: those of `AttentionMechanism`.

    Raises:
        ValueError: units is not a positive whole number, weight is negative, or decay is not in [0, 1).
    """

    def __init__(self, units, *, weight=1.0, decay=0.9, seed=None, **kwargs):
        super().__init__(units, **kwargs)
        self.weight = check_non_negative("weight", weight)
        self.decay = check_fraction("decay", decay)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, query_shape, memory_shape):
        self.query_kernel = self.add_kernel((query_shape[-1], self.units), "query_kernel")
        self.memory_kernel = self.add_kernel((memory_shape[-1], self.units), "memory_kernel")
        self.scale = self.add_scale()
        # In float32 under every policy, so that small updates are not lost; the mean over replicas.
        options = {"dtype": "float32", "autocast": False, "aggregation": "mean"}
        self.baseline = self.add_weight((), "zeros", trainable=False, name="baseline", **options)

    def project(self, memory):
        return linear(memory, self.memory_kernel)

    def score(self, query, keys, attention_state):
        return additive_score(linear(query, self.query_kernel)[:, None, :] + keys, self.scale)

    def weigh(self, query, keys, memory_mask, attention_state, training):
        e = ops.where(memory_mask, self.score(query, keys, attention_state), -1e9)
        log_alpha = e - ops.logsumexp(e, axis=-1, keepdims=True)
        k = categorical(log_alpha, self.seed_generator) if training else ops.argmax(log_alpha, axis=-1)
        taken = ops.one_hot(k, ops.shape(e)[1], dtype="float32") * ops.cast(memory_mask, "float32")
        return taken * (1 + _gradient_of(log_alpha))

    def read(self, alignment, memory):
        return super().read(ops.stop_gradient(alignment), memory)

    def penalty(self, alignments, logits, tokens):
        y, logits = tokens[:, 1:], logits[:, :-1]
        known = ops.cast(y != 0, "float32")  # [batch, time − 1]
        chosen = ops.take_along_axis(logits, y[:, :, None], axis=-1)[:, :, 0]
        log_p = ops.stop_gradient(chosen - ops.logsumexp(logits, axis=-1))
        gain = (log_p - self.baseline) * known
        A = ops.sum(gain, axis=1, keepdims=True) - ops.cumsum(gain, axis=1) + gain
        N = ops.maximum(ops.sum(ops.cast(tokens != 0, "float32")), 1)
        log_alpha = _gradient_of(ops.sum(alignments[:, :-1], axis=-1))
        self.baseline.assign_add((1 - self.decay) * ops.sum(gain) / ops.maximum(ops.sum(known), 1))
        return -self.weight / N * ops.sum(A * log_alpha) * replica_share(N)

    def get_config(self):
        return super().get_config() | {"weight": self.weight, "decay": self.decay, "seed": self.seed}


def _gradient_of(x):
    """0 in value, x in gradient."""
    return x - ops.stop_gradient(x)
