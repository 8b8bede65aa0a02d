"""Random numbers against the distributions that they are said to have."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.layers import Dropout
from kseq.layers.dropout import categorical, normal, uniform

WAYS = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": tf.function(jit_compile=True, autograph=False),
}
ways = pytest.mark.parametrize("way", WAYS)


def generator():
    return keras.random.SeedGenerator(3)


@ways
def test_uniform_and_normal_have_their_quantiles(way):
    source = generator()
    u, n = WAYS[way](lambda: (uniform((40_000,), source), normal((40_000,), source)))()
    assert np.min(u) >= 0 and np.max(u) < 1
    np.testing.assert_allclose(np.quantile(u, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    np.testing.assert_allclose(np.quantile(n, [0.1587, 0.5, 0.8413]), [-1, 0, 1], atol=0.03)


@ways
def test_classes_are_drawn_as_often_as_the_softmax_says(way):
    source = generator()
    logits = np.log(np.array([0.6, 0.3, 0.1, 1e-30], "float32"))
    classes = WAYS[way](lambda: categorical(tf.tile(logits[None], [40_000, 1]), source))()
    np.testing.assert_allclose(np.bincount(classes, minlength=4) / 40_000, [0.6, 0.3, 0.1, 0], atol=0.01)


@ways
def test_dropout_drops_its_share_and_scales_the_others(way):
    layer = Dropout(0.3, seed=1)
    x = tf.random.stateless_normal([200, 200], [1, 2]) + 5.0
    y = np.asarray(WAYS[way](lambda: layer(x, training=True))())
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 0.01
    np.testing.assert_allclose(y[kept], np.asarray(x)[kept] / 0.7, rtol=1e-6)
    again = np.asarray(layer(x, training=True))
    assert abs(((again != 0) & kept).mean() - 0.49) < 0.01  # anew at each call


def test_out_of_training_and_at_rate_zero_dropout_is_nothing():
    x = tf.ones([2, 3])
    assert Dropout(0.5)(x) is x and Dropout(0.0)(x, training=True) is x


def test_one_seed_draws_one_mask():
    x = tf.ones([20, 20])
    np.testing.assert_array_equal(Dropout(0.5, seed=4)(x, training=True), Dropout(0.5, seed=4)(x, training=True))


def test_float16_stays_float16_and_takes_no_other_mask():
    x = tf.ones([50, 50])
    half = Dropout(0.5, seed=4, dtype="float16")(tf.cast(x, tf.float16), training=True)
    assert half.dtype == tf.float16
    np.testing.assert_array_equal(half, Dropout(0.5, seed=4)(x, training=True))


@pytest.mark.parametrize("rate", [1, -0.1, "half", True])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match=f"rate must be at least 0 and less than 1, got {rate!r}"):
        Dropout(rate)
