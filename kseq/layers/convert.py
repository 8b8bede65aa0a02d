"""Weights to and from the recurrent layers of Keras, which then give the same outputs."""

import keras
import numpy as np

from kseq.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from kseq.layers.recurrent.recurrent import Recurrent

KINDS = (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU)

# What the function of a layer of Keras depends on beside its weights, and the only values that kseq's cells have.
SETTINGS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "go_backwards": False,
    "stateful": False,
}


def from_keras(layer):
    """A built layer of Keras as a layer of kseq with the same weights and the same outputs.

    Where a mask is false our outputs are zero; those of Keras are with `zero_output_for_mask`.

    Args:
        layer: built `keras.layers.SimpleRNN`, `LSTM` or `GRU`, with the default activations.

    Returns:
        built `Recurrent`; it gives the whole sequence whether or not `layer` does.

    Raises:
        ValueError: the layer is of another kind, is not built, or has a setting that kseq's cells have not.
    """
    kind = type(layer).__name__
    if type(layer) not in KINDS:
        raise ValueError(f"layer must be a keras.layers.SimpleRNN, LSTM or GRU, got {kind}")
    if not layer.built:
        raise ValueError(f"layer {layer.name} has no weights yet; call or build it first")
    config = layer.get_config()
    for name, value in SETTINGS.items():
        if config.get(name, value) != value:
            raise ValueError(f"layer {layer.name} has {name}={config[name]!r}; kseq's cells have {value!r}")
    units, weights, same = layer.units, layer.get_weights(), {"dtype": layer.dtype_policy}
    if kind == "GRU":
        cell = GRUCell(units, reset_after=layer.reset_after, **same)
        weights = _gru_from_keras(units, layer.reset_after, *weights)
    elif kind == "LSTM":
        cell, weights = LSTMCell(units, **same), _with_bias(weights, 4 * units)
    else:
        cell, weights = RNNCell(units, **same), _with_bias(weights, units)
    dropouts = {name: config[name] for name in ("dropout", "recurrent_dropout")}
    ours = Recurrent(cell, return_state=layer.return_state, **dropouts, **same)
    ours.build((None, None, weights[0].shape[0]))
    ours.set_weights(weights)
    ours.trainable = layer.trainable
    return ours


def to_keras(layer):
    """A built layer of kseq as a layer of Keras with the same weights and the same outputs.

    Args:
        layer: built `Recurrent` of an `RNNCell`, `LSTMCell` or `GRUCell` that runs forward, without zoneout.

    Returns:
        built `keras.layers.SimpleRNN`, `LSTM` or `GRU` that returns sequences, zero where a mask is false.

    Raises:
        ValueError: the cell is of another kind, the layer is not built, or it does what Keras' layers do not.
    """
    if type(layer) is not Recurrent:
        raise ValueError(f"layer must be a Recurrent, got {type(layer).__name__}")
    cell = layer.cell
    kind = type(cell)
    if kind not in (RNNCell, LSTMCell, GRUCell):
        raise ValueError(f"layer must be a Recurrent of an RNNCell, LSTMCell or GRUCell, got one of {kind.__name__}")
    if not layer.built:
        raise ValueError(f"layer {layer.name} has no weights yet; call or build it first")
    for name in ("reverse", "zoneout"):
        if getattr(layer, name):
            raise ValueError(f"layer {layer.name} has {name}={getattr(layer, name)!r}; it has no twin in Keras")
    units, weights, more = cell.units, layer.get_weights(), {}
    if kind is GRUCell:
        maker, more = keras.layers.GRU, {"reset_after": cell.reset_after}
        weights = _gru_to_keras(units, *weights)
    elif kind is LSTMCell:
        maker = keras.layers.LSTM
    else:
        maker = keras.layers.SimpleRNN
    more |= {name: getattr(layer, name) for name in ("return_state", "dropout", "recurrent_dropout")}
    theirs = maker(units, return_sequences=True, zero_output_for_mask=True, dtype=layer.dtype_policy, **more)
    theirs.build((None, None, weights[0].shape[0]))
    theirs.set_weights(weights)
    theirs.trainable = layer.trainable
    return theirs


def _with_bias(weights, size):
    return weights if len(weights) == 3 else [*weights, np.zeros(size, weights[0].dtype)]


def _negated(weight, units):
    """With the opposite z: Keras' GRU weighs the old state by it, kseq's the new one, and 1 − σ(a) = σ(−a)."""
    return np.concatenate([-weight[..., :units], weight[..., units:]], axis=-1)


def _gru_from_keras(units, reset_after, kernel, recurrent_kernel, bias=None):
    if bias is None:
        bias = np.zeros((1 + reset_after, 3 * units), kernel.dtype)
    bias = np.reshape(bias, (-1, 3 * units))
    outer, *inner = bias  # with reset_after there is a bias in each product
    more = [inner[0][2 * units :]] if inner else []
    if inner:
        outer = outer + np.concatenate([inner[0][: 2 * units], np.zeros(units, kernel.dtype)])
    kernel, recurrent_kernel, outer = (_negated(w, units) for w in (kernel, recurrent_kernel, outer))
    return [kernel, *np.split(recurrent_kernel, [2 * units], axis=-1), outer, *more]


def _gru_to_keras(units, kernel, recurrent_kernel, candidate_kernel, bias, recurrent_bias=None):
    whole = np.concatenate([recurrent_kernel, candidate_kernel], axis=-1)
    weights = [_negated(w, units) for w in (kernel, whole, bias)]
    if recurrent_bias is not None:
        inner = np.concatenate([np.zeros(2 * units, kernel.dtype), recurrent_bias])
        weights[2] = np.stack([weights[2], inner])
    return weights
