"""An encoder-decoder that copies: its parts against NumPy, its samplers, and a word that it never saw."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import UNITS, randomise, tiny_backbone, tiny_copier
from kseq import preprocessors
from kseq.layers import BahdanauAttention, DenseBridge, GRUCell, LuongDecoder, Recurrent
from kseq.losses import TokenCrossentropy
from kseq.models import ImageEncoder, Seq2Seq, TextEncoder, seq2seq
from kseq.preprocessors import END, START, TextPreprocessor
from kseq.samplers import Beam, Constraints, Greedy, Random

WORDS, COPIES = 11, 2
SOURCE = np.array([[4, 11, 5, 12, 11], [11, 3, 6, 0, 0], [7, 7, 0, 0, 0]], "int32")
TOKENS = np.array([[1, 11, 4, 12], [1, 6, 11, 0], [1, 7, 0, 0]], "int32")
TARGETS = np.array([[11, 4, 12, 2], [6, 11, 2, 0], [7, 2, 0, 0]], "int32")
INPUTS = {"source": SOURCE, "tokens": TOKENS}
REAL = (TARGETS != 0).astype("float32")


def made(**options):
    model = tiny_copier(**options)
    model(INPUTS)
    return randomise(model)


def test_the_unknown_word_is_the_preprocessors():
    assert seq2seq.UNKNOWN == preprocessors.UNKNOWN


def test_log_probabilities_are_the_papers():
    """Oracle: `reference.pointer_generator` over the model's parts, the context summed row by row, without the gate."""
    model = made()
    known = {name: np.where(ids < WORDS, ids, 3) for name, ids in INPUTS.items()}
    encoded = model.encoder(known["source"])
    embedded = np.asarray(model.embedding(known["tokens"]))
    outputs, alignments = map(
        np.asarray, model.decoder(embedded, encoded.memory, encoded.memory_mask, model.bridge(encoded.state))
    )
    logits, memory = np.asarray(model.words(outputs)), np.asarray(encoded.memory)
    weights = [np.asarray(weight, "float64").squeeze() for weight in model.pointer.weights]
    got = np.asarray(model(INPUTS))
    assert got.shape == (*TOKENS.shape, WORDS + COPIES) and got.dtype == "float32"
    for b, t in np.ndindex(*TOKENS.shape):
        context = sum(a * row for a, row in zip(alignments[b, t], memory[b], strict=True))
        step = (logits[b, t], outputs[b, t], context, embedded[b, t], alignments[b, t])
        want = reference.pointer_generator(*step, SOURCE[b], COPIES, *weights)
        np.testing.assert_allclose(np.exp(got[b, t]), want, atol=1e-5)


@pytest.mark.slow
def test_words_of_its_own_are_read_as_the_unknown_word():
    model = made()
    log_probs = np.asarray(model(INPUTS))
    tokens = INPUTS | {"tokens": np.where(TOKENS < WORDS, TOKENS, 3)}
    np.testing.assert_allclose(model(tokens), log_probs, atol=1e-6)
    source = np.asarray(model(INPUTS | {"source": np.where(SOURCE < WORDS, SOURCE, 3)}))
    for b, t in np.argwhere(REAL):
        given, taken = np.exp(log_probs[b, t]), np.exp(source[b, t])
        np.testing.assert_allclose(taken[3], given[3] + given[WORDS:].sum(), rtol=1e-4)
        np.testing.assert_allclose(np.delete(taken, 3)[: WORDS - 1], np.delete(given, 3)[: WORDS - 1], atol=1e-6)


def teacher_forced(model, inputs):
    states, memory = model.encode(inputs["source"])
    results = []
    for t in range(inputs["tokens"].shape[1]):
        log_probs, states, _ = model.step(tf.constant(inputs["tokens"][:, t]), states, memory)
        results.append(log_probs)
    return np.stack(results, axis=1)


def luong_copier():
    cell = GRUCell(UNITS)
    encoder = TextEncoder(WORDS, Recurrent(GRUCell(UNITS)), embedding_size=3)
    decoder = LuongDecoder(cell, BahdanauAttention(3))
    return Seq2Seq(encoder, DenseBridge(cell.state_size), decoder, WORDS, embedding_size=3, max_oov_words=COPIES)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_copier, luong_copier])
