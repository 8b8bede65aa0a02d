"""The cells against NumPy, against Keras, and their two halves against the whole."""

import keras
import numpy as np
import pytest

from contracts import UNITS, cell_oracle, normal, randomise
from kseq.layers import CELLS, GRUCell, LSTMCell, PeepholeLSTMCell, Recurrent, RNNCell

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
    outputs, *states = Recurrent(cell, return_state=True)(x)
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
    """The weights move as they are."""
    cell, _, _ = made(LSTMCell)
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    layer.set_weights(cell.get_weights())
    assert_same_sequences(cell, layer)


@pytest.mark.parametrize(
    ("make", "keras_make"), [(LSTMCell, keras.layers.LSTMCell), (RNNCell, keras.layers.SimpleRNNCell)]
)
def test_the_weights_before_training_are_those_of_keras(make, keras_make):
    """Oracle: the cell of Keras with the same seeds."""
    initializers = {
        "kernel_initializer": keras.initializers.GlorotUniform(1),
        "recurrent_initializer": keras.initializers.Orthogonal(seed=2),
        "bias_initializer": keras.initializers.RandomNormal(seed=3),
    }
    ours, theirs = make(UNITS, **initializers), keras_make(UNITS, **initializers)
    for cell in (ours, theirs):
        cell.build((None, DEPTH))
    *got, bias = ours.get_weights()
    *want, keras_bias = theirs.get_weights()
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate(want))
    parts = slice(None) if make is RNNCell else np.r_[UNITS : 2 * UNITS]  # the rest of Keras' LSTM repeats one draw
    np.testing.assert_array_equal(bias[parts], keras_bias[parts])


def test_the_recurrent_kernel_of_a_gru_is_drawn_as_one():
    """Oracle: the cell of Keras with the same seed."""
    ours, theirs = (
        make(UNITS, recurrent_initializer=keras.initializers.Orthogonal(seed=2))
        for make in (GRUCell, keras.layers.GRUCell)
    )
    for cell in (ours, theirs):
        cell.build((None, DEPTH))
    np.testing.assert_array_equal(np.hstack([ours.recurrent_kernel, ours.candidate_kernel]), theirs.recurrent_kernel)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("reset_after", [True, False])
def test_weights_of_keras_gru_are_never_taken_for_ours(reset_after, use_bias):
    """Its z weighs the old state, so they would compute something else."""
    options = {"reset_after": reset_after, "use_bias": use_bias}
    theirs = keras.layers.GRU(UNITS, **options)
    theirs.build((None, None, UNITS))  # where all blocks are square
    for ours_has_bias in (True, False):
        for after in (True, False):
            ours = Recurrent(GRUCell(UNITS, reset_after=after, use_bias=ours_has_bias))
            ours.build((None, None, UNITS))
            with pytest.raises(ValueError, match="weight"):
                ours.set_weights(theirs.get_weights())
            with pytest.raises(ValueError, match="weight"):
                theirs.set_weights(ours.get_weights())


def negated_z(weight):
    return np.concatenate([-columns(weight, 0), columns(weight, 1, 2)], axis=-1)


def recurrent_kernel(cell):
    """U of a GRU as Keras has it."""
    return negated_z(np.concatenate([cell.recurrent_kernel, cell.candidate_kernel], axis=-1))


