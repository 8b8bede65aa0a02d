"""Layers over sequences: padding anywhere changes nothing, directions, states, masks that Keras hands on."""

import keras
import numpy as np
import pytest

from contracts import UNITS, cell_oracle, lengths_mask, normal, randomise
from kseq.layers import CELLS, Bidirectional, GRUCell, LSTMCell, Recurrent, RNNCell

BATCH, TIME, DEPTH = 3, 4, 2


def made(layer):
    layer.build((None, None, DEPTH))
    return randomise(layer)


def lstm(**options):
    return made(Recurrent(LSTMCell(UNITS), return_state=True, **options))


def bidirectional(merge_mode="concat"):
    return made(Bidirectional(Recurrent(LSTMCell(UNITS), return_state=True), merge_mode=merge_mode))


def first_states(n):
    return [normal(BATCH, UNITS, seed=k + 1) for k in range(n)]


LAYERS = {
    "forward": lstm,
    "backwards": lambda: lstm(go_backwards=True),
    "both": bidirectional,
}

every_layer = pytest.mark.parametrize("name", LAYERS)


def assert_states_close(got, want):
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_sequence_is_the_cell_step_after_step(go_backwards):
    """Oracle: `reference`'s cell in a loop, from random states."""
    layer, x, states = lstm(go_backwards=go_backwards), normal(BATCH, TIME, DEPTH), first_states(2)
    outputs, *after = layer(x, initial_state=states)
    for t in range(TIME):
        states = cell_oracle(layer.cell)(x[:, -1 - t if go_backwards else t], states)
        np.testing.assert_allclose(outputs[:, t], states[0], atol=1e-6)
    assert_states_close(after, states)


THEIRS = {
    "lstm": (LSTMCell, keras.layers.LSTM),
    "rnn": (RNNCell, keras.layers.SimpleRNN),
}


@pytest.mark.parametrize("options", [{}, {"return_sequences": False}, {"return_state": False}, {"go_backwards": True}])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_arguments_and_returns_are_those_of_keras(name, wrapped, options):
    """Oracle: the layer of Keras with the same weights and arguments; its structure, values and mask."""
    cell, keras_layer = THEIRS[name]
    modes = ["concat", "sum", "mul", "ave", None] if wrapped else [None]
    if wrapped and "go_backwards" in options:
        pytest.skip("Keras refuses a backward layer in Bidirectional, as kseq does")
    options = {"return_sequences": True, "return_state": True} | options
    for merge_mode in modes:
        ours = Recurrent(cell(UNITS), **options)
        theirs = keras_layer(UNITS, zero_output_for_mask=options["return_sequences"], **options)
        if wrapped:
            ours = Bidirectional(ours, merge_mode=merge_mode)
            theirs = keras.layers.Bidirectional(theirs, merge_mode=merge_mode)
        made(ours)
        theirs.build((None, None, DEPTH))
        theirs.set_weights(ours.get_weights())
        x, mask = normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 1], TIME)
        got, want = (layer(x, mask=mask) for layer in (ours, theirs))
        assert type(got) is type(want)
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(want), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        symbols = keras.Input((None, DEPTH)), keras.Input((7, DEPTH), batch_size=2)
        for symbol in symbols:
            shapes = [[y.shape for y in keras.tree.flatten(layer(symbol))] for layer in (ours, theirs)]
            assert shapes[0] == shapes[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_keras_own_bidirectional_and_time_distributed_take_our_layers(name):
    """Oracle: our own `Bidirectional`, and the layer called for each sequence."""
    cell, _ = THEIRS[name]
    x, mask = normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 0], TIME)
    for options in ({}, {"return_sequences": False}, {"return_state": True}):
        ours = made(Bidirectional(Recurrent(cell(UNITS), **options)))
        theirs = keras.layers.Bidirectional(Recurrent(cell(UNITS), **options))
        theirs.build((None, None, DEPTH))
        theirs.set_weights(ours.get_weights())
        for a, b in zip(*map(keras.tree.flatten, (theirs(x, mask=mask), ours(x, mask=mask))), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        again = keras.layers.Bidirectional.from_config(theirs.get_config())
        assert isinstance(again.forward_layer, Recurrent) and again.backward_layer.go_backwards
    many = normal(2, 3, TIME, DEPTH)
    for options in ({}, {"return_sequences": False}):
        layer = made(Recurrent(cell(UNITS), **options))
        want = np.stack([layer(one) for one in many])
        each = keras.layers.TimeDistributed(layer)
        np.testing.assert_allclose(each(many), want, atol=1e-6)
        for time in (3, None):
            inputs = keras.Input((time, TIME, DEPTH))
            model = keras.Model(inputs, each(inputs))
            assert model.output_shape == (None, time, *want.shape[2:])
            np.testing.assert_allclose(model(many), want, atol=1e-6)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_the_last_output_is_that_of_the_last_real_step(go_backwards):
    """Oracle: the sequence of outputs; zeros where a row has no real step, whatever the initial state."""
    layer = lstm(go_backwards=go_backwards)
    last = Recurrent(layer.cell, return_sequences=False, go_backwards=go_backwards)
    x, states = normal(BATCH, TIME, DEPTH), first_states(2)
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]) == 1
    outputs = np.asarray(layer(x, initial_state=states, mask=mask)[0])
    steps = (3, 2) if go_backwards else (1, 2)
    want = np.stack([outputs[0, steps[0]], outputs[1, steps[1]], np.zeros(UNITS)])
    np.testing.assert_allclose(last(x, initial_state=states, mask=mask), want, atol=1e-6)
    np.testing.assert_allclose(last(x, initial_state=states), layer(x, initial_state=states)[0][:, -1], atol=1e-6)
    assert not np.any(last(x[:, :0]))


