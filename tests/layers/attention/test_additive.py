"""Attention against NumPy; what is masked has no influence, in no precision and on no gradient."""

import numpy as np
import pytest
import tensorflow as tf

from contracts import attention_oracle, dtype_policy, lengths_mask, normal, randomise
from kseq.layers import (
    BahdanauAttention,
    ConcatAttention,
    DotAttention,
    LuongAttention,
    NormalizedBahdanauAttention,
    ScaledLuongAttention,
)

BATCH, SOURCE, DEPTH = 3, 4, 5

MAKERS = {
    "bahdanau": lambda: BahdanauAttention(3),
    "normalized": lambda: NormalizedBahdanauAttention(3),
    "luong": LuongAttention,
    "scaled_luong": ScaledLuongAttention,
    "concat": lambda: ConcatAttention(3),
    "dot": DotAttention,
    "scaled": lambda: DotAttention(scaled=True),
}
MASKS = {"none": None, "some": lengths_mask([4, 2, 1], SOURCE), "one_row_all": lengths_mask([4, 2, 0], SOURCE)}

every_mechanism = pytest.mark.parametrize("name", MAKERS)
in_half_precision = pytest.mark.parametrize("name", ["bahdanau", "luong", "dot"])


def made(name):
    """A built mechanism with random weights, a query and a memory."""
    layer = MAKERS[name]()
    query_size = DEPTH if name in ("dot", "scaled") else 2
    layer.build((None, query_size), (None, None, DEPTH))
    return randomise(layer), normal(BATCH, query_size), normal(BATCH, SOURCE, DEPTH, seed=1)


def gradients(layer, query, memory, mask):
    """Of a sum of squares of context and alignment, for query, memory and weights."""
    query, memory = tf.constant(query), tf.constant(memory)
    with tf.GradientTape() as tape:
        tape.watch([query, memory])
        context, alignment = layer(query, memory, memory_mask=mask)
        loss = tf.reduce_sum(tf.square(tf.cast(context, tf.float32))) + tf.reduce_sum(tf.square(alignment))
    sources = [query, memory, *layer.trainable_variables]
    return [np.asarray(gradient) for gradient in tape.gradient(loss, sources)]


@every_mechanism
@pytest.mark.parametrize("mask", MASKS)
def test_context_and_alignment_are_the_papers(name, mask):
    """Oracle: `reference.attend`, a softmax over the real rows alone."""
    layer, query, memory = made(name)
    context, alignment = layer(query, memory, memory_mask=MASKS[mask])
    want_context, want_alignment = attention_oracle(layer)(query, memory, MASKS[mask])
    np.testing.assert_allclose(alignment, want_alignment, atol=1e-6)
    np.testing.assert_allclose(context, want_context, atol=1e-6)


@every_mechanism
def test_a_fully_masked_row_gives_zeros_and_finite_gradients(name):
    layer, query, memory = made(name)
    context, alignment = layer(query, memory, memory_mask=MASKS["one_row_all"])
    assert not np.any(context[2]) and not np.any(alignment[2])
    of_query, of_memory, *of_weights = gradients(layer, query, memory, MASKS["one_row_all"])
    assert not np.any(of_query[2]) and not np.any(of_memory[2])
    assert np.all(np.any(of_query[:2], axis=-1))
    assert all(np.all(np.isfinite(gradient)) for gradient in (of_query, of_memory, *of_weights))


