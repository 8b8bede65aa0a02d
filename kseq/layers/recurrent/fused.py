"""The most used cells over a whole sequence, with custom gradients: the same equations, faster in training.

`unroll` differentiates any step, and pays for it: each operation of a step has its gradient inside the backward loop.
Here, what needs no state of a later step is computed for all steps at once, outside the backward loop, which is left
with a few multiplications and one product with a kernel.
"""

import abc

import tensorflow as tf

from kseq.layers.recurrent.cells import GRUCell, LSTMCell, RNNCell
from kseq.layers.recurrent.unroll import arrays_like, choose, first_order, reader, swap, write, zeros_of_a_step


class FusedStep(abc.ABC):
    """One step of a cell and its gradient. States and letters are those of the cell.

    Each gate has its part of W x + b as a tensor of its own: XLA does not vectorise a tensor that is split after an
    elementwise operation.
    """

    def __init__(self, cell):
        self.gates = cell.gates
        self.kernels = [cell.recurrent_kernel]

    @abc.abstractmethod
    def step(self, xs, states, kernels):
        """One step on W x + b of each gate: the new states, and what `factors` needs to know of it."""

    @abc.abstractmethod
    def factors(self, saved, before, after):
        """What `back` multiplies by, of what `step` saved and the states before and after, `[time, batch, …]` each."""

    @abc.abstractmethod
    def back(self, gradients, factors, turned):
        """One step backwards: what `totals` needs of it, and the gradients of the states before.

        Args:
            gradients: those of the states after.
            factors: of this step.
            turned: the kernels, transposed where they are matrices.
        """

    @abc.abstractmethod
    def totals(self, found, factors, saved, before):
        """The gradients of W x + b, all gates side by side, and of each of `kernels`, of what `back` found."""


class _RNN(FusedStep):
    def step(self, xs, states, kernels):
        [x], [h], [U] = xs, states, kernels
        return [tf.tanh(x + tf.matmul(h, U))], []

    def factors(self, saved, before, after):
        [h] = after
        return [1 - h * h]

    def back(self, gradients, factors, turned):
        [dh], [slope], [Uᵀ] = gradients, factors, turned
        d = dh * slope
        return [d], [tf.matmul(d, Uᵀ)]

    def totals(self, found, factors, saved, before):
        [d], [h] = found, before
        return d, [_outer(h, d)]


class _LSTM(FusedStep):
    def step(self, xs, states, kernels):
        [h, c], [U] = states, kernels
        i, f, c̃, o = (x + y for x, y in zip(xs, tf.split(tf.matmul(h, U), 4, axis=-1), strict=True))
        i, f, c̃, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(c̃), tf.sigmoid(o)
        c = f * c + i * c̃
        return [o * tf.tanh(c), c], [i, f, c̃, o]

    def factors(self, saved, before, after):
        [i, f, c̃, o], [_, c], [_, new] = saved, before, after
        t = tf.tanh(new)
        slopes = [c̃ * i * (1 - i), c * f * (1 - f), i * (1 - c̃ * c̃), t * o * (1 - o)]
        return [*slopes, o * (1 - t * t), f]

    def back(self, gradients, factors, turned):
        [dh, dc], [slope_i, slope_f, slope_c, slope_o, out, f], [Uᵀ] = gradients, factors, turned
        dc += dh * out
        d = tf.concat([dc * slope_i, dc * slope_f, dc * slope_c, dh * slope_o], axis=-1)
        return [d], [tf.matmul(d, Uᵀ), dc * f]

    def totals(self, found, factors, saved, before):
        [d], [h, _] = found, before
        return d, [_outer(h, d)]


