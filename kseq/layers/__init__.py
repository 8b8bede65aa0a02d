"""Layers: tensors in, tensors out. They know nothing of text, files or tasks."""

import kseq.layers.backend  # noqa: F401 (before all others: it refuses other backends)
from kseq.layers import attention, decoders
from kseq.layers.attention import *  # noqa: F403 (the public names of a family are its own list)
from kseq.layers.convert import from_keras, to_keras
from kseq.layers.decoders import *  # noqa: F403
from kseq.layers.diagnostics import gate_activations, state_gradients
from kseq.layers.dropout import Dropout
from kseq.layers.recurrent import CELLS
from kseq.layers.recurrent.cells import GRUCell, KerasCell, LSTMCell, RecurrentCell, RNNCell
from kseq.layers.recurrent.cudnn import allow_cudnn
from kseq.layers.recurrent.recurrent import Bidirectional, Recurrent
from kseq.layers.recurrent.stack import Stack, StackedCell
from kseq.layers.recurrent.unroll import unroll
from kseq.layers.recurrent.variants import LayerNormGRUCell, LayerNormLSTMCell, PeepholeLSTMCell
from kseq.layers.signal import LogMel, SpecAugment, WarpFrames

__all__ = [
    "CELLS",
    "Bidirectional",
    "Dropout",
    "GRUCell",
    "KerasCell",
    "LSTMCell",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LogMel",
    "PeepholeLSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "SpecAugment",
    "Stack",
    "StackedCell",
    "WarpFrames",
    "allow_cudnn",
    "from_keras",
    "gate_activations",
    "state_gradients",
    "to_keras",
    "unroll",
]
__all__ += attention.__all__
__all__ += decoders.__all__
