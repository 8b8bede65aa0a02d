"""Hard attention: one row is read, and REINFORCE brings the scores the gradient that the draw cuts off."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import normal, randomise
from kseq.layers import BahdanauDecoder, DenseBridge, GRUCell, HardAttention
from kseq.losses import TokenCrossentropy
from kseq.models import Seq2Seq, TextEncoder
from kseq.samplers import Greedy

BATCH, SOURCE, DEPTH, QUERY, WORDS = 3, 5, 4, 3, 7
MASK = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], "bool")
TOKENS = np.array([[1, 4, 5, 6], [1, 6, 0, 0], [1, 3, 4, 0]])

in_training_or_not = pytest.mark.parametrize("training", [True, False])


def made(**options):
    """A built mechanism with random weights, a query and a memory."""
    layer = HardAttention(3, **({"seed": 0} | options))
    layer.build((None, QUERY), (None, None, DEPTH))
    randomise(layer).baseline.assign(0.0)
    return layer, normal(BATCH, QUERY, seed=1), normal(BATCH, SOURCE, DEPTH, seed=2)


def probabilities(layer, query, memory):
    """α of `reference.attend` over Bahdanau's scores."""
    W, U, v = (np.asarray(weight) for weight in (layer.query_kernel, layer.memory_kernel, layer.scale))
    return reference.attend(lambda q, row: reference.additive_score(q, row, W, U, v), query, memory, MASK)[1]


def log_probs(logits, tokens):
    """log p of the words in view, `[batch, time − 1]`, one word at a time."""
    found = np.zeros((len(tokens), tokens.shape[1] - 1))
    for b, t in np.ndindex(*found.shape):
        found[b, t] = logits[b, t, tokens[b, t + 1]] - np.log(np.sum(np.exp(logits[b, t])))
    return found


def draws(layer, scores, mask):
    """The alignments of all steps from given scores `[batch, time, source]`, in training."""
    alignments = []
    for t in range(scores.shape[1]):
        layer.score = lambda query, keys, attention_state, t=t: scores[:, t]
        alignments.append(layer.weigh(None, None, mask, None, True))
    return tf.stack(alignments, axis=1)


def test_the_likeliest_row_is_read():
    """Oracle: the largest weight of `reference.attend`, every time; nothing where no row is real."""
    layer, query, memory = made()
    want = probabilities(layer, query, memory).argmax(axis=-1)
    for _ in range(8):
        context, alignment = layer(query, memory, memory_mask=MASK)
        np.testing.assert_array_equal(alignment, np.eye(SOURCE)[want] * MASK)
        np.testing.assert_array_equal(context[:2], memory[[0, 1], want[:2]])
        assert not np.any(context[2])


def test_in_training_rows_are_drawn_as_often_as_they_weigh():
    """Oracle: α of `reference.attend`; the standard error of 20,000 draws is at most 0.004."""
    layer, query, memory = made()
    repeated = [np.repeat(x, 20_000, axis=0) for x in (query, memory, MASK)]
    context, alignment = layer(*repeated[:2], memory_mask=repeated[2], training=True)
    alignment = np.asarray(alignment)
    assert set(np.unique(alignment)) == {0, 1} and alignment.sum() == 2 * 20_000
    often = alignment.reshape(BATCH, -1, SOURCE).mean(axis=1)
    np.testing.assert_allclose(often, probabilities(layer, query, memory), atol=0.015)
    np.testing.assert_array_equal(context, np.einsum("bs,bsd->bd", alignment, repeated[1]))


def test_each_call_draws_anew_and_the_seed_decides():
    rows = [[np.asarray(layer(*inputs, training=True)[1]) for _ in range(8)] for layer, *inputs in (made(), made())]
    np.testing.assert_array_equal(*rows)
    assert not all(np.array_equal(row, rows[0][0]) for row in rows[0])


