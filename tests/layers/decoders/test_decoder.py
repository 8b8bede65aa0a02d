"""Decoders against NumPy, and their steps against the whole; the padding of a memory cannot leak."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import UNITS, attention_oracle, cell_oracle, hidden_oracle, lengths_mask, normal, randomise
from kseq.layers import (
    CELLS,
    DECODERS,
    BahdanauAttention,
    BahdanauDecoder,
    CoverageAttention,
    DotAttention,
    FixedContextDecoder,
    GRUCell,
    KerasCell,
    LocationAttention,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    RNNCell,
    StackedCell,
)

BATCH, TIME, DEPTH, SOURCE, MEMORY_DEPTH = 3, 3, 2, 4, 5
MASK = lengths_mask([4, 2, 1], SOURCE)

MAKERS = {
    "bahdanau": lambda: BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(3)),
    "bahdanau-gate": lambda: BahdanauDecoder(RNNCell(UNITS), LuongAttention(), gate=True),
    "bahdanau-deep": lambda: BahdanauDecoder(GRUCell(UNITS, reset_after=True), BahdanauAttention(3), deep_output=True),
    "bahdanau-both": lambda: BahdanauDecoder(LSTMCell(UNITS), BahdanauAttention(3), gate=True, deep_output=True),
    "bahdanau-readout_dropout": lambda: BahdanauDecoder(
        LSTMCell(UNITS), BahdanauAttention(3), gate=True, deep_output=True, readout_dropout=0.3, seed=1
    ),
    "fixed": lambda: FixedContextDecoder(LSTMCell(UNITS)),
    "fixed-initial": lambda: FixedContextDecoder(GRUCell(UNITS), repeated=False),
    "fixed-repeated": lambda: FixedContextDecoder(LSTMCell(UNITS), initial=False),
    "luong": lambda: LuongDecoder(LSTMCell(UNITS), LuongAttention()),
    "luong-gru": lambda: LuongDecoder(GRUCell(UNITS), BahdanauAttention(3)),
    "luong-not_fed": lambda: LuongDecoder(LSTMCell(UNITS), LuongAttention(), input_feeding=False),
    "bahdanau-stack": lambda: BahdanauDecoder(
        StackedCell([GRUCell(UNITS), LSTMCell(UNITS)], residual=True), BahdanauAttention(3), gate=True, deep_output=True
    ),
    "fixed-stack": lambda: FixedContextDecoder(StackedCell([LSTMCell(UNITS), GRUCell(UNITS)], residual=True)),
    "luong-stack": lambda: LuongDecoder(
        StackedCell([GRUCell(UNITS), LSTMCell(UNITS)], residual=True), LuongAttention()
    ),
}

every_decoder = pytest.mark.parametrize("name", MAKERS)


def made(name):
    return made_of(MAKERS[name]())


def made_of(decoder):
    """The decoder, built, with random weights, and the arguments of a call."""
    decoder.build((None, None, DEPTH), (None, None, MEMORY_DEPTH))
    states = [normal(BATCH, size, seed=k + 2) for k, size in enumerate(decoder.cell.state_size)]
    inputs, memory = normal(BATCH, TIME, DEPTH), normal(BATCH, SOURCE, MEMORY_DEPTH, seed=1)
    return randomise(decoder), [inputs, memory, MASK, states]


def oracle(decoder, inputs, memory, mask, states):
    """Outputs and alignments of `reference`'s steps over all time."""
    outputs, alignments, h = [], [], hidden_oracle(decoder.cell)
    if isinstance(decoder, FixedContextDecoder):
        cell = cell_oracle(decoder.cell, *([decoder.context_kernel] if decoder.repeated else []))
        v, states = h(states), states if decoder.initial else [np.zeros_like(s) for s in states]
        for t in range(inputs.shape[1]):
            states = cell(np.concatenate([inputs[:, t], v], -1) if decoder.repeated else inputs[:, t], states)
            outputs.append(h(states))
        return np.stack(outputs, axis=1), np.zeros((BATCH, TIME, SOURCE))
    attend = attention_oracle(decoder.attention)
    if isinstance(decoder, BahdanauDecoder):
        gate = deep_output = None
        if decoder.gate:
            gate = (np.asarray(decoder.gate_kernel), np.asarray(decoder.gate_bias))
        if decoder.deep_output:
            letters = (decoder.word_readout, decoder.hidden_readout, decoder.context_readout, decoder.readout_bias)
            deep_output = [np.asarray(weight) for weight in letters]
        step = functools.partial(
            reference.bahdanau_decoder_step,
            cell=cell_oracle(decoder.cell, decoder.context_kernel),
            attention=lambda query: attend(query, memory, mask),
            gate=gate,
            deep_output=deep_output,
            h=h,
        )
        for t in range(inputs.shape[1]):
            output, alignment, states = step(inputs[:, t], states)
            outputs.append(output)
            alignments.append(alignment)
    else:
        attentional = np.zeros((BATCH, decoder.output_size))
        feed = [decoder.feed_kernel] if decoder.input_feeding else []
        step = functools.partial(
            reference.luong_decoder_step,
            cell=cell_oracle(decoder.cell, *feed),
            attention=lambda query: attend(query, memory, mask),
            W=np.asarray(decoder.attentional_kernel),
            input_feeding=decoder.input_feeding,
            h=h,
        )
        for t in range(inputs.shape[1]):
            attentional, alignment, states = step(inputs[:, t], states, attentional)
            outputs.append(attentional)
            alignments.append(alignment)
    return np.stack(outputs, axis=1), np.stack(alignments, axis=1)


