"""The rules of a parallel line on the toy languages of `test_samplers`, against all lines that the rules leave."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import Beam, Constraints, Greedy, Hypotheses, Parallel, Random
from samplers.test_samplers import END, START, make_language, oracle_step, start_of, step_of

WORDS, UNKNOWN = 8, 3
ABOVE = np.array([[4, 5, 4, 6], [5, 6, 0, 0], [7, 7, 4, 0]])
TONES, RHYMES = [0, 0, 0, 0, 1, 2, 1, 2], [0, 0, 0, 0, 1, 1, 2, 2]
FORBIDDEN = (0, 1, UNKNOWN)
LENGTH = 5

RULES = {
    "length": {},
    "mirror": {"mirror": True},
    "distinct": {"distinct": True},
    "opposed": {"opposed": [2, 4], "tones": TONES},
    "rhymes": {"rhymes": RHYMES},
    "mirror_opposed": {"mirror": True, "opposed": [3], "tones": TONES},
    "all": {"mirror": True, "distinct": True, "opposed": [2], "tones": TONES, "rhymes": RHYMES},
}


def language_of(seed):
    return make_language(seed, vocabulary=WORDS)


def run(sampler, language, *, above=ABOVE, max_length=LENGTH, jit_compile=None, prefix=None, **rules):
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    constrain = Constraints(forbidden=FORBIDDEN, parallel=Parallel(unknown=UNKNOWN, **rules))

    def sample(states, memory, above):
        options = {"end": END, "max_length": max_length, "prefix": prefix, "source": above}
        step, states = constrain(step_of(language), states, **options)
        return sampler(step, states, memory, start=START, end=END, max_length=max_length)

    if jit_compile is not None:
        sample = tf.function(sample, jit_compile=jit_compile, autograph=False)
    return Hypotheses(*map(np.asarray, sample(states, memory, tf.constant(above))))


def allowed(x, y, *, mirror=False, distinct=False, opposed=(), tones=None, rhymes=None):
    """The tokens that may follow y below the line x, each rule in plain words."""
    i = len(y)
    if i >= len(x):
        return [END]

    def same(a, b):
        return x[a] == x[b] and (a == b or x[a] != UNKNOWN)

    rules = []
    if mirror:
        rules.append(lambda v: all((v == y[j]) == same(i, j) for j in range(i)))
    if distinct:
        rules.append(lambda v: v != x[i])
    if tones and any(p <= len(x) and (same(i, p - 1) if mirror else i == p - 1) for p in opposed) and tones[x[i]]:
        rules.append(lambda v: {tones[v], tones[x[i]]} == {1, 2})
    if rhymes and i == len(x) - 1 and rhymes[x[i]]:
        rules.append(lambda v: rhymes[v] == rhymes[x[i]])
    left = [v for v in range(WORDS) if v not in (*FORBIDDEN, END)]
    for rule in rules:
        left = [v for v in left if rule(v)] or left
    return left


def all_lines(language, row, x, **rules):
    """(log-probability, ids) of every line that the rules leave, best first."""
    ended, open_ = [], [(0.0, (), START, np.zeros(5), 0)]
    while open_:
        after = []
        for total, ids, *state in open_:
            log_probs, h, count, _ = oracle_step(language, row, *state)
            left = allowed(x, ids, **rules)
            log_probs = log_probs - np.log(np.exp(log_probs[left]).sum())
            for v in left:
                (ended if v == END else after).append((total + log_probs[v], (*ids, v), v, h, count))
        open_ = after
    return sorted(((total, ids) for total, ids, *_ in ended), reverse=True)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(2))
def test_a_wide_beam_finds_the_best_lines_that_the_rules_leave(name, seed):
    """Oracle: all lines, one token after the other, by the rules in plain words."""
    language = language_of(seed)
    found = run(Beam(300, n_best=3), language, **RULES[name])
    for row, x in enumerate(ABOVE):
        x = [v for v in x if v]
        want = all_lines(language, row, x, **RULES[name])
        for k, (score, ids) in enumerate(want[:3]):
            assert tuple(found.ids[row, k, : len(ids)]) == ids and len(ids) == len(x) + 1
            np.testing.assert_allclose(found.scores[row, k], score, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [Greedy(), Beam(4, n_best=4), Random(n=60)], ids=["greedy", "beam", "random"])
@pytest.mark.parametrize("name", RULES)
def test_every_sampler_obeys(sampler, name):
    found = run(sampler, language_of(5), **RULES[name])
    for row, k in np.ndindex(found.lengths.shape):
        x, ids = [v for v in ABOVE[row] if v], found.ids[row, k].tolist()
        if found.scores[row, k] < -1e8:  # a beam that is wider than there are lines
            continue
        assert found.lengths[row, k] == len(x) + 1
        for n in range(len(x) + 1):
            assert ids[n] in allowed(x, ids[:n], **RULES[name])


def test_a_line_has_its_length_where_the_rules_contradict_each_other():
    """Six places that repeat nothing, for the four tokens that may be written."""
    above = np.array([[4, 5, 6, 7, 2, 1]] * 3)
    found = run(Greedy(), language_of(1), above=above, max_length=7, **RULES["all"])
    assert found.lengths.tolist() == [[7]] * 3 and set(found.ids[:, :, 6].ravel()) == {END}
    for row in found.ids[:, 0, :6].tolist():
        assert set(row) == {4, 5, 6, 7}


def test_unknown_tokens_of_the_line_above_repeat_nothing_and_an_empty_line_is_answered_by_one():
    above = np.array([[UNKNOWN, UNKNOWN, UNKNOWN], [0, 0, 0], [4, UNKNOWN, 4]])
    found = run(Random(n=40), language_of(2), above=above, mirror=True)
    assert all(len(set(ids[:3])) == 3 for ids in found.ids[0].tolist())
    assert found.ids[1].tolist() == [[END, 0, 0, 0, 0]] * 40
    assert all(a == c != b for a, b, c, *_ in found.ids[2].tolist())


def test_a_prefix_overrides_the_rules_and_not_the_length():
    prefix = np.array([[5, 4, 7, 7], [5, 5, 5, 5], [0, 0, 0, 0]])
    found = run(Greedy(), language_of(3), prefix=prefix, distinct=True, mirror=True)
    assert found.ids[0, 0, :4].tolist() == [5, 4, 7, 7] and found.ids[1, 0].tolist() == [5, 5, END, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_equal_eager(jit_compile):
    language = language_of(2)
    want = run(Beam(3), language, **RULES["all"])
    for got, expected in zip(run(Beam(3), language, jit_compile=jit_compile, **RULES["all"]), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"opposed": [0], "tones": [1]}, "opposed must be places from 1 on, got 0"),
        ({"opposed": [-2], "tones": [1]}, "opposed must be a whole number of at least 0, got -2"),
        (
            {"opposed": [2]},
            r"opposed=\[2\] needs tones, one number of at least 0 for each token of the vocabulary, 0 w",
        ),
        ({"tones": [0, 3]}, "tones must be 0, 1 or 2, got 3"),
        ({"rhymes": [-1]}, "rhymes must be a whole number of at least 0, got -1"),
        ({"unknown": -1}, "unknown must be a whole number of at least 0, got -1"),
    ],
)
def test_a_bad_rule_is_named(rules, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Parallel(**rules)


def test_a_parallel_line_needs_the_line_above():
    with pytest.raises(ValueError, match=r"^parallel needs the line above: give its ids as source$"):
        Constraints(parallel=Parallel())(None, [tf.zeros((1, 1))], end=END, max_length=3)


def test_the_rules_are_plain_options_and_give_them_back():
    options = RULES["all"] | {"unknown": 3}
    assert Parallel.from_config(options).get_config() == options
