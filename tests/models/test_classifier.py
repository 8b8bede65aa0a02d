"""Classifiers and the tagger: what they make of a memory against NumPy, and what padding may not change."""

import json

import keras
import numpy as np
import pytest

import reference
from contracts import lengths_mask, normal, randomise, tiny_text_encoder, two_ways
from kseq.layers import MutualAttention, PoolingAttention, WordByWordAttention
from kseq.models import PairClassifier, SequenceClassifier, SequenceTagger
from kseq.models.classifier import MATCHES, POOLINGS, Pooling, last_row

SOURCE = np.array([[4, 5, 6, 7], [8, 3, 0, 0], [9, 0, 0, 0]], "int32")
HYPOTHESIS = np.array([[3, 5, 0], [8, 0, 0], [1, 2, 3]], "int32")
PAIR = {"premise": SOURCE, "hypothesis": HYPOTHESIS}
MASK = lengths_mask([4, 2, 0], 4)


def weights(layer, **names):
    return {letter: np.asarray(getattr(layer, name)) for letter, name in names.items()}


def classifier(pooling="attention", **options):
    model = SequenceClassifier(tiny_text_encoder(), 5, **({"pooling": pooling, "units": 3} | options))
    model(SOURCE)
    return randomise(model)


def tagger(**options):
    model = SequenceTagger(tiny_text_encoder(), 6, **({"units": 3} | options))
    model(SOURCE)
    return randomise(model)


def pairs(attention="word", **options):
    layer = None if attention == "mutual" else two_ways()
    model = PairClassifier(tiny_text_encoder(), layer, 5, **({"attention": attention, "units": 3} | options))
    model(PAIR)
    return randomise(model)


def test_attention_with_a_learned_query_is_equations_5_to_7():
    """Oracle: `reference.pooling_attention`, row by row."""
    layer, memory = PoolingAttention(3), normal(3, 4, 5)
    layer(memory)
    letters = weights(randomise(layer), W="kernel", b="bias", u="query")
    pooled, alignment = layer(memory, MASK)
    for b in range(3):
        want, look = reference.pooling_attention(memory[b], MASK[b], **letters)
        np.testing.assert_allclose(pooled[b], want, atol=1e-5)
        np.testing.assert_allclose(alignment[b], look, atol=1e-5)
    np.testing.assert_allclose(layer(memory)[1], layer(memory, np.ones((3, 4), bool))[1])


def test_word_by_word_attention_is_equations_11_to_13():
    """Oracle: `reference.word_by_word`, one word at a time."""
    layer, inputs, memory = WordByWordAttention(3), normal(3, 5, 2), normal(3, 4, 5, seed=1)
    inputs_mask = lengths_mask([5, 3, 1], 5)
    layer(inputs, memory)
    names = {"W_h": "inputs_kernel", "W_y": "memory_kernel", "W_r": "read_kernel"}
    letters = weights(randomise(layer), **names, w="scale", W_t="recurrent_kernel")
    r, alignments = layer(inputs, memory, inputs_mask=inputs_mask, memory_mask=MASK)
    for b in range(3):
        n = inputs_mask[b].sum()
        want, looks = reference.word_by_word(inputs[b, :n], memory[b], MASK[b], **letters)
        np.testing.assert_allclose(r[b], want, atol=1e-5)
        np.testing.assert_allclose(alignments[b, :n], looks, atol=1e-5)
        assert not np.any(alignments[b, n:])


def test_mutual_attention_is_equations_11_to_15():
    """Oracle: `reference.mutual` of the real rows alone."""
    layer, inputs, memory = MutualAttention(3), normal(2, 5, 4), normal(2, 3, 4, seed=1)
    inputs_mask, memory_mask = lengths_mask([5, 3], 5), lengths_mask([2, 3], 3)
    layer(inputs, memory)
    letters = weights(randomise(layer), W="kernel", b="bias")
    v, alignments = layer(inputs, memory, inputs_mask=inputs_mask, memory_mask=memory_mask)
    for b, (n, m) in enumerate([(5, 2), (3, 3)]):
        want, looks = reference.mutual(inputs[b, :n], memory[b, :m], **letters)
        np.testing.assert_allclose(v[b], want, atol=1e-5)
        np.testing.assert_allclose(alignments[b, :n, :m], looks, atol=1e-5)
        assert not np.any(alignments[b, n:]) and not np.any(alignments[b, :, m:])


