"""Tests of corpora in shards, against the same corpus encoded in memory."""

import json
import multiprocessing
import os
import signal
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from kseq.data import SetEpoch, Shards, batches, cache, cached_shards, encoded, shards
from kseq.data.shards import COMPLETE
from kseq.errors import UserError

WORDS = 300  # of the vocabulary: two bytes an id


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Shards of seven examples, encoded three at a time."""
    monkeypatch.setattr(shards, "SIZE", 7)
    monkeypatch.setattr(shards, "BATCH", 3)


def examples(n, seed=0):
    """n lists of up to nine ids; the empty ones are left out where they are encoded."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, WORDS, rng.integers(0, 10)).tolist() for _ in range(n)]


def encode(some):
    kept = [x for x in some if x]
    columns = {
        "source": tf.ragged.constant(kept, tf.int32, ragged_rank=1),
        "tokens": tf.ragged.constant([[1, *x, 2] for x in kept], tf.int32, ragged_rank=1),
        "label": np.array([x[0] for x in kept], np.int32),
    }
    return columns, {"kept": len(kept), "empty": np.int64(len(some) - len(kept))}


def nothing(some):
    raise AssertionError("encode was called")


def counting(calls):
    def counted(some):
        calls.append(some)
        return encode(some)

    return counted


def epoch(columns, number=0):
    """All batches of an epoch."""
    made = batches(columns, lambda batch: batch, batch_size=4, buckets=3, seed=3, epoch=SetEpoch(number))
    return list(made.as_numpy_iterator())


def assert_same(columns, want):
    """Every sequence, the counts of ids and the batches of two epochs, with their types, are those of a corpus."""
    assert list(columns) == list(want)
    for name in ("source", "tokens"):
        found, right = columns[name], want[name]
        assert len(found) == len(right) and found.dtype == right.dtype == np.int32 and found.shape == right.shape
        assert found.lengths.tolist() == right.lengths.tolist()
        assert [found[i].tolist() for i in range(len(found))] == [right[i].tolist() for i in range(len(right))]
        assert found.counts(WORDS).tolist() == right.counts(WORDS).tolist()
    np.testing.assert_array_equal(columns["label"], want["label"])
    for number in range(2):
        for one, other in zip(epoch(columns, number), epoch(want, number), strict=True):
            for name, x in other.items():
                assert one[name].dtype == x.dtype
                np.testing.assert_array_equal(one[name], x)


def in_memory(corpus):
    return encoded(corpus, lambda some: encode(some)[0])


def folders(folder):
    """The folders of the shards in a cache, in their order."""
    return sorted(path.parent for path in folder.rglob(cache.ARRAYS))


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 7, 8, 40])
def test_shards_hold_what_the_corpus_in_memory_holds(tmp_path, n):
    corpus = examples(n)
    for function in (encode, nothing):
        columns, counts = cached_shards(tmp_path, ["key"], corpus, function)
        assert_same(columns, in_memory(corpus))
        assert counts == Counter(kept=sum(map(bool, corpus)), empty=sum(not x for x in corpus))
        assert len(folders(tmp_path)) == -(-n // 7)
        assert isinstance(columns["source"], Shards) == (n > 7)


def test_ids_are_kept_in_two_bytes_and_mapped_read_only(tmp_path):
    columns, _ = cached_shards(tmp_path, ["key"], examples(40), encode)
    for piece in columns["source"].pieces:
        assert piece.ids.dtype == np.uint16 and piece.splits.dtype == np.uint8
        with pytest.raises(ValueError, match="read-only"):
            piece.ids[0] = 1


def test_a_shard_may_keep_none_of_its_examples(tmp_path):
    corpus = [*examples(7), *[[]] * 7, *examples(3, seed=1)]
    columns, counts = cached_shards(tmp_path, ["key"], corpus, encode)
    assert_same(columns, in_memory(corpus))
    assert counts["empty"] >= 7
    assert cached_shards(tmp_path, ["none"], [], nothing) == ({}, Counter())


@pytest.mark.slow
def test_another_key_is_another_corpus(tmp_path):
    cached_shards(tmp_path, ["texts", "vocabulary"], examples(8), encode)
    other, _ = cached_shards(tmp_path, ["texts", "another vocabulary"], examples(8, seed=1), encode)
    assert_same(other, in_memory(examples(8, seed=1)))
    assert_same(cached_shards(tmp_path, ["texts", "vocabulary"], None, nothing)[0], in_memory(examples(8)))


# --- what is killed or damaged


def die_at(number):
    """An `encode` that kills its process at the third example of a shard."""

    def killing(some):
        if examples(40)[7 * number + 3] in some:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(some)

    return killing


@pytest.mark.slow
def test_encoding_goes_on_behind_the_shards_of_a_killed_process(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=cached_shards, args=(tmp_path, ["key"], examples(40), die_at(3))
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(folders(tmp_path)) == 3
    calls = []
    columns, _ = cached_shards(tmp_path, ["key"], examples(40), counting(calls))
    assert [x for some in calls for x in some] == examples(40)[21:]
    assert_same(columns, in_memory(examples(40)))


def test_an_error_leaves_the_shards_before_it(tmp_path):
    corpus = examples(40)

    def failing(some):
        if corpus[20] in some:
            raise OSError(28, "No space left on device")
        return encode(some)

    with pytest.raises(OSError, match="No space left on device"):
        cached_shards(tmp_path, ["key"], corpus, failing)
    assert len(folders(tmp_path)) == 2 and not list(tmp_path.rglob(COMPLETE))


@pytest.mark.slow
@pytest.mark.parametrize("file", [cache.ARRAYS, cache.INDEX, cache.CHECKSUMS, ""])
def test_a_damaged_shard_is_told_of_and_made_again_alone(tmp_path, capsys, file):
    cached_shards(tmp_path, ["key"], examples(40), encode)
    damaged = folders(tmp_path)[2]
    if file:
        content = bytearray((damaged / file).read_bytes())
        content[-2] ^= 1
        (damaged / file).write_bytes(content)
    else:
        for path in damaged.iterdir():
            path.unlink()
    calls = []
    columns, _ = cached_shards(tmp_path, ["key"], examples(40), counting(calls))
    assert [x for some in calls for x in some] == examples(40)[14:21]
    assert_same(columns, in_memory(examples(40)))
    assert capsys.readouterr().out.count(f"{damaged} is damaged") == 1
    cached_shards(tmp_path, ["key"], None, nothing)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "[]", '{"shards": "2"}', '{"shards": 9}', '{"shards": 2}'])
