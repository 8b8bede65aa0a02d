"""Samplers: sequences of tokens, or of the keys of a piano, from a function `step`. They know no model class."""

import functools

import tensorflow as tf

from kseq.samplers.beam import Beam
from kseq.samplers.constraints import Constraints, ensemble
from kseq.samplers.events import NoteRules
from kseq.samplers.greedy import Greedy, Random
from kseq.samplers.hypotheses import Hypotheses
from kseq.samplers.parallel import Parallel
from kseq.samplers.rolls import Rolls, RollSampler
from kseq.samplers.viterbi import viterbi_decode

__all__ = [
    "SAMPLERS",
    "Beam",
    "Constraints",
    "Greedy",
    "Hypotheses",
    "NoteRules",
    "Parallel",
    "Random",
    "RollSampler",
    "Rolls",
    "compiled",
    "ensemble",
    "viterbi_decode",
]

SAMPLERS = {"greedy": Greedy, "random": Random, "beam": Beam}


def compiled(sampler, encode, step, *, start, end, max_length, **constraints):
    """A function from a source to `Hypotheses`, compiled to one graph for every batch of sources of the same rank.

    That function also takes `prefix`, as `Constraints` does, and the sampler's own call arguments by name: `required`
    of `Beam`, `seed` of `Random`.

    Args:
        sampler: one of `SAMPLERS`.
        encode: function from a source to (states, memory), such as `Seq2Seq.encode`. It and `step` are traced without
            AutoGraph, so they must branch on tensors by `keras.ops.cond`.
        step: function of (tokens, states, memory), as `Greedy` takes it, such as `Seq2Seq.step`.
        start: id of the token that opens a sequence.
        end: id of the token that closes a sequence.
        max_length: the largest number of tokens in a sequence.
        constraints: the arguments of `Constraints`.

    Raises:
        ValueError: a constraint is out of range.
    """
    constrain = Constraints(**constraints)

    def sample(source, prefix, given):
        states, memory = encode(source)
        line = source if constrain.parallel else None
        constrained, states = constrain(step, states, end=end, max_length=max_length, prefix=prefix, source=line)
        return sampler(constrained, states, memory, start=start, end=end, max_length=max_length, **given)

    @functools.cache
    def graph(rank):  # one graph a rank: an encoder may treat another rank differently
        return tf.function(sample, autograph=False, reduce_retracing=True)

    def run(source, prefix=None, **given):
        prefix = None if prefix is None else tf.convert_to_tensor(prefix)
        given = {name: tf.convert_to_tensor(value) for name, value in given.items()}
        return graph(len(source.shape))(source, prefix, given)

    return run
