"""The encoder-decoder: its steps against the whole, its loss against NumPy, training compiled or not, and its file."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import UNITS, dtype_policy, normal, randomise, tiny_backbone, tiny_seq2seq
from kseq.layers import (
    BahdanauAttention,
    BahdanauDecoder,
    CoverageAttention,
    DenseBridge,
    FixedContextDecoder,
    GRUCell,
    HardAttention,
    LuongDecoder,
    Recurrent,
)
from kseq.losses import TokenCrossentropy
from kseq.models import ImageEncoder, Seq2Seq, TextEncoder, doubly_stochastic_penalty, supervised_attention_loss

BATCH, TIME, WORDS = 3, 4, 11

# Id 0 is padding; column t of the targets is column t + 1 of the sentence.
SENTENCES = np.array([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0], [1, 9, 10, 2, 0]], "int32")
INPUTS = {"source": normal(BATCH, 8, 8, 3), "tokens": np.where(SENTENCES == 2, 0, SENTENCES)[:, :-1]}
TARGETS = SENTENCES[:, 1:]
REAL = (TARGETS != 0).astype("float32")

every_decoder = pytest.mark.parametrize("decoder", ["bahdanau", "luong"])


def made(decoder="bahdanau", **options):
    model = tiny_seq2seq(decoder, **options)
    model(INPUTS)
    return randomise(model)


def teacher_forced(model, inputs):
    """Logits and alignments of `encode`, then `step` for each of the teacher's words, as a sampler goes."""
    states, memory = model.encode(inputs["source"])
    results = []
    for t in range(inputs["tokens"].shape[1]):
        logits, states, alignment = model.step(tf.constant(inputs["tokens"][:, t]), states, memory)
        results.append((logits, alignment))
    return [np.stack(parts, axis=1) for parts in zip(*results, strict=True)]


@every_decoder
def test_steps_with_the_teachers_words_give_the_logits_of_call(decoder):
    model = made(decoder, dropout=0.5)
    logits, alignments = teacher_forced(model, INPUTS)
    np.testing.assert_allclose(logits, model(INPUTS), atol=1e-5)
    assert logits.shape == (BATCH, TIME, WORDS)
    np.testing.assert_allclose(alignments.sum(axis=-1), np.ones((BATCH, TIME)), atol=1e-5)


def test_steps_run_in_mixed_precision():
    with dtype_policy("mixed_float16"):
        model = tiny_seq2seq()
        model(INPUTS)
    model.set_weights(made().get_weights())
    logits, _ = teacher_forced(model, INPUTS)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, model(INPUTS), atol=0.01)
    np.testing.assert_allclose(logits, made()(INPUTS), atol=0.03)


def test_a_cell_of_one_state_has_its_bridge():
    cell = GRUCell(UNITS)
    decoder = LuongDecoder(cell, BahdanauAttention(3))
    model = Seq2Seq(ImageEncoder(tiny_backbone(), 5), DenseBridge(cell.state_size), decoder, WORDS, embedding_size=3)
    model(INPUTS)
    logits, _ = teacher_forced(randomise(model), INPUTS)
    np.testing.assert_allclose(logits, model(INPUTS), atol=1e-5)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_new_model_that_looks_at_nothing_says_words_as_often_as_they_were_said(copies):
    """Oracle: the counts."""
    encoder = TextEncoder(WORDS, Recurrent(GRUCell(UNITS), return_state=True), embedding_size=4)
    decoder = BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(UNITS))
    model = Seq2Seq(encoder, DenseBridge([UNITS]), decoder, WORDS, embedding_size=4, max_oov_words=copies)
    inputs = {"source": np.array([[5, 6]]), "tokens": np.array([[1]])}
    model(inputs)
    counts = np.random.default_rng(0).integers(0, 9, WORDS)
    model.initialize_output_bias(counts)
    model.words.kernel.assign(tf.zeros_like(model.words.kernel))
    if copies:
        model.pointer.bias.assign([50.0])  # it says, and copies nothing
    said = tf.nn.softmax(model(inputs))[0, 0, :WORDS]
    np.testing.assert_allclose(said, (counts + 1) / (counts.sum() + WORDS), rtol=1e-5)


