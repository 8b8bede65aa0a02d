"""The table of public data, public.toml beside this module."""

import functools
import itertools
import tomllib
from pathlib import Path

from kseq.errors import UnreadableFile


@functools.cache
def public_data():
    """{name: what public.toml says of it}."""
    return tomllib.loads(Path(__file__).with_name("public.toml").read_text(encoding="utf-8"))


def fetch_command(path):
    """The command that fetches the public data at a path, data/NAME/…; empty if there are none."""
    parts = Path(path).parts
    for i, (folder, name) in enumerate(itertools.pairwise(parts)):
        if folder == "data" and name in public_data():
            to = Path(*parts[: i + 1])
            return f"python -m kseq.data.fetch {name}" + ("" if to == Path("data") else f" --to={to}")
    return ""


def fetch_hint(path):
    """The end of a message about a file that cannot be read: "; get it with …" where it is missing and public."""
    command = "" if Path(path).exists() else fetch_command(path)
    return f"; get it with {command}" if command else ""


def of_split(rows, source, split):
    """Yields the rows of a split.

    Raises:
        UnreadableFile: a file cannot be read; the message names the source and the split to which it belongs.
    """
    try:
        yield from rows
    except UnreadableFile as error:
        raise UnreadableFile(f"{error}; it is split {split!r} of data.source {source!r}") from None
