"""Weights in fewer bytes: what an export stores of them, and what its graph makes of that again.

    float16     w' = float16(w)
    int8        s_j = max_i |w_ij| / 127,   q_ij = round(w_ij / s_j),   w'_ij = s_j q_ij

The first is half the size, the second a quarter. The int8 scheme is that of Jacob et al. (2018,
https://arxiv.org/abs/1712.05877, equation 1) with a zero point of 0, and with a scale s_j for each output channel j as
in Krishnamoorthi (2018, https://arxiv.org/abs/1806.08342): a column of a matrix, a filter of a convolution, a row of an
embedding. It moves a weight by at most s_j / 2. Only weights are stored so; all products stay in floats.

Matrices, filters and embeddings of at least `SMALLEST` numbers are stored so. Biases, the gains of normalizations,
depthwise filters, whose channels have a few numbers each, and whatever is not float32 stay as they are.
"""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_v2_func_graphs import ControlFlowFuncGraph  # no public name tells a loop

from kseq.errors import UserError

SMALLEST = 1024  # numbers of a weight; a smaller one would save nothing worth its rounding
DEPTHWISE = (
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class Stored(NamedTuple):
    """A weight as it is stored."""

    values: object  # float16 or int8
    scales: object = None  # float32, 1 in each axis that a scale is shared over; None for float16

    def restored(self):
        """w', float32."""
        values = self.values.astype(np.float32)
        return values if self.scales is None else values * self.scales


def quantize(values, channel=-1):
    """A weight in int8.

    Args:
        values: float32 array.
        channel: the axis that has a scale for each of its places.

    Returns:
        `Stored`; a channel of zeros alone has the scale 0.
    """
    channel %= values.ndim
    others = tuple(axis for axis in range(values.ndim) if axis != channel)
    scales = np.max(np.abs(values), axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    # The least floats round on their way to a scale, so that one of them could come out as 128 of it.
    steps = np.clip(np.rint(values / np.where(scales > 0, scales, 1)), -127, 127)
    return Stored(steps.astype(np.int8), scales)


def halve(values):
    """A weight in float16, as `Stored`."""
    with np.errstate(over="ignore"):  # `smaller` refuses it
        return Stored(values.astype(np.float16))


def smaller(models, kind):
    """What is stored smaller of some models.

    Args:
        models: list of `keras.Model`.
        kind: "float32", "float16" or "int8".

    Returns:
        list of (`keras.Variable`, `Stored`); empty for "float32".

    Raises:
        UserError: a weight is not finite, or is too large for float16.
    """
    found = []
    for variable in _large(models) if kind != "float32" else ():
        values = keras.ops.convert_to_numpy(variable)
        if not np.all(np.isfinite(values)):
            raise UserError(f"{variable.path} has numbers that are not finite; no answer of the model can be right")
        stored = halve(values) if kind == "float16" else quantize(values, 0 if variable.name == "embeddings" else -1)
        if not np.all(np.isfinite(stored.values)):
            raise UserError(
                f"{variable.path} has numbers up to {np.max(np.abs(values)):.3g}, and float16 ends at 65504; set "
                "serving.weights to int8 or float32"
            )
        found.append((variable, stored))
    return found


def _large(models):
    """The variables of some models that can be stored smaller."""
    layers = {id(layer): layer for model in models for layer in model._flatten_layers()}.values()
    kept = {id(weight) for layer in layers if isinstance(layer, DEPTHWISE) for weight in layer.weights}
    weights = {id(weight): weight for model in models for weight in model.weights if id(weight) not in kept}
    for weight in weights.values():
        if len(weight.shape) > 1 and np.prod(weight.shape) >= SMALLEST and weight.dtype == "float32":
            yield weight


def round_weights(models, kind):
    """Gives the weights of some models the values w' that an export of this kind has. Doing it again changes nothing
    but the last digit. Arguments and errors as of `smaller`.
    """
    for variable, stored in smaller(models, kind):
        variable.assign(stored.restored())


@contextlib.contextmanager
def rounded(models, kind):
    """`round_weights` until the end of the block."""
    before = [(variable, keras.ops.convert_to_numpy(variable)) for variable, _ in smaller(models, kind)]
    try:
        round_weights(models, kind)
        yield
    finally:
        for variable, values in before:
            variable.assign(values)


class Dequantized(keras.StatelessScope):
    """A scope in which the graphs that are built read w' of weights that are stored smaller.

    The graph reads what is stored and computes w' once a call, before any loop that multiplies by it. What is stored is
    a variable, not a constant, so that no optimizer of graphs computes w' when the model is loaded.

    A `tf.function` keeps the weights that it was first built with: one that is called in the scope must not have been
    called before. The scope holds the variables of its graphs, so it must live as long as they do.

    Args:
        stored: list of (`keras.Variable`, `Stored`).
    """

    def __init__(self, stored):
        super().__init__()
        self._stored = {
            id(variable): [None if x is None else tf.Variable(x, trainable=False) for x in parts]
            for variable, parts in stored
        }
        self._restored = {}

    def variables(self, models):
        """The variables that the graphs of some models read, list of `tf.Variable`."""
        stored = [x for parts in self._stored.values() for x in parts if x is not None]
        return stored + [x.value for model in models for x in model.variables if id(x) not in self._stored]

    def get_current_value(self, variable):
        """w' as a tensor of the graph that is being built, or of the one around its loops; None for other weights."""
        if id(variable) not in self._stored:
            return super().get_current_value(variable)
        graph = tf.compat.v1.get_default_graph()
        while isinstance(graph, ControlFlowFuncGraph):
            graph = graph.outer_graph
        key = id(graph), id(variable)
        if key not in self._restored:
            values, scales = self._stored[id(variable)]
            with graph.as_default(), tf.control_dependencies(None):
                restored = tf.cast(values, tf.float32)
                restored = restored if scales is None else restored * scales
            self._restored[key] = graph, restored  # which keeps the graph, and so its id
        return self._restored[key][1]
