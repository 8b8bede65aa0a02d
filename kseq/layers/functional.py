"""What every layer here needs: products in the input's precision, and checks of constructor arguments."""

import contextlib
import contextvars

import tensorflow as tf
from keras import ops

_loop = contextvars.ContextVar("what computes the products of a step, where a loop is being built", default=None)


def linear(x, kernel, bias=None, *, rows=slice(None)):
    """`x @ kernel[rows] + bias` in the precision of `x`, whatever the precision the weights are kept in.

    Keras casts weights by itself only inside `Layer.__call__`; the halves of a step are also called directly.
    """
    y = product(x, kernel, rows=rows) if len(x.shape) == 2 else ops.matmul(x, ops.cast(part(kernel, rows), x.dtype))
    return y if bias is None else y + ops.cast(bias, x.dtype)


def product(x, kernel, *, transposed=False, rows=slice(None)):
    """x K in the precision of `x`, with one K or with one for each row: `[batch, k]`, `[k, n]` or `[batch, k, n]` →
    `[batch, n]`. K is `kernel[rows]`.

    With `transposed` the kernel is `[n, k]` or `[batch, n, k]`. In a step of `unroll`, a kernel that is a weight or one
    of the loop's `constants` is prepared once, before the loop.
    """
    compute = _loop.get() or multiply
    return compute(x, kernel, transposed, rows)


def multiply(x, kernel, transposed, rows=slice(None)):
    """`product` by itself."""
    kernel = ops.cast(part(kernel, rows), x.dtype)
    if len(kernel.shape) == 2:
        return tf.matmul(x, kernel, transpose_b=transposed)
    return tf.linalg.matvec(kernel, x, transpose_a=not transposed)


def carried_mask(x, mask=None):
    """The mask, or where none is given the one that Keras carries with `x`, bool; None where there is neither.

    Keras hands the mask of `inputs` to a layer only when it is called with that one tensor: not beside a state.
    """
    mask = getattr(x, "_keras_mask", None) if mask is None else mask
    return None if mask is None else ops.cast(mask, "bool")


def replica_share(weight):
    """What makes the mean over the weights of one replica its part of the mean over those of all.

        R w_r / Σ_s w_s

    for replica r of the R of a `tf.distribute` strategy, whose losses Keras divides by R and adds up. Without it they
    are a mean of means, in which a token of a replica with few tokens counts more than one of the others.

    Args:
        weight: w_r, a scalar: how much of what the loss is the mean of this replica has.

    Returns:
        float32 scalar; 1 outside of a strategy of several replicas.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return 1.0
    weight = tf.cast(weight, tf.float32)
    total = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(weight))
    return tf.math.divide_no_nan(weight * replica.num_replicas_in_sync, total)


def part(kernel, rows):
    """`kernel[rows]`, without an operation where these are all rows."""
    return kernel if rows == slice(None) else kernel[rows]


@contextlib.contextmanager
def products_by(compute):
    """Has every `product` inside computed by `compute(x, kernel, transposed, rows)`."""
    token = _loop.set(compute)
    try:
        yield
    finally:
        _loop.reset(token)


def check_fraction(name, value):
    """Returns `value` if it is at least 0 and less than 1, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}")
    return float(value)


def check_non_negative(name, value):
    """Returns `value` as a float if it is a number of at least 0, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return float(value)


def check_positive(name, value):
    """Returns `value` if it is a positive whole number, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return value
