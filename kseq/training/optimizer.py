"""Adam that clips gradients by their global norm and keeps an average of the weights. Its schedule is in `fit`."""

import contextlib

import keras
import tensorflow as tf
from keras import ops


class ClippedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980) that clips gradients by their global norm.

        g ← g · min(1, clip_norm / ‖g‖)

    The variable `gradient_norm` holds ‖g‖ of the last step, before clipping, for whoever watches the run.

    With `average` it also keeps a moving average of the weights that are trained (after Polyak and Juditsky, 1992,
    https://doi.org/10.1137/0330046, who take the mean of all). At step t = 0, 1, …

        θ̄ ← d θ̄ + (1 − d) θ,  d = min(average, t / (t + 9))

    With Keras' `gradient_accumulation_steps` = k, a step is taken after k calls, by the mean of their gradients: that
    mean is clipped, and t counts steps. On several devices, a gradient is the sum of theirs.

    Args:
        learning_rate: a number.
        clip_norm: largest norm of all gradients together.
        average: largest decay of the moving average; 0 keeps none.
        scales: for each variable that is trained, in their order, what its learning rate is multiplied by; none is 1
            for all.

    Raises:
        ValueError: there are other than as many scales as variables.
    """

    def __init__(self, learning_rate=0.001, clip_norm=5.0, average=0.0, *, scales=(), **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.clip_norm = clip_norm
        self.average = average
        self.scales = tuple(scales)

    def build(self, variables):
        if self.scales and len(self.scales) != len(variables):
            raise ValueError(f"scales must be one for each of the {len(variables)} variables, got {len(self.scales)}")
        super().build(variables)
        self.gradient_norm = self.add_variable(shape=(), initializer="zeros", name="gradient_norm")
        # They start as the weights: a step that float16 throws away must not leave zeros to validate.
        self.averages = [
            self.add_variable_from_reference(v, name="average", initializer=lambda *_, v=v, **__: ops.copy(v))
            for v in variables
            if self.average
        ]

    def apply(self, grads, trainable_variables=None):
        grads = [tf.convert_to_tensor(g) for g in grads]  # the gradient of an embedding comes as slices
        if not self.built:
            self.build(trainable_variables)
        t = ops.cast(self.iterations, "float32")
        super().apply(grads, trainable_variables)
        decay = ops.minimum(self.average, t / (t + 9))
        if self.gradient_accumulation_steps:  # between two steps the average stays
            decay = ops.where(ops.cast(self.iterations, "float32") > t, decay, 1.0)
        for mean, variable in zip(self.averages, self._trainable_variables, strict=False):
            mean.assign(decay * mean + (1 - decay) * variable)

    # Keras accumulates and clips the gradients of each replica of a strategy before it adds them up. Here the sum comes
    # first: all replicas then do the same to their copies of the variables, without asking each other, which Keras does
    # where TensorFlow does not allow it (in a branch that depends on the step).

    def _backend_apply_gradients(self, grads, trainable_variables):
        summed = self._all_reduce_sum_gradients(zip(grads, trainable_variables, strict=True))
        super()._backend_apply_gradients([g for g, _ in summed], trainable_variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads))
        self.gradient_norm.assign(norm)
        scale = ops.minimum(1.0, self.clip_norm / ops.maximum(norm, 1e-12))
        for grad, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(grad * ops.cast(scale, grad.dtype), variable, learning_rate)

    def _backend_increment_gradient_accumulators(self, grads, acc_grads):
        for grad, total in zip(grads, acc_grads, strict=True):
            total.assign(total + grad)

    def update_step(self, gradient, variable, learning_rate):
        # A step of Adam is its learning rate times what the rate has no part in.
        scale = self.scales[self._get_variable_index(variable)] if self.scales else 1.0
        super().update_step(gradient, variable, learning_rate * scale)

    @contextlib.contextmanager
    def averaged(self):
        """While it is open, the weights are their moving average, where one is kept."""
        pairs = list(zip(self.averages, self._trainable_variables, strict=False))
        trained = [ops.convert_to_numpy(variable) for _, variable in pairs]
        for mean, variable in pairs:
            variable.assign(mean)
        try:
            yield
        finally:
            for (_, variable), value in zip(pairs, trained, strict=True):
                variable.assign(value)

    def get_config(self):
        options = {"clip_norm": self.clip_norm, "average": self.average, "scales": self.scales}
        return super().get_config() | options


class SharedLossScale(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scale for float16, on several devices the same on all.

    A step is thrown away, and the scale halved, when the gradient of any device is not finite. Keras asks the first
    device of each process alone.
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return finite
        bad = ops.cast(ops.logical_not(finite), "float32")
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, bad) == 0
