"""One token after the other: the likeliest, or one that is drawn."""

import numpy as np
import tensorflow as tf

from kseq.layers.functional import check_positive
from kseq.samplers.hypotheses import NEVER, Configured, Hypotheses, check_whole


class Greedy(Configured):
    """Takes the likeliest token at each step, until every row has ended.

    Call arguments:
        step: `logits [n, vocabulary], states, alignment [n, source] = step(tokens [n], states, memory)`.
        states: list of `[batch, ...]`, the states before the first step.
        memory: nest of tensors `[batch, ...]` that every step reads and none changes.
        start, end: ids of the tokens that open and close a sequence.
        max_length: the largest number of tokens in a sequence, the end token included; int, or an int32 scalar.

    Returns:
        `Hypotheses` with n = 1; the score is the log-probability.

    Raises:
        ValueError: max_length is not a positive whole number.
    """

    def __call__(self, step, states, memory, *, start, end, max_length):
        def choose(logits, t):
            return tf.argmax(logits, -1, output_type=tf.int32)

        return _walk(choose, step, states, memory, start=start, end=end, max_length=max_length)


class Random(Configured):
    """Draws each token from the model's distribution, until every row has ended.

        p ∝ softmax(logits / temperature) over the `top_k` likeliest tokens, then over the smallest set of these whose
        probabilities sum to at least `top_p` (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751, section 3.1)

    Args:
        temperature: values below 1 make likely tokens likelier.
        top_k: how many of the likeliest tokens may be drawn; 0 is all of them.
        top_p: the probability mass that may be drawn from; 1 is all of it.
        n: how many sequences are drawn for each row.
        seed: the same seed gives the same draw. XLA has a random generator of its own and draws other tokens.

    Call arguments: those of `Greedy`, and
        seed: int `[2]`, used instead of the constructor's, so that each call can draw anew; or int `[batch, 2]`, so
            that what is drawn for a row depends on its own seed alone, not on the other rows.

    Returns:
        `Hypotheses` in the order in which they were drawn; the score is the log-probability under the model itself.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, *, temperature=1.0, top_k=0, top_p=1.0, n=1, seed=0):
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        check_whole("top_k", top_k)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be more than 0 and at most 1, got {top_p!r}")
        check_positive("n", n)
        check_whole("seed", seed)
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.n = n
        self.seed = seed

    def __call__(self, step, states, memory, *, start, end, max_length, seed=None):
        seed = _seed(self.seed) if seed is None else tf.cast(seed, tf.int32)

        def choose(logits, t):
            uniform = _uniform(seed, t, tf.shape(logits), self.n)
            return tf.argmax(self._kept(logits) - tf.math.log(-tf.math.log(uniform)), -1, output_type=tf.int32)

        states, memory = (
            tf.nest.map_structure(lambda x: tf.repeat(x, self.n, axis=0), nest) for nest in (list(states), memory)
        )
        found = _walk(choose, step, states, memory, start=start, end=end, max_length=max_length)
        ids, *numbers, alignments = found
        ids = tf.reshape(ids, [-1, self.n, max_length])
        return Hypotheses(ids, *(tf.reshape(x, [-1, self.n]) for x in numbers), _rows(alignments, self.n))

    def _kept(self, logits):
        """The logits of the tokens that may be drawn, divided by the temperature."""
        logits = logits / self.temperature
        if self.top_k:
            least = tf.math.top_k(logits, min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = tf.where(logits < least, NEVER, logits)
        if self.top_p < 1:
            ordered = tf.sort(logits, direction="DESCENDING")
            before = tf.cumsum(tf.nn.softmax(ordered), axis=-1, exclusive=True)
            least = tf.reduce_min(tf.where(before < self.top_p, ordered, -NEVER), axis=-1, keepdims=True)
            logits = tf.where(logits < least, NEVER, logits)
        return logits


def _seed(number):
    """The lowest 64 bits of a number, int32 `[2]`."""
    return tf.constant(np.array([number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF], np.uint32).view(np.int32))


def _uniform(seed, t, shape, n):
    """Uniform numbers of a shape `[batch · n, vocabulary]` at step t, from one seed or from one for each row."""

    def draw(seed, shape):
        seed = tf.random.experimental.stateless_fold_in(seed, t)
        return tf.random.stateless_uniform(shape, seed, minval=1e-9, alg="philox")

    if seed.shape.rank == 1:
        return draw(seed, shape)
    return tf.reshape(tf.map_fn(lambda row: draw(row, [n, shape[1]]), seed, fn_output_signature=tf.float32), shape)


def _rows(x, n):
    """`[batch · n, 1, time, source]` → `[batch, n, time, source]`."""
    shape = tf.shape(x)
    return tf.reshape(x, [shape[0] // n, n, shape[2], shape[3]])


def _walk(choose, step, states, memory, *, start, end, max_length):
    """`Hypotheses` with n = 1 of the tokens that `choose(log_probs [batch, vocabulary], t)` takes."""
    if not tf.is_tensor(max_length):
        check_positive("max_length", max_length)
    batch = tf.shape(states[0])[0]

    def advance(t, tokens, done, total, lengths, states, ids, alignments):
        logits, after, alignment = step(tokens, states, memory)
        for new, old in zip(after, states, strict=True):
            new.set_shape(old.shape)
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        tokens = choose(log_probs, t)
        total += tf.where(done, 0.0, tf.gather(log_probs, tokens, batch_dims=1))
        lengths += tf.cast(~done, tf.int32)
        ids = ids.write(t, tf.where(done, 0, tokens))
        alignments = alignments.write(t, tf.where(done[:, None], 0.0, tf.cast(alignment, tf.float32)))
        return t + 1, tokens, done | (tokens == end), total, lengths, list(after), ids, alignments

    ids = tf.TensorArray(tf.int32, max_length, element_shape=[None])
    alignments = tf.TensorArray(tf.float32, max_length, element_shape=[None, None])
    counters = [tf.fill([batch], False), tf.zeros([batch]), tf.zeros([batch], tf.int32)]
    _, _, _, total, lengths, _, ids, alignments = tf.while_loop(
        lambda t, _, done, *__: (t == 0) | ~tf.reduce_all(done),
        advance,
        (tf.constant(0), tf.fill([batch], start), *counters, list(states), ids, alignments),
        maximum_iterations=max_length,
    )
    ids, alignments = tf.transpose(ids.stack()), tf.transpose(alignments.stack(), [1, 0, 2])
    return Hypotheses(ids[:, None], lengths[:, None], total[:, None], total[:, None], alignments[:, None])
