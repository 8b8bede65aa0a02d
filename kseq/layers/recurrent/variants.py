"""Cells with more weights than the plain ones: peepholes, layer normalization."""

import keras
from keras import ops

from kseq.layers.functional import linear
from kseq.layers.recurrent.cells import ForgetGateCell, GatedCell

EPSILON = 1e-5


@keras.saving.register_keras_serializable("kseq")
class PeepholeLSTMCell(ForgetGateCell):
    """One step of long short-term memory whose gates see the memory (Gers and Schmidhuber, 2000,
    https://doi.org/10.1109/IJCNN.2000.861302; Graves, 2013, https://arxiv.org/abs/1308.0850, equations 7 to 11).

        i = σ(W_i x + U_i h₋ + p_i ∘ c₋ + b_i)
        f = σ(W_f x + U_f h₋ + p_f ∘ c₋ + b_f)
        c = f ∘ c₋ + i ∘ tanh(W_c x + U_c h₋ + b_c)
        o = σ(W_o x + U_o h₋ + p_o ∘ c + b_o)
        h = o ∘ tanh(c)

    State: [h, c]. Columns of the kernels: i, f, c̃, o; rows of the peepholes: i, f, o.

    Args:
        units: size of h and of c.
        peephole_initializer, peephole_regularizer, peephole_constraint: for p.
        **kwargs: `use_bias`, `forget_bias`, and initializers, regularizers and constraints, as of `LSTMCell`.

    Raises:
        ValueError: units is not a positive whole number, or forget_bias is no number.
    """

    def __init__(
        self, units, *, peephole_initializer="zeros", peephole_regularizer=None, peephole_constraint=None, **kwargs
    ):
        super().__init__(units, **kwargs)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)
        self.peephole_constraint = keras.constraints.get(peephole_constraint)

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.peepholes = self._weight("peepholes", (3, self.units), of="peephole")

    def step(self, projected, states, dropped_states=None):
        h, c = (dropped_states or states)[0], states[1]
        p_i, p_f, p_o = ops.unstack(ops.cast(self.peepholes, h.dtype))
        i, f, c̃, o = ops.split(projected + linear(h, self.recurrent_kernel), 4, axis=-1)
        c = ops.sigmoid(f + p_f * c) * c + ops.sigmoid(i + p_i * c) * ops.tanh(c̃)
        h = ops.sigmoid(o + p_o * c) * ops.tanh(c)
        return h, [h, c]

    def get_config(self):
        return super().get_config() | {
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
            "peephole_regularizer": keras.regularizers.serialize(self.peephole_regularizer),
            "peephole_constraint": keras.constraints.serialize(self.peephole_constraint),
        }


class _Gains:
    """The arguments for the gains α of a cell with layer normalization."""

    def __init__(self, units, *, gain_initializer="ones", gain_regularizer=None, gain_constraint=None, **kwargs):
        super().__init__(units, **kwargs)
        self.gain_initializer = keras.initializers.get(gain_initializer)
        self.gain_regularizer = keras.regularizers.get(gain_regularizer)
        self.gain_constraint = keras.constraints.get(gain_constraint)

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.input_gain = self._weight("input_gain", (self.projected_size,), of="gain")
        self.recurrent_gain = self._weight("recurrent_gain", (self.projected_size,), of="gain")

    def get_config(self):
        return super().get_config() | {
            "gain_initializer": keras.initializers.serialize(self.gain_initializer),
            "gain_regularizer": keras.regularizers.serialize(self.gain_regularizer),
            "gain_constraint": keras.constraints.serialize(self.gain_constraint),
        }


