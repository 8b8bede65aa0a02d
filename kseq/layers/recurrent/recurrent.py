"""Layers over whole sequences: a cell unrolled, and the same in two directions."""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.dropout import dropout, uniform
from kseq.layers.functional import check_fraction
from kseq.layers.recurrent import fused
from kseq.layers.recurrent.cells import KerasCell, RecurrentCell
from kseq.layers.recurrent.unroll import unroll


@keras.saving.register_keras_serializable("kseq")
class Recurrent(keras.layers.Layer):
    """Unrolls a cell over time; what needs no state is one product over the whole sequence.

    A mask freezes the state and zeroes the output, so that padding on either side changes nothing and the last
    state of a row is the state after its last real step.

    In training, the dropouts that keep one mask for all steps of a sequence (Gal and Ghahramani, 2016,
    https://arxiv.org/abs/1512.05287), and zoneout, which keeps a state's old value at random and otherwise expects it
    to (Krueger et al., 2017, https://arxiv.org/abs/1606.01305, equations 3 to 5).

    Args:
        cell: a cell of `kseq.layers`, or of Keras.
        reverse: whether to run from the last step to the first. The outputs stay in the order of the inputs.
        return_state: whether `call` also returns the list of last states.
        dropout: share of the inputs dropped.
        recurrent_dropout: share of the first state, h, dropped where the products of a step read it.
        zoneout: share of each state that stays as it was.
        seed: of the masks.

    Call arguments:
        inputs: `[batch, time, d]`.
        mask: bool `[batch, time]`, true where a step is real.
        initial_state: list of `[batch, units]`; zeros when not given.

    Returns:
        `[batch, time, units]`, and the states when `return_state`.

    Raises:
        ValueError: a share is not at least 0 and less than 1, or a cell of Keras or a `StackedCell` is to have
            recurrent dropout or zoneout.

    >>> layer = Recurrent(GRUCell(8))
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    """

    def __init__(
        self,
        cell,
        *,
        reverse=False,
        return_state=False,
        dropout=0.0,
        recurrent_dropout=0.0,
        zoneout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cell = cell if isinstance(cell, RecurrentCell) else KerasCell(cell)
        self.state_size = self.cell.state_size
        self.output_size = self.cell.output_size
        self.reverse = reverse
        self.return_state = return_state
        self.dropout = check_fraction("dropout", dropout)
        self.recurrent_dropout = check_fraction("recurrent_dropout", recurrent_dropout)
        self.zoneout = check_fraction("zoneout", zoneout)
        if not self.cell.supports_recurrent_dropout and (self.recurrent_dropout or self.zoneout):
            raise ValueError(
                "recurrent_dropout and zoneout are for cells of kseq, whose steps they reach into, and for one layer; "
                "give those of a StackedCell to the layers of a Stack"
            )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, inputs_shape):
        if not self.cell.built:
            self.cell.build((inputs_shape[0], inputs_shape[-1]))

    def call(self, inputs, mask=None, initial_state=None, training=None):
        states = self.cell.get_initial_state(ops.shape(inputs)[0]) if initial_state is None else initial_state
        if training and self.dropout:
            inputs *= self._mask(inputs[:, :1], self.dropout)
        inputs, mask = self._ordered(inputs), self._ordered(mask)
        if fused.has_fused(self.cell) and not self.zoneout and not (training and self.recurrent_dropout):
            outputs, states = fused.run(self.cell, inputs, states, mask, training=training)
        else:
            outputs, states = self._unrolled(inputs, states, mask, training)
        outputs = self._ordered(outputs)
        return (outputs, states) if self.return_state else outputs

    def _unrolled(self, inputs, states, mask, training):
        step, draws = self._step(states, training)
        project = lambda x: [self.cell.project(x[0]), *x[1:]]  # noqa: E731
        return unroll(step, [inputs, *draws(inputs)], states, mask, project=project, training=training)

    def _step(self, states, training):
        """The cell's step with the dropout and the zoneout that there is, and what it draws for each step."""
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
        """The states of which some stay: at random where numbers are drawn, in training, else in the mean."""
        if drawn:
            return [ops.where(d < self.zoneout, o, n) for d, o, n in zip(drawn, old, new, strict=True)]
        return [self.zoneout * o + (1 - self.zoneout) * n for o, n in zip(old, new, strict=True)]

    def _mask(self, like, rate):
        return dropout(ops.ones_like(like), rate, self.seed_generator)

    def compute_mask(self, inputs, mask=None):
        return (mask, [None] * len(self.state_size)) if self.return_state else mask

    def _ordered(self, x):
        return tf.reverse(x, [1]) if self.reverse and x is not None else x

    def get_config(self):
        return super().get_config() | {
            "cell": keras.saving.serialize_keras_object(self.cell),
            "reverse": self.reverse,
            "return_state": self.return_state,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "zoneout": self.zoneout,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@keras.saving.register_keras_serializable("kseq")
class Bidirectional(keras.layers.Layer):
    """Two layers with the same settings and weights of their own, one in each direction (Schuster and Paliwal, 1997,
    https://doi.org/10.1109/78.650093).

    Args:
        layer: a `Recurrent`; it runs in its own direction, a copy of it in the other.
        merge: "concat" `[batch, time, 2 units]`, "sum", "mean", or "none" for a list of the two.

    Call arguments:
        inputs: `[batch, time, d]`.
        mask: bool `[batch, time]`.
        initial_state: the states of `layer`, then those of its copy.

    Returns:
        The merged outputs; when the layer returns its states, also the states of both, in that order.

    Raises:
        ValueError: merge is not one of the four.
    """

    MERGES = ("concat", "sum", "mean", "none")

    def __init__(self, layer, *, merge="concat", **kwargs):
        super().__init__(**kwargs)
        if merge not in self.MERGES:
            raise ValueError(f"merge must be one of {', '.join(self.MERGES)}, got {merge!r}")
        self.layer = layer
        self.merge = merge
        self.return_state = layer.return_state
        self.state_size = 2 * layer.state_size
        self.output_size = (2 if merge == "concat" else 1) * layer.output_size
        self.supports_masking = True
        config = layer.get_config()
        self.backward = type(layer).from_config(
            config
            | {"reverse": not layer.reverse, "name": f"{layer.name}_backward"}
            | {"seed": None if layer.seed is None else layer.seed + 1}
        )

    def build(self, inputs_shape):
        for layer in (self.layer, self.backward):
            if not layer.built:
                layer.build(inputs_shape)

    def call(self, inputs, mask=None, initial_state=None):
        halves = (None, None)
        if initial_state is not None:
            middle = len(initial_state) // 2
            halves = (initial_state[:middle], initial_state[middle:])
        results = [
            layer(inputs, mask=mask, initial_state=half)
            for layer, half in zip((self.layer, self.backward), halves, strict=True)
        ]
        if not self.return_state:
            return self._merged(results)
        (forward, left), (backward, right) = results
        return self._merged([forward, backward]), [*left, *right]

    def _merged(self, outputs):
        match self.merge:
            case "concat":
                return ops.concatenate(outputs, axis=-1)
            case "sum":
                return outputs[0] + outputs[1]
            case "mean":
                return (outputs[0] + outputs[1]) / 2
        return outputs

    def compute_mask(self, inputs, mask=None):
        merged = [mask, mask] if self.merge == "none" else mask
        return (merged, [None] * len(self.state_size)) if self.return_state else merged

    def get_config(self):
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "merge": self.merge,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)
