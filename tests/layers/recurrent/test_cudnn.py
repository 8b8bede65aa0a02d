"""What is around cuDNN's kernel, on a machine without a GPU: a stand-in for TensorFlow's operation takes its place.

The stand-in unpacks the weights and steps as NVIDIA documents it; `reference.cudnn_rnn` is its oracle. It refuses what
the kernel refuses, and leaves NaN wherever no document says what the kernel leaves.
"""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import dtype_policy, normal
from kseq.layers import GRUCell, LSTMCell, Recurrent, RNNCell, allow_cudnn, to_keras
from kseq.layers.recurrent import cudnn

keras_rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")  # a function has its name in the package
BATCH, TIME, SIZE, UNITS = 4, 5, 3, 2
CELLS = {
    "RNN": lambda **options: RNNCell(UNITS, **options),
    "LSTM": lambda **options: LSTMCell(UNITS, **options),
    "GRU": lambda **options: GRUCell(UNITS, reset_after=True, **options),
}
MASKS = {
    "none": None,
    "right": [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
    "left": [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]],
    "holes": [[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]],
}
every_cell = pytest.mark.parametrize("name", CELLS)


def stand_in(*, input, input_h, input_c, params, sequence_lengths, rnn_mode, is_training, time_major):
    """`tf.raw_ops.CudnnRNNV3` in TensorFlow's own operations, with their gradient."""
    assert is_training and not time_major
    batch, time = tf.unstack(tf.shape(input)[:2])
    within = tf.sequence_mask(sequence_lengths, time)
    x = with_nan_at_padding(input, within)
    gates, units, d = reference.CUDNN_GATES[rnn_mode], input_h.shape[-1], input.shape[-1]
    n = len(gates)
    parts = tf.split(params, [units * d] * n + [units * units] * n + [units] * (2 * n))
    W, R, b_W, b_R = (dict(zip(gates, parts[k * n :], strict=False)) for k in range(4))

    def step(states, now):
        (h, c), (x, real) = states, now
        of_x = {g: tf.matmul(x, tf.reshape(W[g], [units, d]), transpose_b=True) + b_W[g] for g in gates}
        of_h = {g: tf.matmul(h, tf.reshape(R[g], [units, units]), transpose_b=True) + b_R[g] for g in gates}
        both = {g: of_x[g] + of_h[g] for g in gates}
        new_c = c
        if rnn_mode == "rnn_tanh":
            new = tf.tanh(both["h"])
        elif rnn_mode == "lstm":
            new_c = tf.sigmoid(both["f"]) * c + tf.sigmoid(both["i"]) * tf.tanh(both["c"])
            new = tf.sigmoid(both["o"]) * tf.tanh(new_c)
        else:
            i, r = tf.sigmoid(both["i"]), tf.sigmoid(both["r"])
            new = (1 - i) * tf.tanh(of_x["h"] + r * of_h["h"]) + i * h
        return tf.where(real[:, None], new, h), tf.where(real[:, None], new_c, c)

    taken = (batch > 0) & (time > 0) & tf.reduce_all((sequence_lengths > 0) & (sequence_lengths <= time))
    tf.debugging.Assert(taken, [sequence_lengths])
    first = (input_h[:, 0], input_c[:, 0] if rnn_mode == "lstm" else tf.zeros_like(input_h[:, 0]))
    y, c = tf.scan(step, (tf.transpose(x, [1, 0, 2]), tf.transpose(within)), first)
    outputs = tf.where(within[..., None], tf.transpose(y, [1, 0, 2]), np.nan)
    return outputs, y[-1][:, None], c[-1][:, None], tf.zeros([0]), tf.zeros([0], tf.int8)


def with_nan_at_padding(x, within):
    """The steps, of which those after the length are not read and get a gradient of NaN."""

    @tf.custom_gradient
    def read(x):
        return tf.where(within[..., None], x, 0), lambda dy: tf.where(within[..., None], dy, np.nan)

    return read(x)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU in the list of devices."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["GPU:0"])
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": True, "is_rocm_build": False})
    yield
    allow_cudnn(True)


@pytest.fixture
def calls(monkeypatch, gpu):
    """The arguments with which the operation has been called."""
    found = []
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", lambda **kwargs: found.append(kwargs) or stand_in(**kwargs))
    return found


def layer_of(name, cell=(), **options):
    layer = Recurrent(CELLS[name](**dict(cell)), return_state=True, **options)
    layer.build((None, None, SIZE))
    for j, weight in enumerate(layer.weights):
        weight.assign(0.7 * normal(*weight.shape, seed=j))
    return layer


def arguments(layer, mask="holes", batch=BATCH, time=TIME):
    mask = None if MASKS[mask] is None else tf.constant(np.array(MASKS[mask], bool)[:batch, :time])
    states = [normal(batch, size, seed=20 + j) for j, size in enumerate(layer.state_size)]
    return [tf.constant(normal(batch, time, SIZE, seed=9)), mask, *map(tf.constant, states)]


