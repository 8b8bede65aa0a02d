"""Decoders: one step, written once, by itself for a sampler and over all time in training."""

import abc

import keras
from keras import ops

from kseq.layers.attention.base import Memory, as_mask, float32_alignment
from kseq.layers.dtypes import share_dtype
from kseq.layers.functional import linear
from kseq.layers.recurrent.cells import KerasCell, RecurrentCell
from kseq.layers.recurrent.unroll import unroll
from kseq.layers.weights import Kernels


class Decoder(keras.layers.Layer, abc.ABC):
    """Writes a sequence one step at a time from a source that an encoder has read.

    `call` runs `step` over all time. What needs no state is computed for all steps at once: `project` of the cell
    before the loop and `readout` after it; only `advance` runs inside. A sampler calls `memorize` and
    `get_initial_state` once, and `step` for each word.

    What a step adds to the embedded word, a context or a fed-back state, is added to what the cell's `project` made of
    the word: the same as the product of the cell's kernel with both side by side. A cell that normalizes that product
    normalizes the word's part alone. In the equations h is the cell's output, for a `StackedCell` that of its top
    layer.

    Args:
        cell: a cell of `kseq.layers`.
        dtype: dtype policy of the decoder and of its parts; by default that of the parts.

    Call arguments:
        inputs: `[batch, time, d]`, the embedded previous words.
        memory: `[batch, source, d_memory]`.
        memory_mask: bool `[batch, source]`, true where a row is real. By default the mask that Keras carries with
            `memory`; without one all rows are real.
        initial_state: list of the cell's states; by default the cell's own, zeros.
        inputs_mask: bool `[batch, time]`, true where a step is real. By default the mask that Keras carries with
            `inputs`. Where it is false the states stay as they are, and output and alignment are zero. It goes on to
            the next layer.
        sample_mask: bool `[batch, time]`, true where a step reads what `next_inputs` returned at the step before in
            place of its input: scheduled sampling (Bengio et al., 2015, https://arxiv.org/abs/1506.03099). The first
            step always reads its input.
        next_inputs: function of a step's output `[batch, output_size]`, its alignment `[batch, source]` and the input
            it read `[batch, d]` → the input of the next step `[batch, d]`. Required with `sample_mask`.

    Returns:
        outputs `[batch, time, output_size]` and alignments `[batch, time, source]`; with `next_inputs` also the inputs
        that were read, `[batch, time, d]`.

    Raises:
        ValueError: the cell is not one of `kseq.layers` or wraps a Keras cell, which has no `project`; the parts have
            different dtypes and `dtype` is not given; only one of `sample_mask` and `next_inputs` is given;
            `initial_state` does not fit the cell.
    """

    def __init__(self, cell, *, dtype=None, **kwargs):
        super().__init__(dtype=share_dtype(dtype, check_cell(cell)), **kwargs)
        self.cell = cell
        self.output_size = cell.output_size
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape):
        if not self.cell.built:
            self.cell.build((inputs_shape[0], inputs_shape[-1]))

    def call(
        self,
        inputs,
        memory,
        memory_mask=None,
        initial_state=None,
        inputs_mask=None,
        sample_mask=None,
        next_inputs=None,
        training=None,
    ):
        if (sample_mask is None) != (next_inputs is None):
            given, missing = ("sample_mask", "next_inputs") if next_inputs is None else ("next_inputs", "sample_mask")
            raise ValueError(f"{given} was given without {missing}; give both or neither")
        read = self.memorize(memory, memory_mask)
        states = self.get_initial_state(read, initial_state)
        inputs_mask = None if inputs_mask is None else as_mask("inputs_mask", inputs_mask, inputs)
        if next_inputs is not None:
            results = self._scheduled(inputs, states, read, inputs_mask, sample_mask, next_inputs, training)
            return masked(results, inputs_mask)

        def advance(projected, states):
            return self.advance(projected, states, read)

        options = {"project": self.cell.project, "constants": read, "training": training}
        (hidden, context, alignments), _ = unroll(advance, inputs, states, inputs_mask, **options)
        return masked((self.readout(inputs, hidden, context), alignments), inputs_mask)

    def _scheduled(self, inputs, states, memory, inputs_mask, sample_mask, next_inputs, training):
        """What `call` returns with `next_inputs`. Nothing can be projected ahead: each input is known at its step."""

        def step(given, carried):
            inputs, sampled = given
            *states, sample = carried
            inputs = ops.where(sampled[:, None], sample, inputs)
            (output, alignment), states = self.step(inputs, states, memory)
            sample = ops.cast(next_inputs(output, alignment, inputs), inputs.dtype)
            return (output, alignment, inputs), [*states, sample]

        sample_mask = ops.logical_and(sample_mask, ops.arange(ops.shape(inputs)[1]) > 0)
        states = [*states, ops.zeros_like(inputs[:, 0])]
        options = {"constants": memory, "training": training}
        results, _ = unroll(step, [inputs, sample_mask], states, inputs_mask, **options)
        return results

    def step(self, inputs, states, memory):
        """One step by itself.

        Args:
            inputs: `[batch, d]`.
            states: those of the step before, at first those of `get_initial_state`.
            memory: what `memorize` returned.

        Returns:
            (output `[batch, output_size]`, alignment `[batch, source]`) and the new states.
        """
        (hidden, context, alignment), states = self.advance(self.cell.project(inputs), states, memory)
        return (self.readout(inputs, hidden, context), alignment), states

    def memorize(self, memory, memory_mask=None):
        """The memory as the steps read it: `[batch, source, d]`, bool `[batch, source]` → `Memory`."""
        return Memory(memory, self.keys(memory), as_mask("memory_mask", memory_mask, memory))

    def keys(self, memory):
        """The memory in the form that is compared with the state, computed once a sequence."""
        return memory

    def get_initial_state(self, memory, initial_state=None):
        """The states before the first step: those of the cell, then what else the decoder carries.

        Args:
            memory: what `memorize` returned.
            initial_state: list of the cell's states, as a bridge makes them; by default the cell's own, zeros.

        Raises:
            ValueError: memory is not what `memorize` returned, or initial_state does not fit the cell.
        """
        if not isinstance(memory, Memory):
            raise ValueError(
                "get_initial_state(memory, initial_state) takes what memorize returned as its memory, "
                f"got {type(memory).__name__}; call memorize(memory, memory_mask) first"
            )
        if initial_state is None:
            states = self.cell.get_initial_state(ops.shape(memory.values)[0])
        else:
            states = self._checked(initial_state)
        return self.extend_states(states, memory)

    def _checked(self, initial_state):
        """The cell's states as a list of tensors, else `ValueError`."""
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        states = [ops.cast(ops.convert_to_tensor(state), self.compute_dtype) for state in states]
        sizes, wanted = [state.shape[-1] for state in states], list(self.cell.state_size)
        if len(sizes) != len(wanted) or any(size not in (None, want) for size, want in zip(sizes, wanted, strict=True)):
            raise ValueError(
                f"initial_state must be the states of the cell, of sizes {wanted}, got sizes {sizes}; "
                "a bridge, DenseBridge for one, makes them from other states"
            )
        return states

    @abc.abstractmethod
    def extend_states(self, states, memory):
        """All that is carried from step to step, before the first one: from the cell's states and `Memory`."""

    @abc.abstractmethod
    def advance(self, projected, states, memory):
        """The part that needs the states: `[batch, projected_size]` → (hidden, context, alignment) and new states."""

    @abc.abstractmethod
    def readout(self, inputs, hidden, context):
        """The output from the word before, the state and the context, of one step or of all: `[..., output_size]`."""

    def penalty(self, alignments, logits, tokens):
        """What the decoder adds to the training loss, see `AttentionMechanism.penalty`."""
        return 0.0

    def compute_mask(self, inputs, previous_mask=None):
        return (previous_mask,) * 3  # of outputs, alignments and, with `next_inputs`, what was read

    def compute_output_shape(self, inputs_shape, memory_shape):
        return (*inputs_shape[:-1], self.output_size), (*inputs_shape[:-1], memory_shape[1])

    def compute_output_spec(self, inputs, *args, next_inputs=None, **kwargs):
        specs = float32_alignment(super().compute_output_spec(inputs, *args, **kwargs))
        return specs if next_inputs is None else (*specs, keras.KerasTensor(inputs.shape, self.compute_dtype))

    def get_config(self):
        return super().get_config() | {"cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@keras.saving.register_keras_serializable("kseq")
class FixedContextDecoder(Kernels, Decoder):
    """A decoder without attention: all it knows of the source is one vector (Sutskever et al., 2014,
    https://arxiv.org/abs/1409.3215, which starts from it; Cho et al., 2014, https://arxiv.org/abs/1406.1078, section
    2.2, which also reads it at every step).

        v = the h of the initial state
        h_0 = v                              with `initial`, else 0
        h_t = cell([y_{t−1}; v], h_{t−1})    with `repeated`, else cell(y_{t−1}, h_{t−1})
        output_t = h_t

    The alignments are zero. States: those of the cell, then with `repeated` the product of v with its kernel.

    Args:
        cell: a cell of `kseq.layers`.
        initial: whether the cell starts from the initial state.
        repeated: whether every step reads v.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, of the kernel for v; those of `Decoder`.

    Raises:
        ValueError: neither initial nor repeated is true, so that nothing of the source would be known; those of
            `Decoder`.
    """

    def __init__(self, cell, *, initial=True, repeated=True, **kwargs):
        super().__init__(cell, **kwargs)
        if not (initial or repeated):
            raise ValueError("initial and repeated are both false, and the decoder would know nothing of the source")
        self.initial = bool(initial)
        self.repeated = bool(repeated)

    def build(self, inputs_shape, memory_shape):
        super().build(inputs_shape, memory_shape)
        if self.repeated:
            self.context_kernel = self.add_kernel((self.cell.output_size, self.cell.projected_size), "context_kernel")

    def extend_states(self, states, memory):
        starts = states if self.initial else [ops.zeros_like(state) for state in states]
        repeated = [linear(self.cell.hidden(states), self.context_kernel)] if self.repeated else []
        return [*starts, *repeated]

    def advance(self, projected, states, memory):
        states, product = split_states(states, self.cell)
        if self.repeated:
            projected += product[0]
        hidden, states = self.cell.step(projected, states)
        return (hidden, hidden, ops.zeros(ops.shape(memory.mask), "float32")), [*states, *product]

    def readout(self, inputs, hidden, context):
        return hidden

    def get_config(self):
        return super().get_config() | {"initial": self.initial, "repeated": self.repeated}


def check_cell(cell):
    """Returns `cell` if a decoder can have it, else raises `ValueError`."""
    if isinstance(cell, KerasCell) or not isinstance(cell, RecurrentCell):
        raise ValueError(f"cell must be one of kseq.layers, to which a context can be added, got {cell!r}")
    return cell


def masked(results, mask):
    """The tensors `[batch, time, ...]` with zeros where the mask `[batch, time]` is false, and the mask for Keras."""
    if mask is None:
        return results
    results = tuple(ops.where(mask[:, :, None], x, ops.zeros_like(x)) for x in results)
    for x in results:
        x._keras_mask = mask  # as Keras does by itself only for a mask that it carries
    return results


def split_states(states, cell):
    """The states of the cell, and what the decoder carries beside them."""
    count = len(cell.state_size)
    return states[:count], states[count:]
