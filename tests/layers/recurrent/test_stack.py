"""Stacks of cells and of layers against their parts, one after the other."""

import keras
import numpy as np
import pytest

from contracts import UNITS, cell_oracle, lengths_mask, normal, randomise, stack_oracle
from kseq.layers import (
    CELLS,
    Bidirectional,
    GRUCell,
    KerasCell,
    LSTMCell,
    Recurrent,
    RNNCell,
    Stack,
    StackedCell,
)
from kseq.models import TextEncoder

BATCH, TIME, DEPTH = 3, 4, 2


def made(layer):
    layer.build((None, None, DEPTH))
    return randomise(layer)


def made_cell(cells, **options):
    """A built stack with random weights, an input, and states that are not zero."""
    cell = StackedCell(cells, **options)
    cell.build((None, DEPTH))
    states = [normal(BATCH, size, seed=k + 1) for k, size in enumerate(cell.state_size)]
    return randomise(cell), normal(BATCH, DEPTH), states


def assert_all_close(got, want):
    assert len(got) == len(want) > 0
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


# Cells.


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("residual", [False, True])
def test_a_step_is_that_of_the_cells_one_above_the_other(kind, residual):
    """Oracle: the equations in `reference`, chained, two steps from random states."""
    sizes = [UNITS] * 3 if residual else [2, 5, 3]
    kinds = zip((CELLS[kind], LSTMCell, CELLS[kind]), sizes, strict=True)
    cell, x, states = made_cell([make(size) for make, size in kinds], residual=residual)
    want_states = states
    for _ in range(2):
        output, states = cell(x, states)
        want, want_states = stack_oracle(cell)(x, want_states)
        np.testing.assert_allclose(output, want, atol=1e-6)
        assert_all_close(states, want_states)
        np.testing.assert_allclose(cell.hidden(states), want, atol=1e-6)


def test_sizes_are_those_of_the_parts():
    cell, x, _ = made_cell([LSTMCell(2), GRUCell(5)])
    assert (list(cell.state_size), cell.output_size, cell.projected_size) == ([2, 2, 5], 5, 8)
    assert cell.project(x).shape == (BATCH, 8)
    initial = cell.get_initial_state(batch_size=BATCH)
    assert [state.shape for state in initial] == [(BATCH, 2), (BATCH, 2), (BATCH, 5)] and not np.any(initial[2])


@pytest.mark.parametrize("residual", [False, True])
def test_a_stack_of_one_is_the_cell(residual):
    cell, x, states = made_cell([LSTMCell(UNITS)], residual=residual)
    output, after = cell(x, states)
    want, want_after = cell.cells[0](x, states)
    np.testing.assert_array_equal(output, want)
    assert_all_close([cell.hidden(after), *after], [want, *want_after])


