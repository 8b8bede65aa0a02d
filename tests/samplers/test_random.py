"""Drawn sequences, on the toy languages of `test_samplers`: their shares, their scores, and one seed, one draw."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import Greedy, Hypotheses, Random, compiled
from samplers.test_samplers import END, START, make_language, oracle_follow, oracle_step, start_of, step_of

DRAWS = 4000


def draw(sampler, language, max_length, seed=None):
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    arguments = {"start": START, "end": END, "max_length": max_length}
    if seed is not None:
        arguments["seed"] = seed
    return Hypotheses(*map(np.asarray, sampler(step_of(language), states, memory, **arguments)))


def shares_of_the_first_token(language, temperature, top_k, top_p):
    """By sorting and adding up, a row at a time."""
    shares = []
    for row in range(len(language.shifts)):
        log_probs, *_ = oracle_step(language, row, START, np.zeros(5), 0)
        p = np.exp(log_probs / temperature)
        p /= p.sum()
        kept, total = np.zeros_like(p), 0.0
        order = np.argsort(-p)[: top_k or None]
        for v in order:
            if total < top_p * p[order].sum():
                kept[v] = p[v]
            total += p[v]
        shares.append(kept / kept.sum())
    return np.array(shares)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 2, 1.0), (1.0, 0, 0.7), (0.8, 3, 0.8)]
)
def test_tokens_are_drawn_with_their_probabilities(temperature, top_k, top_p):
    """Oracle: the exact shares; a share of 4,000 draws is within 0.035 of them in all but one case of 10,000."""
    language = make_language(3)
    found = draw(Random(temperature=temperature, top_k=top_k, top_p=top_p, n=DRAWS, seed=5), language, 1)
    drawn = np.stack([(found.ids[:, :, 0] == v).mean(axis=1) for v in range(4)], axis=1)
    want = shares_of_the_first_token(language, temperature, top_k, top_p)
    np.testing.assert_allclose(drawn, want, atol=0.035)
    assert not np.any(drawn[want == 0])


def test_the_second_token_is_drawn_anew():
    found = draw(Random(n=DRAWS), make_language(3, end_bias=-20), 2)
    first, second = found.ids[0, :, 0], found.ids[0, :, 1]
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) > 4


def test_a_score_is_the_models_log_probability_of_the_sequence():
    """Oracle: the sequence followed in float64; temperature and cuts do not enter it."""
    language = make_language(4)
    found = draw(Random(temperature=3.0, top_k=3, n=20), language, 6)
    for row, k in np.ndindex(3, 20):
        length = found.lengths[row, k]
        ids = found.ids[row, k]
        assert not np.any(ids[length:]) and END not in ids[: length - 1]
        total, looks = oracle_follow(language, row, ids[:length].tolist())
        np.testing.assert_allclose(found.log_probs[row, k], total, rtol=1e-4)
        np.testing.assert_allclose(found.alignments[row, k, :length], looks, atol=1e-5)
        assert not np.any(found.alignments[row, k, length:])
    np.testing.assert_array_equal(found.scores, found.log_probs)


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_of_one_token_to_draw_from_it_is_greedy(cut):
    language = make_language(5)
    for got, want in zip(draw(Random(**cut), language, 5), draw(Greedy(), language, 5), strict=True):
        np.testing.assert_array_equal(got, want)


def test_one_seed_is_one_draw():
    language = make_language(6)
    one, same, other = (draw(Random(n=8, seed=seed), language, 5).ids for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    given = [draw(Random(n=8, seed=1), language, 5, seed=tf.constant(seed)).ids for seed in ([0, 1], [7, 1])]
    np.testing.assert_array_equal(given[0], one)
    assert not np.array_equal(given[1], one)


def test_a_seed_may_be_as_large_as_that_of_a_config():
    language, seeds = make_language(3), (0, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
    draws = [draw(Random(n=8, seed=seed), language, 5).ids.tobytes() for seed in seeds]
    assert len(set(draws)) == len(seeds)
    assert draw(Random(n=8), language, 5, seed=tf.constant([0, 2**31 - 1])).ids.tobytes() == draws[1]


def test_compiled_draws_anew_with_each_seed():
    language = make_language(6)

    def encode(rows):
        return tf.nest.map_structure(lambda x: tf.gather(x, rows), start_of(language))

    sample = compiled(Random(n=8), encode, step_of(language), start=START, end=END, max_length=5)
    for seed in ([0, 1], [7, 1]):
        found = sample(tf.range(3), seed=seed)
        np.testing.assert_array_equal(found.ids, draw(Random(n=8), language, 5, seed=tf.constant(seed)).ids)


def test_the_draws_of_successive_seeds_are_not_shifted_against_each_other():
    language = make_language(6, end_bias=-20)._replace(looks=np.zeros((5, 3), "float32"))
    still = language._replace(recurrent=np.zeros((5, 5), "float32"), words=np.zeros((4, 5), "float32"))
    one, other = (draw(Random(n=20), still, 8, seed=tf.constant([k, 1])).ids for k in (0, 1))
    assert not np.array_equal(one[:, :, 1:], other[:, :, :-1])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_it_runs_compiled(jit_compile):
    """A graph draws what is drawn eagerly; XLA draws with a generator of its own, with the same probabilities."""
    language = make_language(3)
    sampler = Random(top_k=3, n=DRAWS)
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def compiled(states, memory):
        return sampler(step_of(language), states, memory, start=START, end=END, max_length=2)

    found, want = compiled(states, memory), draw(sampler, language, 2)
    if not jit_compile:
        np.testing.assert_array_equal(found.ids, want.ids)
        np.testing.assert_allclose(found.scores, want.scores, rtol=1e-5)
    drawn = np.stack([np.mean(found.ids[:, :, 0] == v, axis=1) for v in range(4)], axis=1)
    np.testing.assert_allclose(drawn, shares_of_the_first_token(language, 1.0, 3, 1.0), atol=0.035)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature must be positive, got 0"),
        ({"top_k": -1}, "top_k must be a whole number of at least 0, got -1"),
        ({"top_p": 0}, "top_p must be more than 0 and at most 1, got 0"),
        ({"top_p": 1.5}, "top_p must be more than 0 and at most 1, got 1.5"),
        ({"top_k": 2.5}, "top_k must be a whole number of at least 0, got 2.5"),
        ({"seed": None}, "seed must be a whole number of at least 0, got None"),
        ({"n": 0}, "n must be a positive whole number, got 0"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Random(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["eager", "graph"])
def test_a_row_with_a_seed_of_its_own_is_drawn_alike_whatever_is_beside_it(how):
    """Each row alone, and all together in another order; and another seed draws something else."""
    language, sampler = make_language(4), Random(n=3)
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    rows = tf.shape(states[0])[0]

    def sample(order, seed):
        begin, read = tf.nest.map_structure(lambda x: tf.gather(x, order), (states, memory))
        return sampler(step_of(language), begin, read, start=START, end=END, max_length=6, seed=seed)

    sample = tf.function(sample, autograph=False) if how == "graph" else sample
    seeds = tf.stack([tf.range(rows) + 7, tf.zeros_like(tf.range(rows))], axis=1)
    whole = sample(tf.range(rows), seeds)
    turned = sample(tf.range(rows)[::-1], seeds[::-1])
    np.testing.assert_array_equal(turned.ids, whole.ids[::-1])
    for row in range(int(rows)):
        alone = sample(tf.constant([row]), seeds[row : row + 1])
        np.testing.assert_array_equal(alone.ids[0], whole.ids[row])
    assert not np.array_equal(sample(tf.range(rows), seeds + 1).ids, whole.ids)
    assert len({tuple(ids) for ids in whole.ids[0].numpy().tolist()}) > 1


def test_rows_with_seeds_of_their_own_are_drawn_with_their_probabilities():
    """Oracle: the exact shares, of 4,000 rows that differ in their seeds alone."""
    language = make_language(3)
    states, memory = tf.nest.map_structure(lambda x: tf.repeat(x[:1], DRAWS, axis=0), start_of(language))
    seed = np.stack([np.arange(DRAWS), np.zeros(DRAWS)], axis=1).astype("int32")
    sample = tf.function(
        functools.partial(Random(), step_of(language), start=START, end=END, max_length=1), autograph=False
    )
    found = sample(states, memory, seed=tf.constant(seed))
    drawn = np.array([(found.ids[:, 0, 0].numpy() == v).mean() for v in range(4)])
    np.testing.assert_allclose(drawn, shares_of_the_first_token(language, 1.0, 0, 1.0)[0], atol=0.035)


def test_the_largest_length_may_be_a_tensor():
    language = make_language(3, end_bias=-20)
    fixed, found = (draw(Random(seed=2), language, n) for n in (5, tf.constant(5)))
    np.testing.assert_array_equal(found.ids, fixed.ids)
    assert found.ids.shape[-1] == 5


@pytest.mark.parametrize("seed", [[3, 4], [[3, 4], [5, 6]]], ids=["one", "a row"])
def test_equal_tokens_are_drawn_anew_at_each_step(seed):
    """By chance: the 20 draws of a row are all the same one time in 4^19."""

    def step(tokens, states, memory):
        logits = tf.where(tf.range(6) == END, -1e9, tf.zeros([2, 6]))
        return logits, states, tf.ones([2, 1])

    found = Random()(step, [tf.zeros(2)], tf.zeros(2), start=START, end=END, max_length=20, seed=tf.constant(seed))
    assert all(len(set(row)) > 1 for row in found.ids[:, 0].numpy().tolist())
