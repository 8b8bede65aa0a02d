"""What `model.export()` writes can be asked with integer ids, by name, in any batch and length."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import UNITS, tiny_backbone
from kseq.layers import (
    BahdanauAttention,
    Bidirectional,
    DenseBridge,
    GRUCell,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    Recurrent,
)
from kseq.models import (
    Encoded,
    ImageEncoder,
    PairClassifier,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
    TextEncoder,
)

IDS, MORE = np.array([[5, 6, 4], [7, 0, 0]]), np.array([[5, 6, 4, 3, 2], [7, 1, 0, 0, 0], [8, 8, 8, 0, 0]])


def reader():
    return Recurrent(GRUCell(UNITS), return_state=True)


def encoder():
    return TextEncoder(11, reader(), embedding_size=4)


@keras.saving.register_keras_serializable("tests")
class Frames(keras.layers.Layer):
    """An encoder of one's own, over frames of sound."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(UNITS)

    def call(self, source):
        memory = self.dense(source)
        return Encoded(memory, tf.ones(tf.shape(memory)[:2], bool), [tf.reduce_mean(memory, axis=1)])


def seq2seq(encoder):
    decoder = LuongDecoder(GRUCell(UNITS), BahdanauAttention(UNITS))
    return Seq2Seq(encoder, DenseBridge([UNITS]), decoder, 11, embedding_size=4)


FRAMES = np.random.default_rng(0).normal(size=(3, 7, 5)).astype("float32")
PICTURES = np.random.default_rng(0).uniform(0, 255, size=(3, 8, 8, 3)).astype("float32")

