"""Recurrent sequence models with attention on Keras 3 and TensorFlow.

`import kseq` is light: its parts, and TensorFlow with them, are imported when they are first named.
"""

import importlib

__version__ = "0.1.0"
__all__ = [
    "checkpoints",
    "data",
    "export",
    "files",
    "layers",
    "losses",
    "metrics",
    "models",
    "plots",
    "preprocessors",
    "runs",
    "samplers",
    "training",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"kseq.{name}")
    raise AttributeError(f"module 'kseq' has no attribute {name!r}; it has {', '.join(__all__)}")