@every_mechanism
def test_masked_memory_changes_nothing(name):
    layer, query, memory = made(name)
    mask = MASKS["one_row_all"]
    rewritten = np.where(mask[:, :, None], memory, 30 * normal(*memory.shape, seed=8))
    for got, want in zip(
        layer(query, rewritten, memory_mask=mask), layer(query, memory, memory_mask=mask), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    after = gradients(layer, query, rewritten, mask)
    assert not np.any(after[1][~mask])
    for got, want in zip(after, gradients(layer, query, memory, mask), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@every_mechanism
def test_order_of_the_memory_does_not_matter(name):
    layer, query, memory = made(name)
    order, mask = [2, 0, 3, 1], MASKS["some"]
    context, alignment = layer(query, memory, memory_mask=mask)
    turned, turned_alignment = layer(query, memory[:, order], memory_mask=mask[:, order])
    np.testing.assert_allclose(turned, context, atol=1e-6)
    np.testing.assert_allclose(turned_alignment, np.asarray(alignment)[:, order], atol=1e-6)


@every_mechanism
def test_without_keys_all_rows_weigh_the_same(name):
    layer, query, memory = made(name)
    _, alignment = layer(query, memory, keys=tf.zeros_like(layer.project(memory)))
    np.testing.assert_allclose(alignment, np.full((BATCH, SOURCE), 1 / SOURCE), atol=1e-6)


@in_half_precision
@pytest.mark.parametrize("sign", [-1, 1])
def test_float16_bears_scores_far_from_zero(name, sign):
    """Scores under −16, where a mask of −65504 overflows, and over 16. Oracle: `reference.attend` in float64."""
    with dtype_policy("mixed_float16"):
        layer, query, memory = made(name)
    weights = {"bahdanau": [np.eye(2, 3), np.eye(DEPTH, 3), sign * np.array([15, 10, 5])], "luong": [np.eye(DEPTH, 2)]}
    layer.set_weights(weights.get(name, []))
    query, memory = 2 + np.abs(query) / 4, 4 + np.abs(memory) / 4
    memory *= 1 if name == "bahdanau" else sign
    query, memory = query.astype("float16"), memory.astype("float16")
    scores = sign * np.asarray(layer.score(tf.constant(query), layer.project(tf.constant(memory)), None))
    assert np.all((scores > 16) & (scores < 200))
    mask = MASKS["one_row_all"]
    context, alignment = layer(query, memory, memory_mask=mask)
    want_context, want_alignment = attention_oracle(layer)(query.astype("float64"), memory.astype("float64"), mask)
    np.testing.assert_allclose(alignment, want_alignment, atol=0.03)
    np.testing.assert_allclose(context, want_context, atol=0.03)
    assert not np.any(context[2]) and not np.any(alignment[2])
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients(layer, query, memory, mask))


@in_half_precision
def test_float16_bears_scores_beyond_its_range(name):
    """Products of 81,000 and 80,640, where float16 ends at 65,504: the larger takes all; additive scores are equal."""
    query, memory = np.full((1, 2), 36, "float16"), np.full((1, 2, 2), 1125, "float16")
    memory[0, 1] = 1120
    with dtype_policy("mixed_float16"):
        layer = MAKERS[name]()
    layer.build(query.shape, memory.shape)
    weights = {"bahdanau": [np.eye(2, 3), np.zeros((2, 3)), np.array([40500, 40500, 0])], "luong": [np.eye(2)]}
    layer.set_weights(weights.get(name, []))
    context, alignment = layer(query, memory)
    want = [[0.5, 0.5]] if name == "bahdanau" else [[1, 0]]
    np.testing.assert_array_equal(alignment, want)
    np.testing.assert_allclose(context, np.array(want) @ memory[0].astype("float64"), atol=1)


def test_before_training_the_learned_scale_is_1():
    scaled, (plain, query, memory) = ScaledLuongAttention(), made("luong")
    scaled.build(query.shape, memory.shape)
    scaled.memory_kernel.assign(plain.memory_kernel)
    np.testing.assert_array_equal(scaled(query, memory)[1], plain(query, memory)[1])


@every_mechanism
def test_it_asks_nothing_beside_the_right_words(name):
    assert made(name)[0].penalty(normal(2, 3, SOURCE), normal(2, 3, 7), np.ones((2, 3))) == 0.0


def test_dot_needs_one_size():
    message = (
        "^dot attention needs a query and a memory of one size, got 2 and 5; "
        "use LuongAttention, whose weights join the two$"
    )
    with pytest.raises(ValueError, match=message):
        DotAttention().build((None, 2), (None, None, 5))


@pytest.mark.parametrize("units", [0, -1, 2.0, "4", True, None])
@pytest.mark.parametrize("make", [BahdanauAttention, ConcatAttention, NormalizedBahdanauAttention])
def test_units_must_be_a_positive_whole_number(make, units):
    with pytest.raises(ValueError, match=f"^units must be a positive whole number, got {units!r}$"):
        make(units)
