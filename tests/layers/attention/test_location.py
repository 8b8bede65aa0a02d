"""What is peculiar to mechanisms that depend on positions or earlier alignments; `test_mechanisms` has the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import dtype_policy, lengths_mask, normal, randomise
from kseq.layers import (
    BahdanauDecoder,
    CoverageAttention,
    GRUCell,
    LocalAttention,
    LocationAttention,
    LuongDecoder,
    LuongMonotonicAttention,
    MonotonicAttention,
    coverage_loss,
)

BATCH, SOURCE, DEPTH, QUERY, STEPS = 3, 6, 5, 4, 3

MASKS = {
    "left": lengths_mask([6, 3, 1], SOURCE)[:, ::-1],
    "holes": np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]], "bool"),
}

MAKERS = {
    "local": lambda: LocalAttention(3, 2),
    "location": lambda: LocationAttention(3, 2, 3),
    "smooth": lambda: LocationAttention(3, 2, 3, smoothing=True),
    "coverage": lambda: CoverageAttention(3),
    "monotonic": lambda: MonotonicAttention(3, hard=False),
    "hard": lambda: MonotonicAttention(3),
    "luong_monotonic": lambda: LuongMonotonicAttention(hard=False),
    "luong_hard": LuongMonotonicAttention,
}


def made(name, seed=0):
    """A built mechanism with random weights, a query for each step, and a memory."""
    layer = MAKERS[name]()
    layer.build((None, QUERY), (None, None, DEPTH))
    return randomise(layer, seed), normal(STEPS, BATCH, QUERY, seed=1), normal(BATCH, SOURCE, DEPTH, seed=2)


def steps(layer, queries, memory, mask):
    """Contexts and alignments of all steps, the attention state handed on."""
    attention_state, results = layer.initial_attention_state(tf.constant(mask)), []
    for query in queries:
        context, alignment = layer(query, memory, memory_mask=mask, attention_state=attention_state)
        attention_state = layer.next_attention_state(attention_state, alignment)
        results.append((np.asarray(context), np.asarray(alignment)))
    return [np.stack(x) for x in zip(*results, strict=True)]


def test_soft_monotonic_attention_does_not_vanish_behind_rows_that_stop_all():
    """p of 1 − 1e-9 for the first rows: the product of 1 − p vanishes, the mass that starts behind them does not."""
    layer, _, memory = made("monotonic")
    layer.score = lambda query, keys, attention_state: tf.constant([[20.0, 20, 20, 20, 20, -1]])
    attention_state = np.eye(1, SOURCE, 5, dtype="float32")
    _, alignment = layer(normal(1, QUERY), memory[:1], attention_state=attention_state)
    np.testing.assert_allclose(alignment, attention_state * reference.sigmoid(-1), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["coverage", "monotonic"])
def test_the_attention_state_keeps_its_precision(name, policy):
    """Thirty steps in half precision follow those in float32: the attention state stays float32, all of it."""
    layer, _, memory = made(name)
    with dtype_policy(policy):
        half, _, _ = made(name)
    queries = normal(30, BATCH, QUERY, seed=5)
    mask = MASKS["holes"]
    (_, want), (_, got) = (steps(one, queries, memory, mask) for one in (layer, half))
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, want, atol=0.01 if policy == "mixed_float16" else 0.06)
    attention_state = np.full((BATCH, SOURCE), 1e-8, "float32")
    seen = []
    half.score = lambda query, keys, attention_state: seen.append(attention_state) or tf.zeros((BATCH, SOURCE))
    half(queries[0], memory, attention_state=attention_state)
    np.testing.assert_array_equal(seen[0], attention_state)


def test_smoothing_divides_by_the_sum_however_small():
    layer, _, memory = made("smooth")
    layer.score = lambda query, keys, attention_state: tf.constant([[-60.0, -60, -61, -62, -63, -64]])
    _, alignment = layer(normal(1, QUERY), memory[:1])
    want = np.exp([0.0, 0, -1, -2, -3, -4])
    np.testing.assert_allclose(alignment[0], want / want.sum(), rtol=1e-4)


@pytest.mark.parametrize(("hard", "soft"), [("hard", "monotonic"), ("luong_hard", "luong_monotonic")])
def test_noise_and_softness_are_for_training_alone(hard, soft):
    layer, queries, memory = made(hard)
    soft = made(soft)[0]
    _, hard = layer(queries[0], memory)
    assert set(np.unique(hard)) <= {0, 1}
    noisy = [np.asarray(layer(queries[0], memory, training=True)[1]) for _ in range(2)]
    assert not np.array_equal(*noisy)
    layer.noise = 0.0
    np.testing.assert_array_equal(layer(queries[0], memory, training=True)[1], soft(queries[0], memory)[1])


def test_coverage_loss_is_the_papers():
    """Oracle: `reference.coverage_loss`. Reading one row twice costs 1 a step, reading new rows nothing."""
    alignments = np.random.default_rng(0).dirichlet(np.ones(SOURCE), (BATCH, STEPS)).astype("float32")
    real = lengths_mask([3, 1, 2], STEPS)
    np.testing.assert_allclose(coverage_loss(alignments, real), reference.coverage_loss(alignments, real), rtol=1e-6)
    same, new = np.zeros((1, 2, SOURCE)), np.eye(2, SOURCE)[None]
    same[:, :, 0] = 1
    assert float(coverage_loss(same, np.ones((1, 2)))) == 0.5
    assert float(coverage_loss(new, np.ones((1, 2)))) == 0


def test_before_training_the_monotonic_energy_is_the_general_score_plus_r():
    layer, queries, memory = LuongMonotonicAttention(score_bias=-2.5), *made("local")[1:]
    layer.build((None, QUERY), (None, None, DEPTH))
    keys = layer.project(tf.constant(memory))
    want = np.einsum("bu,bsu->bs", queries[0], keys) - 2.5
    np.testing.assert_allclose(layer.score(tf.constant(queries[0]), keys, None), want, atol=1e-5)


def test_coverage_asks_for_its_loss_where_it_weighs():
    """Oracle: `reference.coverage_loss` over the words before, the first among them."""
    alignments = np.random.default_rng(0).dirichlet(np.ones(SOURCE), (BATCH, STEPS)).astype("float32")
    tokens = np.array([[1, 5, 6], [1, 0, 0], [1, 7, 0]])
    want = 0.3 * reference.coverage_loss(alignments, lengths_mask([3, 1, 2], STEPS))
    got = CoverageAttention(3, weight=0.3).penalty(alignments, None, tokens)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert CoverageAttention(3).penalty(alignments, None, tokens) == 0.0


@pytest.mark.parametrize("make", [BahdanauDecoder, LuongDecoder])
@pytest.mark.parametrize("name", ["location", "coverage", "monotonic", "hard"])
def test_a_decoder_hands_the_attention_state_on(make, name):
    """Step by step equals the whole, and the attention state is made of the alignments before."""
    inputs, memory, mask = normal(BATCH, STEPS, 2), normal(BATCH, SOURCE, DEPTH, seed=1), MASKS["left"]
    decoder = make(GRUCell(QUERY), MAKERS[name]())
    outputs, alignments = decoder(inputs, memory, mask)
    randomise(decoder)
    outputs, alignments = decoder(inputs, memory, mask)
    read = decoder.memorize(tf.constant(memory), tf.constant(mask))
    states = decoder.get_initial_state(read, [tf.zeros((BATCH, QUERY))])
    covered = np.zeros((BATCH, SOURCE))
    for t in range(STEPS):
        (output, alignment), states = decoder.step(tf.constant(inputs[:, t]), states, read)
        np.testing.assert_allclose(output, outputs[:, t], atol=1e-5)
        np.testing.assert_allclose(alignment, alignments[:, t], atol=1e-5)
        covered = covered + alignment if name == "coverage" else alignment
        np.testing.assert_allclose(states[-1], covered, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["location", "coverage"])
def test_texts_of_unknown_length_train_compiled(name):
    """As `fit` does it under XLA. Oracle: the same without."""
    inputs, memory = tf.constant(normal(BATCH, STEPS, 2)), tf.constant(normal(BATCH, SOURCE, DEPTH, seed=1))
    decoder = BahdanauDecoder(GRUCell(QUERY), MAKERS[name]())
    decoder(inputs, memory)
    randomise(decoder)

    def gradients(inputs, memory):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(decoder(inputs, memory)[0]))
        return tape.gradient(loss, decoder.trainable_variables)

    unknown = [tf.TensorSpec([None, None, 2]), tf.TensorSpec([None, None, DEPTH])]
    compiled = tf.function(gradients, jit_compile=True, input_signature=unknown, autograph=False)(inputs, memory)
    for one, other in zip(compiled, gradients(inputs, memory), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [BahdanauDecoder, LuongDecoder])
def test_inside_a_decoder_training_is_soft_and_reaches_the_weights(make):
    """The decoder has no `training` of its own: Keras hands the model's on, into the loop too."""
    words, memory = keras.Input((None, 2)), keras.Input((None, DEPTH))
    decoder = make(GRUCell(QUERY), MonotonicAttention(3))
    model = keras.Model([words, memory], decoder(words, memory))
    inputs = [tf.constant(normal(BATCH, STEPS, 2)), tf.constant(normal(BATCH, SOURCE, DEPTH, seed=1))]

    @tf.function(autograph=False)
    def alignments_and_gradient(training):
        with tf.GradientTape() as tape:
            outputs, alignments = model(inputs, training=training)
            loss = tf.reduce_sum(tf.square(outputs))
        zero = tf.UnconnectedGradients.ZERO  # a hard alignment has none
        return alignments, tape.gradient(loss, decoder.attention.offset.value, unconnected_gradients=zero)

    alignments, gradient = alignments_and_gradient(True)
    assert np.any((alignments > 0.01) & (alignments < 0.99)) and abs(float(gradient)) > 0
    alignments, _ = alignments_and_gradient(False)
    assert set(np.unique(alignments)) <= {0, 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalAttention(0, 2), "units must be a positive whole number, got 0"),
        (lambda: LocalAttention(3, 0), "window must be a positive whole number, got 0"),
        (lambda: LocationAttention(3, 0, 3), "filters must be a positive whole number, got 0"),
        (lambda: LocationAttention(3, 2, 0), "kernel_size must be a positive whole number, got 0"),
        (lambda: LocationAttention(3, 2, 3, sharpening=0), "sharpening must be positive, got 0"),
        (lambda: LocationAttention(3, 2, 3, window=-1), "window must be a positive whole number, got -1"),
        (lambda: LocationAttention(3, 2, 3, window=1.5), "window must be a positive whole number, got 1.5"),
        (
            lambda: LocationAttention(3, 2, 3, smoothing=True, sharpening=2),
            "smoothing has no sharpening, got 2; take one of the two",
        ),
        (lambda: MonotonicAttention(3, noise=float("nan")), "noise must not be negative, got nan"),
        (lambda: CoverageAttention(0), "units must be a positive whole number, got 0"),
        (lambda: MonotonicAttention(0), "units must be a positive whole number, got 0"),
        (lambda: MonotonicAttention(3, noise=-1), "noise must not be negative, got -1"),
        (lambda: LuongMonotonicAttention(noise=-1), "noise must not be negative, got -1"),
        (lambda: CoverageAttention(3, weight=-0.5), "weight must not be negative, got -0.5"),
    ],
)
def test_a_bad_argument_is_named(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