def test_without_initial_state_the_first_is_zero():
    layer, x = lstm(), normal(BATCH, TIME, DEPTH)
    outputs, *after = layer(x)
    want, *want_after = layer(x, initial_state=[np.zeros((BATCH, UNITS), "float32")] * 2)
    np.testing.assert_array_equal(outputs, want)
    assert_states_close(after, want_after)


def test_without_return_state_only_the_outputs_come():
    layer, x = lstm(), normal(BATCH, TIME, DEPTH)
    bare = Recurrent(layer.cell)
    np.testing.assert_array_equal(bare(x), layer(x)[0])
    both = bidirectional()
    bare = made(Bidirectional(Recurrent(LSTMCell(UNITS))))
    bare.set_weights(both.get_weights())
    np.testing.assert_array_equal(bare(x), both(x)[0])


@every_layer
@pytest.mark.parametrize("side", ["right", "left", "around"])
def test_padding_changes_neither_outputs_nor_states(name, side):
    """Oracle: the same layer on the rows without their padding."""
    layer, x = LAYERS[name](), normal(BATCH, TIME, DEPTH)
    before, after = {"right": (0, 3), "left": (3, 0), "around": (1, 2)}[side]
    padded = 9 * normal(BATCH, before + TIME + after, DEPTH, seed=5)
    padded[:, before : before + TIME] = x
    mask = np.zeros(padded.shape[:2], "bool")
    mask[:, before : before + TIME] = True
    states = first_states(4 if name == "both" else 2)
    outputs, *last = layer(padded, mask=mask, initial_state=states)
    want, *want_last = layer(x, initial_state=states)
    if name == "backwards":
        outputs, want = outputs[:, ::-1], want[:, ::-1]
    np.testing.assert_allclose(outputs[:, before : before + TIME], want, atol=1e-6)
    assert not np.any(np.asarray(outputs)[~mask])
    assert_states_close(last, want_last)


@every_layer
def test_rows_of_a_batch_are_rows_by_themselves(name):
    """Lengths 4, 2 and 1 in one batch, and each row alone without padding."""
    layer, x, lengths = LAYERS[name](), normal(BATCH, TIME, DEPTH), [4, 2, 1]
    outputs, *states = layer(x, mask=lengths_mask(lengths, TIME))
    outputs = outputs[:, ::-1] if name == "backwards" else outputs
    for b, length in enumerate(lengths):
        want, *want_states = layer(x[b : b + 1, :length])
        want = want[:, ::-1] if name == "backwards" else want
        np.testing.assert_allclose(outputs[b : b + 1, :length], want, atol=1e-6)
        assert_states_close([state[b : b + 1] for state in states], want_states)


