"""Scheduled sampling: training on the model's own words, against loops over `step` in Python."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import dtype_policy, normal, randomise, tiny_copier, tiny_seq2seq
from kseq.losses import TokenCrossentropy

BATCH, TIME, WORDS = 3, 4, 11
TOKENS = np.array([[1, 5, 6, 7], [1, 8, 0, 0], [1, 9, 10, 0]], "int32")
TARGETS = np.array([[5, 6, 7, 2], [8, 2, 0, 0], [9, 10, 2, 0]], "int32")
SOURCE = np.array([[4, 11, 5, 12, 11], [11, 3, 6, 0, 0], [7, 7, 11, 12, 0]], "int32")

MAKERS = {
    "bahdanau": (lambda **options: tiny_seq2seq("bahdanau", **options), normal(BATCH, 8, 8, 3)),
    "luong": (lambda **options: tiny_seq2seq("luong", **options), normal(BATCH, 8, 8, 3)),
    "copies": (tiny_copier, SOURCE),
}
every_model = pytest.mark.parametrize("name", MAKERS)


def made(name, sharp=1.0, **options):
    """A model with random weights, and what it reads. A sharp one is nearly certain of each word."""
    keras.utils.set_random_seed(0)
    make, source = MAKERS[name]
    model, inputs = make(**options), {"source": source, "tokens": TOKENS}
    model(inputs)
    randomise(model, seed=10)  # of the first, one that says several words
    for weight in model.words.weights:
        weight.assign(sharp * weight)
    model.embedding.embeddings.assign(4 * model.embedding.embeddings)
    if name == "copies" and sharp > 1:
        model.pointer.bias.assign([12.0])  # alignments stay soft: it is certain where it copies next to nothing
    return model, inputs


def sampled(inputs, share):
    return inputs | {"sampling": np.full(BATCH, share, "float32")}


def spoken(model, source, first):
    """The outputs of a loop over `step` that reads the likeliest word, and the words that it read."""
    states, memory = model.encode(source)
    word, words, outputs = tf.constant(first), [], []
    for _ in range(TIME):
        words.append(word)
        logits, states, _ = model.step(word, states, memory)
        outputs.append(logits)
        word = tf.argmax(logits, -1, output_type=tf.int32)
    return np.stack(outputs, axis=1), np.stack(words, axis=1)


@pytest.mark.slow
@every_model
def test_with_no_sampling_the_teacher_is_followed(name):
    model, inputs = made(name)
    np.testing.assert_allclose(model(sampled(inputs, 0.0), training=True), model(inputs), atol=1e-5)


@pytest.mark.slow
@every_model
def test_outside_training_there_is_no_sampling(name):
    model, inputs = made(name)
    np.testing.assert_array_equal(model(sampled(inputs, 1.0)), model(inputs))
    np.testing.assert_array_equal(model(sampled(inputs, 1.0), training=False), model(inputs))


@pytest.mark.slow
@every_model
def test_with_all_sampled_a_certain_model_reads_its_greedy_words(name):
    """Oracle: a loop over `step` in Python. The words read are the teacher's too, given as tokens."""
    model, inputs = made(name, sharp=1000.0)
    want, words = spoken(model, inputs["source"], TOKENS[:, 0])
    assert np.any(words[:, 1:] != TOKENS[:, 1:]) and len(np.unique(words)) > 2
    got = model(sampled(inputs, 1.0), training=True)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(model(inputs | {"tokens": words}), want, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_words_of_its_own_are_said_and_read_as_the_unknown_word():
    """The copier says what it looks at; its rows look at words of their own."""
    model, inputs = made("copies")
    model.pointer.bias.assign([-50.0])
    model.decoder.attention.scale.assign(100 * model.decoder.attention.scale)
    inputs = inputs | {"source": np.array([[11, 12], [12, 11], [11, 0]], "int32")}
    want, words = spoken(model, inputs["source"], TOKENS[:, 0])
    assert np.all(words[:, 1:] >= WORDS)
    np.testing.assert_allclose(model(sampled(inputs, 1.0), training=True), want, atol=1e-3)


@pytest.mark.slow
def test_each_row_has_a_probability_of_its_own():
    model, inputs = made("luong", sharp=1000.0)
    want, teacher = spoken(model, inputs["source"], TOKENS[:, 0])[0], np.asarray(model(inputs))
    for shape in (3, (3, 1)):
        mixed = np.reshape(np.array([1, 0, 1], "float32"), shape)
        got = np.asarray(model(inputs | {"sampling": mixed}, training=True))
        np.testing.assert_allclose(got[[0, 2]], want[[0, 2]], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(got[1], teacher[1], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_words_are_drawn_from_the_models_own_distribution(share):
    """Oracle: the softmax after the first word, mixed with the teacher's; a word shows in the logits after it."""
    model, inputs = made("luong")
    count = 4000
    many = {key: np.repeat(x[:1], count, axis=0) for key, x in inputs.items()} | {"sampling": np.full(count, share)}
    each = {"source": np.repeat(inputs["source"][:1], WORDS, axis=0)}
    each["tokens"] = np.stack([np.full(WORDS, 1), np.arange(WORDS)], axis=1)
    after = np.asarray(model(each))
    got = np.asarray(model(many | {"tokens": many["tokens"][:, :2]}, training=True))[:, 1]
    words = np.abs(got[:, None] - after[None, :, 1]).sum(-1).argmin(-1)
    want = share * np.asarray(tf.nn.softmax(after[0, 0])) + (1 - share) * (np.arange(WORDS) == TOKENS[0, 1])
    error = np.sqrt(want * (1 - want) / count)
    assert np.all(np.abs(np.bincount(words, minlength=WORDS) / count - want) < 4 * error)


@pytest.mark.slow
def test_one_seed_one_result():
    results = []
    for _ in range(2):
        model, inputs = made("bahdanau", dropout=0.2)
        results.append([np.asarray(model(sampled(inputs, 0.5), training=True)) for _ in range(3)])
    np.testing.assert_array_equal(*results)
    assert not np.allclose(results[0][0], results[0][1])


@pytest.mark.slow
def test_a_compiled_step_of_training_reaches_every_weight():
    model, inputs = made("luong", dropout=0.1)
    model.compile(keras.optimizers.SGD(0.5), TokenCrossentropy(), jit_compile=True)
    before, weights = model.get_weights(), (TARGETS != 0).astype("float32")
    history = model.fit(sampled(inputs, 0.7), TARGETS, sample_weight=weights, batch_size=BATCH, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    for weight, old in zip(model.weights, before, strict=True):
        assert np.any(old != weight.numpy()), weight.path


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(name, policy):
    """Oracle: float32, of a model so certain that both read the same words."""
    model, inputs = made(name, sharp=1000.0)
    with dtype_policy(policy):
        half, _ = made(name, sharp=1000.0)
    want = np.asarray(model(sampled(inputs, 1.0), training=True))
    with tf.GradientTape() as tape:
        got = half(sampled(inputs, 1.0), training=True)
        loss = TokenCrossentropy()(TARGETS, got)
    gradients = tape.gradient(loss, half.trainable_variables)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
    assert all(np.all(np.isfinite(tf.convert_to_tensor(gradient))) for gradient in gradients)


@pytest.mark.slow
def test_gradients_reach_the_words_that_were_said():
    """Oracle: as many embeddings have a gradient as words were read; the teacher gave but three."""
    model, inputs = made("luong", sharp=1000.0)
    _, words = spoken(model, inputs["source"], TOKENS[:, 0])
    with tf.GradientTape() as tape:
        logits = model(sampled(inputs, 1.0), training=True)
        loss = tf.reduce_sum(tf.square(logits[:, -1]))
    gradient = tf.convert_to_tensor(tape.gradient(loss, model.embedding.embeddings))
    assert set(np.flatnonzero(np.any(gradient, axis=-1))) == set(words.ravel())


@pytest.mark.slow
def test_a_functional_model_takes_the_probability_as_an_input_and_is_exported(tmp_path):
    model, inputs = made("luong", sharp=1000.0)
    arguments = {
        "source": keras.Input((8, 8, 3), name="source"),
        "tokens": keras.Input((None,), dtype="int32", name="tokens"),
        "sampling": keras.Input((), name="sampling"),
    }
    whole = keras.Model(arguments, model(arguments))
    want, _ = spoken(model, inputs["source"], TOKENS[:, 0])
    np.testing.assert_allclose(whole(sampled(inputs, 1.0), training=True), want, rtol=1e-4, atol=1e-3)
    whole.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    answer = served.serve(tf.nest.map_structure(tf.constant, sampled(inputs, 1.0)))
    np.testing.assert_allclose(answer, model(inputs), rtol=1e-4, atol=1e-3)
