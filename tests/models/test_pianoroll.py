"""Piano rolls: the model against NumPy, step by step against whole, and what is drawn against its probability."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import cell_oracle, normal, randomise
from kseq.layers import GRUCell, LSTMCell
from kseq.losses import RollCrossentropy
from kseq.models import PianoRollModel
from kseq.samplers import RollSampler

KEYS, STEPS = 5, 6
VECTOR = normal(3, 2)
ROLL = np.random.default_rng(1).integers(0, 2, (3, STEPS, KEYS)).astype("float32")


def made(chained=True, cells=None):
    model = PianoRollModel(cells or [LSTMCell(4), GRUCell(3)], keys=KEYS, chained=chained)
    model({"vector": VECTOR, "roll": ROLL})
    return randomise(model)


def oracle(model):
    """Oracle: the docstring's equations in NumPy, step by step, key by key."""
    W, b, V, c = (np.asarray(x) for x in (*model.bridge.weights, *model.readout.weights))
    A = np.asarray(model.chain.kernel) if model.chained else np.zeros((KEYS, KEYS))
    lower, upper = (cell_oracle(layer.cell) for layer in model.recurrent)
    states = np.split(np.tanh(VECTOR @ W + b), [4, 8], axis=-1)
    logits, before = np.zeros(ROLL.shape), np.zeros_like(ROLL[:, 0])
    for t in range(STEPS):
        states[:2] = lower(np.concatenate([before, VECTOR], axis=-1), states[:2])
        [states[2]] = upper(states[0], states[2:])
        before = ROLL[:, t]
        for k in range(KEYS):
            logits[:, t, k] = c[k] + states[2] @ V[:, k] + sum(A[j, k] * before[:, j] for j in range(k))
    return logits


