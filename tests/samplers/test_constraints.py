"""Rules and ensembles on the toy languages of `test_samplers`, against all sequences that the rules leave."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import Beam, Constraints, Greedy, Hypotheses, Random, ensemble
from samplers.test_samplers import END, START, make_language, oracle_step, start_of, step_of

LENGTH = 4

RULES = {
    "forbidden": {"forbidden": (0,)},
    "min_length": {"min_length": 3},
    "no_repeat_1": {"no_repeat": 1},
    "no_repeat_2": {"no_repeat": 2},
    "dead_end": {"forbidden": (0,), "no_repeat": 1, "min_length": 4},
    "prefix": {"prefix": np.array([[3, 3], [0, 0], [1, 0]])},
    "all": {"forbidden": (0,), "min_length": 4, "no_repeat": 2, "prefix": np.array([[1, 3], [3, 0], [3, 3]])},
}


def run(sampler, language, *, jit_compile=None, **rules):
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))

    def sample(states, memory):
        prefix = rules.get("prefix")
        constrain = Constraints(**{name: rule for name, rule in rules.items() if name != "prefix"})
        step, states = constrain(step_of(language), states, end=END, max_length=LENGTH, prefix=prefix)
        return sampler(step, states, memory, start=START, end=END, max_length=LENGTH)

    if jit_compile is not None:
        sample = tf.function(sample, jit_compile=jit_compile, autograph=False)
    return Hypotheses(*map(np.asarray, sample(states, memory)))


def allowed(ids, vocabulary, row, forbidden=(), min_length=0, no_repeat=0, prefix=None):
    """The tokens that may follow a prefix."""
    given = [] if prefix is None else [int(v) for v in prefix[row] if v]
    if len(ids) < len(given):
        return [given[len(ids)]]
    runs = [ids[i : i + no_repeat] for i in range(len(ids) - no_repeat + 1)] if no_repeat else []
    return [
        v
        for v in range(vocabulary)
        if v not in forbidden
        and not (v == END and len(ids) + 1 < min_length)
        and (*ids[len(ids) - no_repeat + 1 :], v)[-no_repeat or None :] not in (runs if len(ids) >= no_repeat else [])
    ]


def all_sequences(language, row, **rules):
    """(score, ids) of all that the rules leave, best first, those with an end before those without."""
    ended, cut, open_ = [], [], [(0.0, (), START, np.zeros(5), 0)]
    for _ in range(LENGTH):
        after = []
        for total, ids, *state in open_:
            log_probs, h, count, _ = oracle_step(language, row, *state)
            left = allowed(ids, len(log_probs), row, **rules) or [END]
            log_probs = log_probs - np.log(np.exp(log_probs[left]).sum())
            for v in left:
                longer = (total + log_probs[v], (*ids, v), v, h, count)
                (ended if v == END else after).append(longer)
        open_ = after
    cut = [(total, ids) for total, ids, *_ in open_]
    ended = [(total, ids) for total, ids, *_ in ended]
    return sorted(ended, reverse=True) + sorted(cut, reverse=True)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_that_the_rules_leave(name, seed):
    """Oracle: all sequences, one token after the other, by the rules in plain words."""
    language = make_language(seed)
    found = run(Beam(300, n_best=3), language, **RULES[name])
    for row in range(3):
        want = all_sequences(language, row, **RULES[name])
        for k, (score, ids) in enumerate(want[:3]):
            assert tuple(found.ids[row, k, : len(ids)]) == ids
            np.testing.assert_allclose(found.scores[row, k], score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [Greedy(), Beam(3), Random(n=50)], ids=["greedy", "beam", "random"])
def test_every_sampler_obeys(sampler):
    rules = {"forbidden": (0,), "min_length": 3, "no_repeat": 2, "prefix": np.array([[3, 0], [1, 1], [0, 0]])}
    found = run(sampler, make_language(5), **rules)
    for row, k in np.ndindex(found.lengths.shape):
        ids = tuple(int(v) for v in found.ids[row, k, : found.lengths[row, k]])
        for n, v in enumerate(ids):
            assert v in (allowed(ids[:n], 4, row, **rules) or [END])


def test_float16_logits_bear_the_rules():
    """All but one are forbidden; in float16 −1e9 would be −∞."""

    def step(tokens, states, memory):
        return tf.zeros((2, 4), tf.float16), states, tf.zeros((2, 3), tf.float16)

    step, states = Constraints(forbidden=(0, 1, 2, 3))(step, [tf.zeros((2, 1))], end=END, max_length=3)
    found = Greedy()(step, states, [], start=START, end=END, max_length=3)
    assert found.ids.numpy().tolist() == [[[END, 0, 0]]] * 2 and not np.any(found.scores)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_equal_eager(jit_compile):
    language, rules = make_language(2), RULES["all"]
    want = run(Beam(3), language, **rules)
    for got, expected in zip(run(Beam(3), language, jit_compile=jit_compile, **rules), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_without_rules_nothing_changes():
    language = make_language(1)
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    want = Beam(3)(step_of(language), states, memory, start=START, end=END, max_length=LENGTH)
    for got, expected in zip(run(Beam(3), language), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_an_ensemble_averages_log_probabilities():
    """Oracle: the mean of the two languages' own, for every sequence of two tokens."""
    languages = [make_language(8), make_language(9)]
    starts = [tf.nest.map_structure(tf.constant, start_of(language)) for language in languages]
    states, memory = [x for own, _ in starts for x in own], [read for _, read in starts]
    step = ensemble([step_of(language) for language in languages], [2, 2])
    found = Beam(64, n_best=10)(step, states, memory, start=START, end=END, max_length=2)
    for row in range(3):
        scores = {}
        for ids in itertools.product(range(4), repeat=2):
            state = [(START, np.zeros(5), 0)] * 2
            total = 0.0
            for v in ids[:1] if ids[0] == END else ids:
                steps = [oracle_step(language, row, *s) for language, s in zip(languages, state, strict=True)]
                mean = np.mean([log_probs for log_probs, *_ in steps], axis=0)
                total += mean[v] - np.log(np.exp(mean).sum())
                state = [(v, h, count) for _, h, count, _ in steps]
            if END in ids:
                scores[ids[: ids.index(END) + 1]] = total
        ordered = sorted(scores.items(), key=lambda pair: -pair[1])
        for k, (ids, score) in enumerate(ordered):
            assert tuple(found.ids[row, k, : len(ids)].numpy()) == ids
            np.testing.assert_allclose(found.scores[row, k], score, rtol=1e-4)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_length": 5}, "min_length must be at most max_length, 4, got 5"),
        ({"min_length": -1}, "min_length must be a whole number of at least 0, got -1"),
        ({"no_repeat": True}, "no_repeat must be a whole number of at least 0, got True"),
        ({"forbidden": [3, "the"]}, "forbidden must be a whole number of at least 0, got 'the'"),
        ({"no_repeat": -1}, "no_repeat must be a whole number of at least 0, got -1"),
    ],
)
def test_a_bad_rule_is_named(rules, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        run(Greedy(), make_language(0), **rules)


def test_an_ensemble_has_a_count_for_each_step():
    with pytest.raises(ValueError, match=r"^an ensemble needs as many counts of states as steps, got 2 and 1$"):
        ensemble([lambda *_: None], [1, 2])


def test_constraints_are_made_of_plain_options_and_give_them_back():
    options = {"forbidden": [0, 3], "min_length": 2, "no_repeat": 3}
    assert Constraints.from_config(options).get_config() == options | {"parallel": None}
