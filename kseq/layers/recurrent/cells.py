"""One step of each recurrence. Each cell runs in `kseq.layers.Recurrent`, in the decoders and in `keras.layers.RNN`.

A step has two halves: `project(inputs)` is everything that needs no state, so that a layer can do it once for a
whole sequence in one large product, and `step(projected, states)` is the rest.
"""

import abc

import keras
from keras import ops

from kseq.layers.dtypes import share_dtype
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
        """The states before the first step, zeros: list of `[batch_size, units]`."""
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in self.state_size]

    def compute_output_shape(self, inputs_shape, states_shape=None):
        return (inputs_shape[0], self.output_size), [(inputs_shape[0], size) for size in self.state_size]


class GatedCell(RecurrentCell):
    """A cell with a stacked kernel W, a stacked recurrent kernel U and a bias b, with one block of columns per gate.

    Args:
        units: size of the state.
        use_bias: whether there is a bias b.
        kernel_initializer, recurrent_initializer, bias_initializer: for W, U and b.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: for W, U and b.
        kernel_constraint, recurrent_constraint, bias_constraint: for W, U and b.

    Raises:
        ValueError: units is not a positive whole number.
    """

    gates = 1
    states = 1

    def __init__(
        self,
        units,
        *,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = check_positive("units", units)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.state_size = [self.units] * self.states
        self.output_size = self.units
        self.projected_size = self.gates * self.units

    def build(self, inputs_shape):
        self.kernel = self._weight("kernel", (inputs_shape[-1], self.projected_size), of="kernel")
        self.build_recurrent_kernel()
        self.bias = None
        if self.use_bias:
            self.bias = self._weight("bias", (self.projected_size,), self.initial_bias, of="bias")

    def build_recurrent_kernel(self):
        """Makes U, `[units, gates · units]`."""
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, self.projected_size), of="recurrent")

    def initial_bias(self, shape, dtype=None):
        """The bias before training: what `bias_initializer` says, unless a gate of the cell starts open."""
        return self.bias_initializer(shape, dtype=dtype)

    def project(self, inputs):
        """W x + b of every gate: `[..., d]` → `[..., projected_size]`."""
        return linear(inputs, self.kernel, self.bias)

    def _weight(self, name, shape, initializer=None, *, of):
        """Adds a weight with the options that the constructor was given for `of`."""
        return self.add_weight(
            shape,
            initializer or getattr(self, f"{of}_initializer"),
            regularizer=getattr(self, f"{of}_regularizer"),
            constraint=getattr(self, f"{of}_constraint"),
            name=name,
        )

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "recurrent_constraint": keras.constraints.serialize(self.recurrent_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


class ForgetGateCell(GatedCell):
    """A `GatedCell` of four gates, i, f, c̃, o, with two states, whose forget gate starts open.

    Args:
        units: size of h and of c.
        forget_bias: b_f before training; 1 keeps the memory open (Jozefowicz et al., 2015,
            https://proceedings.mlr.press/v37/jozefowicz15.html). None leaves it to `bias_initializer`.
        **kwargs: as of `GatedCell`.

    Raises:
        ValueError: units is not a positive whole number, or forget_bias is no number.
    """

    gates = 4
    states = 2

    def __init__(self, units, *, forget_bias=1.0, **kwargs):
        super().__init__(units, **kwargs)
        if forget_bias is not None and (isinstance(forget_bias, bool) or not isinstance(forget_bias, int | float)):
            raise ValueError(f"forget_bias must be a number or None, got {forget_bias!r}")
        self.forget_bias = forget_bias if forget_bias is None else float(forget_bias)

    def initial_bias(self, shape, dtype=None):
        bias = super().initial_bias(shape, dtype)
        if self.forget_bias is None:
            return bias
        i, _, others = ops.split(bias, [self.units, 2 * self.units])
        return ops.concatenate([i, ops.full((self.units,), self.forget_bias, bias.dtype), others])

    def get_config(self):
        return super().get_config() | {"forget_bias": self.forget_bias}

    @classmethod
    def from_config(cls, config):
        # Cells whose columns were f, i, c̃, o saved their initializers, and had no use_bias yet.
        if "kernel_initializer" in config and "use_bias" not in config:
            raise ValueError(
                f"this {cls.__name__} was saved by a version of kseq whose kernels had their columns in the order "
                "f, i, c̃, o; they are i, f, c̃, o now, so that its weights would be read as those of other gates: "
                "train it again"
            )
        return cls(**config)


@keras.saving.register_keras_serializable("kseq")
class RNNCell(GatedCell):
    """One step of the plain recurrent network (Elman, 1990, https://doi.org/10.1207/s15516709cog1402_1).

        h = tanh(W x + U h₋ + b)

    State: [h]. The weights are those of `keras.layers.SimpleRNNCell`.

    Args:
        units: size of h.
        **kwargs: `use_bias`, and initializers, regularizers and constraints, as of `keras.layers.SimpleRNNCell`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        [h] = states
        return {"h": ops.tanh(projected + linear(h, self.recurrent_kernel))}

    def step(self, projected, states, dropped_states=None):
        h = self.activations(projected, dropped_states or states)["h"]
        return h, [h]


@keras.saving.register_keras_serializable("kseq")
class LSTMCell(ForgetGateCell):
    """One step of long short-term memory with a forget gate (Gers et al., 2000,
    https://doi.org/10.1162/089976600300015015).

        i = σ(W_i x + U_i h₋ + b_i)
        f = σ(W_f x + U_f h₋ + b_f)
        c̃ = tanh(W_c x + U_c h₋ + b_c)
        o = σ(W_o x + U_o h₋ + b_o)
        c = f ∘ c₋ + i ∘ c̃
        h = o ∘ tanh(c)

    State: [h, c]. Columns of the kernels: i, f, c̃, o, as in `keras.layers.LSTMCell`, whose weights these are.

    Args:
        units: size of h and of c.
        forget_bias: b_f before training; 1 keeps the memory open (Jozefowicz et al., 2015,
            https://proceedings.mlr.press/v37/jozefowicz15.html). None leaves it to `bias_initializer`.
        **kwargs: `use_bias`, and initializers, regularizers and constraints, as of `keras.layers.LSTMCell`.

    Raises:
        ValueError: units is not a positive whole number, or forget_bias is no number.
    """

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        h, _ = states
        i, f, c̃, o = ops.split(projected + linear(h, self.recurrent_kernel), 4, axis=-1)
        return {"i": ops.sigmoid(i), "f": ops.sigmoid(f), "c̃": ops.tanh(c̃), "o": ops.sigmoid(o)}

    def step(self, projected, states, dropped_states=None):
        i, f, c̃, o = self.activations(projected, dropped_states or states).values()
        c = f * states[1] + i * c̃
        h = o * ops.tanh(c)
        return h, [h, c]


@keras.saving.register_keras_serializable("kseq")
class GRUCell(GatedCell):
    """One step of a gated recurrent unit; z weighs the new state (Chung et al., 2014, https://arxiv.org/abs/1412.3555).

        z = σ(W_z x + U_z h₋ + b_z)
        r = σ(W_r x + U_r h₋ + b_r)
        n = tanh(W_n x + U_n (r ∘ h₋) + b_n)
        h = z ∘ n + (1 − z) ∘ h₋

    With `reset_after`, the form that fused kernels compute (https://arxiv.org/abs/1406.1078v1):

        n = tanh(W_n x + b_n + r ∘ (U_n h₋ + b_u))

    State: [h]. Columns of the kernel: z, r, n; of the recurrent kernel: z, r; `candidate_kernel` is U_n.

    Cho et al. (2014) and Keras weigh the old state by z: the same function with z's weights negated. So that weights of
    `keras.layers.GRU` are never taken for these, there are four here, or five, where Keras has three; `from_keras` and
    `to_keras` convert them.

    Args:
        units: size of h.
        reset_after: whether r is applied after the product with U_n.
        **kwargs: `use_bias`, and initializers, regularizers and constraints, as of `keras.layers.GRUCell`.

    Raises:
        ValueError: units is not a positive whole number.
    """

    gates = 3

    def __init__(self, units, *, reset_after=False, **kwargs):
        super().__init__(units, **kwargs)
        self.reset_after = bool(reset_after)

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.recurrent_bias = None
        if self.reset_after and self.use_bias:
            self.recurrent_bias = self._weight("recurrent_bias", (self.units,), of="bias")

    def build_recurrent_kernel(self):
        whole = (self.units, self.projected_size)  # drawn as one matrix, as Keras does, whatever the initializer

        def columns(first, last):
            return lambda shape, dtype=None: self.recurrent_initializer(whole, dtype=dtype)[:, first:last]

        gates = 2 * self.units
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, gates), columns(0, gates), of="recurrent")
        self.candidate_kernel = self._weight(
            "candidate_kernel", (self.units, self.units), columns(gates, None), of="recurrent"
        )

    def activations(self, projected, states):
        """{letter: `[batch, units]`} of the equations."""
        [h] = states
        x_zr, x_n = ops.split(projected, [2 * self.units], axis=-1)
        z, r = ops.split(ops.sigmoid(x_zr + linear(h, self.recurrent_kernel)), 2, axis=-1)
        if self.reset_after:
            n = ops.tanh(x_n + r * linear(h, self.candidate_kernel, self.recurrent_bias))
        else:
            n = ops.tanh(x_n + linear(r * h, self.candidate_kernel))
        return {"z": z, "r": r, "n": n}

    def step(self, projected, states, dropped_states=None):
        z, _, n = self.activations(projected, dropped_states or states).values()
        h = z * n + (1 - z) * states[0]
        return h, [h]

    def get_config(self):
        return super().get_config() | {"reset_after": self.reset_after}


@keras.saving.register_keras_serializable("kseq")
class KerasCell(RecurrentCell):
    """A cell of Keras, or any layer that is called like one, as a cell of kseq. It does not split its step, so that a
    decoder has nothing to add a context to.

    Args:
        cell: layer with `state_size` and `call(inputs, states)`, as `keras.layers.LSTMCell`. Where it has no
            `output_size`, its output is taken to be as large as its first state; where it has `get_initial_state`, that
            is what a sequence starts from, otherwise from zeros.
        dtype: of the computations; it reaches the cell. The cell's own when not given.

    Raises:
        ValueError: the cell is not such a layer, has dropout of its own, or its states are nested.
    """

    supports_recurrent_dropout = False

    def __init__(self, cell, *, dtype=None, **kwargs):
        if not is_cell(cell):
            raise ValueError(
                f"cell must be a cell, as kseq.layers.LSTMCell(4) or keras.layers.LSTMCell(4), got {cell!r}"
                + ("; kseq.layers.from_keras converts a layer of Keras" if isinstance(cell, keras.layers.RNN) else "")
            )
        super().__init__(dtype=share_dtype(dtype, cell), **kwargs)
        if getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0):
            raise ValueError(f"cell {cell.name} has dropout, which is not applied here; give dropout to Recurrent")
        self.cell = cell
        self.state_size = list(cell.state_size) if isinstance(cell.state_size, list | tuple) else [cell.state_size]
        if not all(isinstance(size, int) for size in self.state_size):
            raise ValueError(f"cell {cell.name} has nested states {cell.state_size!r}; stack Recurrent layers instead")
        size = getattr(cell, "output_size", None)
        self.output_size = self.state_size[0] if size is None else size

    def build(self, inputs_shape):
        if not self.cell.built:
            self.cell.build(inputs_shape)
            self.cell.built = True
        self.projected_size = inputs_shape[-1]

    def project(self, inputs):
        return inputs

    def step(self, projected, states, dropped_states=None):
        output, states = self.cell(projected, list(states), training=False)
        return output, _listed(states)

    def get_initial_state(self, batch_size=None):
        """The states that the cell itself starts from: list of `[batch_size, units]`."""
        if not hasattr(self.cell, "get_initial_state"):
            return super().get_initial_state(batch_size)
        return _listed(self.cell.get_initial_state(batch_size=batch_size))

    def get_config(self):
        return super().get_config() | {"cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


def is_cell(x):
    """Whether `x` is a layer that can be called as a cell: one step, `call(inputs, states)`."""
    return isinstance(x, keras.layers.Layer) and hasattr(x, "state_size") and not hasattr(x, "return_state")


def _listed(states):
    """A cell of Keras may give its only state by itself."""
    return list(states) if isinstance(states, list | tuple) else [states]
