"""One step of each recurrence. Each cell runs in `kseq.layers.Recurrent`, in the decoders and in `keras.layers.RNN`.

A step has two halves: `project(inputs)` is everything that needs no state, so that a layer can do it once for a
whole sequence in one large product, and `step(projected, states)` is the rest.
"""

import abc

import keras
from keras import ops

from kseq.layers.functional import check_positive, linear


class RecurrentCell(keras.layers.Layer, abc.ABC):
    """What a layer that unrolls a cell asks of it.

    Attributes:
        state_size: list of the sizes of the states.
        output_size: size of the output.
        projected_size: size of what `project` returns.
        supports_recurrent_dropout: whether `Recurrent` can apply recurrent dropout and zoneout to it: a single kseq
            cell whose output is its first state can have them.
    """

    supports_recurrent_dropout = True

    def call(self, inputs, states):
        """One step: `[batch, d]`, list of `[batch, units]` → output `[batch, units]`, new states."""
        return self.step(self.project(inputs), states)

    @abc.abstractmethod
    def project(self, inputs):
        """What needs no state: `[..., d]` → `[..., projected_size]`."""

    @abc.abstractmethod
    def step(self, projected, states, dropped_states=None):
        """The other half: `[batch, projected_size]`, states → output `[batch, units]`, new states.

        `dropped_states` are the states after recurrent dropout. Where they are given, the matrix products read them;
        what a gate carries over from the previous step is not dropped.
        """

    def hidden(self, states):
        """The h that attention asks with, `[batch, output_size]`: the output of the step that made the states."""
        return states[0]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in self.state_size]


class GatedCell(RecurrentCell):
    """A cell with a stacked kernel W, a stacked recurrent kernel U and a bias b, a column block a gate.

    Args:
        units: size of the state.
        kernel_initializer: for W.
        recurrent_initializer: for U.

    Raises:
        ValueError: units is not a positive whole number.
    """

    gates = 1
    states = 1

    def __init__(self, units, *, kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal", **kwargs):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.state_size = [self.units] * self.states
        self.output_size = self.units
        self.projected_size = self.gates * self.units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.projected_size), self.kernel_initializer, name="kernel")
        self.recurrent_kernel = self.add_weight(
            (self.units, self.projected_size), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.bias = self.add_weight((self.projected_size,), self.initial_bias, name="bias")

    def initial_bias(self, shape, dtype=None):
        """The bias before training: zeros, unless a gate of the cell starts open."""
        return ops.zeros(shape, dtype)

    def project(self, inputs):
        """W x + b of every gate: `[..., d]` → `[..., projected_size]`."""
        return linear(inputs, self.kernel, self.bias)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
        }


@keras.saving.register_keras_serializable("kseq")
class RNNCell(GatedCell):
    """One step of the plain recurrent network (Elman, 1990, https://doi.org/10.1207/s15516709cog1402_1).

        h = tanh(W x + U h₋ + b)

    State: [h].
    """

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        [h] = states
        return {"h": ops.tanh(projected + linear(h, self.recurrent_kernel))}

    def step(self, projected, states, dropped_states=None):
        h = self.activations(projected, dropped_states or states)["h"]
        return h, [h]