def test_each_cell_gets_its_own_dropped_states():
    """A plain cell reads nothing of its state but the dropped one."""
    cell, x, states = made_cell([RNNCell(2), RNNCell(3)])
    dropped_states = [state + 1 for state in states]
    output, after = cell.step(cell.project(x), states, dropped_states)
    want, want_after = cell(x, dropped_states)
    np.testing.assert_array_equal(output, want)
    assert_all_close(after, want_after)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_a_stack_runs_in_keras_loop_and_in_ours(kind, residual):
    """Oracle: each cell in a `Recurrent` of its own, one after the other; a mask on the right."""
    cell, _, states = made_cell([CELLS[kind](UNITS), GRUCell(UNITS)], residual=residual)
    x, mask = normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 1], TIME)
    outputs, *last = Recurrent(cell, return_state=True)(x, mask=mask, initial_state=states)
    lower, upper = (Recurrent(one, return_state=True) for one in cell.cells)
    first, *last_of_first = lower(x, mask=mask, initial_state=states[:-1])
    want, *last_of_second = upper(first, mask=mask, initial_state=states[-1:])
    np.testing.assert_allclose(outputs, want + first if residual else want, atol=1e-6)
    assert_all_close(last, [*last_of_first, *last_of_second])
    theirs = keras.layers.RNN(cell, return_sequences=True, return_state=True, zero_output_for_mask=True)
    assert_all_close(theirs(x, mask=mask, initial_state=states), [outputs, *last])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StackedCell([]), "cells must be one or more, got none$"),
        (
            lambda: StackedCell([GRUCell(2)] * 2),
            "cells must each be a different object, got .*; make one",
        ),
        (lambda: StackedCell(GRUCell(2)), "cells must be a list, got <GRUCell"),
        (lambda: Stack(Recurrent(GRUCell(2))), "layers must be a list, got <Recurrent"),
        (
            lambda: Stack([Recurrent(GRUCell(2), return_sequences=False), Recurrent(GRUCell(2))]),
            r"layers below the last must return sequences, got return_sequences of \[False, True\]$",
        ),
        (
            lambda: Stack([Recurrent(GRUCell(2)), Recurrent(GRUCell(2), return_sequences=False)], residual=True),
            r"layers of a residual stack must return sequences, got return_sequences of \[True, False\]$",
        ),
        (
            lambda: StackedCell([GRUCell(2), LSTMCell(3)], residual=True),
            r"cells of a residual stack must have outputs of one size, got \[2, 3\]$",
        ),
        (lambda: StackedCell([keras.layers.GRUCell(2)]), "cells must be of kseq.layers, got <GRUCell .*; put it into"),
        (lambda: StackedCell([KerasCell(keras.layers.GRUCell(2))]), "cells must be of kseq.layers, got <KerasCell .*"),
        (
            lambda: Recurrent(StackedCell([GRUCell(2)]), zoneout=0.1),
            "recurrent_dropout and zoneout are for a single cell of kseq.*; give those of a StackedCell to",
        ),
        (lambda: Stack([]), "layers must be one or more, got none$"),
        (lambda: Stack([Recurrent(GRUCell(2))] * 2), "layers must each be a different object, got .*; make one"),
        (lambda: Stack([keras.layers.GRU(2)]), "layers must be Recurrent or Bidirectional, got <GRU name=.*>$"),
        (
            lambda: Stack([Bidirectional(Recurrent(GRUCell(2)), merge_mode=None, name="both")]),
            "layers must give one sequence each, got both with merge_mode=None$",
        ),
        (
            lambda: Stack([Recurrent(GRUCell(2)), Recurrent(GRUCell(2), return_state=True)]),
            r"layers must all return their states or none, got return_state of \[False, True\]$",
        ),
        (
            lambda: Stack([Bidirectional(Recurrent(GRUCell(2))), Recurrent(GRUCell(2))], residual=True),
            r"layers of a residual stack must have outputs of one size, got \[4, 2\]$",
        ),
    ],
)
def test_what_cannot_be_stacked_is_named(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


# Layers.


def three_layers(residual=False, return_state=True):
    """Both directions side by side, then one backwards, then both summed; all of one size."""
    layers = [
        Bidirectional(Recurrent(GRUCell(2), return_state=return_state)),
        Recurrent(LSTMCell(UNITS), go_backwards=True, return_state=return_state),
        Bidirectional(Recurrent(RNNCell(UNITS), return_state=return_state), merge_mode="sum"),
    ]
    return made(Stack(layers, residual=residual))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_stack_is_its_layers_one_after_the_other(residual, side):
    """Oracle: the layers called by hand. The last row is all padding."""
    layer, x = three_layers(residual), normal(BATCH, TIME, DEPTH)
    mask = lengths_mask([4, 2, 0], TIME)[:, :: 1 if side == "right" else -1]
    states = [normal(BATCH, size, seed=k + 1) for k, size in enumerate(layer.state_size)]
    outputs, *last = layer(x, mask=mask, initial_state=states)
    one, two, three = layer.layers
    first, *one_last = one(x, mask=mask, initial_state=states[:2])
    second, *two_last = two(first, mask=mask, initial_state=states[2:4])
    second = second[:, ::-1]  # it goes backwards
    second = second + first if residual else second
    third, *three_last = three(second, mask=mask, initial_state=states[4:])
    np.testing.assert_allclose(outputs, third + second if residual else third, atol=1e-6)
    assert_all_close(last, [*one_last, *two_last, *three_last])
    assert not np.any(np.asarray(outputs)[~mask]) and np.all(np.any(np.asarray(outputs)[mask], axis=-1))


def test_two_plain_layers_are_the_papers():
    """Oracle: `reference`'s cells in a loop, residual."""
    layer, x = made(Stack([Recurrent(LSTMCell(UNITS)), Recurrent(GRUCell(UNITS))], residual=True)), normal(1, 3, DEPTH)
    lower, upper = (cell_oracle(one.cell) for one in layer.layers)
    outputs, low, high = layer(x), [np.zeros((1, UNITS))] * 2, [np.zeros((1, UNITS))]
    for t in range(3):
        low = lower(x[:, t], low)
        high = upper(low[0], high)
        np.testing.assert_allclose(outputs[:, t], low[0] + high[0], atol=1e-6)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 0), (1, 2)])
