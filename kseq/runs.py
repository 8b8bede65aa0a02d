"""A run's folder: what is in it, who may write to it, and how it is opened.

    run.json             the task, versions, seed, command, machine, and the SHA-256 of each file that must not change
    config.json          the resolved config
    vocabulary.txt, …    what the task made of its training data
    progress.json, last-*.npz, best-*.npz, best.weights.h5    see `kseq.checkpoints`
    log.csv, tensorboard/                          the metrics of each epoch
    metrics-SPLIT.json, predictions-SPLIT.jsonl    of `evaluate`
    predictions/, export/                          of `predict` and `export`
    .lock                held by the process that writes to the folder

Only a new or an empty folder, or a run, is written to.
"""

import abc
import contextlib
import hashlib
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path
from typing import NamedTuple

from kseq.checkpoints import best_weights, read_progress
from kseq.config import Config, ConfigError
from kseq.config import load as load_config
from kseq.errors import UserError
from kseq.export import ABOUT, check_replaceable, files_of
from kseq.export import export as export_saved_model
from kseq.files import DRAFT, lock, read_json, remove_drafts, replacing, sha256, write_bytes, write_json, write_text
from kseq.serving import ask, versions

RUN = "run.json"
CONFIG = "config.json"
LOCK = ".lock"
BATCH_SIZE = 64  # examples that an exported model answers at once

# What may differ from the training when a finished run is used: where the data are, how text is generated, and what
# an export answers.
OVERRIDABLE = ("data", "sampler", "serving")


class Description(NamedTuple):
    """What the files of a run tell."""

    task: type  # a subclass of `kseq.tasks.task.Task`
    config: Config
    info: dict  # of run.json
    progress: dict | None  # of progress.json; None until there is a checkpoint


def is_run(folder):
    """Whether a folder holds a run, finished or not."""
    return Path(folder, RUN).exists()


