"""Connectionist temporal classification beside attention: a second answer, from the memory alone."""

import tensorflow as tf
from keras import ops

from kseq.layers.functional import replica_share

IMPOSSIBLE = -1e9  # a log-probability; infinity would make NaN of a difference
UNOPENED, NOTHING = -2, -1  # in place of the last token: before the opening one, and before the first behind it


def ctc_loss(logits, memory_mask, labels):
    """Loss of connectionist temporal classification.

        loss = − Σ log Σ_{π: B(π) = y} Π_t softmax(logits)_{t, π_t} / Σ |y|

    (Graves et al., 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf.) The outer sums run over the batch. B joins
    what repeats, then removes the blank, which has the id 0. A y that has no alignment, as it has more labels (and one
    more for each that repeats the one before) than there are rows, counts in neither.

    Args:
        logits: `[batch, time, vocabulary]`; they are computed with in float32.
        memory_mask: bool `[batch, time]`, true where a row is real, which the first ones are.
        labels: int `[batch, length]`, padded with 0.

    Returns:
        float32, nats a label; 0 where nothing counts.
    """
    rows = ops.sum(ops.cast(memory_mask, "int32"), axis=1)
    real = labels != 0
    lengths = ops.sum(ops.cast(real, "int32"), axis=1)
    repeats = ops.sum(ops.cast(real[:, 1:] & (labels[:, 1:] == labels[:, :-1]), "int32"), axis=1)
    counts = (lengths + repeats <= rows) & (lengths > 0)
    # Without labels there is always an alignment, so that no infinite loss reaches the gradient.
    lengths = ops.where(counts, lengths, 0)
    loss = ops.ctc_loss(ops.where(counts[:, None], labels, 0), ops.cast(logits, "float32"), lengths, rows)
    weight = ops.cast(ops.sum(lengths), "float32")
    return ops.sum(ops.where(counts, loss, 0.0)) / ops.maximum(weight, 1) * replica_share(weight)


class JointCTC:
    """A `Seq2Seq` with `ctc_weight` as samplers take it, which scores with its attention and CTC (Watanabe et al.,
    2017, section III-C, in one pass).

        log p(c | g) = (1 − λ) log p_att(c | g) + λ log (ψ(g·c) / ψ(g))
        ψ(g·c) = Σ_t φ_{t−1}(g, c) p_t(c),  φ_t(g, c) = γ_t^b(g) + (γ_t^n(g) where c is not the last token of g, else 0)
        ψ(g·end) = γ_T^n(g) + γ_T^b(g)
        γ_t^n(g·c) = (γ_{t−1}^n(g·c) + φ_{t−1}(g, c)) p_t(c),  γ_t^b(g·c) = (γ_{t−1}^b(g·c) + γ_{t−1}^n(g·c)) p_t(blank)

    ψ(g) is the probability of all label sequences that begin with g; γ^n and γ^b are those of the alignments of the
    first t rows to g that end in a label and in the blank. A sampler normalizes the sum over c, whose ψ(g·c) / ψ(g) add
    up to 1. γ and the last token are states, beside those of the model.

    Args:
        model: `Seq2Seq`.
        weight: λ, 0 … 1.
        end: id of the token that closes a sequence.

    Raises:
        ValueError: weight is out of range, or the model has no `ctc_weight`.
    """

    def __init__(self, model, weight, end=2):
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be at least 0 and at most 1, got {weight!r}")
        if model.labels is None:
            raise ValueError(f"{model.name} has no CTC to score with: it was made with ctc_weight=0")
        self.model = model
        self.weight = weight
        self.end = end

    def encode(self, source):
        """As of `Seq2Seq`."""
        states, memory = self.model.encode(source)
        log_probs = tf.nn.log_softmax(self.model.labels(memory.values))
        # Rows behind the last are blank with certainty, and change nothing.
        size = log_probs.shape[-1]
        log_probs = tf.where(memory.mask[:, :, None], log_probs, tf.one_hot(0, size, 0.0, IMPOSSIBLE))
        blanks = tf.cumsum(log_probs[:, :, 0], axis=1)
        last = tf.fill([tf.shape(blanks)[0]], UNOPENED)
        return [*states, tf.fill(tf.shape(blanks), IMPOSSIBLE), blanks, last], (memory, log_probs)

    def step(self, tokens, states, memory):
        """As of `Seq2Seq`."""
        *states, labelled, blank, last = states
        memory, log_probs = memory
        logits, states, alignment = self.model.step(tokens, states, memory)
        opened = last != UNOPENED  # the token that opens a sequence is no part of it
        grown = extended(tokens, labelled, blank, last, log_probs)
        labelled, blank = (tf.where(opened[:, None], x, y) for x, y in zip(grown, (labelled, blank), strict=True))
        last = tf.where(opened, tokens, NOTHING)
        scores = tf.nn.log_softmax(prefix_scores(labelled, blank, last, log_probs, self.end))
        joint = (1 - self.weight) * tf.nn.log_softmax(tf.cast(logits, tf.float32)) + self.weight * scores
        return joint, [*states, labelled, blank, last], alignment


def prefix_scores(labelled, blank, last, log_probs, end):
    """log ψ(g·c) of `JointCTC` for every c, `[n, vocabulary]`.

    Args:
        labelled: log γ^n of g at t = 1 … T, `[n, time]`.
        blank: log γ^b, the same.
        last: last token of g, int `[n]`; `NOTHING` where g is empty.
        log_probs: log p, `[n, time, vocabulary]`.
        end: id of the token that closes a sequence.
    """
    either, after_blank = (_before(x, last) for x in (logaddexp(labelled, blank), blank))
    scores = tf.reduce_logsumexp(either[:, :, None] + log_probs, axis=1)
    own = tf.gather(log_probs, tf.maximum(last, 0), axis=2, batch_dims=1)
    own = tf.reduce_logsumexp(after_blank + own, axis=1)
    tokens = tf.range(log_probs.shape[-1])[None]
    scores = tf.where(tokens == last[:, None], own[:, None], scores)
    whole = logaddexp(labelled[:, -1], blank[:, -1])
    scores = tf.where(tokens == end, whole[:, None], scores)
    return tf.where(tokens == 0, IMPOSSIBLE, scores)


def extended(tokens, labelled, blank, last, log_probs):
    """log γ^n and log γ^b of g·c at t = 1 … T, `[n, time]`, from those of g; c is `tokens`, int `[n]`."""
    grown = _before(tf.where((tokens == last)[:, None], blank, logaddexp(labelled, blank)), last)
    own = tf.gather(log_probs, tokens, axis=2, batch_dims=1)

    def advance(before, row):
        labelled, blank = before
        start, label, none = row
        return logaddexp(labelled, start) + label, logaddexp(labelled, blank) + none

    rows = [tf.transpose(x) for x in (grown, own, log_probs[:, :, 0])]  # [time, n]
    never = tf.fill(tf.shape(tokens), IMPOSSIBLE)
    return [tf.transpose(x) for x in tf.scan(advance, rows, (never, never))]


def logaddexp(x, y):
    """log(exp x + exp y)."""
    return tf.maximum(x, y) + tf.math.log1p(tf.exp(-tf.abs(x - y)))


def _before(x, last):
    """The value at t − 1: before the first row, 0 where there are no tokens yet, and impossible where there are."""
    first = tf.where(last < 0, 0.0, IMPOSSIBLE)
    return tf.concat([first[:, None], x[:, :-1]], axis=1)
