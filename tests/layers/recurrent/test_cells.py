"""The cells against NumPy, against Keras, and their two halves against the whole."""

import keras
import numpy as np
import pytest

from contracts import UNITS, cell_oracle, normal, randomise
from kseq.layers import CELLS, GRUCell, LSTMCell, Recurrent, RNNCell

BATCH, DEPTH = 3, 2

MAKERS = CELLS | {"reset_after": lambda units: GRUCell(units, reset_after=True)}

every_cell = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def made(make):
    """A built cell with random weights, an input, and states that are not zero."""
    cell = make(UNITS)
    cell.build((None, DEPTH))
    states = [normal(BATCH, UNITS, seed=k + 1) for k in range(len(cell.state_size))]
    return randomise(cell), normal(BATCH, DEPTH), states


def columns(weight, *numbers):
    """The numbered column blocks of a stacked weight, side by side."""
    weight = np.asarray(weight)
    return np.concatenate([weight[..., k * UNITS : (k + 1) * UNITS] for k in numbers], axis=-1)


def assert_same_sequences(cell, keras_layer):
    """The cell in our loop and the built layer of Keras agree on a random sequence and on the last states."""
    x = normal(BATCH, 5, DEPTH, seed=7)
    outputs, states = Recurrent(cell, return_state=True)(x)
    want, *want_states = keras_layer(x)
    np.testing.assert_allclose(outputs, want, atol=1e-6)
    for state, wanted in zip(states, want_states, strict=True):
        np.testing.assert_allclose(state, wanted, atol=1e-6)


@every_cell
def test_a_step_is_the_papers(make):
    """Oracles: the equations in `reference`, two steps from random states."""
    cell, x, states = made(make)
    want = states
    for _ in range(2):
        output, states = cell(x, states)
        want = cell_oracle(cell)(x, want)
        np.testing.assert_allclose(output, want[0], atol=1e-6)
        for state, wanted in zip(states, want, strict=True):
            np.testing.assert_allclose(state, wanted, atol=1e-6)


@every_cell
def test_project_then_step_is_call(make):
    cell, x, states = made(make)
    projected = cell.project(x)
    assert projected.shape == (BATCH, cell.projected_size)
    output, after = cell.step(projected, states)
    want, want_after = cell(x, states)
    np.testing.assert_array_equal(output, want)
    np.testing.assert_array_equal(np.stack(after), np.stack(want_after))
    assert output.shape == (BATCH, cell.output_size)
    assert [state.shape for state in after] == [(BATCH, size) for size in cell.state_size]


@every_cell
def test_project_takes_a_whole_sequence(make):
    cell, _, _ = made(make)
    x = normal(BATCH, 4, DEPTH, seed=3)
    each = np.stack([cell.project(x[:, t]) for t in range(4)], axis=1)
    np.testing.assert_allclose(cell.project(x), each, atol=1e-6)


@every_cell
def test_initial_state_is_zero(make):
    cell, _, states = made(make)
    initial = cell.get_initial_state(batch_size=BATCH)
    assert [state.shape for state in initial] == [state.shape for state in states]
    assert not np.any(initial)


def test_rnn_is_keras_simple_rnn():
    cell, _, _ = made(RNNCell)
    layer = keras.layers.SimpleRNN(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    layer.set_weights(cell.get_weights())
    assert_same_sequences(cell, layer)


def test_lstm_is_keras_lstm():
    """Keras' blocks stand in the order i, f, c, o."""
    cell, _, _ = made(LSTMCell)
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    layer.set_weights([columns(weight, 1, 0, 2, 3) for weight in cell.weights])
    assert_same_sequences(cell, layer)


def negated_z(weight):
    return np.concatenate([-columns(weight, 0), columns(weight, 1, 2)], axis=-1)


def test_gru_is_keras_gru_with_z_negated():
    """Keras weighs the old state by z, and σ(−a) = 1 − σ(a)."""
    cell, _, _ = made(GRUCell)
    layer = keras.layers.GRU(UNITS, reset_after=False, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    layer.set_weights([negated_z(weight) for weight in cell.weights])
    assert_same_sequences(cell, layer)


def test_reset_after_is_keras_reset_after_with_z_negated():
    """Keras keeps a second bias for all gates; those of z and r are added to the first."""
    cell, _, _ = made(lambda units: GRUCell(units, reset_after=True))
    layer = keras.layers.GRU(UNITS, reset_after=True, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    second = np.concatenate([np.zeros(2 * UNITS), cell.recurrent_bias])
    biases = np.stack([negated_z(cell.bias), second])
    layer.set_weights([negated_z(cell.kernel), negated_z(cell.recurrent_kernel), biases])
    assert_same_sequences(cell, layer)


def test_keras_reset_after_loads_into_ours():
    cell, _, _ = made(lambda units: GRUCell(units, reset_after=True))
    layer = keras.layers.GRU(UNITS, reset_after=True, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    kernel, recurrent_kernel, (first, second) = (np.asarray(weight) for weight in randomise(layer, seed=5).weights)
    bias = first + np.concatenate([columns(second, 0, 1), np.zeros(UNITS)])
    cell.set_weights([negated_z(kernel), negated_z(recurrent_kernel), negated_z(bias), columns(second, 2)])
    assert_same_sequences(cell, layer)


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (RNNCell, [0] * UNITS),
        (LSTMCell, [1] * UNITS + [0] * 3 * UNITS),
        (lambda units: LSTMCell(units, forget_bias=0.5), [0.5] * UNITS + [0] * 3 * UNITS),
        (GRUCell, [0] * 3 * UNITS),
    ],
    ids=["rnn", "lstm", "forget_bias", "gru"],
)
def test_bias_before_training(make, want):
    cell = make(UNITS)
    cell.build((None, DEPTH))
    np.testing.assert_array_equal(cell.bias, want)


def test_initializers_are_used():
    cell = RNNCell(UNITS, kernel_initializer="ones", recurrent_initializer="identity")
    cell.build((None, DEPTH))
    np.testing.assert_array_equal(cell.kernel, np.ones((DEPTH, UNITS)))
    np.testing.assert_array_equal(cell.recurrent_kernel, np.eye(UNITS))


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("units", [0, -1, 2.0, "4", True, None])
def test_units_must_be_a_positive_whole_number(make, units):
    with pytest.raises(ValueError, match=f"^units must be a positive whole number, got {units!r}$"):
        make(units)
