"""Decoders: a step is written once, and unrolled over the teacher's words in training."""

import abc

import keras
from keras import ops

from kseq.layers.attention.base import Memory
from kseq.layers.functional import linear
from kseq.layers.recurrent.cells import KerasCell, RecurrentCell
from kseq.layers.recurrent.unroll import unroll


class Decoder(keras.layers.Layer, abc.ABC):
    """A cell that writes a sequence, one step after the other, with what an encoder made of a source.

    `call` is `step` unrolled: what `project` can do for all steps at once is done before the loop, what `readout` can
    is done after it, and only `advance` runs step by step. A sampler asks `memorize` once and `step` for each word.

    What a step adds to the word, a context or a fed-back state, it adds to what the cell's `project` made of the word:
    the product with both side by side. A cell that normalizes that product normalizes the word's part alone. In the
    equations h is the cell's output, that of a `StackedCell` its top layer's.

    Args:
        cell: a cell of `kseq.layers`.

    Call arguments:
        inputs: `[batch, time, d]`, the embedded previous words.
        memory: `[batch, source, d_memory]`.
        memory_mask: bool `[batch, source]`, true where a row is real; all are when not given.
        initial_state: list of the cell's states; zeros when not given.
        own: bool `[batch, time]`, true where a step reads what `speak` made of the step before in place of its input:
            scheduled sampling (Bengio et al., 2015, https://arxiv.org/abs/1506.03099). The first step never does.
        speak: function of a step's output `[batch, output_size]`, its alignment `[batch, source]` and the input that it
            read, `[batch, d]` → an input of the next, `[batch, d]`. Given together with `own`.

    Returns:
        outputs `[batch, time, output_size]` and alignments `[batch, time, source]`; with `speak` also the inputs as
        they were read, `[batch, time, d]`.

    Raises:
        ValueError: the cell is one of Keras, which projects nothing; `own` is given without `speak`, or `speak` without
            `own`; at build, a part was built for other sizes (from Keras).
    """

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        if isinstance(cell, KerasCell) or not isinstance(cell, RecurrentCell):
            raise ValueError(f"cell must be one of kseq.layers, to which a context can be added, got {cell!r}")
        self.cell = cell
        self.output_size = cell.output_size

    def build(self, inputs_shape, memory_shape):
        if not self.cell.built:
            self.cell.build((inputs_shape[0], inputs_shape[-1]))

    def call(self, inputs, memory, memory_mask=None, initial_state=None, own=None, speak=None, training=None):
        if (own is None) != (speak is None):
            raise ValueError(f"own and speak belong together, got {own!r} and {speak!r}; give both or neither")
        if initial_state is None:
            initial_state = self.cell.get_initial_state(ops.shape(inputs)[0])
        read = self.memorize(memory, memory_mask)
        states = self.first_states(initial_state, read)
        if speak is not None:
            return self._scheduled(inputs, states, read, own, speak, training)

        def advance(projected, states):
            return self.advance(projected, states, read)

        (hidden, context, alignments), _ = unroll(advance, inputs, states, project=self.cell.project, training=training)
        return self.readout(inputs, hidden, context), alignments

    def _scheduled(self, inputs, states, memory, own, speak, training):
        """What `call` returns with `speak`: whole steps, for none can be projected before the word is known."""

        def step(given, carried):
            inputs, own = given
            *states, said = carried
            inputs = ops.where(own[:, None], said, inputs)
            (output, alignment), states = self.step(inputs, states, memory)
            said = ops.cast(speak(output, alignment, inputs), inputs.dtype)
            return (output, alignment, inputs), [*states, said]

        own = ops.logical_and(own, ops.arange(ops.shape(inputs)[1]) > 0)
        results, _ = unroll(step, [inputs, own], [*states, ops.zeros_like(inputs[:, 0])], training=training)
        return results

    def step(self, inputs, states, memory):
        """One step by itself.

        Args:
            inputs: `[batch, d]`.
            states: what the last step returned, or `first_states`.
            memory: what `memorize` returned.

        Returns:
            (output `[batch, output_size]`, alignment `[batch, source]`) and the new states.
        """
        (hidden, context, alignment), states = self.advance(self.cell.project(inputs), states, memory)
        return (self.readout(inputs, hidden, context), alignment), states

    def memorize(self, memory, memory_mask=None):
        """The memory as the steps read it: `[batch, source, d]`, bool `[batch, source]` → `Memory`."""
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        return Memory(memory, self.keys(memory), memory_mask)

    def keys(self, memory):
        """The memory as it is compared with the state, made once a sequence."""
        return memory

    def first_states(self, states, memory):
        """The decoder's states before the first step, from the cell's and `Memory`."""
        return [*states, *self.own_states(states, memory)]

    @abc.abstractmethod
    def own_states(self, states, memory):
        """What it carries from step to step beside the cell's states, before the first step."""

    @abc.abstractmethod
    def advance(self, projected, states, memory):
        """What must run in order: `[batch, projected_size]` → (hidden, context, alignment) and the new states."""

    @abc.abstractmethod
    def readout(self, inputs, hidden, context):
        """The output from the word before, the state and the context, of one step or of all: `[..., output_size]`."""

    def penalty(self, alignments, logits, tokens):
        """What it asks of training beside the right words: as of `AttentionMechanism`."""
        return 0.0

    def compute_output_shape(self, inputs_shape, memory_shape):
        return (*inputs_shape[:-1], self.output_size), (*inputs_shape[:-1], memory_shape[1])

    def get_config(self):
        return super().get_config() | {"cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@keras.saving.register_keras_serializable("kseq")
class FixedContextDecoder(Decoder):
    """Reads no memory: all that it knows of the source is one vector (Sutskever et al., 2014,
    https://arxiv.org/abs/1409.3215, which starts from it; Cho et al., 2014, https://arxiv.org/abs/1406.1078, section
    2.2, which also reads it at every step). It is what attention replaced.

        v = the h of the initial states
        h_0 = v                              with `initial`, else 0
        h_t = cell([y_{t−1}; v], h_{t−1})    with `repeated`, else cell(y_{t−1}, h_{t−1})
        output_t = h_t

    The alignments are zero. States: those of the cell, then with `repeated` the product of v with the cell's kernel.

    Args:
        cell: a cell of `kseq.layers`.
        initial: whether the cell starts from the initial states.
        repeated: whether every step reads v.

    Raises:
        ValueError: neither initial nor repeated: nothing of the source would be known.
    """

    def __init__(self, cell, *, initial=True, repeated=True, **kwargs):
        super().__init__(cell, **kwargs)
        if not (initial or repeated):
            raise ValueError("initial and repeated are both false: the decoder would know nothing of the source")
        self.initial = bool(initial)
        self.repeated = bool(repeated)

    def build(self, inputs_shape, memory_shape):
        super().build(inputs_shape, memory_shape)
        if self.repeated:
            shape = (self.cell.output_size, self.cell.projected_size)
            self.context_kernel = self.add_weight(shape, name="context_kernel")

    def first_states(self, states, memory):
        starts = states if self.initial else [ops.zeros_like(state) for state in states]
        return [*starts, *self.own_states(states, memory)]

    def own_states(self, states, memory):
        return [linear(self.cell.hidden(states), self.context_kernel)] if self.repeated else []

    def advance(self, projected, states, memory):
        states, product = cut(states, self.cell)
        if self.repeated:
            projected += product[0]
        hidden, states = self.cell.step(projected, states)
        return (hidden, hidden, ops.zeros(ops.shape(memory.mask), "float32")), [*states, *product]

    def readout(self, inputs, hidden, context):
        return hidden

    def get_config(self):
        return super().get_config() | {"initial": self.initial, "repeated": self.repeated}


def cut(states, cell):
    """The states of the cell, and the others."""
    count = len(cell.state_size)
    return states[:count], states[count:]
