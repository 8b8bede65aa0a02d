"""Tests of tables in text files against tables written by hand."""

import gzip
import re

import pytest

from kseq.data import read_tsv
from kseq.errors import UserError

TABLE = b"image\tcaption\n1.png\ta dog\n2.png\ttwo cats\n"
ROWS = [(2, {"image": "1.png", "caption": "a dog"}), (3, {"image": "2.png", "caption": "two cats"})]


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.tsv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    "content, rows",
    [
        (TABLE, ROWS),
        (TABLE.rstrip(b"\n"), ROWS),
        (TABLE.replace(b"\n", b"\r\n"), ROWS),
        (b"\xef\xbb\xbf" + TABLE, ROWS),
        (b"\xef\xbb\xbf" + TABLE.replace(b"\n", b"\r\n"), ROWS),
        (TABLE.replace(b"\n2", b"\n\n\r\n2"), [ROWS[0], (5, ROWS[1][1])]),
        (b"\n" + TABLE, [(3, ROWS[0][1]), (4, ROWS[1][1])]),
        (b"one\nx\n", [(2, {"one": "x"})]),
        (b"a\tb\nx\t\n\ty\n", [(2, {"a": "x", "b": ""}), (3, {"a": "", "b": "y"})]),
        (b"a\tb\n x \t y \n", [(2, {"a": " x ", "b": " y "})]),
        ("名\té\nx\t\ufeff’\n".encode(), [(2, {"名": "x", "é": "\ufeff’"})]),
        (b"a\tb\n", []),
    ],
    ids=[
        "plain",
        "unended",
        "crlf",
        "bom",
        "bom-crlf",
        "empty-lines",
        "empty-first",
        "one-column",
        "empty-fields",
        "spaces",
        "utf-8",
        "header",
    ],
)
def test_rows_and_where_they_stand(write, content, rows):
    path = write(content)
    assert list(read_tsv(path)) == [(f"{path}:{line}", row) for line, row in rows]


def test_a_compressed_table_reads_like_a_plain_one(write):
    plain, compressed = write(TABLE), write(gzip.compress(TABLE), "table.tsv.gz")
    assert [row for _, row in read_tsv(compressed)] == [row for _, row in read_tsv(str(plain))]
    assert next(iter(read_tsv(compressed)))[0] == f"{compressed}:2"


@pytest.mark.parametrize(
    "content, message",
    [
        (TABLE + b"3.png a bird\n", ":4: 1 field(s) between tabs where the first line names 2 (image, caption)"),
        (TABLE + b"3.png\ta bird\tand more\n", ":4: 3 field(s) between tabs where the first line names 2 "),
        (TABLE + b" \n", ":4: 1 field(s) between tabs"),
        (b"\n" + TABLE + b"\n\n3.png\n", ":7: 1 field(s) between tabs"),
        (TABLE + "4.png\tcafé\n".encode("latin-1"), ":4: not UTF-8 (byte 10 of the line)"),
        (TABLE.decode().encode("utf-16"), ":1: not UTF-8 (byte 1 of the line)"),
        (b"", " is empty; its first line must name the columns, with tabs between"),
        (b"\n\r\n", " is empty; "),
        (b"\xef\xbb\xbf", " is empty; "),
    ],
    ids=["no-tab", "many-tabs", "blanks", "after-empty-lines", "latin-1", "utf-16", "empty", "empty-lines", "bom"],
)
def test_a_line_that_is_wrong_is_named(write, content, message):
    path = write(content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        list(read_tsv(path))


def test_the_rows_before_a_wrong_line_are_there(write):
    rows = read_tsv(write(TABLE + b"3.png\n"))
    assert [row for _, row in (next(rows), next(rows))] == [row for _, row in ROWS]
    with pytest.raises(UserError, match=":4: "):
        next(rows)


@pytest.mark.parametrize("name", ["absent.tsv", "absent.tsv.gz", ".", "absent/table.tsv"])
def test_what_is_no_file_is_named(tmp_path, name):
    path = tmp_path / name
    reason = "Is a directory" if name == "." else "No such file or directory"
    with pytest.raises(UserError, match=re.escape(f"{path} cannot be read: {reason}")):
        list(read_tsv(path))


COMPRESSED = gzip.compress(TABLE * 1000, mtime=0)


@pytest.mark.parametrize(
    "content, reason",
    [
        (TABLE, "Not a gzipped file"),
        (COMPRESSED[: len(COMPRESSED) // 2], "end-of-stream"),
        (COMPRESSED[:20] + b"\xff" * 20 + COMPRESSED[40:], "Error -3 while decompressing"),
        (COMPRESSED[:-8] + bytes(8), "CRC check failed"),
    ],
    ids=["plain", "cut-off", "damaged", "checksum"],
)
def test_a_compressed_file_that_is_broken_is_named(write, content, reason):
    path = write(content, "table.tsv.gz")
    with pytest.raises(UserError, match=f"{re.escape(str(path))} cannot be read: .*{reason}"):
        list(read_tsv(path))
