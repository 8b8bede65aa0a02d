"""Encoders and backbones: regions where they are said to be, the same file back, every refusal in words."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import normal, randomise, tiny_backbone

from kseq.models import ImageEncoder, fingerprint, make_backbone, small_cnn
from kseq.models.encoders import ApplicationPixels


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
    pictures = tf.constant(255 * np.random.default_rng(0).random((1, 64, 64, 3)), "float32")
    model = small_cnn(64, filters=(4, 4, 8))
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        region = tf.reduce_sum(model(pictures)[0, 3, 4])
    rows, columns, _ = np.nonzero(np.asarray(tape.gradient(region, pictures))[0])
    assert (rows.min(), rows.max() + 1) == (3 * 8 - 7, 4 * 8 + 7)
    assert (columns.min(), columns.max() + 1) == (4 * 8 - 7, 5 * 8 + 7)


@pytest.mark.parametrize(("trainable", "count"), [("none", 0), ("all", 8), ("conv2d_top", 2)])
def test_a_backbone_is_trained_from_the_named_layer_up(trainable, count, tmp_path):
    pictures = keras.Input((16, 16, 3))
    x = pictures
    for name in ("conv2d_0", "conv2d_1", "conv2d_2", "conv2d_top"):
        x = keras.layers.Conv2D(2, 1, name=name)(x)
    keras.Model(pictures, x).save(tmp_path / "own.keras")
    model = make_backbone(str(tmp_path / "own.keras"), size=16, trainable=trainable)
    assert len(model.weights) == 8
    assert [weight.path for weight in model.trainable_weights] == [w.path for w in model.weights[8 - count :]]


def test_a_file_gives_the_model_that_was_saved(tmp_path):
    model = randomise(tiny_backbone())
    model.save(tmp_path / "own.keras")
    again = make_backbone(str(tmp_path / "own.keras"), size=8)
    x = normal(2, 8, 8, 3)
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)
    assert fingerprint(again) == fingerprint(model)


def test_the_fingerprint_tells_any_change_of_weights():
    model = tiny_backbone()
    before = fingerprint(model)
    assert fingerprint(model) == before
    model.weights[-1].assign(model.weights[-1] + 1e-3)
    assert fingerprint(model) != before


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("MobileNetV2", lambda x: x / 127.5 - 1),
        ("ResNet50", lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        ("EfficientNetB0", lambda x: x),
    ],
)
def test_pixels_are_as_the_application_was_trained_on(name, want):
    """Oracles: what the three papers' implementations do with pixels 0…255."""
    x = 255 * np.random.default_rng(0).random((2, 3, 3, 3)).astype("float32")
    layer = ApplicationPixels.from_config(ApplicationPixels(name).get_config())
    np.testing.assert_allclose(layer(x), want(x), rtol=1e-5, atol=1e-4)


def test_an_application_sees_its_own_pixels():
    model = make_backbone("MobileNet", size=32)
    x = 255 * np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")
    assert model.output_shape == (None, 1, 1, 1024) and model.trainable_weights == []
    np.testing.assert_allclose(model(x), model.layers[-1](x / 127.5 - 1), atol=1e-5)


def dense_file(folder):
    pictures = keras.Input((4, 4, 3))
    keras.Model(pictures, keras.layers.Flatten()(pictures)).save(folder / "flat.keras")
    return "flat.keras"


def broken_file(folder):
    (folder / "broken.keras").write_text("no model")
    return "broken.keras"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            lambda folder: "NoNet",
            {},
            "^backbone must be \"small\", a class of keras.applications or a .keras file, got 'NoNet'$",
        ),
        (lambda folder: "missing.keras", {}, "^backbone 'missing.keras' is not a Keras model file that can be read: "),
        (broken_file, {}, "^backbone 'broken.keras' is not a Keras model file that can be read: "),
        (dense_file, {}, re.escape("backbone 'flat.keras' must give a map [h, w, d], it gives (48,)")),
        (
            lambda folder: "small",
            {"trainable": "top"},
            "^trainable must be \"none\", \"all\" or a layer of 'small' .*conv2d.*, got 'top'$",
        ),
        (
            lambda folder: "MobileNet",
            {"weights": "missing.weights.h5"},
            "^weights 'missing.weights.h5' of backbone 'MobileNet' cannot be loaded: ",
        ),
    ],
    ids=["unknown", "missing", "broken", "no_map", "trainable", "weights"],
)
def test_what_cannot_be_a_backbone_is_refused(name, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_backbone(name(tmp_path), size=32, **options)
