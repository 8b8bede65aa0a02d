"""Tests of batches, against a plain reading of the examples themselves."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from kseq import data
from kseq.data import Rows, Sequences, SetEpoch, Share, length_boundaries, teacher_forced
from kseq.errors import UserError

START, END = 1, 2


def sequences(lists):
    return Sequences.joined([tf.ragged.constant(lists, tf.int32, ragged_rank=1)])


def corpus(n=40, seed=0):
    """n pairs that no two of are alike, as lists and as columns."""
    rng = np.random.default_rng(seed)
    sources = [[4 + i, *rng.integers(4, 90, rng.integers(0, 9)).tolist()] for i in range(n)]
    targets = [[START, 4 + i, *rng.integers(4, 90, rng.integers(0, 4)).tolist(), END] for i in range(n)]
    return sources, targets, {"source": sequences(sources), "tokens": sequences(targets)}


def numbered(n=50, seed=7):
    """n sequences of 3 to 8 ids, as a list, and as columns with their numbers."""
    rng = np.random.default_rng(seed)
    lists = [[START, *rng.integers(4, 9, k).tolist(), END] for k in rng.integers(1, 7, n)]
    return lists, {"number": np.arange(n), "tokens": sequences(lists)}


def read_epoch(columns, epoch=0, make=lambda batch: batch, **options):
    """The batches of an epoch, from a dataset that was made for it alone and knew how many there would be."""
    options = {"batch_size": 4, "buckets": 3, "seed": 0} | options
    batches = data.batches(columns, make, epoch=SetEpoch(epoch), **options)
    found = list(batches.as_numpy_iterator())
    assert int(batches.cardinality()) == len(found)
    return found


def numbers(batches):
    return [batch["number"].tolist() for batch in batches]


def pairs(batch):
    """The pairs of a batch as the lists that they came from."""
    inputs, targets, weights = batch
    found = []
    for source, tokens, target, weight in zip(inputs["source"], inputs["tokens"], targets, weights, strict=True):
        time = int(weight.sum())
        assert weight.tolist() == [1.0] * time + [0.0] * (len(weight) - time)
        assert not tokens[time:].any() and not target[time:].any()
        assert tokens[1:time].tolist() == target[: time - 1].tolist()
        found.append((source[source > 0].tolist(), [int(tokens[0]), *target[:time].tolist()]))
    return found


def test_the_order_is_that_of_a_permutation_whose_buckets_fill():
    """Oracle: the permutation, walked by hand; recorded runs are shuffled so."""
    lists, columns = numbered()
    boundaries = length_boundaries(list(map(len, lists)), 3)
    for epoch in range(2):
        full, waiting = [], [[] for _ in boundaries]
        for i in np.random.default_rng((5, epoch)).permutation(50).tolist():
            bucket = next(b for b, bound in enumerate(boundaries) if len(lists[i]) <= bound)
            waiting[bucket].append(i)
            if len(waiting[bucket]) == 4:
                full.append(waiting[bucket])
                waiting[bucket] = []
        assert numbers(read_epoch(columns, epoch, seed=5)) == full + [rows for rows in waiting if rows]
        assert numbers(read_epoch(columns, epoch, seed=5, full=True)) == full


def test_the_order_depends_on_seed_and_epoch_alone():
    _, columns = numbered()
    epoch = SetEpoch()
    batches = data.batches(columns, lambda batch: batch, batch_size=4, buckets=3, seed=0, epoch=epoch)
    passes = []
    for number in (0, 1, 2, 1):
        epoch.on_epoch_begin(number)
        passes.append(numbers(batches.as_numpy_iterator()))
    assert passes[1] == passes[3] and passes[2] == numbers(read_epoch(columns, 2))
    others = [*passes[:3], *(numbers(read_epoch(columns, number, seed=1)) for number in (0, 1))]
    assert not any(one == other for one, other in itertools.combinations(others, 2))


@pytest.mark.parametrize("buckets", [1, 3, 20])
def test_every_example_comes_once_padded_to_the_boundary_above_its_length(buckets):
    """Oracle: the sequences themselves; the boundary of each by search."""
    lists, columns = numbered()
    boundaries = length_boundaries(list(map(len, lists)), buckets)
    for epoch in range(2):
        seen = collections.Counter()
        for batch in read_epoch(columns, epoch, buckets=buckets):
            assert batch["tokens"].dtype == np.int32 and 1 <= len(batch["number"]) <= 4
            for i, ids in zip(batch["number"], batch["tokens"], strict=True):
                assert ids.tolist() == lists[i] + [0] * (len(ids) - len(lists[i]))
                assert len(ids) == min(b for b in boundaries if b >= len(lists[i]))
                seen[int(i)] += 1
        assert seen == collections.Counter(range(50))


@pytest.mark.parametrize("buckets", [1, 3])
def test_the_columns_of_an_example_stay_together(buckets):
    sources, targets, columns = corpus()
    found = [pair for batch in read_epoch(columns, make=teacher_forced, buckets=buckets) for pair in pairs(batch)]
    assert sorted(found) == sorted(zip(sources, targets, strict=True))


def test_each_column_is_padded_to_the_longest_that_its_bucket_has():
    """Oracle: the pairs sorted by the longer of their two, cut into thirds."""
    sources, targets, columns = corpus(300)
    longer = np.array([max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)])
    bounds = [int(np.quantile(longer, share, method="inverted_cdf")) for share in (1 / 3, 2 / 3, 1)]
    bucket = np.searchsorted(bounds, longer)
    want = {
        (10, max(len(sources[i]) for i in rows), max(len(targets[i]) for i in rows))
        for rows in (np.flatnonzero(bucket == b) for b in range(3))
    }
    shapes = set()
    for batch in read_epoch(columns, batch_size=10, full=True):
        assert len({bucket[sources.index(ids[ids > 0].tolist())] for ids in batch["source"]}) == 1
        shapes.add((*batch["source"].shape, batch["tokens"].shape[1]))
    assert shapes == want


def test_full_batches_leave_out_fewer_than_a_batch_a_bucket_and_not_always_the_same():
    lists, columns = numbered()
    boundaries = length_boundaries(list(map(len, lists)), 3)
    missing = []
    for epoch in range(3):
        found = read_epoch(columns, epoch, full=True)
        assert {len(batch["number"]) for batch in found} == {4}
        rows = list(itertools.chain(*numbers(found)))
        assert len(set(rows)) == len(rows)
        left_out = sorted(set(range(50)) - set(rows))
        buckets = collections.Counter(np.searchsorted(boundaries, [len(lists[i]) for i in left_out]))
        assert max(buckets.values()) < 4
        assert {batch["tokens"].shape[1] for batch in found} <= set(boundaries)
        missing.append(tuple(left_out))
    assert len(set(missing)) == 3


def test_too_few_examples_for_a_full_batch_raise():
    message = (
        r"^3 examples in 1 buckets make no full batch of 4; lower training.batch_size or data.buckets, or set "
        r"training.xla=false$"
    )
    _, columns = numbered(3, seed=0)
    with pytest.raises(UserError, match=message):
        read_epoch(columns, buckets=1, full=True)
    assert len(read_epoch(columns, buckets=1)) == 1


@pytest.mark.parametrize(
    "lengths, buckets, expected",
    [
        ([5, 3, 4, 3], 1, [5]),
        ([1, 2, 3, 4, 5, 6], 3, [2, 4, 6]),
        ([2, 2, 2, 5, 5, 5], 2, [2, 5]),
        ([7] * 9, 4, [7]),
        ([2, 2, 2, 2, 2, 2, 2, 9], 2, [2, 9]),
        ([1, 9], 20, [1, 9]),
    ],
)
def test_length_boundaries_divide_lengths_into_equal_shares(lengths, buckets, expected):
    """By hand."""
    assert length_boundaries(lengths, buckets) == expected


def test_teacher_forcing_by_hand():
    """Two sentences of 2 and 1 words, padded to 5; each word is the target of the one before it."""
    source = tf.reshape(tf.range(8.0), (2, 2, 2))
    tokens = tf.constant([[1, 7, 8, 2, 0], [1, 5, 2, 0, 0]])
    inputs, targets, weights = teacher_forced({"source": source, "tokens": tokens})
    assert inputs["tokens"].numpy().tolist() == [[1, 7, 8, 0], [1, 5, 0, 0]]
    assert targets.numpy().tolist() == [[7, 8, 2, 0], [5, 2, 0, 0]]
    assert weights.numpy().tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]] and weights.dtype == tf.float32
    np.testing.assert_array_equal(inputs["source"], source)


def test_examples_may_share_rows_that_lie_on_disk(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype("uint8")
    np.save(tmp_path / "pixels.npy", pixels)
    _, columns = numbered(6)
    columns["pixels"] = Rows(np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.arange(6) // 2)
    assert columns["pixels"].shape == (6, 4, 4, 3)
    batches = data.batches(columns, lambda batch: batch, batch_size=2, buckets=1, seed=0, epoch=SetEpoch())
    assert batches.element_spec["pixels"] == tf.TensorSpec([None, 4, 4, 3], tf.uint8)
    for batch in batches.as_numpy_iterator():
        np.testing.assert_array_equal(batch["pixels"], pixels[batch["number"] // 2])


@pytest.mark.parametrize(("count", "workers", "devices"), [(50, 2, 1), (50, 3, 2), (7, 4, 1)])
def test_the_shares_of_the_workers_are_the_batches_of_one(count, workers, devices):
    """Each example comes once, in the same steps, whoever reads it; what fills up a part has no weight."""
    (_, columns), replicas = numbered(count), workers * devices
    options = {"batch_size": 9, "buckets": 2}

    def make(batch):
        weights = {"words": tf.cast(batch["tokens"] > 0, tf.float32), "label": tf.ones(tf.shape(batch["number"]))}
        return batch, batch["tokens"], weights

    whole = read_epoch(columns, 1, make, **options)
    parts = [
        read_epoch(columns, 1, make, share=Share(worker * devices, devices, replicas), **options)
        for worker in range(workers)
    ]
    assert {len(part) for part in parts} == {len(whole) * devices}
    for step, (batch, _, _) in enumerate(whole):
        own = [part for read in parts for part in read[step * devices : (step + 1) * devices]]
        assert (
            len({part["number"].shape for part, _, _ in own}) == len({part["tokens"].shape for part, _, _ in own}) == 1
        )
        real = [weights["label"] == 1 for _, _, weights in own]
        assert all(set(weights["label"]) <= {0, 1} for _, _, weights in own)
        for name, column in batch.items():
            found = np.concatenate([part[name][rows] for (part, _, _), rows in zip(own, real, strict=True)])
            np.testing.assert_array_equal(found, column)
        assert sum(weights["words"].sum() for _, _, weights in own) == (batch["tokens"] > 0).sum()
