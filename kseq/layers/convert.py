"""Weights to and from the recurrent layers of Keras, which then give the same outputs."""

import keras
import numpy as np

from kseq.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from kseq.layers.recurrent.recurrent import Bidirectional, Recurrent

KINDS = {
    keras.layers.SimpleRNN: RNNCell,
    keras.layers.LSTM: LSTMCell,
    keras.layers.GRU: GRUCell,
}

# What the function of a layer of Keras depends on beside its weights, and the only values that kseq's cells have.
SETTINGS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "stateful": False,
}

# What has one name and one meaning in both.
SHARED = ("return_sequences", "return_state", "go_backwards", "dropout", "recurrent_dropout", "seed")
CELL_OPTIONS = (
    "use_bias",
    *(
        f"{weight}_{what}"
        for weight in ("kernel", "recurrent", "bias")
        for what in ("initializer", "regularizer", "constraint")
    ),
)


def from_keras(layer):
    """A built layer of Keras as a layer of kseq with the same weights and the same outputs.

    Where a mask is false, ours returns zeros; Keras' does with `zero_output_for_mask`.

    Args:
        layer: built `keras.layers.SimpleRNN`, `LSTM` or `GRU`, with the default activations, or
            `keras.layers.Bidirectional` of one.

    Returns:
        built `Recurrent` or `Bidirectional`.

    Raises:
        ValueError: the layer is of another kind, is not built, or has a setting that kseq's cells do not have.
    """
    kind = type(layer)
    if kind is not keras.layers.Bidirectional and kind not in KINDS:
        raise ValueError(
            f"layer must be a keras.layers.SimpleRNN, LSTM, GRU or Bidirectional of one, got {kind.__name__}"
        )
    _check_built(layer)
    return _both_from_keras(layer) if kind is keras.layers.Bidirectional else _one_from_keras(layer)


def _one_from_keras(layer):
    config = layer.get_config()
    for name, value in SETTINGS.items():
        if config.get(name, value) != value:
            raise ValueError(f"layer {layer.name} has {name}={config[name]!r}; kseq's cells have {value!r}")
    make, weights, same = KINDS[type(layer)], layer.get_weights(), {"dtype": layer.dtype_policy}
    options = {name: config[name] for name in CELL_OPTIONS}
    if make is LSTMCell:
        options["forget_bias"] = 1.0 if layer.unit_forget_bias else None
    if make is GRUCell:
        options["reset_after"] = layer.reset_after
        weights = _gru_from_keras(layer.units, *weights)
    shared = {name: config[name] for name in SHARED if name in config}  # SimpleRNN keeps its seed to itself
    ours = Recurrent(make(layer.units, **options, **same), **shared, **same)
    ours.build((None, None, weights[0].shape[0]))
    ours.set_weights(weights)
    ours.trainable = layer.trainable
    return ours


def _both_from_keras(layer):
    forward, backward = from_keras(layer.forward_layer), from_keras(layer.backward_layer)
    ours = Bidirectional(forward, merge_mode=layer.merge_mode, dtype=layer.dtype_policy)
    ours.build((None, None, forward.cell.kernel.shape[0]))
    made, wanted = (_settings(one) for one in (ours.backward_layer, backward))
    if made != wanted:
        names = ", ".join(name for name in wanted if made[name] != wanted[name])
        raise ValueError(f"layer {layer.name} has a backward layer that differs from its forward layer in {names}")
    ours.backward_layer.set_weights(backward.get_weights())
    ours.trainable = layer.trainable
    return ours


def _settings(layer):
    """What two layers must have alike to be of the same function, given the same weights."""
    cell = layer.cell.get_config()
    names = ("return_sequences", "return_state", "go_backwards", "dropout", "recurrent_dropout")
    return (
        {"cell": type(layer.cell).__name__}
        | {name: getattr(layer, name) for name in names}
        | {name: cell[name] for name in ("units", "use_bias", "reset_after") if name in cell}
    )


