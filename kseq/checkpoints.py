"""What a training leaves in the folder of its run: `progress.json`, and the checkpoints that it names.

    progress.json           epochs and batches that are done, seconds, history (a row an epoch), the last checkpoint,
                            the best weights, the same of the checkpoint before, and the SHA-256 of each file
    last-0007.npz           all that epoch 8 depends on: weights, states of random generators, the optimizer's variables
    last-0007-000350.npz    the same after 350 batches of epoch 8, and the metrics of these batches
    best-0004.npz           the best weights so far
    best.weights.h5         the same in Keras' own format, at the end of training

`progress.json` is replaced last, so that a run killed at any moment finds a whole state.
"""

import errno
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from kseq.config import Config
from kseq.errors import UserError
from kseq.files import read_json, replacing, sha256, write_json

PROGRESS = "progress.json"
LOG = "log.csv"
WEIGHTS = "best.weights.h5"
KEPT = 2  # checkpoints that a run can go on from

_NAME = r"^(last|best)-(\d{4,})(-\d{6,})?\.npz$"
_File = Annotated[str, Field(pattern=_NAME)]  # in the folder itself: what lies elsewhere is neither read nor deleted


class _Best(Config):
    epoch: int = Field(ge=1)
    value: float
    file: _File


class _State(Config):
    epoch: int = Field(ge=0)
    step: int = Field(0, ge=0)  # runs of before it was written have only whole epochs
    last: _File
    best: _Best | None


class _Progress(_State):
    seconds: float = Field(ge=0)
    before: tuple[_State, ...]
    sha256: dict[_File, str]
    history: tuple[dict[str, int | Annotated[float, Field(allow_inf_nan=True)]], ...]


def read_progress(folder):
    """What `progress.json` in a folder holds; None where a run has left no checkpoint.

    Raises:
        UserError: it cannot be read, is not what a run writes, or is missing beside the files of a run.
    """
    folder = Path(folder)
    path = folder / PROGRESS
    if not path.exists():
        # A run killed just before its first progress.json has checkpoints of epoch 1, and no log.
        left = [LOG] if (folder / LOG).exists() else [name for name, epoch in _checkpoints(folder) if epoch > 1]
        if left:
            raise UserError(
                f"{path} is missing, though {left[0]} is from a trained run; restore it, or take another --workdir"
            )
        return None
    progress = read_json(path)
    try:
        _Progress.model_validate_json(json.dumps(progress))
        wrong = _contradiction(progress)
    except ValidationError as error:
        detail = error.errors()[0]
        wrong = ": ".join([*(".".join(map(str, detail["loc"])),) * bool(detail["loc"]), detail["msg"]])
    if wrong:
        raise UserError(
            f"{path} is not what a run of this version of kseq writes ({wrong}); restore it, or train anew in another "
            "--workdir"
        )
    return {"step": 0} | progress | {"before": [{"step": 0} | state for state in progress["before"]]}


def _contradiction(progress):
    for state in (progress, *progress["before"]):
        if bool(state["epoch"]) != bool(state["best"]):
            return f"best: {state['best']} after {state['epoch']} epochs"
    if len(progress["history"]) != progress["epoch"]:
        return f"{len(progress['history'])} rows of history for {progress['epoch']} epochs"
    missing = sorted(_files(progress) - progress["sha256"].keys())
    return f"no checksum of {missing[0]}" if missing else ""


def write_progress(folder, progress):
    """Replaces `progress.json`, and deletes the checkpoints that it does not name. Returns what it holds."""
    named = _files(progress)
    progress = progress | {"sha256": {name: digest for name, digest in progress["sha256"].items() if name in named}}
    write_json(Path(folder, PROGRESS), progress)
    for name, _ in _checkpoints(folder):
        if name not in named:
            Path(folder, name).unlink(missing_ok=True)
    return progress


def newest_whole(folder, progress):
    """`progress`, or what it was at the newest checkpoint whose files are whole; each damaged file is told of.

    Raises:
        UserError: there is no such checkpoint.
    """
    states = [progress, *progress["before"]]
    for i, state in enumerate(states):
        names = sorted(_files(state | {"before": []}), reverse=True)
        damaged = [f"{Path(folder, name)} {damage}" for name in names if (damage := _damage(folder, progress, name))]
        if not damaged:
            return progress | state | {"before": states[i + 1 :], "history": progress["history"][: state["epoch"]]}
        place = f"epoch {state['epoch']}" + (f" and {state['step']} batches" if state["step"] else "")
        print(f"{place} cannot be resumed: {' and '.join(damaged)}", flush=True)
    raise UserError(f"{folder}: no checkpoint is whole; restore the files, or train anew in another --workdir")


