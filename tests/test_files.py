import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from kseq import files
from kseq.errors import UserError


def write(path, text, kind):
    """Writes a file, or a folder with the file `inside`."""
    if kind == "folder":
        path.mkdir()
        path = path / "inside"
    path.write_text(text)


def read(path, kind):
    return (path / "inside" if kind == "folder" else path).read_text()


@pytest.fixture(params=["file", "folder"])
def kind(request):
    return request.param


def test_it_appears_when_the_body_is_done(tmp_path, kind):
    path = tmp_path / "new"
    with files.replacing(path) as draft:
        assert draft.name == "new" and not draft.exists()
        write(draft, "whole", kind)
        assert not path.exists()
    assert read(path, kind) == "whole"
    assert os.listdir(tmp_path) == ["new"]


def test_it_takes_the_place_of_an_older_one(tmp_path, kind):
    path = tmp_path / "old"
    write(path, "before", kind)
    if kind == "folder":
        (path / "more").write_text("of the old one")
    with files.replacing(path) as draft:
        write(draft, "after", kind)
        assert read(path, kind) == "before"
    assert read(path, kind) == "after"
    assert kind == "file" or os.listdir(path) == ["inside"]
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_a_body_that_raises_changes_nothing(tmp_path, kind, existed, error):
    path = tmp_path / "path"
    if existed:
        write(path, "before", kind)
    with pytest.raises(error), files.replacing(path) as draft:
        write(draft, "half", kind)
        raise error
    assert os.listdir(tmp_path) == (["path"] if existed else [])
    assert not existed or read(path, kind) == "before"


def test_a_body_that_writes_nothing_raises_and_changes_nothing(tmp_path, kind):
    path = tmp_path / "path"
    write(path, "before", kind)
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert read(path, kind) == "before" and os.listdir(tmp_path) == ["path"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="two names are exchanged in one step on Linux alone")
def test_a_folder_is_there_at_every_moment(tmp_path):
    """A reader opens it over and over while it is replaced."""
    path, lost, done = tmp_path / "export", [], threading.Event()
    write(path, "0", "folder")

    def look():
        while not done.is_set():
            try:
                (path / "inside").read_text()
            except OSError as error:
                lost.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(300):
        with files.replacing(path) as draft:
            write(draft, str(i), "folder")
    done.set()
    reader.join()
    assert not lost and read(path, "folder") == "299"


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    write(tmp_path / "old", "before", "folder")
    with files.replacing(tmp_path / "old") as draft:
        write(draft, "after", "folder")
    assert read(tmp_path / "old", "folder") == "after" and os.listdir(tmp_path) == ["old"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = f"""
import os, signal
from kseq import files
with files.replacing({str(tmp_path / "sub" / "export")!r}) as draft:
    draft.mkdir()
    (draft / "half").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    mine = [".hidden", ".export.mine", "draft-of-mine", ".a.draft-too-long-for-one"]
    for name in mine:
        (tmp_path / "sub" / name).mkdir()
    assert len(os.listdir(tmp_path / "sub")) == 5
    files.remove_drafts(tmp_path)
    assert sorted(os.listdir(tmp_path / "sub")) == sorted(mine)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is damaged, it is not JSON: "),
        (b"{", "is damaged, it is not JSON: "),
        (b"\xff", "is damaged, it is not JSON: "),
        (b"[" * 100_000, "is damaged, it is not JSON: "),
        (b"[1, 2]", "is damaged: it must hold a table, and holds [1, 2]"),
        (b"null", "is damaged: it must hold a table, and holds null"),
    ],
)
def test_a_damaged_json_file_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path} {message}')}"):
        files.read_json(path)
