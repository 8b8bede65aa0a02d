"""The encoders of pictures, recordings and vectors against NumPy, and their rows where they are said to be."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import normal, randomise, tiny_backbone
from kseq.layers import Bidirectional, GRUCell, Recurrent
from kseq.models import ImageEncoder, SpeechEncoder, VectorEncoder, small_cnn


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


# --- vectors


def test_vectors_are_their_own_memory():
    x = normal(2, 3, 4)
    memory, mask, [state] = VectorEncoder()(x)
    np.testing.assert_array_equal(memory, x)
    np.testing.assert_allclose(state, x.mean(axis=1), rtol=1e-6)
    assert mask.shape == (2, 3) and mask.dtype == bool and np.all(mask)


# --- recordings


def speech_encoder(**options):
    return SpeechEncoder(Bidirectional(Recurrent(GRUCell(4), return_state=True)), 5, **options)


def test_a_row_reads_the_frames_around_its_place():
    """Oracle: the docstring's equation in NumPy, row by row, under a layer that passes on what it is given."""
    encoder, x = SpeechEncoder(keras.layers.Identity(), 5, strides=(2, 3), kernel_size=4), normal(2, 11, 3)
    encoder(x)
    randomise(encoder)
    want = x
    for stride, convolution in zip((2, 3), encoder.convolutions, strict=True):
        W, b = (np.asarray(weight) for weight in convolution.weights)
        rows = np.pad(want, ((0, 0), (1, 2), (0, 0)))
        places = range(0, want.shape[1], stride)
        want = np.stack([np.maximum(np.einsum("bnd,ndf->bf", rows[:, t : t + 4], W) + b, 0) for t in places], axis=1)
    memory, mask, [state] = encoder(x)
    np.testing.assert_allclose(memory, want, atol=1e-5)
    np.testing.assert_allclose(state, want.mean(axis=1), atol=1e-5)
    assert mask.shape == (2, 2) and np.all(mask)


@pytest.mark.slow
def test_a_recording_is_encoded_alike_whatever_is_beside_it():
    """For every length of the recording, and of the longest in its batch."""
    encoder = speech_encoder()
    x = normal(1, 12, 3)
    encoder(x)
    randomise(encoder)
    for frames in (1, 2, 5, 8):
        alone = encoder(x[:, :frames])
        for more in (1, 2, 3, 7):
            beside = encoder(np.pad(x[:, :frames], ((0, 0), (0, more), (0, 0))))
            rows = -(-frames // 4)
            assert np.asarray(beside.memory_mask)[0].sum() == rows == alone.memory.shape[1]
            np.testing.assert_allclose(beside.memory[:, :rows], alone.memory, atol=1e-6)
            assert not np.any(beside.memory[:, rows:])
            for one, other in zip(beside.state, alone.state, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_an_encoder_of_recordings_cannot_be_is_named():
    with pytest.raises(ValueError, match="filters must be a positive whole number, got 0"):
        SpeechEncoder(Recurrent(GRUCell(4)), 0)
    with pytest.raises(ValueError, match="strides must be a positive whole number, got 0"):
        speech_encoder(strides=(2, 0))
    with pytest.raises(ValueError, match=r"layer must return a sequence, got .* with return_sequences=False"):
        SpeechEncoder(Recurrent(GRUCell(4), return_sequences=False), 5)