@pytest.mark.parametrize("chained", [False, True])
def test_the_logits_are_those_of_the_equations(chained):
    model = made(chained)
    np.testing.assert_allclose(model({"vector": VECTOR, "roll": ROLL}), oracle(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chained", [False, True])
def test_step_by_step_equals_the_whole_roll(chained):
    model = made(chained)
    states, memory = model.encode(VECTOR)
    frame, logits = np.zeros_like(ROLL[:, 0]), []
    for t in range(STEPS):
        now, states = model.step(frame, states, memory)
        frame = ROLL[:, t]
        logits.append(now if not chained else now + model.chain(frame))
    np.testing.assert_allclose(np.stack(logits, 1), model({"vector": VECTOR, "roll": ROLL}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chained", [False, True])
def test_the_probabilities_of_all_rolls_sum_to_one(chained):
    """Brute force: all rolls of two steps and three keys."""
    model = PianoRollModel([GRUCell(4)], keys=3, chained=chained)
    rolls = np.array(list(itertools.product([0, 1], repeat=6)), "float32").reshape(-1, 2, 3)
    inputs = {"vector": np.repeat(VECTOR[:1], len(rolls), axis=0), "roll": rolls}
    model(inputs)
    randomise(model)
    nll = RollCrossentropy(reduction=None)(rolls, model(inputs))
    np.testing.assert_allclose(np.exp(-np.sum(nll, axis=1)).sum(), 1, rtol=1e-5)


def test_no_step_sees_itself_or_the_future():
    model = made(chained=False)
    other = ROLL.copy()
    other[:, 3:] = 1 - other[:, 3:]
    one, two = (np.array(model({"vector": VECTOR, "roll": roll})) for roll in (ROLL, other))
    np.testing.assert_allclose(one[:, :4], two[:, :4], rtol=1e-6)
    assert not np.allclose(one[:, 4], two[:, 4])


# --- drawing


@pytest.mark.slow
@pytest.mark.parametrize("chained", [False, True])
def test_what_is_drawn_has_the_probability_that_the_model_gives_it(chained):
    """Oracle: the loss of the drawn roll, beginning left out; in a graph and row by row too."""
    model = made(chained)
    lengths, begun = np.array([4, 70, 1]), np.array([0, 2, 6])
    arguments = {"beginning": ROLL, "beginning_lengths": begun}
    found = model.generate(VECTOR, lengths, [3, 4, 2**40], **arguments)
    roll = np.array(found.roll)
    assert roll.shape == (3, 72, KEYS) and list(found.lengths) == [4, 72, 7]
    steps = np.arange(72)
    nll = np.array(RollCrossentropy(reduction=None)(roll, model({"vector": VECTOR, "roll": roll})))
    drawn = (steps >= begun[:, None]) & (steps < np.array(found.lengths)[:, None])
    np.testing.assert_allclose(found.log_probs, -(nll * drawn).sum(axis=1), rtol=1e-4)
    for row, n in enumerate(begun):
        np.testing.assert_array_equal(roll[row, :n], ROLL[row, :n])
        assert not roll[row, found.lengths[row] :].any()
    graph = tf.function(model.generate, autograph=False)(VECTOR, lengths, [3, 4, 2**40], **arguments)
    np.testing.assert_array_equal(graph.roll, roll)
    for row, seed in enumerate([3, 4, 2**40]):
        one = slice(row, row + 1)
        alone = model.generate(VECTOR[one], lengths[one], [seed], beginning=ROLL[one, : begun[row]])
        np.testing.assert_array_equal(alone.roll[0], roll[row, : found.lengths[row]])


@pytest.mark.slow
@pytest.mark.parametrize("chained", [False, True])
def test_draws_are_as_frequent_as_they_are_likely(chained):
    """Oracle: the model's probability of each of the eight first steps of three keys."""
    model = PianoRollModel([GRUCell(4)], keys=3, chained=chained)
    steps = np.array(list(itertools.product([0, 1], repeat=3)), "float32")[:, None]
    inputs = {"vector": np.repeat(VECTOR[:1], 8, axis=0), "roll": steps}
    model(inputs)
    randomise(model)
    p = np.exp(-np.array(RollCrossentropy(reduction=None)(steps, model(inputs)))[:, 0])
    n = 4000
    found = tf.function(model.generate, autograph=False)(
        np.repeat(VECTOR[:1], n, axis=0), np.ones(n, int), np.arange(n)
    )
    seen = np.bincount(np.array(found.roll)[:, 0].astype(int) @ [4, 2, 1], minlength=8) / n
    np.testing.assert_allclose(seen, p, atol=4 * np.sqrt(0.25 / n))


@pytest.mark.slow
def test_a_cold_sampler_plays_what_is_likelier_than_not_and_a_threshold_silences_the_unlikely():
    model = made(chained=False)
    logits = np.array(model.step(np.zeros_like(ROLL[:, 0]), *model.encode(VECTOR))[0])
    cold = model.generate(VECTOR, [1, 1, 1], [0, 1, 2], sampler=RollSampler(KEYS, temperature=1e-4))
    np.testing.assert_array_equal(np.array(cold.roll)[:, 0], logits > 0)
    p = 1 / (1 + np.exp(-logits))
    drawn = [
        model.generate(VECTOR, [1, 1, 1], [s, s, s], sampler=RollSampler(KEYS, threshold=0.5)).roll[:, 0]
        for s in range(50)
    ]
    np.testing.assert_array_equal(np.any(drawn, axis=0), p >= 0.5)


def test_wrong_arguments_are_told():
    with pytest.raises(
        ValueError, match=r"cells must be a list of cells of kseq.layers, as \[LSTMCell\(4\)\], got \[\]"
    ):
        PianoRollModel([])
    with pytest.raises(ValueError, match="keys must be a positive whole number"):
        PianoRollModel([GRUCell(2)], keys=0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        RollSampler(temperature=0)
    with pytest.raises(ValueError, match="threshold must be at least 0 and less than 1, got 1"):
        RollSampler(threshold=1)
    assert RollSampler.from_config(RollSampler(3, threshold=0.1).get_config()).threshold == 0.1


def test_a_saved_model_is_the_same(tmp_path):
    model = made()
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    inputs = {"vector": VECTOR, "roll": ROLL}
    np.testing.assert_allclose(again(inputs), model(inputs), rtol=1e-6)
