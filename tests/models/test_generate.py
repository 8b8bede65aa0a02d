"""`Seq2Seq.generate`, against the samplers called step by step."""

import numpy as np
import pytest
import tensorflow as tf

from contracts import randomise, tiny_copier
from kseq.layers import BahdanauAttention, BahdanauDecoder, DenseBridge, GRUCell, Recurrent
from kseq.models import Seq2Seq, TextEncoder
from kseq.samplers import Beam, Constraints, Greedy, Random

SOURCE = np.array([[5, 6, 4], [7, 0, 0]])
START, END = 1, 2


def made():
    encoder = TextEncoder(11, Recurrent(GRUCell(4), return_state=True), embedding_size=4)
    decoder = BahdanauDecoder(GRUCell(4), BahdanauAttention(4))
    model = Seq2Seq(encoder, DenseBridge([4]), decoder, 11, embedding_size=4)
    model({"source": SOURCE, "tokens": SOURCE})
    return randomise(model)


def assert_equal(found, want):
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "instance"),
    [("greedy", Greedy()), ("random", Random()), ("beam", Beam()), (Beam(3, n_best=2), Beam(3, n_best=2))],
    ids=["greedy", "random", "beam", "instance"],
)
def test_it_is_the_sampler_over_the_steps_of_the_model(sampler, instance):
    model = made()
    want = instance(model.step, *model.encode(tf.constant(SOURCE)), start=START, end=END, max_length=6)
    assert_equal(model.generate(SOURCE, sampler, max_length=6), want)


def test_constraints_prefix_and_the_arguments_of_a_sampler_are_heeded():
    model = made()
    constraints = Constraints(forbidden=[3, 4], min_length=4)
    found = model.generate(
        SOURCE, Beam(4), max_length=6, constraints=constraints, prefix=[[8], [9]], required=[[[7, 5]], [[6, 0]]]
    )
    ids = found.ids.numpy()[:, 0].tolist()
    assert [row[0] for row in ids] == [8, 9] and not {3, 4} & {*ids[0], *ids[1]} and np.all(found.lengths >= 4)
    assert any(ids[0][t : t + 2] == [7, 5] for t in range(5)) and 6 in ids[1]
    draws = [model.generate(SOURCE, "random", max_length=9, seed=[k, 0]).ids.numpy() for k in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0] != draws[2])


def test_it_copies_out_of_vocabulary_words():
    model = tiny_copier()
    source = np.array([[5, 11, 12]])
    model({"source": source, "tokens": np.array([[1]])})
    model.pointer.bias.assign([-50.0])  # it only copies
    assert set(model.generate(source, max_length=4).ids.numpy().ravel()) <= {0, 5, 11, 12}


@pytest.mark.slow
def test_it_can_be_compiled():
    model = made()
    found = tf.function(model.generate)(tf.constant(SOURCE), max_length=5)
    assert_equal(found, model.generate(SOURCE, max_length=5))


def test_an_unknown_sampler_is_named():
    with pytest.raises(ValueError, match=r"^sampler must be one of greedy, random, beam, or a sampler, got 'best'$"):
        made().generate(SOURCE, "best")
