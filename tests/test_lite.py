"""TFLite files: the greedy search that TFLite can run, and that a file writes what it writes in TensorFlow."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq import lite
from kseq.config import load
from kseq.errors import UserError
from kseq.samplers import Constraints, Greedy, compiled
from kseq.tasks.classify import Classify
from kseq.tasks.generation import check_length
from kseq.tasks.transcribe import Transcribe
from kseq.tasks.translate import Translate

LENGTH, MOST = 6, 7
ENDS = {"start": 1, "end": 2}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_greedy_search_is_that_of_the_samplers(seed):
    """Oracle: `kseq.samplers.Greedy`, on a random table of logits whose end becomes likelier with each step."""
    table = np.random.default_rng(seed).normal(size=(9, 9)).astype("float32")

    def step(tokens, states, memory):
        [t] = states
        bonus = tf.one_hot(2, 9) * tf.cast(t, tf.float32)[:, None] * memory
        return tf.gather(table, tokens) + bonus, [t + 1], tf.zeros([1, 1])

    for growth in (0.0, 0.5, 9.0):  # never, sooner or later, soon
        options = {**ENDS, "max_length": MOST}
        found = lite.greedy(step, [tf.constant([0])], growth, **options)
        want = Greedy()(step, [tf.constant([0])], growth, **options)
        np.testing.assert_array_equal(found["ids"], want.ids[:, 0])
        np.testing.assert_array_equal(found["length"], want.lengths[:, 0])
        np.testing.assert_allclose(found["score"], want.scores[:, 0], rtol=1e-6)


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no\.tflite cannot be read: No such file"):
        lite.Lite(tmp_path / "no.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"no model, but long enough to be read as one")
    with pytest.raises(UserError, match=r"bad\.tflite is no TFLite file that can be called: "):
        lite.Lite(tmp_path / "bad.tflite")


def test_a_file_without_a_signature_is_named(tmp_path, monkeypatch):
    """What TensorFlow's converter writes of a function alone."""

    def refuse():
        raise ValueError("SignatureDef signature_key is None and model has 0 Signatures")

    monkeypatch.setattr(lite, "_interpreter", lambda content: SimpleNamespace(get_signature_runner=refuse))
    (tmp_path / "other.tflite").write_bytes(b"")
    with pytest.raises(UserError, match=r"other\.tflite is no TFLite file that can be called: .* 0 Signatures"):
        lite.Lite(tmp_path / "other.tflite")


class Runner:
    """Stands for a file that writes 4, 2."""

    def get_signature_runner(self):
        return self

    def get_input_details(self):
        return {"source": {"shape": np.array([1, 3]), "dtype": np.int32}}

    def __call__(self, source):
        return {"ids": np.array([[4, 2, 0]]), "score": np.array([-0.5], "float32")}


@pytest.mark.parametrize(
    ("ids", "score", "message"),
    [
        ([4, 2, 0], -0.5004, None),
        (
            [4, 2, 0],
            -0.6,
            r"example 1 of the 1 of dev .* writes \[4, 2, 0\] \(score -0\.5000\), and the model .* \(-0\.6000\)",
        ),
        ([4, 5, 2], -0.5, r"it writes \[4, 2, 0\] .*, and the model \[4, 5, 2\]"),
    ],
)
def test_a_file_that_answers_otherwise_than_its_model_is_refused(monkeypatch, ids, score, message):
    monkeypatch.setattr(lite, "_interpreter", lambda content: Runner())
    found = SimpleNamespace(ids=tf.constant([[ids]]), scores=tf.constant([[score]]))
    examples = [np.array([[5, 6, 0]], "int32")]
    if message is None:
        lite.check(b"", lambda source: found, examples)
        return
    with pytest.raises(UserError, match=message):
        lite.check(b"", lambda source: found, examples)


def test_inputs_must_be_those_of_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(lite, "_interpreter", lambda content: Runner())
    (tmp_path / "model.tflite").write_bytes(b"")
    model = lite.Lite(tmp_path / "model.tflite")
    assert model.about == {} and model(source=np.zeros((1, 3), "int32"))["ids"].shape == (1, 3)
    for name, value, told in [
        ("source", np.zeros((1, 4), "int32"), r"source int32 \[1, 4\]"),
        ("source", np.zeros((1, 3), "int64"), r"source int64 \[1, 3\]"),
        ("image", np.zeros((1, 3), "int32"), r"image int32 \[1, 3\]"),
    ]:
        with pytest.raises(UserError, match=rf"takes source int32 \[1, 3\], and is given {told}"):
            model(**{name: value})


