"""A task's program: from flags to a run that is trained, evaluated, asked and exported.

The only module that reads flags or the environment.
"""

import contextlib
import functools
import importlib
import json
import os
import stat
import sys
import sysconfig
import time
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from absl import flags

import kseq
from kseq import cluster, runs
from kseq.cluster import ALONE
from kseq.config import ConfigError, differences, to_toml
from kseq.errors import LostWorker, Terminated, UserError
from kseq.serving import versions
from kseq.tasks import pretrained, results
from kseq.tasks.task import hashed, text_of

MODES = ("train", "evaluate", "predict", "export")
FORMATS = ("text", "jsonl")
CONFIG = "config"  # prints what would be trained
FREE = ("training.strategy:", "data.processes:")  # what may be another when a run goes on


def train(task, workdir, config, *, resume, show, worker=ALONE):
    """Trains a new run in `workdir`, or goes on with the one that is there.

    Args:
        task: subclass of `Task`.
        workdir: `Path`.
        config: of the task.
        resume: whether a run that is there goes on.
        show: `verbose` of `model.fit`.
        worker: `kseq.cluster.Worker`; the chief alone writes to the workdir and prints.

    Raises:
        UserError: the folder holds a run and `resume` is not set, or a run of another config.
    """
    started = time.monotonic()
    new = worker.chief and _opened(task, workdir, config, resume)
    devices = _set_up(config, worker)
    say = partial(print, flush=True) if worker.chief else lambda _: None
    say(f"training in {workdir}" + _on(devices))
    run = task(config, workdir)
    before = runs.file_times(workdir) if new else set()
    run.prepare(devices)
    if new:
        runs.save_checksums(workdir, [name for name, _ in runs.file_times(workdir) - before])
    set_epoch = kseq.data.SetEpoch()
    batches = run.batches(set_epoch, kseq.data.Share(*devices.share))
    count = len(next(iter(run.columns.values())))
    say(f"{count:,} training examples, {devices.steps(batches):,} batches an epoch")
    progress = kseq.training.fit(
        run.model,
        batches,
        config.training,
        workdir,
        loss=run.loss(),
        validate=run.validate,
        monitor=task.monitor,
        set_epoch=set_epoch,
        scales=pretrained.scales(run.model, config),
        started=started,
        show=show if worker.chief else 0,
        devices=devices,
    )
    if worker.chief:
        best, minutes = progress["best"], progress["seconds"] / 60
        say(f"best {task.monitor} {best['value']:.4g} after epoch {best['epoch']}; {minutes:.1f} minutes")


def _on(devices):
    """What is said of several devices; nothing of one."""
    count, workers = devices.share[2], devices.worker.count
    return f", on {count} devices of {workers} worker{'s' * (workers > 1)}" if devices.strategy else ""


def _opened(task, workdir, config, resume):
    """Makes the folder of a new run, or checks that of the run to go on with. Returns whether it is new."""
    if not (runs.is_run(workdir) and kseq.checkpoints.read_progress(workdir)):
        runs.check_writable(workdir)
        runs.create_run(workdir, task, config, _provenance(config))
        return True
    known = runs.read_begun_run(workdir, task)
    changed = [change for change in differences(known.config, config) if not change.startswith(FREE)]
    if changed:
        shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(
            f"{workdir} holds a run of another config ({shown}, the value of that run first); choose another "
            "--workdir, take that config, or delete the folder"
        )
    if not resume:
        raise UserError(f"{workdir} holds a run; --resume goes on with it, another --workdir starts a new one")
    runs.check_files(workdir, known.info["files"])
    return False


def finished_run(task, workdir, changes=()):
    """Loads a finished run: the task with its best weights, rounded as an export stores them.

    Args:
        task: subclass of `Task`.
        workdir: of the run.
        changes: overrides, as of `runs.load_task`.

    Raises:
        UserError, ConfigError: as of `runs.load_task`.
    """
    run = runs.load_task(workdir, task=task, overrides=changes, prepare=_set_up)
    run.round_weights()
    return run