def assert_close(got, want, atol=1e-6):
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def test_every_decoder_is_tested():
    assert {type(make()) for make in MAKERS.values()} == set(DECODERS.values())


@every_decoder
def test_config_round_trip(name):
    decoder = MAKERS[name]()
    again = type(decoder).from_config(decoder.get_config())
    assert again.get_config() == decoder.get_config()
    again.build((None, None, DEPTH), (None, None, MEMORY_DEPTH))
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in made(name)[0].weights]


@every_decoder
def test_three_steps_are_the_papers(name):
    """Oracles: the decoder steps in `reference`, with their cells and attentions, from random states."""
    decoder, arguments = made(name)
    assert_close(decoder(*arguments), oracle(decoder, *arguments))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "make",
    [
        lambda cell: BahdanauDecoder(cell, BahdanauAttention(3), gate=True, deep_output=True),
        lambda cell: LuongDecoder(cell, LuongAttention()),
        FixedContextDecoder,
    ],
    ids=["bahdanau", "luong", "fixed"],
)
def test_a_decoder_three_layers_deep_is_the_papers(make, cell):
    """Oracles: as above, the cells chained; each layer has a size of its own."""
    lowest = GRUCell if cell.startswith("layer_norm") else CELLS[cell]  # those normalize the word's part alone
    decoder, arguments = made_of(make(StackedCell([lowest(2), CELLS[cell](5), GRUCell(3)])))
    assert_close(decoder(*arguments), oracle(decoder, *arguments))
    assert_step_by_step_is_the_whole(decoder, arguments)


@every_decoder
def test_step_by_step_is_the_whole(name):
    assert_step_by_step_is_the_whole(*made(name))


def assert_step_by_step_is_the_whole(decoder, arguments):
    inputs, memory, mask, states = arguments
    outputs, alignments = decoder(inputs, memory, mask, states)
    read = decoder.memorize(tf.constant(memory), tf.constant(mask))
    states = decoder.get_initial_state(read, [tf.constant(state) for state in states])
    for t in range(TIME):
        step, states = decoder.step(tf.constant(inputs[:, t]), states, read)
        assert_close(step, (outputs[:, t], alignments[:, t]))


@every_decoder
def test_batch_of_one_is_its_row_of_many(name):
    decoder, (inputs, memory, mask, states) = made(name)
    outputs, alignments = decoder(inputs, memory, mask, states)
    for b, length in enumerate(mask.sum(axis=1)):
        row = slice(b, b + 1)
        alone = decoder(inputs[row], memory[row, :length], initial_state=[state[row] for state in states])
        assert_close(alone, (outputs[row], alignments[row, :, :length]))


@every_decoder
def test_an_output_depends_on_no_later_word(name):
    decoder, (inputs, *rest) = made(name)
    outputs, alignments = decoder(inputs, *rest)
    changed = inputs.copy()
    changed[:, 1] += 1
    after, after_alignments = decoder(changed, *rest)
    np.testing.assert_array_equal(after[:, 0], outputs[:, 0])
    np.testing.assert_array_equal(after_alignments[:, 0], alignments[:, 0])
    assert np.all(np.abs(after[:, 1:] - outputs[:, 1:]).max(axis=-1) > 1e-5)


def gradients(decoder, inputs, memory, mask, states):
    memory = tf.constant(memory)
    with tf.GradientTape() as tape:
        tape.watch(memory)
        outputs, alignments = decoder(inputs, memory, mask, states)
        loss = tf.reduce_sum(tf.square(outputs)) + tf.reduce_sum(tf.square(alignments))
    return [np.asarray(g) for g in tape.gradient(loss, [memory, *decoder.trainable_variables])]