def test_without_their_number_the_shards_are_looked_for(tmp_path, content):
    cached_shards(tmp_path, ["key"], examples(40), encode)
    [complete] = tmp_path.rglob(COMPLETE)
    complete.write_text(content)
    assert_same(cached_shards(tmp_path, ["key"], examples(40), nothing)[0], in_memory(examples(40)))
    assert json.loads(complete.read_text()) == {"shards": 6}


@pytest.mark.slow
def test_a_shard_that_another_process_replaces_is_counted(tmp_path, monkeypatch):
    """Where a system cannot exchange two names, the shard has none for a moment: here, until the number is written."""
    write_json = shards.write_json

    def replacing(some):
        if examples(40)[39] in some:
            folders(tmp_path)[1].rename(tmp_path / "away")
        return encode(some)

    def write(path, value):
        (tmp_path / "away").rename(path.parent / "000001")
        write_json(path, value)

    monkeypatch.setattr(shards, "write_json", write)
    assert_same(cached_shards(tmp_path, ["key"], examples(40), replacing)[0], in_memory(examples(40)))
    assert_same(cached_shards(tmp_path, ["key"], None, nothing)[0], in_memory(examples(40)))


@pytest.mark.slow
def test_nothing_is_written_where_all_is_there(tmp_path, monkeypatch):
    """A cache that cannot be written to serves."""
    cached_shards(tmp_path, ["key"], examples(40), encode)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shards, "write_entry", refuse)
    monkeypatch.setattr(shards, "write_json", refuse)
    assert_same(cached_shards(tmp_path, ["key"], None, nothing)[0], in_memory(examples(40)))
    with pytest.raises(PermissionError):
        cached_shards(tmp_path, ["another"], examples(40), encode)


# --- several processes


def make_encode():
    return encode


def make_nothing():
    return nothing


def make_refusal():
    def refuse(some):
        raise UserError("table:3: the label is empty")

    return refuse


def make_death():
    return lambda some: os._exit(9)


@pytest.mark.slow
def test_two_processes_make_the_same_shards(tmp_path):
    corpus = examples(40)
    cached_shards(tmp_path / "one", ["key"], corpus, encode)
    options = {"processes": 2, "worker": make_encode}
    columns, counts = cached_shards(tmp_path / "two", ["key"], corpus, nothing, **options)
    assert_same(columns, in_memory(corpus))
    assert counts["kept"] == len(columns["label"])
    one, two = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two
    with pytest.raises(UserError, match=r"^table:3: the label is empty$"):
        cached_shards(tmp_path, ["bad"], corpus, nothing, processes=2, worker=make_refusal)
    with pytest.raises(UserError, match=r"^one of 2 processes .* has ended.* smaller data.processes$"):
        cached_shards(tmp_path, ["dead"], corpus, nothing, processes=2, worker=make_death)
