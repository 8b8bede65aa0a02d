"""Random numbers for training that are as fast under XLA on a CPU as without XLA.

Keras leaves the choice of the generator to TensorFlow, which under XLA takes one a hundred times slower
(`benchmarks/dropout.py`). With XLA, a seed gives other numbers than without.
"""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.functional import check_fraction


def uniform(shape, generator):
    """Uniform in [0, 1): float32 `shape`, from a `keras.random.SeedGenerator`."""
    return tf.random.stateless_uniform(shape, _seed(generator), alg="philox")


def normal(shape, generator):
    """Standard normal: float32 `shape`, from a `keras.random.SeedGenerator`."""
    return tf.random.stateless_normal(shape, _seed(generator), alg="philox")


def categorical(logits, generator):
    """A sample from softmax(logits) by the Gumbel-max trick: `[..., classes]` → int32 `[...]`."""
    spread = -ops.log(-ops.log(uniform(ops.shape(logits), generator) + 1e-9))
    return ops.argmax(ops.cast(logits, "float32") + spread, axis=-1)


def dropout(x, rate, generator):
    """Each value is 0 with the probability `rate`, and else x / (1 − rate)."""
    kept = uniform(ops.shape(x), generator) >= rate
    return ops.where(kept, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros_like(x))


@keras.saving.register_keras_serializable("kseq")
class Dropout(keras.layers.Layer):
    """Sets values to 0 at random in training and scales the others up (Srivastava et al., 2014,
    https://jmlr.org/papers/v15/srivastava14a.html, section 4). It does what `keras.layers.Dropout` does, and is as fast
    under XLA on a CPU as without XLA.

        y = m ∘ x / (1 − rate),  m Bernoulli(1 − rate)

    Args:
        rate: fraction of the values to drop.
        seed: of the random numbers.

    Call arguments:
        inputs: tensor of any shape.

    Raises:
        ValueError: rate is not at least 0 and less than 1.
    """

    def __init__(self, rate, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_fraction("rate", rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, inputs_shape):
        pass

    def call(self, inputs, training=None):
        return dropout(inputs, self.rate, self.seed_generator) if training and self.rate else inputs

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return super().get_config() | {"rate": self.rate, "seed": self.seed}


def _seed(generator):
    return tf.cast(generator.next(), tf.int32)