@pytest.mark.parametrize("name", ["bahdanau-both", "luong"])
def test_padding_of_the_memory_cannot_leak(name):
    """Row 2 has no real memory at all."""
    decoder, (inputs, memory, _, states) = made(name)
    mask = lengths_mask([4, 2, 0], SOURCE)
    rewritten = np.where(mask[:, :, None], memory, 30 * normal(*memory.shape, seed=8))
    outputs, alignments = decoder(inputs, memory, mask, states)
    assert_close(decoder(inputs, rewritten, mask, states), (outputs, alignments))
    assert not np.any(np.asarray(alignments).transpose(0, 2, 1)[~mask])
    before, after = (gradients(decoder, inputs, x, mask, states) for x in (memory, rewritten))
    assert all(np.all(np.isfinite(gradient)) for gradient in after)
    assert not np.any(after[0][~mask])
    assert_close(after, before, atol=1e-5)


@pytest.mark.parametrize("name", ["bahdanau", "luong"])
def test_without_mask_all_memory_is_real_and_without_states_they_are_zero(name):
    decoder, (inputs, memory, mask, states) = made(name)
    zeros = [np.zeros_like(state) for state in states]
    assert_close(decoder(inputs, memory), decoder(inputs, memory, np.ones_like(mask), zeros))
    assert np.all(decoder.memorize(tf.constant(memory)).mask)


@pytest.mark.parametrize("name", ["bahdanau", "luong"])
def test_a_mask_of_keras_on_the_memory_arrives(name):
    """Oracle: the mask given by hand."""
    decoder, (inputs, memory, mask, _) = made(name)
    masked = keras.layers.Masking()(np.where(mask[:, :, None], memory, 0))
    assert_close(decoder(inputs, masked), decoder(inputs, memory, mask))


def test_luong_adds_a_zero_attentional_state():
    decoder, (_, memory, _, states) = made("luong")
    *first, attentional = decoder.get_initial_state(decoder.memorize(tf.constant(memory)), states)
    assert_close(first, states)
    assert attentional.shape == (BATCH, UNITS) and not np.any(attentional)


@every_decoder
def test_shapes_are_foretold(name):
    decoder, (inputs, memory, *rest) = made(name)
    shapes = tuple(tuple(y.shape) for y in decoder(inputs, memory, *rest))
    assert decoder.compute_output_shape(inputs.shape, memory.shape) == shapes
    assert shapes == ((BATCH, TIME, decoder.output_size), (BATCH, TIME, SOURCE))


@pytest.mark.parametrize("cell", [keras.layers.GRUCell(2), KerasCell(keras.layers.GRUCell(2))])
def test_a_cell_of_keras_has_nothing_to_add_a_context_to(cell):
    with pytest.raises(ValueError, match=r"^cell must be one of kseq.layers, to which a context can be added, got <"):
        FixedContextDecoder(cell)


@pytest.mark.parametrize("make", [BahdanauDecoder, LuongDecoder])
def test_dot_attention_needs_a_memory_of_the_cells_size(make):
    decoder = make(GRUCell(UNITS), DotAttention())
    with pytest.raises(ValueError, match=r"^dot attention needs a query and a memory of one size, got 4 and 5; "):
        decoder.build((None, None, DEPTH), (None, None, MEMORY_DEPTH))
    outputs, _ = decoder(normal(2, 3, DEPTH), normal(2, SOURCE, UNITS))
    assert outputs.shape == (2, 3, UNITS)


def sampled_input(output, alignment, inputs):
    """A next input that depends on all that it is made of, in TensorFlow."""
    return inputs / 2 + tf.sin(3 * output[:, :DEPTH]) + tf.cast(alignment, inputs.dtype)[:, :DEPTH]


SAMPLED = np.array([[1, 1, 1], [0, 0, 1], [1, 1, 0]], "bool")  # column 0 counts for nothing


@every_decoder
def test_where_it_samples_a_decoder_reads_next_inputs(name):
    """Oracle: a loop over `step` in Python."""
    decoder, (inputs, memory, mask, states) = made(name)
    results = decoder(inputs, memory, mask, states, sample_mask=SAMPLED, next_inputs=sampled_input)
    read = decoder.memorize(tf.constant(memory), tf.constant(mask))
    states = decoder.get_initial_state(read, [tf.constant(state) for state in states])
    word = tf.constant(inputs[:, 0])
    for t in range(TIME):
        (output, alignment), states = decoder.step(word, states, read)
        assert_close([output, alignment, word], [x[:, t] for x in results])
        if t + 1 < TIME:
            word = tf.where(SAMPLED[:, t + 1, None], sampled_input(output, alignment, word), inputs[:, t + 1])