def evaluate(run, *, record_as=None):
    """Scores a finished run on dev, which selected its epoch, and on test, where there is one.

    Each has files of its own, metrics-SPLIT.json and predictions-SPLIT.jsonl. Where the run was loaded with changes,
    the names end in a hash of them, so that the scores of the unchanged run are kept. With `record_as` each metric
    becomes a row.
    """
    changes = run.changes
    seconds = kseq.checkpoints.read_progress(run.workdir)["seconds"]
    other = "-" + hashed(sorted(changes))[:8] if changes else ""
    scores, samples = {}, []
    for split in run.config.data.scored():
        metrics, rows = run.evaluate(split)
        if split == "dev":
            metrics["seconds_train"], samples = round(seconds, 1), rows
        if changes:
            metrics["changes"] = {key: value for key, _, value in (change.partition("=") for change in changes)}
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        predictions = run.workdir / f"predictions-{split}{other}.jsonl"
        kseq.files.write_text(predictions, lines)
        kseq.files.write_json(run.workdir / f"metrics-{split}{other}.json", metrics)
        scores[split] = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
        print("dev, which selected the epoch:" if split == "dev" else f"{split}:")
        for name, value in scores[split].items():
            print(f"{name:>14} {value:.4g}")
        print(f"{len(rows)} predictions in {predictions}", flush=True)
    if record_as:
        results.append_results(run, record_as, scores, seconds)
        results.write_samples(run, record_as, samples)


def predict(run, inputs, *, form="text"):
    """Prints the answer of a finished run to each input, and draws the attention behind it.

    Without inputs, it answers a few examples of dev.

    Raises:
        UserError: as of `asked`; or the files and the standard input that the inputs name have no lines.
    """
    folder = run.workdir / "predictions"
    examples = asked(run, inputs, form) if inputs else run.some_of_dev()
    line = partial(json_line, run) if form == "jsonl" else partial(text_line, run)
    answered = False
    for name, example, found in run.predict(examples, folder):
        print(line(name, example, found), flush=True)
        answered = True
    if not answered:
        raise UserError(f"there is nothing to answer: {' and '.join(inputs)} has no lines (- is the standard input)")
    if folder.is_dir() and form == "text":
        print(f"{run.drawn} in {folder}", flush=True)


def asked(run, inputs, form="text"):
    """Yields (name, example) for each input of the command line.

    Args:
        run: `Task`.
        inputs: each is a text (several texts with tabs between, where the task reads several) or the path of a file;
            `@FILE` and `-` stand for the lines of a file and of the standard input.
        form: "text", or "jsonl" where each line of a file is JSON: a text, a list of them, or {input: text}.

    Raises:
        UserError: an input is the name of a file, which is most likely meant by `@FILE`, or is not what the task reads.
    """
    for number, (where, value) in enumerate(_values(run, inputs, form), 1):
        if form == "text" and len(run.raw) > 1 and isinstance(value, str):
            value = tuple(value.split("\t"))
            if len(value) != len(run.raw):
                raise UserError(f"{where}: must be {' and '.join(run.raw)}, with a tab between")
        try:
            example = run.opened(runs.parse_example(run.raw, run.paths, value))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        name = Path(value).name if run.paths and isinstance(value, str) else f"{number:05d}"
        run.check_input(name, example)
        yield name, example


def _values(run, inputs, form):
    """Yields (place, value) for each input, and for each line of those that are files."""
    for given in inputs:
        if given == "-" or given.startswith("@"):
            for where, line in _lines(run, given):
                yield where, line if form == "text" else _json(where, line)
        elif not run.paths and os.path.isfile(given):
            raise UserError(f"{given} is a file, not a text; @{given} answers each of its lines")
        else:  # a terminal may hand over bytes that are not UTF-8
            yield given, given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _lines(run, given):
    """Yields (place, line) of the standard input, for "-", or of `@FILE`."""
    bad_bytes = run.config.data.bad_bytes
    if given != "-":
        yield from kseq.data.read_lines(given[1:], bad_bytes)
        return
    encoding, errors = ("latin-1", "strict") if bad_bytes == "latin-1" else ("utf-8", "replace")
    for number, line in enumerate(sys.stdin.buffer, 1):
        where = f"standard input:{number}"
        try:
            yield where, line.rstrip(b"\r\n").decode(encoding, "strict" if bad_bytes == "stop" else errors)
        except UnicodeDecodeError:
            raise UserError(f"{where} is not UTF-8; --set data.bad_bytes=latin-1 or replace reads it") from None


def _json(where, line):
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON: {error}") from None
    return tuple(value) if isinstance(value, list) else value


def json_line(run, name, example, found):
    """A line of `--format=jsonl`: the example, where it is text, and the record of its answer."""
    texts = {} if run.paths else {"input": {key: text_of(example[key]) for key in run.raw}}
    found = {key: x.tolist() if isinstance(x, np.ndarray) else x for key, x in found.items()}
    return json.dumps({"id": name, **texts, **found}, ensure_ascii=False)


