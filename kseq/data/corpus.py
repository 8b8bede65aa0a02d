"""A corpus as numbers: columns of sequences and arrays that lie in memory, or in a cache on disk."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

BATCH = 1000  # examples that are encoded at once
CHUNK_SIZE = 1_000_000  # ids that are counted at once


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences one behind the other: of ids, four bytes an id, or of frames, a row of numbers each."""

    ids: np.ndarray  # int32 [all ids], or [all frames, d]
    splits: np.ndarray  # int64 [n + 1], where each sequence begins, and where the last one ends

    @classmethod
    def joined(cls, parts):
        """The sequences of an iterable of ragged int32 `[batch, (ids)]` or float `[batch, (frames), d]`."""
        ids, lengths = [], [np.zeros(1, np.int64)]
        for part in parts:
            ids.append(part.flat_values.numpy())
            lengths.append(part.row_lengths().numpy())
        return cls(np.concatenate(ids) if ids else np.zeros(0, np.int32), np.cumsum(np.concatenate(lengths)))

    def __len__(self):
        return len(self.splits) - 1

    @property
    def lengths(self):
        """int64 `[n]`."""
        return np.diff(self.splits)

    def __getitem__(self, i):
        """int32 `[ids]` or `[frames, d]`, the sequence at a place."""
        return self.ids[self.splits[i] : self.splits[i + 1]]

    def counts(self, size):
        """How often each of the ids below `size` occurs, int64 `[size]`."""
        counts = np.zeros(size, np.int64)
        for first in range(0, len(self.ids), CHUNK_SIZE):
            ids = self.ids[first : first + CHUNK_SIZE]
            counts += np.bincount(ids[ids < size], minlength=size)
        return counts

    def padded(self, rows, width):
        """The sequences at some places as `[rows, width]` or `[rows, width, d]`, 0 behind the shorter ones."""
        result = np.zeros((len(rows), width, *self.ids.shape[1:]), self.ids.dtype)
        for row, i in zip(result, rows, strict=True):
            ids = self.ids[self.splits[i] : self.splits[i + 1]]
            row[: len(ids)] = ids
        return result


@dataclass(frozen=True, eq=False)
class Rows:
    """A row of an array for each example; examples may share one, as the captions of a picture do."""

    array: np.ndarray  # [rows, ...]; only those of a batch are read
    index: np.ndarray  # int64 [n]

    def __len__(self):
        return len(self.index)

    @property
    def shape(self):
        """That of all examples."""
        return (len(self.index), *self.array.shape[1:])

    @property
    def dtype(self):
        return self.array.dtype

    def __getitem__(self, examples):
        return self.array[self.index[examples]]


def count_truncated(text, ids, *texts):
    """How many of a list of texts, or of several side by side, are longer than a preprocessor keeps.

    Args:
        text: `TextPreprocessor` or `WordPieces`.
        ids: ragged int32 `[n, (ids)]`, what `text.ids(*texts)` returns. Only texts whose ids are many are split again.
        texts: lists of n texts.
    """
    long = np.flatnonzero(ids.row_lengths().numpy() >= text.max_length)
    if not len(long):
        return 0
    return int(np.sum(text.truncated(*([side[i] for i in long] for side in texts))))


def encoded(examples, encode):
    """The columns of a corpus, `BATCH` examples of which are in memory at a time.

    Args:
        examples: iterable, walked once.
        encode: function of a list of them → {name: ragged int32 `[n, (ids)]` or float `[n, (frames), d]`, or an array
            `[n, ...]`}; n may be less than their number where some are left out.

    Returns:
        {name: `Sequences` or array}; empty where there are no examples.
    """
    examples, parts = iter(examples), {}
    while batch := list(islice(examples, BATCH)):
        for name, part in encode(batch).items():
            parts.setdefault(name, []).append(part)
    return {
        name: Sequences.joined(found) if isinstance(found[0], tf.RaggedTensor) else np.concatenate(found)
        for name, found in parts.items()
    }