def test_counts_that_do_not_fit_are_refused():
    model = tiny_seq2seq()
    with pytest.raises(ValueError, match=r"has no weights yet: call it on a batch before initialize_output_bias"):
        model.initialize_output_bias(np.zeros(WORDS))
    with pytest.raises(ValueError, match=rf"counts must be \[{WORDS}\], one number for each token, got \[3\]"):
        model.initialize_output_bias([1, 2, 3])


@pytest.mark.slow
def test_words_start_ten_times_as_large_as_in_keras_unless_an_initializer_is_given(tmp_path):
    encoder = TextEncoder(200, Recurrent(GRUCell(UNITS), return_state=True), embedding_size=8)
    decoder = BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(3))
    model = Seq2Seq(encoder, DenseBridge([UNITS]), decoder, 200, embedding_size=8)
    model({"source": SENTENCES, "tokens": SENTENCES})
    for table in (encoder.embedding.embeddings, model.embedding.embeddings):
        numbers = np.asarray(table)
        assert np.abs(numbers).max() <= 0.5 and abs(numbers.std() - 1 / np.sqrt(12)) < 0.01
    uniform = keras.initializers.RandomUniform(-0.05, 0.05)
    small = Seq2Seq(encoder, DenseBridge([UNITS]), decoder, 200, embedding_size=8, embeddings_initializer=uniform)
    small({"source": SENTENCES, "tokens": SENTENCES})
    assert 0.04 < np.abs(small.embedding.embeddings).max() <= 0.05
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    assert again.embeddings_initializer.maxval == 0.05 and again.encoder.embeddings_initializer.maxval == 0.5
    ones = TextEncoder(9, Recurrent(GRUCell(2)), embedding_size=2, embeddings_initializer="ones")
    ones(np.array([[1]]))
    np.testing.assert_array_equal(ones.embedding.embeddings, np.ones((9, 2)))


@pytest.mark.slow
@every_decoder
def test_batch_of_one_is_its_row_of_many(decoder):
    model = made(decoder)
    logits = model(INPUTS)
    for b in range(BATCH):
        alone = model({name: x[b : b + 1] for name, x in INPUTS.items()})
        np.testing.assert_allclose(alone, logits[b : b + 1], atol=1e-5)


def test_logits_depend_on_no_later_word_and_padding_cannot_leak():
    model = made()
    logits = np.asarray(model(INPUTS))
    changed = INPUTS | {"tokens": np.where(INPUTS["tokens"] == 0, 3, INPUTS["tokens"])}
    after = np.asarray(model(changed))
    np.testing.assert_allclose(after[REAL == 1], logits[REAL == 1], atol=1e-6)
    assert np.all(np.abs(after - logits)[REAL == 0].max(axis=-1) > 1e-4)


def test_dropout_is_for_training_alone():
    model = made(dropout=0.5)
    np.testing.assert_array_equal(model(INPUTS), made()(INPUTS))
    np.testing.assert_array_equal(model(INPUTS, training=False), made()(INPUTS))
    assert not np.allclose(model(INPUTS, training=True), model(INPUTS))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_penalty_is_equation_14(dtype):
    """Oracle: `reference.doubly_stochastic_penalty`, a mean over regions."""
    alignments = np.random.default_rng(0).dirichlet(np.ones(5), size=(BATCH, TIME)).astype(dtype)
    real = REAL == 1
    want = reference.doubly_stochastic_penalty(alignments.astype("float64"), real)
    got = doubly_stochastic_penalty(alignments, real)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_penalty_does_not_see_padding():
    alignments = normal(BATCH, TIME, 5)
    changed = np.where(REAL[:, :, None] == 1, alignments, 9)
    got, want = (doubly_stochastic_penalty(x.astype("float32"), REAL == 1) for x in (changed, alignments))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_penalty_does_not_see_padding_of_the_source():
    """Oracle: each row of the batch by itself, without its padding."""
    alignments = np.random.default_rng(0).dirichlet(np.ones(5), size=(BATCH, TIME)).astype("float32")
    real, lengths = np.ones((BATCH, TIME), bool), [5, 2, 0, 4][:BATCH]
    mask = np.arange(5) < np.array(lengths)[:, None]
    each = [
        reference.doubly_stochastic_penalty(alignments[b : b + 1, :, :n], real[b : b + 1]) if n else 0.0
        for b, n in enumerate(lengths)
    ]
    np.testing.assert_allclose(doubly_stochastic_penalty(alignments, real, mask), np.mean(each), rtol=1e-5)


