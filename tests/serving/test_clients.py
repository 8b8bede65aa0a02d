"""Clients that are not ours ask an exported run: a program in C, and TensorFlow's saved_model_cli."""

import io
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import kseq
from kseq.config import load
from kseq.serving import ask, check
from kseq.tasks import program
from kseq.tasks.classify import Classify

TENSORFLOW = Path(find_spec("tensorflow").origin).parent
LIBRARIES = [TENSORFLOW / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")]
CLI = shutil.which("saved_model_cli", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
TINY = (
    "data.train_count=64",
    "data.dev_count=24",
    "data.test_count=24",
    "data.buckets=1",
    "model.units=8",
    "training.epochs=1",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    program.train(Classify, workdir, load(Classify.Config, overrides=TINY), resume=False, show=0)
    kseq.load(workdir).export(workdir / "export")
    return workdir / "export/1"


@pytest.fixture(scope="module")
def recorded(version):
    """A text of the warm-up and what was answered to it at export."""
    [text] = check.read_requests(version / check.WARMUP)[0]["text"]
    return text.decode(), json.loads((version / check.ANSWERS).read_text())[0]


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler, cc")
@pytest.mark.skipif(
    not all(path.exists() for path in (*LIBRARIES, TENSORFLOW / "include/tensorflow/c/c_api.h")),
    reason="this TensorFlow has no C headers and libraries",
)
def test_a_program_in_c_gets_the_answers(version, tmp_path):
    """Through `TF_LoadSessionFromSavedModel` and `TF_SessionRun`, with the names of the tensors in the signature."""
    client = tmp_path / "client"
    command = ["cc", "-Wall", "-Werror", "-o", client, Path(__file__).with_name("client.c")]
    command += [f"-I{TENSORFLOW / 'include'}", *LIBRARIES, f"-Wl,-rpath,{TENSORFLOW}"]
    subprocess.run(command, check=True)
    with ask.Served(version) as served:
        signature = served.meta.signature_def["serving_default"]
    requests, answers = check.read_requests(version / check.WARMUP), json.loads((version / check.ANSWERS).read_text())
    texts = [text for request in requests for text in request["text"]] + [b"", b"a\nb\0c"]
    expected = [row for answer in answers for row in zip(answer["text"], answer["score"], strict=True)]
    command = [client, version, "2", *(signature.outputs[name].name for name in ("text", "score"))]
    command += [signature.inputs["text"].name.removesuffix(":0")]
    questions = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    file = io.BytesIO(subprocess.run(command, input=questions, capture_output=True, check=True).stdout)
    found = [file.read(int(size)).decode() for size in iter(file.readline, b"")]
    assert found[: 2 * len(expected) : 2] == [text for text, _ in expected]
    scores = list(map(float, found[1::2]))
    assert scores[: len(expected)] == pytest.approx([score for _, score in expected], rel=1e-5)
    assert len(scores) == len(texts)  # those that no export has answered too
    cut_off = subprocess.run(command, input=b"9\nshort", capture_output=True, check=False)
    assert cut_off.returncode == 1 and cut_off.stderr.endswith(b"a string of 9 bytes is cut off\n")


@pytest.mark.skipif(not CLI, reason="TensorFlow's saved_model_cli is not installed")
def test_saved_model_cli_gets_the_answers(version, recorded):
    text, answer = recorded
    command = [CLI, "run", "--dir", version, "--tag_set", "serve", "--signature_def", "serving_default"]
    result = subprocess.run([*command, "--input_exprs", f"text=[{text!r}]"], capture_output=True, text=True, check=True)
    assert f"Result for output key text:\n[{answer['text'][0].encode()!r}]" in result.stdout
    score = float(result.stdout.partition("Result for output key score:\n[")[2].partition("]")[0])
    assert score == pytest.approx(answer["score"][0], rel=1e-5)