MODELS = {
    "classifier": (lambda: SequenceClassifier(encoder(), 3), IDS, {"source": MORE}),
    "tagger": (lambda: SequenceTagger(encoder(), 3, classes=2), IDS, {"source": MORE}),
    "pair": (
        lambda: PairClassifier(encoder(), reader(), 3),
        {"premise": IDS, "hypothesis": IDS[:, :2]},
        {"premise": MORE, "hypothesis": MORE[:, ::-1][:, :4]},
    ),
    "seq2seq": (
        lambda: seq2seq(encoder()),
        {"source": IDS, "tokens": IDS[:, :2], "sampling": np.zeros(2, "float32")},
        {"source": MORE, "tokens": MORE[:, :4]},
    ),
    "pictures": (
        lambda: seq2seq(ImageEncoder(tiny_backbone(), UNITS)),
        {"source": PICTURES[:2], "tokens": IDS},
        {"source": PICTURES, "tokens": MORE},
    ),
    "own encoder": (
        lambda: seq2seq(Frames()),
        {"source": FRAMES[:2], "tokens": IDS},
        {"source": FRAMES, "tokens": MORE},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_is_asked_by_name_with_ids(name, tmp_path):
    make, first, inputs = MODELS[name]
    model = make()
    model(first)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    specs = served.structured_input_signature[1]
    assert set(specs) == set(inputs)
    for key, x in inputs.items():
        assert specs[key].dtype == ("int32" if x.dtype.kind == "i" else "float32") and specs[key].shape[0] is None
    answer = served(**{key: tf.constant(x, specs[key].dtype) for key, x in inputs.items()})
    want = model(inputs if isinstance(first, dict) else inputs["source"])
    want = want if isinstance(want, dict) else {"output_0": want}
    assert set(answer) == set(want)
    for key, logits in want.items():
        np.testing.assert_allclose(answer[key], logits, atol=1e-5)


@pytest.mark.slow
def test_so_is_one_that_was_saved_and_loaded(tmp_path):
    model = SequenceClassifier(TextEncoder(11, Bidirectional(reader()), embedding_size=4), 3)
    want = model(IDS)
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras").export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served").signatures["serving_default"]
    np.testing.assert_allclose(served(source=tf.constant(IDS, tf.int32))["output_0"], want, atol=1e-5)


@pytest.mark.slow
def test_a_signature_of_ones_own_is_taken(tmp_path):
    model = SequenceClassifier(encoder(), 3)
    model(IDS)
    model.export(
        tmp_path / "a", verbose=False, input_signature=[keras.InputSpec(shape=(1, 3), dtype="int64", name="ids")]
    )
    served = tf.saved_model.load(tmp_path / "a").signatures["serving_default"]
    assert served.structured_input_signature[1] == {"ids": tf.TensorSpec((1, 3), tf.int64, "ids")}


def test_a_model_that_was_never_called_says_so(tmp_path):
    with pytest.raises(ValueError, match="has not yet been built"):
        SequenceClassifier(encoder(), 3).export(tmp_path / "a", verbose=False)


CELL = LSTMCell(4)
DECODER = LuongDecoder(CELL, LuongAttention())


def wrong(make, message):
    return pytest.param(make, message, id=message[:40])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        wrong(lambda: seq2seq("text"), r"encoder must be a layer from a source to Encoded, such as TextEncoder"),
        wrong(
            lambda: Seq2Seq(encoder(), None, DECODER, 11, embedding_size=4),
            r"bridge must be a layer such as DenseBridge\(cell.state_size\), got None",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DECODER, DenseBridge([4, 4]), 11, embedding_size=4),
            r"decoder must be a decoder such as LuongDecoder\(cell, attention\), got <DenseBridge",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DenseBridge([4]), DECODER, 11, embedding_size=4),
            r"the bridge makes states of the sizes \[4\], but the decoder's cell has \[4, 4\]",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DenseBridge([4, 4]), DECODER, "many", embedding_size=4),
            r"vocabulary_size must be a positive whole number, got 'many'",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DenseBridge([4, 4]), DECODER, 11, embedding_size=0),
            r"embedding_size must be a positive whole number, got 0",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DenseBridge([4, 4]), DECODER, 11, embedding_size=4, dropout=1),
            r"dropout must be at least 0 and less than 1, got 1",
        ),
        wrong(
            lambda: Seq2Seq(encoder(), DenseBridge([4, 4]), DECODER, 11, embedding_size=4, alignment_penalty=-1),
            r"alignment_penalty must not be negative, got -1",
        ),
        wrong(lambda: TextEncoder(reader(), 11, embedding_size=4), r"layer must be a layer from a sequence to a seq"),
        wrong(lambda: TextEncoder(0, reader(), embedding_size=4), r"vocabulary_size must be a positive whole number"),
        wrong(lambda: TextEncoder(9, reader(), embedding_size=-4), r"embedding_size must be a positive whole number"),
        wrong(lambda: TextEncoder(9, reader(), embedding_size=4, word_dropout=2), r"word_dropout must be at least 0"),
        wrong(
            lambda: TextEncoder(9, keras.layers.GRU(4, name="last"), embedding_size=4),
            r"layer must return a sequence, got last with return_sequences=False",
        ),
        wrong(lambda: ImageEncoder("ResNet50", 4), r"backbone must be a keras.Model from pictures to a feature map"),
        wrong(lambda: ImageEncoder(None, "4"), r"units must be a positive whole number, got '4'"),
        wrong(lambda: SequenceClassifier(3, encoder()), r"encoder must be a layer from a source to Encoded.*, got 3"),
        wrong(lambda: SequenceClassifier(encoder(), 0), r"classes must be a positive whole number, got 0"),
        wrong(lambda: SequenceClassifier(encoder(), 2, units=0), r"units must be a positive whole number, got 0"),
        wrong(lambda: SequenceClassifier(encoder(), 2, dropout=-1), r"dropout must be at least 0 and less than 1"),
        wrong(lambda: SequenceTagger(encoder(), 1.5), r"tags must be a positive whole number, got 1.5"),
        wrong(lambda: SequenceTagger(encoder(), 3, classes=-1), r"classes must be a positive whole number, got -1"),
        wrong(lambda: SequenceTagger(encoder(), 3, pooling="sum"), r"pooling must be one of attention, mean, max, l"),
        wrong(lambda: PairClassifier(Frames(), reader(), 3), r"encoder must be a TextEncoder, got <Frames"),
        wrong(lambda: PairClassifier(encoder(), 3, reader()), r"layer must be a layer such as the encoder's"),
    ],
)
def test_a_constructor_says_at_once_what_it_cannot_take(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_an_encoder_that_returns_something_else_is_named():
    model = SequenceClassifier(keras.layers.Embedding(9, 4, name="words"), 3)
    with pytest.raises(TypeError, match=r"the encoder words must return kseq.models.Encoded\(memory, memory_mask"):
        model(IDS)
