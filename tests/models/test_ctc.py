"""Connectionist temporal classification against all alignments, one by one."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import normal, randomise, two_ways
from kseq.layers import BahdanauDecoder, DenseBridge, GRUCell
from kseq.losses import TokenCrossentropy
from kseq.models import JointCTC, Seq2Seq, SpeechEncoder, ctc_loss
from kseq.samplers import Beam, Greedy, compiled

LABELS, ROWS = 4, 4  # ids: 0 the blank, 1 and 2 that open and close, 3


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def joined(path):
    """B of the docstring: one of each run, then no blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def sequences(logits):
    """{label sequence: its probability} of logits `[time, vocabulary]`, from every path."""
    p, found = np.exp(log_softmax(logits.astype(float))), {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        found[joined(path)] = found.get(joined(path), 0) + np.prod([p[t, label] for t, label in enumerate(path)])
    return found


def mask_of(*lengths):
    return np.arange(ROWS) < np.array(lengths)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("compile", [False, True])
def test_the_loss_is_that_of_all_alignments(compile):
    """Oracle: brute force over the paths. The second has a repeat, and the third has less rows than labels."""
    logits, labels = 2 * normal(3, ROWS, LABELS), np.array([[3, 1, 0], [2, 2, 0], [1, 2, 3]], "int32")
    counts = [4, 3, 2]
    of = tf.function(ctc_loss, jit_compile=compile, autograph=False)
    loss = of(tf.constant(logits), tf.constant(mask_of(*counts)), tf.constant(labels))
    found = [sequences(logits[i, : counts[i]])[joined(labels[i])] for i in (0,)]
    found.append(sequences(logits[1, :3])[(2, 2)])
    np.testing.assert_allclose(loss, -np.sum(np.log(found)) / 4, rtol=1e-4)


def test_labels_without_an_alignment_change_no_weight():
    logits, labels = tf.constant(normal(2, ROWS, LABELS)), tf.constant([[1, 1, 2], [3, 0, 0]])
    for counts, zero in (((3, 4), [0]), ((4, 4), []), ((2, 0), [0, 1])):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = ctc_loss(logits, tf.constant(mask_of(*counts)), labels)
        gradient = np.asarray(tape.gradient(loss, logits))
        assert np.all(np.isfinite(gradient)) and np.isfinite(loss)
        assert [i for i in range(2) if not np.any(gradient[i])] == zero
        assert not np.any(gradient[~mask_of(*counts)])
    assert float(loss) == 0


def test_half_precision_is_raised():
    logits, mask, labels = tf.constant(normal(1, ROWS, LABELS), tf.float16), tf.constant(mask_of(4)), tf.constant([[3]])
    loss = ctc_loss(logits, mask, labels)
    assert loss.dtype == "float32"
    np.testing.assert_allclose(loss, ctc_loss(tf.cast(logits, tf.float32), mask, labels), rtol=1e-6)


# --- models


def recogniser(ctc_weight=0.3, dropout=0.0):
    model = Seq2Seq(
        SpeechEncoder(two_ways(), 5, strides=(2,), kernel_size=3),
        DenseBridge([3]),
        BahdanauDecoder(GRUCell(3), "location"),
        LABELS,
        embedding_size=3,
        dropout=dropout,
        ctc_weight=ctc_weight,
    )
    model({"source": normal(1, 8, 3), "tokens": np.ones((1, 2), "int32")})
    randomise(model)
    return model


@pytest.mark.slow
def test_the_model_adds_its_share_of_the_loss():
    """Oracle: both losses of their parts, alone."""
    model = recogniser()
    inputs = {"source": normal(2, 8, 3), "tokens": np.array([[1, 3, 3], [1, 3, 0]], "int32")}
    model(inputs, training=False)
    assert not model.losses
    logits = model(inputs, training=True)
    memory, mask, _ = model.encoder(inputs["source"])
    [added] = model.losses
    labels = np.array([[3, 3], [3, 0]], "int32")
    np.testing.assert_allclose(added, 0.3 * ctc_loss(model.labels(memory), mask, labels), rtol=1e-5)
    targets, weights = np.array([[3, 3, 2], [3, 2, 0]]), np.array([[1, 1, 1], [1, 1, 0]], "float32")
    rest = TokenCrossentropy(weight=0.7)(targets, logits, weights)
    np.testing.assert_allclose(rest, 0.7 * TokenCrossentropy()(targets, logits, weights), rtol=1e-6)
    model.compile("adam", TokenCrossentropy(weight=0.7))
    np.testing.assert_allclose(model.evaluate(inputs, targets, sample_weight=weights, verbose=0), rest, rtol=1e-5)


@pytest.mark.slow
def test_ctc_teaches_the_encoder_and_its_own_layer():
    model, inputs = recogniser(), {"source": normal(2, 8, 3), "tokens": np.array([[1, 3, 3], [1, 3, 0]], "int32")}
    with tf.GradientTape() as tape:
        model(inputs, training=True)
        [added] = model.losses
    weights = [*model.encoder.trainable_variables, *model.labels.trainable_variables]
    for weight, gradient in zip(weights, tape.gradient(added, weights), strict=True):
        assert np.any(gradient), weight.path


def prefix(found, g, whole):
    """The probability of g, whole, or of all that begins with it."""
    return sum(p for y, p in found.items() if (y == g if whole else y[: len(g)] == g))


@pytest.mark.slow
def test_prefixes_are_scored_as_all_that_begins_with_them():
    """Oracle: brute force over the paths; with a weight of 1 attention has no say."""
    joint, source = JointCTC(recogniser(), 1.0), np.pad(normal(2, 8, 3), ((0, 0), (0, 2), (0, 0)))
    source[1, 5:] = 0
    encoded = joint.model.encoder(source)
    logits = np.asarray(joint.model.labels(encoded.memory))
    for i in range(2):
        found = sequences(logits[i, : np.asarray(encoded.memory_mask)[i].sum()])
        for written in ((), (3,), (3, 3), (3, 1), (1, 3, 1)):
            states, memory = joint.encode(source)
            for token in (1, *written):
                scores, states, _ = joint.step(tf.fill([2], token), states, memory)
            want = [0, prefix(found, (*written, 1), False), prefix(found, written, True)]
            want.append(prefix(found, (*written, 3), False))
            # The end has no rows of its own: what begins with 2 is left out, and the rest is normalized.
            np.testing.assert_allclose(np.exp(scores[i]), want / np.sum(want), atol=1e-4)


@pytest.mark.slow
def test_attention_and_ctc_share_the_score():
    model, source = recogniser(), normal(2, 8, 3)
    parts = []
    for weight in (0.0, 1.0, 0.4):
        joint = JointCTC(model, weight)
        states, memory = joint.encode(source)
        _, states, _ = joint.step(tf.fill([2], 1), states, memory)
        parts.append(np.asarray(joint.step(tf.fill([2], 3), states, memory)[0]))
    np.testing.assert_allclose(parts[2], 0.6 * parts[0] + 0.4 * parts[1], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Greedy(), Beam(3)])
