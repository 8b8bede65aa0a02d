"""The pointer-generator against its equations, a word at a time, and where a logarithm or a gradient could break."""

import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import dtype_policy, normal, randomise
from kseq.layers import PointerGenerator
from kseq.losses import TokenCrossentropy

BATCH, TIME, SOURCE, VOCABULARY, COPIES = 3, 2, 6, 7, 3

# Words of the vocabulary and others, some more than once; padding on either side; a source without own words.
SOURCE_IDS = np.array([[4, 7, 4, 8, 7, 7], [0, 5, 7, 8, 9, 0], [2, 5, 5, 0, 0, 0]], "int32")


def made(seed=0):
    """A layer with random weights, and the arguments of a call."""
    layer = PointerGenerator(COPIES)
    shapes = [(VOCABULARY, 4), (4, 5), (5, 6), (3, 7)]
    steps = [normal(BATCH, TIME, size, seed=seed + number) for size, number in shapes]
    alignments = np.random.default_rng(seed).dirichlet(np.ones(SOURCE), (BATCH, TIME)).astype("float32")
    alignments *= SOURCE_IDS[:, None, :] != 0
    alignments /= alignments.sum(-1, keepdims=True)
    arguments = [*steps, alignments, SOURCE_IDS]
    layer(*arguments)
    return randomise(layer, seed), arguments


def oracle(layer, logits, output, context, inputs, alignments, source_ids):
    w_h, w_s, w_x, b = (np.asarray(w, "float64").squeeze() for w in layer.weights)
    p = np.zeros((BATCH, TIME, VOCABULARY + COPIES))
    for i, t in np.ndindex(BATCH, TIME):
        step = (x[i, t] for x in (logits, output, context, inputs, alignments))
        p[i, t] = reference.pointer_generator(*step, source_ids[i], COPIES, w_h, w_s, w_x, b)
    return p


def plain(layer, logits, output, context, inputs, alignments, source_ids, whole):
    """The equations in dense products, for gradients: a one-hot of source × vocabulary."""
    w_h, w_s, w_x, b = layer.weights
    alignments *= tf.cast(source_ids != 0, tf.float32)[:, None, :]
    p = tf.sigmoid(context @ w_h + output @ w_s + inputs @ w_x + b)
    rest = 0.0 if whole else 1 - tf.reduce_sum(alignments, -1, keepdims=True)
    p_vocab = tf.pad(tf.nn.softmax(logits), [[0, 0], [0, 0], [0, COPIES]])
    copied = tf.matmul(alignments, tf.one_hot(source_ids, VOCABULARY + COPIES))
    return tf.math.log((p + (1 - p) * rest) * p_vocab + (1 - p) * copied + 1e-20)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_equations(seed):
    """Oracle: `reference.pointer_generator`, a step of a sentence at a time, with random weights."""
    layer, arguments = made(seed)
    log_probs = layer(*arguments)
    assert log_probs.dtype == "float32" and log_probs.shape == (BATCH, TIME, VOCABULARY + COPIES)
    np.testing.assert_allclose(np.exp(log_probs), oracle(layer, *arguments), atol=1e-6)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-6)
    assert np.all(np.asarray(log_probs)[2, :, VOCABULARY:] == np.log(np.float32(1e-20)))  # it has no words of its own


@pytest.mark.parametrize("whole", [True, False], ids=["sums_to_1", "sums_to_less"])
def test_gradients_are_those_of_the_equations(whole):
    """Oracle: the same in dense products."""
    layer, (*steps, alignments, source_ids) = made()
    alignments = alignments if whole else 0.6 * alignments
    possible = oracle(layer, *steps, alignments, source_ids) > 0
    weights = tf.constant(normal(*possible.shape) * possible)
    watched = [tf.constant(x) for x in (*steps, alignments)]
    results = []
    for function in (layer, lambda *arguments: plain(layer, *arguments, whole)):
        with tf.GradientTape() as tape:
            tape.watch(watched)
            value = tf.reduce_sum(weights * function(*watched, source_ids))
        results.append(tape.gradient(value, [*watched, *layer.weights]))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_step_is_its_row_of_many():
    layer, (*steps, source_ids) = made()
    log_probs = layer(*steps, source_ids)
    for t in range(TIME):
        np.testing.assert_allclose(layer(*(x[:, t] for x in steps), source_ids), log_probs[:, t], atol=1e-6)


