"""How many steps a sampler takes: as many as its longest sequence needs, and no more."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import SAMPLERS, Beam, Greedy, Random
from samplers.test_samplers import END, START

LONGEST = 50
SOURCE = 3


def counting(lengths):
    """A step after which row b ends with certainty at step lengths[b], and the variable that counts the calls."""
    calls = tf.Variable(0)

    def step(tokens, states, memory):
        calls.assign_add(1)
        ends = (states[0] + 1 >= memory)[:, None] & (tf.range(5) == END)
        goes_on = (states[0] + 1 < memory)[:, None] & (tf.range(5) == 3)
        logits = tf.where(ends | goes_on, 0.0, -40.0)
        return logits, [states[0] + 1], tf.fill([tf.shape(tokens)[0], SOURCE], 1 / SOURCE)

    return step, [tf.zeros(len(lengths), tf.int32)], tf.constant(lengths, tf.int32), calls


def run(sampler, lengths, how):
    step, states, memory, calls = counting(lengths)

    def sample(states, memory):
        return sampler(step, states, memory, start=START, end=END, max_length=LONGEST)

    sample = sample if how == "eager" else tf.function(sample, jit_compile=how == "xla", autograph=False)
    found = sample(states, memory)
    return found, int(calls)


@pytest.mark.parametrize("how", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [2, 7, 4]], ids=["one", "at once", "in turn"])
@pytest.mark.parametrize(
    "sampler", [Greedy(), Random(n=2), Beam(1), Beam(3, n_best=2)], ids=["greedy", "random", "1", "3"]
)
def test_it_stops_when_every_row_has_ended(sampler, lengths, how):
    """By hand: the longest row needs max(lengths) steps. A beam may try one step to see where attention can go."""
    found, calls = run(sampler, lengths, how)
    assert max(lengths) <= calls <= max(lengths) + 2 * isinstance(sampler, Beam)
    for row, length in enumerate(lengths):
        assert found.lengths[row, 0] == length
        ids = [3] * (length - 1) + [END] + [0] * (LONGEST - length)
        assert found.ids[row, 0].numpy().tolist() == ids
        np.testing.assert_allclose(found.alignments[row, 0, :length], 1 / SOURCE)
        assert not np.any(found.alignments[row, 0, length:])
    n = found.lengths.shape[1]
    assert found.ids.shape == (len(lengths), n, LONGEST)
    assert found.alignments.shape == (len(lengths), n, LONGEST, SOURCE)


@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize("sampler", [Greedy(), Random(n=2), Beam(3)], ids=["greedy", "random", "beam"])
def test_a_batch_of_no_rows_gives_no_rows(sampler, how):
    found, calls = run(sampler, [], how)
    assert found.ids.shape == (0, sampler.n if isinstance(sampler, Random) else 1, LONGEST) and calls <= 2
    assert found.alignments.shape == (*found.ids.shape, SOURCE) and found.lengths.shape == found.ids.shape[:2]


@pytest.mark.parametrize("sampler", [Greedy(), Random(), Beam(2)], ids=["greedy", "random", "beam"])
@pytest.mark.parametrize("max_length", [0, -3, 2.0, None])
def test_a_max_length_out_of_range_is_named(sampler, max_length):
    step, states, memory, _ = counting([1])
    with pytest.raises(ValueError, match=f"^max_length must be a positive whole number, got {max_length}$"):
        sampler(step, states, memory, start=START, end=END, max_length=max_length)


CONFIGS = {
    "greedy": {},
    "random": {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "n": 3, "seed": 4},
    "beam": {"width": 4, "length_penalty": 0.6, "coverage_penalty": 0.2, "n_best": 2},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_made_of_plain_options_and_gives_them_back(name):
    sampler = SAMPLERS[name].from_config(CONFIGS[name])
    assert sampler.get_config() == CONFIGS[name]
    assert SAMPLERS[name](**CONFIGS[name]).get_config() == CONFIGS[name]
    assert {key: getattr(sampler, key) for key in CONFIGS[name]} == CONFIGS[name]