def text_line(run, name, example, found):
    """A line of `--format=text`, which a line end in a text would break."""
    return run.line(name, example, found).replace("\r", " ").replace("\n", " ")


def export(run, *, keep=versions.KEEP):
    """Writes the next version of a finished run's SavedModel and asks it in a process of its own."""
    folder = run.workdir / "export"
    print(f"exporting to {folder}", flush=True)
    version, answer = runs.export_run(run, folder, name=run.name, keep=keep)
    print(f"exported version {version.name}")
    print(f"asked in a process without kseq and keras, it answers: {answer['text']!r} (score {answer['score']:.3f})")


def _set_up(config, worker=None):
    """One seed, one result: all generators seeded, all operations deterministic, and the precision of the config.

    A GPU's memory is taken as it is needed: by itself, TensorFlow takes all of it, and a second program finds none.

    Under XLA the operations are its own: Keras turns it off, with no more than a warning, where TensorFlow's are asked
    to be deterministic.

    Returns:
        the `kseq.training.Devices` of a `kseq.cluster.Worker`; None where there is no worker, as nothing is trained.
    """
    import keras
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow runs already, and has its memory
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    devices = kseq.training.open_devices(config.training.strategy, worker) if worker else None
    keras.utils.set_random_seed(config.seed)
    if not config.training.xla:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.training.precision)
    kseq.layers.allow_cudnn(config.training.cudnn)
    return devices


def _installed(name):
    return any(metadata.distributions(name=name))


def _provenance(config):
    """What a run is made with: commit, versions, command, machine."""
    packages = ["tensorflow", "keras", "numpy", "tensorflow-datasets"]
    packages += [name for name in ("tensorflow-text", "keras-hub", "sentencepiece") if _installed(name)]
    return {
        "kseq": kseq.__version__,
        "commit": results.commit(),
        "versions": {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}},
        "seed": config.seed,
        "command": sys.argv,
        "machine": results.machine(),
    }


USAGE = """python -m kseq.tasks.{name} [--mode=MODE] [--config=FILE] [--workdir=DIR] [--set KEY=VALUE ...] [INPUT ...]

Without --mode, trains, evaluates, predicts and exports. Without --config, uses generated data, which takes minutes.
A config is a TOML file with the values that differ from the defaults; examples are in {configs}.
--mode=config prints every key, what it means, and its value.

With --mode=predict, each INPUT is {input}. @FILE reads inputs from a file, one per line;
- reads the standard input, which is also read when it is piped and there is no INPUT.
--format=jsonl reads and prints one JSON value per line.
"""


def main(task):
    """Runs the program of a task and ends the process.

    Its exit code is 0 when all went well, 1 after an error, 2 for a wrong flag, 130 after Ctrl-C, and 75 after SIGTERM
    or the loss of another worker, which tells a scheduler to start the command again.

    Args:
        task: subclass of `Task`.
    """
    values = define_flags()
    try:
        inputs = values(sys.argv)[1:]
    except flags.Error as error:
        sys.exit(_complain(f"{error}; --help lists the flags", 2))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported
    try:
        if values.help:
            print(usage(task) + values.get_help(include_special_flags=False))
        elif values.mode == CONFIG:
            print(to_toml(pretrained.load_config(task, values.config, values.set)), end="")
        else:
            do(*plan_of(task, values, inputs))
        sys.stdout.flush()
    except (UserError, ConfigError) as error:
        sys.exit(_complain(error, Terminated.CODE if isinstance(error, LostWorker) else 1))
    except BrokenPipeError:  # as `head` ends one that reads no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'a file'}: {error.strerror or error}", 1))
    except KeyboardInterrupt:
        sys.exit(_complain("stopped; the same command with --resume goes on from the last checkpoint", 130))
    except Terminated as error:
        sys.exit(_complain("terminated; the same command with --resume goes on from the last checkpoint", error.code))


def do(workdir, plan, chief=True):
    """Calls each of the functions of a plan, in a folder that is of this process alone, or of its chief."""
    with runs.locked(workdir) if chief else contextlib.nullcontext():
        _import_tensorflow()
        with kseq.training.Interrupts():
            for mode in plan:
                mode()