class _GRU(FusedStep):
    """The reset gate before the product."""

    def __init__(self, cell):
        super().__init__(cell)
        self.kernels = [cell.recurrent_kernel, cell.candidate_kernel]

    def step(self, xs, states, kernels):
        [x_z, x_r, x_n], [h], [U_zr, U_n] = xs, states, kernels
        y_z, y_r = tf.split(tf.matmul(h, U_zr), 2, axis=-1)
        z, r = tf.sigmoid(x_z + y_z), tf.sigmoid(x_r + y_r)
        n = tf.tanh(x_n + tf.matmul(r * h, U_n))
        return [h + z * (n - h)], [z, r, n]

    def factors(self, saved, before, after):
        [z, r, n], [h] = saved, before
        return [(n - h) * z * (1 - z), h * r * (1 - r), z * (1 - n * n), r, 1 - z]

    def back(self, gradients, factors, turned):
        [dh], [slope_z, slope_r, slope_n, r, kept], [U_zrᵀ, U_nᵀ] = gradients, factors, turned
        dn = dh * slope_n
        dm = tf.matmul(dn, U_nᵀ)  # of r ∘ h
        dzr = tf.concat([dh * slope_z, dm * slope_r], axis=-1)
        return [dzr, dn], [tf.matmul(dzr, U_zrᵀ) + dm * r + dh * kept]

    def totals(self, found, factors, saved, before):
        [dzr, dn], [_, r, _], [h] = found, saved, before
        return tf.concat(found, axis=-1), [_outer(h, dzr), _outer(r * h, dn)]


class _GRUResetAfter(FusedStep):
    """The reset gate after the product, which is then one product for all gates."""

    def __init__(self, cell):
        super().__init__(cell)
        parts = [tf.convert_to_tensor(kernel) for kernel in (cell.recurrent_kernel, cell.candidate_kernel)]
        bias = cell.recurrent_bias
        self.kernels = [tf.concat(parts, axis=-1), tf.zeros([cell.units]) if bias is None else bias]

    def step(self, xs, states, kernels):
        [x_z, x_r, x_n], [h], [U, b] = xs, states, kernels
        y_z, y_r, y_n = tf.split(tf.matmul(h, U), 3, axis=-1)
        y_n += b
        z, r = tf.sigmoid(x_z + y_z), tf.sigmoid(x_r + y_r)
        n = tf.tanh(x_n + r * y_n)
        return [h + z * (n - h)], [z, r, n, y_n]

    def factors(self, saved, before, after):
        [z, r, n, y_n], [h] = saved, before
        slope_n = z * (1 - n * n)
        return [(n - h) * z * (1 - z), slope_n * y_n * r * (1 - r), slope_n * r, 1 - z, slope_n]

    def back(self, gradients, factors, turned):
        [dh], [slope_z, slope_r, slope_y, kept, _], [Uᵀ, _] = gradients, factors, turned
        d = tf.concat([dh * slope_z, dh * slope_r, dh * slope_y], axis=-1)
        return [d, dh], [tf.matmul(d, Uᵀ) + dh * kept]

    def totals(self, found, factors, saved, before):
        [d, dh], slope_n, [h] = found, factors[-1], before
        dz, dr, dy = tf.split(d, 3, axis=-1)
        return tf.concat([dz, dr, dh * slope_n], axis=-1), [_outer(h, d), tf.reduce_sum(dy, axis=[0, 1])]


_FUSED = {
    RNNCell: _RNN,
    LSTMCell: _LSTM,
    GRUCell: lambda cell: (_GRUResetAfter if cell.reset_after else _GRU)(cell),
}


def has_fused(cell):
    """Whether `run` can run the cell. A subclass may have other equations, so it cannot."""
    return type(cell) in _FUSED


def run(cell, inputs, states, mask=None, *, training=False):
    """`unroll` of the cell's step over `[batch, time, d]`: the outputs and the last states.

    With `training` the gradient is the custom one, and has no gradient itself. Without it, it is TensorFlow's.
    """
    fused, x = _FUSED[type(cell)](cell), cell.project(swap(inputs))
    mask = None if mask is None else swap(mask)
    loop = _Loop(fused, mask, len(states))
    kernels = [tf.cast(kernel, x.dtype) for kernel in fused.kernels]
    h, *last = (loop.differentiable if training else loop.plain)(x, *states, *kernels)
    if mask is not None:
        h = tf.where(mask[..., None], h, tf.zeros_like(h))
    return swap(h), last