@pytest.mark.parametrize("layer", [MutualAttention, PoolingAttention, WordByWordAttention])
def test_sizes_that_are_none_are_named(layer):
    with pytest.raises(ValueError, match=r"^units must be a positive whole number, got 0$"):
        layer(0)


def test_texts_of_different_sizes_are_not_compared():
    with pytest.raises(ValueError, match=r"inputs and memory must be of one size, got 4 and 5"):
        MutualAttention(3)(normal(2, 5, 4), normal(2, 3, 5))


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pooling_goes_over_the_real_rows(kind):
    """Oracle: NumPy over the rows that the mask leaves; zeros where there is none."""
    memory = normal(3, 4, 5) - 3  # below zero, so that a row of zeros would be the largest
    row, alignment = Pooling(kind, 2)(memory, MASK, [])
    for b, n in enumerate([4, 2, 0]):
        real = memory[b, :n]
        want = {"mean": np.mean, "max": np.max}[kind](real, axis=0) if n else np.zeros(5)
        np.testing.assert_allclose(row[b], want, atol=1e-6)
        look = {"mean": [1 / n] * n, "max": [np.mean(real.argmax(0) == s) for s in range(n)]}[kind] if n else []
        np.testing.assert_allclose(alignment[b], [*look, *[0] * (4 - n)], atol=1e-6)


def test_the_last_state_is_the_whole_state():
    states = [normal(3, 2), normal(3, 4, seed=1)]
    row, alignment = Pooling("last", 2)(normal(3, 4, 5), MASK, states)
    np.testing.assert_array_equal(row, np.concatenate(states, axis=1))
    assert not np.any(alignment) and alignment.shape == (3, 4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_classifier_reads_what_is_pooled(pooling):
    """Oracle: V s + b of the pooling's row."""
    model = classifier(pooling, dropout=0.5)
    row, alignment = model.pooling(*model.encoder(SOURCE))
    V, b = (np.asarray(weight) for weight in model.labels.weights)
    np.testing.assert_allclose(model(SOURCE), np.asarray(row) @ V + b, atol=1e-5)
    np.testing.assert_array_equal(model.attend(SOURCE)[1], alignment)
    assert not np.allclose(model(SOURCE, training=True), model(SOURCE))


@pytest.mark.slow
def test_a_tagger_reads_each_row_and_all_of_them():
    model = tagger(classes=4, pooling="mean", dropout=0.5)
    encoded = model.encoder(SOURCE)
    found = model(SOURCE)
    for layer, row, name in ((model.tag, encoded.memory, "tags"), (model.label, model.pooling(*encoded)[0], "label")):
        V, b = (np.asarray(weight) for weight in layer.weights)
        np.testing.assert_allclose(found[name], np.asarray(row) @ V + b, atol=1e-5)
        assert not np.allclose(model(SOURCE, training=True)[name], found[name])
    assert tagger()(SOURCE).keys() == {"tags"} and tagger().attend(SOURCE)[1] is None


def test_a_hypothesis_begins_with_the_states_of_its_premise():
    """Oracle: the layer itself, called with them; equations 10 and 14 in NumPy."""
    model = pairs("none", dropout=0.5)
    states = model.encoder(SOURCE).state
    memory, *_ = model.layer(model.encoder.embedding(HYPOTHESIS), mask=HYPOTHESIS != 0, initial_state=states)
    h = np.stack([np.asarray(memory)[b, n - 1] for b, n in enumerate([2, 1, 3])])
    W, V, b = (np.asarray(w) for w in (*model.both.weights, *model.labels.weights))
    np.testing.assert_allclose(model(PAIR), np.tanh(h @ W) @ V + b, atol=1e-5)
    assert not np.any(model.attend(PAIR)[1])


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["last", "word"])
def test_a_pair_is_what_was_read_and_the_last_word(attention):
    """Oracle of "last": `reference.attend` over `additive_score`, equations 7 to 9; of "word": the layer's r."""
    model = pairs(attention)
    premise = model.encoder(SOURCE)
    hypothesis = model.encoder.read(model.layer, HYPOTHESIS, premise.state)
    h = last_row(hypothesis.memory, hypothesis.memory_mask)
    if attention == "last":
        letters = weights(model.attention, W="query_kernel", U="memory_kernel", v="scale")
        score = lambda q, row: reference.additive_score(q, row, **letters)  # noqa: E731
        r, look = reference.attend(score, np.asarray(h), np.asarray(premise.memory), SOURCE != 0)
        look = look[:, None]
    else:
        r, look = model.attention(
            hypothesis.memory, premise.memory, inputs_mask=HYPOTHESIS != 0, memory_mask=SOURCE != 0
        )
    W, V, b = (np.asarray(w) for w in (*model.both.weights, *model.labels.weights))
    logits, alignments = model.attend(PAIR)
    np.testing.assert_allclose(logits, np.tanh(np.concatenate([r, h], axis=1) @ W) @ V + b, atol=1e-5)
    np.testing.assert_allclose(alignments, look, atol=1e-5)


