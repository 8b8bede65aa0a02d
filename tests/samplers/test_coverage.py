"""The coverage penalty where some positions do not count, on the toy languages of `test_samplers`.

That it ranks all sequences rightly is tested there, against enumeration.
"""

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import Beam, Hypotheses
from samplers.test_samplers import END, SOURCE, START, enumerate_all, make_language, sample, sequence, start_of, step_of

BETA = 1.5


def padded(language, rows):
    """The language with two positions more, which the attention of some rows leaves out."""
    keys = np.concatenate([language.keys, np.where(rows, -1e9, 0.5)[:, None].repeat(2, 1)], 1).astype("float32")
    looks = np.concatenate([language.looks, np.zeros((5, 2), "float32")], 1)
    return language._replace(keys=keys, looks=looks)


def run(sampler, step, language, **given):
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    found = sampler(step, states, memory, start=START, end=END, max_length=4, **given)
    return Hypotheses(*map(np.asarray, found))


def hard_step_of(language):
    """As `step_of`, all of the attention at one position, and none at the last one, ever."""
    step = step_of(language)

    def hard(tokens, states, memory):
        logits, states, alignment = step(tokens, states, memory)
        return logits, states, tf.one_hot(tf.argmax(alignment[:, :-1], -1), SOURCE)

    return hard


def test_padding_costs_nothing():
    """Oracle: the same language without the padded positions, and enumeration of a row that has none."""
    language = make_language(seed=4)
    longer = padded(language, [True, False, True])
    beam = Beam(121, coverage_penalty=BETA, n_best=20)
    found, expected = sample(beam, longer, 4), sample(beam, language, 4)
    assert not found.alignments[[0, 2], ..., SOURCE:].any() and found.alignments[1, ..., SOURCE:].any()
    for row in (0, 2):
        np.testing.assert_array_equal(found.ids[row], expected.ids[row])
        np.testing.assert_allclose(found.scores[row], expected.scores[row], rtol=1e-4)
    best = enumerate_all(longer, 1, 4, 0.0, BETA)[:20]
    assert [sequence(found, 1, n) for n in range(20)] == [ids for _, ids in best]
    np.testing.assert_allclose(found.scores[1], [score for score, _ in best], rtol=1e-5)


def test_a_mask_says_what_counts_when_attention_is_hard():
    """Oracle: the sum over what the mask leaves of the alignments that are returned, never less than 1e-30."""
    language = make_language(seed=6)
    mask = np.array([[True, True, True], [True, True, False], [True, False, False]])
    found = run(Beam(121, coverage_penalty=0.1, n_best=121), hard_step_of(language), language, memory_mask=mask)
    covered = found.alignments.sum(2)
    cp = np.where(mask[:, None], np.log(np.clip(covered, 1e-30, 1)), 0).sum(-1)
    np.testing.assert_allclose(found.scores, found.log_probs + 0.1 * cp, rtol=1e-5)
    assert (cp < -60).any() and (cp == 0).any()
    for row in range(3):
        ended = (found.ids[row] == END).any(-1)
        for group in (ended, ~ended):
            assert (np.diff(found.scores[row][group]) <= 0).all()


@pytest.mark.parametrize("beta, length", [(0.0, 1), (0.005, 1), (0.006, 5)])
def test_search_goes_on_while_a_prefix_may_still_cover_more(beta, length):
    """By hand: the end has p = 0.3 at once; after word 3, p = 0.2, all is certain, and only the last step looks at the
    other position: log 0.3 + β log 1e-30 against log 0.2.
    """
    table = np.full((10, 6), 1e-9, "float32")
    table[0] = [0.16, 0.16, 0.3, 0.2, 0.1, 0.08]
    table[1:4, 3] = table[4, END] = 1.0

    def step(tokens, states, memory):
        (count,) = states
        return tf.gather(np.log(table), count), [count + 1], tf.one_hot(count // 4, 2)

    given = {"start": START, "end": END, "max_length": 10, "memory_mask": tf.ones([1, 2], tf.bool)}
    found = Beam(3, coverage_penalty=beta)(step, [tf.zeros([1], tf.int32)], tf.ones([1, 1]), **given)
    assert found.lengths.numpy().tolist() == [[length]]
    score = np.log(0.3) + beta * np.log(1e-30) if length == 1 else np.log(0.2)
    np.testing.assert_allclose(found.scores, [[score]], rtol=1e-5)


def test_of_soft_attention_the_mask_is_known():
    language = padded(make_language(seed=7), [True, False, True])
    mask = np.arange(SOURCE + 2) < [[SOURCE], [SOURCE + 2], [SOURCE]]
    beam = Beam(3, length_penalty=1.0, coverage_penalty=BETA, n_best=3)
    known, given = (run(beam, step_of(language), language, **more) for more in ({}, {"memory_mask": mask}))
    for got, expected in zip(known, given, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_without_attention_nothing_is_to_be_covered():
    language = make_language(seed=8)
    step = step_of(language)

    def blind(tokens, states, memory):
        logits, states, alignment = step(tokens, states, memory)
        return logits, states, tf.zeros_like(alignment)

    with_penalty, without = (run(Beam(3, coverage_penalty=beta), blind, language) for beta in (BETA, 0.0))
    np.testing.assert_array_equal(with_penalty.ids, without.ids)
    np.testing.assert_array_equal(with_penalty.scores, without.scores)


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["known", "given"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_of_unknown_sizes(given, jit_compile):
    language = make_language(seed=9)
    beam = Beam(3, coverage_penalty=BETA, n_best=2)
    mask = {"memory_mask": np.array([[True, False, True]] * 3)} if given else {}
    sizes = {name: tf.TensorSpec([None, None], tf.bool) for name in mask}
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *np.shape(x)[1:]], x.dtype), start_of(language))

    @tf.function(jit_compile=jit_compile, input_signature=[*shapes, sizes], autograph=False)
    def graph(states, memory, mask):
        return beam(step_of(language), states, memory, start=START, end=END, max_length=4, **mask)

    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    expected = run(beam, step_of(language), language, **mask)
    for got, want in zip(graph(states, memory, mask), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
