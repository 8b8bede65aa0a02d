"""Models build all of their weights from the shapes of their inputs."""

import keras
import numpy as np
import pytest

from kseq.layers import (
    BahdanauAttention,
    BahdanauDecoder,
    Bidirectional,
    DenseBridge,
    GRUCell,
    LSTMCell,
    Recurrent,
    SpecAugment,
)
from kseq.losses import TokenCrossentropy
from kseq.models import (
    Encoded,
    ImageEncoder,
    PairClassifier,
    PianoRollModel,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
    SpeechEncoder,
    TextEncoder,
    VectorEncoder,
    small_cnn,
)
from kseq.models.classifier import POOLINGS
from kseq.models.encoders import build_encoder

IDS = np.array([[4, 5, 6, 7], [8, 3, 0, 0]], "int32")
FRAMES = np.ones((2, 7, 3), "float32")
PICTURES = np.ones((2, 16, 16, 3), "float32")
PAIR = {"premise": IDS, "hypothesis": IDS[:, :3]}


def birnn(units=2):
    return Bidirectional(Recurrent(GRUCell(units), return_state=True))


def text(layer=None):
    return TextEncoder(9, layer or birnn(), embedding_size=3, dropout=0.1, word_dropout=0.1)


def seq2seq(encoder, **options):
    cell = LSTMCell(4)
    return Seq2Seq(
        encoder,
        DenseBridge(cell.state_size),
        BahdanauDecoder(cell, BahdanauAttention(3), gate=True, deep_output=True),
        9,
        embedding_size=5,
        dropout=0.1,
        **options,
    )


class NoSpec(keras.layers.Layer):
    """An encoder without `compute_output_spec`."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Embedding(9, 4)

    def call(self, source, training=None):
        memory = self.inner(source)
        return Encoded(memory, source != 0, [keras.ops.max(memory, axis=1)])


class Wider(TextEncoder):
    """Inherits a `compute_output_spec` that no longer fits what it returns."""

    def call(self, source, training=None):
        memory, mask, state = super().call(source, training=training)
        return Encoded(keras.ops.concatenate([memory, memory], axis=-1), mask, state)


class Scale(keras.layers.Layer):
    """A layer without `compute_output_shape`."""

    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), "ones")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("tests")
class OwnBridge(keras.layers.Layer):
    """A bridge without `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4)
        self.state_size = [4, 4]

    def call(self, states):
        return [self.dense(keras.ops.concatenate(states, axis=-1))] * 2


ENCODERS = {
    "text": (text, IDS),
    "convolution": (lambda: text(keras.layers.Conv1D(4, 3, padding="same")), IDS),
    "keras": (lambda: text(keras.layers.LSTM(4, return_sequences=True, return_state=True)), IDS),
    "speech": (lambda: SpeechEncoder(birnn(), 4, dropout=0.1, augment=SpecAugment(1, frequency_width=1)), FRAMES),
    "own layer": (lambda: SpeechEncoder(Scale(), 4), FRAMES),
    "features": (lambda: ImageEncoder(None, 4), FRAMES),
    "image": (lambda: ImageEncoder(small_cnn(16, (2, 3, 4)), 4), PICTURES),
    "vector": (VectorEncoder, FRAMES),
}
MODELS = {
    "aligned": lambda: (seq2seq(text(), aligned=True), IDS),
    "pointer": lambda: (seq2seq(text(), max_oov_words=2), IDS),
    "ctc": lambda: (seq2seq(text(), ctc_weight=0.3), IDS),
    "own": lambda: (seq2seq(NoSpec()), IDS),
    **{f"seq2seq-{name}": lambda make=make, x=x: (seq2seq(make()), x) for name, (make, x) in ENCODERS.items()},
    **{f"classifier-{x}": lambda x=x: (SequenceClassifier(text(), 3, pooling=x), IDS) for x in POOLINGS},
    "tagger": lambda: (SequenceTagger(text(), 4, classes=2, pooling="last"), IDS),
    "tagger-own": lambda: (SequenceTagger(NoSpec(), 4, classes=2), IDS),
    **{
        f"pair-{kind}": lambda kind=kind: (
            PairClassifier(text(), None if kind == "mutual" else birnn(), 3, attention=kind),
            PAIR,
        )
        for kind in ("none", "last", "word", "mutual")
    },
    "pair-own": lambda: (PairClassifier(Wider(9, birnn(), embedding_size=3), birnn(), 3), PAIR),
    "wider": lambda: (seq2seq(Wider(9, birnn(), embedding_size=3)), IDS),
    "sequential": lambda: (seq2seq(ImageEncoder(keras.Sequential([keras.layers.Conv2D(4, 3)]), 4)), PICTURES),
    "piano": lambda: (
        PianoRollModel([GRUCell(3), LSTMCell(2)], keys=3, chained=True),
        {"vector": FRAMES[:, 0], "roll": FRAMES},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_call_adds_no_weight_to_those_that_were_built(name):
    model, inputs = MODELS[name]()
    inputs = {"source": inputs, "tokens": IDS[:, :3]} if isinstance(model, Seq2Seq) else inputs
    shapes = keras.tree.map_structure(lambda x: x.shape, inputs)
    model.build(shapes)
    built = [*model.weights]
    model(inputs)
    assert [id(weight) for weight in model.weights] == [id(weight) for weight in built]


def described(encoded):
    memory, mask, state = encoded
    parts = [memory, mask, *state]
    return [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in parts]


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_says_what_it_makes(name):
    make, source = ENCODERS[name]
    encoder = make()
    said = described(build_encoder(encoder, source.shape))
    made = described(encoder(source))
    assert said == made
    assert described(encoder(keras.Input(source.shape[1:], batch_size=2))) == made


def test_what_an_encoder_inherits_is_not_believed():
    assert build_encoder(NoSpec(), (2, 4)) is None
    assert build_encoder(Wider(9, birnn(), embedding_size=3), (2, 4)) is None


@pytest.mark.filterwarnings("ignore:`build..` was called on layer")  # Keras', of the bridge
def test_a_file_of_a_model_with_a_bridge_of_ones_own_is_loaded(tmp_path):
    cell = LSTMCell(4)
    model = Seq2Seq(text(), OwnBridge(), BahdanauDecoder(cell, BahdanauAttention(3)), 9, embedding_size=5)
    model.compile(keras.optimizers.Adam(), TokenCrossentropy())
    inputs = {"source": IDS, "tokens": IDS}
    model.fit(inputs, IDS, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(inputs), model(inputs))
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
