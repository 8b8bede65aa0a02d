"""Weights in fewer bytes: their values, which weights, and the graphs that read them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq import quantization
from kseq.errors import UserError
from kseq.quantization import Dequantized, halve, quantize, rounded, smaller

RNG = np.random.default_rng(0)


def spread(*shape):
    """Random weights whose channels, along every axis, are of very different sizes."""
    values = RNG.normal(size=shape)
    for axis, size in enumerate(shape):
        values *= np.expand_dims(10 ** RNG.uniform(-3, 1, size), [k for k in range(len(shape)) if k != axis])
    return values.astype("float32")


def small_model():
    """A model of an embedding, a depthwise and a plain convolution, a dense layer and a normalization."""
    layers = keras.layers
    depthwise = layers.DepthwiseConv1D(8, padding="same")
    stack = [layers.Embedding(50, 128), depthwise, layers.Conv1D(16, 3), layers.LayerNormalization(), layers.Dense(64)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *stack])
    for weight in model.weights:
        weight.assign(spread(*weight.shape))
    return model


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5)])
@pytest.mark.parametrize("channel", [0, -1])
def test_int8_is_symmetric_for_each_channel(shape, channel):
    """Oracle: `tf.quantization.quantize_and_dequantize_v2` of each channel by itself."""
    values = spread(*shape)
    stored = quantize(values, channel)
    assert stored.values.dtype == np.int8 and stored.scales.dtype == np.float32
    assert stored.scales.size == shape[channel] and np.ndim(stored.scales) == len(shape)
    channels = zip(np.moveaxis(stored.restored(), channel, 0), np.moveaxis(values, channel, 0), strict=True)
    for found, given in channels:
        most = np.max(np.abs(given))
        want = tf.quantization.quantize_and_dequantize_v2(given, -most, most, range_given=True, narrow_range=True)
        np.testing.assert_allclose(found, want, rtol=1e-6)
        assert np.max(np.abs(found - given)) <= most / 127 / 2 * (1 + 1e-5)
    assert np.all(
        np.max(np.abs(stored.values), tuple(k for k in range(len(shape)) if k != channel % len(shape))) == 127
    )


def test_channels_of_zeros_and_of_the_least_numbers_stay_finite():
    values = np.float32([[0, 1e-45, 1e-38, 3e38], [0, -1e-45, 5e-39, -3e38]])
    stored = quantize(values)
    assert np.all(np.isfinite(stored.restored())) and not np.any(stored.values[:, :2])
    np.testing.assert_allclose(stored.restored()[:, 2:], values[:, 2:], rtol=1e-2)


def test_what_has_been_stored_once_is_stored_as_the_same_again():
    stored = quantize(spread(64, 32))
    again = quantize(stored.restored())
    np.testing.assert_array_equal(again.values, stored.values)
    np.testing.assert_allclose(again.scales, stored.scales, rtol=2e-7)
    half = halve(spread(8, 8))
    np.testing.assert_array_equal(halve(half.restored()).values, half.values)


def test_matrices_filters_and_embeddings_are_stored_smaller_and_nothing_else():
    model = small_model()
    found = {stored.values.shape: stored.scales.shape for _, stored in smaller([model, model], "int8")}
    # Not the depthwise filters, (8, 128, 1), nor what has one axis.
    assert found == {(50, 128): (50, 1), (3, 128, 16): (1, 1, 16), (16, 64): (1, 64)}
    assert smaller([model], "float32") == []
    assert {stored.values.dtype for _, stored in smaller([model], "float16")} == {np.dtype("float16")}


def test_weights_that_cannot_be_stored_are_named():
    model = small_model()
    model.layers[0].embeddings.assign(np.full((50, 128), 1e5, "float32"))
    with pytest.raises(UserError, match=r"embeddings has numbers up to 1e\+05, and float16 ends at 65504; set serving"):
        smaller([model], "float16")
    model.layers[0].embeddings.assign(np.full((50, 128), np.nan, "float32"))
    for kind in ("float16", "int8"):
        with pytest.raises(UserError, match=r"embeddings has numbers that are not finite"):
            smaller([model], kind)


def test_weights_are_rounded_until_the_end_of_a_block():
    model = small_model()
    before = [values.copy() for values in model.get_weights()]
    with rounded([model], "int8"):
        kernel = model.get_weights()[-2]
        np.testing.assert_array_equal(kernel, quantize(before[-2]).restored())
        assert not np.array_equal(kernel, before[-2])
    for found, values in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_a_graph_of_the_scope_computes_what_rounded_weights_do(kind):
    """With a loop, inside which nothing is dequantized; and the variables of the model are no part of the graph."""
    dense = keras.layers.Dense(40, activation="tanh")
    dense.build((None, 40))
    dense.bias.assign(spread(40))
    model = keras.Sequential([keras.Input((40,)), dense])
    x = tf.constant(spread(3, 40))

    def function(x):
        return tf.while_loop(lambda t, _: t < 3, lambda t, x: (t + 1, dense(x)), (0, x))[1]

    with rounded([model], kind):
        want = function(x)
    with Dequantized(smaller([model], kind)) as scope:
        graph = tf.function(function, input_signature=[tf.TensorSpec([None, 40])], autograph=False)
        concrete = graph.get_concrete_function()
    np.testing.assert_allclose(graph(x), want, atol=1e-6)
    assert not np.allclose(function(x), want, atol=1e-6)
    assert {"int8": tf.int8, "float16": tf.float16}[kind] in {v.dtype for v in concrete.variables}
    assert all(v is not dense.kernel.value for v in concrete.variables)
    assert any(v is dense.bias.value for v in concrete.variables)
    definition = concrete.graph.as_graph_def()
    assert sum(node.op == "Cast" for node in definition.node) == 1
    assert not any(node.op == "Cast" for function in definition.library.function for node in function.node_def)
    del scope  # which the graph needs until here


def test_a_size_of_1024_numbers_is_the_least(monkeypatch):
    model = small_model()
    monkeypatch.setattr(quantization, "SMALLEST", 1025)
    assert sorted(stored.values.shape for _, stored in smaller([model], "int8")) == [(3, 128, 16), (50, 128)]