def weights_like(y):
    return tf.cast(tf.reshape(tf.sin(tf.range(1.0, 1.0 + tf.cast(tf.size(y), "float32"))), tf.shape(y)), y.dtype)


def results(layer, x, mask, *states):
    """Outputs, last states, and the gradients of inputs, states and weights of something that reads them all."""
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        y = layer(x, mask=mask, initial_state=list(states), training=True)
        loss = sum(tf.reduce_sum(part * weights_like(part)) for part in y)
    return [*y, *tape.gradient(loss, [x, *states, *layer.trainable_weights])]


def assert_close(got, want, tolerance=1e-5):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(tf.cast(a, "float32"), tf.cast(b, "float32"), rtol=tolerance, atol=tolerance)


@every_cell
def test_the_stand_in_computes_what_nvidia_documents(name):
    """Oracle: NumPy, on random weights."""
    mode = cudnn._MODES[type(CELLS[name]())]
    gates = len(reference.CUDNN_GATES[mode])
    x, h, c = normal(BATCH, TIME, SIZE), normal(BATCH, UNITS, seed=1), normal(BATCH, UNITS, seed=2)
    params, lengths = normal(gates * UNITS * (SIZE + UNITS + 2), seed=3), np.array([5, 2, 1, 4])
    want_y, want_h, want_c = reference.cudnn_rnn(mode, x, h, c, params, lengths)
    y, last_h, last_c, *_ = stand_in(
        input=tf.constant(x),
        input_h=tf.constant(h[:, None]),
        input_c=tf.constant(c[:, None]),
        params=tf.constant(params),
        sequence_lengths=tf.constant(lengths, tf.int32),
        rnn_mode=mode,
        is_training=True,
        time_major=False,
    )
    assert_close([np.nan_to_num(y), last_h[:, 0]], [want_y, want_h])
    if mode == "lstm":
        assert_close([last_c[:, 0]], [want_c])


@every_cell
@pytest.mark.parametrize(
    "mask", ["holes", *(pytest.param(m, marks=pytest.mark.slow) for m in ("none", "right", "left"))]
)
def test_the_kernel_gives_what_the_loop_gives(name, mask, calls):
    """Oracle: the loop. Backwards, with dropout and initial states, the gradients too."""
    options = {"go_backwards": mask != "right", "dropout": 0.4, "seed": 3}
    allow_cudnn(False)
    layer = layer_of(name, **options)
    want = results(layer, *arguments(layer, mask))
    assert not calls
    allow_cudnn(True)
    layer = layer_of(name, **options)
    assert_close(results(layer, *arguments(layer, mask)), want)
    [call] = calls
    assert call["rnn_mode"] == cudnn._MODES[type(layer.cell)]


@pytest.mark.slow
@every_cell
def test_cells_without_bias_and_shapes_that_are_not_known(name, calls):
    layer = layer_of(name, {"use_bias": False})
    x, mask, *states = arguments(layer)
    allow_cudnn(False)
    want = results(layer, x, mask, *states)
    allow_cudnn(True)
    unknown = [tf.TensorSpec([None, None, SIZE]), tf.TensorSpec([None, None], tf.bool)]
    unknown += [tf.TensorSpec([None, UNITS])] * len(states)
    run = tf.function(
        lambda x, mask, *states: results(layer, x, mask, *states), input_signature=unknown, autograph=False
    )
    assert_close(run(x, mask, *states), want)
    assert run.get_concrete_function().structured_outputs[0].shape.as_list() == [None, None, UNITS]
    for batch, time in ((0, TIME), (BATCH, 0)):
        x, mask, *states = arguments(layer, "holes", batch, time)
        found = run(x, mask, *states)
        assert found[0].shape == (batch, time, UNITS)
        assert_close(found[1 : 1 + len(states)], states)
        assert not any(np.any(np.asarray(gradient)) for gradient in found[-len(layer.trainable_weights) :])


@pytest.mark.slow
def test_what_stands_at_padding_is_not_read(calls):
    layer = layer_of("LSTM")
    x, mask, *states = arguments(layer)
    want = results(layer, x, mask, *states)
    got = results(layer, tf.where(mask[..., None], x, np.nan), mask, *states)
    assert len(calls) == 2
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(np.asarray(got[3])[~np.asarray(mask)])  # the gradient of x


