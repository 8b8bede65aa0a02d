"""Samplers: sequences from a function `step(tokens, states, memory)`. They know no model."""

import functools

import tensorflow as tf

from kseq.samplers.beam import Beam
from kseq.samplers.constraints import constrained, ensemble
from kseq.samplers.greedy import Greedy, Random
from kseq.samplers.hypotheses import Hypotheses
from kseq.samplers.path import best_path

__all__ = ["Beam", "Greedy", "Hypotheses", "Random", "best_path", "compiled", "constrained", "ensemble"]


def compiled(sampler, encode, step, *, start, end, max_length, **rules):
    """A function from a source to `Hypotheses`, in one graph for any batch of sources of one rank. What it is called
    with beside the source, by name, it hands to the sampler: `required` of `Beam`, `seed` of `Random`.

    Args:
        sampler: one of this package.
        encode: function from a source to (states, memory).
        step: function of (tokens, states, memory), as the samplers take it.
        start: as the samplers take it.
        end: as the samplers take it.
        max_length: as the samplers take it.
        rules: as `constrained` takes them.
    """

    def sample(source, given):
        states, memory = encode(source)
        obedient, states = constrained(step, states, end=end, max_length=max_length, **rules)
        return sampler(obedient, states, memory, start=start, end=end, max_length=max_length, **given)

    @functools.cache
    def graph(rank):  # of their own, for an encoder may do another thing for another rank
        return tf.function(sample, reduce_retracing=True)

    def run(source, **given):
        return graph(len(source.shape))(source, {name: tf.convert_to_tensor(value) for name, value in given.items()})

    return run
