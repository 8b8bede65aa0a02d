import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.losses import RollCrossentropy, TokenCrossentropy


def random_batch(seed=0, vocabulary=7):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 5, vocabulary)).astype("float32") * 3
    targets = rng.integers(0, vocabulary, (3, 5)).astype("int32")
    weights = (np.arange(5) < [[5], [2], [3]]).astype("float32")
    return targets, logits, weights


def oracle(targets, logits, weights, epsilon):
    """The docstring's equation over the real tokens, one at a time, in float64."""
    losses, real = [], []
    for i, t in np.ndindex(targets.shape):
        z = logits[i, t].astype(float)
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        losses.append(-(1 - epsilon) * log_p[targets[i, t]] - epsilon / len(z) * log_p.sum())
        real.append(float(weights[i, t]))
    return np.dot(losses, real) / sum(real)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.7])
def test_equals_the_equation(epsilon):
    """Oracle: NumPy, token by token."""
    for seed in range(3):
        targets, logits, weights = random_batch(seed)
        loss = TokenCrossentropy(epsilon)(targets, logits, weights)
        np.testing.assert_allclose(loss, oracle(targets, logits, weights, epsilon), rtol=1e-5)
        np.testing.assert_allclose(
            TokenCrossentropy(epsilon)(targets, logits),
            oracle(targets, logits, np.ones_like(weights), epsilon),
            rtol=1e-5,
        )


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_smoothing_is_cross_entropy_with_a_mixed_target(epsilon):
    """Oracle: Keras' CategoricalCrossentropy, weighted by hand."""
    targets, logits, weights = random_batch(4)
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=epsilon, reduction=None)
    each = keras_loss(np.eye(7, dtype="float32")[targets], logits).numpy()
    loss = TokenCrossentropy(epsilon)(targets, logits, weights)
    np.testing.assert_allclose(loss, (each * weights).sum() / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_ten_equal_words_cost_log_10_however_much_is_padding(epsilon):
    """By hand: log 10 = 2.303; over all positions it would be 2.303 · 3/8 = 0.863."""
    weights = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], "float32")
    loss = TokenCrossentropy(epsilon)(np.ones((2, 4), "int32"), np.zeros((2, 4, 10), "float32"), weights)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def test_padding_cannot_leak():
    targets, logits, weights = random_batch()
    other = np.where(weights[..., None] > 0, logits, 50.0).astype("float32")
    loss = TokenCrossentropy(0.1)
    assert float(loss(targets, logits, weights)) == float(loss(targets * (weights > 0), other, weights))
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(targets, logits, weights)
    gradient = tape.gradient(value, logits).numpy()
    assert (np.abs(gradient).max(-1) > 0).tolist() == (weights > 0).tolist()


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_large_logits_stay_finite(epsilon):
    """By hand: the difference of the two logits, of which smoothing sees (0 + 1e4 + 2e4) / 3."""
    logits = np.array([[[1e4, 0.0, -1e4]]], "float32")
    loss = TokenCrossentropy(epsilon)
    for target, difference in ((0, 0.0), (1, 1e4), (2, 2e4)):
        expected = (1 - epsilon) * difference + epsilon * 1e4
        np.testing.assert_allclose(loss(np.full((1, 1), target), logits), expected, rtol=1e-5)


def test_half_precision_logits_are_read_in_float32():
    targets, logits, weights = random_batch()
    half = tf.cast(logits, tf.float16)
    loss = TokenCrossentropy()(targets, half, weights)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, oracle(targets, half.numpy(), weights, 0.0), rtol=1e-5)


def test_a_config_makes_the_same_loss():
    loss = TokenCrossentropy(0.2, name="words")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is TokenCrossentropy
    assert again.get_config() == loss.get_config()
    assert loss.get_config()["label_smoothing"] == 0.2
    assert (again.name, again.label_smoothing, again.reduction) == ("words", 0.2, "mean_with_sample_weight")
    targets, logits, weights = random_batch()
    assert float(again(targets, logits, weights)) == float(loss(targets, logits, weights))


@pytest.mark.parametrize("value", [-0.1, 1, 1.5])
def test_smoothing_out_of_range_raises(value):
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'label_smoothing must be at least 0 and less than 1, got {value}')}$"
    ):
        TokenCrossentropy(value)


def test_one_label_a_text_is_a_sequence_of_one():
    targets, logits, weights = random_batch(5)
    whole = TokenCrossentropy(0.1)(targets[:, :1], logits[:, :1], weights[:, :1] + 0.5)
    one = TokenCrossentropy(0.1)(targets[:, 0], logits[:, 0], weights[:, 0] + 0.5)
    np.testing.assert_allclose(one, whole, rtol=1e-6)


def test_the_loss_of_a_roll_equals_the_equation():
    """Oracle: NumPy, key by key, in float64; padding has no weight."""
    rng = np.random.default_rng(0)
    roll, logits = rng.integers(0, 2, (3, 5, 7)), 3 * rng.normal(size=(3, 5, 7)).astype("float32")
    weights = (np.arange(5) < [[5], [2], [0]]).astype("float32")
    p = 1 / (1 + np.exp(-logits.astype(float)))
    steps = -np.where(roll, np.log(p), np.log(1 - p)).sum(axis=-1)
    loss = RollCrossentropy()(roll, logits, weights)
    np.testing.assert_allclose(loss, (steps * weights).sum() / weights.sum(), rtol=1e-5)
    again = RollCrossentropy.from_config(RollCrossentropy(name="n").get_config())
    assert again.name == "n" and again.reduction == "mean_with_sample_weight"


def test_the_loss_of_a_roll_is_finite_where_the_model_is_sure_and_wrong():
    """By hand: a key that sounds at a logit of −1000 costs 1000 nats."""
    loss = RollCrossentropy()(np.ones((1, 1, 2)), np.full((1, 1, 2), -1000.0, "float32"))
    np.testing.assert_allclose(loss, 2000.0)
