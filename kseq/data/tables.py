"""Tables in text files, read line by line, each row with the place it stands."""

import gzip
import zlib
from pathlib import Path

from kseq.errors import UserError


def read_tsv(path):
    """Yields ("file:line", {column: text}) for each row of a tab-separated file, plain or `.gz`.

    The first line names the columns. Empty lines are passed over.

    Raises:
        UserError: the file cannot be read, is empty or is not UTF-8, or a line has not as many fields as the first.
    """
    path = Path(path)
    columns = None
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}:{number}"
                fields = _text(line, where).rstrip("\r\n").split("\t")
                if fields == [""]:
                    continue
                if columns is None:
                    columns = fields
                elif len(fields) != len(columns):
                    raise UserError(
                        f"{where}: {len(fields)} field(s) between tabs where the first line names {len(columns)} "
                        f"({', '.join(columns)})"
                    )
                else:
                    yield where, dict(zip(columns, fields, strict=True))
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut off or damaged
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if columns is None:
        raise UserError(f"{path} is empty; its first line must name the columns, with tabs between")


def _text(line, where):
    try:
        return line.decode("utf-8-sig" if where.endswith(":1") else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
