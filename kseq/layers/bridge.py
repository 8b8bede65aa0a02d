"""From the encoder's state to the decoder's first."""

import itertools

import keras
from keras import ops

from kseq.layers.functional import linear


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
