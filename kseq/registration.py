"""Lets Keras find the classes of kseq in a `.keras` file without importing any of them before a file names one.

Keras looks up a class of a file by its registered name, such as "kseq>Seq2Seq", which is there once the class has been
imported. `import kseq` imports none. So when Keras is imported, before or after kseq, a stand-in is registered for each
class; asked to make an object, it imports the class, which takes its place.
"""

import importlib
import importlib.abc
import sys
from importlib.machinery import PathFinder

CLASSES = {
    "kseq.layers": (
        "BahdanauAttention",
        "BahdanauDecoder",
        "Bidirectional",
        "ConcatAttention",
        "CopyBridge",
        "CoverageAttention",
        "DenseBridge",
        "DotAttention",
        "Dropout",
        "FixedContextDecoder",
        "GRUCell",
        "HardAttention",
        "KerasCell",
        "LSTMCell",
        "LayerNormGRUCell",
        "LayerNormLSTMCell",
        "LocalAttention",
        "LocationAttention",
        "LogMel",
        "LuongAttention",
        "LuongDecoder",
        "LuongMonotonicAttention",
        "MonotonicAttention",
        "MutualAttention",
        "NormalizedBahdanauAttention",
        "PeepholeLSTMCell",
        "PointerGenerator",
        "PoolingAttention",
        "RNNCell",
        "Recurrent",
        "ScaledLuongAttention",
        "SpecAugment",
        "Stack",
        "StackedCell",
        "WarpFrames",
        "WordByWordAttention",
        "ZeroBridge",
    ),
    "kseq.losses": ("RollCrossentropy", "TokenCrossentropy"),
    "kseq.models": (
        "ImageEncoder",
        "PairClassifier",
        "PianoRollModel",
        "PretrainedEncoder",
        "Seq2Seq",
        "SequenceClassifier",
        "SequenceTagger",
        "SpeechEncoder",
        "TextEncoder",
        "VectorEncoder",
    ),
    "kseq.models.classifier": ("Pooling",),
    "kseq.models.encoders": ("ApplicationPixels",),
    "kseq.models.pianoroll": ("KeyChain",),
    "kseq.preprocessors": (
        "ByteTokenizer",
        "CaptionTokenizer",
        "CharacterTokenizer",
        "SpaceTokenizer",
        "SubwordTokenizer",
        "TextPreprocessor",
        "WordTokenizer",
    ),
}


def register():
    """Registers a stand-in for each class of `CLASSES` that has not been imported yet. Keras has been."""
    objects = sys.modules["keras"].saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names:
            objects.setdefault(f"kseq>{name}", _StandIn(module, name))


def register_once_keras_is_imported():
    """Calls `register` now, or as soon as Keras has been imported."""
    if hasattr(sys.modules.get("keras"), "saving"):
        register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _StandIn:
    """Has what Keras asks of a class, `from_config`, and imports the class when it is called."""

    def __init__(self, module, name):
        self.module = module
        self.name = name

    def from_config(self, config):
        return getattr(importlib.import_module(self.module), self.name).from_config(config)


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras where Python would, and calls `register` once it has been imported."""

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == "keras" else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._followed_by_register(spec.loader.exec_module)
        return spec

    def _followed_by_register(self, exec_module):
        def run(module):
            exec_module(module)
            sys.meta_path.remove(self)
            register()

        return run