def test_a_longer_padding_of_the_source_leaves_the_loss_as_it_is():
    encoder = TextEncoder(WORDS, Recurrent(GRUCell(UNITS), return_state=True), embedding_size=4)
    decoder = BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(UNITS))
    options = {"embedding_size": 4, "alignment_penalty": 1.0}
    model = Seq2Seq(encoder, DenseBridge([UNITS]), decoder, WORDS, **options)
    source, tokens = np.array([[5, 6, 4], [5, 4, 0]]), np.array([[1, 4], [1, 0]])
    losses = []
    for padding in (0, 4):
        model({"source": np.pad(source, [(0, 0), (0, padding)]), "tokens": tokens})
        losses += model.losses
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


def oracle_loss(model, weight):
    _, alignments = teacher_forced(model, INPUTS)
    logits = np.asarray(model(INPUTS))
    crossentropy = reference.token_crossentropy(TARGETS, logits, REAL, label_smoothing=0.1)
    return crossentropy + weight * reference.doubly_stochastic_penalty(alignments, INPUTS["tokens"] != 0)


@pytest.mark.slow
def test_one_step_of_training_is_the_same_compiled_or_not():
    """Oracle of the loss: `reference`'s cross-entropy and penalty, the penalty weighing as much as it was told to."""
    trained = []
    for compiled in (False, True):
        model = made(alignment_penalty=0.7)
        before, want = model.get_weights(), oracle_loss(model, 0.7)
        model.compile(keras.optimizers.SGD(0.5), TokenCrossentropy(label_smoothing=0.1), jit_compile=compiled)
        history = model.fit(INPUTS, TARGETS, sample_weight=REAL, batch_size=BATCH, verbose=0)
        np.testing.assert_allclose(history.history["loss"], [want], rtol=1e-5)
        assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))
        trained.append(model.get_weights())
    for graph, xla in zip(*trained, strict=True):
        np.testing.assert_allclose(xla, graph, atol=1e-5)


def test_without_a_weight_there_is_no_penalty():
    model = made()
    model(INPUTS)
    assert model.losses == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_loss_of_supervised_attention_is_the_mean_over_the_steps_with_relevant_rows(dtype):
    """Oracle: a loop over the steps."""
    rng = np.random.default_rng(0)
    alignments = rng.dirichlet(np.ones(5), size=(BATCH, TIME)).astype(dtype)
    relevant = rng.random((BATCH, TIME, 5)) < 0.3
    assert {True, False} == set(relevant.any(axis=-1).ravel())
    want = [
        -np.log(alignments[b, t][relevant[b, t]].astype("float64").sum())
        for b in range(BATCH)
        for t in range(TIME)
        if relevant[b, t].any()
    ]
    got = supervised_attention_loss(alignments, relevant)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, np.mean(want), rtol=1e-3 if dtype == "float16" else 1e-5)


def test_steps_without_relevant_rows_cost_nothing_and_weights_of_zero_cost_a_finite_loss():
    alignments = np.eye(5, dtype="float32")[None, :TIME]
    assert supervised_attention_loss(alignments, np.zeros((1, TIME, 5), bool)) == 0
    assert np.isfinite(supervised_attention_loss(alignments, np.eye(5, dtype=bool)[None, 1 : TIME + 1]))


def test_attention_is_supervised_in_training_where_it_is_known_what_is_relevant():
    model = made(alignment_supervision=0.7)
    _, alignments = teacher_forced(model, INPUTS)
    relevant = np.random.default_rng(0).random(alignments.shape) < 0.3
    for inputs, training in ((INPUTS, True), (INPUTS | {"relevant": relevant}, False)):
        model(inputs, training=training)
        assert model.losses == []
    model(INPUTS | {"relevant": relevant}, training=True)
    np.testing.assert_allclose(model.losses, [0.7 * supervised_attention_loss(alignments, relevant)], rtol=1e-4)


