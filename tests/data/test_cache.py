"""Tests of the cache, with a compute that counts its calls."""

import mmap
import multiprocessing
import os
import re
import shutil
import signal
import types

import numpy as np
import pytest

from kseq.data import Sequences, cache, cached_columns, cached_folder, cached_rows, code_fingerprint, fingerprint
from kseq.errors import UserError
from kseq.files import DRAFT


def things(values):
    return [types.SimpleNamespace(value=v, fingerprint=f"f{v}", where=f"table:{v}") for v in values]


def squares(bad=()):
    """A `compute` of a row (v, v²) for each item, an error for those in `bad`, and the list of what it was asked."""
    calls = []

    def compute(items):
        calls.append([item.value for item in items])
        for item in items:
            if item.value in bad:
                raise UserError(f"{item.where}: {item.value} has no square")
        return np.array([(item.value, item.value**2) for item in items], "float32")

    return compute, calls


def read(folder, values, compute, *, key=("squares",), skip=False, batch_size=3):
    rows, items = cached_rows(
        folder, list(key), things(values), compute, title="squares", batch_size=batch_size, skip=skip
    )
    return rows, [item.value for item in items]


def entries(folder):
    """What lies in a cache, drafts too; the lock file stays."""
    return sorted(path for path in folder.iterdir() if path.name != cache.LOCK)


def nothing(items):
    raise AssertionError("compute was called")


def assert_squares(rows, values):
    expected = np.array([(v, v**2) for v in values], "float32")
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)


def test_rows_are_computed_in_batches_once_and_then_read_from_disk(tmp_path):
    compute, calls = squares()
    rows, kept = read(tmp_path / "new" / "cache", range(8), compute)
    assert calls == [[0, 1, 2], [3, 4, 5], [6, 7]] and kept == list(range(8))
    assert_squares(rows, range(8))
    again, kept = read(tmp_path / "new" / "cache", range(8), nothing)
    assert kept == list(range(8)) and isinstance(again, np.memmap)
    assert_squares(again, range(8))


def test_rows_cannot_be_written_to(tmp_path):
    rows, _ = read(tmp_path, range(2), squares()[0])
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1


def test_cached_rows_need_only_the_fingerprints(tmp_path):
    rows, _ = read(tmp_path, range(4), squares()[0])
    bare = [types.SimpleNamespace(fingerprint=f"f{v}") for v in range(4)]  # their pictures are gone
    again, items = cached_rows(tmp_path, ["squares"], bare, nothing, title="squares")
    np.testing.assert_array_equal(again, rows)
    assert items == bare


@pytest.mark.parametrize(
    "change",
    [
        {"key": ("cubes",)},
        {"key": ("squares", "more")},
        {"values": [0, 1, 9]},
        {"values": [1, 0, 2]},
        {"values": [0, 1]},
    ],
    ids=["key", "longer-key", "fingerprint", "order", "fewer"],
)
def test_another_key_fingerprint_or_order_is_computed_anew(tmp_path, change):
    read(tmp_path, [0, 1, 2], squares()[0])
    compute, calls = squares()
    values = change.get("values", [0, 1, 2])
    rows, kept = read(tmp_path, values, compute, key=change.get("key", ("squares",)))
    assert calls == [values] and kept == values
    assert_squares(rows, values)
    assert_squares(read(tmp_path, [0, 1, 2], nothing)[0], [0, 1, 2])  # the first are still there


@pytest.mark.parametrize("bad", [{0}, {4}, {7}, {0, 1, 2}, {1, 3, 4, 5, 6}], ids=str)
def test_skip_leaves_out_what_has_no_row(tmp_path, bad, capsys):
    good = [v for v in range(8) if v not in bad]
    rows, kept = read(tmp_path, range(8), squares(bad)[0], skip=True)
    assert kept == good
    assert_squares(rows, good)
    assert f"pictures that cannot be read, left out: {len(bad)} of 8" in capsys.readouterr().out
    rows, kept = read(tmp_path, range(8), nothing, skip=True)
    assert kept == good
    assert_squares(rows, good)
    assert f"pictures that cannot be read, left out: {len(bad)} of 8" in capsys.readouterr().out


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, capsys):
    read(tmp_path, range(4), squares()[0], skip=True)
    assert capsys.readouterr().out == ""


def test_a_bad_item_is_an_error_without_skip(tmp_path):
    with pytest.raises(UserError, match=r"^table:4: 4 has no square$"):
        read(tmp_path, range(8), squares({4, 6})[0])
    assert entries(tmp_path) == []


