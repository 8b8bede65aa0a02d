"""The best path through a table of scores, against all paths."""

import itertools

import numpy as np

from kseq.samplers import viterbi_decode


def test_it_is_the_best_of_all_that_are_allowed():
    """Oracle: every sequence of the tags, one after the other."""
    rng = np.random.default_rng(0)
    lengths, tags = [5, 3, 1, 0], 3
    for _ in range(5):
        scores = rng.normal(size=(4, 5, tags)).astype("float32")
        begins = np.array([True, False, True])
        follows = rng.random((tags, tags)) < 0.6
        follows[:, 0] = True
        found = viterbi_decode(scores, lengths, follows, begins).numpy()
        assert found.shape == (4, 5)
        for row, n, path in zip(scores[:3], lengths[:3], found, strict=False):
            every = [p for p in itertools.product(range(tags), repeat=n) if begins[p[0]]]
            every = [p for p in every if all(follows[i, j] for i, j in itertools.pairwise(p))]
            want = max(every, key=lambda p: sum(row[t, tag] for t, tag in enumerate(p)))
            assert path[:n].tolist() == list(want) and set(path[n:].tolist()) <= {want[-1]}


def test_no_steps_have_no_path():
    assert viterbi_decode(np.zeros((2, 0, 3), "float32"), [0, 0], np.ones((3, 3), bool), np.ones(3, bool)).shape == (
        2,
        0,
    )
