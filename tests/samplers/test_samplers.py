"""The samplers on toy languages, against enumeration and against beam search over Python lists.

A language is a recurrence with random tables. Its state holds a summary of the words so far and their number; the
alignments follow from the state, and the memory shifts the logits of each row.
"""

import functools
import itertools
import re
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from kseq.layers import ATTENTIONS, CELLS, DECODERS, DenseBridge
from kseq.models import ImageEncoder, Seq2Seq
from kseq.samplers import Beam, Greedy, Hypotheses, compiled
from kseq.samplers.hypotheses import Hypotheses as DefinedHypotheses

START, END = 1, 2
SOURCE = 3


class Language(NamedTuple):
    words: np.ndarray  # [vocabulary, d]
    recurrent: np.ndarray  # [d, d]
    clock: np.ndarray  # [vocabulary], what a step adds to the logits
    logits: np.ndarray  # [d, vocabulary]
    looks: np.ndarray  # [d, source]
    shifts: np.ndarray  # [batch, vocabulary], memory
    keys: np.ndarray  # [batch, source], memory


def make_language(seed, batch=3, vocabulary=4, end_bias=0.0):
    rng = np.random.default_rng(seed)
    shapes = [(vocabulary, 5), (5, 5), (vocabulary,), (5, vocabulary), (5, SOURCE), (batch, vocabulary)]
    tables = [rng.normal(size=shape).astype("float32") for shape in (*shapes, (batch, SOURCE))]
    language = Language(*tables)
    language.shifts[:, END] += end_bias
    return language


def start_of(language):
    batch = len(language.shifts)
    return [tf.zeros([batch, 5]), tf.zeros([batch], tf.int32)], {"shifts": language.shifts, "keys": [language.keys]}


def step_of(language):
    words, recurrent, clock, logits, looks, _, _ = language

    def step(tokens, states, memory):
        h, count = states
        h = tf.tanh(tf.gather(words, tokens) + h @ recurrent)
        count += 1
        scores = 2 * h @ logits + 0.3 * tf.cast(count, tf.float32)[:, None] * clock + memory["shifts"]
        return scores, [h, count], tf.nn.softmax(3 * h @ looks + memory["keys"][0])

    return step


def sample(sampler, language, max_length, rows=slice(None)):
    states, memory = tf.nest.map_structure(lambda x: tf.constant(x)[rows], start_of(language))
    found = sampler(step_of(language), states, memory, start=START, end=END, max_length=max_length)
    return Hypotheses(*map(np.asarray, found))


def oracle_step(language, row, token, h, count):
    """Log-probabilities `[vocabulary]`, h, count and alignment `[source]` after one token, in float64."""
    words, recurrent, clock, logits, looks, shifts, keys = (x.astype(float) for x in language)
    h = np.tanh(words[token] + h @ recurrent)
    count += 1
    scores = 2 * h @ logits + 0.3 * count * clock + shifts[row]
    alignment = np.exp(3 * h @ looks + keys[row])
    return scores - np.log(np.exp(scores).sum()), h, count, alignment / alignment.sum()


def oracle_follow(language, row, ids):
    """The log-probability of a sequence, and the alignment at each of its steps."""
    token, h, count, total, looks = START, np.zeros(5), 0, 0.0, []
    for after in ids:
        log_probs, h, count, look = oracle_step(language, row, token, h, count)
        total += log_probs[after]
        looks.append(look)
        token = after
    return total, np.array(looks)


def penalty(length, exponent):
    return ((5 + length) / 6) ** exponent


def coverage(looks):
    """Σ_i log min(Σ_j p_ij, 1) over the positions that are attended to at all."""
    covered = np.sum(looks, axis=0)
    return np.log(np.minimum(covered[covered > 0], 1)).sum()


def score_of(language, row, ids, exponent, beta):
    total, looks = oracle_follow(language, row, ids)
    return total / penalty(len(ids), exponent) + beta * coverage(looks)


def enumerate_all(language, row, max_length, exponent, beta=0.0):
    """(score, ids) of every sequence, best first, those without an end behind those with one."""
    vocabulary = language.shifts.shape[1]
    others = [v for v in range(vocabulary) if v != END]
    ended = [(*ids, END) for n in range(max_length) for ids in itertools.product(others, repeat=n)]
    cut = list(itertools.product(others, repeat=max_length))
    found = []
    for group in (ended, cut):
        scored = [(score_of(language, row, ids, exponent, beta), ids) for ids in group]
        found += sorted(scored, reverse=True)
    return found


