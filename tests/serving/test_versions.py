"""An export's folder: versions that appear whole, the old ones that go, and what is not touched."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import kseq
from kseq.errors import UserError
from kseq.files import write_json
from kseq.serving import ask, beside, versions
from kseq.serving.check import ABOUT

ROOT = Path(kseq.__file__).parents[1]
PARTS = ("saved_model.pb", "variables/variables.index")


def write(draft):
    """Stands for a SavedModel."""
    for name in PARTS:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text("whole")
    write_json(draft / ABOUT, {"files": [*PARTS, ABOUT]})


def write_files(folder, version):
    for name in beside.FILES:
        if not (folder / name).exists():
            (folder / name).write_text("latest { num_versions: 1 }")


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch):
    """The files beside the versions need a model; `test_beside.py` has one."""
    monkeypatch.setattr(versions, "write_files", write_files)


def names(folder):
    return sorted(os.listdir(folder), key=str)


def test_versions_count_up_and_the_oldest_go(tmp_path):
    folder = tmp_path / "served/translator"
    assert [versions.add_version(folder, write).name for _ in range(5)] == ["1", "2", "3", "4", "5"]
    assert names(folder) == ["3", "4", "5", *sorted(beside.FILES)]
    assert versions.add_version(folder, write, keep=0).name == "6" and ask.versions(folder) == [6]
    for _ in range(6):
        versions.add_version(folder, write, keep=99)
    assert ask.versions(folder) == [6, 7, 8, 9, 10, 11, 12]
    assert ask.model_folder(folder) == folder / "12" and ask.model_folder(folder / "7") == folder / "7"


@pytest.mark.parametrize(
    "policy",
    [
        "model_version_policy { specific { versions: 1 versions: 2 } }",
        "model_version_policy { specific { versions: [1, 2] } }",
        "specific {\n  versions : 1\n  versions: 2 }  # versions: 3",
    ],
)
def test_a_version_that_the_server_is_told_to_serve_stays(tmp_path, policy):
    for _ in range(2):
        versions.add_version(tmp_path, write)
    (tmp_path / "models.config").write_text(policy)
    for _ in range(3):
        versions.add_version(tmp_path, write, keep=0)
    assert ask.versions(tmp_path) == [1, 2, 5]
    assert (tmp_path / "models.config").read_text() == policy


def test_a_version_is_whole_whenever_it_is_there(tmp_path, monkeypatch):
    """A reader looks over and over, as TensorFlow Serving does, while versions come and go."""
    monkeypatch.setattr(versions, "_sync", lambda folder: None)
    parts, broken, done = [f"part-{i}" for i in range(50)], [], threading.Event()

    def write_many(draft):
        write(draft)
        for name in parts:
            (draft / name).write_text("whole")
        write_json(draft / ABOUT, {"files": [*PARTS, *parts, ABOUT]})

    def look():
        while not done.is_set():
            found = [int(name) for name in os.listdir(tmp_path) if name.isdigit()]
            if found and not {*parts, "saved_model.pb"} <= {*os.listdir(tmp_path / str(max(found)))}:
                broken.append(found)
            time.sleep(1e-4)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(6):
        versions.add_version(tmp_path, write_many, keep=1)
    done.set()
    reader.join()
    assert not broken and ask.versions(tmp_path) == [5, 6]


KILL = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_versions
from kseq.serving import versions
versions.write_files = test_versions.write_files
moment, done, rename = {moment!r}, [], os.rename

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def write(draft):
    test_versions.write(draft)
    if moment == "written":
        die()

def renamed(*paths):
    rename(*paths)
    done.append(paths)
    if len(done) == {{"published": 1, "removed": 2}}.get(moment):
        die()

os.rename = renamed
versions.add_version({folder!r}, write, keep=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "left"), [("written", [1]), ("published", [1, 2]), ("removed", [2])])
def test_a_killed_export_leaves_whole_versions_and_the_next_one_clears_up(tmp_path, moment, left):
    folder = tmp_path / "served"
    versions.add_version(folder, write)
    code = KILL.format(tests=str(Path(__file__).parent), moment=moment, folder=str(folder))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ask.versions(folder) == left
    assert all((folder / str(number) / name).exists() for number in left for name in PARTS)
    assert any(name.startswith(".") for name in os.listdir(folder))  # of the killed one
    versions.add_version(folder, write, keep=0)
    assert names(folder) == [str(left[-1] + 1), *sorted(beside.FILES)]


def test_a_version_that_fails_is_not_there(tmp_path):
    def fail(draft):
        write(draft)
        raise UserError("it answers otherwise")

    with pytest.raises(UserError, match="it answers otherwise"):
        versions.add_version(tmp_path / "served", fail)
    assert os.listdir(tmp_path) == []
    versions.add_version(tmp_path / "served", write)
    before = names(tmp_path / "served")
    with pytest.raises(UserError, match="it answers otherwise"):
        versions.add_version(tmp_path / "served", fail)
    assert names(tmp_path / "served") == before


def foreign_file(folder):
    (folder / "thesis.txt").write_text("mine")


def foreign_model(folder):
    (folder / "1").mkdir()
    (folder / "1/saved_model.pb").write_text("of another program")


def foreign_number(folder):
    (folder / "7").mkdir()


def foreign_in_a_version(folder):
    versions.add_version(folder, write)
    (folder / "1/variables/mine.txt").write_text("mine")


def foreign_beside_versions(folder):
    versions.add_version(folder, write)
    (folder / "notes").mkdir()


def readme_alone(folder):
    (folder / "README.md").write_text("mine")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (foreign_file, "thesis.txt"),
        (foreign_model, "1/saved_model.pb"),
        (foreign_number, "7"),
        (foreign_in_a_version, "1/variables/mine.txt"),
        (foreign_beside_versions, "notes"),
        (readme_alone, "README.md"),
    ],
)
def test_a_folder_with_something_else_is_refused(tmp_path, make, name):
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    message = f"^{tmp_path}/{name} was written by no export; move it away, or export to another folder$"
    for refuse in (versions.check_exportable, lambda folder: versions.add_version(folder, write)):
        with pytest.raises(UserError, match=message):
            refuse(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_and_a_saved_model_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file is a file; an export is a folder$"):
        versions.check_exportable(tmp_path / "file")
    write(tmp_path / "model")
    with pytest.raises(UserError, match=r"model is a SavedModel; an export is a folder of versions\. Delete"):
        versions.check_exportable(tmp_path / "model")


@pytest.mark.parametrize("keep", [-1, 1.5, "2"])
def test_a_wrong_number_of_versions_to_keep_is_named(tmp_path, keep):
    with pytest.raises(UserError, match=rf"^keep must be a whole number of 0 or more, it is {keep!r}$"):
        versions.add_version(tmp_path / "served", write, keep=keep)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be locked there")
def test_one_process_at_a_time_exports_to_a_folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UserError, match=r"^another process is exporting to .*; wait until it ends$"):
        versions.add_version(tmp_path, write)
    os.close(descriptor)
    assert versions.add_version(tmp_path, write).name == "1"


def test_only_whole_numbers_are_versions(tmp_path):
    for name in ("1", "10", "2", "007", "0", "-3", "1.5", "x", "²"):
        write(tmp_path / name)
    (tmp_path / "11").mkdir()  # no SavedModel is in it
    assert ask.versions(tmp_path) == [1, 2, 10]
    with pytest.raises(ValueError, match="holds no SavedModel, nor versions of one"):
        ask.model_folder(tmp_path / "11")