@every_decoder
def test_a_decoder_that_samples_nowhere_reads_its_inputs(name):
    decoder, (inputs, *rest) = made(name)
    *results, read = decoder(inputs, *rest, sample_mask=np.zeros_like(SAMPLED), next_inputs=sampled_input)
    assert_close(results, decoder(inputs, *rest))
    np.testing.assert_array_equal(read, inputs)


def test_gradients_go_through_next_inputs():
    """Oracle: differences of the first output's effect on the last."""
    decoder, (inputs, *rest) = made("luong-not_fed")
    everywhere = np.ones_like(SAMPLED)

    def last(inputs):
        return tf.reduce_sum(decoder(inputs, *rest, sample_mask=everywhere, next_inputs=sampled_input)[0][:, -1])

    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = last(inputs)
    gradient = tape.gradient(value, inputs)
    nudge = np.zeros_like(inputs)
    nudge[0, 0, 1] = 1e-2
    want = (last(inputs + nudge) - last(inputs - nudge)) / 2e-2
    np.testing.assert_allclose(gradient[0, 0, 1], want, rtol=1e-2)
    assert not np.any(gradient[:, 1:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample_mask": True}, "sample_mask was given without next_inputs; give both or neither"),
        ({"next_inputs": sampled_input}, "next_inputs was given without sample_mask; give both or neither"),
    ],
)
def test_sample_mask_and_next_inputs_belong_together(given, message):
    decoder, arguments = made("luong")
    with pytest.raises(ValueError, match=message):
        decoder(*arguments, **given)


@pytest.mark.parametrize("whole_steps", [False, True])
def test_a_readout_without_its_state_sees_the_word_and_the_context_alone(whole_steps):
    """Oracle: each output in training is the paper's, or the paper's with L_h = 0, at three steps in ten; no unit of a
    state is dropped by itself, and states and alignments are those of inference.
    """
    decoder, arguments = made("bahdanau-readout_dropout")
    kept, alignments = oracle(decoder, *arguments)
    many = tf.nest.map_structure(lambda x: np.tile(x, (60, *[1] * (np.ndim(x) - 1))), arguments)  # 60 draws at once
    options = {}
    if whole_steps:
        options = {"sample_mask": np.zeros((60 * BATCH, TIME), bool), "next_inputs": sampled_input}
    drawn, looked, *_ = decoder(*many, training=True, **options)
    outputs = np.reshape(drawn, (60, *np.shape(kept)))  # [60, batch, time, units]
    np.testing.assert_allclose(np.reshape(looked, (60, *np.shape(alignments))), np.stack([alignments] * 60), atol=1e-6)
    decoder.hidden_readout.assign(np.zeros((UNITS, UNITS)))
    dropped, _ = oracle(decoder, *arguments)
    is_kept, is_dropped = (np.all(np.abs(outputs - want) < 1e-5, axis=-1) for want in (kept, dropped))
    assert np.all(is_kept ^ is_dropped)
    assert 0.25 < np.mean(is_dropped) < 0.35  # of 540


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deep_output": True, "readout_dropout": 1}, "readout_dropout must be at least 0 and less than 1, got 1$"),
        ({"readout_dropout": 0.5}, "readout_dropout=0.5 needs deep_output=True: without it the state is the output$"),
    ],
)
def test_a_readout_dropout_that_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(3), **options)


def test_without_readout_dropout_no_seed_is_drawn():
    """A generator that is made draws from the global seed, and would change the first weights of every model."""
    parts = GRUCell(UNITS), BahdanauAttention(3)
    keras.utils.set_random_seed(1)
    wanted = keras.random.SeedGenerator().state
    keras.utils.set_random_seed(1)
    BahdanauDecoder(*parts, deep_output=True)
    np.testing.assert_array_equal(keras.random.SeedGenerator().state, wanted)


def parts(decoder):
    return [decoder, *decoder.cell._flatten_layers(), decoder.attention]


