"""What the events of a tune may follow each other in, and how long it is."""

import tensorflow as tf

from kseq.layers.functional import check_positive
from kseq.samplers.hypotheses import NEVER, Configured


class NoteRules(Configured):
    """Turns a step of a model of note events into one that writes a tune of a given number of steps.

        step, states = NoteRules(first=3)(step, states, end=end, lengths=lengths)

    The ids first … first + keys − 1 release a key, the next `keys` strike one, and the id behind them ends a step of
    the tune. Within a step the ids rise; a key that is up is not released; behind its last step a tune ends. The
    log-probabilities of a sampler are then those of the distribution that the rules leave.

    Args:
        first: the smallest id of an event.
        keys: number of keys.
        most: the largest number of events in a step, its end included.

    Call arguments:
        step: `logits [n, vocabulary], states, alignment = step(tokens [n], states, memory)`.
        states: list of `[batch, ...]`, the states before the first step.
        end: id of the token that closes a sequence.
        lengths: int `[batch]`, the steps of each tune that are drawn.
        beginning: int `[batch, b]`, padded with 0: whole steps that each tune begins with. They are not drawn, and
            overrule `most`.

    Returns:
        step, states: to give to a sampler instead. No tune is longer than `longest(lengths, beginning)`.

    Raises:
        ValueError: an argument of the constructor is no positive whole number.
    """

    def __init__(self, first, keys=88, *, most=32):
        self.first = check_positive("first", first)
        self.keys = check_positive("keys", keys)
        self.most = check_positive("most", most)

    def __call__(self, step, states, *, end, lengths, beginning):
        batch = tf.shape(states[0])[0]
        last_id = self.first + 2 * self.keys
        left = tf.cast(lengths, tf.int32) + tf.reduce_sum(tf.cast(beginning == last_id, tf.int32), axis=1)

        def ruled(tokens, states, memory):
            *states, beginning, down, last, count, written, left = states
            logits, states, alignment = step(tokens, states, memory)
            ended = tokens == last_id
            key = tokens - self.first
            down = (down & ~self._one(key)) | self._one(key - self.keys)
            last = tf.where(ended, self.first - 1, tf.maximum(tokens, self.first - 1))
            count = tf.where(ended, 0, count + 1)
            left -= tf.cast(ended, tf.int32)
            ids = tf.range(logits.shape[-1])
            up = tf.pad(~down, [[0, 0], [self.first, logits.shape[-1] - self.first - self.keys]])
            allowed = (ids > last[:, None]) & (ids <= last_id) & ~up
            allowed &= (count < self.most - 1)[:, None] | (ids == last_id)
            allowed = tf.where((left == 0)[:, None], ids == end, allowed)
            given = tf.reduce_sum(tf.where(tf.range(tf.shape(beginning)[1]) == written[:, None], beginning, 0), axis=1)
            allowed = tf.where((given > 0)[:, None], ids == given[:, None], allowed)
            logits = tf.where(allowed, tf.cast(logits, tf.float32), NEVER)
            return logits, [*states, beginning, down, last, count, written + 1, left], alignment

        down = tf.zeros([batch, self.keys], tf.bool)
        zeros = tf.zeros([batch], tf.int32)
        return ruled, [*states, tf.cast(beginning, tf.int32), down, zeros, zeros - 1, zeros, left]

    def longest(self, lengths, beginning):
        """The largest number of tokens in a tune, the end token included: int32 scalar."""
        begun = tf.reduce_sum(tf.cast(beginning > 0, tf.int32), axis=1)
        return tf.reduce_max(tf.concat([[0], begun + self.most * tf.cast(lengths, tf.int32)], 0)) + 1

    def _one(self, key):
        """bool `[batch, keys]`, true at the key of each row that is one."""
        return tf.one_hot(key, self.keys, on_value=True, off_value=False)
