"""A run's folder: what is taken for one, what is refused, and that one process at a time writes to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kseq import checkpoints, export, runs
from kseq.errors import UserError
from kseq.files import sha256, write_json
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail

ROOT = Path(__file__).parents[1]
JSON = ("run.json", "config.json", "progress.json")


def make_run(folder, epochs=1):
    """The files of a run of classify, without a model in them."""
    folder.mkdir(parents=True)
    runs.create_run(folder, Classify, Classify.Config(), {"seed": 0})
    (folder / "vocabulary.txt").write_text("a\nb\n")
    runs.save_checksums(folder, ["vocabulary.txt"])
    if epochs:
        digests = {}
        for name in ("best-0001.npz", "last-0001.npz"):
            np.savez(folder / name, a=np.zeros(3))
            digests[name] = sha256(folder / name)
        progress = {"epoch": 1, "seconds": 1.5, "last": "last-0001.npz", "before": [], "sha256": digests}
        progress |= {
            "best": {"epoch": 1, "value": 0.5, "file": "best-0001.npz"},
            "history": [{"epoch": 1, "loss": 2.5}],
        }
        checkpoints.write_progress(folder, progress)
    return folder


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_run_tells_its_task_its_config_and_how_far_it_came(tmp_path):
    folder = make_run(tmp_path / "run")
    run = runs.read_trained_run(folder, Classify)
    assert (run.task, run.config) == (Classify, Classify.Config())
    assert run.progress["best"]["value"] == 0.5 and run.info["seed"] == 0
    assert runs.read_trained_run(str(folder)).task is Classify


def test_reading_a_run_needs_no_tensorflow(tmp_path):
    make_run(tmp_path / "run")
    code = f"import sys; from kseq import runs; runs.read_trained_run({str(tmp_path / 'run')!r}); "
    code += "print([name for name in ('tensorflow', 'keras', 'absl') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("none", r"none holds no trained run; train one with --mode=train --workdir="),
        ("empty", r"empty holds no trained run; train one with --mode=train --workdir="),
        ("begun", r"begun holds no trained run: its first epoch has not ended"),
        ("other", r"other is a run of classify, not of entail; python -m kseq.tasks.classify knows it"),
    ],
)
def test_a_folder_without_a_run_of_the_task_is_told(tmp_path, folder, message):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "begun", epochs=0)
    make_run(tmp_path / "other")
    with pytest.raises(UserError, match=message):
        runs.read_trained_run(tmp_path / folder, Entail if folder == "other" else Classify)


def test_a_folder_is_asked_for_without_a_task(tmp_path):
    for name, message in (("none", "there is no such folder"), ("empty", "holds no run of kseq")):
        if name == "empty":
            (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=message):
            runs.read_trained_run(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"3", b"[" * 9999])
@pytest.mark.parametrize("name", JSON)
def test_a_damaged_json_file_is_one_sentence_that_names_it(tmp_path, name, content):
    folder = make_run(tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"run/{name} is damaged"):
        runs.read_trained_run(folder, Classify)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", {}, r"run.json names the task None, and kseq has none of that name"),
        ("run.json", {"task": "program"}, r"run.json names the task 'program', and kseq has none"),
        ("run.json", {"task": ["classify"]}, r"run.json names the task \['classify'\], and kseq has none"),
        ("run.json", {"task": "classify"}, r"run.json has no checksum of config.json: it is damaged, or of an older"),
        ("run.json", {"task": "classify", "files": 3}, r"run.json has no checksum of config.json"),
        ("config.json", {}, r"config.json is not what the run was trained with"),
        ("config.json", None, r"config.json cannot be read: No such file"),
        ("config.json", Entail.Config().model_dump(mode="json"), r"config.json is not what the run was trained with"),
        ("progress.json", {}, r"progress.json is not what a run of this version of kseq writes"),
    ],
)
def test_a_foreign_json_file_is_one_sentence_that_names_it(tmp_path, name, content, message):
    folder = make_run(tmp_path / "run")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        runs.read_trained_run(folder, Classify)


def test_a_config_of_another_version_is_told(tmp_path):
    folder = make_run(tmp_path / "run")
    values = json.loads((folder / "config.json").read_text()) | {"strange": 1}
    (folder / "config.json").write_text(json.dumps(values))
    runs.save_checksums(folder, ["config.json"])
    with pytest.raises(UserError, match=r"config.json is of another version of kseq: strange = 1 .*unknown key"):
        runs.read_trained_run(folder)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_file_of_the_task_that_has_changed_is_told_before_a_model_is_built(tmp_path, damage):
    folder = make_run(tmp_path / "run")
    (folder / "vocabulary.txt").unlink()
    if damage == "changed":
        (folder / "vocabulary.txt").write_text("b\na\n")
    message = {"missing": "vocabulary.txt cannot be read", "changed": "vocabulary.txt is not what the run was trained"}
    with pytest.raises(UserError, match=message[damage]):
        runs.load_task(folder, prepare=lambda config: pytest.fail("too late"))


def test_a_file_outside_the_folder_is_not_read(tmp_path):
    folder = make_run(tmp_path / "run")
    info = json.loads((folder / "run.json").read_text())
    for name in ("../a", "/etc/passwd", "a/b"):
        (folder / "run.json").write_text(json.dumps(info | {"files": info["files"] | {name: "0"}}))
        with pytest.raises(UserError, match="which is not in its folder"):
            runs.load_task(folder, prepare=lambda config: pytest.fail("too late"))


def test_only_data_and_sampler_can_change(tmp_path):
    folder = make_run(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"--set model.units=8: of a finished run only data, sampler and serving can be changed"
    ):
        runs.load_task(folder, overrides=["model.units=8"])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"id": "a", "source": "x\\ty"}\n', [("a", {"premise": "x", "hypothesis": "y"})]),
        (b'{"id": "a", "source": "x"}\n', []),
        (b'{"id": "a"}\n', []),
        (b'{"id": "a", "source": 3}\n', []),
        (b"[]\n", []),
        (b"{\n", []),
        (b"\xff\n", []),
        (b"", []),
        (None, []),
    ],
)
def test_examples_of_a_file_of_predictions(tmp_path, content, found):
    path = tmp_path / "predictions-dev.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert runs.read_examples(path, ("premise", "hypothesis")) == found


# --- who may write


@pytest.mark.parametrize(
    "names",
    [
        ("thesis.txt",),
        ("config.json", "log.csv", "metrics.json"),
        ("export/thesis.txt",),
        (".hidden",),
        ("progress.json",),
    ],
)
def test_a_folder_that_is_no_run_is_not_touched(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with (
        pytest.raises(UserError, match=r"holds '.*' and no run of kseq; nothing there is touched"),
        runs.locked(tmp_path),
    ):
        pytest.fail("it was taken")
    assert contents(tmp_path) == before and not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("content", ["{}", '{"task": "sing"}', '{"task": 3}'])
def test_a_run_of_another_program_is_not_touched(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run.json is not of a run of kseq; nothing there"), runs.locked(tmp_path):
        pytest.fail("it was taken")
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match=r"a is a file; --workdir must be a folder"), runs.locked(tmp_path / "a"):
        pytest.fail("it was taken")


@pytest.mark.parametrize("kind", ["new", "empty", "run", "begun", "left"])
def test_a_new_or_empty_folder_or_a_run_is_taken(tmp_path, kind):
    folder = tmp_path / "a" / "b"
    if kind == "empty":
        folder.mkdir(parents=True)
    elif kind in ("run", "begun"):
        make_run(folder, epochs=int(kind == "run"))
    elif kind == "left":  # killed before it had written anything whole
        (folder / ".run.json.draft-abcdefgh").mkdir(parents=True)
        (folder / ".lock").touch()
    with runs.locked(folder):
        assert (folder / ".lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
        assert not list(folder.glob(".*.draft-*"))
    with runs.locked(folder):
        pass


HOLD = """
import sys, time
from kseq import runs
with runs.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no lock there dies with its process")
def test_a_folder_has_one_process_and_is_free_when_that_is_killed(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert holder.stdout.readline() == b"held\n"
        message = f"is in use by process {holder.pid} on .*; wait until it ends, or take another --workdir"
        with pytest.raises(UserError, match=message), runs.locked(folder):
            pytest.fail("two have it")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with runs.locked(folder):
            pass
    finally:
        holder.kill()
        holder.stdout.close()
        holder.wait()


def test_an_export_replaces_nothing_that_no_export_has_written(tmp_path):
    folder = tmp_path / "export"
    export.check_replaceable(folder)
    folder.mkdir()
    export.check_replaceable(folder)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"export/thesis.txt was written by no export, which replaces the whole folder"):
        export.check_replaceable(folder)
    (folder / "assets.extra").mkdir()
    (folder / export.ABOUT).write_text(json.dumps({"files": ["thesis.txt", export.ABOUT]}))
    export.check_replaceable(folder)
    (folder / "variables").mkdir()
    (folder / "variables/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"export/variables/mine.txt was written by no export"):
        export.check_replaceable(folder)
    shutil.rmtree(folder)
    folder.write_text("mine")
    with pytest.raises(UserError, match=r"export is a file; an export is a folder"):
        export.check_replaceable(folder)


def test_an_export_that_this_version_cannot_open_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is a SavedModel, but not one that this version of kseq has exported"):
        runs.Exported(tmp_path)
    write_json(tmp_path / runs.ABOUT, {"inputs": ["text"], "paths": False})
    monkeypatch.setattr(tf.saved_model, "load", lambda path: SimpleNamespace(signatures={"serving_default": None}))
    with pytest.raises(UserError, match="was exported by an earlier version of kseq; export the run again"):
        runs.Exported(tmp_path)
