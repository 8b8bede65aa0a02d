"""The loop over time against a loop of Python."""

import numpy as np
import pytest
import tensorflow as tf

from contracts import dtype_policy, lengths_mask, normal
from kseq import layers
from kseq.layers import BahdanauDecoder, DotAttention, GRUCell, LuongDecoder, Recurrent, RecurrentCell
from kseq.layers.functional import linear, product
from kseq.layers.recurrent import unroll as loops
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
    ours = gradients if compiled is None else tf.function(gradients, jit_compile=compiled, autograph=False)
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
        run = tf.function(
            run, input_signature=[unknown, [tf.TensorSpec(state.shape) for state in states]], autograph=False
        )
    outputs, after, gradient = run(inputs, states)
    assert outputs["sum"].shape == (BATCH, 0)
    assert outputs["pair"][0].shape == (BATCH, 0, 2)
    assert outputs["pair"][1].shape == (BATCH, 0, 2, 3)
    assert_close(after, states)
    assert_close(gradient, np.ones((BATCH, 2)))


def test_integers_and_static_shapes_come_out():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 2])], autograph=False)
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
        constants = memory + 0
        step = _products_step(kernel, constants)
        outputs, lasts = unroll(step, inputs, [h], MASKS[name], constants=constants, training=training)
        return tf.reduce_sum(outputs**3) + tf.reduce_sum(lasts[0] ** 2)

    def gradients(loss, training):
        with tf.GradientTape() as tape:
            value = loss(training)
        return tape.gradient(value, [kernel, memory])

    want = gradients(loss, training=False)
    if way == "tape outside":
        loss = tf.function(loss, autograph=False)
    got = {
        "eager": gradients,
        "graph": tf.function(gradients, autograph=False),
        "xla": tf.function(gradients, jit_compile=True, autograph=False),
        "tape outside": gradients,
    }[way](loss, training=True)
    assert_close(got, want)


def attend_each(query_and_memory, states):
    """A step that attends to a memory of its own, and to one that it carries."""
    query, memory = query_and_memory
    [carried] = states
    read, _ = DotAttention()(query, memory)
    again, _ = DotAttention()(query, carried)
    scores = product(query, memory, transposed=True)
    total = read + again + linear(scores, tf.reduce_sum(memory, axis=0))
    return total, [carried + 0.1 * memory]


WAYS = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True, autograph=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [False, True])
def test_a_step_that_multiplies_by_what_it_reads_is_computed_at_every_step(training, way):
    """Oracle: the step in a loop of Python; its values, and the gradients of what the step reads."""
    queries, memories = tf.constant(normal(BATCH, TIME, 2)), tf.constant(normal(BATCH, TIME, 5, 2, seed=1))
    first = tf.constant(normal(BATCH, 5, 2, seed=2))

    def plain(step, inputs, states):
        """The whole batch at each step, for this one sums over the batch."""
        outputs = []
        for t in range(TIME):
            y, states = step([x[:, t] for x in inputs], states)
            outputs.append(y)
        return tf.stack(outputs, axis=1), states

    def results(loop, **options):
        with tf.GradientTape() as tape:
            tape.watch([queries, memories, first])
            outputs, [last] = loop(attend_each, [queries, memories], [first], **options)
            loss = 0.01 * (tf.reduce_sum(outputs**3) + tf.reduce_sum(last**2))
        return [outputs, last, *tape.gradient(loss, [queries, memories, first])]

    want = results(plain)
    assert np.any(want[0])
    assert_close(WAYS[way](lambda: results(unroll, training=training))(), want)


@pytest.mark.parametrize("training", [False, True])
def test_a_step_may_take_another_path_at_each_step(training):
    """Eagerly, a step may decide in Python: products that the trial on zeros has not met, and met ones left out."""
    kernel, other = tf.Variable(normal(2, 2)), tf.Variable(normal(2, 2, seed=1))

    def step(x, states):
        [h] = states
        h = h + linear(x, other if tf.reduce_sum(tf.abs(x)) > 0 and x[0, 0] > 0 else kernel)
        return h, [h]

    inputs, states = tf.constant(normal(1, 6, 2, seed=3)), [tf.zeros((1, 2))]
    assert 0 < np.sum(inputs[0, :, 0] > 0) < 6

    def results(loop, **options):
        with tf.GradientTape() as tape:
            outputs, _ = loop(step, inputs, states, **options)
            loss = tf.reduce_sum(outputs**2)
        return [outputs, *tape.gradient(loss, [kernel, other])]

    def plain(step, inputs, states):
        outputs = []
        for x in tf.unstack(inputs, axis=1):
            y, states = step(x, states)
            outputs.append(y)
        return tf.stack(outputs, axis=1), states

    assert_close(results(unroll, training=training), results(plain))


class MemoryCell(RecurrentCell):
    """A cell of one's own that attends to the slots of memory in its state."""

    state_size = (6,)
    output_size = projected_size = 2

    def project(self, inputs):
        return inputs

    def step(self, projected, states, dropped_states=None):
        slots = tf.reshape(states[0], [-1, 3, 2])
        read, _ = DotAttention()(projected, slots)
        return read, [tf.reshape(slots + projected[:, None] * read[:, None], [-1, 6])]


@pytest.mark.parametrize("training", [False, True])
def test_a_cell_of_ones_own_may_attend_to_its_state(training):
    """Oracle: the cell called step after step."""
    cell, x, states = MemoryCell(), normal(BATCH, TIME, 2), [normal(BATCH, 6, seed=1)]
    got = Recurrent(cell)(x, initial_state=states, training=training)
    for t in range(TIME):
        want, states = cell(x[:, t], states)
        np.testing.assert_allclose(got[:, t], want, rtol=1e-5)
    assert np.any(got)


STEPS = {
    "cell": lambda: Recurrent(layers.LayerNormLSTMCell(4)),
    "gru": lambda: Recurrent(GRUCell(4, reset_after=True), zoneout=0.1),
    "words": lambda: layers.WordByWordAttention(3),
} | {
    f"{decoder.__name__}-{name}": lambda decoder=decoder, make=make: decoder(GRUCell(4), make())
    for decoder in (BahdanauDecoder, LuongDecoder)
    for name, make in {
        "additive": lambda: layers.BahdanauAttention(3),
        "concat": lambda: layers.ConcatAttention(3),
        "dot": DotAttention,
        "general": layers.LuongAttention,
        "local": lambda: layers.LocalAttention(3, 2),
        "coverage": lambda: layers.CoverageAttention(3),
    }.items()
}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", STEPS)
def test_our_own_layers_say_which_kernels_are_constant(name, policy, monkeypatch):
    """No product of their steps is left to the loop, where its gradient would be taken at every step."""
    left = []

    class Watched(loops._Products):
        def of_a_step(self, taps, xs):
            compute, known_by = super().of_a_step(taps, xs), self._known_by()

            def watched(*product):
                if known_by(*product) not in self.numbers:
                    left.append(product)
                return compute(*product)

            return watched

    monkeypatch.setattr(loops, "_Products", Watched)
    with dtype_policy(policy):
        layer = STEPS[name]()
        x, memory = tf.constant(normal(BATCH, TIME, 3)), tf.constant(normal(BATCH, 5, 4, seed=1))
        layer(*([x] if isinstance(layer, Recurrent) else [x, memory]), training=True)
    assert not left