def test_padding_changes_neither_outputs_nor_states(residual, before, after):
    """Oracle: the same stack on the rows without their padding."""
    layer, x = three_layers(residual), normal(BATCH, TIME, DEPTH)
    padded = 9 * normal(BATCH, before + TIME + after, DEPTH, seed=5)
    padded[:, before : before + TIME] = x
    mask = np.zeros(padded.shape[:2], "bool")
    mask[:, before : before + TIME] = True
    outputs, *last = layer(padded, mask=mask)
    want, *want_last = layer(x)
    np.testing.assert_allclose(outputs[:, before : before + TIME], want, atol=1e-6)
    assert not np.any(np.asarray(outputs)[~mask])
    assert_all_close(last, want_last)


def test_without_return_state_only_the_outputs_come():
    layer, bare, x = three_layers(), three_layers(return_state=False), normal(BATCH, TIME, DEPTH)
    bare.set_weights(layer.get_weights())
    np.testing.assert_array_equal(bare(x), layer(x)[0])
    assert layer.compute_mask("inputs", "mask") == ("mask", *[None] * 6)
    assert bare.compute_mask("inputs", "mask") == "mask"


def test_a_mask_of_keras_arrives_and_is_handed_on():
    """Oracle: the mask given by hand."""
    layer, ids = three_layers(residual=True, return_state=False), np.array([[3, 1, 2, 0], [4, 0, 0, 0]])
    embedding = keras.layers.Embedding(5, DEPTH, mask_zero=True)
    outputs = layer(np.asarray(embedding(ids)), mask=ids != 0)
    np.testing.assert_allclose(layer(embedding(ids)), outputs, atol=1e-6)
    model = keras.Sequential([embedding, layer, keras.layers.GlobalAveragePooling1D()])
    np.testing.assert_allclose(model(ids), [np.mean(outputs[0, :3], axis=0), outputs[1, 0]], atol=1e-6)


@pytest.mark.parametrize("return_state", [False, True])
def test_a_stack_encodes_text(return_state):
    """Oracle: the stack by itself on the embedded words; without states the state is the mean of the real rows."""
    encoder = TextEncoder(9, three_layers(residual=True, return_state=return_state), embedding_size=DEPTH)
    ids = np.array([[3, 1, 2, 0], [4, 8, 0, 0]])
    memory, mask, state = encoder(ids)
    want = encoder.layer(encoder.embedding(ids), mask=ids != 0)
    if return_state:
        want, *want_state = want
    else:
        want_state = [[np.mean(want[0, :3], axis=0), np.mean(want[1, :2], axis=0)]]
    np.testing.assert_allclose(memory, want, atol=1e-6)
    np.testing.assert_array_equal(mask, ids != 0)
    assert_all_close(state, want_state)


@pytest.mark.parametrize("dropouts", [(0.5, 0), (0, 0.5)])
def test_a_model_that_trains_drops_in_every_layer(dropouts):
    x, inputs = keras.Input((None, DEPTH)), normal(BATCH, TIME, DEPTH)
    model = keras.Model(x, Stack([Recurrent(GRUCell(UNITS), dropout=share) for share in dropouts])(x))
    one, other, still, again = (np.asarray(model(inputs, training=t)) for t in (True, True, False, False))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(still, again)
