"""The loop over time for any step, and what loops are made of."""

import collections

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.functional import multiply, part, products_by


def unroll(step, inputs, states, mask=None, *, project=None, constants=(), training=False):
    """Runs `output, states = step(inputs_t, states)` over axis 1 of `inputs`.

    A bounded `tf.while_loop`: trains eagerly, in a graph and under XLA, with unknown batch and time, and exports.

    Where the layers of kseq multiply by a kernel that is the same at every step, it is cast and transposed once, and in
    training its gradient is one product after the loop. That is done for weights and for `constants`, and for nothing
    else: whatever depends on a step's inputs or states is computed at every step.

    Args:
        step: function of one step's inputs and the states. What it captures is shared by all steps.
        inputs: tensor or nest of tensors `[batch, time, ...]`.
        states: list of tensors `[batch, ...]`.
        mask: bool `[batch, time]` or None. Where it is false the states stay and the outputs are zero.
        project: function from `inputs`, with the axes of batch and time swapped, to what the steps read of them: what
            needs no state, for all steps at once.
        constants: nest of tensors that the step captures and may multiply by, as the memory that a decoder attends to.
            A tensor that is not named here is used as it is, only slower.
        training: whether a gradient will be asked for. The results are the same either way. When it is true, the
            gradients of weights and constants are faster, and there are no second derivatives.

    Returns:
        The outputs, `[batch, time, ...]` in the structure that `step` returns, and the last states.
    """
    inputs = tf.nest.map_structure(swap, inputs)
    time = tf.shape(tf.nest.flatten(inputs)[0])[0]
    inputs = inputs if project is None else project(inputs)
    read = reader(inputs, time)
    keep = None if mask is None else reader(swap(mask), time)

    # One step on zeros tells the structure, types and shapes of the outputs; in a graph it is pruned.
    products = _Products(constants)
    with products_by(products.trial()):
        like, _ = step(tf.nest.map_structure(zeros_of_a_step, inputs), states)
    taps = products.taps(time) if training else []
    arrays = arrays_like(tf.nest.flatten(like), time)
    factors = products.arrays(time) if training else []

    def body(t, states, arrays, factors):
        xs = products.zeros() if training else []
        with products_by(products.of_a_step([tap.read(t) for tap in taps], xs)):
            outputs, after = step(read(t), states)
        outputs = tf.nest.flatten(outputs)
        if keep is not None:
            on = keep(t)
            outputs = choose(on, outputs, [tf.zeros_like(y) for y in outputs])
            after = choose(on, after, states)
        for new, old in zip(after, states, strict=True):
            new.set_shape(old.shape)
        return t + 1, list(after), write(arrays, t, outputs), write(factors, t, xs)

    # The bound is what lets XLA size the stacks of the gradient.
    loop = (tf.constant(0), list(states), arrays, factors)
    _, states, arrays, factors = tf.while_loop(lambda t, *_: t < time, body, loop, maximum_iterations=time)
    products.factors = [a.stack() for a in factors]
    outputs = [swap(a.stack()) for a in arrays]
    return tf.nest.pack_sequence_as(like, outputs), states


