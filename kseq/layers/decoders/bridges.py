"""From the encoder's state to the decoder's first."""

import itertools

import keras
from keras import ops

from kseq.layers.functional import check_positive, linear


@keras.saving.register_keras_serializable("kseq")
class DenseBridge(keras.layers.Layer):
    """Each state of the decoder is a learned view of all states of the encoder (Xu et al., 2015,
    https://arxiv.org/abs/1502.03044, section 3.1.2; Bahdanau et al., 2015, appendix A.2.2).

        s_k = tanh(W_k e + b_k),  e the encoder's states side by side

    Args:
        state_size: sizes of the states to make, as the decoder's cell names them.

    Call arguments:
        states: list of `[batch, d_i]`.

    Returns:
        list of `[batch, state_size_k]`.
    """

    def __init__(self, state_size, **kwargs):
        super().__init__(**kwargs)
        self.state_size = list(state_size)

    def build(self, states_shape):
        depth = sum(shape[-1] for shape in states_shape)
        self.kernel = self.add_weight((depth, sum(self.state_size)), name="kernel")
        self.bias = self.add_weight((sum(self.state_size),), "zeros", name="bias")

    def call(self, states):
        made = ops.tanh(linear(ops.concatenate(states, axis=-1), self.kernel, self.bias))
        ends = itertools.accumulate(self.state_size)
        return [made[:, end - size : end] for size, end in zip(self.state_size, ends, strict=True)]

    def get_config(self):
        return super().get_config() | {"state_size": self.state_size}


@keras.saving.register_keras_serializable("kseq")
class ZeroBridge(keras.layers.Layer):
    """The decoder starts from zeros, whatever the encoder's state: all that it knows of the source it reads in the
    memory, so that a `FixedContextDecoder` behind this bridge would know nothing.

        s_k = 0

    Args:
        state_size: sizes of the states to make, as the decoder's cell names them.

    Call arguments:
        states: list of `[batch, d_i]`, of which only the batch is used.

    Returns:
        list of `[batch, state_size_k]`.
    """

    def __init__(self, state_size, **kwargs):
        super().__init__(**kwargs)
        self.state_size = list(state_size)

    def call(self, states):
        return [ops.zeros((ops.shape(states[0])[0], size), self.compute_dtype) for size in self.state_size]

    def get_config(self):
        return super().get_config() | {"state_size": self.state_size}


@keras.saving.register_keras_serializable("kseq")
class CopyBridge(keras.layers.Layer):
    """The decoder starts from the encoder's last states, without weights (Sutskever et al., 2014,
    https://arxiv.org/abs/1409.3215, section 2).

        s_k = e_j,  j the encoder's layer that is as far below the top as k, the lowest where there is none
        s_k = [e_j forward; e_j backward]    with two directions

    An h becomes h and a c becomes c. A c that the decoder does not have is left out. A c that the encoder does not have
    is h: c carries on what it holds, while h is only read by the products of the first step.

    The states come as a `Stack` gives them, layer by layer, of each layer the forward ones, then the backward ones. A
    `Bidirectional` of a `StackedCell` gives all layers of one direction first, which only a `DenseBridge` can read.

    Args:
        state_size: sizes of the states to make, as the decoder's cell names them.
        reads: number of states of a layer of the encoder in one direction: 2 of an LSTM, 1 of a GRU or a plain cell.
        makes: number of states of a layer of the decoder.
        directions: 2 when the encoder's layers are all bidirectional, else 1.

    Call arguments:
        states: list of `[batch, d_i]`, h before c.

    Returns:
        list of `[batch, state_size_k]`.

    Raises:
        ValueError: a number is out of its range, or state_size is not that of whole layers; at build, the encoder's
            states are not those of whole layers, or differ in size from those to make.
    """

    def __init__(self, state_size, *, reads, makes, directions=1, **kwargs):
        super().__init__(**kwargs)
        self.state_size = list(state_size)
        self.reads = check_positive("reads", reads)
        self.makes = check_positive("makes", makes)
        if check_positive("directions", directions) > 2:
            raise ValueError(f"directions must be 1 or 2, got {directions!r}")
        self.directions = directions
        if len(self.state_size) % makes:
            raise ValueError(f"state_size must have {makes} states a layer, as makes says, got {self.state_size}")

    def build(self, states_shape):
        sizes = [shape[-1] for shape in states_shape]
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
            "state_size": self.state_size,
            "reads": self.reads,
            "makes": self.makes,
            "directions": self.directions,
        }
