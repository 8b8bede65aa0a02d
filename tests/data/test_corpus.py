"""Tests of columns of ids."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.data import Sequences, corpus, encoded


def ragged(rows):
    return tf.ragged.constant(rows, tf.int32, ragged_rank=1)


def sequences(lists):
    return Sequences.joined(map(ragged, lists))


def test_sequences_of_several_parts_stand_one_behind_the_other():
    joined = sequences([[[5, 6], [7]], [[], [8, 9, 10]]])
    assert joined.lengths.tolist() == [2, 1, 0, 3] and joined.ids.dtype == np.int32
    assert joined.padded([3, 0, 2], 4).tolist() == [[8, 9, 10, 0], [5, 6, 0, 0], [0, 0, 0, 0]]
    assert [joined[i].tolist() for i in range(4)] == [[5, 6], [7], [], [8, 9, 10]]
    assert len(Sequences.joined([]).lengths) == 0


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_ids_are_counted(monkeypatch, at_once):
    monkeypatch.setattr(corpus, "CHUNK_SIZE", at_once)
    ids = sequences([[[5, 1], [2, 7, 5]], [[], [0, 5, 2]]])
    assert ids.counts(6).tolist() == [1, 1, 2, 0, 0, 3] and ids.counts(8)[7] == 1


def test_examples_are_encoded_in_batches_of_which_some_may_be_left_out(monkeypatch):
    monkeypatch.setattr(corpus, "BATCH", 2)
    asked = []

    def encode(texts):
        asked.append(len(texts))
        texts = [text for text in texts if text]
        letters = ragged([[ord(letter) for letter in text] for text in texts])
        return {"letters": letters, "size": np.array([len(text) for text in texts], "int32")}

    columns = encoded(iter(["ab", "", "c", "", "def"]), encode)
    assert asked == [2, 2, 1] and list(columns) == ["letters", "size"]
    assert columns["letters"].padded([0, 1, 2], 3).tolist() == [[97, 98, 0], [99, 0, 0], [100, 101, 102]]
    assert columns["size"].tolist() == [2, 1, 3] and columns["size"].dtype == np.int32
    assert encoded([], encode) == {}
