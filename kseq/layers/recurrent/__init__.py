"""Recurrence: cells, the layers that run them over time, and the one loop that all of these use."""

from kseq.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from kseq.layers.recurrent.variants import LayerNormGRUCell, LayerNormLSTMCell, PeepholeLSTMCell

CELLS = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "peephole": PeepholeLSTMCell,
    "layer_norm_lstm": LayerNormLSTMCell,
    "layer_norm_gru": LayerNormGRUCell,
}
