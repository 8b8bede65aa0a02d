"""The bytes of a file, read and checked in TensorFlow's operations."""

import tensorflow as tf

PADDING = 64  # zeros behind the bytes of a file, so that a header that is cut off can be read


def padded(encoded):
    """string `[]` → its bytes and `PADDING` zeros, uint8 `[bytes + PADDING]`."""
    return tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, PADDING]])


def number(data, at, size, little=False):
    """The number that `size` bytes say from `at` on, int64 `[]`; what lies behind the data counts as 0."""
    at = tf.minimum(tf.cast(at, tf.int64), tf.size(data, tf.int64) - PADDING)
    digits = tf.cast(data[at : at + size], tf.int64)
    weights = tf.constant([256**i for i in range(size)], tf.int64)
    return tf.reduce_sum(tf.where(little, digits, digits[::-1]) * weights)


def broken(*rules):
    """What is said of the first rule that does not hold, string `[]`; empty where all hold.

    Args:
        rules: pairs (bool `[]`, what is said where it is false, str or string `[]`).
    """
    said = tf.constant("")
    for holds, message in reversed(rules):
        said = tf.where(holds, said, message)
    return said


def required(x, said):
    """`x`, once nothing is said against it.

    Args:
        x: tensor.
        said: string `[]`, as of `broken`.

    Raises:
        tf.errors.InvalidArgumentError: it is not empty.
    """
    check = tf.debugging.Assert(said == "", [said])
    with tf.control_dependencies([] if check is None else [check]):  # eagerly it is None, and has raised
        return tf.identity(x)


def refusal(error):
    """What the operation that raised a `tf.errors.InvalidArgumentError` has to say, or the message of `required`.

    The parts of an assertion have colons between them.
    """
    reason = error.message.partition("\n\t [[")[0].splitlines()[-1]  # around it: where in the graph
    return reason.rpartition("assertion failed: [")[-1].rstrip("]").replace("] [", ": ")[:200]
