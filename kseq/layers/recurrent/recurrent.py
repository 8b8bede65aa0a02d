"""Layers over whole sequences: a cell run over time, and the same in two directions."""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.dropout import dropout, uniform
from kseq.layers.dtypes import share_dtype
from kseq.layers.functional import carried_mask, check_fraction
from kseq.layers.recurrent import cudnn, fused
from kseq.layers.recurrent.cells import KerasCell, RecurrentCell, is_cell
from kseq.layers.recurrent.unroll import unroll


@keras.saving.register_keras_serializable("kseq")
class Recurrent(keras.layers.Layer):
    """Runs a cell over time, as `keras.layers.RNN` does; what needs no state is one product over the whole sequence.

    A mask freezes the state and zeroes the output, so that padding on either side changes nothing and the last state of
    a row is the state after its last real step. The mask that Keras carries with the inputs is used and goes on with
    the outputs, whether or not an initial state is given.

    In training, the dropouts that keep one mask for all steps of a sequence (Gal and Ghahramani, 2016,
    https://arxiv.org/abs/1512.05287), and zoneout, which keeps a state's old value at random and otherwise takes the
    mean (Krueger et al., 2017, https://arxiv.org/abs/1606.01305, equations 3 to 5).

    Args:
        cell: a cell of `kseq.layers`, or of Keras.
        return_sequences: whether to return the outputs of all steps, or the last real one. Unlike in Keras, all are the
            default: attention reads them.
        return_state: whether `call` also returns the last states.
        go_backwards: whether to run from the last step to the first. As in Keras, the outputs come in the order in
            which they were made, the last step first, and so does their mask.
        dropout: fraction of the inputs to drop.
        recurrent_dropout: fraction of the first state, h, to drop where the products of a step read it.
        zoneout: fraction of each state that stays as it was.
        seed: of the dropout masks.
        dtype: of the computations; it reaches the cell. The cell's own when not given.

    Call arguments:
        inputs: `[batch, time, d]`.
        initial_state: list of `[batch, units]`; what the cell starts from when not given, which is zeros.
        mask: bool `[batch, time]`, true where a step is real.

    Returns:
        `[batch, time, units]`, or `[batch, units]` without `return_sequences`: zeros where no step is real. With
        `return_state` a tuple of it and of the states, `y, *states`.

    Raises:
        ValueError: cell is no cell; a fraction is not at least 0 and less than 1; a cell of Keras or a `StackedCell` is
            to have recurrent dropout or zoneout; the initial state has not as many tensors as the cell has states.

    >>> layer = Recurrent(GRUCell(8))
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    """

    stateful, states = False, None  # `keras.layers.Bidirectional` asks; nothing is kept between calls

    def __init__(
        self,
        cell,
        *,
        return_sequences=True,
        return_state=False,
        go_backwards=False,
        dropout=0.0,
        recurrent_dropout=0.0,
        zoneout=0.0,
        seed=None,
        dtype=None,
        **kwargs,
    ):
        if not isinstance(cell, RecurrentCell):
            cell = KerasCell(cell)
        super().__init__(dtype=share_dtype(dtype, cell), **kwargs)
        self.cell = cell
        self.state_size = self.cell.state_size
        self.output_size = self.cell.output_size
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.dropout = check_fraction("dropout", dropout)
        self.recurrent_dropout = check_fraction("recurrent_dropout", recurrent_dropout)
        self.zoneout = check_fraction("zoneout", zoneout)
        if not self.cell.supports_recurrent_dropout and (self.recurrent_dropout or self.zoneout):
            raise ValueError(
                "recurrent_dropout and zoneout are for a single cell of kseq, and this one is of Keras or a stack; "
                "give those of a StackedCell to the layers of a Stack"
            )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, inputs_shape, initial_state_shape=None):
        if not self.cell.built:
            self.cell.build((inputs_shape[0], inputs_shape[-1]))
            self.cell.built = True

    def call(self, inputs, initial_state=None, mask=None, training=None):
        mask = carried_mask(inputs, mask)
        inputs = ops.cast(inputs, self.compute_dtype)
        states = self._starts(inputs, initial_state)
        if training and self.dropout:
            inputs *= self._mask(inputs[:, :1], self.dropout)
        if self.go_backwards:
            inputs, mask = (x if x is None else tf.reverse(x, [1]) for x in (inputs, mask))
        plain = not self.zoneout and not (training and self.recurrent_dropout)
        if plain and cudnn.can_run(self.cell, inputs.dtype, training):
            outputs, states = cudnn.run(self.cell, inputs, states, mask)
        elif plain and fused.has_fused(self.cell):
            outputs, states = fused.run(self.cell, inputs, states, mask, training=training)
        else:
            outputs, states = self._unrolled(inputs, states, mask, training)
        if not self.return_sequences:
            outputs = _last(outputs, mask)
        return (outputs, *states) if self.return_state else outputs

    def get_initial_state(self, batch_size):
        """What the cell starts from: list of `[batch_size, units]`."""
        return self.cell.get_initial_state(batch_size)

    def _starts(self, inputs, initial_state):
        if initial_state is None:
            return self.get_initial_state(ops.shape(inputs)[0])
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        if len(states) != len(self.state_size):
            raise ValueError(
                f"initial_state of {self.name} must be {len(self.state_size)} tensors of sizes "
                f"{list(self.state_size)}, got {len(states)}"
            )
        return [ops.cast(state, self.compute_dtype) for state in states]

    def _unrolled(self, inputs, states, mask, training):
        step, draws = self._step(states, training)
        project = lambda x: [self.cell.project(x[0]), *x[1:]]  # noqa: E731
        return unroll(step, [inputs, *draws(inputs)], states, mask, project=project, training=training)

    def _step(self, states, training):
        """The cell's step with recurrent dropout and zoneout, and what is drawn for each step."""
        dropped = self._mask(states[0], self.recurrent_dropout) if training and self.recurrent_dropout else None

        def step(inputs, states):
            projected, *drawn = inputs
            h, *others = states
            output, after = self.cell.step(projected, states, None if dropped is None else [h * dropped, *others])
            if self.zoneout:
                after = self._zoned(drawn, states, after)
                output = after[0]
            return output, after

        def draws(inputs):
            if not (training and self.zoneout):
                return []
            batch, time = ops.shape(inputs)[:2]
            sizes = self.state_size
            return [uniform((batch, time, n), self.seed_generator) for n in sizes]

        return step, draws

    def _zoned(self, drawn, old, new):
        """The states after zoneout: at random where numbers are drawn, in training, else the mean."""
        if drawn:
            return [ops.where(d < self.zoneout, o, n) for d, o, n in zip(drawn, old, new, strict=True)]
        return [self.zoneout * o + (1 - self.zoneout) * n for o, n in zip(old, new, strict=True)]

    def _mask(self, like, rate):
        return dropout(ops.ones_like(like), rate, self.seed_generator)

    def compute_mask(self, inputs, mask=None):
        if not self.return_sequences:
            mask = None
        elif self.go_backwards and mask is not None:
            mask = ops.flip(mask, axis=1)
        return (mask, *[None] * len(self.state_size)) if self.return_state else mask

    def compute_output_shape(self, inputs_shape, initial_state_shape=None):
        batch, time, _ = inputs_shape
        outputs = (batch, time, self.output_size) if self.return_sequences else (batch, self.output_size)
        return (outputs, *((batch, size) for size in self.state_size)) if self.return_state else outputs

    def get_config(self):
        return super().get_config() | {
            "cell": keras.saving.serialize_keras_object(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "zoneout": self.zoneout,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@keras.saving.register_keras_serializable("kseq")
class Bidirectional(keras.layers.Layer):
    """Two layers with the same settings and weights of their own, one in each direction (Schuster and Paliwal, 1997,
    https://doi.org/10.1109/78.650093), as `keras.layers.Bidirectional`.

    Args:
        layer: a `Recurrent` that goes forwards. It is the forward layer; a copy of it goes backwards.
        merge_mode: how the outputs of the two are merged: "concat" `[batch, time, 2 units]`, "sum", "mul", "ave", or
            None for both.
        dtype: of the computations; it reaches both layers. That of `layer` when not given.

    Call arguments:
        inputs: `[batch, time, d]`.
        initial_state: the states of the forward layer, then those of the backward layer.
        mask: bool `[batch, time]`; that of Keras when not given.

    Returns:
        The merged outputs, both in the order of the inputs; with merge_mode None a tuple of both. When the layer
        returns its states, they follow: `y, *forward_states, *backward_states`.

    Raises:
        ValueError: layer is no `Recurrent`, or goes backwards; merge_mode is not one of the five; the initial state has
            not as many tensors as the layers have states.
    """

    MERGE_MODES = ("concat", "sum", "mul", "ave", None)

    def __init__(self, layer, *, merge_mode="concat", dtype=None, **kwargs):
        if not isinstance(layer, Recurrent):
            remedy = "; give it a Recurrent of that cell" if is_cell(layer) else ""
            raise ValueError(f"layer must be a Recurrent, as Recurrent(LSTMCell(4)), got {layer!r}{remedy}")
        if layer.go_backwards:
            raise ValueError(f"layer {layer.name} goes backwards; give the forward layer, and a copy goes backwards")
        if merge_mode not in self.MERGE_MODES:
            raise ValueError(f"merge_mode must be one of {', '.join(map(repr, self.MERGE_MODES))}, got {merge_mode!r}")
        super().__init__(dtype=share_dtype(dtype, layer), **kwargs)
        self.forward_layer = layer
        self.merge_mode = merge_mode
        self.return_sequences = layer.return_sequences
        self.return_state = layer.return_state
        self.state_size = 2 * layer.state_size
        self.output_size = (2 if merge_mode == "concat" else 1) * layer.output_size
        self.supports_masking = True
        self.input_spec = layer.input_spec
        config = layer.get_config()
        self.backward_layer = type(layer).from_config(
            config
            | {"go_backwards": True, "name": f"{layer.name}_backward"}
            | {"seed": None if layer.seed is None else layer.seed + 1}
        )

    def build(self, inputs_shape, initial_state_shape=None):
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(inputs_shape)

    def call(self, inputs, initial_state=None, mask=None, training=None):
        mask = carried_mask(inputs, mask)
        halves = (None, None)
        if initial_state is not None:
            middle = len(self.forward_layer.state_size)
            halves = (initial_state[:middle], initial_state[middle:])
        (y, *forward), (y_back, *backward) = (
            keras.tree.flatten(layer(inputs, initial_state=half, mask=mask, training=training))
            for layer, half in zip((self.forward_layer, self.backward_layer), halves, strict=True)
        )
        if self.return_sequences:
            y_back = ops.flip(y_back, axis=1)
        merged = self._merged(y, y_back)
        if not self.return_state:
            return merged
        return (*(merged if self.merge_mode is None else [merged]), *forward, *backward)

    def _merged(self, y, y_back):
        match self.merge_mode:
            case "concat":
                return ops.concatenate([y, y_back], axis=-1)
            case "sum":
                return y + y_back
            case "mul":
                return y * y_back
            case "ave":
                return (y + y_back) / 2
        return y, y_back

    def compute_mask(self, inputs, mask=None):
        merged = [mask if self.return_sequences else None] * (2 if self.merge_mode is None else 1)
        if self.return_state:
            return (*merged, *[None] * len(self.state_size))
        return tuple(merged) if self.merge_mode is None else merged[0]

    def compute_output_shape(self, inputs_shape, initial_state_shape=None):
        batch, time, _ = inputs_shape
        one = (batch, time, self.output_size) if self.return_sequences else (batch, self.output_size)
        if self.return_state:
            states = [(batch, size) for size in self.state_size]
            return (*([one, one] if self.merge_mode is None else [one]), *states)
        return (one, one) if self.merge_mode is None else one

    def get_config(self):
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.forward_layer),
            "merge_mode": self.merge_mode,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


def _last(outputs, mask):
    """The output of the last real step: `[batch, time, units]`, bool `[batch, time]` → `[batch, units]`."""
    if mask is None:
        return tf.reduce_sum(outputs[:, -1:], axis=1)  # of one step, or of none
    after = tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True, reverse=True)  # real steps that follow
    last = tf.logical_and(mask, after == 0)
    return tf.reduce_sum(tf.where(last[..., None], outputs, tf.zeros_like(outputs)), axis=1)