@pytest.mark.parametrize(
    "change",
    [
        "sampler.method=random",
        "sampler.ensemble=['a']",
        "sampler.replace_unknown=true",
        "training.precision=mixed_float16",
    ],
)
def test_what_a_file_cannot_do_is_refused(tmp_path, change):
    task = Translate(load(Translate.Config, overrides=[change]), tmp_path)
    name, _, _ = change.partition("=")
    with pytest.raises(UserError, match=rf"a TFLite file cannot do what {name}.* asks for; use export"):
        task.lite(5)


def test_tasks_without_a_text_have_no_file(tmp_path):
    with pytest.raises(UserError, match="TFLite files are for tasks that write a text, and classify is not one"):
        Classify(Classify.Config(), tmp_path).lite(5)


def test_lengths_are_those_of_the_data(tmp_path):
    assert check_length(5, 60, "data.max_length") == 5
    for length in (0, 61, 2.0, True):
        with pytest.raises(UserError, match=r"of 1 to 60, which data\.max_length allows; it is"):
            check_length(length, 60, "data.max_length")
    source = Transcribe(Transcribe.Config(), tmp_path).source
    assert source.fixed(300).shape == [1, 300, 40]
    with pytest.raises(UserError, match="length must be given: the most frames of a recording, of which a second has"):
        source.fixed(None)


def text_model(cell, decoder):
    layer = kseq.layers.Bidirectional(kseq.layers.Recurrent(cell(8), return_state=True))
    return kseq.models.TextEncoder(30, layer, embedding_size=4), decoder, np.zeros((1, 1), "int32")


def models():
    layers = kseq.layers
    bahdanau = layers.BahdanauDecoder(layers.GRUCell(8), "bahdanau", gate=True, deep_output=True)
    luong = layers.LuongDecoder(layers.LSTMCell(8), "luong")
    location = layers.BahdanauDecoder(layers.GRUCell(8), layers.make_attention("location", 8))
    reader = layers.Recurrent(layers.PeepholeLSTMCell(8), return_state=True)
    picture = kseq.models.ImageEncoder(kseq.models.make_backbone("small", size=32), 8)
    return {
        "text, GRU, Bahdanau": lambda: text_model(layers.GRUCell, bahdanau),
        "text, LSTM, Luong": lambda: text_model(layers.LSTMCell, luong),
        "picture, fixed": lambda: (
            picture,
            layers.FixedContextDecoder(layers.RNNCell(8)),
            np.zeros((1, 32, 32, 3), "float32"),
        ),
        "speech, location": lambda: (kseq.models.SpeechEncoder(reader, 8), location, np.ones((1, 8, 5), "float32")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text, GRU, Bahdanau", "text, LSTM, Luong", "picture, fixed", "speech, location"])
def test_a_file_writes_what_the_sampler_writes(tmp_path, name):
    """Oracle: `kseq.samplers.Greedy` on the Keras model with random weights, for sources of several lengths."""
    encoder, decoder, one = models()[name]()
    bridge = kseq.layers.DenseBridge(decoder.cell.state_size)
    model = kseq.models.Seq2Seq(encoder, bridge, decoder, 20, embedding_size=4)
    model({"source": one, "tokens": np.ones((1, 1), "int32")})
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape) * 0.7)
    shape = {2: (1, LENGTH), 3: (1, LENGTH, 5), 4: one.shape}[one.ndim]
    constraints = {"forbidden": (0, 1, 3), "min_length": 2, "no_repeat": 2}

    def function(source):
        states, memory = model.encode(source)
        step, states = Constraints(**constraints)(model.step, states, end=2, max_length=MOST)
        return lite.greedy(step, states, memory, **ENDS, max_length=MOST)

    content = lite.convert(function, [tf.TensorSpec(shape, one.dtype, name="source")], [model])
    greedy = compiled(Greedy(), model.encode, model.step, **ENDS, max_length=MOST, **constraints)
    sources = np.zeros((3, *shape), one.dtype)
    for source, steps in zip(sources, (1, 4, LENGTH), strict=True):
        real = source[0, :steps] if one.ndim < 4 else source
        real[...] = rng.integers(4, 30, real.shape) if one.ndim == 2 else rng.normal(size=real.shape)
    lite.check(content, greedy, sources)
    (tmp_path / "model.tflite").write_bytes(content)
    saved = lite.Lite(tmp_path / "model.tflite")
    assert len({float(saved(source=source)["score"][0]) for source in sources}) == 3  # the source is read


@pytest.mark.slow
def test_an_operation_that_tflite_does_not_have_is_named():
    with pytest.raises(UserError, match=r"an operation that TFLite does not have built in: .*Svd"):
        lite.convert(lambda x: {"y": tf.linalg.svd(x)[0]}, [tf.TensorSpec([2, 2], tf.float32, name="x")], [])
