"""Required words and phrases on the toy languages of `test_samplers`: against all sequences that contain them, and
against the same search over Python lists, which looks for the phrases in the words themselves.
"""

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import Beam, Constraints, Greedy, Hypotheses, compiled
from samplers.test_samplers import (
    END,
    START,
    assert_same,
    assert_true_to,
    enumerate_all,
    make_language,
    oracle_step,
    penalty,
    sequence,
    start_of,
    step_of,
)

# The phrases of each row of a batch. 0 cannot be required; 1 can, though it is also what opens a sequence.
PHRASES = {
    "word": [[(3,)], [(1,)], [(3,)]],
    "phrase": [[(1, 3)], [(3, 3)], [(3, 1, 1)]],
    "two": [[(3,), (1, 1)], [(1, 3), (3, 1)], [(1,), (3,)]],
    "overlapping": [[(1, 3), (3, 1)], [(1, 3), (1, 1)], [(3, 1, 3), (1, 3)]],
    "broken_off": [[(3, 3, 1)], [(1, 3, 1, 1)], [(3, 1, 3, 3)]],
    "ragged": [[], [(3,)], [(1,), (3, 3), (1,)]],
}


def padded(phrases, more=0):
    """int `[batch, phrases, length]`; empty phrases stand before and behind the others."""
    length = max((len(p) for row in phrases for p in row), default=0) + more
    count = max(map(len, phrases)) + more
    rows = np.zeros((len(phrases), count, length), int)
    for b, row in enumerate(phrases):
        for c, phrase in enumerate(row):
            rows[b, c + more // 2, : len(phrase)] = phrase
    return rows


def run(sampler, language, max_length, phrases, rows=slice(None)):
    states, memory = tf.nest.map_structure(lambda x: tf.constant(x)[rows], start_of(language))
    required = None if phrases is None else padded(phrases)[rows]
    found = sampler(step_of(language), states, memory, start=START, end=END, max_length=max_length, required=required)
    return Hypotheses(*map(np.asarray, found))


def contains(ids, phrase):
    return any(ids[i : i + len(phrase)] == phrase for i in range(len(ids) - len(phrase) + 1))


def begun(ids, phrase):
    """The most words that a sequence ends with and the phrase begins with."""
    return max(k for k in range(len(phrase)) if ids[len(ids) - k :] == phrase[:k])


def beam_over_lists(language, row, phrases, width, max_length, exponent):
    """(score, ids), best first: the beam search that the docstrings describe, for one row, over lists."""

    def bank(ids):
        lacking = [begun(ids, p) for p in phrases if not contains(ids, p)]
        return sum(len(p) for p in phrases if contains(ids, p)) + max(lacking, default=0)

    def allot(candidates):
        banks = {}
        for prefix in candidates:
            banks.setdefault(bank(prefix[1]), []).append(prefix)
        rounds = [(turn, -b, prefix) for b, group in banks.items() for turn, prefix in enumerate(group)]
        return [prefix for *_, prefix in sorted(rounds, key=lambda x: x[:2])][:width]

    prefixes, finished = [(0.0, (), START, np.zeros(5), 0)], []
    for length in range(1, max_length + 1):
        after = []
        for total, ids, *state in prefixes:
            log_probs, h, count, _ = oracle_step(language, row, *state)
            lacking = [p for p in phrases if not contains(ids, p)]
            likely = [v for v in np.argsort(-log_probs) if v != END or not lacking][: width + 1]
            candidates = {*likely, *(p[begun(ids, p)] for p in lacking)}
            after += [(total + log_probs[v], (*ids, int(v)), v, h, count) for v in candidates]
        after.sort(key=lambda prefix: -prefix[0])
        finished += [(prefix[0] / penalty(length, exponent), prefix[1]) for prefix in allot(after) if prefix[2] == END]
        finished = sorted(finished, reverse=True)[:width]
        prefixes = sorted(allot([prefix for prefix in after if prefix[2] != END]), key=lambda prefix: -prefix[0])
        reachable = [prefixes[0][0] / penalty(n, exponent) for n in (max_length, length + 1)]
        if finished and finished[0][0] >= reachable[len(finished) == width]:
            break
    unfinished = [(prefix[0] / penalty(length, exponent), prefix[1]) for prefix in prefixes]
    unfinished.sort(key=lambda found: not all(contains(found[1], p) for p in phrases))
    return finished + unfinished


@pytest.mark.parametrize(
    "name, exponent, beta",
    [
        pytest.param(name, *penalties, marks=[] if i % 3 == k else pytest.mark.slow)
        for i, name in enumerate(PHRASES)
        for k, penalties in enumerate([(0.0, 0.0), (1.0, 0.0), (0.6, 0.3)])
    ],
)
def test_a_wide_beam_finds_the_best_of_all_that_contain_the_phrases(name, exponent, beta):
    """Oracle: enumeration; behind what ends comes what does not, and last what lacks a phrase."""
    language = make_language(seed=len(name))
    beam = Beam(364, length_penalty=exponent, coverage_penalty=beta, n_best=40)
    found = run(beam, language, 5, PHRASES[name])
    for row, phrases in enumerate(PHRASES[name]):
        every = enumerate_all(language, row, 5, exponent, beta)
        whole = [all(contains(ids, p) for p in phrases) for _, ids in every]
        best = [e for e, ok in zip(every, whole, strict=True) if ok]
        best += [e for e, ok in zip(every, whole, strict=True) if not ok and END not in e[1]]
        assert [sequence(found, row, n) for n in range(40)] == [ids for _, ids in best[:40]]
        np.testing.assert_allclose(found.scores[row], [score for score, _ in best[:40]], rtol=1e-5)
    assert_true_to(language, found, exponent, beta)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
MORE = [
    [[(4,), (1, 3)], [(3, 4, 3, 5)], []],
    [[(3, 1, 3, 5), (1, 3)], [(4, 4), (4, 5), (4,)], [(5, 5, 4, 5, 5, 3)]],
]


@pytest.mark.parametrize("phrases", MORE, ids=["few", "many"])
@pytest.mark.parametrize("width, exponent", [(1, 0.0), (2, 1.0), (3, 0.6), (6, 1.5)])
@pytest.mark.parametrize("seed", SEEDS)
def test_narrow_beam_is_the_search_over_lists(width, exponent, phrases, seed):
    """Oracle: the same search for one row at a time, over Python lists."""
    language = make_language(seed, vocabulary=6, end_bias=-1.0)
    found = run(Beam(width, length_penalty=exponent), language, 9, phrases)
    for row in range(3):
        expected = beam_over_lists(language, row, phrases[row], width, 9, exponent)
        assert sequence(found, row) == expected[0][1]
        np.testing.assert_allclose(found.scores[row, 0], expected[0][0], rtol=1e-5)
    assert_true_to(language, found, exponent)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_however_narrow_the_beam_the_phrases_are_said(width, seed):
    """Though the language likes to stop, and to say 3 for ever, with which two of the phrases begin."""
    phrases = [[(3, 1), (3, 4)], [(3, 3, 1, 3, 3, 5), (4,)], [(5, 4, 1), (4, 1, 5)]]
    language = make_language(seed, vocabulary=6, end_bias=4.0)
    language.shifts[:, 3] += 6
    found = run(Beam(width, n_best=width), language, 9, phrases)
    assert_true_to(language, found, exponent=0)
    for row, n in np.ndindex(3, width):
        ids = sequence(found, row, n)
        assert all(contains(ids, p) for p in phrases[row]) or (n > 0 and END not in ids)


@pytest.mark.parametrize("width", [1, 3])
def test_a_row_that_requires_nothing_is_found_as_without(width):
    language = make_language(seed=3, vocabulary=5)
    beam = Beam(width, length_penalty=0.6, n_best=width)
    plain = run(beam, language, 6, None)
    found = run(beam, language, 6, [[], [(3, 4)], []])
    for row in (0, 2):
        assert_same(*(Hypotheses(*(x[row : row + 1] for x in some)) for some in (found, plain)))
    for shape in [(3, 0, 0), (3, 0, 2), (3, 2, 0), (3, 2, 2)]:
        states, memory = start_of(language)
        given = {"start": START, "end": END, "max_length": 6, "required": np.zeros(shape, int)}
        assert_same(Hypotheses(*map(np.asarray, beam(step_of(language), states, memory, **given))), plain)


def test_a_row_is_the_same_alone_and_among_others():
    language = make_language(seed=2, vocabulary=5)
    phrases = [[(3,), (4, 1)], [], [(1, 1, 3)]]
    together = run(Beam(3, n_best=2), language, 7, phrases)
    for row in range(3):
        alone = run(Beam(3, n_best=2), language, 7, phrases, rows=slice(row, row + 1))
        assert_same(Hypotheses(*(x[row : row + 1] for x in together)), alone)


def test_padding_changes_nothing():
    language, phrases = make_language(seed=5, vocabulary=5), [[(3,)], [(4, 4), (1,)], [(3, 3)]]
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    given = {"start": START, "end": END, "max_length": 6, "required": padded(phrases, more=2)}
    found = Beam(3)(step_of(language), states, memory, **given)
    assert_same(Hypotheses(*map(np.asarray, found)), run(Beam(3), language, 6, phrases))


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_of_unknown_sizes_equals_eager(jit_compile):
    language = make_language(seed=5, vocabulary=5)
    beam = Beam(3, length_penalty=0.6, n_best=2)
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *np.shape(x)[1:]], x.dtype), start_of(language))

    @tf.function(
        jit_compile=jit_compile, input_signature=[*shapes, tf.TensorSpec([None, None, None], tf.int32)], autograph=False
    )
    def graph(states, memory, required):
        return beam(step_of(language), states, memory, start=START, end=END, max_length=6, required=required)

    phrases = [[(3,), (4, 1)], [], [(1, 3, 1)]]
    states, memory = tf.nest.map_structure(tf.constant, start_of(language))
    found = graph(states, memory, tf.constant(padded(phrases), tf.int32))
    assert_same(Hypotheses(*map(np.asarray, found)), run(beam, language, 6, phrases))


