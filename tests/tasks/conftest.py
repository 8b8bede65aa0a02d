"""What all tests of tasks need."""

import importlib

import keras
import pytest
from tensorflow.python.framework.config import disable_op_determinism

import kseq


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Runs of tests whose config names no cache share one that goes with them."""
    folder, made = tmp_path_factory.mktemp("cache"), kseq.data.cached_folder

    def cached_folder(where, *rest):
        return made(folder if str(where) == "runs/cache" else where, *rest)

    with pytest.MonkeyPatch.context() as patch:
        for module in (kseq.data, importlib.import_module("kseq.data.cache")):
            patch.setattr(module, "cached_folder", cached_folder)
        yield


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    """What a run sets for its process; Keras refuses XLA where operations are asked to be deterministic."""
    yield
    keras.config.set_dtype_policy("float32")
    disable_op_determinism()
