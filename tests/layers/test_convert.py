"""Weights to and from Keras: the same outputs and states, and a clear error where Keras has nothing like it."""

import keras
import numpy as np
import pytest

from contracts import lengths_mask, normal, randomise
from kseq.layers import Bidirectional, GRUCell, LSTMCell, PeepholeLSTMCell, Recurrent, RNNCell, from_keras, to_keras

BATCH, TIME, DEPTH, UNITS = 3, 5, 2, 4

THEIRS = {
    "rnn": keras.layers.SimpleRNN,
    "lstm": keras.layers.LSTM,
    "gru": lambda units, **options: keras.layers.GRU(units, reset_after=False, **options),
    "gru_reset_after": keras.layers.GRU,
}
CELLS = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_after": lambda units: GRUCell(units, reset_after=True),
}

X, MASK = normal(BATCH, TIME, DEPTH), lengths_mask([5, 2, 3], TIME)


def assert_close(got, want):
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", THEIRS)
def test_a_layer_of_keras_is_one_of_ours(name, use_bias):
    """Oracle: the layer of Keras, on a sequence with padding, from random weights; and back to itself."""
    theirs = THEIRS[name](UNITS, return_sequences=True, return_state=True, use_bias=use_bias, dropout=0.2)
    theirs.build((None, None, DEPTH))
    randomise(theirs)
    ours = from_keras(theirs)
    assert ours.dropout == 0.2
    again = to_keras(ours)
    assert again.dropout == 0.2
    want, *states = theirs(X, mask=MASK)
    got, *after = ours(X, mask=MASK)
    np.testing.assert_allclose(got, np.where(MASK[:, :, None], want, 0), atol=1e-6)
    assert_close(after, states)
    assert_close(again(X, mask=MASK), [got, *after])


@pytest.mark.parametrize("name", CELLS)
def test_a_layer_of_ours_is_one_of_keras(name):
    """Oracle: our layer, from random weights; and back to the same weights, but for how a bias is shared out."""
    ours = Recurrent(CELLS[name](UNITS), return_state=True)
    ours.build((None, None, DEPTH))
    randomise(ours)
    for mask in (None, MASK):
        want, *states = ours(X, mask=mask)
        assert_close(to_keras(ours)(X, mask=mask), [want, *states])
    assert_close(from_keras(to_keras(ours)).get_weights(), ours.get_weights())


@pytest.mark.parametrize("options", [{"return_sequences": False}, {"go_backwards": True}, {"return_state": False}])
@pytest.mark.parametrize("name", THEIRS)
def test_directions_and_returns_go_along(name, options):
    """Oracle: the layer of Keras; and back to itself."""
    options = {"return_sequences": True, "return_state": True} | options
    theirs = built(THEIRS[name](UNITS, zero_output_for_mask=options["return_sequences"], **options))
    randomise(theirs)
    ours = from_keras(theirs)
    for layer in (ours, to_keras(ours)):
        assert_close(keras.tree.flatten(layer(X, mask=MASK)), keras.tree.flatten(theirs(X, mask=MASK)))


@pytest.mark.slow
@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("name", THEIRS)
def test_both_directions_go_along(name, return_sequences, merge_mode):
    """Oracle: `keras.layers.Bidirectional`, on a sequence with padding, from random weights; and back to itself."""
    options = {"return_sequences": return_sequences, "return_state": True}
    theirs = built(keras.layers.Bidirectional(THEIRS[name](UNITS, **options), merge_mode=merge_mode))
    randomise(theirs)
    ours = from_keras(theirs)
    assert isinstance(ours, Bidirectional)
    again = to_keras(ours)
    for layer in (ours, again):
        assert_close(layer(X, mask=MASK), theirs(X, mask=MASK))
    assert_close(from_keras(again).get_weights(), ours.get_weights())


def test_initializers_regularizers_and_constraints_go_along():
    options = {"kernel_initializer": "he_normal", "bias_regularizer": "l2", "recurrent_constraint": "non_neg"}
    config = from_keras(built(keras.layers.LSTM(UNITS, unit_forget_bias=False, **options))).cell.get_config()
    assert config["kernel_initializer"]["class_name"] == "HeNormal"
    assert config["bias_regularizer"]["class_name"] == "L2"
    assert config["recurrent_constraint"]["class_name"] == "NonNeg"
    assert config["forget_bias"] is None


def test_weights_of_keras_lstm_are_those_of_ours():
    """The same columns: no conversion is needed."""
    theirs = randomise(built(keras.layers.LSTM(UNITS, return_sequences=True)))
    ours = built(Recurrent(LSTMCell(UNITS)))
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-6)


@pytest.mark.parametrize("policy", ["float64", "mixed_float16"])
def test_precision_and_frozenness_go_along(policy):
    theirs = built(keras.layers.GRU(UNITS, return_sequences=True, use_bias=False, dtype=policy))
    theirs.trainable = False
    ours = from_keras(theirs)
    for layer in (ours, ours.cell, to_keras(ours)):
        assert layer.dtype_policy.name == policy and not layer.trainable_weights
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-12 if policy == "float64" else 2e-3)


def built(layer):
    layer.build((None, None, DEPTH))
    return layer


@pytest.mark.parametrize(
    ("convert", "layer", "message"),
    [
        (
            from_keras,
            lambda: built(keras.layers.Dense(2)),
            "layer must be a keras.layers.SimpleRNN, LSTM, GRU or Bidirectional of one, got Dense",
        ),
        (from_keras, lambda: keras.layers.LSTM(2, name="a"), "layer a has no weights yet; call or build it first"),
        (
            from_keras,
            lambda: built(keras.layers.GRU(2, activation="relu", name="a")),
            "layer a has activation='relu'; kseq's cells have 'tanh'",
        ),
        (
            from_keras,
            lambda: built(
                keras.layers.Bidirectional(
                    keras.layers.LSTM(2), backward_layer=keras.layers.LSTM(3, go_backwards=True), name="a"
                )
            ),
            "layer a has a backward layer that differs from its forward layer in units",
        ),
        (from_keras, lambda: keras.layers.Bidirectional(keras.layers.LSTM(2), name="a"), "layer a has no weights yet"),
        (to_keras, lambda: Bidirectional(Recurrent(GRUCell(2)), name="a"), "layer a has no weights yet"),
        (to_keras, lambda: built(keras.layers.LSTM(2)), "layer must be a Recurrent or a Bidirectional, got LSTM"),
        (
            to_keras,
            lambda: built(Recurrent(PeepholeLSTMCell(2))),
            "layer must be a Recurrent of an RNNCell, LSTMCell or GRUCell, got one of PeepholeLSTMCell",
        ),
        (to_keras, lambda: Recurrent(GRUCell(2), name="a"), "layer a has no weights yet; call or build it first"),
        (
            to_keras,
            lambda: built(Recurrent(GRUCell(2), zoneout=0.5, name="a")),
            "layer a has zoneout=0.5, which Keras' layers do not have",
        ),
    ],
)
def test_what_has_no_counterpart_is_named(convert, layer, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        convert(layer())
