"""One token after the other: the likeliest, or one that is drawn."""

import tensorflow as tf

from kseq.layers.recurrent.unroll import unroll
from kseq.samplers.hypotheses import NEVER, Hypotheses


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
        def choose(logits, t):
            return tf.argmax(logits, -1, output_type=tf.int32)

        return _walk(choose, step, states, memory, start=start, end=end, max_length=max_length)


class Random:
    """Draws each token from the model's distribution, sharpened or cut.

        p ∝ softmax(logits / temperature), over the `top_k` likeliest tokens, and of them over the fewest that
        together have `top_p` (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751, section 3.1)

    Args:
        temperature: below 1 the likely become likelier.
        top_k: 0 is all.
        top_p: 1 is all.
        n: sequences drawn for each row.
        seed: decides the draw: one seed, one result. XLA has a generator of its own, and draws others.

    Call arguments: as of `Greedy`, and
        seed: int `[2]`, in place of the constructor's, to draw anew with each call.

    Returns:
        `Hypotheses` in the order in which they were drawn; a score is the model's own log-probability.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, *, temperature=1.0, top_k=0, top_p=1.0, n=1, seed=0):
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        if top_k < 0:
            raise ValueError(f"top_k must not be negative, got {top_k!r}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be more than 0 and at most 1, got {top_p!r}")
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n!r}")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.n = n
        self.seed = seed

    def __call__(self, step, states, memory, *, start, end, max_length, seed=None):
        seed = tf.constant([0, self.seed], tf.int32) if seed is None else tf.cast(seed, tf.int32)

        def choose(logits, t):
            now = tf.random.experimental.stateless_fold_in(seed, t)
            uniform = tf.random.stateless_uniform(tf.shape(logits), now, minval=1e-9, alg="philox")
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


def _rows(x, n):
    """`[batch · n, 1, time, source]` → `[batch, n, time, source]`."""
    shape = tf.shape(x)
    return tf.reshape(x, [shape[0] // n, n, shape[2], shape[3]])


def _walk(choose, step, states, memory, *, start, end, max_length):
    """`Hypotheses` with n = 1 of the tokens that `choose(logits [batch, vocabulary], t)` takes."""
    batch = tf.shape(states[0])[0]

    def advance(_, carried):
        *states, t, tokens, done, total = carried
        logits, states, alignment = step(tokens, states, memory)
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        taken = choose(log_probs, t)
        total += tf.where(done, 0.0, tf.gather(log_probs, taken, batch_dims=1))
        written = tf.where(done, 0, taken)
        alignment = tf.where(done[:, None], 0.0, tf.cast(alignment, tf.float32))
        after = [*states, t + 1, taken, done | (taken == end), total]
        return (written, tf.cast(~done, tf.int32), alignment), after

    clock = tf.zeros([batch, max_length, 1])
    carried = [*states, tf.constant(0), tf.fill([batch], start), tf.zeros([batch], tf.bool), tf.zeros([batch])]
    (ids, counted, alignments), (*_, total) = unroll(advance, clock, carried)
    lengths = tf.reduce_sum(counted, 1)
    return Hypotheses(ids[:, None], lengths[:, None], total[:, None], total[:, None], alignments[:, None])
