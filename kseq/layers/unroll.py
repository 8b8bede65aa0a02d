"""The only loop over time in the library."""

import tensorflow as tf

from kseq.layers.functional import multiply, products_by


def unroll(step, inputs, states, mask=None, *, project=None, training=False):
    """Runs `output, states = step(inputs_t, states)` over axis 1 of `inputs`.

    A bounded `tf.while_loop`: trains eagerly, in a graph and under XLA, with unknown batch and time, and exports.

    Args:
        step: function of one step's inputs and the states. What it captures is shared by all steps.
        inputs: tensor or nest of tensors `[batch, time, ...]`.
        states: list of tensors `[batch, ...]`.
        mask: bool `[batch, time]` or None. Where it is false the states stay and the outputs are zero.
        project: function from `inputs`, with the axes of batch and time changed over, to what the steps read of them:
            what needs no state, for all steps at once.
        training: whether a gradient will be asked for. It is right either way, and sooner there when this is true: the
            gradients of the kernels that a step multiplies by are then one product each, after the loop.

    Returns:
        The outputs, `[batch, time, ...]` in the structure that `step` returns, and the last states.
    """
    inputs = tf.nest.map_structure(_swap, inputs)
    time = tf.shape(tf.nest.flatten(inputs)[0])[0]
    inputs = inputs if project is None else project(inputs)
    read = _reader(inputs, time)
    keep = None if mask is None else _reader(_swap(mask), time)

    # One step on zeros tells the structure, types and shapes of the outputs; in a graph it is pruned.
    gathered = _Gathered() if training else None
    with products_by(gathered and gathered.meet):
        like, _ = step(tf.nest.map_structure(_zeros_of_a_step, inputs), states)
    taps = gathered.taps(time) if training else []
    arrays = [tf.TensorArray(y.dtype, time, element_shape=y.shape) for y in tf.nest.flatten(like)]
    heard = gathered.arrays(time) if training else []

    def body(t, states, arrays, heard):
        factors = []
        with products_by(gathered and gathered.step(factors, [tap.read(t) for tap in taps])):
            outputs, after = step(read(t), states)
        outputs = tf.nest.flatten(outputs)
        if keep is not None:
            on = keep(t)
            outputs = [_where(on, y, tf.zeros_like(y)) for y in outputs]
            after = [_where(on, new, old) for new, old in zip(after, states, strict=True)]
        for new, old in zip(after, states, strict=True):
            new.set_shape(old.shape)
        return t + 1, list(after), _write(arrays, t, outputs), _write(heard, t, factors)

    # The bound is what lets XLA size the stacks of the gradient.
    loop = (tf.constant(0), list(states), arrays, heard)
    _, states, arrays, heard = tf.while_loop(lambda t, *_: t < time, body, loop, maximum_iterations=time)
    if training:
        gathered.factors = [a.stack() for a in heard]
    outputs = [_swap(a.stack()) for a in arrays]
    return tf.nest.pack_sequence_as(like, outputs), states


class _Gathered:
    """The products y_t = x_t K of a loop's step, whose gradients ∂K = Σ_t x_tᵀ ∂y_t are taken after the loop.

    Differentiated as it stands, a loop adds x_tᵀ ∂y_t to a whole K at every step. Here K is held constant inside, and
    each product reads a tap, zeros that it does not use, to leave ∂y_t as the tap's gradient. All of them together
    meet all x_t where the taps are made, which backwards is after the loop.
    """

    def __init__(self):
        self.kernels, self.flipped = [], []  # each K as `multiply` takes it, and as it takes its transpose
        self.xs, self.ys = [], []  # of the step that is tried
        self.factors = None  # x of all steps, [time, batch, k] each, once the loop has run

    def meet(self, x, kernel, transposed):
        """A product of the step that is tried before the loop."""
        fixed = tf.stop_gradient(kernel)
        # A product with a transposed matrix takes twice as long in a loop; turned once, it is turned for all steps.
        turned = (tf.transpose(fixed), transposed) if kernel.shape.rank == 2 else (fixed, not transposed)
        y = multiply(x, fixed, transposed)
        self.kernels.append((tf.convert_to_tensor(kernel), transposed))
        self.flipped.append(turned)
        self.xs.append(x)
        self.ys.append(y)
        return y

    def taps(self, time):
        return [_reader_array(self._tap(j, time), time) for j in range(len(self.kernels))]

    def arrays(self, time):
        return [tf.TensorArray(x.dtype, time, element_shape=x.shape) for x in self.xs]

    def step(self, factors, taps):
        """What computes the products of one step, one after the other as they were met; `factors` gets each x."""

        def compute(x, kernel, transposed):
            j = len(factors)
            factors.append(tf.stop_gradient(x))
            fixed = tf.stop_gradient(self.kernels[j][0])

            @tf.custom_gradient
            def y(x, tap):
                return multiply(x, fixed, transposed), lambda dy: (multiply(dy, *self.flipped[j]), dy)

            return y(x, taps[j])

        return compute

    def _tap(self, j, time):
        (kernel, transposed), like = self.kernels[j], self.ys[j]

        @tf.custom_gradient
        def tap(kernel):
            def gradient(dy):
                x = self.factors[j]
                left, right = (dy, x) if transposed else (x, dy)
                if kernel.shape.rank == 3:
                    return tf.einsum("tbi,tbj->bij", left, right)
                left, right = (tf.reshape(z, [-1, z.shape[-1]]) for z in (left, right))
                return tf.matmul(left, right, transpose_a=True)

            return tf.zeros(tf.concat([[time], tf.shape(like)], 0), like.dtype), gradient

        return tap(kernel)


def _reader(nest, time):
    """A function from t to what the tensors `[time, batch, ...]` of `nest` hold at step t."""
    arrays = [_reader_array(x, time) for x in tf.nest.flatten(nest)]
    return lambda t: tf.nest.pack_sequence_as(nest, [a.read(t) for a in arrays])


def _zeros_of_a_step(x):
    return tf.ensure_shape(tf.zeros(tf.shape(x)[1:], x.dtype), x.shape[1:])


def _reader_array(x, time):
    return tf.TensorArray(x.dtype, time).unstack(x)


def _write(arrays, t, values):
    return [a.write(t, x) for a, x in zip(arrays, values, strict=True)]


def _swap(x):
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _where(condition, x, y):
    return tf.where(tf.reshape(condition, [-1] + [1] * (x.shape.rank - 1)), x, y)