@pytest.mark.slow
def test_compiled_hands_it_on():
    """In one graph for any number of phrases, with other rules beside it."""
    language, traced = make_language(seed=8, batch=5, vocabulary=6), []

    def encode(rows):
        traced.append(tf.is_symbolic_tensor(rows))
        return tf.nest.map_structure(lambda x: tf.gather(x, rows), start_of(language))

    beam = Beam(3, n_best=2)
    rules = {"forbidden": (0,), "no_repeat": 1}
    given = {"start": START, "end": END, "max_length": 6}
    sample = compiled(beam, encode, step_of(language), **given, **rules)
    batches = [([0, 1], [[(3,)], [(4, 5)]]), ([2], [[(5, 3, 4)]]), ([4, 1, 0], [[(3,), (5,)], [], [(4, 1)]])]
    for rows, phrases in batches:
        found = Hypotheses(*map(np.asarray, sample(tf.constant(rows), required=padded(phrases))))
        states, memory = encode(rows)
        step, states = Constraints(**rules)(step_of(language), states, end=END, max_length=6)
        expected = beam(step, states, memory, **given, required=padded(phrases))
        assert_same(found, Hypotheses(*map(np.asarray, expected)))
        for row in range(len(rows)):
            ids = sequence(found, row)
            assert all(contains(ids, p) for p in phrases[row]) and 0 not in ids and len(set(ids)) == len(ids)
    graphs = sum(traced)
    sample(tf.constant([1, 2, 3, 4]), required=padded([[(3, 4, 5, 1)], [(3,)], [(5,), (4,), (3,), (1,)], []]))
    assert sum(traced) == graphs


def test_what_may_not_be_said_leaves_a_hypothesis_unfinished():
    language = make_language(seed=1, end_bias=8.0)
    states, memory = start_of(language)
    step, states = Constraints(forbidden=(3,))(step_of(language), states, end=END, max_length=4)
    phrases = [[(3,)], [(1,)], [(1, 3)]]
    found = Beam(3)(step, states, memory, start=START, end=END, max_length=4, required=padded(phrases))
    ids = found.ids.numpy()
    assert (ids == END).any(-1).ravel().tolist() == [False, True, False]
    assert (found.lengths.numpy().ravel() == 4).tolist()[::2] == [True, True] and not (ids == 3).any()


def test_greedy_takes_no_phrases():
    with pytest.raises(TypeError, match="required"):
        run(Greedy(), make_language(0), 3, [[(3,)]] * 3)


def test_phrases_have_three_dimensions():
    states, memory = start_of(make_language(0))
    message = r"^required must be \[batch, phrases, length\], got the shape \(3, 2\)$"
    with pytest.raises(ValueError, match=message):
        Beam(2)(
            step_of(make_language(0)),
            states,
            memory,
            start=START,
            end=END,
            max_length=3,
            required=np.ones((3, 2), int),
        )
