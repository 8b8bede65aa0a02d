"""Exports whose weights are stored in fewer bytes: how large they are, and that they answer as the rounded run does."""

import json

import numpy as np
import pytest

import kseq
from kseq.config import load
from kseq.export import ABOUT
from kseq.serving import check
from kseq.tasks import program
from kseq.tasks.classify import Classify

TINY = (
    "data.train_count=64",
    "data.dev_count=24",
    "data.test_count=24",
    "data.buckets=1",
    "training.epochs=1",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    program.train(Classify, workdir, load(Classify.Config, overrides=TINY), resume=False, show=0)
    return workdir


def stored(version):
    """Bytes of the variables of a version."""
    return sum(path.stat().st_size for path in version.glob("variables/*"))


@pytest.mark.parametrize(("kind", "least", "most"), [("float32", 4.0, 4.2), ("float16", 2.0, 2.2), ("int8", 1.0, 1.3)])
def test_an_export_answers_as_the_rounded_run(run, tmp_path, monkeypatch, capsys, kind, least, most):
    """Oracle: the same model with rounded weights, in Keras; and its own answers, which it gave in another process."""
    classifier = kseq.load(run, [f"serving.weights={kind}"])
    numbers = sum(np.prod(weight.shape) for weight in classifier.model.weights)
    folder = tmp_path / "served"
    classifier.export(folder)
    assert least <= stored(folder / "1") / numbers <= most  # bytes a number
    assert json.loads((folder / "1" / ABOUT).read_text())["weights"] == kind
    monkeypatch.setattr(check, "CALLS", 1)
    check.check(folder / "1")
    assert "requests answered as at export" in capsys.readouterr().out
    texts = [example["text"] for _, example in classifier.examples()] + ["", "star"]
    wanted = classifier(texts, details=True)
    for found, want in zip(kseq.load(folder)(texts, details=True), wanted, strict=True):
        assert found["text"] == want["text"] and found["score"] == pytest.approx(want["score"], abs=1e-5)
    if kind == "int8":
        pairs = zip(kseq.load(run)(texts, details=True), wanted, strict=True)
        assert any(abs(whole["score"] - want["score"]) > 1e-5 for whole, want in pairs)
