"""Constraints on what a sampler writes, and ensembles. Each turns one `step` into another.

The samplers know nothing of them: what a constraint needs of the tokens so far is carried in the states, which a
sampler hands from step to step and a beam reorders with its prefixes.
"""

import tensorflow as tf

from kseq.layers.functional import check_positive
from kseq.samplers.hypotheses import NEVER, Configured, check_whole


class Constraints(Configured):
    """Turns a step into one that obeys rules.

        step, states = Constraints(min_length=4)(step, states, end=end, max_length=max_length)

    The log-probabilities of a sampler are then those of the distribution that the rules leave. Where they leave no
    token, the sequence ends, whatever its length.

    Args:
        forbidden: ids that are never written.
        min_length: the smallest number of tokens in a sequence, the end token included.
        no_repeat: n, so that no n-gram occurs twice in a sequence; 0 allows all.
        parallel: `Parallel`, for lines that answer the line they are written from; None for other sequences.

    Call arguments:
        step: `logits [n, vocabulary], states, alignment = step(tokens [n], states, memory)`.
        states: list of `[batch, ...]`, the states before the first step.
        end: id of the token that closes a sequence.
        max_length: as the sampler takes it.
        prefix: int `[batch, p]`, padded with 0: the tokens that each sequence begins with. It overrides all rules but
            the length of a parallel line.
        source: int `[batch, source]`, padded with 0: the line above, in ids of the same vocabulary; for `parallel`.

    Returns:
        step, states: to give to a sampler instead.

    Raises:
        ValueError: an argument is no whole number, or negative; min_length is larger than max_length; or there is
            `parallel` and no source.
    """

    def __init__(self, *, forbidden=(), min_length=0, no_repeat=0, parallel=None):
        self.forbidden = [check_whole("forbidden", token) for token in forbidden]
        self.min_length = check_whole("min_length", min_length)
        self.no_repeat = check_whole("no_repeat", no_repeat)
        self.parallel = parallel

    def __call__(self, step, states, *, end, max_length, prefix=None, source=None):
        if self.min_length > check_positive("max_length", max_length):
            raise ValueError(f"min_length must be at most max_length, {max_length}, got {self.min_length}")
        if self.parallel and source is None:
            raise ValueError("parallel needs the line above: give its ids as source")
        batch = tf.shape(states[0])[0]
        written, count = tf.zeros([batch, max_length], tf.int32), tf.zeros([batch], tf.int32)
        forced = [] if prefix is None else [tf.cast(prefix, tf.int32)]
        lines = [tf.cast(source, tf.int32)] if self.parallel else []
        own = len(states)

        def constrained(tokens, states, memory):
            *states, written, count = states
            states, forced, lines = states[:own], states[own : own + has_prefix], states[own + has_prefix :]
            # The first token that the sampler hands in is the start token, which is not part of the sequence.
            written = tf.where(tf.range(max_length) == (count - 1)[:, None], tokens[:, None], written)
            logits, states, alignment = step(tokens, states, memory)
            size = logits.shape[-1]
            banned = tf.reduce_any(tf.one_hot(self.forbidden, size, on_value=True, off_value=False), axis=0)[None]
            early = (count + 1 < self.min_length)[:, None] & (tf.range(size) == end)
            banned = banned | early
            if self.no_repeat:
                banned |= _would_repeat(written, count, self.no_repeat, size)
            for words in forced:
                word = _at(words, count)
                banned = tf.where((word > 0)[:, None], tf.range(size) != word[:, None], banned)
            for above in lines:
                banned = self.parallel.narrow(banned, above, written, count, end)
            dead = tf.reduce_all(banned, axis=-1, keepdims=True)
            banned &= ~(dead & (tf.range(size) == end))
            logits = tf.where(banned, NEVER, tf.cast(logits, tf.float32))
            return logits, [*states, *forced, *lines, written, count + 1], alignment

        has_prefix = len(forced)
        return constrained, [*states, *forced, *lines, written, count]


def ensemble(steps, counts):
    """The step of an ensemble of models: the mean of their log-probabilities, and of their alignments.

    Args:
        steps: list of functions as the samplers take them, over the same vocabulary.
        counts: the number of states of each model. The states of the ensemble are those of all models, one model after
            the other; its memory is the list of their memories.

    Returns:
        step.

    Raises:
        ValueError: there are no steps, or not as many counts as steps.
    """
    if len(steps) != len(counts) or not steps:
        raise ValueError(f"an ensemble needs as many counts of states as steps, got {len(counts)} and {len(steps)}")

    def together(tokens, states, memory):
        log_probs, after, alignments, first = [], [], [], 0
        for step, count, read in zip(steps, counts, memory, strict=True):
            logits, new, alignment = step(tokens, list(states[first : first + count]), read)
            log_probs.append(tf.nn.log_softmax(tf.cast(logits, tf.float32)))
            alignments.append(tf.cast(alignment, tf.float32))
            after += new
            first += count
        return sum(log_probs) / len(steps), after, sum(alignments) / len(steps)

    return together


def _at(rows, column):
    """`rows[b, column[b]]`, 0 where the column is outside."""
    return tf.reduce_sum(tf.where(tf.range(tf.shape(rows)[1]) == column[:, None], rows, 0), axis=1)


def _would_repeat(written, count, n, size):
    """The tokens that would complete an n-gram that has occurred before: bool `[batch, vocabulary]`."""
    batch, length = tf.shape(written)[0], written.shape[1]
    if n > length:
        return tf.zeros([batch, size], tf.bool)
    starts = tf.range(length - n + 1)
    # The next token, at place `count`, would complete the n-gram; an earlier one ends before that.
    repeats = (starts + n - 1 < count[:, None]) & (count >= n - 1)[:, None]
    for k in range(n - 1):
        repeats &= written[:, k : k + length - n + 1] == _at(written, count - (n - 1) + k)[:, None]
    ends = written[:, n - 1 :]
    places = tf.stack([tf.broadcast_to(tf.range(batch)[:, None], tf.shape(ends)), ends], axis=-1)
    return tf.scatter_nd(places, tf.cast(repeats, tf.int32), [batch, size]) > 0
