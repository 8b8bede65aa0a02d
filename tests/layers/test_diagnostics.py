"""Gradients through time and gates, against what can be worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import cell_oracle, normal, randomise
from kseq.layers import (
    GRUCell,
    LayerNormGRUCell,
    LSTMCell,
    Recurrent,
    RNNCell,
    StackedCell,
    gate_activations,
    state_gradients,
)

BATCH, TIME, DEPTH, UNITS = 2, 6, 3, 4


def made(cell):
    cell.build((None, DEPTH))
    return randomise(cell)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_linear_recurrence_shrinks_or_grows_by_its_factor(factor):
    """h_t ≈ factor · h_{t−1} near zero, so that ‖∂ loss / ∂ h_t‖ = factor^(T − t)."""
    cell = made(RNNCell(1))
    cell.set_weights([np.zeros((DEPTH, 1)), np.array([[factor]]), np.zeros(1)])
    norms = state_gradients(cell, np.zeros((1, TIME, DEPTH)), lambda outputs: tf.reduce_sum(outputs[-1]))
    np.testing.assert_allclose(norms, factor ** np.arange(TIME - 1, -1, -1.0), rtol=1e-6)


@pytest.mark.parametrize("make", [RNNCell, LSTMCell, GRUCell])
def test_gradients_are_those_of_differences(make):
    """Oracle: the loss when one step's h is moved by a little, the rest of the sequence run in float64."""
    cell, x = made(make(UNITS)), normal(BATCH, TIME, DEPTH)
    step, first = cell_oracle(cell), [np.zeros((BATCH, UNITS))] * len(cell.state_size)

    def loss_moved(t, move):
        states, total = first, 0.0
        for k in range(TIME):
            states = step(x[:, k].astype("float64"), states)
            if k == t:
                states = [states[0] + move, *states[1:]]
            if k >= TIME - 2:
                total += np.sum(states[0] ** 2)
        return total

    norms = state_gradients(cell, x, lambda outputs: sum(tf.reduce_sum(tf.square(h)) for h in outputs[-2:]))
    for t in range(TIME):
        gradient = np.zeros((BATCH, UNITS))
        for b, u in np.ndindex(BATCH, UNITS):
            move = np.zeros((BATCH, UNITS))
            move[b, u] = 1e-5
            gradient[b, u] = (loss_moved(t, move) - loss_moved(t, -move)) / 2e-5
        np.testing.assert_allclose(norms[t], np.linalg.norm(gradient), rtol=1e-3)


def test_a_step_that_the_loss_does_not_see_has_no_gradient():
    norms = state_gradients(made(GRUCell(UNITS)), normal(BATCH, TIME, DEPTH), lambda hs: tf.reduce_sum(hs[2]))
    assert all(norm > 0 for norm in norms[:3]) and norms[3:] == [0.0] * 3


@pytest.mark.parametrize(("make", "letters"), [(RNNCell, "h"), (LSTMCell, ["i", "f", "c̃", "o"]), (GRUCell, "zrn")])
def test_gates_are_those_of_the_run(make, letters):
    """Oracles: for the gates σ or tanh of the kernels' columns in NumPy; for the run, `Recurrent`."""
    cell, x = made(make(UNITS)), normal(BATCH, TIME, DEPTH)
    found = gate_activations(cell, x)
    assert list(found) == list(letters)
    hidden = np.asarray(Recurrent(cell)(x))
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), hidden[:, :-1]], axis=1)
    for k, letter in enumerate(letters):
        columns = slice(k * UNITS, (k + 1) * UNITS)
        U = np.concatenate([w for w in cell.weights if w.name in ("recurrent_kernel", "candidate_kernel")], axis=-1)
        W, U, b = (np.asarray(w)[..., columns] for w in (cell.kernel, U, cell.bias))
        if letter == "n":
            before = before * np.asarray(found["r"])
        function = reference.sigmoid if letter in "fiozr" else np.tanh
        np.testing.assert_allclose(found[letter], function(x @ W + before @ U + b), atol=1e-5)


@pytest.mark.parametrize("look", [gate_activations, lambda cell, x: state_gradients(cell, x, lambda outputs: 0.0)])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: made(StackedCell([GRUCell(UNITS), GRUCell(UNITS)], name="two")),
            "cell must be a single cell, got the stack two; look at its `cells` one by one",
        ),
        (lambda: Recurrent(GRUCell(UNITS)), "cell must be a cell of kseq.layers, got <Recurrent"),
        (lambda: GRUCell(UNITS, name="a"), "cell a has no weights yet; call or build it first"),
    ],
)
def test_what_cannot_be_looked_into_is_named(look, make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        look(make(), normal(BATCH, TIME, DEPTH))


def test_gates_are_those_of_cells_that_say_them():
    with pytest.raises(ValueError, match=r"^cell must be an RNNCell, an LSTMCell or a GRUCell, got <LayerNormGRUCell"):
        gate_activations(made(LayerNormGRUCell(UNITS)), normal(BATCH, TIME, DEPTH))
