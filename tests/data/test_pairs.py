"""Tests of batches of pairs, against a plain reading of the pairs themselves."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.data import Clock, Sequences, encoded_pairs, paired_batches, pairs
from kseq.errors import UserError

START, END = 1, 2


def sequences(lists):
    return Sequences.joined([tf.ragged.constant(part, tf.int32, ragged_rank=1) for part in lists])


def corpus(n=40, seed=0):
    """n pairs that no two of are alike, as lists and as `Sequences`."""
    rng = np.random.default_rng(seed)
    sources = [[4 + i, *rng.integers(4, 90, rng.integers(0, 9))] for i in range(n)]
    targets = [[START, 4 + i, *rng.integers(4, 90, rng.integers(0, 4)), END] for i in range(n)]
    return sources, targets, sequences([sources]), sequences([targets])


def read(batch):
    """The pairs of a batch as the lists that they came from."""
    inputs, targets, weights = (tf.nest.map_structure(lambda x: x.numpy(), part) for part in batch)
    found = []
    for source, tokens, target, weight in zip(inputs["source"], inputs["tokens"], targets, weights, strict=True):
        time = int(weight.sum())
        assert weight.tolist() == [1.0] * time + [0.0] * (len(weight) - time)
        assert not tokens[time:].any() and not target[time:].any()
        assert tokens[1:time].tolist() == target[: time - 1].tolist()
        found.append((source[source > 0].tolist(), [int(tokens[0]), *target[:time].tolist()]))
    return found


def test_sequences_of_several_parts_stand_one_behind_the_other():
    joined = sequences([[[5, 6], [7]], [[], [8, 9, 10]]])
    assert joined.lengths.tolist() == [2, 1, 0, 3] and joined.ids.dtype == np.int32
    assert joined.padded([3, 0, 2], 4).tolist() == [[8, 9, 10, 0], [5, 6, 0, 0], [0, 0, 0, 0]]
    assert len(Sequences.joined([]).lengths) == 0


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_ids_are_counted(monkeypatch, at_once):
    monkeypatch.setattr(pairs, "AT_ONCE", at_once)
    ids = sequences([[[5, 1], [2, 7, 5]], [[], [0, 5, 2]]])
    assert ids.counts(6).tolist() == [1, 1, 2, 0, 0, 3] and ids.counts(8)[7] == 1


def test_pairs_are_encoded_in_batches_and_those_with_an_empty_side_left_out(monkeypatch):
    monkeypatch.setattr(pairs, "BATCH", 2)
    asked = []

    def encode(sources, targets):
        asked.append(len(sources))
        sides = ([[ord(letter) for letter in text] for text in side] for side in (sources, targets))
        return tuple(tf.ragged.constant(side, tf.int32, ragged_rank=1) for side in sides)

    texts = [("ab", "x"), ("", "y"), ("c", ""), ("", ""), ("de", "zx")]
    rows = ({"source": source, "target": target} for source, target in texts)
    source, target, left_out = encoded_pairs(rows, encode, start=START, end=END)
    assert asked == [2, 2, 1] and left_out == 3
    assert source.padded([0, 1], 2).tolist() == [[97, 98], [100, 101]]
    assert target.padded([0, 1], 4).tolist() == [[START, 120, END, 0], [START, 122, 120, END]]


@pytest.mark.parametrize("buckets", [1, 3])
def test_an_epoch_holds_each_pair_once(buckets):
    sources, targets, *sides = corpus()
    batches = paired_batches(*sides, batch_size=7, buckets=buckets, seed=0, clock=Clock())
    found = [pair for batch in batches for pair in read(batch)]
    assert sorted(found) == sorted(zip(sources, targets, strict=True))
    assert int(batches.cardinality()) == len(list(batches))


def test_pairs_of_a_batch_are_alike_in_length_and_padded_to_the_longest_of_their_bucket():
    """Oracle: the pairs sorted by the longer of their two, cut into thirds."""
    sources, targets, *sides = corpus(300)
    longer = np.array([max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)])
    bounds = [int(np.quantile(longer, share, method="inverted_cdf")) for share in (1 / 3, 2 / 3, 1)]
    bucket = np.searchsorted(bounds, longer)
    want = {
        (max(len(sources[i]) for i in rows), max(len(targets[i]) for i in rows) - 1)
        for rows in (np.flatnonzero(bucket == b) for b in range(3))
    }
    shapes = set()
    for batch in paired_batches(*sides, batch_size=10, buckets=3, seed=0, clock=Clock(), full=True):
        inputs, targets_of, _ = batch
        assert len({bucket[sources.index(source)] for source, _ in read(batch)}) == 1
        assert inputs["source"].shape[0] == 10
        shapes.add((inputs["source"].shape[1], targets_of.shape[1]))
    assert shapes == want


def test_the_order_depends_on_seed_and_epoch_alone():
    *_, source, target = corpus()

    def order(seed, epoch):
        clock = Clock()
        batches = paired_batches(source, target, batch_size=7, buckets=2, seed=seed, clock=clock)
        clock.on_epoch_begin(epoch)
        return [pair for batch in batches for pair in read(batch)]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4) and order(0, 3) != order(1, 3)


def test_full_batches_leave_out_other_pairs_in_every_epoch():
    *_, source, target = corpus(23)
    clock = Clock()
    batches = paired_batches(source, target, batch_size=10, buckets=1, seed=0, clock=clock, full=True)
    seen = []
    for epoch in range(2):
        clock.on_epoch_begin(epoch)
        seen.append({tuple(ids) for batch in batches for ids, _ in read(batch)})
    assert int(batches.cardinality()) == 2 and [len(s) for s in seen] == [20, 20] and seen[0] != seen[1]


def test_too_few_pairs_for_a_full_batch_are_named():
    *_, source, target = corpus(9)
    with pytest.raises(UserError, match=r"^9 pairs in 2 buckets make no full batch of 9; lower training.batch_size or"):
        paired_batches(source, target, batch_size=9, buckets=2, seed=0, clock=Clock(), full=True)
