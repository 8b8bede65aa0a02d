"""Bridges: the decoder's first states, made from the encoder's last."""

import itertools

import keras
from keras import ops

from kseq.layers.functional import check_positive, linear
from kseq.layers.weights import Biases, Kernels


class Bridge(keras.layers.Layer):
    """What all bridges have in common: the sizes of the states that they make.

    Args:
        state_size: sizes of the decoder's states, as `cell.state_size`; a number for one state.

    Call arguments:
        states: list of the encoder's states, `[batch, d_i]`.

    Returns:
        list of the decoder's states, `[batch, state_size_k]`.

    Raises:
        ValueError: state_size is not a positive whole number or a list of them.
    """

    def __init__(self, state_size, **kwargs):
        super().__init__(**kwargs)
        sizes = list(state_size) if isinstance(state_size, list | tuple) else [state_size]
        if not sizes:
            raise ValueError("state_size must have the size of a state or more, got none")
        self.state_size = [check_positive("state_size", size) for size in sizes]

    def compute_output_shape(self, states_shape):
        batch = as_list(states_shape)[0][0]
        return [(batch, size) for size in self.state_size]

    def get_config(self):
        return super().get_config() | {"state_size": self.state_size}


def as_list(states):
    """A list of tensors or shapes, from one or several of them."""
    several = isinstance(states, list | tuple) and (not states or not isinstance(states[0], int | None))
    return list(states) if several else [states]


@keras.saving.register_keras_serializable("kseq")
class DenseBridge(Biases, Kernels, Bridge):
    """Makes each state of the decoder from all states of the encoder (Xu et al., 2015,
    https://arxiv.org/abs/1502.03044, section 3.1.2; Bahdanau et al., 2015, appendix A.2.2).

        s_k = tanh(W_k e + b_k),  e the encoder's states side by side

    Args:
        state_size: sizes of the decoder's states, as `cell.state_size`; a number for one state.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint for W and b, and those of every Keras layer.

    Call arguments:
        states: list of `[batch, d_i]`.

    Returns:
        list of `[batch, state_size_k]`.

    Raises:
        ValueError: state_size is not a positive whole number or a list of them.
    """

    def build(self, states_shape):
        depth = sum(shape[-1] for shape in as_list(states_shape))
        self.kernel = self.add_kernel((depth, sum(self.state_size)), "kernel")
        self.bias = self.add_bias((sum(self.state_size),), "bias")

    def call(self, states):
        made = ops.tanh(linear(ops.concatenate(as_list(states), axis=-1), self.kernel, self.bias))
        ends = itertools.accumulate(self.state_size)
        return [made[:, end - size : end] for size, end in zip(self.state_size, ends, strict=True)]


@keras.saving.register_keras_serializable("kseq")
class ZeroBridge(Bridge):
    """Starts the decoder from zeros, whatever the encoder's states are: it learns of the source only through attention.
    A `FixedContextDecoder` behind it would know nothing.

        s_k = 0

    Args:
        state_size: sizes of the decoder's states, as `cell.state_size`; a number for one state.

    Call arguments:
        states: list of `[batch, d_i]`, of which only the batch size is used.

    Returns:
        list of `[batch, state_size_k]`.

    Raises:
        ValueError: state_size is not a positive whole number or a list of them.
    """

    def call(self, states):
        batch = ops.shape(as_list(states)[0])[0]
        return [ops.zeros((batch, size), self.compute_dtype) for size in self.state_size]


@keras.saving.register_keras_serializable("kseq")
class CopyBridge(Bridge):
    """Starts the decoder from the encoder's last states, without weights (Sutskever et al., 2014,
    https://arxiv.org/abs/1409.3215, section 2).

        s_k = e_j,  j the encoder's layer as far below the top as k; the lowest where the decoder is deeper
        s_k = [e_j forward; e_j backward]    with two directions

    h becomes h, and c becomes c. A c that the decoder's cell does not have is dropped. A c that the encoder's cell does
    not have is h: c is what an LSTM carries on, and h only enters the products of the first step.

    The states come in the order of a `Stack`: layer by layer, the forward ones of each before the backward ones. A
    `Bidirectional` of a `StackedCell` returns all layers of one direction first; use a `DenseBridge` behind it.

    Args:
        state_size: sizes of the decoder's states, as `cell.state_size`; a number for one state.
        reads: number of states of one layer of the encoder in one direction: 2 for an LSTM, 1 for a GRU or plain cell.
        makes: the same of the decoder.
        directions: 2 if all layers of the encoder are bidirectional, else 1.

    Call arguments:
        states: list of `[batch, d_i]`, h before c.

    Returns:
        list of `[batch, state_size_k]`.

    Raises:
        ValueError: an argument is out of range, or state_size is not that of whole layers; at build, the encoder's
            states are not those of whole layers, or their sizes are not the decoder's.
    """

    def __init__(self, state_size, *, reads, makes, directions=1, **kwargs):
        super().__init__(state_size, **kwargs)
        self.reads = check_positive("reads", reads)
        self.makes = check_positive("makes", makes)
        if check_positive("directions", directions) > 2:
            raise ValueError(f"directions must be 1 or 2, got {directions!r}")
        self.directions = directions
        if len(self.state_size) % makes:
            raise ValueError(f"state_size must have {makes} states a layer, as makes says, got {self.state_size}")

    def build(self, states_shape):
        sizes = [shape[-1] for shape in as_list(states_shape)]
        if len(sizes) % (self.reads * self.directions):
            raise ValueError(
                f"the encoder must give reads × directions = {self.reads * self.directions} states a layer, "
                f"got {len(sizes)} states"
            )
        given = [sum(sizes[place] for place in places) for places in self._places(len(sizes))]
        if given != self.state_size:
            raise ValueError(
                f"the decoder's states are of sizes {self.state_size}, and the encoder's in their place of {given}; "
                "use DenseBridge, whose weights join the two"
            )

    def call(self, states):
        states = as_list(states)
        parts = [[states[place] for place in places] for places in self._places(len(states))]
        return [ops.concatenate(part, axis=-1) for part in parts]

    def _places(self, count):
        """For each state to make, the places of its parts among the `count` states of the encoder."""
        width, depth = self.reads * self.directions, len(self.state_size) // self.makes
        places = []
        for k in range(depth):
            start = width * max(0, k + count // width - depth)
            for state in range(self.makes):
                part = state if state < self.reads else 0
                places.append(range(start + part, start + width, self.reads))
        return places

    def get_config(self):
        return super().get_config() | {
            "reads": self.reads,
            "makes": self.makes,
            "directions": self.directions,
        }
