"""Another backend of Keras ends in a sentence."""

import importlib
import os
import subprocess
import sys

import keras
import pytest

from kseq.layers import backend

REMEDY = "kseq needs TensorFlow: set the environment variable KERAS_BACKEND=tensorflow before Keras is imported"


@pytest.mark.parametrize("package", ["layers", "models"])
def test_a_backend_that_is_not_installed_is_named(package):
    """In a process of its own."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", f"import kseq.{package}"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    *_, last = process.stderr.strip().splitlines()
    assert process.returncode == 1
    assert last.startswith("ImportError: Keras ") and last.endswith(REMEDY)


def test_a_backend_that_is_installed_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ImportError, match=f"^Keras runs on the backend 'torch'. {REMEDY}$"):
        importlib.reload(backend)
