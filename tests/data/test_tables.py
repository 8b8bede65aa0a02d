"""Tests of tables in text files against tables written by hand."""

import gzip
import os
import re

import pytest

from kseq.data import read_csv, read_jsonl, read_labelled, read_lines, read_parallel, read_tsv, tables
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


@pytest.mark.parametrize(
    "content, lines",
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"\n\na", ["", "", "a"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        ("a\u2028b\x85c\x0bd\x1ce\n".encode(), ["a\u2028b\x85c\x0bd\x1ce"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\x00b\n", ["a\x00b"]),
        (b"", []),
    ],
)
def test_only_files_line_ends_part_lines(write, content, lines):
    path = write(content)
    assert list(read_lines(path)) == [(f"{path}:{n}", line) for n, line in enumerate(lines, 1)]


CSV = b'label,review\n1,plain\n0,"with ""marks"", and\r\na line end"\n\n1,last\n'


def test_a_row_in_quotation_marks_stands_where_it_begins(write):
    path = write(CSV)
    assert list(read_csv(path)) == [
        (f"{path}:2", {"label": "1", "review": "plain"}),
        (f"{path}:3", {"label": "0", "review": 'with "marks", and\na line end'}),
        (f"{path}:6", {"label": "1", "review": "last"}),
    ]
    quoted = [row for _, row in read_csv(write(CSV.replace(b",", b"\t")), separator="\t")]
    assert quoted[1]["review"] == 'with "marks"\t and\na line end'


@pytest.mark.parametrize(
    "content, message",
    [
        (CSV + b'1,"open\nand more\n', ":7: unexpected end of data; is a quotation mark not doubled, or not closed?"),
        (CSV + b'1,"a "dog" runs"\n', ":7: ',' expected after '\"'; is a quotation mark not doubled, or not closed?"),
        (CSV + b'1,"' + b"x\n" * 70_000, ":7: field larger than field limit (100000); is a quotation mark not "),
        (CSV + b"1\n", ":7: 1 field(s) between commas where the first line names 2 (label, review)"),
        (b'"a\nb",c\n\n1,2,3\n', ":4: 3 field(s) between commas where the first line names 2"),
        (CSV.replace(b"plain", b"caf\xe9"), ":2: not UTF-8 (byte 6 of the line)"),
        (CSV.replace(b"with", b"\xff\n"), ":3: not UTF-8 (byte 4 of the line)"),
        (b"\n", " is empty; its first line must name the columns, with commas between"),
    ],
    ids=["open", "not-doubled", "endless", "no-comma", "after-lines", "latin-1", "in-marks", "empty"],
)
def test_a_row_of_a_csv_that_is_wrong_is_named(write, content, message, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_FIELD", 100_000)
    path = write(content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        list(read_csv(path))


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"a": 1', ":3: no JSON: Expecting ',' delimiter: line 1 column 8 (char 7)"),
        (b"a dog", ":3: no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[1, 2]", ":3: a JSON object, {…}, must stand here, not [1, 2]"),
        (b"null", ":3: a JSON object, {…}, must stand here, not null"),
        (b"[" * 100_000, ":3: no JSON: "),
    ],
)
def test_a_line_that_is_no_json_object_is_named(write, line, message):
    path = write(b'{"a": 1}\n \n' + line + b"\n")
    rows = read_jsonl(path)
    assert next(rows) == (f"{path}:1", {"a": 1})
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        next(rows)


def test_a_long_field_of_a_csv_is_read(write):
    """Python's own limit is 131,072 characters."""
    ((_, row),) = read_csv(write(b'label,review\n1,"' + b"x" * 200_000 + b'"\n'))
    assert len(row["review"]) == 200_000


@pytest.mark.parametrize("reader, separator", [(read_csv, ","), (read_tsv, "\t")])
def test_two_columns_of_one_name_are_an_error(write, reader, separator):
    path = write(separator.join(["a", "b", "a"]).encode() + b"\n" + separator.join("123").encode() + b"\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:1: the first line gives two columns the name 'a'")):
        list(reader(path))
    with pytest.raises(UserError, match=re.escape(f"{path}: data.columns gives two columns the name 'c' and 'd'")):
        list(reader(path, ("c", "d", "c", "d")))
    path = write(separator.join(["a", "", ""]).encode() + b"\n" + separator.join("123").encode() + b"\n")
    assert [row["a"] for _, row in reader(path)] == ["1"]  # columns without a name cannot be asked for


def test_two_keys_of_one_name_are_an_error(write):
    path = write(b'{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}\n')
    with pytest.raises(UserError, match=re.escape(f"{path}:2: an object has the key 'c' twice")):
        list(read_jsonl(path))


@pytest.mark.parametrize(
    "reader", [read_csv, read_tsv, read_jsonl, read_labelled, lambda path: read_parallel({"a": path})]
)
def test_a_pipe_is_refused(tmp_path, reader):
    """To read it would wait for a writer, and it is read more than once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe is a pipe or a device, which cannot be read more than once"):
        list(reader(tmp_path / "pipe"))
