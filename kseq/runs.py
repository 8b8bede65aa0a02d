"""A run's folder: what is in it, who may write to it, and how it is opened.

    run.json             the task, versions, seed, command, machine, and the SHA-256 of each file that must not change
    config.json          the resolved config
    vocabulary.txt, …    what the task made of its training data
    progress.json, last-*.npz, best-*.npz          see `kseq.checkpoints`
    log.csv, tensorboard/                          the metrics of each epoch
    metrics-SPLIT.json, predictions-SPLIT.jsonl    of `evaluate`
    predictions/, export/                          of `predict` and `export`
    .lock                held by the process that writes to the folder

Only a new or an empty folder, or a run, is written to.
"""

import contextlib
import hashlib
import importlib
import json
import os
import pkgutil
import platform
import sys
from pathlib import Path
from typing import NamedTuple

from kseq.checkpoints import best_weights, read_progress, sha256
from kseq.config import Config, ConfigError, load
from kseq.errors import UserError
from kseq.files import DRAFT, read_json, remove_drafts, write_json, write_text

RUN = "run.json"
CONFIG = "config.json"
LOCK = ".lock"

# What may differ from the training when a finished run is used: where the data are, and how text is generated.
CHANGEABLE = ("data", "sampler")


class Description(NamedTuple):
    """What the files of a run tell."""

    task: type  # a subclass of `kseq.tasks.task.Task`
    config: Config
    info: dict  # of run.json
    progress: dict | None  # of progress.json; None until an epoch has ended


def is_run(folder):
    """Whether a folder holds a run, finished or not."""
    return Path(folder, RUN).exists()


def describe(folder):
    """The `Description` of the run in a folder. TensorFlow is not needed.

    Raises:
        UserError: there is no run in it, or one of its files is damaged, of another version, or has been changed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if not is_run(folder):
        raise UserError(f"{folder} holds no run of kseq")
    info = read_json(folder / RUN)
    task = task_named(info.get("task"))
    if task is None:
        raise UserError(f"{folder / RUN} names the task {info.get('task')!r}, and kseq has none of that name")
    files = info.get("files")
    if not isinstance(files, dict) or CONFIG not in files:
        raise UserError(f"{folder / RUN} has no checksum of {CONFIG}: it is damaged, or of an older version of kseq")
    values = read_json(folder / CONFIG)
    check_files(folder, {CONFIG: files[CONFIG]})
    try:
        config = load(task.Config, base=values)
    except ConfigError as error:
        raise UserError(
            f"{folder / CONFIG} is of another version of kseq: {'; '.join(str(error).splitlines())}"
        ) from None
    return Description(task, config, info, read_progress(folder))


def check_files(folder, files):
    """Compares files of a run, {name: SHA-256}, with what they were when it began.

    Raises:
        UserError: one is missing, or has been changed.
    """
    for name, digest in files.items():
        path = Path(folder, name)
        if path.parent != Path(folder):
            raise UserError(f"{Path(folder, RUN)} names the file {name!r}, which is not in its folder")
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}; the run needs it as it was written") from None
        if found != digest:
            raise UserError(
                f"{path} is not what the run was trained with (its checksum is not the one in {RUN}); restore it, or "
                "train anew in another --workdir"
            )


def finished(folder, task=None):
    """The `Description` of the trained run in a folder.

    Raises:
        UserError: as of `describe`; no epoch has ended; or the run is not one of `task`, where one is given.
    """
    folder = Path(folder)
    if task and not (folder.is_dir() and is_run(folder)):
        raise UserError(f"{folder} holds no trained run; train one with --mode=train --workdir={folder}")
    run = describe(folder)
    if task and run.task.name != task.name:
        name = run.task.name
        raise UserError(f"{folder} is a run of {name}, not of {task.name}; python -m kseq.tasks.{name} knows it")
    if run.progress is None:
        raise UserError(f"{folder} holds no trained run: its first epoch has not ended")
    return run


def opened(folder, *, task=None, changes=(), prepare=lambda config: None):
    """The task of the trained run in a folder, with its best weights.

    Args:
        folder: of the run.
        task: the subclass of `Task` that it must be of.
        changes: `key=value` of data and sampler, laid over its config.
        prepare: called with the config before the model is built.

    Raises:
        UserError: as of `finished`; or a change is of another key, or a file has been changed.
        ConfigError: a change is wrong.
    """
    folder = Path(folder)
    run = finished(folder, task)
    for change in changes:
        if change.partition("=")[0].strip().partition(".")[0] not in CHANGEABLE:
            raise UserError(f"--set {change}: of a finished run only {' and '.join(CHANGEABLE)} can be changed")
    config = load(run.task.Config, overrides=changes, base=run.config.model_dump(mode="json"))
    check_files(folder, run.info["files"])
    weights = best_weights(folder, run.progress)
    prepare(config)
    made = run.task(config, folder)
    made.load(weights)
    return made


def begin(folder, task, config, circumstances):
    """Writes what a new run is made with, and its config."""
    folder, text = Path(folder), json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"
    files = {CONFIG: hashlib.sha256(text.encode()).hexdigest()}
    write_json(folder / RUN, {"task": task.name, **circumstances, "files": files})
    write_text(folder / CONFIG, text)


def files_of(folder):
    """The files in a folder, as a set of (name, time at which it was written)."""
    return {(path.name, path.stat().st_mtime_ns) for path in Path(folder).iterdir() if path.is_file()}


def keep_files(folder, names):
    """Remembers what files of a new run are, so that a change is noticed."""
    info = read_json(Path(folder, RUN))
    files = {name: sha256(Path(folder, name)) for name in sorted(names)}
    write_json(Path(folder, RUN), info | {"files": info["files"] | files})


@contextlib.contextmanager
def locked(folder):
    """Makes a folder that of this process, until the end of the block or of the process, and clears away what killed
    ones left in it.

    Raises:
        UserError: it is neither new nor empty nor a run, or another process has it.
    """
    folder = Path(folder)
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        if not _lock(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{folder} is in use by {holder}; wait until it ends, or take another --workdir")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        remove_drafts(folder)
        yield


def _lock(file):
    """Locks a file until it is closed; whether nobody else has."""
    if sys.platform == "win32":
        return True  # without a lock that dies with its process
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        print(f"{file.name}: the file system has no locks ({error.strerror}); start one program at a time", flush=True)
    return True


def check_writable(folder):
    """Raises `UserError` unless a folder is new, empty or a run."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --workdir must be a folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    others = [name for name in names if name != LOCK and DRAFT not in name]
    if others and not is_run(folder):
        raise UserError(
            f"{folder} holds {others[0]!r} and no run of kseq; nothing there is touched. Take a new or an empty folder "
            "as --workdir"
        )
    if RUN in others and task_named(read_json(folder / RUN).get("task")) is None:
        raise UserError(f"{folder / RUN} is not of a run of kseq; nothing there is touched. Take another --workdir")


def task_named(name):
    """The task of that name; None where there is none. No more is imported than what lies in kseq/tasks."""
    package = importlib.import_module("kseq.tasks")
    if name not in [module.name for module in pkgutil.iter_modules(package.__path__)]:
        return None
    kind = importlib.import_module("kseq.tasks.task").Task
    found = vars(importlib.import_module(f"kseq.tasks.{name}")).values()
    kinds = (x for x in found if isinstance(x, type) and issubclass(x, kind))
    return next((x for x in kinds if getattr(x, "name", None) == name), None)
