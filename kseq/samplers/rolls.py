"""Piano rolls, drawn step by step."""

from typing import NamedTuple

import tensorflow as tf

from kseq.layers.functional import check_positive
from kseq.samplers.hypotheses import Configured

_BLOCK = 64  # steps whose random numbers are drawn at once


class Rolls(NamedTuple):
    """What `RollSampler` returns."""

    roll: object  # float32 [batch, time, keys] of zeros and ones, zeros after the end
    lengths: object  # int32 [batch]: steps of each row, its beginning included
    log_probs: object  # float32 [batch]: log p(drawn steps | the beginning), natural, under the model itself


class RollSampler(Configured):
    """Draws the keys that sound at each step.

        p_k = σ(logit_k / temperature), and 0 where that is less than `threshold`

    Args:
        keys: number of keys.
        temperature: values below 1 make likely keys likelier, and unlikely ones less likely.
        threshold: the probability below which a key never sounds. There are many unlikely keys, so that without it
            one of them, a wrong note, is drawn every few steps.

    Call arguments:
        step: `logits [n, keys], states = step(frame [n, keys], states, memory)`, the frame being the step before.
        states: list of `[batch, ...]`, the states before the first step.
        memory: nest of tensors `[batch, ...]` that every step reads and none changes.
        lengths: int `[batch]`, the number of steps to draw.
        seeds: int `[batch]`. A row depends on its own seed alone, not on the other rows.
        chain: float `[keys, keys]`, what a key that sounds (row) adds to the logits of each higher key (column) of the
            same step; None where the keys of a step are independent.
        beginning: `[batch, b, keys]`, the first steps of each row, which are not drawn.
        beginning_lengths: int `[batch]`, how many of them each row has; b when not given.

    Returns:
        `Rolls`.

    Raises:
        ValueError: an argument of the constructor is out of range.
    """

    def __init__(self, keys=88, *, temperature=1.0, threshold=0.0):
        self.keys = check_positive("keys", keys)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be at least 0 and less than 1, got {threshold!r}")
        self.temperature = temperature
        self.threshold = threshold

    def __call__(self, step, states, memory, *, lengths, seeds, chain=None, beginning=None, beginning_lengths=None):
        lengths, keys = tf.cast(lengths, tf.int32), self.keys
        given, begun = _beginning(beginning, beginning_lengths, tf.shape(lengths)[0], keys)
        ends = begun + lengths
        time = tf.reduce_max(ends)
        given = tf.pad(given, [[0, 0], [0, tf.maximum(time - tf.shape(given)[1], 0)], [0, 0]])
        noise = _noise(seeds, time, keys)

        def advance(t, frame, states, log_probs, roll):
            logits, after = step(frame, states, memory)
            for new, old in zip(after, states, strict=True):
                new.set_shape(old.shape)
            frame = tf.where((t < begun)[:, None], given[:, t], self._drawn(logits, noise[:, t], chain))
            frame = tf.where((t < ends)[:, None], frame, 0.0)
            logits = logits if chain is None else logits + tf.matmul(frame, chain)
            log_prob = tf.reduce_sum(frame * logits - tf.math.softplus(logits), axis=-1)
            log_probs += tf.where((begun <= t) & (t < ends), log_prob, 0.0)
            return t + 1, frame, list(after), log_probs, roll.write(t, frame)

        batch = tf.shape(lengths)[0]
        start = (tf.constant(0), tf.ensure_shape(tf.zeros([batch, keys]), [None, keys]), list(states))
        roll = tf.TensorArray(tf.float32, time, element_shape=[None, keys])
        *_, log_probs, roll = tf.while_loop(
            lambda t, *_: t < time, advance, (*start, tf.zeros([batch]), roll), maximum_iterations=time
        )
        return Rolls(tf.transpose(roll.stack(), [1, 0, 2]), ends, log_probs)

    def _drawn(self, logits, noise, chain):
        """The keys `[batch, keys]` that sound, for uniform noise of that shape."""
        if chain is None:
            return self._sounds(logits, noise)
        frame = []
        for k, u in enumerate(tf.unstack(noise, axis=-1)):
            frame.append(self._sounds(logits[:, k], u))
            logits += frame[-1][:, None] * chain[k]
        return tf.stack(frame, axis=-1)

    def _sounds(self, logits, noise):
        p = tf.sigmoid(logits / self.temperature)
        return tf.cast((noise < p) & (p >= self.threshold), tf.float32)


def _beginning(beginning, lengths, batch, keys):
    """The first steps, float32 `[batch, b, keys]`, and how many each row has, int32 `[batch]`."""
    if beginning is None:
        return tf.zeros([batch, 0, keys]), tf.zeros([batch], tf.int32)
    beginning = tf.cast(beginning, tf.float32)
    whole = tf.fill([batch], tf.shape(beginning)[1])
    return beginning, whole if lengths is None else tf.cast(lengths, tf.int32)


def _noise(seeds, time, keys):
    """Uniform numbers `[batch, at least time, keys]`; those of a row and a step depend on the row's seed alone."""
    seeds = tf.bitcast(tf.cast(seeds, tf.int64), tf.int32)  # [batch, 2]
    blocks = (time + _BLOCK - 1) // _BLOCK

    def draw(pair):
        seed = tf.random.experimental.stateless_fold_in(*pair)
        return tf.random.stateless_uniform([_BLOCK, keys], seed, alg="philox")

    batch = tf.shape(seeds)[0]
    pairs = tf.repeat(seeds, blocks, axis=0), tf.tile(tf.range(blocks), [batch])
    noise = tf.map_fn(draw, pairs, fn_output_signature=tf.TensorSpec([_BLOCK, keys], tf.float32))
    return tf.reshape(noise, [batch, blocks * _BLOCK, keys])