def beam_over_lists(language, row, width, max_length, exponent, n_best, beta=0.0):
    """(score, ids), best first: the beam search that the docstring describes, for one row, over lists."""
    prefixes, finished = [(0.0, (), START, np.zeros(5), 0)], []
    for length in range(1, max_length + 1):
        after = []
        for total, ids, *state in prefixes:
            log_probs, h, count, _ = oracle_step(language, row, *state)
            after += [(total + log_probs[v], (*ids, v), v, h, count) for v in range(len(log_probs))]
        after.sort(key=lambda prefix: -prefix[0])
        finished += [(score_of(language, row, ids, exponent, beta), ids) for _, ids, v, *_ in after[:width] if v == END]
        finished = sorted(finished, reverse=True)[:width]
        prefixes = [prefix for prefix in after if prefix[2] != END][:width]
        reachable = [prefixes[0][0] / penalty(n, exponent) for n in (max_length, length + 1)]
        if len(finished) >= n_best and finished[n_best - 1][0] >= reachable[len(finished) == width]:
            break
    unfinished = [(score_of(language, row, ids, exponent, beta), ids) for _, ids, *_ in prefixes]
    return (finished + sorted(unfinished, reverse=True))[:n_best]


def sequence(found, row, n=0):
    return tuple(int(i) for i in found.ids[row, n, : found.lengths[row, n]])


def assert_same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    for name in ("log_probs", "scores", "alignments"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5, err_msg=name)


def assert_true_to(language, found, exponent, beta=0.0):
    """Each hypothesis against the language: log-probability, score, alignments, and zeros after the end."""
    batch, n_best, max_length = found.ids.shape
    assert found.ids.dtype == found.lengths.dtype == np.int32
    assert found.alignments.shape == (batch, n_best, max_length, SOURCE)
    for row, n in np.ndindex(batch, n_best):
        ids = sequence(found, row, n)
        total, looks = oracle_follow(language, row, ids)
        assert END not in ids[:-1] and (ids[-1] == END or len(ids) == max_length)
        assert not found.ids[row, n, len(ids) :].any() and not found.alignments[row, n, len(ids) :].any()
        np.testing.assert_allclose(found.log_probs[row, n], total, rtol=1e-5)
        np.testing.assert_allclose(found.scores[row, n], score_of(language, row, ids, exponent, beta), rtol=1e-5)
        np.testing.assert_allclose(found.alignments[row, n, : len(ids)], looks, atol=1e-5)


@pytest.mark.parametrize("exponent, beta", [(0.0, 0.0), (0.6, 0.0), (1.0, 0.0), (0.0, 0.2), (0.6, 2.0), (1.0, 0.7)])
@pytest.mark.parametrize(
    "vocabulary, max_length, more, n_best", [(4, 3, 0, 1), (4, 3, 0, 40), (3, 4, 3, 7), (3, 1, 2, 3)]
)
def test_wide_beam_finds_the_best_of_all_sequences(vocabulary, max_length, more, n_best, exponent, beta):
    """Oracle: enumeration of every sequence, those that meet max_length behind those that end."""
    language = make_language(seed=vocabulary + max_length, vocabulary=vocabulary)
    width = len(enumerate_all(language, 0, max_length, exponent))
    beam = Beam(width + more, length_penalty=exponent, coverage_penalty=beta, n_best=n_best)
    found = sample(beam, language, max_length)
    for row in range(3):
        best = enumerate_all(language, row, max_length, exponent, beta)[:n_best]
        assert [sequence(found, row, n) for n in range(n_best)] == [ids for _, ids in best]
        np.testing.assert_allclose(found.scores[row], [score for score, _ in best], rtol=1e-5)
    assert_true_to(language, found, exponent, beta)


