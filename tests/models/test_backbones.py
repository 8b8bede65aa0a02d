"""Tests of backbones by name, against `keras.applications` and files saved here."""

import inspect
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from kseq.models import fingerprint, make_backbone, small_cnn
from kseq.models.encoders import ApplicationPixels

RNG = np.random.default_rng(0)


def pixels(size, batch=2):
    return RNG.integers(0, 256, (batch, size, size, 3)).astype("float32")


def tiny(size=16, *, second="second", flat=False):
    """A map [size/2, size/2, 4] of layers with names of their own, or its mean."""
    pictures = keras.Input((size, size, 3), name="input")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first")(pictures)
    x = layers.BatchNormalization(name=second)(x)
    x = layers.Conv2D(4, 1, name="third")(x)
    model = keras.Model(pictures, layers.GlobalAveragePooling2D()(x) if flat else x)
    for variable in model.weights:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return model


def saved(model, folder, name="tiny.keras"):
    model.save(folder / name)
    return str(folder / name)


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("size, side", [(32, 4), (64, 8), (61, 8)])
def test_the_small_one_has_a_region_for_eight_pixels(size, side):
    model = make_backbone("small", size=size)
    height, width, depth = model.output_shape[1:]
    assert (height, width) == (side, side)
    assert model(pixels(size)).shape == (2, side, side, depth)


def test_the_small_one_takes_pixels_as_they_are():
    """Black, gray and white go in as -1, 0 and 1."""
    model = small_cnn(32)
    first = keras.Model(model.input, next(layer for layer in model.layers if layer.name.startswith("resc")).output)
    colours = np.array([0, 127.5, 255]).reshape(3, 1, 1, 1) * np.ones((3, 32, 32, 3))
    np.testing.assert_allclose(np.ptp(first(colours), axis=(1, 2, 3)), 0)
    np.testing.assert_allclose(np.asarray(first(colours))[:, 0, 0, 0], [-1, 0, 1])


def test_a_keras_file_gives_what_was_saved(tmp_path):
    model = tiny()
    loaded = make_backbone(saved(model, tmp_path), size=16)
    assert_same_weights(loaded, model)
    x = pixels(16)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


def test_a_keras_file_may_take_any_size(tmp_path):
    model = tiny(None)
    loaded = make_backbone(saved(model, tmp_path), size=20)
    x = pixels(20)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


def test_a_backbone_that_kseq_made_is_read_again_from_its_file(tmp_path):
    model = make_backbone("small", size=32)
    x = pixels(32)
    np.testing.assert_allclose(make_backbone(saved(model, tmp_path), size=32)(x), model(x), rtol=1e-6)


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A network of `keras.applications`, with random weights that let pictures through, and the file with them."""
    model = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    for variable in model.weights:
        if variable.name == "kernel":
            seen = 9 if "_dw_" in variable.path else np.prod(variable.shape[:-1])
            variable.assign(RNG.normal(0, np.sqrt(2 / seen), variable.shape))
        else:
            variable.assign(RNG.uniform(0.8, 1.2, variable.shape) - (variable.name in ("beta", "moving_mean")))
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    model.save_weights(path)
    return model, str(path)


@pytest.mark.slow
def test_an_application_takes_weights_from_a_file_and_pixels_as_it_was_trained_on_them(mobilenet):
    """Oracle: `keras.applications`, called as its documentation says."""
    model, path = mobilenet
    backbone = make_backbone("MobileNet", size=32, weights=path, trainable="conv_pw_13")
    assert_same_weights(backbone, model)
    assert backbone.output_shape == (None, 1, 1, 1024)
    x = pixels(32)
    expected = model(keras.applications.mobilenet.preprocess_input(x.copy()))
    np.testing.assert_allclose(backbone(x), expected, rtol=1e-4)
    assert np.abs(model(x) - expected).max() > 0.01  # the preprocessing is to be seen
    assert [variable.path for variable in backbone.trainable_variables] == [
        "conv_pw_13/kernel",
        "conv_pw_13_bn/gamma",
        "conv_pw_13_bn/beta",
    ]


@pytest.mark.parametrize(
    "name, module",
    [
        ("ResNet50", "resnet"),
        ("ResNet50V2", "resnet_v2"),
        ("VGG16", "vgg16"),
        ("DenseNet121", "densenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("MobileNetV3Small", "mobilenet_v3"),
        ("EfficientNetB0", "efficientnet"),
        ("ConvNeXtTiny", "convnext"),
    ],
)
def test_pixels_are_what_preprocess_input_makes_of_them(name, module):
    """ResNet and VGG swap the colours, DenseNet scales each by its own; the last three do it inside."""
    x = pixels(5)
    expected = getattr(keras.applications, module).preprocess_input(x.copy())
    layer = ApplicationPixels.from_config(ApplicationPixels(name).get_config())
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_every_application_has_its_preprocessing():
    names = [name for name, value in inspect.getmembers(keras.applications, inspect.isfunction)]
    assert "ResNet50" in names and len(names) > 30
    for name in names:
        assert ApplicationPixels(name)(pixels(2)).shape == (2, 2, 2, 3)


@pytest.mark.parametrize(
    "trainable, paths",
    [
        ("none", []),
        ("all", ["first/kernel", "first/bias", "second/gamma", "second/beta", "third/kernel", "third/bias"]),
        ("first", ["first/kernel", "first/bias", "second/gamma", "second/beta", "third/kernel", "third/bias"]),
        ("second", ["second/gamma", "second/beta", "third/kernel", "third/bias"]),
        ("third", ["third/kernel", "third/bias"]),
    ],
)
def test_trainable_is_a_layer_and_all_above_it(tmp_path, trainable, paths):
    model = make_backbone(saved(tiny(), tmp_path), size=16, trainable=trainable)
    assert [variable.path for variable in model.trainable_variables] == paths
    assert len(model.weights) == 8


def test_the_small_one_is_frozen_or_trained():
    assert make_backbone("small", size=32).trainable_variables == []
    model = make_backbone("small", size=32, trainable="all")
    assert len(model.trainable_variables) == len(model.variables) > 0


@pytest.mark.slow
def test_a_name_that_no_saved_model_takes_is_changed(tmp_path):
    """A variable of a SavedModel may not begin with an underscore, and layers in Keras' own files do."""
    model = tiny(second="_second")
    backbone = make_backbone(saved(model, tmp_path), size=16, trainable="layer_second")
    assert [layer.name for layer in backbone.layers][-2:] == ["layer_second", "third"]
    x = pixels(16)
    np.testing.assert_allclose(backbone(x), model(x), rtol=1e-6)
    backbone.export(tmp_path / "exported", verbose=False)


