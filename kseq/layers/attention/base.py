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
        α = softmax(e) over the real rows
        context = Σ_s α_s memory_s

    Scores and softmax are computed in float32 under every dtype policy. Where no row is real, alignment and context are
    zero. A subclass implements `build(query_shape, memory_shape)`, `project` and `score`, or `weigh` where the
    alignment is not a softmax of scores.

    Some mechanisms depend on where they looked before. They set `stateful_attention`, and what they need of their
    earlier alignments is the attention state, which the caller passes from step to step:

        attention_state = attention.initial_attention_state(memory_mask)
        context, alignment = attention(query, memory, attention_state=attention_state)
        attention_state = attention.next_attention_state(attention_state, alignment)

    Call arguments:
        query: `[batch, d_query]`.
        memory: `[batch, source, d]`.
        keys: `project(memory)`, for a caller that has many queries for one memory.
        memory_mask: bool `[batch, source]`, true where a row is real. By default the mask that Keras carries with
            `memory`; without one all rows are real.
        attention_state: float32 `[batch, source]`; by default that before the first step.

    Returns:
        context `[batch, d]` and alignment, float32 `[batch, source]`.
    """

    stateful_attention = False

    def __init__(self, *sizes, **kwargs):
        if sizes:
            given = ", ".join(map(str, sizes))
            raise ValueError(f"{type(self).__name__} takes no units, its size is that of query and memory; got {given}")
        super().__init__(autocast=False, **kwargs)  # the attention state keeps its precision
        self.supports_masking = True

    def call(self, query, memory, keys=None, memory_mask=None, attention_state=None, training=None):
        query, memory = ops.cast(query, self.compute_dtype), ops.cast(memory, self.compute_dtype)
        keys = self.project(memory) if keys is None else keys
        memory_mask = as_mask("memory_mask", memory_mask, memory)
        if attention_state is None and self.stateful_attention:
            attention_state = self.initial_attention_state(memory_mask)
        alignment = self.weigh(query, keys, memory_mask, attention_state, training)
        return self.read(alignment, memory), alignment

    @abc.abstractmethod
    def project(self, memory):
        """What needs no query, computed once a sequence: `[batch, source, d]` → keys `[batch, source, units]`."""

    @abc.abstractmethod
    def score(self, query, keys, attention_state):
        """The scores e: `[batch, d_query]`, `[batch, source, units]`, attention state → float32 `[batch, source]`."""

    def weigh(self, query, keys, memory_mask, attention_state, training):
        """The alignment, float32 `[batch, source]`."""
        return masked_softmax(self.score(query, keys, attention_state), memory_mask)

    def read(self, alignment, memory):
        """The context: float32 `[batch, source]`, `[batch, source, d]` → `[batch, d]`."""
        return product(ops.cast(alignment, memory.dtype), memory)

    def initial_attention_state(self, memory_mask):
        """The attention state before the first step: bool `[batch, source]` → float32 `[batch, source]`."""
        return ops.zeros(ops.shape(memory_mask), "float32")

    def next_attention_state(self, attention_state, alignment):
        """The attention state after a step, by default the step's alignment."""
        return alignment

    def penalty(self, alignments, logits, tokens):
        """What the mechanism adds to the training loss: a scalar, or 0.0 for nothing.

        Args:
            alignments: `[batch, time, source]`.
            logits: float32 `[batch, time, vocabulary]`.
            tokens: int `[batch, time]`, the previous words; 0 is padding. The target of step t is tokens[t + 1], so
                that of the last step, the end token, is not among them.
        """
        return 0.0

    def compute_mask(self, inputs, previous_mask=None):
        return None  # neither a context nor an alignment has steps

    def compute_output_shape(self, query_shape, memory_shape):
        return (query_shape[0], memory_shape[-1]), (query_shape[0], memory_shape[1])

    def compute_output_spec(self, *args, **kwargs):
        return float32_alignment(super().compute_output_spec(*args, **kwargs))


def as_mask(name, mask, x):
    """The mask of `[batch, source, d]` as a bool tensor `[batch, source]`; true everywhere where it is None.

    Raises:
        ValueError: it has another rank.
    """
    if mask is None:
        return ops.ones(ops.shape(x)[:2], "bool")
    mask = ops.cast(mask, "bool")
    if len(mask.shape) != 2:
        raise ValueError(
            f"{name} must have the two axes batch and time of what it masks, got shape {tuple(mask.shape)}"
        )
    return mask


def float32_alignment(specs):
    """What Keras foretells of a layer's outputs, the second of which is float32 under every policy."""
    output, alignment, *others = specs
    return output, keras.KerasTensor(alignment.shape, "float32"), *others


def masked_softmax(scores, memory_mask):
    """The softmax over the real rows; zeros where no row is real."""
    # Where no row is real the softmax alone would spread over the padding.
    return _softmax(ops.where(memory_mask, scores, -1e9)) * ops.cast(memory_mask, "float32")


def _softmax(scores):
    """Over the last axis. `ops.softmax` warns of an axis of size 1, which is right for a memory of one row."""
    weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)
