"""Files that are whole or not there."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

PROGRESS = "progress.json"  # in the folder of a run that has weights


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to, a file or a folder; it takes the place of `path` when all went well.

    A run that is killed meanwhile leaves `path` as it was. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            draft = Path(folder, path.name)
            yield draft
            if draft.is_dir() and path.is_dir():
                os.replace(path, Path(folder, "before"))
            os.replace(draft, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which file it has no room for
        raise


def write_text(path, text):
    """Writes a whole text file in UTF-8."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes a whole JSON file, one a person can read."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