def test_the_fingerprint_changes_with_any_weight_and_with_nothing_else(tmp_path):
    model = tiny()
    path = saved(model, tmp_path)
    first = fingerprint(model)
    model(pixels(16))
    assert fingerprint(model) == first == fingerprint(make_backbone(path, size=16))
    assert fingerprint(make_backbone(path, size=16, trainable="all")) == first
    seen = {first}
    for variable in model.weights:
        value = variable.numpy()
        value.flat[-1] = np.nextafter(value.flat[-1], np.float32(9))
        variable.assign(value)
        seen.add(fingerprint(model))
    assert len(seen) == 1 + len(model.weights)


UNKNOWN = 'backbone must be "small", a class of keras.applications or a .keras file, got '


@pytest.mark.parametrize("name", ["", "large", "resnet50", "resnet", "preprocess_input", "model.h5", "keras"])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ValueError, match=f"^{re.escape(UNKNOWN + repr(name))}$"):
        make_backbone(name, size=32)


@pytest.mark.parametrize("kind", ["absent", "folder", "empty", "text", "cut-off", "zip"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, kind):
    path = tmp_path / f"{kind}.keras"
    if kind == "folder":
        path.mkdir()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("README", "no model")
    elif kind != "absent":
        whole = Path(saved(tiny(), tmp_path)).read_bytes()
        path.write_bytes({"empty": b"", "text": b"no model", "cut-off": whole[: len(whole) // 2]}[kind])
    with pytest.raises(ValueError, match=f"^backbone {str(path)!r} is not a Keras model file that can be read: "):
        make_backbone(str(path), size=16)


def of_an_unknown_class():
    class Unknown(layers.Layer):
        def call(self, inputs):
            return inputs

    return [keras.Input((16, 16, 3)), Unknown()]


@pytest.mark.parametrize(
    "parts",
    [of_an_unknown_class, lambda: [keras.Input((16, 16, 3)), layers.Lambda(lambda x: x)]],
    ids=["unknown-class", "lambda"],
)
def test_a_model_with_code_of_its_own_is_an_error(tmp_path, parts):
    path = saved(keras.Sequential(parts()), tmp_path)
    with pytest.raises(ValueError, match=f"^backbone {path!r} is not a Keras model file that can be read: "):
        make_backbone(path, size=16)


def test_a_model_of_another_size_is_an_error(tmp_path):
    path = saved(tiny(16), tmp_path)
    with pytest.raises(
        ValueError, match=re.escape(f"backbone {path!r} takes pictures (16, 16, 3), and they are (20, 20, 3)")
    ):
        make_backbone(path, size=20)


def test_a_model_that_gives_no_map_is_an_error(tmp_path):
    path = saved(tiny(flat=True), tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"backbone {path!r} must give a map [h, w, d], it gives (4,)")):
        make_backbone(path, size=16)


@pytest.mark.parametrize("trainable", ["forth", "", "None", "last"])
def test_an_unknown_layer_is_an_error(tmp_path, trainable):
    path = saved(tiny(), tmp_path)
    message = f'trainable must be "none", "all" or a layer of {path!r} (the last: input, first, second, third), got '
    with pytest.raises(ValueError, match=re.escape(message + repr(trainable))):
        make_backbone(path, size=16, trainable=trainable)


@pytest.mark.parametrize("weights", ["/absent/file.weights.h5", "text.weights.h5", "other.weights.h5"])
def test_weights_that_cannot_be_had_are_named(tmp_path, weights):
    (tmp_path / "text.weights.h5").write_text("no weights")
    tiny().save_weights(tmp_path / "other.weights.h5")
    path = str(tmp_path / weights)
    with pytest.raises(ValueError, match=f"^weights {path!r} of backbone 'MobileNet' cannot be loaded: "):
        make_backbone("MobileNet", size=32, weights=path)


def test_a_size_that_a_network_does_not_take_is_named():
    with pytest.raises(ValueError, match=r"backbone 'MobileNet' .*at least 32x32"):
        make_backbone("MobileNet", size=16)


@pytest.mark.parametrize("name", ["small", "tiny.keras"])
def test_weights_are_for_applications(name):
    with pytest.raises(ValueError, match=f"weights are for a class of keras.applications, the backbone is {name!r}"):
        make_backbone(name, size=32, weights="imagenet")