@pytest.mark.slow
def test_a_mutual_pair_is_read_by_one_encoder():
    """Oracle: the layer's v of what the encoder makes of each."""
    model = pairs("mutual", dropout=0.5)
    h, Y = (model.encoder(ids).memory for ids in (HYPOTHESIS, SOURCE))
    v, look = model.attention(h, Y, inputs_mask=HYPOTHESIS != 0, memory_mask=SOURCE != 0)
    W, V, b = (np.asarray(w) for w in (*model.both.weights, *model.labels.weights))
    logits, alignments = model.attend(PAIR)
    np.testing.assert_allclose(logits, np.tanh(v @ W) @ V + b, atol=1e-5)
    np.testing.assert_array_equal(alignments, look)
    assert not np.allclose(model(PAIR, training=True), logits)


def test_the_last_row_is_the_last_real_one():
    memory = normal(3, 4, 2)
    np.testing.assert_array_equal(last_row(memory, MASK), [memory[0, 3], memory[1, 1], memory[2, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing_for_a_label_or_a_tag(pooling):
    longer = np.pad(SOURCE, [(0, 0), (0, 3)])
    for model in (classifier(pooling), tagger(classes=4, pooling=pooling)):
        for short, long in zip(*map(keras.tree.flatten, (model(SOURCE), model(longer))), strict=True):
            np.testing.assert_allclose(np.asarray(long)[:, : short.shape[1]], short, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("attention", MATCHES)
def test_padding_changes_nothing_for_a_pair(attention):
    model = pairs(attention)
    for name in PAIR:
        longer = PAIR | {name: np.pad(PAIR[name], [(0, 0), (0, 3)])}
        np.testing.assert_allclose(model(longer), model(PAIR), atol=1e-5)


def test_kinds_that_are_none_are_named():
    with pytest.raises(ValueError, match=r"^pooling must be one of attention, mean, max, last, got 'sum'$"):
        classifier("sum")
    with pytest.raises(ValueError, match=r"^attention must be one of none, last, word, mutual, got 'both'$"):
        pairs("both")
    with pytest.raises(ValueError, match=r"^layer must be None if attention is 'mutual', and a layer otherwise, got <"):
        PairClassifier(tiny_text_encoder(), two_ways(), 5, attention="mutual")
    with pytest.raises(ValueError, match=r"and a layer otherwise, got None$"):
        PairClassifier(tiny_text_encoder(), None, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "options"), [(classifier, {}), (tagger, {}), (pairs, {}), (pairs, {"attention": "mutual"})]
)
def test_a_file_keeps_every_option(made, options, tmp_path):
    model, inputs = made(dropout=0.25, **options), PAIR if made is pairs else SOURCE
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert json.dumps(again.get_config()) == json.dumps(model.get_config()) and again.dropout.rate == 0.25
    for got, want in zip(*map(keras.tree.flatten, (again(inputs), model(inputs))), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_words_are_dropped_whole_in_training():
    """A word that is dropped is zeros in all of its numbers; the others weigh the more."""
    encoder = tiny_text_encoder(word_dropout=0.5)
    encoder(SOURCE)
    encoder.embedding.embeddings.assign(np.ones_like(encoder.embedding.embeddings))
    seen = []
    encoder.layer.call = lambda inputs, **_: seen.append(np.asarray(inputs)) or inputs
    encoder(np.ones((50, 9), "int32"), training=True)
    assert set(np.unique(seen[0])) == {0, 2} and np.all(np.ptp(seen[0], axis=-1) == 0)
