"""A mask that Keras carries arrives in every attention layer and decoder, and goes on to the next layer and loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import normal, randomise
from kseq.layers import (
    ATTENTIONS,
    DECODERS,
    BahdanauDecoder,
    GRUCell,
    MutualAttention,
    PointerGenerator,
    PoolingAttention,
    Recurrent,
    WordByWordAttention,
    make_attention,
)

WORDS, SIZE = 9, 4
IDS = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 0]])
OTHER_IDS = np.array([[8, 1, 0], [5, 0, 0]])

pytestmark = pytest.mark.filterwarnings("error")  # Keras warns where a layer destroys a mask


def embedding():
    layer = keras.layers.Embedding(WORDS, SIZE, mask_zero=True)
    layer.build()
    return randomise(layer)


def behind_recurrent(layer):
    """`layer` on ids, behind a recurrent layer in a functional model."""
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layer(Recurrent(GRUCell(SIZE))(embedding()(ids))))


def in_a_sequential(layer):
    return keras.Sequential([embedding(), Recurrent(GRUCell(SIZE)), layer])


def in_a_subclass(layer):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.recurrent, self.pool = embedding(), Recurrent(GRUCell(SIZE)), layer

        def call(self, ids):
            return self.pool(self.recurrent(self.words(ids)))

    return Model()


def assert_close(got, want, atol=1e-6):
    for x, y in zip(keras.tree.flatten(got), keras.tree.flatten(want), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


@pytest.mark.parametrize("make", [behind_recurrent, in_a_sequential, in_a_subclass])
def test_pooling_weighs_no_padding(make):
    """Oracle: each row by itself, without its padding."""
    model = make(PoolingAttention(3))
    pooled, alignment = model(IDS)
    assert not np.any(np.asarray(alignment)[IDS == 0])
    for row, ids in enumerate(IDS):
        real = ids[ids > 0][None]
        want, alone = model(real)
        np.testing.assert_allclose(pooled[row], want[0], atol=1e-6)
        np.testing.assert_allclose(alignment[row, : real.shape[1]], alone[0], atol=1e-6)


def test_pooling_has_one_output_for_sequential_and_time_distributed():
    """Words to sentences to a document, as Yang et al. (2016). Oracle: each sentence by itself."""
    ids = keras.Input((None, 5), dtype="int32")
    sentence = keras.Sequential([embedding(), PoolingAttention(3, return_alignment=False)])
    sentences = keras.layers.TimeDistributed(sentence)(ids)
    model = keras.Model(ids, [sentences, PoolingAttention(3, return_alignment=False)(sentences)])
    rows, document = model(IDS[None])
    assert document.shape == (1, SIZE)
    assert_close(rows[0], sentence(IDS))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_mechanism_gets_the_mask_of_its_memory(name):
    """Oracle: the mask given by hand. The context has no steps, so that the mask ends there."""
    memory, query = embedding()(IDS), tf.constant(normal(2, SIZE))
    layer = make_attention(name, 3)
    given = layer(query, tf.identity(memory), memory_mask=IDS > 0)
    found = layer(query, memory)
    assert_close(found, given)
    assert not np.any(np.asarray(found[1])[IDS == 0])
    assert not any(hasattr(x, "_keras_mask") for x in found)


@pytest.mark.parametrize("make", [WordByWordAttention, MutualAttention])
def test_attention_between_two_sequences_gets_both_masks(make):
    """Oracle: the masks given by hand."""
    words, layer = embedding(), make(3)
    inputs, memory = words(OTHER_IDS), words(IDS)
    masks = {"inputs_mask": OTHER_IDS > 0, "memory_mask": IDS > 0}
    given = layer(tf.identity(inputs), tf.identity(memory), **masks)
    found = layer(inputs, memory)
    assert_close(found, given)
    np.testing.assert_array_equal(found[1]._keras_mask, OTHER_IDS > 0)
    symbols = [keras.Input((None,), dtype="int32") for _ in range(2)]
    model = keras.Model(symbols, layer(*[words(x) for x in symbols]))
    assert_close(model([OTHER_IDS, IDS]), given)


def made(name, attention="bahdanau"):
    return DECODERS[name](GRUCell(SIZE), *([] if name == "fixed" else [attention]))


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gets_both_masks_and_hands_that_of_its_inputs_on(name):
    """Oracle: the masks given by hand, and for the padding between two words the row without it."""
    words, decoder = embedding(), made(name)
    ids = np.array([[3, 0, 5, 0], [1, 2, 4, 0]])
    inputs, memory, state = words(ids), words(IDS), normal(2, SIZE)
    found = decoder(inputs, memory, initial_state=[state])
    masks = {"inputs_mask": ids > 0, "memory_mask": IDS > 0}
    given = decoder(tf.identity(inputs), tf.identity(memory), initial_state=[state], **masks)
    assert_close(found, given)
    for x in (*found, *given):
        np.testing.assert_array_equal(x._keras_mask, ids > 0)
        assert not np.any(np.asarray(x)[ids == 0])
    symbols = decoder(words(keras.Input((None,), dtype="int32")), keras.Input((None, SIZE)))
    assert all(hasattr(x, "_keras_mask") for x in symbols)
    alone = decoder(words(np.array([[3, 5]])), memory[:1], memory_mask=IDS[:1] > 0, initial_state=[state[:1]])
    assert_close([x[:1, :3:2] for x in found], alone)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_that_samples_leaves_padding_out(name):
    """Oracle: the row without its padding."""
    words, decoder = embedding(), made(name)
    ids, sample_mask = np.array([[3, 5, 0], [1, 2, 4]]), np.ones((2, 3), "bool")
    arguments = {"sample_mask": sample_mask, "next_inputs": lambda output, alignment, inputs: output / 2 + inputs}
    memory, state = normal(2, 4, SIZE), normal(2, SIZE)
    found = decoder(words(ids), memory, initial_state=[state], **arguments)
    alone = decoder(
        words(ids[:1, :2]), memory[:1], initial_state=[state[:1]], **(arguments | {"sample_mask": [[1, 1]]})
    )
    assert_close([x[:1, :2] for x in found], alone)
    for x in found:
        np.testing.assert_array_equal(x._keras_mask, ids > 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DECODERS, "keras"])
def test_a_loss_of_keras_counts_no_padding_behind_a_decoder(name):
    """Oracle: the same words without padding; and `keras.layers.GRU`, for which both agree."""
    ids, targets = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[2, 3, 7], [5, 6, 7]])
    words, memory = keras.Input((None,), dtype="int32"), keras.Input((None, SIZE))
    embedded = embedding()(words)
    if name == "keras":
        outputs = keras.layers.GRU(SIZE, return_sequences=True)(embedded)
    else:
        outputs, _ = made(name)(embedded, memory)
    model = keras.Model([words, memory], keras.layers.Dense(WORDS)(outputs))
    randomise(model)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    source = normal(2, 5, SIZE)
    plain = model.evaluate([ids, source], targets, verbose=0)
    padded = [np.pad(x, [(0, 0), (0, 4)]) for x in (ids, targets)]
    assert model.evaluate([padded[0], source], padded[1], verbose=0) == pytest.approx(plain, rel=1e-5)


def test_the_pointer_generator_hands_the_mask_on():
    logits = embedding()(IDS)
    alignments = np.full((2, 5, 3), 1 / 3, "float32")
    x = normal(2, 5, SIZE)
    log_probs = PointerGenerator(2)(logits, x, x, x, alignments, OTHER_IDS % SIZE)
    np.testing.assert_array_equal(log_probs._keras_mask, IDS > 0)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, wrong: PoolingAttention(3)(x, mask=wrong), "mask"),
        (lambda x, wrong: make_attention("luong", 3)(x[:, 0], x, memory_mask=wrong), "memory_mask"),
        (lambda x, wrong: BahdanauDecoder(GRUCell(SIZE), "luong")(x, x, wrong), "memory_mask"),
        (lambda x, wrong: BahdanauDecoder(GRUCell(SIZE), "luong")(x, x, inputs_mask=wrong), "inputs_mask"),
        (lambda x, wrong: MutualAttention(3)(x, x, memory_mask=wrong), "memory_mask"),
    ],
)
def test_what_is_no_mask_is_named(call, name):
    x = tf.constant(normal(2, 3, SIZE))
    with pytest.raises(ValueError, match=rf"{name} must have the two axes batch and time .*, got shape \(2, 3, 4\)"):
        call(x, x > 0)