@every_layer
def test_a_fully_masked_row_keeps_its_state_and_gives_zeros(name):
    layer, x = LAYERS[name](), normal(BATCH, TIME, DEPTH)
    mask = lengths_mask([4, 0, 2], TIME)
    states = first_states(4 if name == "both" else 2)
    outputs, *after = layer(x, mask=mask, initial_state=states)
    assert not np.any(outputs[1]) and np.all(np.any(outputs[0], axis=-1))
    assert_states_close([state[1] for state in after], [state[1] for state in states])
    _, *after = layer(x, mask=mask)
    assert_states_close([state[1] for state in after], np.zeros((len(states), UNITS)))


def test_backwards_is_forwards_on_the_reversed_sequence():
    forward, backward = lstm(), lstm(go_backwards=True)
    x, mask = normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 1], TIME)
    outputs, *states = backward(x, mask=mask)
    want, *want_states = forward(x[:, ::-1], mask=mask[:, ::-1])
    np.testing.assert_allclose(outputs, want, atol=1e-6)
    assert_states_close(states, want_states)


@pytest.mark.parametrize(
    ("merge_mode", "merged"),
    [
        ("concat", lambda f, b: np.concatenate([f, b], axis=-1)),
        ("sum", lambda f, b: f + b),
        ("mul", lambda f, b: f * b),
        ("ave", lambda f, b: (f + b) / 2),
        (None, lambda f, b: np.stack([f, b])),
    ],
)
def test_bidirectional_is_two_layers_merged(merge_mode, merged):
    """Oracle: the two directions as layers of their own, with the same weights."""
    both, x, mask = bidirectional(merge_mode), normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 0], TIME)
    forward, backward, states = lstm(), lstm(go_backwards=True), first_states(4)
    forward.set_weights(both.get_weights()[:3])
    backward.set_weights(both.get_weights()[3:])
    assert not np.allclose(both.get_weights()[0], both.get_weights()[3])
    results = both(x, mask=mask, initial_state=states)
    outputs, after = (results[:2], results[2:]) if merge_mode is None else (results[0], results[1:])
    f, *left = forward(x, mask=mask, initial_state=states[:2])
    b, *right = backward(x, mask=mask, initial_state=states[2:])
    np.testing.assert_allclose(outputs, merged(f, b[:, ::-1]), atol=1e-6)
    assert_states_close(after, [*left, *right])


def test_bidirectional_keeps_the_settings_but_not_the_weights():
    both = Bidirectional(Recurrent(GRUCell(UNITS, reset_after=True)))
    both.build((None, None, DEPTH))
    assert both.backward_layer.go_backwards and not both.forward_layer.go_backwards
    assert both.backward_layer.cell.reset_after
    assert both.backward_layer.cell is not both.forward_layer.cell
    assert len(both.weights) == len({id(weight) for weight in both.weights}) == 10
    assert not np.allclose(both.forward_layer.cell.kernel, both.backward_layer.cell.kernel)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_mask_of_keras_arrives_and_is_handed_on(bidirectional):
    """Oracle: the mask given by hand."""
    layer = Recurrent(GRUCell(UNITS))
    layer = Bidirectional(layer) if bidirectional else layer
    ids = np.array([[3, 1, 2, 0], [4, 0, 0, 0]])
    embedding = keras.layers.Embedding(5, DEPTH, mask_zero=True)
    outputs = layer(embedding(ids))
    np.testing.assert_allclose(outputs, layer(np.asarray(embedding(ids)), mask=ids != 0), atol=1e-6)
    assert not np.any(np.asarray(outputs)[ids == 0])
    model = keras.Sequential([embedding, layer, keras.layers.GlobalAveragePooling1D()])
    want = [np.mean(outputs[0, :3], axis=0), outputs[1, 0]]
    np.testing.assert_allclose(model(ids), want, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "want"),
    [
        (lambda: Recurrent(LSTMCell(2)), "mask"),
        (lambda: Recurrent(LSTMCell(2), return_state=True), ("mask", None, None)),
        (lambda: Recurrent(LSTMCell(2), return_sequences=False), None),
        (lambda: Recurrent(LSTMCell(2), return_sequences=False, return_state=True), (None, None, None)),
        (lambda: Bidirectional(Recurrent(LSTMCell(2))), "mask"),
        (lambda: Bidirectional(Recurrent(LSTMCell(2), return_sequences=False)), None),
        (lambda: Bidirectional(Recurrent(LSTMCell(2)), merge_mode=None), ("mask", "mask")),
        (
            lambda: Bidirectional(Recurrent(LSTMCell(2), return_state=True), merge_mode=None),
            ("mask", "mask", *[None] * 4),
        ),
    ],
)
def test_the_mask_handed_on_has_the_structure_of_the_result(layer, want):
    assert layer().compute_mask("inputs", "mask") == want


