"""The table of public data, public.toml beside this module."""

import functools
import itertools
import tomllib
from pathlib import Path


@functools.cache
def public_data():
    """{name: what public.toml says of it}."""
    return tomllib.loads(Path(__file__).with_name("public.toml").read_text(encoding="utf-8"))


def fetch_command(path):
    """The command that gets a missing file, empty where no public data belong at its path: data/NAME/…."""
    parts = Path(path).parts
    for i, (folder, name) in enumerate(itertools.pairwise(parts)):
        if folder == "data" and name in public_data():
            to = Path(*parts[: i + 1])
            return f"python -m kseq.data.fetch {name}" + ("" if to == Path("data") else f" --to={to}")
    return ""
