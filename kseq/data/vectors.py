"""Pretrained word vectors from text files in the format of GloVe or word2vec."""

from collections import defaultdict
from itertools import islice

import numpy as np

from kseq.data.tables import reread_lines
from kseq.errors import UserError


def read_vectors(path, words, size):
    """Reads the vectors of the given words. Each line of the file is a word and its numbers; plain or `.gz`.

    Only the given words are kept in memory. A first line with two counts (word2vec) is skipped. A word that the file
    does not have is looked up in lower case.

    Args:
        path: of the file.
        words: list of words.
        size: numbers of a vector.

    Returns:
        float32 `[words, size]`, zero for words that the file does not have, and bool `[words]`, whether it has them.

    Raises:
        UserError: the file cannot be read, its vectors have another size, or a line is malformed.
    """
    wanted, lower = defaultdict(list), defaultdict(list)
    for i, word in enumerate(words):
        wanted[word].append(i)
        lower[word.lower()].append(i)
    # The vector of the word as it is spelled is preferred to that of its lower case.
    vectors, rank = np.zeros((len(words), size), "float32"), np.zeros(len(words), int)
    lines = _without_counts(reread_lines(path, "replace"), path, size)
    for where, line in lines:
        word, *numbers = line.rstrip(" ").rsplit(" ", size)
        if len(numbers) < size:
            raise UserError(f"{where}: {len(numbers)} number(s) where the lines before have {size}")
        if " " in word and _is_number(word.rpartition(" ")[-1]):  # a word may hold spaces: ". . ."
            raise UserError(f"{where}: more than {size} numbers, which the lines before have")
        for better, rows in ((2, wanted.get(word, ())), (1, lower.get(word, ()))):
            new = [i for i in rows if rank[i] < better]
            if new:
                vectors[new], rank[new] = _vector(numbers, where), better
    return vectors, rank > 0


def first_words(path, size, count):
    """The first `count` words of such a file, which are usually the most frequent.

    Args:
        path: of the file.
        size: numbers of a vector.
        count: at least 0.

    Raises:
        UserError: the file cannot be read, or has vectors of another size.
    """
    lines = _without_counts(reread_lines(path, "replace"), path, size)
    return [line.rstrip(" ").rsplit(" ", size)[0] for _, line in islice(lines, count)]


def _without_counts(lines, path, size):
    """The lines without the word2vec's first one, when the vectors have `size` numbers."""
    where, line = next(lines, (path, ""))
    fields = line.rstrip(" ").split(" ")
    counts = len(fields) == 2 and all(field.isdigit() for field in fields)
    found = int(fields[1]) if counts else len(fields) - 1
    if not found:
        raise UserError(f"{where}: a word and its numbers must stand here, with spaces between")
    if found != size:
        raise UserError(f"{path} has vectors of {found} numbers; set model.embedding_size={found}, it is {size}")
    if not counts:
        yield where, line
    yield from lines


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vector(numbers, where):
    try:
        vector = np.array(numbers, "float32")
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if not np.all(np.isfinite(vector)):
        raise UserError(f"{where}: a number is not finite")
    return vector