def test_rows_made_with_skip_are_an_error_without_it(tmp_path):
    read(tmp_path, range(8), squares({4, 6})[0], skip=True)
    compute, calls = squares({4, 6})
    with pytest.raises(UserError, match=r"^table:4: 4 has no square$"):
        read(tmp_path, range(8), compute)
    assert calls == [[4]]  # the first that was left out, and no other
    read(tmp_path, range(8), nothing, skip=True)  # the cache is still good


def test_rows_made_with_skip_where_none_was_bad_serve_without_it(tmp_path):
    read(tmp_path, range(4), squares()[0], skip=True)
    assert_squares(read(tmp_path, range(4), nothing)[0], range(4))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_killed_midway_leaves_no_file(tmp_path, error, skip):
    def compute(items):
        if items[0].value >= 3:
            raise error
        return squares()[0](items)

    with pytest.raises(type(error)):
        read(tmp_path, range(8), compute, skip=skip)
    assert entries(tmp_path) == []
    compute, calls = squares()
    assert_squares(read(tmp_path, range(8), compute)[0], range(8))
    assert len(calls) == 3


def test_all_bad_is_an_error_even_with_skip(tmp_path):
    with pytest.raises(UserError, match=r"^none of 4 pictures can be read; the first: table:0$"):
        read(tmp_path, range(4), squares(range(4))[0], skip=True)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_type_and_shape_of_the_rows_are_those_computed(tmp_path, dtype):
    made = np.random.default_rng(0).uniform(0, 255, (5, 2, 3)).astype(dtype)
    for compute in (lambda items: made[[item.value for item in items]], nothing):
        rows, _ = read(tmp_path, range(5), compute, batch_size=2)
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows, made)


# Damage.


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("rows.npy", flip, "rows.npy is not as it was written"),
        ("rows.npy", lambda path: path.write_bytes(b""), "rows.npy is not as it was written"),
        ("rows.npy", lambda path: path.write_bytes(path.read_bytes()[:-5]), "rows.npy is not as it was written"),
        ("rows.npy", lambda path: path.unlink(), "No such file or directory"),
        ("skipped.json", lambda path: path.write_text("[0]"), "skipped.json is not as it was written"),
        (cache.CHECKSUMS, lambda path: path.unlink(), "No such file or directory"),
        (cache.CHECKSUMS, lambda path: path.write_text("{"), "Expecting property name"),
        (cache.CHECKSUMS, lambda path: path.write_text("[]"), "'list' object has no attribute"),
    ],
    ids=["bit", "empty", "short", "absent", "skipped", "no-checksums", "no-json", "no-table"],
)
def test_a_damaged_entry_is_told_of_and_made_anew(tmp_path, capsys, file, damage, said):
    read(tmp_path, range(8), squares()[0])
    [path] = entries(tmp_path)
    damage(path / file)
    compute, calls = squares()
    assert_squares(read(tmp_path, range(8), compute)[0], range(8))
    assert len(calls) == 3
    assert re.search(rf"^{path} is damaged \(.*{re.escape(said)}.*\); it is made anew$", capsys.readouterr().out, re.M)
    assert_squares(read(tmp_path, range(8), nothing)[0], range(8))
    assert capsys.readouterr().out == ""


# Processes.


def die(folder):
    def compute(items):
        os.kill(os.getpid(), signal.SIGKILL)

    read(folder, range(8), compute)


def wait(folder, begun, go):
    def compute(items):
        begun.set()
        go.wait(60)
        return squares()[0](items)

    read(folder, range(4), compute)


def test_drafts_of_killed_processes_are_removed_and_those_of_living_ones_are_not(tmp_path):
    context = multiprocessing.get_context("fork")
    dead = context.Process(target=die, args=(tmp_path,))
    dead.start()
    dead.join()
    [left] = entries(tmp_path)
    assert dead.exitcode == -signal.SIGKILL and DRAFT in left.name
    begun, go = context.Event(), context.Event()
    alive = context.Process(target=wait, args=(tmp_path, begun, go))
    alive.start()
    begun.wait(60)
    [draft] = entries(tmp_path)
    assert draft != left and DRAFT in draft.name  # the first is gone
    assert_squares(read(tmp_path, range(8), squares()[0])[0], range(8))
    assert draft.exists()
    go.set()
    alive.join()
    assert alive.exitcode == 0 and not [path for path in entries(tmp_path) if DRAFT in path.name]
    assert_squares(read(tmp_path, range(4), nothing)[0], range(4))