def test_gru_is_keras_gru_with_z_negated():
    """Keras weighs the old state by z, and σ(−a) = 1 − σ(a)."""
    cell, _, _ = made(GRUCell)
    layer = keras.layers.GRU(UNITS, reset_after=False, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    layer.set_weights([negated_z(cell.kernel), recurrent_kernel(cell), negated_z(cell.bias)])
    assert_same_sequences(cell, layer)


def test_reset_after_is_keras_reset_after_with_z_negated():
    """Keras keeps a second bias for all gates; those of z and r are added to the first."""
    cell, _, _ = made(lambda units: GRUCell(units, reset_after=True))
    layer = keras.layers.GRU(UNITS, reset_after=True, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    second = np.concatenate([np.zeros(2 * UNITS), cell.recurrent_bias])
    biases = np.stack([negated_z(cell.bias), second])
    layer.set_weights([negated_z(cell.kernel), recurrent_kernel(cell), biases])
    assert_same_sequences(cell, layer)


def test_keras_reset_after_loads_into_ours():
    cell, _, _ = made(lambda units: GRUCell(units, reset_after=True))
    layer = keras.layers.GRU(UNITS, reset_after=True, return_sequences=True, return_state=True)
    layer.build((None, None, DEPTH))
    kernel, both, (first, second) = (np.asarray(weight) for weight in randomise(layer, seed=5).weights)
    bias = first + np.concatenate([columns(second, 0, 1), np.zeros(UNITS)])
    U_zr, U_n = np.split(negated_z(both), [2 * UNITS], axis=-1)
    cell.set_weights([negated_z(kernel), U_zr, U_n, negated_z(bias), columns(second, 2)])
    assert_same_sequences(cell, layer)


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (RNNCell, [0] * UNITS),
        (LSTMCell, [0] * UNITS + [1] * UNITS + [0] * 2 * UNITS),
        (lambda units: LSTMCell(units, forget_bias=0.5), [0] * UNITS + [0.5] * UNITS + [0] * 2 * UNITS),
        (lambda units: LSTMCell(units, forget_bias=None, bias_initializer="ones"), [1] * 4 * UNITS),
        (
            lambda units: PeepholeLSTMCell(units, bias_initializer="ones", forget_bias=0),
            [1] * UNITS + [0] * UNITS + [1] * 2 * UNITS,
        ),
        (GRUCell, [0] * 3 * UNITS),
        (lambda units: GRUCell(units, bias_initializer="ones"), [1] * 3 * UNITS),
    ],
    ids=["rnn", "lstm", "forget_bias", "no forget_bias", "peephole", "gru", "bias_initializer"],
)
def test_bias_before_training(make, want):
    cell = make(UNITS)
    cell.build((None, DEPTH))
    np.testing.assert_array_equal(cell.bias, want)


@pytest.mark.parametrize("name", ["lstm", "peephole", "layer_norm_lstm"])
def test_a_cell_saved_with_its_columns_in_the_old_order_is_refused(name):
    """Its config had initializers, and no use_bias; one written by hand needs neither."""
    config = CELLS[name](4).get_config()
    assert CELLS[name].from_config(config).use_bias and CELLS[name].from_config({"units": 4}).units == 4
    del config["use_bias"]
    with pytest.raises(ValueError, match=r"LSTMCell was saved by a version of kseq .* f, i, c̃, o; they are i, f"):
        CELLS[name].from_config(config)


@pytest.mark.parametrize("value", ["1", True, [1.0]])
def test_forget_bias_must_be_a_number(value):
    with pytest.raises(ValueError, match=r"^forget_bias must be a number or None, got "):
        LSTMCell(UNITS, forget_bias=value)


OPTIONS = {
    "PeepholeLSTMCell": ["kernel", "recurrent", "bias", "peephole"],
    "LayerNormLSTMCell": ["kernel", "recurrent", "bias", "gain"],
    "LayerNormGRUCell": ["kernel", "recurrent", "bias", "gain"],
}


@every_cell
def test_every_weight_has_its_initializer_its_regularizer_and_its_constraint(make):
    """Each weight is `scale` before training, penalized with its own factor, and constrained to be 0 or more."""
    kind = type(make(UNITS))
    options = {"forget_bias": None} if "LSTM" in kind.__name__ else {}
    options |= {"reset_after": True} if make is MAKERS["reset_after"] else {}
    names = OPTIONS.get(kind.__name__, ["kernel", "recurrent", "bias"])
    for scale, name in enumerate(names, 2):
        options |= {
            f"{name}_initializer": keras.initializers.Constant(scale),
            f"{name}_regularizer": keras.regularizers.L1(0.1**scale),
            f"{name}_constraint": keras.constraints.NonNeg(),
        }
    cell = kind(UNITS, **options)
    for one in (cell, kind.from_config(cell.get_config())):
        layer = Recurrent(one)
        layer.build((None, None, DEPTH))
        scales = {float(np.unique(weight)[0]) for weight in one.weights}
        assert scales == set(range(2, 2 + len(names)))
        want = sum(np.sum(w) * 0.1 ** float(np.unique(w)[0]) for w in map(np.asarray, one.weights))
        np.testing.assert_allclose(sum(layer.losses), want, rtol=1e-5)
        assert all(isinstance(weight.constraint, keras.constraints.NonNeg) for weight in one.weights)


@every_cell
def test_without_bias_is_with_a_bias_of_zero(make):
    cell, x, states = made(make)
    config = cell.get_config() | {"use_bias": False}
    bare = type(cell).from_config(config)
    bare.build((None, DEPTH))
    weights = {weight.name: weight for weight in cell.weights}
    for weight in cell.weights:
        if "bias" in weight.name:
            weight.assign(np.zeros(weight.shape))
    for weight in bare.weights:
        assert "bias" not in weight.name
        weight.assign(weights[weight.name])
    np.testing.assert_allclose(bare(x, states)[0], cell(x, states)[0], atol=1e-6)


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
