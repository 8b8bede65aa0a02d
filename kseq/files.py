"""Files that are whole or not there, and folders that one process at a time writes to."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from kseq.errors import UserError

DRAFT = ".draft-"  # in the names of what a process writes; a process that is killed leaves it


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to, a file or a folder; it takes the place of `path` when all went well.

    A process that is killed meanwhile leaves `path` as it was. A folder takes the place of another in one step where
    the system can exchange two names (Linux); elsewhere there is a moment in which neither has the name. Missing
    parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}{DRAFT}") as folder:
            draft = Path(folder, path.name)
            yield draft
            if draft.is_file():
                with open(draft, "rb") as file:
                    os.fsync(file.fileno())  # or a power cut may leave an empty file under the new name
            if not (draft.is_dir() and path.is_dir()):
                os.replace(draft, path)
            elif not _exchange(draft, path):
                os.replace(path, Path(folder, "before"))
                os.replace(draft, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which file it has no room for
        raise


def _exchange(a, b):
    """Exchanges the names of two folders in one step; whether that could be done."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or an old one
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <fcntl.h> and <linux/fs.h>
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def remove_drafts(folder):
    """Removes what killed processes left of `replacing` in a folder and below it; nobody else may write there."""
    for path in Path(folder).rglob(f".*{DRAFT}????????"):
        shutil.rmtree(path, ignore_errors=True)


def lock(file, path):
    """Locks an open file or folder until it is closed; whether nobody else has. `path` is what messages call it."""
    if sys.platform == "win32":
        return True  # without a lock that dies with its process
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        print(f"{path}: the file system has no locks ({error.strerror}); start one program at a time", flush=True)
    return True


def sha256(path):
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path, text):
    """Writes a whole text file in UTF-8."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_bytes(path, content):
    """Writes a whole file."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_json(path, value):
    """Writes a whole JSON file, one a person can read."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path):
    """The table that a JSON file holds.

    Raises:
        UserError: the file cannot be read, is not JSON, or holds no table.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, it is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it must hold a table, and holds {json.dumps(content)[:80]}")
    return content
