"""The output layer of a pointer-generator: words of the vocabulary, and words copied from the source."""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.functional import check_positive, linear
from kseq.layers.weights import Biases, Kernels

FLOOR = 1e-20  # the least probability whose logarithm is taken


@keras.saving.register_keras_serializable("kseq")
class PointerGenerator(Biases, Kernels):
    """Mixes the words of the vocabulary with those of the source, so that out-of-vocabulary words can be copied (See et
    al., 2017, https://arxiv.org/abs/1704.04368, equations 8 and 9).

        p_t = σ(w_h z_t + w_s s_t + w_x y_{t−1} + b)
        P(w) = (p_t + (1 − p_t) r_t) P_vocab(w) + (1 − p_t) Σ_{s: x_s = w} α_ts,  r_t = 1 − Σ_s α_ts

    z_t is the context, s_t the decoder's output, y_{t−1} the embedded previous word, α the alignment. In the paper r_t
    is 0. Here the vocabulary gets what α gives to padding, and what is missing where α sums to less than 1.

    Everything is computed in float32 under every dtype policy.

    The out-of-vocabulary words of each source have ids of their own: vocabulary, vocabulary + 1, … An id that stands
    for no word, or for one that α does not weigh, has a probability of 10⁻²⁰. The result can be used as logits. Label
    smoothing ε then counts the unused ids: each adds a constant 46 ε/V to the loss, and none changes a gradient.

    Args:
        max_oov_words: the largest number of out-of-vocabulary words in a source.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint for w and b, and those of every Keras layer.

    Call arguments:
        logits: `[batch, time, vocabulary]`. For one step, this and the next four have no time axis.
        output: `[batch, time, units]`.
        context: `[batch, time, d_memory]`.
        inputs: `[batch, time, d]`.
        alignments: `[batch, time, source]`.
        source_ids: int `[batch, source]`, less than vocabulary + max_oov_words; 0 is padding.

    Returns:
        log-probabilities, float32 `[batch, time, vocabulary + max_oov_words]`.

    Raises:
        ValueError: max_oov_words is not a positive whole number.
    """

    def __init__(self, max_oov_words, **kwargs):
        super().__init__(autocast=False, **kwargs)  # log-probabilities need the precision of float32
        self.max_oov_words = check_positive("max_oov_words", max_oov_words)
        self.supports_masking = True

    def build(
        self, logits_shape, output_shape, context_shape, inputs_shape, alignments_shape=None, source_ids_shape=None
    ):
        self.context_kernel = self.add_kernel((context_shape[-1], 1), "context_kernel", autocast=False)
        self.output_kernel = self.add_kernel((output_shape[-1], 1), "output_kernel", autocast=False)
        self.input_kernel = self.add_kernel((inputs_shape[-1], 1), "input_kernel", autocast=False)
        self.bias = self.add_bias((1,), "bias", autocast=False)

    def call(self, logits, output, context, inputs, alignments, source_ids):
        arguments = [ops.cast(x, "float32") for x in (logits, output, context, inputs, alignments)]
        source_ids = ops.cast(source_ids, "int32")
        if len(logits.shape) == 2:
            return self._log_probs(*(x[:, None] for x in arguments), source_ids)[:, 0]
        return self._log_probs(*arguments, source_ids)

    def _log_probs(self, logits, output, context, inputs, alignments, source_ids):
        alignments = ops.where(source_ids[:, None, :] != 0, alignments, 0.0)
        score = linear(context, self.context_kernel) + linear(output, self.output_kernel)
        score += linear(inputs, self.input_kernel, self.bias)  # [batch, time, 1]
        copied = ops.log_sigmoid(-score)
        r = 1 - ops.sum(alignments, axis=-1, keepdims=True)
        # What rounding leaves is none: beside a small p its gradient would be large.
        r = ops.where(r > 1e-5, r, 0.0)
        generated = ops.logaddexp(ops.log_sigmoid(score), copied + _log(r)) + ops.log_softmax(logits, axis=-1)
        own = ops.broadcast_to(_log(0.0), (*ops.shape(logits)[:2], self.max_oov_words))
        return _added(ops.concatenate([generated, own], axis=-1), copied, alignments, source_ids)

    def compute_output_shape(self, logits_shape):
        return (*logits_shape[:-1], logits_shape[-1] + self.max_oov_words)

    def compute_output_spec(self, *args, **kwargs):
        return keras.KerasTensor(super().compute_output_spec(*args, **kwargs).shape, "float32")

    def get_config(self):
        return super().get_config() | {"max_oov_words": self.max_oov_words}


def _added(log_probs, copied, alignments, source_ids):
    """log (P(w) + (1 − p) Σ_{s: x_s = w} α_s), from log P and log (1 − p), where w is a word of the source.

    No tensor but log P is as large as the vocabulary.
    """
    same = source_ids[:, :, None] == source_ids[:, None, :]  # [batch, source, source]
    row = ops.arange(ops.shape(source_ids)[1])
    again = ops.any(ops.logical_and(same, row[:, None] > row), axis=-1)[:, None, :]  # not the first row of its word
    copied += _log(ops.matmul(alignments, ops.cast(same, "float32")))  # [batch, time, source]
    batch, time = ops.shape(copied)[:2]
    place = [ops.arange(batch)[:, None, None], ops.arange(time)[:, None], source_ids[:, None, :]]
    place = tf.stack([tf.broadcast_to(x, tf.shape(copied)) for x in place], axis=-1)
    generated = tf.gather_nd(log_probs, place)
    # The same in every row of a word, so that only one may have a gradient; padding is no word.
    both = ops.where(source_ids[:, None, :] != 0, ops.logaddexp(generated, copied), generated)
    return tf.tensor_scatter_nd_update(log_probs, place, ops.where(again, ops.stop_gradient(both), both))


def _log(x):
    return ops.log(ops.maximum(x, FLOOR))