class _Loop:
    """The forward and the backward loop of a `FusedStep`. Tensors are `[time, batch, …]`; `mask` is bool or None."""

    def __init__(self, fused, mask, states):
        self.fused, self.mask, self.states = fused, mask, states

    def plain(self, x, *rest):
        """h of all steps, and the last states."""
        [h], last = self._forward(x, rest, lambda after, saved: after[:1])
        return [h, *last]

    def differentiable(self, x, *rest):
        """The same with the custom gradient."""

        @tf.custom_gradient
        def results(x, *rest):
            stacks, last = self._forward(x, rest, lambda after, saved: [*after, *saved])
            after, saved = stacks[: self.states], stacks[self.states :]
            return [after[0], *last], lambda *gradients: self._backward(saved, after, rest, first_order(gradients))

        return results(x, *rest)

    def _forward(self, x, rest, kept):
        """What is kept of all steps, of the states after it and what the step saved; and the last states."""
        xs = tf.split(x, self.fused.gates, axis=-1)
        states, kernels = list(rest[: self.states]), rest[self.states :]
        time = tf.shape(x)[0]
        read, real = reader(xs, time), self._real(time)
        # One step on zeros tells types and shapes; in a graph it is pruned.
        after, saved = self.fused.step([zeros_of_a_step(x) for x in xs], states, kernels)
        states = [tf.ensure_shape(old, new.shape) for old, new in zip(states, after, strict=True)]

        def body(t, states, arrays):
            after, saved = self.fused.step(read(t), states, kernels)
            after = real(t, after, states)
            return t + 1, after, write(arrays, t, kept(after, saved))

        arrays = arrays_like(kept(after, saved), time)
        _, last, arrays = _for(time, body, (states, arrays))
        return [a.stack() for a in arrays], last

    def _backward(self, saved, after, rest, gradients):
        """The gradients of x and of each of `rest`."""
        states, kernels = rest[: self.states], rest[self.states :]
        dh, *last = gradients
        time = tf.shape(dh)[0]
        before = [tf.concat([first[None], x], axis=0)[:-1] for first, x in zip(states, after, strict=True)]
        factors = self.fused.factors(saved, before, after)
        if self.mask is not None:
            factors = [tf.where(self.mask[..., None], x, tf.zeros_like(x)) for x in factors]
        turned = [tf.transpose(k) if k.shape.rank == 2 else k for k in kernels]
        read, real = reader([dh, *factors], time), self._real(time)

        def body(k, gradients, arrays):
            t = time - 1 - k
            dh, *of_step = read(t)
            gradients = [gradients[0] + dh, *gradients[1:]]
            found, before = self.fused.back(gradients, of_step, turned)
            return k + 1, real(t, before, gradients), write(arrays, t, found)

        found, _ = self.fused.back(last, [zeros_of_a_step(x) for x in factors], turned)
        _, first, arrays = _for(time, body, (last, arrays_like(found, time)))
        dx, totals = self.fused.totals([a.stack() for a in arrays], factors, saved, before)
        return [dx, *first, *totals]

    def _real(self, time):
        """A function of t, new and old: the new where step t of a row is real, the old where it is not."""
        if self.mask is None:
            return lambda t, new, old: new
        on = reader(self.mask, time)
        return lambda t, new, old: choose(on(t), new, old)


def _for(time, body, loop):
    # The bound is what lets XLA size the stacks.
    return tf.while_loop(lambda t, *_: t < time, body, (tf.constant(0), *loop), maximum_iterations=time)


def _outer(x, d):
    """Σ_t x_tᵀ d_t over all steps of all rows."""
    return tf.matmul(*(tf.reshape(y, [-1, y.shape[-1]]) for y in (x, d)), transpose_a=True)
