"""Attention mechanisms: how much each row of a memory matters to a query, and the weighted sum of the rows."""

import abc
from typing import NamedTuple

import keras
from keras import ops

from kseq.layers.functional import product


class Memory(NamedTuple):
    """What a decoder reads at every step: made once a sequence, handed from step to step, kept on no layer."""

    values: object  # [batch, source, d]
    keys: object  # [batch, source, units]: the values as the mechanism compares them
    mask: object  # bool [batch, source]: true where a row is real


class AttentionMechanism(keras.layers.Layer, abc.ABC):
    """Weighs the rows of a memory by a query.

        e_s = score(query, key_s)
        α = softmax(e) over the rows that the mask leaves
        context = Σ_s α_s memory_s

    Scores and softmax are computed in float32 under every policy. A row without any real memory gets a zero
    alignment and a zero context. A subclass writes `build(query_shape, memory_shape)`, `project` and `score`, or
    `weigh` where the alignment is not a softmax of scores. One that depends on where it looked before says so in
    `remembers`, and takes what it needs of its earlier alignments as `past`; the caller keeps it:

        past = attention.first_past(memory_mask)
        context, alignment = attention(query, memory, past=past)
        past = attention.next_past(past, alignment)

    Call arguments:
        query: `[batch, d_query]`.
        memory: `[batch, source, d]`.
        keys: `project(memory)`, when the caller keeps it over many queries.
        memory_mask: bool `[batch, source]`, true where a row is real.
        past: float32 `[batch, source]`, what `next_past` returned; `first_past` when not given.

    Returns:
        context `[batch, d]` and alignment, float32 `[batch, source]`.
    """

    remembers = False

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the past keeps its precision

    def call(self, query, memory, keys=None, memory_mask=None, past=None, training=None):
        query, memory = ops.cast(query, self.compute_dtype), ops.cast(memory, self.compute_dtype)
        keys = self.project(memory) if keys is None else keys
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        if past is None and self.remembers:
            past = self.first_past(memory_mask)
        alignment = self.weigh(query, keys, memory_mask, past, training)
        return self.read(alignment, memory), alignment

    @abc.abstractmethod
    def project(self, memory):
        """What needs no query, once a sequence: `[batch, source, d]` → keys `[batch, source, units]`."""

    @abc.abstractmethod
    def score(self, query, keys, past):
        """`[batch, d_query]`, `[batch, source, units]`, past → float32 `[batch, source]`."""

    def weigh(self, query, keys, memory_mask, past, training):
        """The alignment, float32 `[batch, source]`."""
        return masked_softmax(self.score(query, keys, past), memory_mask)

    def read(self, alignment, memory):
        """The context: float32 `[batch, source]`, `[batch, source, d]` → `[batch, d]`."""
        return product(ops.cast(alignment, memory.dtype), memory)

    def first_past(self, memory_mask):
        """What `past` is before the first step: float32 `[batch, source]`."""
        return ops.zeros(ops.shape(memory_mask), "float32")

    def next_past(self, past, alignment):
        """What `past` is after a step: here the step's alignment."""
        return alignment

    def penalty(self, alignments, logits, tokens):
        """What it asks of training beside the right words: a number that is added to the loss, or 0.0 for nothing.

        Args:
            alignments: `[batch, time, source]`.
            logits: float32 `[batch, time, vocabulary]`.
            tokens: int `[batch, time]`, the words before; 0 is padding. The target of step t is tokens[t + 1]: that of
                the last word, the end, is not seen.
        """
        return 0.0

    def compute_output_shape(self, query_shape, memory_shape):
        return (query_shape[0], memory_shape[-1]), (query_shape[0], memory_shape[1])


def masked_softmax(scores, memory_mask):
    """The softmax over the rows that are real; zeros where none is. Any row's scores may be all masked."""
    # The second factor is for rows that are all mask: their softmax would spread over the padding.
    return _softmax(ops.where(memory_mask, scores, -1e9)) * ops.cast(memory_mask, "float32")


def _softmax(scores):
    """Over the last axis. `ops.softmax` warns of an axis of size 1, which is right for a memory of one row."""
    weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)
