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


@pytest.mark.parametrize("before, after", [("file", "folder"), ("folder", "file")])
def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path, before, after):
    path = tmp_path / "path"
    write(path, "before", before)
    with pytest.raises(OSError, match="directory"), files.replacing(path) as draft:
        write(draft, "after", after)
    assert read(path, before) == "before" and os.listdir(tmp_path) == ["path"]


def test_parents_are_made(tmp_path, kind):
    path = tmp_path / "a" / "b" / "new"
    with files.replacing(str(path)) as draft:
        write(draft, "whole", kind)
    assert read(path, kind) == "whole" and os.listdir(path.parent) == ["new"]


def test_the_draft_is_on_the_same_disk(tmp_path):
    """A rename between disks would be a copy, and a copy can be half."""
    with files.replacing(tmp_path / "new") as draft:
        assert draft.is_relative_to(tmp_path)
        draft.touch()


def test_a_file_may_be_read_by_whom_the_umask_allows(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    files.write_text(tmp_path / "text", "x")
    assert (tmp_path / "text").stat().st_mode == plain.stat().st_mode


def test_text_is_utf_8_and_json_is_readable(tmp_path):
    files.write_text(tmp_path / "text", "naïve α\n")
    assert (tmp_path / "text").read_bytes() == "naïve α\n".encode()
    files.write_json(tmp_path / "json", {"a": "α", "b": [1.5]})
    assert (tmp_path / "json").read_text("utf-8") == '{\n  "a": "α",\n  "b": [\n    1.5\n  ]\n}\n'


def test_a_value_that_json_cannot_write_leaves_the_older_file(tmp_path):
    files.write_json(tmp_path / "json", 1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        files.write_json(tmp_path / "json", {"a": object()})
    assert (tmp_path / "json").read_text() == "1\n"


def test_remove_takes_files_folders_and_nothing(tmp_path, kind):
    path = tmp_path / "path"
    files.remove(path)
    write(path, "x", kind)
    files.remove(str(path))
    assert os.listdir(tmp_path) == []
