"""Batches for training: every epoch shuffled by its number, sequences of one length together."""

import keras
import numpy as np
import tensorflow as tf

from kseq.errors import UserError


class Clock(keras.callbacks.Callback):
    """Tells a dataset which epoch it is in, so that an epoch's order depends on its number and on nothing else."""

    def __init__(self, epoch=0):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def length_boundaries(lengths, buckets):
    """At most `buckets` lengths, rising, the last the longest, that part `lengths` into shares of one size."""
    shares = np.arange(1, buckets + 1) / buckets
    return sorted({int(n) for n in np.quantile(lengths, shares, method="inverted_cdf")})


def shuffled_batches(rows, sequences, *, batch_size, buckets, seed, clock, full=False):
    """Shuffled batches of (row, sequence) pairs, padded with 0 to the longest that their bucket allows.

    Args:
        rows: int `[n]`, what belongs to each sequence.
        sequences: list of n lists of ids.
        batch_size: pairs in a batch.
        buckets: at most how many lengths the batches have.
        seed: with the epoch's number, decides the order.
        clock: `Clock` that goes to `fit` as a callback.
        full: whether the smaller batch at the end of each bucket is left out, so that a compiled step sees one shape
            a bucket. They are other pairs in every epoch.

    Returns:
        `tf.data.Dataset` of (int64 `[batch]`, int32 `[batch, time]`), one epoch long each time it is iterated.

    Raises:
        UserError: `full`, and there are too few sequences for one batch.
    """
    lengths = [len(s) for s in sequences]
    boundaries = length_boundaries(lengths, buckets)
    rows, ragged = tf.constant(np.asarray(rows), tf.int64), tf.ragged.constant(sequences, tf.int32)

    def order():
        yield np.random.default_rng((seed, clock.epoch)).permutation(len(sequences))

    shuffled = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec([len(sequences)], tf.int64))
    pairs = shuffled.unbatch().map(lambda i: (rows[i], ragged[i]), num_parallel_calls=tf.data.AUTOTUNE)
    batches = pairs.bucket_by_sequence_length(
        lambda row, sequence: tf.shape(sequence)[0],
        [b + 1 for b in boundaries],
        [batch_size] * (len(boundaries) + 1),
        padded_shapes=([], [None]),
        pad_to_bucket_boundary=True,
        drop_remainder=full,
    )
    in_bucket = np.bincount(np.searchsorted(boundaries, lengths))
    count = sum(in_bucket // batch_size) if full else sum(-(-in_bucket // batch_size))
    if not count:
        raise UserError(
            f"{len(lengths)} sequences in {len(boundaries)} buckets make no full batch of {batch_size}; lower "
            "training.batch_size or data.buckets, or set training.xla=false"
        )
    return batches.apply(tf.data.experimental.assert_cardinality(int(count)))


def teacher_forced(batches, sources):
    """What `fit` takes: from (row, `<s> … </s>` padded with 0) to inputs, targets and sample weights.

    Args:
        batches: dataset of (int `[batch]`, int `[batch, time + 1]`).
        sources: array, a row of it for each row named; only the rows of the batch are read.

    Returns:
        `tf.data.Dataset` of ({"source": `[batch, ...]`, "tokens": `[batch, time]`}, `[batch, time]`, `[batch, time]`).
    """

    def read(rows, sequences):
        source = tf.numpy_function(lambda i: sources[i], [rows], sources.dtype, stateful=False)
        source = tf.cast(tf.ensure_shape(source, [None, *sources.shape[1:]]), tf.float32)
        targets = sequences[:, 1:]
        real = targets > 0
        tokens = tf.where(real, sequences[:, :-1], 0)
        return {"source": source, "tokens": tokens}, targets, tf.cast(real, tf.float32)

    return batches.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