def test_merge_mode_must_be_known():
    with pytest.raises(ValueError, match=r"^merge_mode must be one of 'concat', .*, 'ave', None, got 'mean'$"):
        Bidirectional(Recurrent(GRUCell(UNITS)), merge_mode="mean")


# Dropout, zoneout, and the cells of Keras.


@pytest.mark.parametrize(("make", "keras_make"), [(LSTMCell, keras.layers.LSTMCell), (GRUCell, keras.layers.GRUCell)])
def test_a_cell_of_keras_runs_in_our_loop(make, keras_make):
    """Oracle: `keras.layers.RNN` around the same cell, right-padded."""
    cell = keras_make(UNITS)
    ours, theirs = Recurrent(cell, return_state=True), keras.layers.RNN(cell, return_sequences=True, return_state=True)
    x, mask = normal(BATCH, TIME, DEPTH), lengths_mask([4, 2, 1], TIME)
    made(ours)
    want, *want_states = theirs(x, mask=mask)
    outputs, *states = ours(x, mask=mask)
    np.testing.assert_allclose(np.where(mask[:, :, None], outputs, 0), np.where(mask[:, :, None], want, 0), atol=1e-6)
    assert_states_close(states, want_states)


def test_zoneout_expects_the_mean_of_old_and_new():
    """Oracle: `reference`'s cell, each state mixed with the one before (Krueger et al., 2017, equation 5)."""
    layer, x, states = lstm(zoneout=0.25), normal(BATCH, TIME, DEPTH), first_states(2)
    outputs, *after = layer(x, initial_state=states)
    for t in range(TIME):
        new = cell_oracle(layer.cell)(x[:, t], states)
        states = [0.25 * o + 0.75 * n for o, n in zip(states, new, strict=True)]
        np.testing.assert_allclose(outputs[:, t], states[0], atol=1e-6)
    assert_states_close(after, states)


def test_zoneout_in_training_keeps_whole_values():
    """Every value of a state is the new one or the old one, and a quarter of them are old."""
    layer, x = made(Recurrent(GRUCell(40), zoneout=0.25, seed=1)), normal(8, 12, DEPTH)
    outputs = np.asarray(layer(x, training=True))
    before, stayed = np.zeros((8, 40)), []
    for t in range(12):
        [new] = cell_oracle(layer.cell)(x[:, t], [before])
        old = np.isclose(outputs[:, t], before, atol=1e-6)
        assert np.all(old | np.isclose(outputs[:, t], new, atol=1e-4))
        stayed.append(old)
        before = outputs[:, t].astype("float64")
    assert 0.2 < np.mean(stayed[1:]) < 0.3
    assert not np.array_equal(stayed[1], stayed[2])


def test_dropout_has_one_mask_for_all_steps():
    """A cell that hands on its input and its h shows what was dropped; what is left is scaled up."""
    layer = made(Recurrent(RNNCell(DEPTH), dropout=0.5, seed=2))
    layer.set_weights([np.eye(DEPTH), np.zeros((DEPTH, DEPTH)), np.zeros(DEPTH)])
    x = np.full((40, TIME, DEPTH), 0.5, "float32")
    outputs = np.arctanh(np.asarray(layer(x, training=True)))
    np.testing.assert_allclose(outputs, np.broadcast_to(outputs[:, :1], outputs.shape), atol=1e-6)
    assert set(np.round(np.unique(outputs.round(4)), 4)) == {0.0, 1.0}
    assert not np.array_equal(outputs, np.arctanh(np.asarray(layer(x, training=True))))
    np.testing.assert_allclose(layer(x), np.tanh(x), atol=1e-6)


