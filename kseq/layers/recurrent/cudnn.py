"""cuDNN's kernel over a whole sequence, in place of the loop over time, where a GPU is visible.

`tf.raw_ops.CudnnRNNV3` has no kernel for a CPU and none under XLA, and its gradient has no gradient. It runs in
training alone, so that no export, whoever makes it, contains it, and no second derivative of the loop is lost.

The equations, the gates and their order are those of `cudnnRNNMode_t` and `cudnnGetRNNWeightParams`
(https://docs.nvidia.com/deeplearning/cudnn/latest/api/cudnn-adv-library.html).
"""

import tensorflow as tf

from kseq.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from kseq.layers.recurrent.unroll import first_order

_MODES = {RNNCell: "rnn_tanh", LSTMCell: "lstm", GRUCell: "gru"}
# TensorFlow has a kernel for bfloat16, which computes in float32 and then hands to the gradient a reserve space that it
# has not filled. A GPU that is made for float64 is rare.
_DTYPES = {"float16": tf.float16, "bfloat16": tf.float32, "float32": tf.float32}

_allowed = True


def allow_cudnn(allowed):
    """Whether layers may run cuDNN's kernels from now on; at first they may.

    It concerns what is traced afterwards: call it before `model.fit`.

    Args:
        allowed: bool.

    Raises:
        ValueError: it is no bool.
    """
    global _allowed
    if not isinstance(allowed, bool):
        raise ValueError(f"allowed must be True or False, got {allowed!r}")
    _allowed = allowed


def can_run(cell, dtype, training):
    """Whether `run` can take the place of the loop over time here and now.

    Args:
        cell: a cell. A subclass of one of kseq may have other equations, so it cannot.
        dtype: of the computations.
        training: as of a layer's call.
    """
    return bool(
        training
        and _allowed
        and type(cell) in _MODES
        and getattr(cell, "reset_after", True)
        and tf.as_dtype(dtype).name in _DTYPES
        and tf.sysconfig.get_build_info()["is_cuda_build"]  # AMD's kernels have another layout
        and tf.config.list_logical_devices("GPU")
        and tf.__internal__.get_enclosing_xla_context() is None
    )


def run(cell, inputs, states, mask=None):
    """`unroll` of the cell's step over `[batch, time, d]` in one operation: the outputs and the last states.

    cuDNN takes sequences of given lengths, at least 1. A masked step changes no state, wherever it stands, so the real
    steps of each row are moved to its front, and their outputs back to their places.
    """
    batch, time = tf.unstack(tf.shape(inputs)[:2])
    dtype = _DTYPES[inputs.dtype.name]
    steps = tf.fill([batch], time)
    x = tf.cast(inputs, dtype)
    if mask is not None:
        steps = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        real_first, places = _order(mask)
        # The kernel reads no padding, but what it writes there as the gradient is not documented.
        x = _permuted(_where_real(mask, x), real_first, places)
    y, *last = _kernel(cell, x, [tf.cast(h, dtype) for h in states], steps)
    if mask is not None:
        y = _where_real(mask, _permuted(y, places, real_first))
    y = tf.ensure_shape(tf.cast(y, inputs.dtype), [*inputs.shape[:2], cell.units])
    began = tf.reshape(steps > 0, [-1, 1])
    return y, [tf.where(began, tf.cast(new, old.dtype), old) for new, old in zip(last, states, strict=True)]


def pack(cell, dtype):
    """All weights of a cell as cuDNN reads them: one after the other, row by row, in a flat tensor.

    They are Wᵀ of each gate, `[units, d]`, then Uᵀ of each, `[units, units]`, then each gate's bias b_W of the product
    with x, then each gate's b_U of the product with h. The gates are i, f, c̃, o of an LSTM and r, z, n of a GRU.

    cuDNN's z weighs the old h and that of `GRUCell` the new one: 1 − σ(a) = σ(−a), so its weights change their sign.
    """
    weight = lambda w: tf.cast(w, dtype)  # noqa: E731
    none = tf.zeros([cell.units], dtype)
    W = tf.split(weight(cell.kernel), cell.gates, axis=1)
    b_W = [none] * cell.gates if cell.bias is None else tf.split(weight(cell.bias), cell.gates)
    if type(cell) is GRUCell:
        U_z, U_r = tf.split(weight(cell.recurrent_kernel), 2, axis=1)
        W, b_W = ([r, -z, n] for z, r, n in (W, b_W))
        U = [U_r, -U_z, weight(cell.candidate_kernel)]
        b_U = [none, none, none if cell.recurrent_bias is None else weight(cell.recurrent_bias)]
    else:
        U = tf.split(weight(cell.recurrent_kernel), cell.gates, axis=1)
        b_U = [none] * cell.gates
    matrices = [tf.reshape(tf.transpose(matrix), [-1]) for matrix in (*W, *U)]
    return tf.concat([*matrices, *b_W, *b_U], axis=0)


def _kernel(cell, x, states, steps):
    """The outputs and the last states of so many steps of each row, where it has any."""
    batch, time = tf.unstack(tf.shape(x)[:2])
    # cuDNN takes no empty batch and no empty sequence: in their place it gets a row and a step of zeros.
    row, step = (tf.cast(tf.equal(size, 0), tf.int32) for size in (batch, time))
    x = tf.pad(x, [[0, row], [0, step], [0, 0]])
    states = [tf.pad(h, [[0, row], [0, 0]]) for h in states]
    lengths = tf.maximum(tf.pad(steps, [[0, row]]), 1)
    x, params, *states = _differentiable_once(x, pack(cell, x.dtype), *states)
    states = [h[:, None] for h in states]
    y, *last = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=states[0],
        input_c=states[1] if len(states) > 1 else tf.zeros([], x.dtype),
        params=params,
        sequence_lengths=lengths,
        rnn_mode=_MODES[type(cell)],
        is_training=True,
        time_major=False,
    )[: 1 + len(states)]
    return y[:batch, :time], *(h[:batch, 0] for h in last)


def _order(mask):
    """For each row, the places of its real steps in their order, followed by those of its padding; and the inverse."""
    time = tf.shape(mask)[1]
    t = tf.range(time)
    real_first = tf.argsort(tf.where(mask, t, time + t), axis=1)
    return real_first, tf.argsort(real_first, axis=1)


def _permuted(x, order, inverse):
    """The steps of each row in another order. Its gradient is one as well, where that of `tf.gather` adds up."""

    @tf.custom_gradient
    def permuted(x):
        return tf.gather(x, order, batch_dims=1), lambda dy: _permuted(dy, inverse, order)

    return permuted(x)


def _where_real(mask, x):
    return tf.where(mask[..., None], x, tf.zeros_like(x))


@tf.custom_gradient
def _differentiable_once(*xs):
    return [tf.identity(x) for x in xs], lambda *gradients: first_order(gradients)
