"""Refuses Keras' other backends with a sentence, before anything of them is met."""

_REMEDY = "kseq needs TensorFlow: set the environment variable KERAS_BACKEND=tensorflow before Keras is imported"

try:
    import keras
except ModuleNotFoundError as error:  # the package of the backend that is asked for
    raise ImportError(f"Keras cannot be imported ({error}). {_REMEDY}") from error

if keras.config.backend() != "tensorflow":
    raise ImportError(f"Keras runs on the backend {keras.config.backend()!r}. {_REMEDY}")
