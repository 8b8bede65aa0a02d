"""Tests of arrays on disk, with a compute that counts its calls."""

import types

import numpy as np
import pytest

from kseq.data import cached_rows
from kseq.errors import UserError


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
    assert f"{len(bad)} of 8 pictures cannot be read and are left out" in capsys.readouterr().out
    rows, kept = read(tmp_path, range(8), nothing, skip=True)
    assert kept == good
    assert_squares(rows, good)
    assert f"{len(bad)} of 8 pictures cannot be read and are left out" in capsys.readouterr().out


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, capsys):
    read(tmp_path, range(4), squares()[0], skip=True)
    assert capsys.readouterr().out == ""


def test_a_bad_item_is_an_error_without_skip(tmp_path):
    with pytest.raises(UserError, match=r"^table:4: 4 has no square$"):
        read(tmp_path, range(8), squares({4, 6})[0])
    assert list(tmp_path.iterdir()) == []


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
    assert list(tmp_path.iterdir()) == []
    compute, calls = squares()
    assert_squares(read(tmp_path, range(8), compute)[0], range(8))
    assert len(calls) == 3


def test_all_bad_is_an_error_even_with_skip(tmp_path):
    with pytest.raises(UserError, match=r"^none of 4 pictures can be read; the first: table:0$"):
        read(tmp_path, range(4), squares(range(4))[0], skip=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_type_and_shape_of_the_rows_are_those_computed(tmp_path, dtype):
    made = np.random.default_rng(0).uniform(0, 255, (5, 2, 3)).astype(dtype)
    for compute in (lambda items: made[[item.value for item in items]], nothing):
        rows, _ = read(tmp_path, range(5), compute, batch_size=2)
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows, made)
