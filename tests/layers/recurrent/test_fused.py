"""The fused steps of the cells against the same cells in `unroll`, whose steps TensorFlow differentiates."""

import numpy as np
import pytest
import tensorflow as tf

from contracts import dtype_policy, normal
from kseq.layers import GRUCell, LSTMCell, Recurrent, RNNCell
from kseq.layers.recurrent import fused

BATCH, TIME, SIZE, UNITS = 4, 6, 3, 5
CELLS = {
    "RNN": lambda: RNNCell(UNITS),
    "LSTM": lambda: LSTMCell(UNITS),
    "GRU": lambda: GRUCell(UNITS),
    "GRU-reset_after": lambda: GRUCell(UNITS, reset_after=True),
}
MODES = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, jit_compile=True, autograph=False),
}
every_cell = pytest.mark.parametrize("name", CELLS)


def layer_of(name, **kwargs):
    layer = Recurrent(CELLS[name](), return_state=True, **kwargs)
    layer.build((None, None, SIZE))
    for j, weight in enumerate(layer.weights):
        weight.assign(0.7 * normal(*weight.shape, seed=j))
    return layer


def arguments(layer, time=TIME):
    mask = np.random.default_rng(0).random((BATCH, time)) < 0.6
    mask[0] = False
    states = [normal(BATCH, size, seed=20 + j) for j, size in enumerate(layer.state_size)]
    return [tf.constant(x) for x in (normal(BATCH, time, SIZE, seed=9), mask, *states)]


def results(layer, x, mask, *states, training):
    """Outputs, last states, and the gradients of inputs, states and weights of something that reads them all."""
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        outputs, *last = layer(x, mask=mask, initial_state=list(states), training=training)
        weights = tf.reshape(tf.sin(tf.range(tf.size(outputs), dtype=outputs.dtype)), tf.shape(outputs))
        loss = sum(tf.reduce_sum(y * w) for y, w in zip([outputs, *last], [weights, *map(tf.sin, last)], strict=True))
    return [outputs, *last, *tape.gradient(loss, [x, *states, *layer.trainable_weights])]


def unrolled(monkeypatch, compute):
    with monkeypatch.context() as patch:
        patch.setattr(fused, "has_fused", lambda cell: False)
        return compute()


@every_cell
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", ["eager", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("graph", "xla"))])
def test_a_fused_step_equals_its_cell_in_the_loop(name, masked, mode, monkeypatch):
    layer = layer_of(name, go_backwards=masked)
    x, mask, *states = arguments(layer)
    mask = mask if masked else None
    want = unrolled(monkeypatch, lambda: results(layer, x, mask, *states, training=False))
    for training in (False, True):
        got = MODES[mode](lambda: results(layer, x, mask, *states, training=training))()  # noqa: B023
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@every_cell
def test_half_precision_is_that_of_the_loop(name, monkeypatch):
    with dtype_policy("mixed_float16"):
        layer = layer_of(name)
        x, mask, *states = arguments(layer)
        states = [tf.cast(h, "float16") for h in states]
        want = unrolled(monkeypatch, lambda: results(layer, x, mask, *states, training=False))
        got = results(layer, x, mask, *states, training=True)
    assert got[0].dtype == "float16"
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(tf.cast(a, "float32"), tf.cast(b, "float32"), rtol=0.02, atol=0.02)


@every_cell
def test_no_step_at_all_leaves_the_states(name):
    layer = layer_of(name)
    x, mask, *states = arguments(layer, time=0)
    outputs, *rest = results(layer, x, mask, *states, training=True)
    assert outputs.shape == (BATCH, 0, UNITS)
    for got, want in zip(rest, states, strict=False):
        np.testing.assert_array_equal(got, want)


def second_derivative(layer, x, training):
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(tf.square(layer(x, training=training)[0]))
        slope = tf.reduce_sum(tf.square(inner.gradient(y, x)))
    return outer.gradient(slope, [x, *layer.trainable_weights])


@every_cell
@pytest.mark.parametrize("is_fused", [True, False])
def test_second_derivatives_are_right_or_refused(name, is_fused, monkeypatch):
    layer, x = layer_of(name), tf.constant(normal(2, 3, SIZE))
    want = unrolled(monkeypatch, lambda: second_derivative(layer, x, training=False))
    for a, b in zip(second_derivative(layer, x, training=False), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(fused, "has_fused", lambda cell: is_fused)
    with pytest.raises(NotImplementedError, match="for second derivatives call the layer with training=False"):
        second_derivative(layer, x, training=True)


def test_a_cell_of_ones_own_is_unrolled_as_it_is():
    class Still(LSTMCell):
        def step(self, projected, states, dropped_states=None):
            return states[0], states

    layer = Recurrent(Still(UNITS))
    assert fused.has_fused(LSTMCell(UNITS))
    assert not fused.has_fused(layer.cell)
    np.testing.assert_array_equal(layer(normal(2, 3, SIZE), training=True), np.zeros((2, 3, UNITS)))
