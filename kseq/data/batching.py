"""Batches for training: shuffled anew in every epoch, examples of similar length together."""

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kseq.data.corpus import Column
from kseq.errors import UserError


class Share(NamedTuple):
    """Which of the `of` equal parts of every batch are read: `count`, from `first` on, each as a batch of its own."""

    first: int = 0
    count: int = 1
    of: int = 1

    def rows(self, rows):
        """Yields those parts of the rows of a batch, and which of their rows are real, bool `[n]`.

        All parts have the same number of rows: where a batch cannot be divided, its last row fills them up.
        """
        size = -(-len(rows) // self.of)
        for part in range(self.first, self.first + self.count):
            places = np.arange(part * size, (part + 1) * size)
            yield np.asarray(rows)[np.minimum(places, len(rows) - 1)], places < len(rows)


WHOLE = Share()


class SetEpoch(keras.callbacks.Callback):
    """Tells a dataset which epoch it is in, so that an epoch's order depends on its number and on nothing else."""

    def __init__(self, epoch=0):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def length_boundaries(lengths, buckets):
    """At most `buckets` of the lengths, rising, the last the longest, that divide `lengths` into equal shares."""
    shares = np.arange(1, buckets + 1) / buckets
    return sorted({int(n) for n in np.quantile(lengths, shares, method="inverted_cdf")})


def batches(columns, make, *, batch_size, buckets, seed, epoch, full=False, share=WHOLE):
    """Shuffled batches of the examples of a corpus, those of similar length together, as `fit` takes them.

    An example is as long as the longest of its sequences. The sequences of a batch are padded with 0, each to the
    longest of its column that the bucket has, so that a compiled step sees one shape a bucket.

    Args:
        columns: {name: column}, all of the same number of examples: `Sequences` or `Shards`, at least one; and arrays
            or `Rows`, of which a batch takes its rows.
        make: function of a batch {name: `[batch, time]`, or `[batch, ...]` of an array} → (inputs, targets, sample
            weights), in TensorFlow's operations.
        batch_size: examples in a batch.
        buckets: at most how many lengths the batches have.
        seed: with the epoch's number, decides the order.
        epoch: `SetEpoch`, which `fit` needs as a callback.
        full: whether the last, smaller batch of each bucket is left out. It has other examples in every epoch.
        share: `Share` of each batch that is read here: the order does not depend on it, and all shares together have
            each example once. The rows that fill up a part have weight 0.

    Returns:
        `tf.data.Dataset` of what `make` returns, one epoch long each time it is iterated; one element for each part of
        the share.

    Raises:
        UserError: `full`, and there are too few examples for one batch.
    """
    lengths = {name: column.lengths for name, column in columns.items() if isinstance(column, Column)}
    longest = functools.reduce(np.maximum, lengths.values())
    examples = len(longest)
    boundaries = length_boundaries(longest, buckets)
    # A byte or two an example, and 4 for the order of an epoch: that is all that grows with the corpus.
    bucket = np.searchsorted(boundaries, np.arange(boundaries[-1] + 1)).astype(np.min_scalar_type(buckets))[longest]
    in_bucket = np.bincount(bucket)
    count = sum(in_bucket // batch_size) if full else sum(-(-in_bucket // batch_size))
    if not count:
        raise UserError(
            f"{examples} examples in {len(boundaries)} buckets make no full batch of {batch_size}; lower "
            "training.batch_size or data.buckets, or set training.xla=false"
        )
    widths = {name: [int(found[bucket == b].max()) for b in range(len(boundaries))] for name, found in lengths.items()}
    del lengths, longest

    def padded(b, rows):
        return {
            name: column.padded(rows, widths[name][b]) if name in widths else column[rows]
            for name, column in columns.items()
        }

    def read():
        order = np.arange(examples, dtype=np.int32 if examples < 2**31 else np.int64)
        np.random.default_rng((seed, epoch.epoch)).shuffle(order)
        for b, batch in _batched(order, bucket, batch_size, full):
            for rows, real in share.rows(batch):
                yield real, padded(b, rows)

    made = functools.partial(_without_filling, make) if share.of > 1 else lambda _, batch: make(batch)
    dataset = tf.data.Dataset.from_generator(read, output_signature=_signature(columns))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(int(count) * share.count))

    made = tf.autograph.experimental.do_not_convert(made)
    return dataset.map(made, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _signature(columns):
    """Of the rows that are real, and the columns of a batch."""
    return tf.TensorSpec([None], tf.bool), {
        name: tf.TensorSpec([None, None, *column.shape], column.dtype)
        if isinstance(column, Column)
        else tf.TensorSpec([None, *column.shape[1:]], column.dtype)
        for name, column in columns.items()
    }


def _without_filling(make, real, batch):
    """What `make` returns for a batch, where rows that are not real, bool `[n]`, count nowhere.

    Their weights are 0, and so are the tokens of a decoder, by which a model knows what its penalties are the mean of.
    """

    def only(x):
        return x * tf.cast(tf.reshape(real, [-1] + [1] * (len(x.shape) - 1)), x.dtype)

    inputs, targets, weights = make(batch)
    if isinstance(inputs, dict) and "tokens" in inputs:
        inputs = inputs | {"tokens": only(inputs["tokens"])}
    return inputs, targets, tf.nest.map_structure(only, weights)


def _batched(order, bucket, batch_size, full):
    """Yields (bucket, examples) of each batch of the examples in this order; one is full when its bucket has enough."""
    waiting = [[] for _ in range(bucket.max() + 1)]
    for i in order:
        waiting[bucket[i]].append(i)
        if len(waiting[bucket[i]]) == batch_size:
            yield bucket[i], waiting[bucket[i]]
            waiting[bucket[i]] = []
    if not full:
        yield from ((b, rows) for b, rows in enumerate(waiting) if rows)


def teacher_forced(batch):
    """What `fit` takes for a decoder that is told each word before the one that it has to say.

    Args:
        batch: {"source": `[batch, ...]`, "tokens": ids `[batch, time + 1]` from the start token on, padded with 0}.

    Returns:
        ({"source": the same, "tokens": `[batch, time]`}, targets `[batch, time]`, weights `[batch, time]`: 1 for words,
        0 for padding).
    """
    targets = batch["tokens"][:, 1:]
    real = targets > 0
    tokens = tf.where(real, batch["tokens"][:, :-1], 0)
    return {"source": batch["source"], "tokens": tokens}, targets, tf.cast(real, tf.float32)