def test_steps_with_the_teachers_words_give_the_log_probabilities_of_call(make):
    model = make()
    model(INPUTS)
    randomise(model)
    np.testing.assert_allclose(teacher_forced(model, INPUTS), model(INPUTS), atol=1e-5)


@pytest.mark.slow
def test_batch_of_one_is_its_row_of_many_and_padding_gets_nothing():
    model = made()
    log_probs = np.asarray(model(INPUTS))
    for b, length in enumerate((SOURCE != 0).sum(axis=1)):
        alone = model({"source": SOURCE[b : b + 1, :length], "tokens": TOKENS[b : b + 1]})
        np.testing.assert_allclose(alone[0], log_probs[b], atol=1e-5)
    model.words.bias.assign(tf.one_hot(0, WORDS, on_value=-1e4))
    assert np.all(np.asarray(model(INPUTS))[:, :, 0] < -1e3)


SAMPLERS = {
    "greedy": (Greedy(), {}),
    "random": (Random(n=3, temperature=1.5), {}),
    "beam": (Beam(4, n_best=3), {}),
    "constrained": (Beam(3, n_best=2), {"forbidden": (0, 1, 3), "min_length": 3, "no_repeat": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "compiled"), [*((name, False) for name in SAMPLERS), ("constrained", True)])
def test_a_samplers_score_is_the_teacher_forced_log_probability(name, compiled):
    """Oracle: `call` on what was sampled. The rules of "constrained" are tested by what they leave of it."""
    sampler, rules = SAMPLERS[name]
    model = made()
    model.pointer.bias.assign([-2.0])  # it mostly copies

    def sample(source):
        states, memory = model.encode(source)
        step = model.step
        if rules:
            step, states = Constraints(**rules)(step, states, end=END, max_length=5)
        return sampler(step, states, memory, start=START, end=END, max_length=5)

    found = (tf.function(sample, jit_compile=True, autograph=False) if compiled else sample)(tf.constant(SOURCE))
    ids, lengths = np.asarray(found.ids), np.asarray(found.lengths)
    assert np.any(ids >= WORDS) and not np.any(ids[2] >= WORDS) and ids.max() < WORDS + COPIES
    for n in range(ids.shape[1]):
        tokens = np.concatenate([np.full((3, 1), START), ids[:, n, :-1]], axis=1)
        log_probs = np.asarray(model({"source": SOURCE, "tokens": tokens}))
        if rules:
            log_probs = left(log_probs, ids[:, n], rules)
        for b in range(3):
            total = sum(log_probs[b, t, ids[b, n, t]] for t in range(lengths[b, n]))
            np.testing.assert_allclose(found.log_probs[b, n], total, atol=1e-4)


def left(log_probs, ids, rules):
    """The log-probabilities that the rules leave, each step's made to sum to 1 again."""
    log_probs = log_probs.copy()
    for b, t in np.ndindex(*ids.shape):
        banned = {*rules["forbidden"], *([END] if t + 1 < rules["min_length"] else [])}
        banned |= {ids[b, u + 1] for u in range(t - 1) if t and ids[b, u] == ids[b, t - 1]}
        log_probs[b, t, sorted(banned)] = -np.inf
    return log_probs - np.log(np.exp(log_probs).sum(-1, keepdims=True))


@pytest.mark.slow
def test_one_step_of_training_is_the_same_compiled_or_not():
    trained = []
    for compiled in (False, True):
        model = made()
        before = model.get_weights()
        log_probs = np.asarray(model(INPUTS))
        want = reference.token_crossentropy(TARGETS, log_probs, REAL, label_smoothing=0.1)
        model.compile(keras.optimizers.SGD(0.5), TokenCrossentropy(label_smoothing=0.1), jit_compile=compiled)
        history = model.fit(INPUTS, TARGETS, sample_weight=REAL, batch_size=3, verbose=0)
        np.testing.assert_allclose(history.history["loss"], [want], rtol=1e-5)
        assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))
        trained.append(model.get_weights())
    for graph, xla in zip(*trained, strict=True):
        np.testing.assert_allclose(xla, graph, atol=1e-5)


