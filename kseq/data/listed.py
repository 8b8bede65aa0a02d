"""Files that a table lists, with the texts that belong to them: pictures with captions, recordings with phones."""

import os
import string
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kseq.data.public import fetch_hint
from kseq.data.sources import splitter
from kseq.data.tables import read_tsv
from kseq.errors import UserError


class Listed(NamedTuple):
    """A file that a table lists."""

    id: str  # its path, as the table has it
    texts: tuple[str, ...]  # of all lines that list it
    read: Callable[[], bytes]
    where: str  # the first of these lines, for messages
    fingerprint: str  # changes when the file does


def read_listed(path, split, fields, *, file, text, kind, bad_bytes):
    """The files that a table with the paths of files and a text each lists, in the order of their first lines.

    Args:
        path: of the table, a TSV file whose first line names the columns. Files are relative to its folder.
        split: name of the split.
        fields: {`file`: column of the path, or a pattern over columns such as "images/{name}.png"; `text`: column of
            the text; "split": column of the split, where there is one}.
        file: what the path is called in `fields`.
        text: what the text is called in `fields`.
        kind: what the files are called in messages, as "picture".
        bad_bytes: see `read_lines`.

    Returns:
        iterator of `Listed`.

    Raises:
        UserError: a line is malformed, lacks a column, has no text, or names a file outside the folder of the table.
    """
    path, rows = Path(path), {}
    names = _Names(fields, file)
    for where, row in read_tsv(path, bad_bytes=bad_bytes):
        _require([fields[text], *([fields["split"]] if fields.get("split") else []), *names.columns], row, where)
        if fields.get("split") and row[fields["split"]] != split:
            continue
        content = row[fields[text]].strip()
        if not content:
            raise UserError(f"{where}: the {text} is empty")
        name = names.of(row)
        rows.setdefault(name, (where, []))[1].append(content)
    return (list_file(path.parent, name, where, texts, kind) for name, (where, texts) in rows.items())


def hold_out_listed(items, shares, seed, kind, by=lambda item: item.id):
    """Takes shares of files or tunes for other splits, as `Examples.hold_out` does with examples.

    An item is chosen by a hash of its key and the seed; a file keeps all of its texts. Items of one key stay together,
    and adding items does not move the others to another split.

    Args:
        items: list.
        shares: {split: approximate share}.
        seed: int.
        kind: what they are called in messages, as "pictures".
        by: function from an item to its key, a str; its `id` by default.

    Returns:
        (the remaining items, {split: the items held out for it}), lists.

    Raises:
        UserError: a share is not between 0 and 1, or a split would have no item.
    """
    split_of = splitter(shares, seed)
    parts = {None: [], **{split: [] for split in shares}}
    for item in items:
        parts[split_of(by(item))].append(item)
    for split, part in parts.items():
        if not part:
            raise UserError(f"holding out {shares} of {len(items)} {kind} leaves none for {split or 'train'}")
    return parts.pop(None), parts


def _require(columns, row, where):
    for column in columns:
        if column not in row:
            known = ", ".join(row)
            raise UserError(f"{where}: there is no column {column!r}; the first line names {known}. Set data.fields")


class _Names:
    """How a row of a table names its file: by a column, or by a pattern like "images/{name}.png".

    Raises:
        UserError: a brace stands alone, or something but the name of a column stands between two.
    """

    def __init__(self, fields, file):
        pattern, key = fields[file], f"data.fields.{file}"
        try:
            parts = list(string.Formatter().parse(pattern))
        except ValueError as error:
            raise UserError(
                f"{key} {pattern!r}: {error}; a column is {{name}}, and a brace that is meant is doubled"
            ) from None
        if any(form or conversion for _, _, form, conversion in parts):
            raise UserError(f"{key} {pattern!r}: between braces only the name of a column may stand")
        parts = [(text, column) for text, column, _, _ in parts]
        self.parts = parts if any(column is not None for _, column in parts) else [("", pattern)]
        self.columns = [column for _, column in self.parts if column is not None]

    def of(self, row):
        return "".join(text + ("" if column is None else row[column]) for text, column in self.parts)


def list_file(folder, name, where, texts, kind):
    """A file as `Listed`.

    Args:
        folder: `Path` that no file may be outside of.
        name: of the file, a path from the folder.
        where: what lists it, for messages.
        texts: list of those that belong to it.
        kind: what it is called in messages, as "picture".

    Raises:
        UserError: it is outside the folder.
    """
    path = folder / name
    real = Path(os.path.realpath(path))  # unlike `resolve`, without an error for a link that goes in a circle
    if not real.is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{where}: {name!r} leaves the data folder {folder}")

    def read():
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
                raise UserError(f"{where}: {kind} {path} is not a file")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{where}: {kind} {path} cannot be read: {error.strerror}{fetch_hint(path)}") from None

    try:
        stat = path.stat()
        fingerprint = f"{real} {stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        fingerprint = f"{real} missing"
    return Listed(name, tuple(texts), read, where, fingerprint)
