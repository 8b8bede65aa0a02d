"""Depth: cells stacked in one step, and layers one after the other over a sequence."""

import itertools

import keras
from keras import ops

from kseq.layers.dtypes import share_dtype
from kseq.layers.functional import carried_mask
from kseq.layers.recurrent.cells import KerasCell, RecurrentCell
from kseq.layers.recurrent.recurrent import Bidirectional, Recurrent


@keras.saving.register_keras_serializable("kseq")
class StackedCell(RecurrentCell):
    """One step of cells one above the other, for a decoder several layers deep (Wu et al., 2016,
    https://arxiv.org/abs/1609.08144, section 3.1, equations 5 and 6).

        h_k = cell_k(x_{k−1}, h_k₋),  x_0 the input
        x_k = h_k
        x_k = h_k + x_{k−1}           with `residual`, from the second layer on

    The output is the last x. State: those of the lowest cell, then those of the cell above it, and so on.

    Args:
        cells: cells of `kseq.layers`, the lowest first.
        residual: whether each layer from the second on adds its input to its h.
        dtype: of the computations; it reaches all cells. That of the lowest cell when not given.

    Raises:
        ValueError: cells is no list of cells of `kseq.layers`, is empty, has one twice, or has outputs of several sizes
            in a residual stack.
    """

    supports_recurrent_dropout = False

    def __init__(self, cells, *, residual=False, dtype=None, **kwargs):
        cells = _listed("cells", cells)
        for cell in cells:
            if isinstance(cell, KerasCell) or not isinstance(cell, RecurrentCell):
                raise ValueError(f"cells must be of kseq.layers, got {cell!r}; put it into a layer of a Stack")
        cells = _checked("cells", cells, residual)
        super().__init__(dtype=share_dtype(dtype, *cells), **kwargs)
        self.cells = cells
        self.residual = bool(residual)
        self.state_size = [size for cell in cells for size in cell.state_size]
        self.output_size = cells[-1].output_size
        self.projected_size = cells[0].projected_size

    def build(self, input_shape):
        for cell in self.cells:
            if not cell.built:
                cell.build(input_shape)
            input_shape = (*input_shape[:-1], cell.output_size)

    def project(self, inputs):
        return self.cells[0].project(inputs)

    def step(self, projected, states, dropped_states=None):
        x, after = None, []
        parts = zip(self.cells, _apart(states, self.cells), _apart(dropped_states, self.cells), strict=True)
        for k, (cell, states, dropped_states) in enumerate(parts):
            h, new = cell.step(cell.project(x) if k else projected, states, dropped_states)
            x = h + x if self.residual and k else h
            after += new
        return x, after

    def hidden(self, states):
        h = [cell.hidden(part) for cell, part in zip(self.cells, _apart(states, self.cells), strict=True)]
        return sum(h[1:], h[0]) if self.residual else h[-1]  # each x is the sum of its h and of all below

    def get_config(self):
        return super().get_config() | {
            "cells": [keras.saving.serialize_keras_object(cell) for cell in self.cells],
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls([keras.saving.deserialize_keras_object(cell) for cell in config.pop("cells")], **config)


@keras.saving.register_keras_serializable("kseq")
class Stack(keras.layers.Layer):
    """Layers one after the other over a whole sequence (residual: Wu et al., 2016, https://arxiv.org/abs/1609.08144,
    section 3.1, equation 6).

        x_k = layer_k(x_{k−1}),  x_0 the inputs
        x_k = layer_k(x_{k−1}) + x_{k−1}    with `residual`, from the second layer on

    The outputs are the last x, in the order of the inputs, even those of a layer that goes backwards. Every layer
    gets the mask.

    Args:
        layers: `Recurrent` or `Bidirectional` layers, in the order in which they run. All return sequences; the last
            need not.
        residual: whether each layer from the second on adds its inputs to its outputs.
        dtype: of the computations; it reaches all layers. That of the first layer when not given.

    Call arguments:
        inputs: `[batch, time, d]`.
        initial_state: the states of the first layer, then those of the second, and so on; zeros when not given.
        mask: bool `[batch, time]`; that of Keras when not given.

    Returns:
        `[batch, time, units]`, or `[batch, units]` if the last layer returns no sequence. When the layers return their
        states, those of all layers follow in the same order: `y, *states`.

    Raises:
        ValueError: layers is no list of such layers, is empty, or has one twice; one has two outputs; one below the
            last returns no sequence; they differ in `return_state`; the outputs of a residual stack are not all
            sequences of one size; the initial state has not as many tensors as the layers have states.

    >>> layer = Stack([Bidirectional(Recurrent(GRUCell(4))), Recurrent(GRUCell(8))], residual=True)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    """

    def __init__(self, layers, *, residual=False, dtype=None, **kwargs):
        layers = _listed("layers", layers)
        for layer in layers:
            if not isinstance(layer, Recurrent | Bidirectional):
                raise ValueError(f"layers must be Recurrent or Bidirectional, got {layer!r}")
            if getattr(layer, "merge_mode", "") is None:
                raise ValueError(f"layers must give one sequence each, got {layer.name} with merge_mode=None")
        layers = _checked("layers", layers, residual)
        if len({layer.return_state for layer in layers}) > 1:
            kinds = [layer.return_state for layer in layers]
            raise ValueError(f"layers must all return their states or none, got return_state of {kinds}")
        if not all(layer.return_sequences for layer in (layers if residual else layers[:-1])):
            kinds = [layer.return_sequences for layer in layers]
            which = "of a residual stack" if residual else "below the last"
            raise ValueError(f"layers {which} must return sequences, got return_sequences of {kinds}")
        super().__init__(dtype=share_dtype(dtype, *layers), **kwargs)
        self.layers = layers
        self.residual = bool(residual)
        self.return_sequences = layers[-1].return_sequences
        self.return_state = layers[0].return_state
        self.state_size = [size for layer in layers for size in layer.state_size]
        self.output_size = layers[-1].output_size
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, inputs_shape, initial_state_shape=None):
        for layer in self.layers:
            if not layer.built:
                layer.build(inputs_shape)
            inputs_shape = (*inputs_shape[:-1], layer.output_size)

    def call(self, inputs, initial_state=None, mask=None, training=None):
        mask = carried_mask(inputs, mask)
        if initial_state is not None and len(initial_state) != len(self.state_size):
            raise ValueError(
                f"initial_state of {self.name} must be {len(self.state_size)} tensors of sizes "
                f"{list(self.state_size)}, got {len(initial_state)}"
            )
        x, last = inputs, []
        for k, (layer, states) in enumerate(zip(self.layers, _apart(initial_state, self.layers), strict=True)):
            y, *after = keras.tree.flatten(layer(x, initial_state=states, mask=mask, training=training))
            last += after
            if layer.return_sequences and getattr(layer, "go_backwards", False):
                y = ops.flip(y, axis=1)
            x = y + x if self.residual and k else y
        return (x, *last) if self.return_state else x

    def compute_mask(self, inputs, mask=None):
        mask = mask if self.return_sequences else None
        return (mask, *[None] * len(self.state_size)) if self.return_state else mask

    def compute_output_shape(self, inputs_shape, initial_state_shape=None):
        batch, time, _ = inputs_shape
        outputs = (batch, time, self.output_size) if self.return_sequences else (batch, self.output_size)
        return (outputs, *((batch, size) for size in self.state_size)) if self.return_state else outputs

    def get_config(self):
        return super().get_config() | {
            "layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers],
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls([keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")], **config)


def _listed(name, parts):
    """Returns `parts` as a list, else raises `ValueError`."""
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{name} must be a list, got {parts!r}")
    return list(parts)


def _checked(name, parts, residual):
    """Returns `parts` if there are any, each once, with `residual` of one output size, else raises `ValueError`."""
    if not parts:
        raise ValueError(f"{name} must be one or more, got none")
    if len({id(part) for part in parts}) < len(parts):
        raise ValueError(f"{name} must each be a different object, got {parts}; make one for each layer")
    sizes = [part.output_size for part in parts]
    if residual and len(set(sizes)) > 1:
        raise ValueError(f"{name} of a residual stack must have outputs of one size, got {sizes}")
    return parts


def _apart(states, parts):
    """The states of each part, from a flat list by the parts' `state_size`; None for each when there are none."""
    if states is None:
        return [None] * len(parts)
    states = iter(states)
    return [list(itertools.islice(states, len(part.state_size))) for part in parts]