@pytest.mark.parametrize(
    "width, n_best, exponent, beta",
    [(2, 1, 0.0, 0.0), (2, 2, 1.0, 0.0), (3, 2, 0.6, 0.0), (5, 5, 1.5, 0.0), (2, 1, 0.0, 0.5), (4, 4, 1.0, 3.0)],
)
def test_narrow_beam_is_the_search_over_lists(width, n_best, exponent, beta):
    """Oracle: the same search for one row at a time, over Python lists."""
    for seed in range(4):
        language = make_language(seed, vocabulary=5, end_bias=-1.0)
        beam = Beam(width, length_penalty=exponent, coverage_penalty=beta, n_best=n_best)
        found = sample(beam, language, max_length=6)
        for row in range(3):
            expected = beam_over_lists(language, row, width, 6, exponent, n_best, beta)
            assert [sequence(found, row, n) for n in range(n_best)] == [ids for _, ids in expected]
            np.testing.assert_allclose(found.scores[row], [score for score, _ in expected], rtol=1e-5)
        assert_true_to(language, found, exponent, beta)


@pytest.mark.slow
@pytest.mark.parametrize("end_bias", [-3.0, 0.0, 1.0])
def test_width_1_is_greedy(end_bias):
    """Oracle of greedy: the likeliest word at each step, in NumPy."""
    for seed in range(4):
        language = make_language(seed, batch=8, vocabulary=6, end_bias=end_bias)
        greedy = sample(Greedy(), language, max_length=7)
        assert_same(sample(Beam(1), language, max_length=7), greedy)
        assert_true_to(language, greedy, exponent=0)
        for row in range(8):
            ids, state = [], (START, np.zeros(5), 0)
            while len(ids) < 7 and END not in ids:
                log_probs, h, count, _ = oracle_step(language, row, *state)
                ids.append(int(np.argmax(log_probs)))
                state = (ids[-1], h, count)
            assert sequence(greedy, row) == tuple(ids)


def test_width_1_with_a_penalty_ranks_nothing_but_scores():
    language = make_language(seed=0)
    greedy, beam = sample(Greedy(), language, 5), sample(Beam(1, length_penalty=0.8), language, 5)
    np.testing.assert_allclose(beam.scores, greedy.scores / penalty(greedy.lengths, 0.8), rtol=1e-5)
    np.testing.assert_array_equal(beam.ids, greedy.ids)


def stopping_step(tokens, states, memory):
    """Ends with p = 0.55 at once; goes on by word 3, after which the end has p = 0.8102."""
    first, later = np.log([1e-9, 1e-9, 0.55, 0.45]), np.log([1e-9, 1e-9, 0.8102, 0.1898])
    begun = tf.equal(tokens, START)[:, None]
    return tf.where(begun, tf.constant(first, tf.float32), tf.constant(later, tf.float32)), states, memory


@pytest.mark.parametrize("sampler", [Greedy(), Beam(1), Beam(2), Beam(4)], ids=["greedy", "1", "2", "4"])
def test_stopping_at_once_is_not_charged_for_later_steps(sampler):
    """By hand: log 0.55 = −0.598 beats log(0.45 · 0.8102) = −1.009."""
    found = sampler(stopping_step, [tf.zeros([1, 1])], tf.ones([1, 1]), start=START, end=END, max_length=6)
    assert found.ids.numpy().tolist() == [[[END, 0, 0, 0, 0, 0]]]
    np.testing.assert_allclose(found.log_probs, [[-0.598]], atol=1e-3)


def test_the_longer_answer_stands_second():
    found = Beam(3, n_best=2)(stopping_step, [tf.zeros([1, 1])], tf.ones([1, 1]), start=START, end=END, max_length=6)
    assert found.ids.numpy().tolist() == [[[END, 0, 0, 0, 0, 0], [3, END, 0, 0, 0, 0]]]
    np.testing.assert_allclose(found.log_probs, [[-0.598, -1.009]], atol=1e-3)
    assert found.lengths.numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize("exponent, length, score", [(0.0, 1, np.log(0.3)), (1.0, 9, np.log(0.2) / (14 / 6))])
