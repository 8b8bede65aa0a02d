"""Word vectors from files of GloVe and word2vec, against what was written to them."""

import gzip
import re
import tracemalloc

import numpy as np
import pytest

from kseq.data import first_words, read_vectors
from kseq.errors import UserError

GLOVE = "the 1 2 3\nDog 4 5 6\ncat -1e-2 0.5 7\n. . 8 9 10\n"


def written(tmp_path, text, name="v.txt"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("header", ["", "4 3\n"])
@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz"])
def test_a_word_has_the_numbers_of_its_line(tmp_path, header, name):
    """Also a word with a space in it, as GloVe has some, and lines that end in a space, as word2vec's do."""
    path = written(tmp_path, header + GLOVE.replace("6\n", "6 \n"), name)
    vectors, found = read_vectors(path, ["cat", "bird", "the", "cat", "Dog", ". ."], 3)
    assert found.tolist() == [True, False, True, True, True, True]
    want = [[-0.01, 0.5, 7], [0, 0, 0], [1, 2, 3], [-0.01, 0.5, 7], [4, 5, 6], [8, 9, 10]]
    np.testing.assert_array_equal(vectors, np.array(want, "float32"))


def test_a_word_is_looked_for_in_lower_case_where_it_is_not_there_as_it_is(tmp_path):
    for text in ("the 1\nThe 2\n", "The 2\nthe 1\n"):
        vectors, found = read_vectors(written(tmp_path, text), ["The", "THE", "the", "tHe", "dOG"], 1)
        assert vectors[:, 0].tolist() == [2, 1, 1, 1, 0] and found.tolist() == [True] * 4 + [False]


def test_the_first_of_two_lines_counts(tmp_path):
    assert read_vectors(written(tmp_path, "a 1\na 2\n"), ["a"], 1)[0].tolist() == [[1]]


@pytest.mark.parametrize("header", ["", "4 3\n"])
def test_the_first_words_are_those_of_the_first_lines(tmp_path, header):
    path = written(tmp_path, header + GLOVE)
    assert first_words(path, 3, 2) == ["the", "Dog"] and first_words(path, 3, 9) == ["the", "Dog", "cat", ". ."]
    with pytest.raises(UserError, match=r"v.txt has vectors of 3 numbers; set model.embedding_size=3, it is 2"):
        first_words(path, 2, 1)


@pytest.mark.parametrize(
    "text, message",
    [
        (GLOVE.replace(" 3", " 3 4"), "v.txt has vectors of 4 numbers; set model.embedding_size=4, it is 3"),
        ("2 50\n", "v.txt has vectors of 50 numbers; set model.embedding_size=50, it is 3"),
        (GLOVE + "bird 1 2\n", "v.txt:5: 2 number(s) where the lines before have 3"),
        (GLOVE + "bird 1 2 3 4\n", "v.txt:5: more than 3 numbers, which the lines before have"),
        (GLOVE + "bird 1 two 3\n", "v.txt:5: could not convert string to float: 'two'"),
        (GLOVE + "bird 1 nan 3\n", "v.txt:5: a number is not finite"),
        ("the\n", "v.txt:1: a word and its numbers must stand here"),
        ("", "v.txt: a word and its numbers must stand here"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_vectors(written(tmp_path, text), ["bird"], 3)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt cannot be read: No such file"):
        read_vectors(tmp_path / "none.txt", ["a"], 3)


@pytest.mark.slow
def test_a_file_is_not_held_in_memory(tmp_path):
    """4 MB of lines, of which a walk may hold 0.5 MB."""
    path = written(tmp_path, "".join(f"w{i} {' '.join(['0.125'] * 60)}\n" for i in range(10_000)))
    tracemalloc.start()
    read_vectors(path, ["w9999"], 60)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5e5