def test_samplers_search_with_both(sampler):
    joint, source = JointCTC(recogniser(), 0.5), normal(2, 8, 3)
    options = {"start": 1, "end": 2, "max_length": 6, "forbidden": (0, 1)}
    found = compiled(sampler, joint.encode, joint.step, **options)(source)
    assert np.all(np.isfinite(found.scores)) and found.alignments.shape[-1] == 4
    alone = compiled(sampler, joint.encode, joint.step, **options)(source[1:])
    np.testing.assert_array_equal(found.ids[1:], alone.ids)


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match=r"weight must be at least 0 and at most 1, got 1.5"):
        JointCTC(recogniser(), 1.5)
    with pytest.raises(ValueError, match=r"has no CTC to score with: it was made with ctc_weight=0"):
        JointCTC(recogniser(0.0), 0.5)
    with pytest.raises(ValueError, match=r"ctc_weight must be at least 0 and less than 1, got 1"):
        recogniser(1)
    with pytest.raises(ValueError, match=r"weight must be at least 0, got -1"):
        TokenCrossentropy(weight=-1)


@pytest.mark.slow
def test_a_model_is_restored_with_its_ctc(tmp_path):
    model = recogniser()
    inputs = {"source": normal(1, 8, 3), "tokens": np.ones((1, 2), "int32")}
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again(inputs), model(inputs), atol=1e-6)
    assert again.ctc_weight == 0.3 and len(again.weights) == len(model.weights)