def test_two_processes_may_make_the_same_entry(tmp_path):
    """The second takes the place of the first."""

    def write(path):
        path.mkdir()
        (path / "word").write_text("inner")
        if not entries(tmp_path)[1:]:
            cached_folder(tmp_path, ["key"], write)

    path = cached_folder(tmp_path, ["key"], write)
    assert entries(tmp_path) == [path] and (path / "word").read_text() == "inner"


# Columns.


def some_columns():
    return {
        "text": Sequences(np.array([5, 6, 7, 8], np.int32), np.array([0, 1, 1, 4])),
        "label": np.array([2, 0, 1], np.int32),
        "none": Sequences(np.zeros(0, np.int32), np.zeros(4, np.int64)),
    }


def test_columns_are_made_once_and_then_mapped_from_disk(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return some_columns(), ["3 texts are cut off"]

    for _ in range(2):
        columns, notes = cached_columns(tmp_path, ["corpus"], make)
        assert notes == ["3 texts are cut off"] and list(columns) == ["text", "label", "none"]
        for name, column in some_columns().items():
            if isinstance(column, Sequences):
                assert columns[name].padded([0, 1, 2], 3).tolist() == column.padded([0, 1, 2], 3).tolist()
                assert isinstance(columns[name].ids.base, mmap.mmap) and columns[name].dtype == np.int32
            else:
                assert columns[name].tolist() == column.tolist()
        with pytest.raises(ValueError, match="read-only"):
            columns["label"][0] = 1
    assert len(calls) == 1
    cached_columns(tmp_path, ["another corpus"], make)
    assert len(calls) == 2


def test_frames_and_large_ids_come_back_as_they_were(tmp_path):
    """Oracle: the arrays themselves; ids of one, two and four bytes, one below 0, and none at all."""
    frames = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float16)
    made = {"frames": Sequences(frames, np.array([0, 0, 4, 9]))}
    for largest in (255, 256, 65_535, 65_536, 2**31 - 1):
        made[f"{largest}"] = Sequences(np.array([0, 7, largest], np.int32), np.array([0, 1, 2, 3]))
    made["negative"] = Sequences(np.array([-1, 7, 300], np.int32), np.array([0, 1, 2, 3]))
    made["empty"] = Sequences(np.zeros(0, np.int32), np.zeros(4, np.int64))
    columns, _ = cached_columns(tmp_path, ["frames"], lambda: (made, []))
    for name, column in made.items():
        assert columns[name].dtype == column.dtype and columns[name].shape == column.shape
        assert columns[name].lengths.tolist() == column.lengths.tolist()
        for i in range(3):
            assert columns[name][i].dtype == column.dtype
            np.testing.assert_array_equal(columns[name][i], column[i])
    sizes = [columns[f"{largest}"].ids.itemsize for largest in (255, 256, 65_535, 65_536, 2**31 - 1)]
    assert sizes == [1, 2, 2, 4, 4]


def test_columns_that_cannot_be_made_leave_nothing(tmp_path):
    def make():
        raise UserError("no pair has words on both sides")

    with pytest.raises(UserError, match=r"^no pair has words on both sides$"):
        cached_columns(tmp_path, ["corpus"], make)
    assert entries(tmp_path) == []


def test_a_fingerprint_changes_with_any_text_its_role_and_the_order():
    one = [{"source": "a", "target": "b"}, {"source": "c", "target": "d"}]
    others = [
        one[::-1],
        one[:1],
        [*one, one[0]],
        [{"source": "a", "target": "b"}, {"source": "c", "target": "e"}],
        [{"source": "b", "target": "a"}, one[1]],
        [{"source": "a", "label": "b"}, one[1]],
        ["a", "b"],
        ["ab"],
        ['a"\n"b'],
        [],
    ]
    assert fingerprint(iter(one)) == fingerprint(one)
    assert len({fingerprint(examples) for examples in [one, *others]}) == 1 + len(others)


def test_the_code_of_other_files_is_other_code(monkeypatch, tmp_path):
    shutil.copytree(cache.Path(cache.__file__).parent, tmp_path / "kseq/data")
    (tmp_path / "kseq/tasks").mkdir()
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "kseq/data/cache.py"))
    seen = []
    for change in ("", "kseq/tasks/new.py", "kseq/data/new.py"):
        if change:
            (tmp_path / change).write_text("x = 1")
        code_fingerprint.cache_clear()
        seen.append((code_fingerprint(), code_fingerprint("data")))
    code_fingerprint.cache_clear()
    assert len({every for every, _ in seen}) == 3 and seen[0][1] == seen[1][1] != seen[2][1]