def made_with(decoder, **options):
    model = Seq2Seq(ImageEncoder(tiny_backbone(), 5), DenseBridge([UNITS]), decoder, WORDS, embedding_size=3, **options)
    model(INPUTS)
    return randomise(model)


@pytest.mark.slow
def test_in_training_alone_the_attention_asks_for_its_penalty():
    """Oracle: `reference.coverage_loss`."""
    model = made_with(LuongDecoder(GRUCell(UNITS), CoverageAttention(3, weight=0.6)))
    assert model.losses == []
    _, alignments = teacher_forced(model, INPUTS)
    model(INPUTS, training=True)
    want = 0.6 * reference.coverage_loss(alignments, INPUTS["tokens"] != 0)
    np.testing.assert_allclose(model.losses, [want], rtol=1e-5)
    for decoder in (FixedContextDecoder(GRUCell(UNITS)), LuongDecoder(GRUCell(UNITS), CoverageAttention(3))):
        model = made_with(decoder)
        model(INPUTS, training=True)
        assert model.losses == []


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_hard_attention_trains_compiled_or_not(compiled):
    """Without REINFORCE its weights would stay; its baseline moves in training alone."""
    attention = HardAttention(3, seed=0)
    model = made_with(LuongDecoder(GRUCell(UNITS), attention), dropout=0.2)
    model.compile(keras.optimizers.SGD(0.5), TokenCrossentropy(), jit_compile=compiled)
    data = {"x": INPUTS, "y": TARGETS, "sample_weight": REAL, "batch_size": BATCH, "verbose": 0}
    before, baseline = [np.asarray(w) for w in model.trainable_variables], float(attention.baseline)
    model.evaluate(**data)
    assert float(attention.baseline) == baseline
    history = model.fit(**data)
    assert np.all(np.isfinite(history.history["loss"])) and float(attention.baseline) != baseline
    for old, weight in zip(before, model.trainable_variables, strict=True):
        assert np.all(np.isfinite(weight)) and np.any(old != np.asarray(weight)), weight.path


def test_the_baseline_keeps_its_precision_among_half_precision():
    """2051.3 is none of float16's numbers, which are two apart there."""
    with dtype_policy("mixed_float16"):
        attention = HardAttention(3)
        model = made_with(LuongDecoder(GRUCell(UNITS), attention))
    attention.baseline.assign(2051.3)
    logits = model(INPUTS, training=True)
    reward = tf.gather(tf.nn.log_softmax(logits), TARGETS, batch_dims=2)[:, :-1]
    mean = np.asarray(reward)[INPUTS["tokens"][:, 1:] != 0].mean()
    np.testing.assert_allclose(attention.baseline, 0.9 * 2051.3 + 0.1 * mean, atol=1e-3)
    assert logits.dtype == model.losses[0].dtype == attention.baseline.dtype == "float32"


def test_a_frozen_backbone_stays_frozen_and_the_rest_trains(tmp_path):
    model = made()
    model.encoder.backbone.trainable = False
    model.save(tmp_path / "model.keras")
    for one in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert len(one.encoder.backbone.weights) == 2
        assert len(one.trainable_weights) == len(one.weights) - 2


@every_decoder
def test_keras_file_round_trip(decoder, tmp_path):
    model = made(decoder, dropout=0.25, alignment_penalty=0.5, alignment_supervision=0.2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(INPUTS), model(INPUTS), atol=1e-6)
    assert json.dumps(again.get_config()) == json.dumps(model.get_config())
    assert (again.input_dropout.rate, again.output_dropout.rate, again.alignment_penalty) == (0.25, 0.25, 0.5)
    assert again.alignment_supervision == 0.2
    for got, want in zip(teacher_forced(again, INPUTS), teacher_forced(model, INPUTS), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_a_file_keeps_its_precision_whatever_the_policy_it_is_read_under(tmp_path):
    with dtype_policy("mixed_float16"):
        model = tiny_seq2seq()
        model(INPUTS)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(INPUTS), model(INPUTS))
    for got, want in zip(teacher_forced(again, INPUTS), teacher_forced(model, INPUTS), strict=True):
        np.testing.assert_array_equal(got, want)