def test_recurrent_dropout_has_one_mask_for_all_steps():
    """h doubles where it is kept and is lost where it is not: 1 → 2 → 4 …, in tanh's linear part."""
    layer = made(Recurrent(RNNCell(DEPTH), recurrent_dropout=0.5, seed=3))
    layer.set_weights([np.zeros((DEPTH, DEPTH)), np.eye(DEPTH), np.zeros(DEPTH)])
    first = [np.full((40, DEPTH), 1e-3, "float32")]
    outputs = np.asarray(layer(np.zeros((40, TIME, DEPTH)), initial_state=first, training=True)) / 1e-3
    kept = outputs[:, 0] > 0
    assert 0.3 < kept.mean() < 0.7
    want = np.where(kept[:, None], 2.0 ** np.arange(1, TIME + 1)[:, None], 0)
    np.testing.assert_allclose(outputs, want, rtol=1e-2)


@pytest.mark.parametrize("share", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"zoneout": 0.5}])
def test_a_model_that_trains_drops_and_one_that_does_not_does_not(share):
    x = keras.Input((None, DEPTH))
    model = keras.Model(x, Bidirectional(Recurrent(GRUCell(UNITS), **share))(x))
    inputs = normal(BATCH, TIME, DEPTH)
    one, other, still, again = (np.asarray(model(inputs, training=t)) for t in (True, True, False, False))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(still, again)


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_recurrent_dropout_is_of_what_the_products_read(make):
    """What a gate carries on is neither dropped nor scaled: h stays within 1 however long the sequence."""
    layer = made(Recurrent(make(UNITS), recurrent_dropout=0.5, seed=4))
    outputs = layer(np.zeros((8, 60, DEPTH), "float32"), training=True)
    assert np.max(np.abs(outputs)) <= 1
    assert np.std(np.asarray(outputs)[:, -1], axis=0).max() > 1e-3  # the masks of the rows differ


def test_the_two_directions_drop_other_units():
    layer = made(Bidirectional(Recurrent(RNNCell(DEPTH), dropout=0.5, seed=1), merge_mode=None))
    for one in (layer.forward_layer, layer.backward_layer):
        one.set_weights([np.eye(DEPTH), np.zeros((DEPTH, DEPTH)), np.zeros(DEPTH)])
    forward, backward = layer(np.ones((40, TIME, DEPTH), "float32"), training=True)
    assert not np.array_equal(forward, backward)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recurrent(keras.layers.GRUCell(2, dropout=0.1, name="a")), "cell a has dropout, which is not applied"),
        (
            lambda: Recurrent(keras.layers.StackedRNNCells([keras.layers.LSTMCell(2)] * 2, name="a")),
            "cell a has nested states .*; stack Recurrent layers instead$",
        ),
        (
            lambda: Recurrent(keras.layers.GRUCell(2), zoneout=0.1),
            "recurrent_dropout and zoneout are for a single cell of kseq",
        ),
        (lambda: Recurrent(4), r"cell must be a cell, as kseq.layers.LSTMCell\(4\) or keras.*, got 4$"),
        (lambda: Recurrent(LSTMCell), "cell must be a cell, as .*, got <class"),
        (
            lambda: Recurrent(keras.layers.LSTM(4)),
            "cell must be a cell, .*, got <LSTM .*; kseq.layers.from_keras converts a layer of Keras$",
        ),
        (lambda: Recurrent(Recurrent(GRUCell(4))), "cell must be a cell, .*, got <Recurrent"),
        (lambda: Recurrent(keras.layers.Dense(4)), "cell must be a cell, .*, got <Dense"),
        (
            lambda: Bidirectional(LSTMCell(4)),
            r"layer must be a Recurrent, as .*, got <LSTMCell .*; give it a Recurrent of that cell$",
        ),
        (lambda: Bidirectional(4), r"layer must be a Recurrent, as Recurrent\(LSTMCell\(4\)\), got 4$"),
        (lambda: Bidirectional(keras.layers.LSTM(4)), "layer must be a Recurrent, .*, got <LSTM"),
        (
            lambda: Bidirectional(Recurrent(GRUCell(4), go_backwards=True, name="a")),
            "layer a goes backwards; give the forward layer",
        ),
        (
            lambda: Recurrent(LSTMCell(4), name="a")(normal(2, 3, 2), initial_state=[normal(2, 4)]),
            r"initial_state of a must be 2 tensors of sizes \[4, 4\], got 1",
        ),
        (
            lambda: Bidirectional(Recurrent(GRUCell(4, name="c"), name="a"))(
                normal(2, 3, 2), initial_state=[normal(2, 4)]
            ),
            r"initial_state of a_backward must be 1 tensors of sizes \[4\], got 0",
        ),
    ],
)
def test_what_cannot_run_is_named(make, message):
    with pytest.raises(ValueError, match=f"{message}"):
        make()


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "zoneout"])
@pytest.mark.parametrize("value", [-0.1, 1, True, "a"])
def test_a_share_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be at least 0 and less than 1, got {value!r}$"):
        Recurrent(GRUCell(2), **{name: value})


