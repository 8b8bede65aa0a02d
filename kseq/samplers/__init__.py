"""Samplers: sequences from a function `step(tokens, states, memory)`. They know no model."""

import tensorflow as tf

from kseq.samplers.beam import Beam
from kseq.samplers.greedy import Greedy, Random
from kseq.samplers.hypotheses import Hypotheses

__all__ = ["Beam", "Greedy", "Hypotheses", "Random", "compiled"]


def compiled(sampler, encode, step, *, start, end, max_length, forbidden=()):
    """A `tf.function` from a source to `Hypotheses`, in one graph.

    Args:
        sampler: one of this package.
        encode: function from a source to (states, memory).
        step: function of (tokens, states, memory), as the samplers take it.
        start: as the samplers take it.
        end: as the samplers take it.
        max_length: as the samplers take it.
        forbidden: ids that are never generated.
    """

    def allowed(tokens, states, memory):
        logits, states, alignment = step(tokens, states, memory)
        banned = tf.reduce_sum(tf.one_hot(list(forbidden), logits.shape[-1]), axis=0)
        return logits - 1e9 * banned, states, alignment

    @tf.function
    def sample(source):
        states, memory = encode(source)
        return sampler(allowed, states, memory, start=start, end=end, max_length=max_length)

    return sample