@pytest.mark.slow
def test_a_file_keeps_the_copies(tmp_path):
    model = made()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.max_oov_words == COPIES and json.dumps(again.get_config()) == json.dumps(model.get_config())
    np.testing.assert_allclose(teacher_forced(again, INPUTS), model(INPUTS), atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (lambda: TextEncoder(12, Recurrent(GRUCell(2)), embedding_size=3, name="french"), 12),
        (lambda: ImageEncoder(tiny_backbone(), 5, name="french"), None),
    ],
)
def test_what_is_copied_is_of_one_vocabulary(encoder, words):
    decoder = LuongDecoder(GRUCell(2), BahdanauAttention(3))
    message = "^max_oov_words needs an encoder with the same vocabulary of 11 tokens, such as a TextEncoder"
    message = rf"{message}; french has {words}$"
    with pytest.raises(ValueError, match=message):
        Seq2Seq(encoder(), DenseBridge([2]), decoder, 11, embedding_size=3, max_oov_words=1)


@pytest.mark.parametrize("copies", [-1, 1.5, True])
def test_copies_out_of_range_raises(copies):
    with pytest.raises(ValueError, match=rf"^max_oov_words must be a positive whole number, got {copies!r}$"):
        tiny_copier(max_oov_words=copies)


# Names stand in no vocabulary. The last three are asked for after training alone.
NAMES = ["anna", "bela", "carl", "dora", "egon", "fred", "gina", "hugo", "ivan", "jana"]
GREETING = ["hello", "this", "is", "and", "here", "comes"]


def sentences(rng, count, names):
    """Sources with two names among other words, and the one behind "mister" as the target."""
    sources, targets = [], []
    for _ in range(count):
        words = list(rng.choice(GREETING, 3))
        called, other = rng.choice(names, 2, replace=False)
        words.insert(rng.integers(4), other)
        place = rng.integers(5)
        words[place:place] = ["mister", called]
        sources.append(" ".join(words))
        targets.append(f"now {called}")
    return sources, targets


def greeter(text, copies):
    size, cell = len(text.vocabulary), GRUCell(32)
    encoder = TextEncoder(size, Recurrent(GRUCell(32)), embedding_size=16)
    decoder = LuongDecoder(cell, BahdanauAttention(32))
    model = Seq2Seq(encoder, DenseBridge(cell.state_size), decoder, size, embedding_size=16, max_oov_words=copies)
    model.compile(keras.optimizers.Adam(0.01), TokenCrossentropy(), jit_compile=False)
    return model


def answering(text, model, copies):
    """The function from sources to answers, both strings `[batch]`, in a graph."""

    def answer(texts):
        own = text.oov_words(texts, copies)
        states, memory = model.encode(text.ids(texts, own).to_tensor())
        found = Greedy()(model.step, states, memory, start=START, end=END, max_length=4)
        return {"text": text.text(found.ids[:, 0], oov_words=own)}

    return tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)


@pytest.mark.slow
def test_a_word_that_no_training_had_is_copied_and_the_saved_model_copies_it_too(tmp_path):
    """A plain model cannot: without own words the best that it could say is the unknown word."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    text = TextPreprocessor(20, vocabulary=[*preprocessors.SPECIAL, *GREETING, "mister", "now"])
    sources, targets = sentences(rng, 400, NAMES[:-3])
    asked, wanted = sentences(rng, 50, NAMES[-3:])
    assert set(text.text(text.ids(wanted).to_tensor()).numpy()) == {b"now"}

    own = text.oov_words(sources, 3)
    ids = text.targets(targets, own).to_tensor().numpy()
    inputs = {"source": text.ids(sources, own).to_tensor().numpy(), "tokens": np.where(ids == END, 0, ids)[:, :-1]}
    model = greeter(text, 3)
    weights = (ids[:, 1:] != 0).astype("float32")
    model.fit(inputs, ids[:, 1:], sample_weight=weights, batch_size=50, epochs=12, verbose=0)
    answer = answering(text, model, 3)
    said = [text.decode() for text in answer(asked)["text"].numpy()]
    assert np.mean([a == b for a, b in zip(said, wanted, strict=True)]) >= 0.9

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(text)
    archive.add_endpoint("serving_default", answer)
    archive.write_out(str(tmp_path / "model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert [text.decode() for text in served(text=tf.constant(asked))["text"].numpy()] == said