# The masks of Keras.


class Reader(keras.Model):
    """A subclass that reads words by the layer that it is given, from states."""

    def __init__(self, layer, states):
        super().__init__()
        self.embedding = keras.layers.Embedding(5, DEPTH, mask_zero=True)
        self.layer, self.states = layer, states

    def call(self, ids):
        return self.layer(self.embedding(ids), initial_state=self.states)


@pytest.mark.parametrize("way", ["called", "functional", "subclass", "fit"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_of_keras_arrives_beside_an_initial_state_and_goes_on(name, way):
    """Oracle: the mask given by hand."""
    layer, ids = LAYERS[name](), np.array([[3, 1, 2, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    states = first_states(len(layer.state_size))
    reader = Reader(layer, states)
    got = reader(ids)
    if way == "called":
        assert_same_mask(got[0], ids[:, ::-1] != 0 if name == "backwards" else ids != 0)
    if way == "functional":
        inputs, starts = keras.Input((None,), dtype="int32"), [keras.Input((UNITS,)) for _ in states]
        outputs = layer(reader.embedding(inputs), initial_state=starts)
        pooled = keras.layers.GlobalAveragePooling1D()(outputs[0])
        *got, mean = keras.Model([inputs, *starts], [*outputs, pooled])([ids, *states])
        np.testing.assert_allclose(mean[0], np.sum(got[0][0], axis=0) / 3, atol=1e-6)
    if way == "fit":
        got = keras.Sequential([reader]).predict(ids, verbose=0)
    want = layer(np.asarray(reader.embedding(ids)), mask=ids != 0, initial_state=states)
    assert_states_close(got, want)


def assert_same_mask(x, mask):
    np.testing.assert_array_equal(x._keras_mask, mask)


# The cell's own settings.


class Remembering(keras.layers.Layer):
    """A cell whose state starts from ones, and which says it by itself."""

    state_size = DEPTH

    def get_initial_state(self, batch_size=None):
        return keras.ops.ones((batch_size, DEPTH))

    def call(self, inputs, states):
        [h] = states
        return inputs + h, inputs + h


def test_a_cell_starts_from_its_own_initial_state():
    """Oracle: `keras.layers.RNN` around the same cell."""
    x = normal(BATCH, TIME, DEPTH)
    theirs = keras.layers.RNN(Remembering(), return_sequences=True)(x)
    np.testing.assert_allclose(Recurrent(Remembering())(x), theirs, rtol=1e-6)
    np.testing.assert_allclose(theirs, 1 + np.cumsum(x, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: Recurrent(GRUCell(UNITS), **options),
        lambda **options: Recurrent(keras.layers.LSTMCell(UNITS), **options),
        lambda **options: Recurrent(LSTMCell(UNITS), zoneout=0.1, **options),
        lambda **options: Bidirectional(Recurrent(LSTMCell(UNITS)), **options),
    ],
    ids=["cell", "keras", "zoneout", "bidirectional"],
)
@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "mixed_bfloat16"])
def test_a_dtype_reaches_the_cell(make, policy):
    """Oracle: the same under float32."""
    layer, plain, x = made(make(dtype=policy)), made(make()), normal(BATCH, TIME, DEPTH)
    assert {part.dtype_policy.name for part in layer._flatten_layers()} == {policy}
    assert layer(x, training=True).dtype == layer.compute_dtype
    got = layer(x)
    assert got.dtype == layer.compute_dtype
    np.testing.assert_allclose(keras.ops.cast(got, "float32"), plain(x), atol=0.2)
    again = type(layer).from_config(layer.get_config())
    assert {part.dtype_policy.name for part in again._flatten_layers()} == {policy}


def test_without_a_dtype_a_layer_has_that_of_its_cell():
    layer = Bidirectional(Recurrent(LSTMCell(UNITS, dtype="float64")))
    assert layer.dtype_policy.name == "float64"
    assert layer(normal(BATCH, TIME, DEPTH)).dtype == "float64"
