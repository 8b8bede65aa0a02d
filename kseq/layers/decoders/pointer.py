"""An output layer that can say the words of the source, those too that the vocabulary does not have."""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.functional import check_positive, linear

FLOOR = 1e-20  # the least probability whose logarithm is taken


@keras.saving.register_keras_serializable("kseq")
class PointerGenerator(keras.layers.Layer):
    """Says a word of the vocabulary or one of the source, whether the vocabulary has it or not (See et al., 2017,
    https://arxiv.org/abs/1704.04368, equations 8 and 9).

        p_t = σ(w_h z_t + w_s s_t + w_x y_{t−1} + b)
        P(w) = (p_t + (1 − p_t) r_t) P_vocab(w) + (1 − p_t) Σ_{s: x_s = w} α_ts,  r_t = 1 − Σ_s α_ts

    z_t is the context, s_t the decoder's output, y_{t−1} the embedded word before, α the alignment. In the paper r_t is
    0; here the vocabulary has what α gives to padding, or to nothing where it sums to less than 1.

    The words that a source has of its own are numbered on from the vocabulary, in each row anew: vocabulary,
    vocabulary + 1, … A number that no word has, or none that α weighs, keeps a probability of 10⁻²⁰. The result can be
    taken for logits. Label smoothing then counts the numbers that no word has, which adds to the loss, 46 ε/V for each,
    and moves no weight.

    Args:
        copies: most words of its own that a source has.

    Call arguments:
        logits: `[batch, time, vocabulary]`, as all that follow but the last without time for one step.
        output: `[batch, time, units]`.
        context: `[batch, time, d_memory]`.
        inputs: `[batch, time, d]`.
        alignments: `[batch, time, source]`.
        source_ids: int `[batch, source]`, less than vocabulary + copies; 0 is padding.

    Returns:
        log-probabilities, float32 `[batch, time, vocabulary + copies]`.

    Raises:
        ValueError: copies is not a positive whole number.
    """

    def __init__(self, copies, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))  # log-probabilities, whatever the policy
        self.copies = check_positive("copies", copies)

    def build(self, logits_shape, output_shape, context_shape, inputs_shape):
        self.context_kernel = self.add_weight((context_shape[-1], 1), name="context_kernel")
        self.output_kernel = self.add_weight((output_shape[-1], 1), name="output_kernel")
        self.input_kernel = self.add_weight((inputs_shape[-1], 1), name="input_kernel")
        self.bias = self.add_weight((1,), "zeros", name="bias")

    def call(self, logits, output, context, inputs, alignments, source_ids):
        arguments, source_ids = (logits, output, context, inputs, alignments), ops.cast(source_ids, "int32")
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
        own = ops.broadcast_to(_log(0.0), (*ops.shape(logits)[:2], self.copies))
        return _added(ops.concatenate([generated, own], axis=-1), copied, alignments, source_ids)

    def get_config(self):
        return super().get_config() | {"copies": self.copies}


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
    said = tf.gather_nd(log_probs, place)
    # The same in every row of a word, so that only one may have a gradient; padding is no word.
    both = ops.where(source_ids[:, None, :] != 0, ops.logaddexp(said, copied), said)
    return tf.tensor_scatter_nd_update(log_probs, place, ops.where(again, ops.stop_gradient(both), both))


def _log(x):
    return ops.log(ops.maximum(x, FLOOR))