@pytest.mark.slow
@pytest.mark.parametrize("policy, inside", [("mixed_float16", "float16"), ("mixed_bfloat16", "float32")])
def test_mixed_precision(policy, inside, calls):
    with dtype_policy(policy):
        layer = layer_of("GRU")
        x, mask, *states = arguments(layer)
        got = results(layer, x, mask, *states)
        allow_cudnn(False)
        want = results(layer, x, mask, *states)
    [call] = calls
    assert call["input"].dtype == call["params"].dtype == call["input_h"].dtype == inside
    assert got[0].dtype == got[1].dtype == policy.removeprefix("mixed_")
    assert_close(got, want, 0.01 if inside == "float16" else 0.05)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_the_operation_gets_what_keras_gives_it(name, calls):
    """Oracle: Keras' layers, which have run the kernel for years; of an LSTM's two biases they use the other one."""
    layer = layer_of(name)
    x, mask, *states = arguments(layer, "right")
    y, *last = layer(x, mask=mask, initial_state=states, training=True)
    other = to_keras(layer)
    other.build((None, None, SIZE))
    run = {"LSTM": keras_rnn._cudnn_lstm, "GRU": keras_rnn._cudnn_gru}[name]
    weights = [v.value for v in (other.cell.kernel, other.cell.recurrent_kernel, other.cell.bias)]
    _, want, want_last = run(x, *states, *weights, mask, False, False, True)
    assert_close([tf.where(mask[..., None], want, 0), *want_last], [y, *last])
    ours, theirs = calls
    for name_of in ("input_h", "sequence_lengths", "rnn_mode", "is_training", "time_major"):
        np.testing.assert_array_equal(ours[name_of], theirs[name_of])
    biases = 2 * UNITS * layer.cell.gates
    np.testing.assert_array_equal(ours["params"][:-biases], theirs["params"][:-biases])
    np.testing.assert_array_equal(*(np.sum(np.reshape(c["params"][-biases:], (2, -1)), axis=0) for c in (ours, theirs)))


# The choice


class Own(LSTMCell):
    """A cell with equations of its own, for all that is known."""


def test_where_the_kernel_is_chosen(monkeypatch, gpu):
    reset_after, lstm = GRUCell(UNITS, reset_after=True), LSTMCell(UNITS)
    for cell in (lstm, reset_after, RNNCell(UNITS)):
        assert cudnn.can_run(cell, "float32", True)
    assert not cudnn.can_run(GRUCell(UNITS), "float32", True)
    assert not cudnn.can_run(Own(UNITS), "float32", True)
    assert not cudnn.can_run(lstm, "float64", True)
    assert not cudnn.can_run(lstm, "float32", False) and not cudnn.can_run(lstm, "float32", None)
    allow_cudnn(False)
    assert not cudnn.can_run(lstm, "float32", True)
    allow_cudnn(True)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": False})
    assert not cudnn.can_run(lstm, "float32", True)
    monkeypatch.undo()
    assert not cudnn.can_run(lstm, "float32", True)  # as this machine is


@pytest.mark.parametrize("options", [{"recurrent_dropout": 0.1}, {"zoneout": 0.1}])
def test_what_the_kernel_cannot_do_is_left_to_the_loop(options, calls):
    layer = layer_of("LSTM", **options)
    layer(arguments(layer)[0], training=True)
    assert not calls


def operations(function):
    """The types of all operations of a function's graph and of those within it."""
    graph = function.get_concrete_function().graph.as_graph_def()
    return {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}


@pytest.mark.slow
def test_the_kernel_is_in_no_graph_under_xla(gpu):
    """The real operation, which a graph may hold though nothing here can run it."""
    layer = layer_of("LSTM")
    x, mask, *states = arguments(layer)
    step = lambda: results(layer, x, mask, *states)  # noqa: E731
    assert {"CudnnRNNV3", "CudnnRNNBackpropV3"} <= operations(tf.function(step, autograph=False))
    inner = tf.function(step, autograph=False)
    for compiled in (
        tf.function(step, jit_compile=True, autograph=False),
        tf.function(lambda: inner(), jit_compile=True, autograph=False),
    ):
        assert not {op for op in operations(compiled) if "Cudnn" in op}


@pytest.mark.slow
def test_the_kernel_has_no_second_derivatives(gpu):
    layer = layer_of("LSTM")
    x = arguments(layer)[0]

    def second(training):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x, training=training)[0])
            slope = tf.reduce_sum(tf.square(inner.gradient(y, x)))
        return outer.gradient(slope, x)

    assert second(False).shape == x.shape
    with pytest.raises(NotImplementedError, match="for second derivatives call the layer with training=False"):
        tf.function(second, autograph=False).get_concrete_function(True)


@pytest.mark.slow
def test_an_export_has_no_kernel(tmp_path, gpu):
    """Of a model that was traced with it in training."""
    model = keras.Sequential([keras.Input((None, SIZE)), Recurrent(LSTMCell(UNITS), return_sequences=False)])
    assert "CudnnRNNV3" in operations(tf.function(lambda: model(normal(2, TIME, SIZE), training=True), autograph=False))
    model.export(tmp_path / "export", verbose=False)
    assert b"Cudnn" not in (tmp_path / "export" / "saved_model.pb").read_bytes()


def test_only_a_bool_allows():
    with pytest.raises(ValueError, match="allowed must be True or False, got 'auto'"):
        allow_cudnn("auto")
