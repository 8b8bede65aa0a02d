"""The loop over time against a loop of Python."""

import numpy as np
import pytest
import tensorflow as tf

from contracts import lengths_mask, normal
from kseq.layers.functional import product
from kseq.layers.recurrent.unroll import unroll

BATCH, TIME = 3, 4

KERNEL = normal(2, 2, seed=9)


def step(x, states):
    """A step with nests on all sides: two inputs and two states that differ in rank, two outputs."""
    h, m = states
    h = tf.tanh(x["a"] + tf.matmul(h, KERNEL))
    m = 0.5 * m + x["b"][0] * h[:, :, None]
    return {"sum": tf.reduce_sum(m, [1, 2]), "pair": (h, m)}, [h, m]


def arguments(time=TIME):
    inputs = {"a": tf.constant(normal(BATCH, time, 2)), "b": (tf.constant(normal(BATCH, time, 1, 3, seed=1)),)}
    states = [tf.constant(normal(BATCH, 2, seed=2)), tf.constant(normal(BATCH, 2, 3, seed=3))]
    return inputs, states


def python_loop(step, inputs, states, mask=None):
    """The oracle: what `unroll` promises, one row of the batch at a time, without a mask by leaving steps out."""
    time = tf.nest.flatten(inputs)[0].shape[1]
    rows, lasts = [], []
    for b in range(BATCH):
        row, outputs = [state[b : b + 1] for state in states], []
        for t in range(time):
            y, after = step(tf.nest.map_structure(lambda x, b=b, t=t: x[b : b + 1, t], inputs), row)
            real = mask is None or mask[b, t]
            row = after if real else row
            outputs.append(y if real else tf.nest.map_structure(tf.zeros_like, y))
        rows.append(tf.nest.map_structure(lambda *ys: tf.stack(ys, axis=1), *outputs))
        lasts.append(row)
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *zip(rows, lasts, strict=True))


def assert_close(got, want):
    tf.nest.assert_same_structure(got, want)
    for x, y in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


MASKS = {
    "none": None,
    "right": tf.constant(lengths_mask([4, 2, 0], TIME)),
    "left": tf.constant(lengths_mask([4, 2, 0], TIME)[:, ::-1]),
    "gaps": tf.constant([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1]]) == 1,
}


@pytest.mark.parametrize("name", MASKS)
def test_nests_masks_and_states_are_those_of_a_python_loop(name):
    """Oracle: a Python loop over batch and time."""
    inputs, states = arguments()
    assert_close(unroll(step, inputs, states, MASKS[name]), python_loop(step, inputs, states, MASKS[name]))


def test_masked_steps_freeze_the_state_and_zero_the_output():
    inputs, states = arguments()
    outputs, after = unroll(step, inputs, states, tf.zeros((BATCH, TIME), tf.bool))
    assert not any(np.any(y) for y in tf.nest.flatten(outputs))
    assert_close(after, states)


def test_what_masked_steps_hold_does_not_matter():
    inputs, states = arguments()
    mask = MASKS["gaps"]
    spoiled = {"a": tf.where(mask[:, :, None], inputs["a"], np.nan), "b": inputs["b"]}
    assert_close(unroll(step, spoiled, states, mask), unroll(step, inputs, states, mask))


def gradients(loop, mask):
    """Of a sum of squares for inputs, first states and what the step captures."""
    kernel, states = tf.constant(normal(2, 2, seed=9)), [tf.constant(normal(BATCH, 2, seed=2))]
    inputs = tf.constant(normal(BATCH, TIME, 2))

    def captures(x, states):
        h = tf.tanh(x + tf.matmul(states[0], kernel))
        return h, [h]

    with tf.GradientTape() as tape:
        tape.watch([kernel, inputs, *states])
        outputs, last = loop(captures, inputs, states, mask)
        loss = tf.reduce_sum(tf.square(outputs)) + tf.reduce_sum(last[0])
    return tape.gradient(loss, [kernel, inputs, *states])


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_gradient_is_that_of_a_python_loop(compiled):
    """Oracle: automatic differentiation of a Python loop; a mask with gaps."""
    ours = gradients if compiled is None else tf.function(gradients, jit_compile=compiled)
    assert_close(ours(unroll, MASKS["gaps"]), gradients(python_loop, MASKS["gaps"]))


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_zero_length_of_a_known_batch_gives_no_outputs_the_first_states_and_their_gradient(graph):
    inputs, states = arguments(time=0)

    def run(inputs, states):
        with tf.GradientTape() as tape:
            tape.watch(states)
            outputs, after = unroll(step, inputs, states)
            loss = tf.reduce_sum(after[0]) + tf.reduce_sum(outputs["sum"])
        return outputs, after, tape.gradient(loss, states[0])

    if graph:
        unknown = tf.nest.map_structure(lambda x: tf.TensorSpec([BATCH, None, *x.shape[2:]]), inputs)
        run = tf.function(run, input_signature=[unknown, [tf.TensorSpec(state.shape) for state in states]])
    outputs, after, gradient = run(inputs, states)
    assert outputs["sum"].shape == (BATCH, 0)
    assert outputs["pair"][0].shape == (BATCH, 0, 2)
    assert outputs["pair"][1].shape == (BATCH, 0, 2, 3)
    assert_close(after, states)
    assert_close(gradient, np.ones((BATCH, 2)))


def test_integers_and_static_shapes_come_out():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 2])])
    def count(x):
        outputs, _ = unroll(lambda x, n: (n[0], [n[0] + 1]), x, [tf.zeros(tf.shape(x)[:1], tf.int32)])
        assert outputs.shape.as_list() == [None, None]
        return outputs

    np.testing.assert_array_equal(count(normal(2, 3, 2)), [[0, 1, 2]] * 2)


def _products_step(kernel, memory):
    """Products with one kernel and with one for each row, as they are and transposed; a kernel read twice."""

    def step(x, states):
        [h] = states
        scores = product(h, memory, transposed=True)
        h = tf.tanh(
            x + product(tf.nn.softmax(scores), memory) + product(h, kernel) + product(h, kernel, transposed=True)
        )
        return h, [h]

    return step


@pytest.mark.parametrize(
    "way", ["eager", "tape outside", *(pytest.param(way, marks=pytest.mark.slow) for way in ("graph", "xla"))]
)
@pytest.mark.parametrize("name", MASKS)
def test_gradients_that_are_gathered_are_those_of_the_loop_as_it_stands(name, way):
    inputs, h = (tf.constant(normal(*shape, seed=2), tf.float64) for shape in ((BATCH, TIME, 2), (BATCH, 2)))
    kernel, memory = (tf.Variable(normal(*shape), dtype=tf.float64) for shape in ((2, 2), (BATCH, 5, 2)))

    def loss(training):
        outputs, lasts = unroll(_products_step(kernel, memory), inputs, [h], MASKS[name], training=training)
        return tf.reduce_sum(outputs**3) + tf.reduce_sum(lasts[0] ** 2)

    def gradients(loss, training):
        with tf.GradientTape() as tape:
            value = loss(training)
        return tape.gradient(value, [kernel, memory])

    want = gradients(loss, training=False)
    if way == "tape outside":
        loss = tf.function(loss)
    got = {
        "eager": gradients,
        "graph": tf.function(gradients),
        "xla": tf.function(gradients, jit_compile=True),
        "tape outside": gradients,
    }[way](loss, training=True)
    assert_close(got, want)