@keras.saving.register_keras_serializable("kseq")
class LSTMCell(GatedCell):
    """One step of long short-term memory with a forget gate (Gers et al., 2000,
    https://doi.org/10.1162/089976600300015015).

        f = σ(W_f x + U_f h₋ + b_f)
        i = σ(W_i x + U_i h₋ + b_i)
        c̃ = tanh(W_c x + U_c h₋ + b_c)
        o = σ(W_o x + U_o h₋ + b_o)
        c = f ∘ c₋ + i ∘ c̃
        h = o ∘ tanh(c)

    State: [h, c]. Columns of the kernels: f, i, c̃, o.

    Args:
        units: size of h and of c.
        forget_bias: b_f before training; 1 keeps the memory open (Jozefowicz et al., 2015,
            https://proceedings.mlr.press/v37/jozefowicz15.html).
    """

    gates = 4
    states = 2

    def __init__(self, units, *, forget_bias=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.forget_bias = float(forget_bias)

    def initial_bias(self, shape, dtype=None):
        forget = ops.full((self.units,), self.forget_bias, dtype)
        return ops.concatenate([forget, ops.zeros((shape[0] - self.units,), dtype)])

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        h, _ = states
        f, i, c̃, o = ops.split(projected + linear(h, self.recurrent_kernel), 4, axis=-1)
        return {"f": ops.sigmoid(f), "i": ops.sigmoid(i), "c̃": ops.tanh(c̃), "o": ops.sigmoid(o)}

    def step(self, projected, states, dropped_states=None):
        f, i, c̃, o = self.activations(projected, dropped_states or states).values()
        c = f * states[1] + i * c̃
        h = o * ops.tanh(c)
        return h, [h, c]

    def get_config(self):
        return super().get_config() | {"forget_bias": self.forget_bias}


@keras.saving.register_keras_serializable("kseq")
class GRUCell(GatedCell):
    """One step of a gated recurrent unit; z weighs the new state (Chung et al., 2014, https://arxiv.org/abs/1412.3555).

        z = σ(W_z x + U_z h₋ + b_z)
        r = σ(W_r x + U_r h₋ + b_r)
        n = tanh(W_n x + U_n (r ∘ h₋) + b_n)
        h = z ∘ n + (1 − z) ∘ h₋

    With `reset_after`, the form that fused kernels compute (https://arxiv.org/abs/1406.1078v1):

        n = tanh(W_n x + b_n + r ∘ (U_n h₋ + b_u))

    State: [h]. Columns of the kernels: z, r, n. Cho et al. (2014) and Keras weigh the old state by z: the same
    function with z's weights negated.

    Args:
        units: size of h.
        reset_after: whether r is applied after the product with U_n.
    """

    gates = 3

    def __init__(self, units, *, reset_after=False, **kwargs):
        super().__init__(units, **kwargs)
        self.reset_after = bool(reset_after)

    def build(self, input_shape):
        super().build(input_shape)
        if self.reset_after:
            self.recurrent_bias = self.add_weight((self.units,), "zeros", name="recurrent_bias")

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        [h] = states
        x_zr, x_n = ops.split(projected, [2 * self.units], axis=-1)
        U_zr, U_n = ops.split(self.recurrent_kernel, [2 * self.units], axis=-1)
        z, r = ops.split(ops.sigmoid(x_zr + linear(h, U_zr)), 2, axis=-1)
        if self.reset_after:
            n = ops.tanh(x_n + r * linear(h, U_n, self.recurrent_bias))
        else:
            n = ops.tanh(x_n + linear(r * h, U_n))
        return {"z": z, "r": r, "n": n}

    def step(self, projected, states, dropped_states=None):
        z, _, n = self.activations(projected, dropped_states or states).values()
        h = z * n + (1 - z) * states[0]
        return h, [h]

    def get_config(self):
        return super().get_config() | {"reset_after": self.reset_after}


@keras.saving.register_keras_serializable("kseq")
class KerasCell(RecurrentCell):
    """A cell of Keras, or any layer that is called like one, as a cell of kseq. Nothing of it is projected ahead, so a
    decoder has nothing to add a context to.

    Args:
        cell: layer with `state_size`, `output_size` and `call(inputs, states)`, as `keras.layers.LSTMCell`.

    Raises:
        ValueError: the cell has dropout of its own, or its states are nested.
    """

    supports_recurrent_dropout = False

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        if getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0):
            raise ValueError(f"cell {cell.name} has dropout, which is not applied here; give dropout to Recurrent")
        self.cell = cell
        self.state_size = list(cell.state_size) if isinstance(cell.state_size, list | tuple) else [cell.state_size]
        if not all(isinstance(size, int) for size in self.state_size):
            raise ValueError(f"cell {cell.name} has nested states {cell.state_size!r}; stack Recurrent layers instead")
        self.output_size = cell.output_size

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build(input_shape)
        self.projected_size = input_shape[-1]

    def project(self, inputs):
        return inputs

    def step(self, projected, states, dropped_states=None):
        output, states = self.cell(projected, list(states), training=False)
        return output, list(states)

    def get_config(self):
        return super().get_config() | {"cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)
