"""Music as a sequence of sets: the keys of a piano that sound at each step."""

import itertools

import keras
from keras import layers, ops

from kseq.layers import DenseBridge, Dropout, Recurrent, RecurrentCell
from kseq.layers.functional import check_fraction, check_positive
from kseq.models.encoders import build_once
from kseq.samplers import RollSampler


@keras.saving.register_keras_serializable("kseq")
class PianoRollModel(keras.Model):
    """A recurrent network over piano rolls: the keys that sound next, given a vector and all steps before
    (Boulanger-Lewandowski et al., 2012, https://arxiv.org/abs/1206.6392, section 3.1, with the vector v added).

        s_0 = tanh(W v + b)
        h_t, s_t = cell([x_{t−1}; v], s_{t−1}),  x_0 = 0
        p(x_tk = 1 | x_<t, v) = σ(c_k + V_k h_t)

    x_tk is 1 where key k sounds at step t. With several cells, each reads the h of the one below.

    Given the past, these keys are independent of each other, so that a drawn step may have two melody notes where
    either alone would do. With `chained` each key also sees the lower keys of its own step, by logistic regression (a
    fully visible sigmoid belief network; Larochelle and Murray, 2011,
    https://proceedings.mlr.press/v15/larochelle11a.html, section 2):

        p(x_tk = 1 | x_<t, x_t1 … x_t,k−1, v) = σ(c_k + V_k h_t + Σ_{j<k} A_jk x_tj)

    Args:
        cells: list of cells of `kseq.layers`, the lowest first.
        keys: number of keys.
        dropout: fraction of each h dropped in training, before the next cell and before the logits.
        recurrent_dropout: as of `Recurrent`.
        chained: whether a key sees the lower keys of its own step.

    Call arguments:
        inputs: {"vector": float `[batch, d]`, "roll": `[batch, time, keys]` of zeros and ones}. The logits of a step do
            not depend on that step of the roll or on later ones, except with `chained` on the step's lower keys.

    Returns:
        logits, float32 `[batch, time, keys]`, one for each key of each step of the roll.

    Raises:
        ValueError: cells is not a list of cells, or a number is out of range.
    """

    def __init__(self, cells, *, keys=88, dropout=0.0, recurrent_dropout=0.0, chained=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(cells, list | tuple) or not cells or not all(isinstance(x, RecurrentCell) for x in cells):
            raise ValueError(f"cells must be a list of cells of kseq.layers, as [LSTMCell(4)], got {cells!r}")
        self.keys = check_positive("keys", keys)
        self.recurrent_dropout = check_fraction("recurrent_dropout", recurrent_dropout)
        self.recurrent = [Recurrent(x, return_state=True, recurrent_dropout=recurrent_dropout) for x in cells]
        self.bridge = DenseBridge([size for cell in cells for size in cell.state_size], dtype=self.dtype_policy)
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.readout = layers.Dense(self.keys, dtype="float32")
        self.chained = bool(chained)
        self.chain = KeyChain(self.keys, dtype="float32") if chained else None

    def build(self, inputs_shape):
        batch, time, keys = inputs_shape["roll"]
        vector = inputs_shape["vector"]
        build_once(self.bridge, [vector])
        shape = (batch, time, keys + vector[-1])
        for layer in self.recurrent:
            build_once(layer, shape)
            shape = (batch, time, layer.output_size)
            build_once(self.dropout, shape)
        build_once(self.readout, shape)
        if self.chain is not None:
            build_once(self.chain, (batch, time, keys))

    def call(self, inputs, training=None):
        vector = ops.cast(inputs["vector"], self.compute_dtype)
        roll = ops.cast(inputs["roll"], self.compute_dtype)
        before = ops.pad(roll[:, :-1], [[0, 0], [1, 0], [0, 0]])
        x = ops.concatenate([before, vector[:, None] + ops.zeros_like(before[:, :, :1])], axis=-1)
        for layer, start in zip(self.recurrent, self._by_cell(self.bridge([vector])), strict=True):
            h, *_ = layer(x, initial_state=start, training=training)
            x = self.dropout(h, training=training)
        logits = self.readout(x)
        return logits if self.chain is None else logits + self.chain(ops.cast(roll, "float32"))

    def encode(self, vector):
        """What a sampler starts from: the states before the first step, and the memory that all steps read."""
        vector = ops.cast(vector, self.compute_dtype)
        return self.bridge([vector]), vector

    def step(self, frame, states, memory):
        """One step, as a sampler takes it.

        The previous step `[n, keys]`, states, memory → logits float32 `[n, keys]`, without what the lower keys of the
        step add, and states.
        """
        x, after = ops.concatenate([ops.cast(frame, self.compute_dtype), memory], axis=-1), []
        for layer, before in zip(self.recurrent, self._by_cell(states), strict=True):
            x, new = layer.cell.call(x, before)
            after += new
        return self.readout(x), after

    def generate(self, vector, lengths, seeds, *, sampler=None, beginning=None, beginning_lengths=None):
        """Draws a roll for each vector, step by step.

        It runs eagerly; where many are drawn, compile it once, `tf.function(model.generate)`.

        Args:
            vector: float `[batch, d]`.
            lengths: int `[batch]`, the number of steps to draw.
            seeds: int `[batch]`.
            sampler: `RollSampler` of as many keys; the plain one when not given.
            beginning: `[batch, b, keys]`, what the rolls begin with; nothing when not given.
            beginning_lengths: int `[batch]`, how many steps of it each row has; b when not given.

        Returns:
            `kseq.samplers.Rolls`: roll, lengths and log_probs.
        """
        states, memory = self.encode(vector)
        return (sampler or RollSampler(self.keys))(
            self.step,
            states,
            memory,
            lengths=lengths,
            seeds=seeds,
            chain=None if self.chain is None else self.chain.matrix(),
            beginning=beginning,
            beginning_lengths=beginning_lengths,
        )

    def _by_cell(self, states):
        """The states of each cell, from a list of those of all."""
        counts = [len(layer.state_size) for layer in self.recurrent]
        ends = list(itertools.accumulate(counts))
        return [states[end - n : end] for end, n in zip(ends, counts, strict=True)]

    def get_config(self):
        return super().get_config() | {
            "cells": [keras.saving.serialize_keras_object(layer.cell) for layer in self.recurrent],
            "keys": self.keys,
            "dropout": self.dropout.rate,
            "recurrent_dropout": self.recurrent_dropout,
            "chained": self.chained,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls([keras.saving.deserialize_keras_object(cell) for cell in config.pop("cells")], **config)


@keras.saving.register_keras_serializable("kseq")
class KeyChain(keras.layers.Layer):
    """What the lower keys of a step add to the logits of each key.

        y_k = Σ_{j<k} A_jk x_j

    Args:
        keys: number of keys.

    Call arguments:
        roll: `[..., keys]`.
    """

    def __init__(self, keys, **kwargs):
        super().__init__(**kwargs)
        self.keys = check_positive("keys", keys)

    def build(self, roll_shape):
        self.kernel = self.add_weight((self.keys, self.keys), "zeros", name="kernel")

    def call(self, roll):
        return ops.matmul(roll, self.matrix())

    def matrix(self):
        """A, float `[keys, keys]`, zero unless j < k."""
        return ops.triu(ops.convert_to_tensor(self.kernel), k=1)

    def get_config(self):
        return super().get_config() | {"keys": self.keys}