def test_search_goes_on_while_the_penalty_may_still_favour_a_longer_answer(exponent, length, score):
    """By hand: the end has p = 0.3 at once; after word 3, p = 0.2, all is certain: eight words, then the end."""
    table = np.full((10, 6), 1e-9, "float32")
    table[0] = [0.16, 0.16, 0.3, 0.2, 0.1, 0.08]
    table[1:8, 3] = table[8, END] = table[9, 3] = 1.0

    def step(tokens, states, memory):
        return tf.gather(np.log(table), states[0]), [states[0] + 1], memory

    found = Beam(2, length_penalty=exponent)(
        step, [tf.zeros([1], tf.int32)], tf.ones([1, 1]), start=START, end=END, max_length=10
    )
    assert found.lengths.numpy().tolist() == [[length]]
    np.testing.assert_allclose(found.scores, [[score]], rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_unlikely_ends_do_not_stop_a_likelier_answer(exponent):
    """By hand: after each of five words the end has p = 0.1, and then it is certain: 0.8⁵ = 0.33 beats 0.1 and 0.08."""
    table = np.full((6, 6), 1e-9, "float32")
    table[:5, [END, 3, 4]] = [0.1, 0.8, 0.1]
    table[5, END] = 1.0

    def step(tokens, states, memory):
        return tf.gather(np.log(table), states[0]), [states[0] + 1], memory

    found = Beam(2, length_penalty=exponent)(
        step, [tf.zeros([1], tf.int32)], tf.ones([1, 1]), start=START, end=END, max_length=6
    )
    assert found.ids.numpy().tolist() == [[[3, 3, 3, 3, 3, END]]]
    np.testing.assert_allclose(found.log_probs, [[5 * np.log(0.8)]], rtol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [
        Greedy(),
        Beam(2),
        Beam(3, length_penalty=1.0, n_best=2),
        Beam(4, length_penalty=2.0, coverage_penalty=1.0, n_best=4),
    ],
    ids=["greedy", "2", "3", "4"],
)
def test_a_row_is_the_same_alone_and_among_others(sampler):
    """Rows that end at once stand beside rows that never end."""
    language = make_language(seed=1, batch=4, vocabulary=5)
    language.shifts[:, END] += [6.0, 0.0, -2.0, -30.0]
    together = sample(sampler, language, max_length=9)
    assert together.lengths[0].min() < 9 and (together.lengths[3] == 9).all()
    for row in range(4):
        alone = sample(sampler, language, max_length=9, rows=slice(row, row + 1))
        assert_same(Hypotheses(*(x[row : row + 1] for x in together)), alone)


def test_a_row_that_never_ends_is_returned_unfinished():
    language = make_language(seed=2)
    language.shifts[:, END] -= 40
    for found in (sample(Greedy(), language, 4), sample(Beam(3, length_penalty=0.6, n_best=2), language, 4)):
        assert (found.lengths == 4).all() and not (found.ids == END).any()
        assert_true_to(language, found, exponent=0.6 if found.ids.shape[1] == 2 else 0)


def test_unfinished_stand_behind_finished_ones_of_a_worse_score():
    language = make_language(seed=1, batch=6)
    found = sample(Beam(4, n_best=4, length_penalty=1.0), language, max_length=3)
    ended = (found.ids == END).any(-1)
    assert (np.diff(ended.astype(int), axis=1) <= 0).all() and (ended[:, 0] & ~ended[:, -1]).any()
    worst = np.where(ended, found.scores, np.inf).min(1)
    assert (np.where(ended, -np.inf, found.scores).max(1) > worst).any(), "no case in this language"
    for row, group in itertools.product(range(6), (True, False)):
        scores = found.scores[row][ended[row] == group]
        assert (np.diff(scores) <= 0).all()


@functools.cache
def eager(width):
    sampler = Beam(width, length_penalty=0.6, coverage_penalty=0.2, n_best=width) if width else Greedy()
    return sampler, sample(sampler, make_language(seed=5, end_bias=0.5), max_length=6)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0, 3], ids=["greedy", "beam"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_equal_eager(width, jit_compile):
    language = make_language(seed=5, end_bias=0.5)
    sampler, expected = eager(width)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(states, memory):
        return sampler(step_of(language), states, memory, start=START, end=END, max_length=6)

    assert_same(Hypotheses(*map(np.asarray, run(*start_of(language)))), expected)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Greedy(), Beam(3, n_best=2)], ids=["greedy", "beam"])
