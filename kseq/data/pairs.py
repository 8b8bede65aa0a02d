"""Batches of two texts for training: what is read, and what is to be written of it."""

from itertools import islice
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kseq.data.pipeline import length_boundaries
from kseq.errors import UserError

BATCH = 1000  # pairs that are encoded at once
AT_ONCE = 1_000_000  # ids that are counted at once


class Sequences(NamedTuple):
    """Sequences of ids one behind the other, four bytes an id: a corpus that stays in memory."""

    ids: np.ndarray  # int32 [all ids]
    splits: np.ndarray  # int64 [n + 1], where each sequence begins, and where the last one ends

    @classmethod
    def joined(cls, parts):
        """The sequences of an iterable of ragged int32 `[batch, (ids)]`."""
        ids, lengths = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for part in parts:
            ids.append(part.flat_values.numpy())
            lengths.append(part.row_lengths().numpy())
        return cls(np.concatenate(ids), np.cumsum(np.concatenate(lengths)))

    @property
    def lengths(self):
        """int64 `[n]`."""
        return np.diff(self.splits)

    def counts(self, size):
        """How often each of the ids below `size` is there, int64 `[size]`."""
        counts = np.zeros(size, np.int64)
        for first in range(0, len(self.ids), AT_ONCE):
            ids = self.ids[first : first + AT_ONCE]
            counts += np.bincount(ids[ids < size], minlength=size)
        return counts

    def padded(self, rows, width):
        """The named sequences as int32 `[rows, width]`, 0 behind the shorter ones."""
        result = np.zeros((len(rows), width), np.int32)
        for row, i in zip(result, rows, strict=True):
            ids = self.ids[self.splits[i] : self.splits[i + 1]]
            row[: len(ids)] = ids
        return result


def encoded_pairs(pairs, encode, *, start, end):
    """The pairs of a corpus as ids. Those of which a side has no token are left out.

    Args:
        pairs: iterable of {"source": text, "target": text}; walked once, `BATCH` of them in memory at a time.
        encode: function of sources and targets, lists of texts, → ragged int32 `[batch, (ids)]` of each.
        start: id that is put before every target.
        end: id that is put behind it.

    Returns:
        `Sequences` of the sources, those of the targets, and how many pairs are left out.
    """
    pairs, parts, left_out = iter(pairs), [], 0
    while batch := list(islice(pairs, BATCH)):
        source, target = encode([pair["source"] for pair in batch], [pair["target"] for pair in batch])
        whole = (source.row_lengths() > 0) & (target.row_lengths() > 0)
        source, target = (tf.ragged.boolean_mask(side, whole) for side in (source, target))
        first, last = (tf.fill([target.nrows(), 1], token) for token in (start, end))
        parts.append((source, tf.concat([first, target, last], axis=1)))
        left_out += len(batch) - int(target.nrows())
    return *(Sequences.joined([part[side] for part in parts]) for side in (0, 1)), left_out


def paired_batches(sources, targets, *, batch_size, buckets, seed, clock, full=False):
    """Shuffled batches of pairs, as `fit` takes them, pairs of one length together.

    A pair is as long as the longer of its two. Both texts of a bucket are padded with 0, each to the longest of its
    side that the bucket has, so that a compiled step sees one shape a bucket.

    Args:
        sources: `Sequences`, what the encoder reads.
        targets: `Sequences`, each from the start token to the end token.
        batch_size: pairs in a batch.
        buckets: at most how many lengths the batches have.
        seed: with the epoch's number, decides the order.
        clock: `Clock` that goes to `fit` as a callback.
        full: whether the smaller batch at the end of each bucket is left out. They are other pairs in every epoch.

    Returns:
        `tf.data.Dataset` of ({"source": `[batch, source]`, "tokens": `[batch, time]`}, targets `[batch, time]`, sample
        weights `[batch, time]`), one epoch long each time it is iterated.

    Raises:
        UserError: `full`, and there are too few pairs for one batch.
    """
    longer = np.maximum(sources.lengths, targets.lengths)
    boundaries = length_boundaries(longer, buckets)
    bucket = np.searchsorted(boundaries, longer)
    widths = [[int(side.lengths[bucket == b].max()) for side in (sources, targets)] for b in range(len(boundaries))]
    in_bucket = np.bincount(bucket)
    count = sum(in_bucket // batch_size) if full else sum(-(-in_bucket // batch_size))
    if not count:
        raise UserError(
            f"{len(longer)} pairs in {len(boundaries)} buckets make no full batch of {batch_size}; lower "
            "training.batch_size or data.buckets, or set training.xla=false"
        )

    def batches():
        waiting = [[] for _ in boundaries]
        for row in np.random.default_rng((seed, clock.epoch)).permutation(len(longer)):
            waiting[bucket[row]].append(row)
            if len(waiting[bucket[row]]) == batch_size:
                yield bucket[row], waiting[bucket[row]]
                waiting[bucket[row]] = []
        if not full:
            yield from ((b, rows) for b, rows in enumerate(waiting) if rows)

    def examples():
        for b, rows in batches():
            source, target = (side.padded(rows, n) for side, n in zip((sources, targets), widths[b], strict=True))
            real = target[:, 1:] > 0
            tokens = np.where(real, target[:, :-1], 0)
            yield {"source": source, "tokens": tokens}, target[:, 1:], real.astype(np.float32)

    ids, weights = (tf.TensorSpec([None, None], kind) for kind in (tf.int32, tf.float32))
    dataset = tf.data.Dataset.from_generator(examples, output_signature=({"source": ids, "tokens": ids}, ids, weights))
    return dataset.apply(tf.data.experimental.assert_cardinality(int(count))).prefetch(tf.data.AUTOTUNE)