def read_run(folder):
    """The `Description` of the run in a folder. TensorFlow is not needed.

    Raises:
        UserError: there is no run in it, or one of its files is damaged, of another version, or has been changed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        beside = sorted(path.name for path in folder.parent.glob("*") if is_run(path))
        known = f"; {folder.parent} holds the runs {', '.join(beside)}" if beside else ""
        raise UserError(f"{folder}: there is no such folder{known}")
    if not is_run(folder):
        raise UserError(f"{folder} holds no run of kseq")
    info = read_json(folder / RUN)
    task = find_task(info.get("task"))
    if task is None:
        raise UserError(f"{folder / RUN} names the task {info.get('task')!r}, and kseq has none of that name")
    files = info.get("files")
    if not isinstance(files, dict) or CONFIG not in files:
        raise UserError(f"{folder / RUN} has no checksum of {CONFIG}: it is damaged, or of an older version of kseq")
    values = read_json(folder / CONFIG)
    check_files(folder, {CONFIG: files[CONFIG]})
    try:
        config = load_config(task.Config, base=values)
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


def read_trained_run(folder, task=None):
    """The `Description` of the trained run in a folder.

    Raises:
        UserError: as of `read_begun_run`; or no epoch has ended.
    """
    run = read_begun_run(folder, task)
    if not (run.progress and run.progress["best"]):
        raise UserError(f"{folder} holds no trained run: its first epoch has not ended")
    return run


def read_begun_run(folder, task=None):
    """The `Description` of the run in a folder, of which an epoch may not yet have ended.

    Raises:
        UserError: as of `read_run`; or the run is not one of `task`, where one is given.
    """
    folder = Path(folder)
    if task and not (folder.is_dir() and is_run(folder)):
        raise UserError(f"{folder} holds no trained run; train one with --mode=train --workdir={folder}")
    run = read_run(folder)
    if task and run.task.name != task.name:
        name = run.task.name
        raise UserError(f"{folder} is a run of {name}, not of {task.name}; python -m kseq.tasks.{name} knows it")
    return run


def load_task(folder, *, task=None, overrides=(), prepare=lambda config: None):
    """The task of the trained run in a folder, with its best weights.

    Args:
        folder: of the run.
        task: the subclass of `Task` that it must be of.
        overrides: `key=value` of data, sampler and serving, laid over its config.
        prepare: called with the config before the model is built.

    Raises:
        UserError: as of `read_trained_run`; or an override is of another key, or a file has been changed.
        ConfigError: an override is wrong.
    """
    folder = Path(folder)
    run = read_trained_run(folder, task)
    for override in overrides:
        if override.partition("=")[0].strip().partition(".")[0] not in OVERRIDABLE:
            raise UserError(f"--set {override}: of a finished run only data, sampler and serving can be changed")
    config = load_config(run.task.Config, overrides=overrides, base=run.config.model_dump(mode="json"))
    check_files(folder, run.info["files"])
    weights = best_weights(folder, run.progress)
    prepare(config)
    made = run.task(config, folder)
    made.changes = tuple(overrides)
    made.load(weights)
    return made


def create_run(folder, task, config, provenance):
    """Writes what a new run is made with, and its config."""
    folder, text = Path(folder), json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"
    files = {CONFIG: hashlib.sha256(text.encode()).hexdigest()}
    write_json(folder / RUN, {"task": task.name, **provenance, "files": files})
    write_text(folder / CONFIG, text)


def file_times(folder):
    """The files in a folder, as a set of (name, time at which it was written)."""
    return {(path.name, path.stat().st_mtime_ns) for path in Path(folder).iterdir() if path.is_file()}


def save_checksums(folder, names):
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
        if not lock(file, file.name):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{folder} is in use by {holder}; wait until it ends, or take another --workdir")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        remove_drafts(folder)
        yield


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
    if RUN in others and find_task(read_json(folder / RUN).get("task")) is None:
        raise UserError(f"{folder / RUN} is not of a run of kseq; nothing there is touched. Take another --workdir")


def find_task(name):
    """The task of that name; None where there is none. No more is imported than what lies in kseq/tasks."""
    package = importlib.import_module("kseq.tasks")
    if name not in [module.name for module in pkgutil.iter_modules(package.__path__)]:
        return None
    kind = importlib.import_module("kseq.tasks.task").Task
    found = vars(importlib.import_module(f"kseq.tasks.{name}")).values()
    kinds = (x for x in found if isinstance(x, type) and issubclass(x, kind))
    return next((x for x in kinds if getattr(x, "name", None) == name), None)


# --- a run in Python


def load(folder, overrides=()):
    """A trained run of any task, or an exported folder, ready to answer.

        translator = kseq.load("runs/translate/multi30k")
        translator("Un chien court.")                       # 'A dog runs.'
        translator(["Un chien court.", "Deux chats."])      # a list of texts
        translator("Un chien court.", n=5, details=True)    # records: text, score, tokens, alignment; best first

    Args:
        folder: of a run, or of an export, whose newest version answers, or of one of its versions.
        overrides: for a run, `key=value` of its data, its sampler or its serving, such as "sampler.width=5".

    Returns:
        a `Run`, or an `Exported`.

    Raises:
        UserError: there is neither, or the run is damaged.
        ConfigError: an override is wrong.
    """
    folder = Path(folder)
    if (folder / ask.MODEL).exists() or (not is_run(folder) and ask.versions(folder)):
        if overrides:
            raise UserError(
                f"{folder} is an exported model, which cannot be changed; load the run it was exported from"
            )
        return Exported(ask.model_folder(folder))
    import keras

    before = keras.config.dtype_policy()
    try:
        task = load_task(
            folder, overrides=overrides, prepare=lambda c: keras.config.set_dtype_policy(c.training.precision)
        )
        task.round_weights()
        return Run(task)
    finally:
        keras.config.set_dtype_policy(before)


class Predictor(abc.ABC):
    """What answers when it is called.

    Attributes:
        name: of the task.
        raw: names of the inputs.
        paths: whether a str given for an input is the path of a file, not a text.
        max_n: the largest `n` that it can be called with; None where there is no limit.
    """

    name: str
    raw: tuple[str, ...]
    paths: bool
    max_n: int | None

    def __call__(self, examples, *, n=None, details=False):
        """The answer to an example, or a list of the answers to a list of them.

        Args:
            examples: one example or a list. An example of one input is a str (a text, or the path of a file), the
                bytes of either, or a `pathlib.Path` whose content is meant; one of several inputs is a tuple of these,
                or a dict.
            n: how many answers to each, best first, as a list; one, and no list, when not given.
            details: whether an answer is a record, {"text": …, "score": …, "tokens": …, "alignment": …}, not its text.

        Raises:
            UserError: an example is of another kind, or n answers cannot be given.
        """
        several = isinstance(examples, list)
        if n is not None and (not isinstance(n, int) or n < 1):
            raise UserError(f"n must be a whole number of 1 or more, it is {n!r}")
        given = [parse_example(self.raw, self.paths, x) for x in (examples if several else [examples])]
        found = self.answers(given, n or 1) if given else []
        if not details:
            found = [[record["text"] for record in records] for records in found]
        if n is None:
            found = [records[0] for records in found]
        return found if several else found[0]

    @abc.abstractmethod
    def answers(self, examples, n):
        """For each {input: str or bytes}, its n best records."""


class Run(Predictor):
    """A trained run, called on raw examples. See `load`.

    Attributes:
        task: the `kseq.tasks.task.Task`.
    """

    def __init__(self, task):
        self.task = task
        self.name = task.name
        self.raw = task.raw
        self.paths = task.paths
        self.max_n = task.max_n

    def __repr__(self):
        return f"<run of {self.task.name} in {self.task.workdir}>"

    def answers(self, examples, n):
        opened = []
        for number, example in enumerate(examples, 1):
            name = f"example {number}"
            try:
                opened.append(self.task.opened(example))
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
            self.task.check_input(name, opened[-1])
        return self.task.answers(opened, n)

    def _opened(self, example):
        """An example as a call takes it → as the task's `answers` takes it."""
        return self.task.opened(parse_example(self.raw, self.paths, example))

    def show(self, example, record=None):
        """The matplotlib figure of the attention behind an answer; None when there is no attention to show.

        Args:
            example: as a call takes it.
            record: one of its answers, as a call with `details=True` gives them; the best, when not given.
        """
        example = self._opened(example)
        if record is None:
            [[record, *_]] = self.answers([example], 1)
        return self.task.figure(example, record)

    def files(self, example, record):
        """{suffix: bytes} of the files that go with an answer, where there are any: ".html", a page of the words in
        colours, ".TextGrid", when each phone is said, or ".mid", the music.

        Args:
            example: as a call takes it.
            record: one of its answers, as a call with `details=True` gives them.

        Raises:
            UserError: a package is missing that writes them.
        """
        example = self._opened(example)
        page = next(iter(self.task.pages([record]).values()), None)
        return ({".html": page.encode()} if page else {}) | self.task.beside(example, record)

    def examples(self):
        """A few inputs of the dev split, list of (name, example as a call takes it).

        They are read from predictions-dev.jsonl, where the evaluation has written it and the inputs are texts, or else
        from the data.

        Raises:
            UserError: neither can be read.
        """
        found = read_examples(self.task.workdir / "predictions-dev.jsonl", self.raw)
        return found or [(name, {key: x[key] for key in self.raw}) for name, x in self.task.some_of_dev()]

    @property
    def model(self):
        """The `keras.Model`, for `model.fit`, with the weights that scored best."""
        return self.task.model

    @property
    def preprocessor(self):
        """What turns raw examples into the model's inputs; a tuple with that of its outputs where it writes text."""
        import keras

        parts = tuple(part for part in self.task.parts() if not isinstance(part, keras.Model))
        return parts if len(parts) > 1 else parts[0]

    def export(self, folder, keep=versions.KEEP):
        """Adds a version to an export, asks it in a process of its own, and returns its answer to an example of dev.

        The folder holds the versions 1, 2, 3, … as TensorFlow Serving takes them, and is made if it is missing; its
        name is the one by which the server knows the model.

        Args:
            folder: of the export.
            keep: number of earlier versions that stay.

        Raises:
            UserError: the folder holds something that no export has written, another process exports to it, `keep` is
                negative, or the SavedModel answers otherwise than the run. No version is added then.
        """
        return export_run(self.task, folder, keep=keep)[1]

    def export_lite(self, folder, length=None):
        """Writes a TFLite file, of built-in operations alone, that answers one example at a time by a greedy search.

        It takes ids of a text, pixels of a picture or frames of a recording, and returns ids; see `kseq.lite.Lite`.
        The vocabularies are saved in the same folder, for `kseq.preprocessors.TextPreprocessor.load`. Its answers to
        examples of dev are first compared with those of `kseq.samplers.Greedy`.

        Args:
            folder: to write; an earlier one is replaced.
            length: the most tokens or frames that it reads, padded with zeros; `data.max_length` for texts.

        Raises:
            UserError: the folder holds something else, the task or an option of the run has no TFLite file, or the
                file answers otherwise than the run.
        """
        write_lite(self.task, Path(folder), length)


