"""The encoder of pictures against NumPy, and its regions where they are said to be."""

import keras
import numpy as np
import tensorflow as tf

from contracts import normal, randomise, tiny_backbone
from kseq.models import ImageEncoder, small_cnn


def test_a_memory_row_is_a_seen_region():
    """Oracle: the docstring's equations in NumPy, region by region."""
    encoder, features = ImageEncoder(tiny_backbone(), 5), normal(2, 4, 3)
    encoder(features)
    randomise(encoder)
    memory, mask, [state] = encoder(features)
    W, b = (np.asarray(weight) for weight in encoder.dense.weights)
    for i in range(4):
        want = np.maximum(features[:, i] @ W + b, 0) + np.asarray(encoder.positions)[i]
        np.testing.assert_allclose(memory[:, i], want, atol=1e-6)
    np.testing.assert_allclose(state, np.mean(memory, axis=1), atol=1e-6)
    assert mask.dtype == bool and mask.shape == (2, 4) and np.all(mask)


def test_pictures_give_what_their_features_give():
    """Oracle: the backbone's map, read row by row."""
    encoder, pictures = ImageEncoder(tiny_backbone(), 5, dropout=0.5), normal(2, 8, 8, 3)
    memory = encoder(pictures).memory
    features = np.asarray(encoder.features(pictures))
    np.testing.assert_allclose(features[:, 1], encoder.backbone(pictures)[:, 0, 1], atol=1e-6)
    np.testing.assert_allclose(features[:, 2], encoder.backbone(pictures)[:, 1, 0], atol=1e-6)
    np.testing.assert_allclose(encoder(features).memory, memory, atol=1e-6)
    assert not np.allclose(encoder(features, training=True).memory, memory)


def test_a_region_of_the_small_backbone_sees_the_22_pixels_around_it():
    # Pooling takes some pixels of each picture: of 16 all are taken.
    pictures = tf.constant(255 * np.random.default_rng(0).random((16, 64, 64, 3)), "float32")
    keras.utils.set_random_seed(0)
    model = small_cnn(64, filters=(4, 4, 8))
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        region = tf.reduce_sum(model(pictures)[:, 3, 4])
    _, rows, columns, _ = np.nonzero(np.asarray(tape.gradient(region, pictures)))
    assert (rows.min(), rows.max() + 1) == (3 * 8 - 7, 4 * 8 + 7)
    assert (columns.min(), columns.max() + 1) == (4 * 8 - 7, 5 * 8 + 7)
