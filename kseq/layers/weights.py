"""Initializers, regularizers and constraints of a layer's weights, named as in Keras."""

import keras


class Kernels(keras.layers.Layer):
    """A layer whose kernels can be initialized, regularized and constrained.

    Args:
        kernel_initializer: of the kernels, each of which is drawn anew.
        kernel_regularizer: of the kernels.
        kernel_constraint: of the kernels.
    """

    def __init__(
        self,
        *args,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.kernel_initializer = resolved(kernel_initializer, "glorot_uniform")
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)

    def add_kernel(self, shape, name, initializer=None, **kwargs):
        """A new weight with the options of a kernel, and `initializer` in place of theirs where it is given."""
        initializer = self.kernel_initializer if initializer is None else initializer
        # One initializer draws the same values each time that it is called.
        initializer = initializer.clone() if isinstance(initializer, keras.Initializer) else initializer
        options = {"regularizer": self.kernel_regularizer, "constraint": self.kernel_constraint}
        return self.add_weight(shape, initializer, name=name, **options, **kwargs)

    def get_config(self):
        return super().get_config() | {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
        }


class Biases(keras.layers.Layer):
    """A layer whose biases can be initialized, regularized, constrained, or left out.

    Args:
        use_bias: whether there are biases.
        bias_initializer: of the biases.
        bias_regularizer: of the biases.
        bias_constraint: of the biases.
    """

    def __init__(
        self,
        *args,
        use_bias=True,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.use_bias = bool(use_bias)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def add_bias(self, shape, name, **kwargs):
        """A new weight with the options of a bias; None without `use_bias`."""
        if not self.use_bias:
            return None
        options = {"regularizer": self.bias_regularizer, "constraint": self.bias_constraint}
        return self.add_weight(shape, self.bias_initializer, name=name, **options, **kwargs)

    def get_config(self):
        return super().get_config() | {
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


def resolved(initializer, default):
    """The initializer that is meant; the default by its name.

    An initializer draws its seed when it is made. The default is made with the weight, so that the first weights of
    a program depend on the order in which its weights are made, not its layers.
    """
    return initializer if initializer == default else keras.initializers.get(initializer)