class Exported(Predictor):
    """An exported folder, called on raw examples. See `load`."""

    def __init__(self, folder):
        import tensorflow as tf

        about = read_json(folder / ABOUT) if (folder / ABOUT).exists() else {}
        if not isinstance(about.get("inputs"), list) or not isinstance(about.get("paths"), bool):
            raise UserError(f"{folder} is a SavedModel, but not one that this version of kseq has exported")
        ask.load_operations(tf)
        self.folder = folder
        self.name = str(about.get("task", "model"))
        self.raw = tuple(about["inputs"])
        self.paths = about["paths"]
        self.saved = tf.saved_model.load(str(folder))
        if "nbest" not in self.saved.signatures:
            raise UserError(f"{folder} was exported by an earlier version of kseq; export the run again")
        self.max_n = self.saved.signatures["nbest"].structured_outputs["text"].shape[1]

    def __repr__(self):
        return f"<exported model in {self.folder}>"

    def answers(self, examples, n):
        import numpy as np
        import tensorflow as tf

        signature, wanted = self.saved.signatures["serving_default" if n == 1 else "nbest"], None
        if n > 1:
            wanted = ("text", "score", "status")
            if n > self.max_n:
                raise UserError(f"{self.folder} gives {self.max_n} answer(s) at most; load the run for n={n}")
        records = []
        for first in range(0, len(examples), BATCH_SIZE):
            batch = examples[first : first + BATCH_SIZE]
            inputs = {name: tf.constant([example[name] for example in batch]) for name in self.raw}
            found = {k: v.numpy() for k, v in signature(**inputs).items() if wanted is None or k in wanted}
            for i, status in enumerate(found.pop("status"), first + 1):
                if status != b"ok":
                    raise UserError(f"example {i}: {status.decode()}")
            for i in range(len(batch)):
                best = zip(*(np.atleast_1d(value[i])[:n] for value in found.values()), strict=True)
                records.append([dict(zip(found, map(_plain, values), strict=True)) for values in best])
        return records

    def __getattr__(self, name):
        if name in ("model", "preprocessor", "show", "files", "examples", "export", "export_lite"):
            raise UserError(f"{self.folder} is an exported model: it has no {name}; load the run it was exported from")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _plain(value):
    return value.decode() if isinstance(value, bytes) else float(value)


