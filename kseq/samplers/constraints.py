"""What a sampler may not say, or must; and several models that speak together. Each turns a `step` into another.

The samplers know none of it: what a rule needs of the words so far is carried in the states, which a sampler hands from
step to step and a beam moves with its prefixes.
"""

import tensorflow as tf

from kseq.samplers.hypotheses import NEVER


def constrained(step, states, *, end, max_length, forbidden=(), min_length=0, no_repeat=0, prefix=None):
    """A step that obeys rules, and the states that it starts from. A score is then of the distribution that they leave.
    Where they leave nothing to say, the sequence ends, whatever its length.

    Args:
        step: `logits [n, vocabulary], states, alignment = step(tokens [n], states, memory)`.
        states: list of `[batch, ...]`, before the first step.
        end: id of the token that closes a sequence.
        max_length: as the sampler takes it.
        forbidden: ids that are never said.
        min_length: least tokens of a sequence, the end token among them.
        no_repeat: no run of so many tokens is said twice; 0 allows it.
        prefix: int `[batch, p]`, how the sequences begin, padded with 0; None leaves it free. It wins over all rules.

    Returns:
        step, states: to hand to a sampler in their place.

    Raises:
        ValueError: min_length is more than max_length, or a number is negative.
    """
    if not 0 <= min_length <= max_length:
        raise ValueError(f"min_length must be between 0 and max_length, {max_length}, got {min_length!r}")
    if no_repeat < 0:
        raise ValueError(f"no_repeat must not be negative, got {no_repeat!r}")
    batch = tf.shape(states[0])[0]
    said, count = tf.zeros([batch, max_length], tf.int32), tf.zeros([batch], tf.int32)
    forced = [] if prefix is None else [tf.cast(prefix, tf.int32)]

    def obedient(tokens, states, memory):
        *states, said, count = states
        states, forced = states[: len(states) - has_prefix], states[len(states) - has_prefix :]
        # What the sampler calls the token before is the start token at first; it is not part of the sequence.
        said = tf.where(tf.range(max_length) == (count - 1)[:, None], tokens[:, None], said)
        logits, states, alignment = step(tokens, states, memory)
        size = logits.shape[-1]
        banned = tf.reduce_any(tf.one_hot(list(forbidden), size, on_value=True, off_value=False), axis=0)[None]
        early = (count + 1 < min_length)[:, None] & (tf.range(size) == end)
        banned = banned | early
        if no_repeat:
            banned |= _would_repeat(said, count, no_repeat, size)
        for words in forced:
            word = _at(words, count)
            banned = tf.where((word > 0)[:, None], tf.range(size) != word[:, None], banned)
        dead = tf.reduce_all(banned, axis=-1, keepdims=True)
        banned &= ~(dead & (tf.range(size) == end))
        return tf.where(banned, NEVER, tf.cast(logits, tf.float32)), [*states, *forced, said, count + 1], alignment

    has_prefix = len(forced)
    return obedient, [*states, *forced, said, count]


def ensemble(steps, counts):
    """A step of several models: the mean of their log-probabilities, and of where they looked.

    Args:
        steps: list of functions as the samplers take them, over the same words.
        counts: how many states each has. The states of the ensemble are those of all, one model after the other; its
            memory is the list of theirs.

    Returns:
        step.

    Raises:
        ValueError: there is not one count for each step.
    """
    if len(steps) != len(counts) or not steps:
        raise ValueError(f"{len(steps)} steps and {len(counts)} counts of states; there must be one for each")

    def together(tokens, states, memory):
        log_probs, after, looks, first = [], [], [], 0
        for step, count, read in zip(steps, counts, memory, strict=True):
            logits, own, alignment = step(tokens, list(states[first : first + count]), read)
            log_probs.append(tf.nn.log_softmax(tf.cast(logits, tf.float32)))
            looks.append(tf.cast(alignment, tf.float32))
            after += own
            first += count
        return sum(log_probs) / len(steps), after, sum(looks) / len(steps)

    return together


def _at(rows, column):
    """`rows[b, column[b]]`, 0 where the column is outside."""
    return tf.reduce_sum(tf.where(tf.range(tf.shape(rows)[1]) == column[:, None], rows, 0), axis=1)


def _would_repeat(said, count, n, size):
    """The tokens that would end a run of n tokens that was said before: bool `[batch, vocabulary]`."""
    batch, length = tf.shape(said)[0], said.shape[1]
    if n > length:
        return tf.zeros([batch, size], tf.bool)
    starts = tf.range(length - n + 1)
    # The run would be complete with the next token, at place `count`; an earlier run ends before that.
    repeats = (starts + n - 1 < count[:, None]) & (count >= n - 1)[:, None]
    for k in range(n - 1):
        repeats &= said[:, k : k + length - n + 1] == _at(said, count - (n - 1) + k)[:, None]
    ends = said[:, n - 1 :]
    places = tf.stack([tf.broadcast_to(tf.range(batch)[:, None], tf.shape(ends)), ends], axis=-1)
    return tf.scatter_nd(places, tf.cast(repeats, tf.int32), [batch, size]) > 0
