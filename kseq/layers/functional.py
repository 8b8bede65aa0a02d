"""What every layer here needs: products in the input's precision, and checks of constructor arguments."""

from keras import ops


def linear(x, kernel, bias=None):
    """`x @ kernel + bias` in the precision of `x`, whatever the precision the weights are kept in.

    Keras casts weights by itself only inside `Layer.__call__`; the halves of a step are also called directly.
    """
    y = ops.matmul(x, ops.cast(kernel, x.dtype))
    return y if bias is None else y + ops.cast(bias, x.dtype)


def share(name, value):
    """Returns `value` if it is at least 0 and less than 1, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}")
    return float(value)


def not_negative(name, value):
    """Returns `value` if it is at least 0, else raises `ValueError`."""
    if not value >= 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
    return float(value)


def positive(name, value):
    """Returns `value` if it is a positive whole number, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return value
