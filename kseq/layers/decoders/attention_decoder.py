"""Decoders that read the memory through an attention mechanism."""

import keras
from keras import ops

from kseq.layers.attention import AttentionMechanism, make_attention
from kseq.layers.decoders.decoder import Decoder, check_cell, split_states
from kseq.layers.dropout import Dropout
from kseq.layers.dtypes import share_dtype
from kseq.layers.functional import check_fraction, linear
from kseq.layers.weights import Biases, Kernels


class AttentionDecoder(Decoder):
    """A decoder that reads the memory through an attention mechanism.

    Args:
        cell: a cell of `kseq.layers`.
        attention: an attention mechanism, or its name in `ATTENTIONS`, which makes one of the cell's size.
        **kwargs: those of `Decoder`.

    Raises:
        ValueError: attention is neither; those of `Decoder`.
    """

    def __init__(self, cell, attention, *, dtype=None, **kwargs):
        check_cell(cell)
        if isinstance(attention, str):
            attention = make_attention(attention, cell.output_size, dtype=dtype or cell.dtype_policy)
        if not isinstance(attention, AttentionMechanism):
            raise ValueError(f"attention must be a mechanism of kseq.layers or its name, got {attention!r}")
        super().__init__(cell, dtype=share_dtype(dtype, cell, attention), **kwargs)
        self.attention = attention

    def build(self, inputs_shape, memory_shape):
        super().build(inputs_shape, memory_shape)
        if not self.attention.built:
            self.attention.build((inputs_shape[0], self.cell.output_size), memory_shape)

    def keys(self, memory):
        return self.attention.project(memory)

    def extend_states(self, states, memory):
        if not self.attention.stateful_attention:
            return list(states)
        return [*states, self.attention.initial_attention_state(memory.mask)]

    def attend(self, query, memory, attention_state):
        """Context, alignment and the next attention state, which is a list of one tensor or none."""
        context, alignment = self.attention(query, memory.values, memory.keys, memory.mask, *attention_state)
        return context, alignment, [self.attention.next_attention_state(x, alignment) for x in attention_state]

    def penalty(self, alignments, logits, tokens):
        return self.attention.penalty(alignments, logits, tokens)

    def get_config(self):
        return super().get_config() | {"attention": keras.saving.serialize_keras_object(self.attention)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        cell = keras.saving.deserialize_keras_object(config.pop("cell"))
        attention = keras.saving.deserialize_keras_object(config.pop("attention"))
        return cls(cell, attention, **config)


@keras.saving.register_keras_serializable("kseq")
class BahdanauDecoder(Biases, Kernels, AttentionDecoder):
    """Attends with the previous state, then feeds the context to the cell (Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473, appendix A.2.2), with what image captioning adds to it (Xu et al., 2015,
    https://arxiv.org/abs/1502.03044, section 4.2.1 and equation 7; the tanh and the bias are ours).

        z_t, α_t = attention(h_{t−1}, memory)
        z_t = β_t z_t,  β_t = σ(w_β h_{t−1} + b_β)              with `gate`
        h_t = cell([y_{t−1}; z_t], h_{t−1})
        output_t = h_t
        output_t = tanh(L_y y_{t−1} + L_h m_t h_t + L_z z_t + b_L)   with `deep_output`
        m_t ~ Bernoulli(1 − `readout_dropout`) in training, else 1

    A decoder can say a word from what its state remembers, with its attention elsewhere. A step whose readout does not
    see the state has to look at what it says. Like a whole modality in ModDrop (Neverova et al., 2016,
    https://arxiv.org/abs/1501.00102), h_t is dropped whole and, where it is kept, not scaled.

    States: those of the cell, then the attention state where the mechanism has one.

    Args:
        cell: a cell of `kseq.layers`.
        attention: an attention mechanism, or its name in `ATTENTIONS`, which makes one of the cell's size.
        gate: whether a scalar β weighs the context against the previous words.
        deep_output: whether the output is computed from the previous word and the context beside the state.
        readout_dropout: fraction of the steps in training whose deep output does not see the state.
        seed: of `readout_dropout`.
        **kwargs: kernel_initializer, kernel_regularizer, kernel_constraint, use_bias, bias_initializer,
            bias_regularizer and bias_constraint, of the weights beside those of the cell and of the attention; those
            of `Decoder`.

    Raises:
        ValueError: readout_dropout is not at least 0 and less than 1, or is given without deep_output; those of
            `Decoder`.
    """

    def __init__(self, cell, attention, *, gate=False, deep_output=False, readout_dropout=0.0, seed=None, **kwargs):
        super().__init__(cell, attention, **kwargs)
        self.gate = bool(gate)
        self.deep_output = bool(deep_output)
        self.readout_dropout = check_fraction("readout_dropout", readout_dropout)
        self.seed = seed
        if readout_dropout and not deep_output:
            raise ValueError(
                f"readout_dropout={readout_dropout} needs deep_output=True: without it the state is the output"
            )
        # Without a rate there is no generator: one that is made draws from the seed of all weights that follow.
        self.state_dropout = Dropout(readout_dropout, seed=seed) if readout_dropout else None

    def build(self, inputs_shape, memory_shape):
        super().build(inputs_shape, memory_shape)
        units, depth = self.cell.output_size, memory_shape[-1]
        # The cell's kernel has the rows for y, this one those for z: the product with y needs no loop.
        self.context_kernel = self.add_kernel((depth, self.cell.projected_size), "context_kernel")
        if self.gate:
            self.gate_kernel = self.add_kernel((units, 1), "gate_kernel")
            self.gate_bias = self.add_bias((1,), "gate_bias")
        if self.deep_output:
            self.word_readout = self.add_kernel((inputs_shape[-1], units), "word_readout")
            self.hidden_readout = self.add_kernel((units, units), "hidden_readout")
            self.context_readout = self.add_kernel((depth, units), "context_readout")
            self.readout_bias = self.add_bias((units,), "readout_bias")

    def advance(self, projected, states, memory):
        states, attention_state = split_states(states, self.cell)
        h = self.cell.hidden(states)
        context, alignment, attention_state = self.attend(h, memory, attention_state)
        if self.gate:
            context *= ops.sigmoid(linear(h, self.gate_kernel, self.gate_bias))
        hidden, states = self.cell.step(projected + linear(context, self.context_kernel), states)
        return (hidden, context, alignment), [*states, *attention_state]

    def readout(self, inputs, hidden, context):
        if not self.deep_output:
            return hidden
        if self.state_dropout:
            kept = self.state_dropout(ops.ones_like(hidden[..., :1])) > 0
            hidden *= ops.cast(kept, hidden.dtype)
        return ops.tanh(
            linear(inputs, self.word_readout)
            + linear(hidden, self.hidden_readout)
            + linear(context, self.context_readout, self.readout_bias)
        )

    def get_config(self):
        names = ("gate", "deep_output", "readout_dropout", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kseq")
class LuongDecoder(Kernels, AttentionDecoder):
    """Attends with the new state, after the cell (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 5 and
    section 3.3).

        h_t = cell([y_{t−1}; h̃_{t−1}], h_{t−1})      without `input_feeding`: cell(y_{t−1}, h_{t−1})
        z_t, α_t = attention(h_t, memory)
        h̃_t = tanh(W [z_t; h_t])
        output_t = h̃_t

    States: those of the cell, then h̃, zero before the first step, then the attention state where the mechanism has one.

    Args:
        cell: a cell of `kseq.layers`.
        attention: an attention mechanism, or its name in `ATTENTIONS`, which makes one of the cell's size.
        input_feeding: whether the cell reads the attentional state h̃ of the step before.
        **kwargs: kernel_initializer, kernel_regularizer and kernel_constraint, of the weights beside those of the cell
            and of the attention; those of `Decoder`.
    """

    def __init__(self, cell, attention, *, input_feeding=True, **kwargs):
        super().__init__(cell, attention, **kwargs)
        self.input_feeding = bool(input_feeding)

    def build(self, inputs_shape, memory_shape):
        super().build(inputs_shape, memory_shape)
        units = self.cell.output_size
        self.attentional_kernel = self.add_kernel((memory_shape[-1] + units, units), "attentional_kernel")
        if self.input_feeding:
            self.feed_kernel = self.add_kernel((units, self.cell.projected_size), "feed_kernel")

    def extend_states(self, states, memory):
        return super().extend_states([*states, ops.zeros_like(self.cell.hidden(states))], memory)

    def advance(self, projected, states, memory):
        states, (attentional, *attention_state) = split_states(states, self.cell)
        if self.input_feeding:
            projected += linear(attentional, self.feed_kernel)
        hidden, states = self.cell.step(projected, states)
        context, alignment, attention_state = self.attend(hidden, memory, attention_state)
        attentional = ops.tanh(linear(ops.concatenate([context, hidden], -1), self.attentional_kernel))
        return (attentional, context, alignment), [*states, attentional, *attention_state]

    def readout(self, inputs, hidden, context):
        return hidden

    def get_config(self):
        return super().get_config() | {"input_feeding": self.input_feeding}
