"""A corpus as numbers: columns of sequences and arrays that lie in memory, or in a cache on disk."""

import abc
import bisect
from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

BATCH = 1000  # examples that are encoded at once
CHUNK_SIZE = 1_000_000  # ids that are counted at once


class Column(abc.ABC):
    """Sequences of ids or of frames, one for each example of a corpus."""

    @property
    @abc.abstractmethod
    def dtype(self):
        """Of the sequences: int32 for ids, however few bytes they are kept in."""

    @property
    @abc.abstractmethod
    def shape(self):
        """Of an element of a sequence: () for an id, (d,) for a frame."""

    @property
    @abc.abstractmethod
    def lengths(self):
        """int32 `[n]`."""

    @abc.abstractmethod
    def __len__(self):
        """n, the number of sequences."""

    @abc.abstractmethod
    def __getitem__(self, i):
        """int32 `[ids]` or `[frames, d]`, the sequence at a place."""

    @abc.abstractmethod
    def counts(self, size):
        """How often each of the ids below `size` occurs, int64 `[size]`."""

    def padded(self, rows, width):
        """The sequences at some places as `[rows, width]` or `[rows, width, d]`, 0 behind the shorter ones."""
        result = np.zeros((len(rows), width, *self.shape), self.dtype)
        for row, i in zip(result, rows, strict=True):
            sequence = self[i]
            row[: len(sequence)] = sequence
        return result


@dataclass(frozen=True, eq=False)
class Sequences(Column):
    """Sequences one behind the other, in memory or memory-mapped.

    Ids and places of any integer type are taken: in the cache they have as few bytes as hold the largest.
    """

    ids: np.ndarray  # [all ids], or [all frames, d]
    splits: np.ndarray  # [n + 1], where each sequence begins, and where the last one ends

    @classmethod
    def joined(cls, parts):
        """The sequences of several parts, in memory.

        Args:
            parts: iterable of `Sequences`, or of ragged int32 `[batch, (ids)]` or float `[batch, (frames), d]`.
        """
        ids, lengths = [], [np.zeros(1, np.int64)]
        for part in parts:
            plain = isinstance(part, cls)
            ids.append(part.ids if plain else part.flat_values.numpy())
            lengths.append(part.lengths if plain else part.row_lengths().numpy())
        return cls(np.concatenate(ids) if ids else np.zeros(0, np.int32), np.cumsum(np.concatenate(lengths)))

    @property
    def dtype(self):
        return np.dtype(np.int32) if np.issubdtype(self.ids.dtype, np.integer) else self.ids.dtype

    @property
    def shape(self):
        return self.ids.shape[1:]

    @property
    def lengths(self):
        return np.diff(self.splits).astype(np.int32)

    def __len__(self):
        return len(self.splits) - 1

    def __getitem__(self, i):
        return self.ids[self.splits[i] : self.splits[i + 1]].astype(self.dtype, copy=False)

    def counts(self, size):
        counts = np.zeros(size, np.int64)
        for first in range(0, len(self.ids), CHUNK_SIZE):
            ids = self.ids[first : first + CHUNK_SIZE]
            counts += np.bincount(ids[ids < size], minlength=size)
        return counts


class Shards(Column):
    """`Sequences` in several pieces, one behind the other.

    Args:
        pieces: list of `Sequences` of one dtype and shape, at least one.
    """

    def __init__(self, pieces):
        self.pieces = pieces
        self._ends = np.cumsum([len(piece) for piece in pieces]).tolist()

    @property
    def dtype(self):
        return self.pieces[0].dtype

    @property
    def shape(self):
        return self.pieces[0].shape

    @property
    def lengths(self):
        return np.concatenate([piece.lengths for piece in self.pieces])

    def __len__(self):
        return self._ends[-1]

    def __getitem__(self, i):
        k = bisect.bisect_right(self._ends, i)
        return self.pieces[k][i - self._ends[k] + len(self.pieces[k])]

    def counts(self, size):
        return sum(piece.counts(size) for piece in self.pieces)


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
    examples, parts = iter(examples), []
    while batch := list(islice(examples, BATCH)):
        parts.append(plain(encode(batch)))
    return joined(parts)


def plain(columns):
    """The same with `Sequences` in place of ragged tensors."""
    return {name: Sequences.joined([x]) if isinstance(x, tf.RaggedTensor) else x for name, x in columns.items()}


def joined(parts):
    """The columns of parts of a corpus, one behind the other in memory.

    Args:
        parts: list of {name: `Sequences` or array}, of the same names.
    """
    if not parts:
        return {}
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: Sequences.joined(found) if isinstance(found[0], Sequences) else np.concatenate(found)
        for name, found in columns.items()
    }
