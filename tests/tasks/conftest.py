"""What all tests of tasks need."""

import keras
import pytest
from tensorflow.python.framework.config import disable_op_determinism


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    """What a run sets for its process; Keras refuses XLA where operations are asked to be deterministic."""
    yield
    keras.config.set_dtype_policy("float32")
    disable_op_determinism()