def best_weights(folder, progress):
    """The path of the best weights.

    Raises:
        UserError: the file is missing or damaged.
    """
    name = progress["best"]["file"]
    damage = _damage(folder, progress, name)
    if damage:
        again = any(name not in _files(state | {"before": []}) for state in progress["before"])
        way = "--mode=train --resume trains them again" if again else "restore it, or train anew in another --workdir"
        raise UserError(f"{Path(folder, name)}, the best weights, {damage}; {way}")
    return Path(folder, name)


def save_weights(folder, model):
    """Writes `best.weights.h5`, which `load_weights` of a model of the same config reads.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(Path(folder, WEIGHTS)) as draft:
        _make_sure_of_room(draft, sum(np.asarray(v.value).nbytes + 8192 for v in model.weights))
        try:
            model.save_weights(draft)
        except OSError as error:  # HDF5 writes the number of the error into a text of many lines
            found = re.search(r"errno = (\d+)", str(error))
            number = error.errno or int(found[1] if found else errno.EIO)
            raise OSError(number, os.strerror(number), str(Path(folder, WEIGHTS))) from None


def _make_sure_of_room(path, size):
    """Raises `OSError` where a disk has no room for a file: HDF5 ends the whole process when it notices that itself."""
    with open(path, "wb") as file:
        for first in range(0, size, 2**20):
            file.write(bytes(min(2**20, size - first)))
    os.remove(path)


def save_variables(path, variables):
    """Writes variables to one `.npz` file, whole or not at all; its SHA-256."""
    with replacing(path) as draft:
        with open(draft, "wb") as file:
            np.savez(file, **{f"{i:04d} {v.path}": np.asarray(v.value.numpy()) for i, v in enumerate(variables)})
        return sha256(draft)


def load_variables(path, variables):
    """Reads back what `save_variables` wrote. Names and shapes are compared before any array is read.

    Raises:
        UserError: the file cannot be read, or holds other variables.
    """
    try:
        found = _headers(path)
        expected = [(v.path, tuple(v.shape)) for v in variables]
        different = _difference(found, expected)
        if not different:
            with open(path, "rb") as raw, np.load(raw) as file:
                values = [file[name] for name in sorted(file.files)]
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if different:
        raise UserError(f"checkpoint {path} is of another model ({different}); train anew in another --workdir")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _headers(path):
    """(name, shape) of each array of an `.npz` file, in the order in which they were saved; none is read."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    found = []
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist()):
            with file.open(name) as member:
                shape, _, dtype = read[np.lib.format.read_magic(member)](member)
            if dtype.hasobject:
                raise ValueError(f"{name} holds objects of Python")
            found.append((name.partition(" ")[2].removesuffix(".npy"), shape))
    return found


def _difference(found, expected):
    """How two lists of (path, shape) differ; empty where they do not."""
    if len(found) != len(expected):
        return f"{len(found)} variables there, {len(expected)} here"
    names, others = (_stable(path for path, _ in variables) for variables in (found, expected))
    for name, other, (path, shape), (other_path, other_shape) in zip(names, others, found, expected, strict=True):
        if (name, shape) != (other, other_shape):
            return f"{path} {list(shape)} there, {other_path} {list(other_shape)} here"
    return ""


def _stable(paths):
    """The paths of variables without the numbers by which Keras counts the layers of a whole process.

    Each name between slashes loses its numbers, and gets that of its first appearance under the names before it.
    """
    seen = {}

    def stable(path):
        under = ""
        for name in path.split("/"):
            plain = re.sub(r"_\d+(?=_|$)", "", name)
            alike = seen.setdefault((under, plain), [])
            if name not in alike:
                alike.append(name)
            under = f"{under}/{plain}.{alike.index(name)}"
        return under

    return [stable(path) for path in paths]


def _files(progress):
    states = [progress, *progress["before"]]
    return {state["last"] for state in states} | {state["best"]["file"] for state in states if state["best"]}


def _checkpoints(folder):
    """(name, epoch) of the checkpoints that lie in a folder."""
    found = (re.match(_NAME, path.name) for path in Path(folder).glob("*.npz"))
    return sorted((match[0], int(match[2])) for match in found if match)


def _damage(folder, progress, name):
    """What is wrong with a checkpoint; empty where nothing is."""
    path = Path(folder, name)
    try:
        return "" if sha256(path) == progress["sha256"][name] else f"does not have the checksum that {PROGRESS} names"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