def read_examples(path, raw, count=4):
    """A few of the rows of a file of predictions, evenly spaced: list of (name, {input: text}).

    It is empty where there is no such file, it cannot be read, or its inputs are not texts.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines[:: max(1, len(lines) // count)][:count]]
        sources = [row["source"].split("\t") if len(raw) > 1 else [row["source"]] for row in rows]
        found = [(str(row["id"]), dict(zip(raw, texts, strict=True))) for row, texts in zip(rows, sources, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return found


def parse_example(raw, paths, value):
    """A value as a user gives it → {input: str or bytes}.

    Args:
        raw: names of the inputs.
        paths: whether a str is the path of a file.
        value: of one input a str, bytes or `pathlib.Path`; of several a tuple of these, or a dict.

    Raises:
        UserError: it is of another kind, or a file cannot be read.
    """
    if isinstance(value, dict):
        if value.keys() != set(raw):
            raise UserError(
                f"an example must have {' and '.join(raw)}, it has {', '.join(map(str, value)) or 'nothing'}"
            )
        values = [value[name] for name in raw]
    else:
        values = [value] if len(raw) == 1 else value
        if len(raw) > 1 and (not isinstance(value, tuple | list) or len(value) != len(raw)):
            raise UserError(f"an example must be {' and '.join(raw)}, as a tuple or a dict; it is {value!r:.200}")
    return {name: _content(name, paths, x) for name, x in zip(raw, values, strict=True)}


def _content(name, paths, value):
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name} must be a str, bytes or a path, it is {value!r:.200}")
    if isinstance(value, str) and not paths:
        return value
    path = Path(value)
    if path.exists() and not path.is_file():
        raise UserError(f"{name}: {path} is no regular file")
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return content if paths else content.rstrip(b"\r\n")


def write_lite(task, folder, length=None):
    """Writes the TFLite file of a trained task; see `Run.export_lite`."""
    from kseq import lite

    check_replaceable(folder, lite.ABOUT)
    parts = task.lite(length)
    content = lite.convert(parts.function, [parts.signature], parts.models)
    lite.check(content, parts.greedy, parts.examples)
    about = {"task": task.name, "inputs": {parts.signature.name: list(parts.signature.shape)}}
    with replacing(folder) as draft:
        draft.mkdir()
        write_bytes(draft / lite.MODEL, content)
        for name, text in parts.vocabularies.items():
            text.save(draft / name)
        write_json(draft / lite.ABOUT, {**about, "files": [*files_of(draft), lite.ABOUT]})


def export_run(task, folder, *, name=None, keep=versions.KEEP):
    """Adds a version to an export and asks it; see `Run.export`.

    Args:
        task: a trained `Task`.
        folder: of the export.
        name: by which the server knows the model; that of the folder by default.
        keep: number of earlier versions that stay.

    Returns:
        (folder of the version, its answer to `task.example()`).
    """
    about = {"task": task.name, "paths": task.paths, "weights": task.config.serving.weights}
    model = {"model": name or Path(folder).resolve().name}
    examples, expected = [task.example()], []
    for _, example in task.some_of_dev():
        given = task.request(example)
        examples += [given] if given not in examples else []

    def write(draft):
        weights = task.config.serving.weights
        served = task if weights == "float32" else task.anew()
        signatures = {"nbest": served.n_best}
        export_saved_model(served.answer, served.parts(), task.raw, draft, about, weights=weights, **signatures)
        with task.rounded():
            expected.extend(task.ask(example) for example in examples)
        versions.record(draft, examples, expected, model)

    return versions.add_version(folder, write, keep), expected[0]