@in_training_or_not
def test_the_context_gives_the_scores_no_gradient_and_the_alignment_gives_them_log_alpha(training):
    """Oracle: the gradient of log α, which is 1 at the row that is read less α, for the scores."""
    layer, query, memory = made()
    memory, scores = tf.constant(memory), tf.constant(normal(BATCH, 1, SOURCE, seed=3))
    layer.score = lambda query, keys, attention_state: scores[:, 0]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([memory, scores])
        context, alignment = layer(query, memory, memory_mask=MASK, training=training)
        total = tf.reduce_sum(alignment)
        squared = tf.reduce_sum(tf.square(context))
    assert tape.gradient(squared, scores) is None
    np.testing.assert_allclose(tape.gradient(squared, memory), 2 * alignment[:, :, None] * memory, atol=1e-6)
    alpha = np.exp(scores[:, 0]) * MASK
    alpha /= np.maximum(alpha.sum(axis=-1, keepdims=True), 1e-9)
    np.testing.assert_allclose(tape.gradient(total, scores)[:, 0], alignment - alpha, atol=1e-6)


@in_training_or_not
def test_masked_memory_changes_nothing_and_gets_no_gradient(training):
    layer, query, memory = made()
    rewritten = np.where(MASK[:, :, None], memory, 30 * normal(*memory.shape, seed=8))
    results = []
    for values in (memory, rewritten):
        layer, memory = made()[0], tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(memory)
            context, alignment = layer(query, memory, memory_mask=MASK, training=training)
            loss = tf.reduce_sum(tf.square(context)) + tf.reduce_sum(tf.square(alignment))
        sources = [memory, *(weight.value for weight in layer.trainable_variables)]
        results.append([context, alignment, *tape.gradient(loss, sources)])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert np.all(np.isfinite(got))
    assert not np.any(results[1][2].numpy()[~MASK])