class _Products:
    """The products y_t = x_t K of a loop's steps whose K is a weight or one of the loop's constants.

    With taps, the gradients ∂K = Σ_t x_tᵀ ∂y_t are taken after the loop. Differentiated as it stands, a loop adds
    x_tᵀ ∂y_t to a whole K at every step. Here K is held constant inside, and each product reads a tap, zeros that it
    does not use, to leave ∂y_t as the tap's gradient. All of them together meet all x_t where the taps are made, which
    backwards is after the loop.
    """

    def __init__(self, constants):
        self.constants = {id(x): x for x in tf.nest.flatten(constants)}
        self.numbers = {}  # what a product is known by in every step → its place in these lists
        self.kernels, self.transposes = [], []  # each K and its transpose, as `multiply` takes them
        self.xs, self.ys = [], []  # of the trial
        self.factors = None  # x of all steps, [time, batch, k] each, once the loop has run

    def _known_by(self):
        """A function from a product to what it is known by in every step; None if its kernel may change."""
        counts = collections.Counter()

        def known_by(x, kernel, transposed, rows):
            if not (isinstance(kernel, keras.Variable | tf.Variable) or id(kernel) in self.constants):
                return None
            name = (id(kernel), transposed, rows.start, rows.stop, x.dtype)
            counts[name] += 1
            return (*name, counts[name])

        return known_by

    def trial(self):
        """What computes the products of the step that is tried before the loop."""
        known_by = self._known_by()

        def compute(x, kernel, transposed, rows):
            y, name = multiply(x, kernel, transposed, rows), known_by(x, kernel, transposed, rows)
            if name is not None:
                self.numbers[name] = len(self.numbers)
                self._prepare(ops.cast(part(kernel, rows), x.dtype), transposed)
                self.xs.append(x)
                self.ys.append(y)
            return y

        return compute

    def _prepare(self, kernel, transposed):
        # A product with a transposed matrix takes up to twice as long, and a loop would take it at every step.
        flat = kernel.shape.rank == 2
        self.kernels.append((kernel, transposed))
        self.transposes.append((tf.transpose(kernel), transposed) if flat else (kernel, not transposed))

    def of_a_step(self, taps, xs):
        """What computes the products of one step of the loop, and with taps puts each x into its place in `xs`."""
        known_by = self._known_by()

        def compute(x, kernel, transposed, rows):
            j = self.numbers.get(known_by(x, kernel, transposed, rows))
            if j is None:
                return multiply(x, kernel, transposed, rows)
            if not taps:
                return multiply(x, *self.kernels[j])
            xs[j] = tf.stop_gradient(x)
            return self._tapped(j, x, taps[j])

        return compute

    def taps(self, time):
        return [_array(self._tap(j, time), time) for j in range(len(self.kernels))]

    def zeros(self):
        """The x of a step that takes none of the products."""
        return [tf.ensure_shape(tf.zeros(tf.shape(x), x.dtype), x.shape) for x in self.xs]

    def arrays(self, time):
        return arrays_like(self.xs, time)

    def _tapped(self, j, x, tap):
        kernel, transpose = ([tf.stop_gradient(k), how] for k, how in (self.kernels[j], self.transposes[j]))

        @tf.custom_gradient
        def y(x, tap):
            return multiply(x, *kernel), lambda dy: (multiply(*first_order([dy]), *transpose), dy)

        return y(x, tap)

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


def reader(nest, time):
    """A function from t to what the tensors `[time, batch, ...]` of `nest` hold at step t."""
    arrays = [_array(x, time) for x in tf.nest.flatten(nest)]
    return lambda t: tf.nest.pack_sequence_as(nest, [a.read(t) for a in arrays])


def _array(x, time):
    return tf.TensorArray(x.dtype, time).unstack(x)


def zeros_of_a_step(x):
    """What a step reads of `[time, batch, ...]`, all zeros."""
    return tf.ensure_shape(tf.zeros(tf.shape(x)[1:], x.dtype), x.shape[1:])


def arrays_like(values, time):
    """An empty array for each of a step's values."""
    return [tf.TensorArray(y.dtype, time, element_shape=y.shape) for y in values]


def write(arrays, t, values):
    """The arrays with the values of step t."""
    return [a.write(t, x) for a, x in zip(arrays, values, strict=True)]


def swap(x):
    """Swaps axes 0 and 1, batch and time."""
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def choose(condition, new, old):
    """The rows of the tensors `new` where the condition `[batch]` is true, those of `old` where it is not."""
    return [_where(condition, x, y) for x, y in zip(new, old, strict=True)]


def _where(condition, x, y):
    return tf.where(tf.reshape(condition, [-1] + [1] * (x.shape.rank - 1)), x, y)


def first_order(gradients):
    """The gradients themselves, whose own gradients raise `NotImplementedError`."""

    @tf.custom_gradient
    def same(*xs):
        def gradient(*_):
            raise NotImplementedError(
                "the gradient of a recurrent layer called with training=True has no gradient of its own; "
                "for second derivatives call the layer with training=False"
            )

        return [tf.identity(x) for x in xs], gradient

    return same(*gradients)