def usage(task):
    """What `--help` says before the flags."""
    one = "the path of a file" if task.paths else "a text"
    one = one if len(task.raw) == 1 else f"a {' and a '.join(task.raw)}, with a tab between"
    return USAGE.format(name=task.name, configs=files_of_project("configs") / task.name, input=one)


def files_of_project(name):
    """The folder "configs" or "docs": beside the package in a checkout, else where the wheel has put it."""
    here = Path(kseq.__file__).parents[1] / name
    return here if here.is_dir() else Path(sysconfig.get_path("data"), "share", "kseq", name)


def define_flags():
    """The flags of every task, in a `FlagValues` of their own."""
    values = flags.FlagValues()
    flags.DEFINE_enum("mode", None, (*MODES, CONFIG), "Step to run; all four by default.", flag_values=values)
    flags.DEFINE_string("config", None, "TOML file with the values that differ from the defaults.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of the run; runs/TASK/CONFIG by default.", flag_values=values)
    flags.DEFINE_multi_string("set", [], "KEY=VALUE: changes one value of the config", flag_values=values)
    flags.DEFINE_enum("format", "text", FORMATS, "Input and output format of --mode=predict.", flag_values=values)
    flags.DEFINE_integer(
        "keep", None, f"Earlier versions that stay in export/; {versions.KEEP} by default.", 0, flag_values=values
    )
    flags.DEFINE_bool("resume", False, "Continue the run in --workdir, if there is one.", flag_values=values)
    flags.DEFINE_bool("record", False, "Add the metrics and samples to tasks/TASK/, by workdir.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", short_name="h", flag_values=values)
    return values


def plan_of(task, values, inputs):
    """What the flags ask for: the folder of the run, functions without arguments, to be called in turn, and whether
    this process is the chief. A worker that is not does nothing but train.
    """
    if inputs and values.mode != "predict":
        raise UserError(f"inputs ({inputs[0]}, …) go with --mode=predict")
    if values.format != "text" and values.mode != "predict":
        raise UserError(f"--format={values.format} goes with --mode=predict")
    if values.mode == "predict" and not inputs and _is_piped(sys.stdin):
        inputs = ["-"]
    if values.record and values.mode not in (None, "evaluate"):
        raise UserError("--record goes with --mode=evaluate, or with no mode")
    if values.keep is not None and values.mode not in (None, "export"):
        raise UserError("--keep goes with --mode=export, or with no mode")
    keep = versions.KEEP if values.keep is None else values.keep
    workdir = Path(values.workdir or Path("runs", task.name, Path(values.config or "toy").stem))
    config, resumed = None, workdir if values.resume else None
    if values.mode in (None, "train"):
        config = pretrained.load_config(task, values.config, values.set, resumed=resumed)
    worker = worker_of(config, os.environ.get(cluster.VARIABLE)) if config else ALONE
    changes = () if values.mode is None else values.set
    record_as = workdir.name if values.record else None
    run = functools.cache(partial(finished_run, task, workdir, changes))  # once for all modes that need it
    show = 1 if sys.stdout.isatty() else 2
    plan = {
        "train": partial(train, task, workdir, config, resume=values.resume, show=show, worker=worker),
        "evaluate": lambda: evaluate(run(), record_as=record_as),
        "predict": lambda: predict(run(), inputs, form=values.format),
        "export": lambda: export(run(), keep=keep),
    }
    modes = [values.mode] if values.mode else MODES if worker.chief else ["train"]
    if values.mode in ("evaluate", "predict", "export"):
        runs.read_trained_run(workdir, task)
    if "export" in modes:
        versions.check_exportable(workdir / "export")
    return workdir, [plan[mode] for mode in modes], worker.chief


def worker_of(config, text):
    """The `kseq.cluster.Worker` that this process is in a training, of the value of `TF_CONFIG`.

    Raises:
        UserError: the config asks for several workers and the variable does not name them, or the other way round.
    """
    if config.training.strategy == "multi_worker":
        return cluster.read_worker(text)
    if text and (workers := cluster.read_worker(text).count) > 1:
        raise UserError(
            f"{cluster.VARIABLE} names {workers} workers, and each would train a model of its own; set "
            f"training.strategy=multi_worker, which is {config.training.strategy}, or unset {cluster.VARIABLE}"
        )
    return ALONE


def _is_piped(file):
    """Whether a standard input is a pipe or a file."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is none, or a test has put something in its place
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _import_tensorflow():
    """Imports it without its greetings, which it writes to the terminal before it can be told not to."""
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def _complain(message, code):
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code
