"""Checks of what the constructors of the models are given."""

import keras


def check_layer(name, value, expected, kind=keras.layers.Layer):
    """Returns `value` if it is a layer of the given kind, else raises `ValueError`, which says what is expected."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return value


def check_bridge(bridge, decoder):
    """Raises `ValueError` if the bridge makes states of other sizes than those of the decoder's cell."""
    makes = list(getattr(bridge, "state_size", decoder.cell.state_size))
    if makes != list(decoder.cell.state_size):
        raise ValueError(
            f"the bridge makes states of the sizes {makes}, but the decoder's cell has "
            f"{list(decoder.cell.state_size)}; give the bridge cell.state_size"
        )


def check_vocabulary(encoder, size):
    """Raises `ValueError` if the encoder has no vocabulary of this size."""
    known = getattr(encoder, "vocabulary_size", None)
    if known != size:
        raise ValueError(
            f"max_oov_words needs an encoder with the same vocabulary of {size} tokens, such as a TextEncoder; "
            f"{encoder.name} has {known}"
        )
