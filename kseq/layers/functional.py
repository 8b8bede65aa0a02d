"""What every layer here needs: products in the input's precision, and checks of constructor arguments."""

import contextlib
import contextvars

import tensorflow as tf
from keras import ops

_handler = contextvars.ContextVar("what computes the products of a step, where a loop is being built", default=None)


def linear(x, kernel, bias=None):
    """`x @ kernel + bias` in the precision of `x`, whatever the precision the weights are kept in.

    Keras casts weights by itself only inside `Layer.__call__`; the halves of a step are also called directly.
    """
    kernel = ops.cast(kernel, x.dtype)
    y = product(x, kernel) if len(x.shape) == 2 else ops.matmul(x, kernel)
    return y if bias is None else y + ops.cast(bias, x.dtype)


def product(x, kernel, *, transposed=False):
    """x K, of one K or of one for each row: `[batch, k]`, `[k, n]` or `[batch, k, n]` → `[batch, n]`.

    With `transposed` the kernel is `[n, k]` or `[batch, n, k]`. Inside `unroll` the loop computes it, with the kernel
    that it met before its first step: a kernel is to be the same at every step.
    """
    return (_handler.get() or multiply)(x, kernel, transposed)


def multiply(x, kernel, transposed):
    """`product` by itself."""
    if len(kernel.shape) == 2:
        return tf.matmul(x, kernel, transpose_b=transposed)
    return tf.linalg.matvec(kernel, x, transpose_a=not transposed)


@contextlib.contextmanager
def products_by(handler):
    """Hands every `product` inside to `handler(x, kernel, transposed)`."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


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