@keras.saving.register_keras_serializable("kseq")
class LayerNormLSTMCell(_Gains, ForgetGateCell):
    """One step of long short-term memory with layer normalization (Ba et al., 2016, https://arxiv.org/abs/1607.06450,
    equations 20 to 22).

        i, f, c̃, o = α₁ ∘ norm(W x) + α₂ ∘ norm(U h₋) + b
        c = σ(f) ∘ c₋ + σ(i) ∘ tanh(c̃)
        h = σ(o) ∘ tanh(α₃ ∘ norm(c) + β₃)
        norm(a) = (a − mean a) / √(var a + 10⁻⁵)          over all gates together

    State: [h, c]. Columns of the kernels: i, f, c̃, o.

    Args:
        units: size of h and of c.
        gain_initializer, gain_regularizer, gain_constraint: for the gains α.
        **kwargs: `use_bias`, `forget_bias`, and initializers, regularizers and constraints, as of `LSTMCell`. Those of
            the bias are for β₃ too.

    Raises:
        ValueError: units is not a positive whole number, or forget_bias is no number.
    """

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.memory_gain = self._weight("memory_gain", (self.units,), of="gain")
        self.memory_bias = self._weight("memory_bias", (self.units,), of="bias") if self.use_bias else None

    def project(self, inputs):
        return _normalize(linear(inputs, self.kernel), self.input_gain, self.bias)

    def step(self, projected, states, dropped_states=None):
        h, c = (dropped_states or states)[0], states[1]
        gates = projected + _normalize(linear(h, self.recurrent_kernel), self.recurrent_gain)
        i, f, c̃, o = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(c̃)
        h = ops.sigmoid(o) * ops.tanh(_normalize(c, self.memory_gain, self.memory_bias))
        return h, [h, c]


@keras.saving.register_keras_serializable("kseq")
class LayerNormGRUCell(_Gains, GatedCell):
    """One step of a gated recurrent unit with layer normalization (Ba et al., 2016, https://arxiv.org/abs/1607.06450,
    supplement, equations 23 to 25); z weighs the new state.

        z, r = σ(α₁ ∘ norm(W_zr x) + α₂ ∘ norm(U_zr h₋) + b_zr)
        n = tanh(α₃ ∘ norm(W_n x) + b_n + r ∘ (α₄ ∘ norm(U_n h₋)))
        h = z ∘ n + (1 − z) ∘ h₋
        norm(a) = (a − mean a) / √(var a + 10⁻⁵)          z and r together, n by itself

    State: [h]. Columns of the kernels: z, r, n.

    Args:
        units: size of h.
        gain_initializer, gain_regularizer, gain_constraint: for the gains α.
        **kwargs: `use_bias`, and initializers, regularizers and constraints, as of `GRUCell`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    gates = 3

    def project(self, inputs):
        return self._normalize_blocks(linear(inputs, self.kernel), self.input_gain, self.bias)

    def step(self, projected, states, dropped_states=None):
        h = (dropped_states or states)[0]
        recurrent = self._normalize_blocks(linear(h, self.recurrent_kernel), self.recurrent_gain)
        x_zr, x_n = ops.split(projected, [2 * self.units], axis=-1)
        u_zr, u_n = ops.split(recurrent, [2 * self.units], axis=-1)
        z, r = ops.split(ops.sigmoid(x_zr + u_zr), 2, axis=-1)
        n = ops.tanh(x_n + r * u_n)
        h = z * n + (1 - z) * states[0]
        return h, [h]

    def _normalize_blocks(self, x, gain, bias=None):
        x = ops.split(x, [2 * self.units], axis=-1)
        gains = ops.split(gain, [2 * self.units])
        y = ops.concatenate([_normalize(a, g) for a, g in zip(x, gains, strict=True)], axis=-1)
        return y if bias is None else y + ops.cast(bias, y.dtype)


def _normalize(x, gain, bias=None):
    """Over the last axis, in float32, then back in the precision of `x`."""
    a = ops.cast(x, "float32")
    a -= ops.mean(a, axis=-1, keepdims=True)
    a *= ops.rsqrt(ops.mean(ops.square(a), axis=-1, keepdims=True) + EPSILON) * ops.cast(gain, "float32")
    return ops.cast(a if bias is None else a + ops.cast(bias, "float32"), x.dtype)