def test_the_penalty_is_the_score_function_estimator():
    """Oracle: `reference.reinforce_gradient`, a sentence, a step and a row at a time."""
    layer, _, _ = made(weight=0.7)
    layer.baseline.assign(-1.3)
    scores, logits = tf.constant(normal(BATCH, 4, SOURCE)), 2 * normal(BATCH, 4, WORDS, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        alignments = draws(layer, scores, MASK)
        penalty = layer.penalty(alignments, logits, TOKENS)
    assert penalty.dtype == "float32" and float(penalty) == 0
    alpha = np.exp(scores) * MASK[:, None]
    alpha /= np.maximum(alpha.sum(axis=-1, keepdims=True), 1e-9)
    drawn = np.where(np.any(alignments, axis=-1), np.argmax(alignments, axis=-1), -1)
    want = reference.reinforce_gradient(
        alpha, drawn, log_probs(logits, TOKENS), TOKENS[:, 1:] != 0, baseline=-1.3, words=np.sum(TOKENS != 0)
    )
    got = tape.gradient(penalty, scores)
    np.testing.assert_allclose(got, 0.7 * want, atol=1e-6)
    assert np.any(got[:2]) and not np.any(got[2]) and not np.any(got[:, 3])


@pytest.mark.parametrize("baseline", [0.0, -2.0])
def test_on_average_the_penalty_has_the_gradient_of_the_expected_reward(baseline):
    """Oracle: −E log p(y) over the four ways to read two rows in two steps, enumerated. The second word's probability
    depends on both draws. A mean over 40,000 draws; its standard error is at most 0.003.
    """
    n, (first, second) = 40_000, (normal(2), normal(2, 2, seed=1))  # log-odds of the right words
    scores = np.array([[0.3, -0.4], [-0.2, 0.6]])
    alpha = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    want = np.zeros((2, 2))
    for i, j in itertools.product(range(2), repeat=2):
        reward = sum(np.log(reference.sigmoid(odds)) for odds in (3 * first[i], 3 * second[i, j]))
        want -= alpha[0, i] * alpha[1, j] * reward * (np.eye(2)[[i, j]] - alpha) / 3

    layer, _, _ = made()
    layer.baseline.assign(baseline)
    scores = tf.constant(scores, "float32")
    with tf.GradientTape() as tape:
        tape.watch(scores)
        alignments = draws(layer, tf.repeat(tf.concat([scores, [[0, 0]]], 0)[None], n, axis=0), np.ones((n, 2), "bool"))
        i, j, _ = np.argmax(alignments, axis=-1).T
        logits = np.zeros((n, 3, 2), "float32")
        logits[:, 0, 1], logits[:, 1, 1] = 3 * first[i], 3 * second[i, j]
        penalty = layer.penalty(alignments, logits, np.ones((n, 3), "int32"))
    assert np.all(np.abs(want) > 0.02)
    np.testing.assert_allclose(tape.gradient(penalty, scores), want, atol=0.012)


def test_the_baseline_is_a_moving_average_of_the_reward_of_a_word():
    layer, _, _ = made(decay=0.8)
    alignments, want = np.ones((BATCH, 4, SOURCE), "float32") / SOURCE, 0.0
    for seed in range(3):
        logits = normal(BATCH, 4, WORDS, seed=seed)
        layer.penalty(alignments, logits, TOKENS)
        want = 0.8 * want + 0.2 * log_probs(logits, TOKENS)[TOKENS[:, 1:] != 0].mean()
        np.testing.assert_allclose(layer.baseline, want, rtol=1e-5)
    layer.penalty(alignments, logits, np.array([[1, 0, 0, 0]] * BATCH))
    layer.penalty(alignments[:, :1], logits[:, :1], TOKENS[:, :1])
    np.testing.assert_allclose(layer.baseline, want, rtol=1e-5)
    assert not layer.baseline.trainable


def test_the_penalty_sees_no_padding_and_not_the_last_step():
    seen = np.pad(TOKENS[:, 1:] != 0, [(0, 0), (0, 1)])[:, :, None]
    scores, logits = normal(BATCH, 4, SOURCE), normal(BATCH, 4, WORDS, seed=1)
    results = []
    for fill in (0.0, 5.0):
        layer, _, _ = made()
        x = tf.constant(np.where(seen, scores, fill * normal(*scores.shape, seed=2)))
        with tf.GradientTape() as tape:
            tape.watch(x)
            penalty = layer.penalty(draws(layer, x, MASK), np.where(seen, logits, fill), TOKENS)
        results.append((tape.gradient(penalty, x), layer.baseline))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight must not be negative, got -1"),
        ({"decay": 1.0}, "decay must be at least 0 and less than 1, got 1.0"),
        ({"units": 0}, "units must be a positive whole number, got 0"),
    ],
)
def test_a_bad_argument_is_named(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        HardAttention(**({"units": 3} | options))


@pytest.mark.slow
def test_it_learns_to_copy():
    """Four kinds of word in three places, 1 of 64 by chance. A row of the memory knows its own word and place alone,
    and the bridge says nothing: what is copied was looked at.
    """
    keras.utils.set_random_seed(0)
    kinds, places, cell = 4, np.arange(3), GRUCell(32)
    words = np.random.default_rng(0).integers(0, kinds, (25_000, 3))
    source, targets = 1 + words + kinds * places, np.pad(3 + words, [(0, 0), (0, 1)], constant_values=2)
    inputs = {"source": source, "tokens": np.pad(3 + words, [(0, 0), (1, 0)], constant_values=1)}
    encoder = TextEncoder(1 + 3 * kinds, keras.layers.Conv1D(32, 1, padding="same"), embedding_size=16)
    decoder = BahdanauDecoder(cell, HardAttention(32))
    model = Seq2Seq(encoder, DenseBridge(cell.state_size), decoder, 3 + kinds, embedding_size=16)
    model({name: x[:1] for name, x in inputs.items()})
    model.bridge.kernel.assign(tf.zeros_like(model.bridge.kernel))
    model.bridge.trainable = False
    model.compile(keras.optimizers.Adam(0.01), TokenCrossentropy(), jit_compile=False)
    model.fit(inputs, targets, sample_weight=np.ones(targets.shape, "float32"), batch_size=64, epochs=3, verbose=0)
    states, memory = model.encode(source[:200])
    found = Greedy()(model.step, states, memory, start=1, end=2, max_length=4)
    assert np.mean(np.all(found.ids[:, 0] == targets[:200], axis=-1)) >= 0.95
