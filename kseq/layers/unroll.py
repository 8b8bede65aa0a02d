"""The only loop over time in the library."""

import tensorflow as tf


def unroll(step, inputs, states, mask=None):
    """Runs `output, states = step(inputs_t, states)` over axis 1 of `inputs`.

    A bounded `tf.while_loop`: trains eagerly, in a graph and under XLA, with unknown batch and time, and exports.

    Args:
        step: function of one step's inputs and the states. What it captures is shared by all steps.
        inputs: tensor or nest of tensors `[batch, time, ...]`.
        states: list of tensors `[batch, ...]`.
        mask: bool `[batch, time]` or None. Where it is false the states stay and the outputs are zero.

    Returns:
        The outputs, `[batch, time, ...]` in the structure that `step` returns, and the last states.
    """
    flat = tf.nest.flatten(inputs)
    time = tf.shape(flat[0])[1]
    read = _reader(inputs, time)
    keep = None if mask is None else _reader(mask, time)

    # One step on zeros tells the structure, types and shapes of the outputs; in a graph it is pruned.
    probe = [tf.zeros(tf.concat([tf.shape(x)[:1], tf.shape(x)[2:]], 0), x.dtype) for x in flat]
    probe = [tf.ensure_shape(p, x.shape[:1] + x.shape[2:]) for p, x in zip(probe, flat, strict=True)]
    like, _ = step(tf.nest.pack_sequence_as(inputs, probe), states)
    arrays = [tf.TensorArray(y.dtype, time, element_shape=y.shape) for y in tf.nest.flatten(like)]

    def body(t, states, arrays):
        outputs, after = step(read(t), states)
        outputs = tf.nest.flatten(outputs)
        if keep is not None:
            on = keep(t)
            outputs = [_where(on, y, tf.zeros_like(y)) for y in outputs]
            after = [_where(on, new, old) for new, old in zip(after, states, strict=True)]
        for new, old in zip(after, states, strict=True):
            new.set_shape(old.shape)
        return t + 1, list(after), [a.write(t, y) for a, y in zip(arrays, outputs, strict=True)]

    # The bound is what lets XLA size the stacks of the gradient.
    loop = (tf.constant(0), list(states), arrays)
    _, states, arrays = tf.while_loop(lambda t, *_: t < time, body, loop, maximum_iterations=time)
    outputs = [_swap(a.stack()) for a in arrays]
    return tf.nest.pack_sequence_as(like, outputs), states


def _reader(nest, time):
    """A function from t to what the tensors of `nest` hold at step t."""
    arrays = [tf.TensorArray(x.dtype, time).unstack(_swap(x)) for x in tf.nest.flatten(nest)]
    return lambda t: tf.nest.pack_sequence_as(nest, [a.read(t) for a in arrays])


def _swap(x):
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _where(condition, x, y):
    return tf.where(tf.reshape(condition, [-1] + [1] * (x.shape.rank - 1)), x, y)