@pytest.mark.parametrize("make", [BahdanauDecoder, LuongDecoder])
@pytest.mark.parametrize("cell", [LSTMCell, lambda units: StackedCell([LSTMCell(units), GRUCell(units)])])
@pytest.mark.parametrize("attention", [lambda: "bahdanau", lambda: LocationAttention(3, 2, 3)])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", keras.DTypePolicy("mixed_float16")])
def test_a_dtype_reaches_the_cell_and_the_attention(make, cell, attention, dtype):
    """And stays in the config."""
    decoder = make(cell(UNITS), attention(), dtype=dtype)
    policy = keras.dtype_policies.get(dtype)
    for one in (decoder, make.from_config(decoder.get_config())):
        assert {part.dtype_policy.name for part in parts(one)} == {policy.name}
    inputs, memory = normal(BATCH, TIME, DEPTH), normal(BATCH, SOURCE, MEMORY_DEPTH)
    outputs, alignments = decoder(inputs, memory, MASK)
    assert (outputs.dtype, alignments.dtype) == (policy.compute_dtype, "float32")
    assert {weight.dtype for weight in decoder.weights} == {"float32"}
    symbols = decoder(keras.Input((None, DEPTH)), keras.Input((None, MEMORY_DEPTH)))
    assert [x.dtype for x in symbols] == [outputs.dtype, "float32"]


def test_without_a_dtype_a_decoder_has_that_of_its_parts():
    policy = "mixed_bfloat16"
    decoder = BahdanauDecoder(LSTMCell(UNITS, dtype=policy), BahdanauAttention(3, dtype=policy))
    assert decoder.dtype_policy.name == policy
    named = LuongDecoder(LSTMCell(UNITS, dtype=policy), "luong")
    assert {part.dtype_policy.name for part in parts(named)} == {policy}
    assert FixedContextDecoder(GRUCell(UNITS, dtype=policy)).dtype_policy.name == policy


def test_a_mechanism_can_be_named():
    """Oracle: the mechanism of the cell's size, made by hand."""
    named, made = (LuongDecoder(GRUCell(UNITS), x) for x in ("coverage", CoverageAttention(UNITS)))
    configs = [one.attention.get_config() for one in (named, made)]
    assert type(named.attention) is CoverageAttention
    assert [config | {"name": ""} for config in configs] == [configs[0] | {"name": ""}] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BahdanauDecoder(LSTMCell(UNITS, dtype="mixed_float16"), BahdanauAttention(3, name="read")),
            r"^the parts of a layer must have one dtype, but lstm_cell\w* has mixed_float16, read has float32; ",
        ),
        (
            lambda: LuongDecoder(made("luong")[0].cell, "luong", dtype="float16"),
            r"^lstm_cell\w* has weights of float32 already and cannot be used with dtype='float16'; make a new one$",
        ),
        (lambda: BahdanauDecoder(LSTMCell(3), "bahdanua"), r"^attention must be one of .*; did you mean 'bahdanau'\?$"),
        (
            lambda: LuongDecoder(LSTMCell(3), keras.layers.Attention()),
            "^attention must be a mechanism of kseq.layers or its name, got <Attention",
        ),
        (
            lambda: LuongDecoder(LSTMCell(3), LSTMCell(3)),
            "^attention must be a mechanism of kseq.layers or its name, got <L",
        ),
        (
            lambda: LuongDecoder(LuongAttention(), LSTMCell(3)),
            "^cell must be one of kseq.layers, to which .*, got <Luong",
        ),
        (lambda: LuongDecoder("lstm", "luong"), "^cell must be one of kseq.layers, to which .*, got 'lstm'$"),
        (
            lambda: FixedContextDecoder(LSTMCell(3), initial=False, repeated=False),
            "^initial and repeated are both false",
        ),
    ],
)
def test_what_no_decoder_can_be_made_of_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@every_decoder
def test_states_that_are_none_of_the_cells_are_named(name):
    decoder, (inputs, memory, mask, states) = made(name)
    read = decoder.memorize(tf.constant(memory), tf.constant(mask))
    with pytest.raises(
        ValueError, match=r"^get_initial_state\(memory, initial_state\) takes what memorize returned as "
    ):
        decoder.get_initial_state(states, read)
    sizes = list(decoder.cell.state_size)
    wrong = [*states, normal(BATCH, 3)]
    message = re.escape(f"initial_state must be the states of the cell, of sizes {sizes}, got sizes {[*sizes, 3]}; ")
    with pytest.raises(ValueError, match=message):
        decoder.get_initial_state(read, wrong)
    with pytest.raises(ValueError, match=message):
        decoder(inputs, memory, mask, wrong)


def test_one_state_needs_no_list():
    decoder, (inputs, memory, mask, [state]) = made("bahdanau")
    assert_close(decoder(inputs, memory, mask, state), decoder(inputs, memory, mask, [state]))