@pytest.mark.parametrize("forbidden", [(), (0, START, 3)])
def test_compiled_never_generates_what_is_forbidden(sampler, forbidden):
    """Oracle: the same language, in which these words are impossible."""
    language = make_language(seed=8, batch=5, vocabulary=6, end_bias=-1.0)
    language.shifts[:, [0, START, 3]] += 3
    without = language._replace(shifts=language.shifts.copy())
    without.shifts[:, list(forbidden)] = -1e9

    def encode(rows):
        return tf.nest.map_structure(lambda x: tf.gather(x, rows), start_of(language))

    run = compiled(sampler, encode, step_of(language), start=START, end=END, max_length=5, forbidden=forbidden)
    found = Hypotheses(*map(np.asarray, run(tf.range(5))))
    for row, n in np.ndindex(found.lengths.shape):
        assert not set(sequence(found, row, n)) & set(forbidden)
    assert_same(found, sample(sampler, without, max_length=5))
    assert_same(Hypotheses(*(x[3:] for x in found)), Hypotheses(*map(np.asarray, run(tf.range(3, 5)))))


def test_forbidding_changes_this_language():
    language = make_language(seed=8, batch=5, vocabulary=6, end_bias=-1.0)
    language.shifts[:, [0, START, 3]] += 3
    found = sample(Greedy(), language, max_length=5)
    assert {0, START, 3} & {word for row in range(5) for word in sequence(found, row)}


@pytest.mark.parametrize(
    "required", [None, [[[5, 3], [0, 0]], [[0, 0], [0, 0]], [[6, 0], [4, 0]]]], ids=["", "required"]
)
@pytest.mark.parametrize("decoder", ["bahdanau", "luong"])
def test_log_probability_is_that_of_the_model_under_its_own_words(decoder, required):
    """Oracle: `Seq2Seq.call` on the generated words, teacher forced."""
    rng = np.random.default_rng(0)
    cell = CELLS["lstm"](6)
    model = Seq2Seq(
        ImageEncoder(None, 5),
        DenseBridge(cell.state_size),
        DECODERS[decoder](cell, ATTENTIONS["bahdanau"](4)),
        7,
        embedding_size=3,
    )
    source = rng.normal(size=(3, 4, 8)).astype("float32")
    model({"source": source, "tokens": np.ones((1, 1), "int32")})
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    found = Beam(3, length_penalty=1.0, n_best=2)(
        model.step, *model.encode(tf.constant(source)), start=START, end=END, max_length=5, required=required
    )
    for n in range(2):
        ids = found.ids[:, n].numpy()
        tokens = np.concatenate([np.full((3, 1), START), ids[:, :-1]], 1)
        logits = model({"source": source, "tokens": tokens})
        each = np.take_along_axis(tf.nn.log_softmax(logits).numpy(), ids[..., None], -1)[..., 0]
        real = np.arange(5) < found.lengths[:, n].numpy()[:, None]
        np.testing.assert_allclose(found.log_probs[:, n], (each * real).sum(1), rtol=1e-4)


def test_half_precision_logits_are_summed_in_float32():
    language = make_language(seed=3)
    step = step_of(language)

    def half(tokens, states, memory):
        logits, states, alignment = step(tokens, states, memory)
        return tf.cast(logits, tf.float16), states, tf.cast(alignment, tf.float16)

    for sampler in (Greedy(), Beam(2)):
        found = sampler(half, *start_of(language), start=START, end=END, max_length=4)
        assert found.log_probs.dtype == found.alignments.dtype == tf.float32
        np.testing.assert_allclose(found.log_probs, sample(sampler, language, 4).log_probs, atol=1e-2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"width": 0}, "width must be a positive whole number, got 0"),
        ({"width": 2.0}, "width must be a positive whole number, got 2.0"),
        ({"width": 3, "n_best": 4}, "n_best must be at most the width, 3, got 4"),
        ({"width": 3, "n_best": 0}, "n_best must be a positive whole number, got 0"),
        ({"width": 3, "length_penalty": -0.5}, "length_penalty must not be negative, got -0.5"),
        ({"width": 3, "coverage_penalty": -0.5}, "coverage_penalty must not be negative, got -0.5"),
    ],
)
def test_bad_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Beam(**arguments)


def test_hypotheses_are_exported():
    assert Hypotheses is DefinedHypotheses
