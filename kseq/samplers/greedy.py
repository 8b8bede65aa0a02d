"""The likeliest token at each step."""

import tensorflow as tf

from kseq.layers import unroll
from kseq.samplers.hypotheses import Hypotheses


class Greedy:
    """Takes the likeliest token until every row has ended.

    Call arguments:
        step: `logits [n, vocabulary], states, alignment [n, source] = step(tokens [n], states, memory)`.
        states: list of `[batch, ...]`, as they are before the first step.
        memory: nest of tensors `[batch, ...]` that every step reads and none changes.
        start, end: ids of the tokens that open and close a sequence.
        max_length: most tokens of a sequence, the end token among them.

    Returns:
        `Hypotheses` with n = 1; a score is the log-probability.
    """

    def __call__(self, step, states, memory, *, start, end, max_length):
        batch = tf.shape(states[0])[0]

        def advance(_, carried):
            *states, tokens, done, total = carried
            logits, states, alignment = step(tokens, states, memory)
            log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
            best = tf.argmax(log_probs, -1, output_type=tf.int32)
            total += tf.where(done, 0.0, tf.gather(log_probs, best, batch_dims=1))
            written = tf.where(done, 0, best)
            alignment = tf.where(done[:, None], 0.0, tf.cast(alignment, tf.float32))
            after = [*states, best, done | (best == end), total]
            return (written, tf.cast(~done, tf.int32), alignment), after

        clock = tf.zeros([batch, max_length, 1])
        carried = [*states, tf.fill([batch], start), tf.zeros([batch], tf.bool), tf.zeros([batch])]
        (ids, counted, alignments), (*_, total) = unroll(advance, clock, carried)
        lengths = tf.reduce_sum(counted, 1)
        return Hypotheses(ids[:, None], lengths[:, None], total[:, None], total[:, None], alignments[:, None])
