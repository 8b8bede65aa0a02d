import os

import pytest

from kseq import files


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
