"""Tunes of events: what may follow what, how long they are, and the probability of what is drawn."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kseq.samplers import NoteRules, Random

KEYS, FIRST, END = 3, 3, 2
RELEASE, STRIKE, STEP = FIRST, FIRST + KEYS, FIRST + 2 * KEYS
SIZE = STEP + 1


def language(batch, seed=0):
    """A step whose logits depend on the last token and on the row."""
    rng = np.random.default_rng(seed)
    table = tf.constant(rng.normal(size=(batch, SIZE, SIZE)), tf.float32)

    def step(tokens, states, memory):
        return tf.gather(memory, tokens, batch_dims=1), [states[0] + 1], tf.ones([tf.shape(tokens)[0], 1])

    return step, [tf.zeros(batch)], table


def allowed(ids, steps, most, begun):
    """Oracle: the ids that may follow a beginning of a tune, one by one."""
    down, step, ended = set(), [], 0
    for event in ids:
        if event == STEP:
            step, ended = [], ended + 1
            continue
        step.append(event)
        if event < STRIKE:
            down.discard(event - RELEASE)
        else:
            down.add(event - STRIKE)
    if len(ids) < len(begun):
        return {begun[len(ids)]}
    if ended == steps + begun.count(STEP):
        return {END}
    if len(step) >= most - 1:
        return {STEP}
    releases = {RELEASE + key for key in down}
    return {event for event in (*releases, *range(STRIKE, STEP), STEP) if not step or event > max(step)}


def drawn(rules, lengths, beginning, *, graph=False, seed=0, n=1):
    step, states, memory = language(len(lengths))

    def sample():
        ruled, start = rules(step, states, end=END, lengths=lengths, beginning=beginning)
        longest = rules.longest(lengths, beginning)
        return Random(n=n, seed=seed)(ruled, start, memory, start=1, end=END, max_length=longest)

    return (tf.function(sample, autograph=False) if graph else sample)(), memory.numpy()


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("most", [32, 3])
def test_tunes_keep_the_rules_and_have_the_probability_that_these_leave(most, graph):
    """Oracle: each tune followed in NumPy, the ids that `allowed` leaves out removed."""
    lengths = [1, 4, 6]
    begun = [[], [STRIKE, STRIKE + 2, STEP, RELEASE + 2, STEP], [STEP]]
    beginning = np.array([row + [0] * (5 - len(row)) for row in begun], "int32")
    found, table = drawn(NoteRules(FIRST, KEYS, most=most), np.array(lengths), beginning, graph=graph, n=8)
    fullest, ids = 0, found.ids.numpy()
    for row, tunes in enumerate(ids):
        for tune, length, log_prob in zip(tunes, found.lengths[row], found.log_probs[row], strict=True):
            tune, total, before = tune[: int(length)].tolist(), 0.0, 1
            for i, event in enumerate(tune):
                may = allowed(tune[:i], lengths[row], most, begun[row])
                assert event in may
                logits = table[row, before].astype(float)
                total += logits[event] - np.log(sum(np.exp(logits[k]) for k in may))
                before = event
            assert tune[-1] == END and tune.count(STEP) == lengths[row] + begun[row].count(STEP)
            assert total == pytest.approx(float(log_prob), abs=1e-4)
            ends = [-1, *(i for i, event in enumerate(tune) if event == STEP)]
            fullest = max(fullest, *(b - a for a, b in itertools.pairwise(ends)))
    assert fullest > 3 if most > 3 else fullest == 3


def test_the_longest_tune_is_told_ahead():
    """By hand."""
    rules = NoteRules(FIRST, KEYS, most=5)
    assert rules.longest([2, 3], np.array([[STEP, STEP, STEP, STEP, STEP, STEP], [STRIKE, STEP, 0, 0, 0, 0]])) == 18
    assert rules.longest(np.zeros(0, int), np.zeros((0, 0), int)) == 1


def test_what_is_no_number_of_keys_is_told():
    for changes, name in (({"first": 0}, "first"), ({"keys": 0}, "keys"), ({"most": 0}, "most")):
        with pytest.raises(ValueError, match=f"{name} must be a positive whole number, got 0"):
            NoteRules(**{"first": 3, **changes})
    rules = NoteRules(3, 5, most=4)
    assert NoteRules.from_config(rules.get_config()).most == 4
