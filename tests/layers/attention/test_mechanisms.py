"""What every attention mechanism must do, over the rows of the contract table: a new one needs no test here."""

import numpy as np
import pytest
import tensorflow as tf

import reference
from contracts import CONTRACTS, lengths_mask, normal, randomise
from kseq.layers import ATTENTIONS, LocationAttention, LuongMonotonicAttention, MonotonicAttention

BATCH, SOURCE, DEPTH, QUERY, STEPS = 3, 6, 5, 4, 3

MASKS = {
    "none": np.ones((BATCH, SOURCE), "bool"),
    "right": lengths_mask([6, 3, 0], SOURCE),
    "left": lengths_mask([6, 3, 1], SOURCE)[:, ::-1],
    "holes": np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]], "bool"),
}

NAMES = {kind: name for name, kind in ATTENTIONS.items()}
MAKERS = {name: row.make for name, row in CONTRACTS.items() if type(row.make()) in NAMES} | {
    "LocationAttention-even": lambda: LocationAttention(3, 2, 4),
    "LocationAttention-window": lambda: LocationAttention(3, 2, 3, window=1),
    "MonotonicAttention-hard": lambda: MonotonicAttention(3),
    "LuongMonotonicAttention-hard": LuongMonotonicAttention,
}

every_mechanism = pytest.mark.parametrize("name", MAKERS)
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def made(name):
    """A built mechanism with random weights, a query for each step, and a memory."""
    layer, query = MAKERS[name](), QUERY
    try:
        layer.build((None, query), (None, None, DEPTH))
    except ValueError:  # it takes a query of the memory's size alone
        query = DEPTH
        layer.build((None, query), (None, None, DEPTH))
    return randomise(layer), normal(STEPS, BATCH, query, seed=1), normal(BATCH, SOURCE, DEPTH, seed=2)


def steps(layer, queries, memory, mask):
    """Contexts and alignments of all steps, the attention state passed on."""
    attention_state, results = layer.initial_attention_state(tf.constant(mask)), []
    for query in queries:
        given = {"attention_state": attention_state} if layer.stateful_attention else {}
        context, alignment = layer(query, memory, memory_mask=mask, **given)
        attention_state = layer.next_attention_state(attention_state, alignment)
        results.append((np.asarray(context), np.asarray(alignment)))
    return [np.stack(x) for x in zip(*results, strict=True)]


def test_every_mechanism_has_an_oracle():
    assert set(reference.MECHANISMS) == set(ATTENTIONS)
    assert {NAMES[type(make())] for make in MAKERS.values()} == set(ATTENTIONS)


@every_mask
@every_mechanism
def test_three_steps_are_the_papers(name, mask):
    """Oracle: the mechanism in `reference`, a sentence and a step at a time, with its own attention state."""
    layer, queries, memory = made(name)
    mechanism = reference.MECHANISMS[NAMES[type(layer)]]
    contexts, alignments = steps(layer, queries, memory, mask)
    want_contexts, want_alignments = reference.attend_steps(mechanism, layer, queries, memory, mask)
    np.testing.assert_allclose(alignments, want_alignments, atol=2e-6)
    np.testing.assert_allclose(contexts, want_contexts, atol=5e-6)
    assert not np.any(alignments[:, ~mask])


@every_mask
@every_mechanism
def test_masked_memory_changes_nothing(name, mask):
    layer, queries, memory = made(name)
    rewritten = np.where(mask[:, :, None], memory, 30 * normal(*memory.shape, seed=8))
    for got, want in zip(steps(layer, queries, rewritten, mask), steps(layer, queries, memory, mask), strict=True):
        np.testing.assert_array_equal(got, want)


@every_mask
@every_mechanism
def test_gradients_are_finite_and_do_not_reach_the_padding(name, mask):
    layer, queries, memory = made(name)
    memory, attention_state = tf.constant(memory), layer.initial_attention_state(tf.constant(mask))
    with tf.GradientTape() as tape:
        tape.watch(memory)
        loss = 0.0
        for query in queries:
            context, alignment = layer(query, memory, memory_mask=mask, attention_state=attention_state)
            attention_state = layer.next_attention_state(attention_state, alignment)
            loss += tf.reduce_sum(tf.square(context))
    sources = [memory, *(weight.value for weight in layer.trainable_variables)]
    of_memory, *of_weights = tape.gradient(loss, sources, unconnected_gradients="zero")
    assert not np.any(of_memory.numpy()[~mask]) and np.any(of_memory)
    assert all(np.all(np.isfinite(gradient)) for gradient in (of_memory, *of_weights))


@every_mechanism
def test_without_a_state_it_is_the_first_step(name):
    layer, queries, memory = made(name)
    mask = MASKS["holes"]
    for got, want in zip(
        layer(queries[0], memory, memory_mask=mask), steps(layer, queries[:1], memory, mask), strict=True
    ):
        np.testing.assert_array_equal(got, want[0])


@every_mechanism
def test_keys_can_be_kept_over_many_queries(name):
    layer, queries, memory = made(name)
    keys = layer.project(tf.constant(memory))
    for query in queries:
        kept = layer(query, memory, keys=keys, memory_mask=MASKS["holes"])
        for got, want in zip(kept, layer(query, memory, memory_mask=MASKS["holes"]), strict=True):
            np.testing.assert_array_equal(got, want)


@every_mechanism
def test_shapes_and_types_are_foretold(name):
    layer, queries, memory = made(name)
    found = layer(queries[0], memory)
    assert tuple(tuple(x.shape) for x in found) == layer.compute_output_shape(queries[0].shape, memory.shape)
    specs = layer.compute_output_spec(tf.constant(queries[0]), tf.constant(memory))
    assert [(tuple(x.shape), x.dtype) for x in specs] == [(tuple(x.shape), x.dtype.name) for x in found]