def to_keras(layer):
    """A built layer of kseq as a layer of Keras with the same weights and the same outputs.

    Args:
        layer: built `Recurrent` of an `RNNCell`, `LSTMCell` or `GRUCell`, without zoneout, or `Bidirectional` of one.

    Returns:
        built `keras.layers.SimpleRNN`, `LSTM` or `GRU`, or `Bidirectional` of one; sequences are zero where a mask is
        false.

    Raises:
        ValueError: the layer or its cell is of another kind, the layer is not built, or it has zoneout.
    """
    if type(layer) is Bidirectional:
        _check_built(layer)
        theirs = keras.layers.Bidirectional(
            to_keras(layer.forward_layer), merge_mode=layer.merge_mode, dtype=layer.dtype_policy
        )
        theirs.build((None, None, layer.forward_layer.cell.kernel.shape[0]))
        backward = to_keras(layer.backward_layer)
        theirs.forward_layer.set_weights(to_keras(layer.forward_layer).get_weights())
        theirs.backward_layer.set_weights(backward.get_weights())
        theirs.trainable = layer.trainable
        return theirs
    if type(layer) is not Recurrent:
        raise ValueError(f"layer must be a Recurrent or a Bidirectional, got {type(layer).__name__}")
    return _one_to_keras(layer)


def _one_to_keras(layer):
    cell, makers = layer.cell, {ours: theirs for theirs, ours in KINDS.items()}
    if type(cell) not in makers:
        kind = type(cell).__name__
        raise ValueError(f"layer must be a Recurrent of an RNNCell, LSTMCell or GRUCell, got one of {kind}")
    _check_built(layer)
    if layer.zoneout:
        raise ValueError(f"layer {layer.name} has zoneout={layer.zoneout!r}, which Keras' layers do not have")
    weights, config = layer.get_weights(), cell.get_config()
    options = {name: config[name] for name in CELL_OPTIONS} | {name: getattr(layer, name) for name in SHARED}
    if type(cell) is LSTMCell:
        options["unit_forget_bias"] = cell.forget_bias is not None
    if type(cell) is GRUCell:
        options["reset_after"] = cell.reset_after
        weights = _gru_to_keras(cell, *weights)
    theirs = makers[type(cell)](
        cell.units, zero_output_for_mask=layer.return_sequences, dtype=layer.dtype_policy, **options
    )
    theirs.build((None, None, weights[0].shape[0]))
    theirs.set_weights(weights)
    theirs.trainable = layer.trainable
    return theirs


def _check_built(layer):
    if not layer.built:
        raise ValueError(f"layer {layer.name} has no weights yet; call or build it first")


def _negated(weight, units):
    """With the opposite z: Keras' GRU weighs the old state by it, kseq's the new one, and 1 − σ(a) = σ(−a)."""
    return np.concatenate([-weight[..., :units], weight[..., units:]], axis=-1)


def _gru_from_keras(units, kernel, recurrent_kernel, bias=None):
    kernel, recurrent_kernel = (_negated(w, units) for w in (kernel, recurrent_kernel))
    weights = [kernel, *np.split(recurrent_kernel, [2 * units], axis=-1)]
    if bias is None:
        return weights
    outer, *inner = np.reshape(bias, (-1, 3 * units))  # with reset_after there is a bias in each product
    for second in inner:
        outer = outer + np.concatenate([second[: 2 * units], np.zeros(units, kernel.dtype)])
    return [*weights, _negated(outer, units), *(second[2 * units :] for second in inner)]


def _gru_to_keras(cell, kernel, recurrent_kernel, candidate_kernel, bias=None, recurrent_bias=None):
    units = cell.units
    whole = np.concatenate([recurrent_kernel, candidate_kernel], axis=-1)
    weights = [_negated(w, units) for w in (kernel, whole)]
    if bias is None:
        return weights
    bias = _negated(bias, units)
    if recurrent_bias is not None:
        bias = np.stack([bias, np.concatenate([np.zeros(2 * units, kernel.dtype), recurrent_bias])])
    return [*weights, bias]
