"""An export: a folder with versions 1, 2, 3, … of a model, as TensorFlow Serving takes it, and the files to start one.

A version is a SavedModel. Its `assets.extra/` holds the requests that warm the model up, the answers to them, and
`kseq.json`, which says what the model is. The other files are those of `kseq.serving.beside`.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from kseq.errors import UserError
from kseq.export import foreign_files
from kseq.files import DRAFT, lock, read_json, remove_drafts, write_json
from kseq.serving import ask
from kseq.serving import check as checks
from kseq.serving.beside import FILES, MODELS, write_files
from kseq.serving.check import ABOUT, ANSWERS, WARMUP

KEEP = 2  # earlier versions that stay
TOLERANCE = 1e-3  # of the SavedModel to the model in training, whose operations may be fused differently


def check_exportable(folder):
    """Whether a version may be added to a folder.

    Raises:
        UserError: it is a file or a SavedModel, or holds something that no export has written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; an export is a folder")
    if (folder / ask.MODEL).exists():
        raise UserError(f"{folder} is a SavedModel; an export is a folder of versions. Delete it, or take another")
    if not folder.exists():
        return
    numbers = ask.versions(folder)
    own = {*map(str, numbers), *(FILES if numbers else ())}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in own and DRAFT not in path.name)
    foreign += [f"{number}/{name}" for number in numbers for name in foreign_files(folder / str(number))]
    if foreign:
        raise UserError(f"{folder / foreign[0]} was written by no export; move it away, or export to another folder")


def add_version(folder, write, keep=KEEP):
    """Adds the next version to a folder, and removes the oldest ones.

    The version appears under its number in one step, when it is whole. A process that is killed leaves nothing that
    TensorFlow Serving would load; the next one clears it away.

    Args:
        folder: of the export; made if it is missing.
        write: function of a path, which writes a SavedModel there.
        keep: number of earlier versions that stay. A version that models.config pins always stays.

    Returns:
        the folder of the version.

    Raises:
        UserError: as of `check_exportable`, or another process exports to the folder, or `keep` is negative.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if not isinstance(keep, int) or keep < 0:
        raise UserError(f"keep must be a whole number of 0 or more, it is {keep!r}")
    check_exportable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            remove_drafts(folder)
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".version{DRAFT}") as scratch:
                draft = Path(scratch, "draft")
                write(draft)
                _sync(draft)
                number = max(ask.versions(folder), default=0) + 1
                os.rename(draft, folder / str(number))
            version = folder / str(number)
            write_files(folder, version)
            _remove_old(folder, keep)
    except OSError as error:
        error.filename = str(folder)  # not a draft, of which nobody knows
        raise
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # where there is no version in it
    return version


@contextlib.contextmanager
def _locked(folder):
    """Keeps other processes from exporting to a folder, which is locked itself and holds no file for it."""
    if sys.platform == "win32":
        yield  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor, folder):
            raise UserError(f"another process is exporting to {folder}; wait until it ends")
        yield
    finally:
        os.close(descriptor)


def _sync(folder):
    """Has the system write all files of a folder to the disk: a version must not be empty after a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _remove_old(folder, keep):
    """Removes all versions but the newest, `keep` earlier ones, and those that models.config pins."""
    text = (folder / MODELS).read_text(encoding="utf-8", errors="replace")
    lines = "\n".join(line.partition("#")[0] for line in text.splitlines())
    lists = re.findall(r"\bversions\s*:\s*\[?([\d,\s]+)", lines)  # and not num_versions
    pinned = {int(number) for numbers in lists for number in re.findall(r"\d+", numbers)}
    for number in ask.versions(folder)[: -1 - keep]:
        if number not in pinned:
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{number}{DRAFT}") as scratch:
                os.rename(folder / str(number), Path(scratch, "old"))  # in one step, before its files go


def record(draft, examples, expected, about):
    """Gives a SavedModel its requests and the answers to them, and checks these.

    Args:
        draft: folder of the SavedModel, as `kseq.export.export` wrote it.
        examples: list of {input: bytes}. Each is a request, and all together are one more.
        expected: {output: value} for each example, of the model in training.
        about: {name: value} to add to what is kept beside the model; it must have "model", its name on the server.

    Raises:
        UserError: the SavedModel does not answer in a process of its own, or answers otherwise.
    """
    known = read_json(draft / ABOUT)
    together = {name: [example[name] for example in examples] for name in known["inputs"]}
    requests = [{name: [value] for name, value in example.items()} for example in examples]
    checks.write_requests(draft / WARMUP, [*requests, together], about["model"])
    found = ask_alone(draft)
    wanted = [{name: [value] for name, value in answer.items()} for answer in expected]
    wanted.append({name: [answer[name] for answer in expected] for name in expected[0]})
    try:
        for number, (answer, want) in enumerate(zip(found["answers"], wanted, strict=True), 1):
            checks.compare(answer, want, f"request {number}", TOLERANCE)
    except ValueError as error:
        raise UserError(f"the exported model does not answer as the model in training: {error}") from None
    write_json(draft / ANSWERS, found["answers"])
    files = [WARMUP, ANSWERS]
    if known.get("paths"):  # what README.md sends
        shown = min(examples, key=lambda example: sum(map(len, example.values())))
        for name, value in shown.items():
            (draft / "assets.extra" / name).write_bytes(value)
            files.append(f"assets.extra/{name}")
    about = {**known, **about, "operations": found["operations"], "files": [*known["files"], *files]}
    write_json(draft / ABOUT, about)


def ask_alone(folder):
    """Asks a SavedModel its warm-up requests in a fresh process that imports neither kseq nor keras.

    Returns:
        what `kseq.serving.check.answers` returns.

    Raises:
        UserError: the process fails.
    """
    command = [sys.executable, checks.__file__, str(Path(folder).resolve()), "--answers"]
    with tempfile.TemporaryDirectory() as elsewhere:
        result = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, check=False)
    if result.returncode:
        raise UserError(f"{folder} does not answer in a process of its own:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])
