"""Connectionist temporal classification beside attention: a second answer, from the memory alone."""

from keras import ops


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
    return ops.sum(ops.where(counts, loss, 0.0)) / ops.cast(ops.maximum(ops.sum(lengths), 1), "float32")
