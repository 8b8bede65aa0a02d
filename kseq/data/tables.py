"""Lines and tables in text files, read one by one together with their place; files may be larger than memory."""

import csv
import gzip
import itertools
import json
import zlib
from pathlib import Path

from kseq.data.public import fetch_hint
from kseq.errors import UnreadableFile, UserError

BAD_BYTES = ("stop", "latin-1", "replace")
LONGEST_FIELD = 2**24  # characters of a field of a CSV file; a quotation mark that stays open would read on to the end


def read_lines(path, bad_bytes="stop"):
    r"""Yields ("file:line", text without its line end) for each line of a text file in UTF-8, plain or `.gz`.

    Lines end with \n or \r\n; what else Unicode calls a line end is part of the text.

    Args:
        path: of the file.
        bad_bytes: how lines that are not UTF-8 are read: "stop" raises an error, "latin-1" reads the line as Latin-1,
            "replace" replaces invalid bytes by U+FFFD.

    Raises:
        UserError: the file or a line of it cannot be read.
    """
    if bad_bytes not in BAD_BYTES:
        raise UserError(f"data.bad_bytes must be one of {', '.join(BAD_BYTES)}, not {bad_bytes!r}")
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}:{number}"
                yield where, _text(line, where, bad_bytes).rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut off or damaged
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path} cannot be read: {reason}{fetch_hint(path)}") from None


def reread_lines(path, bad_bytes="stop"):
    """`read_lines` of a file that can be read more than once.

    Raises:
        UserError: the path is that of a pipe or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is a pipe or a device, which cannot be read more than once; write it to a file first")
    return read_lines(path, bad_bytes)


def _text(line, where, bad_bytes):
    try:
        return line.decode("utf-8-sig" if where.endswith(":1") else "utf-8")
    except UnicodeDecodeError as error:
        if bad_bytes != "stop":
            return line.decode("latin-1") if bad_bytes == "latin-1" else line.decode("utf-8", "replace")
        raise UserError(
            f"{where}: not UTF-8 (byte {error.start + 1} of the line); mend it, or set data.bad_bytes to "
            f"{' or '.join(BAD_BYTES[1:])}"
        ) from None


def read_tsv(path, columns=(), *, bad_bytes="stop"):
    """Yields ("file:line", {column: text}) for each row of a tab-separated file, plain or `.gz`.

    Quotation marks have no special meaning. Empty lines are skipped.

    Args:
        path: of the file.
        columns: names of the columns; if empty, the first line names them.
        bad_bytes: as in `read_lines`.

    Raises:
        UserError: the file cannot be read or is empty, two columns have the same name, or a line has too few or too
            many fields.
    """
    rows = ((where, line.split("\t")) for where, line in reread_lines(path, bad_bytes) if line)
    return _named(path, rows, columns, "tabs")


def read_csv(path, columns=(), *, separator=",", bad_bytes="stop"):
    """As `read_tsv`, for fields that are separated by commas, or another separator, and may be quoted (RFC 4180).

    A quoted field may contain separators and line ends; a quotation mark inside it is doubled.
    """
    rows = _quoted(path, reread_lines(path, bad_bytes), separator)
    return _named(path, rows, columns, "tabs" if separator == "\t" else "commas")


def _quoted(path, lines, separator):
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader((f"{line}\n" for _, line in lines), delimiter=separator, strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{where}: {error}; is a quotation mark not doubled, or not closed?") from None
        if row:
            yield where, row


def _named(path, rows, columns, separators):
    namer = "data.columns names" if columns else "the first line names"
    _require_unique(columns, path, "data.columns")
    for where, fields in rows:
        if not columns:
            columns = fields
            _require_unique(columns, where, "the first line")
        elif len(fields) != len(columns):
            raise UserError(
                f"{where}: {len(fields)} field(s) between {separators} where {namer} {len(columns)} "
                f"({', '.join(columns)})"
            )
        else:
            yield where, dict(zip(columns, fields, strict=True))
    if not columns:
        raise UserError(f"{path} is empty; its first line must name the columns, with {separators} between")


def _require_unique(columns, where, namer):
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        names = " and ".join(map(repr, twice))
        raise UserError(f"{where}: {namer} gives two columns the name {names}; each needs a name of its own")


def read_labelled(path, *, bad_bytes="stop"):
    """Yields ("file:line", {"label": the first word, "text": the rest}) for each line that is not empty."""
    for where, line in reread_lines(path, bad_bytes):
        if line.strip():
            label, *text = line.split(maxsplit=1)
            yield where, {"label": label, "text": "".join(text).rstrip()}


def read_jsonl(path, *, bad_bytes="stop"):
    """Yields ("file:line", object) for each line that is not empty, a JSON object each.

    Raises:
        UserError: the file cannot be read, or a line is no JSON object.
    """
    for where, line in reread_lines(path, bad_bytes):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys)
        except _TwiceError as error:
            raise UserError(f"{where}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: a JSON object, {{…}}, must stand here, not {line[:40]}")
        yield where, row


class _TwiceError(ValueError):
    """A key stands twice in an object."""


def _unique_keys(pairs):
    """The object of its pairs; of two values under one key Python would silently take the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key in row if sum(key == other for other, _ in pairs) > 1)
        raise _TwiceError(f"an object has the key {twice!r} twice")
    return row


def read_parallel(paths, *, bad_bytes="stop"):
    """Yields ("first file:line", {name: line}) for files that hold the same line by line.

    Args:
        paths: {name: path}. Empty lines are texts as any other.
        bad_bytes: as in `read_lines`.

    Raises:
        UserError: a file cannot be read, or they have not the same number of lines.
    """
    files = [reread_lines(path, bad_bytes) for path in paths.values()]
    for number, lines in enumerate(itertools.zip_longest(*files)):
        if None in lines:
            counts = [number + (line is not None) + sum(1 for _ in f) for f, line in zip(files, lines, strict=True)]
            shown = ", ".join(f"{path} has {count}" for path, count in zip(paths.values(), counts, strict=True))
            raise UserError(f"files that belong together must have as many lines each; {shown}")
        yield lines[0][0], {name: text for name, (_, text) in zip(paths, lines, strict=True)}
