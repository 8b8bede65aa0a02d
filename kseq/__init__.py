"""Recurrent sequence models with attention on Keras 3 and TensorFlow.

    kseq.load           a trained run, or an exported folder, that answers raw examples
    kseq.layers         cells, recurrent layers, attention, decoders, bridges
    kseq.models         encoders, Seq2Seq, SequenceClassifier, SequenceTagger, PairClassifier
    kseq.samplers       greedy, random and beam search, constraints, ensembles, Viterbi decoding
    kseq.losses         token cross-entropy
    kseq.preprocessors  text and pictures to tensors, and tensors to text
    kseq.data           sources of examples, corpora, batches, generated data
    kseq.training       fit, optimizer, callbacks
    kseq.checkpoints    weights in files
    kseq.runs           the folder of a run
    kseq.metrics        scores of texts, labels, tags and alignments
    kseq.plots          pictures of attention, gates and gradients
    kseq.export         SavedModels
    kseq.quantization   weights in fewer bytes
    kseq.lite           TFLite files
    kseq.files          files that are written whole or not at all

`import kseq` is light: a part, and TensorFlow with it, is imported when it is first named. With it alone Keras loads a
`.keras` file that was made of these parts: `import keras, kseq`, then `keras.saving.load_model(path)`.
"""

import importlib
from typing import TYPE_CHECKING

from kseq.registration import register_once_keras_is_imported

if TYPE_CHECKING:
    from kseq import (
        checkpoints,
        data,
        export,
        files,
        layers,
        lite,
        losses,
        metrics,
        models,
        plots,
        preprocessors,
        quantization,
        runs,
        samplers,
        training,
    )
    from kseq.runs import load

__version__ = "0.1.0"
__all__ = [
    "checkpoints",
    "data",
    "export",
    "files",
    "layers",
    "lite",
    "load",
    "losses",
    "metrics",
    "models",
    "plots",
    "preprocessors",
    "quantization",
    "runs",
    "samplers",
    "training",
]

register_once_keras_is_imported()


def __getattr__(name):
    if name == "load":
        return importlib.import_module("kseq.runs").load
    if name in __all__:
        return importlib.import_module(f"kseq.{name}")
    raise AttributeError(f"module 'kseq' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*__all__, "__version__"]