def test_the_rows_of_one_word_add_up():
    """By hand: with p_gen = σ(0), half of the weight of rows 0 and 2, which hold the word."""
    layer, (logits, *others, alignments, _) = made()
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    source_ids = np.tile([8, 5, 8, 9, 5, 6], (BATCH, 1))
    p = np.exp(layer(logits, *others, np.full_like(alignments, 1 / 6), source_ids))
    np.testing.assert_allclose(p[:, :, VOCABULARY:], np.tile([0, 1 / 6, 1 / 12], (BATCH, TIME, 1)), atol=1e-6)
    np.testing.assert_allclose(p[:, :, 5], tf.nn.softmax(logits)[:, :, 5] / 2 + 1 / 6, rtol=1e-5)
    np.testing.assert_allclose(p[:, :, :5], tf.nn.softmax(logits)[:, :, :5] / 2, rtol=1e-5)


def test_what_no_word_of_the_source_gets_is_the_vocabularys():
    """Oracle: `reference.pointer_generator`. Nothing is weighed, or half, or padding alone."""
    layer, (*steps, alignments, source_ids) = made()
    alignments = alignments.copy()
    alignments[0] = 0
    alignments[1] *= 0.5
    alignments[2] = [0, 0, 0, 0.2, 0.8, 0]
    log_probs = layer(*steps, alignments, source_ids)
    np.testing.assert_allclose(np.exp(log_probs), oracle(layer, *steps, alignments, source_ids), atol=1e-6)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-6)
    for row in (0, 2):
        np.testing.assert_allclose(log_probs[row, :, :VOCABULARY], tf.nn.log_softmax(steps[0][row]), atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, -1e4], ids=["even", "usual", "generates", "copies"])
def test_all_is_finite_where_a_probability_is_0(scale):
    """Words that neither half can say are asked for, the switch stands at one of its ends, a row has no source."""
    layer, (logits, *others, alignments, source_ids) = made()
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    layer.bias.assign([scale])
    alignments = alignments.copy()
    alignments[0] = [0, 0, 0, 1, 0, 0]  # on the word 8 alone
    alignments[1] = 0
    targets = tf.constant([[7, 3], [9, 8], [9, 0]])
    arguments = [tf.constant(x) for x in (1e4 * logits, *others, alignments)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        log_probs = layer(*arguments, source_ids)
        loss = TokenCrossentropy(0.1)(targets, log_probs)
    gradients = tape.gradient(loss, [*arguments, *layer.weights])
    assert np.all(np.isfinite(log_probs)) and np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-3)


def test_where_the_alignment_sums_to_1_but_for_rounding_nothing_is_left():
    """A tiny p_gen shows it: a rest of 10⁻⁷ would be the larger part of what is generated."""
    layer, (*steps, alignments, source_ids) = made()
    for weight in layer.weights:
        weight.assign(tf.zeros_like(weight))
    layer.bias.assign([-20.0])
    alignments = alignments * np.float32(1 - 2e-7)
    log_probs = layer(*steps, alignments, source_ids)
    np.testing.assert_allclose(log_probs[:, :, 3], tf.nn.log_softmax(steps[0])[:, :, 3] - 20, atol=1e-4)


def test_label_smoothing_pays_for_numbers_that_nobody_has_and_learns_nothing_from_them():
    """Oracle: the smoothing's sum without them; what they add is 20 log 10 each."""
    layer, arguments = made()
    targets = tf.constant([[7, 4], [9, 8], [5, 2]])
    used = np.exp(layer(*arguments)) > 1e-19
    results = []
    for everywhere in (True, False):
        with tf.GradientTape() as tape:
            log_probs = layer(*arguments)
            if everywhere:
                loss = TokenCrossentropy(0.1)(targets, log_probs)
            else:
                chosen = tf.gather(log_probs, targets, batch_dims=2)
                spread = tf.reduce_sum(tf.where(used, log_probs, 0.0), -1) / (VOCABULARY + COPIES)
                loss = -tf.reduce_mean(0.9 * chosen + 0.1 * spread)
        results.append((loss, tape.gradient(loss, layer.weights)))
    (whole, gradients), (part, want) = results
    added = 0.1 * np.mean((~used).sum(-1)) / (VOCABULARY + COPIES) * 20 * np.log(10)
    assert not np.all(used)
    np.testing.assert_allclose(whole, part + added, rtol=1e-5)
    for got, gradient in zip(gradients, want, strict=True):
        np.testing.assert_allclose(got, gradient, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_and_alignments_keep_their_precision(policy):
    layer, arguments = made()
    with dtype_policy(policy):
        half = PointerGenerator(COPIES)
        half(*arguments)
        half.set_weights(layer.get_weights())
        log_probs = half(*arguments)
    assert log_probs.dtype == "float32"
    np.testing.assert_array_equal(log_probs, layer(*arguments))


@pytest.mark.parametrize("copies", [0, -1, 1.5, True, None])
def test_a_number_of_words_out_of_range_is_named(copies):
    with pytest.raises(ValueError, match=rf"^max_oov_words must be a positive whole number, got {copies!r}$"):
        PointerGenerator(copies)
