"""What all tests of tasks need."""

import importlib

import keras
import pytest
from tensorflow.python.framework.config import disable_op_determinism

import kseq


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Runs of tests whose config names no cache share one that goes with them."""
    folder = tmp_path_factory.mktemp("cache")

    def there(function):
        def called(where, *rest, **options):
            return function(folder if str(where) == "runs/cache" else where, *rest, **options)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for name, part in (("cached_folder", "cache"), ("cached_shards", "shards")):
            module = importlib.import_module(f"kseq.data.{part}")
            patch.setattr(module, name, there(getattr(module, name)))
            patch.setattr(kseq.data, name, getattr(module, name), raising=False)
        yield


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    """What a run sets for its process; Keras refuses XLA where operations are asked to be deterministic."""
    yield
    keras.config.set_dtype_policy("float32")
    disable_op_determinism()
