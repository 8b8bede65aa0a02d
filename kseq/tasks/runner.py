"""From flags to a run. The only module that reads flags or the environment."""

import importlib
import os
import sys
from functools import partial
from pathlib import Path

from absl import flags

from kseq.config import ConfigError
from kseq.errors import UserError
from kseq.tasks.common import modes, transfer

USAGE = """python -m kseq.tasks.{name} [--mode=MODE] [--config=FILE] [--workdir=DIR] [--set KEY=VALUE ...] [INPUT ...]

With no mode: train, evaluate, predict and export in turn. With no config: on generated data, in minutes.
A config is a TOML file of differences from the defaults: see configs/{name}/, and config.json in the folder of a run.
"""


def main(task):
    """Runs the program of a task and ends the process: 0 when all went well, 1 after an error, 2 for a wrong flag.

    Args:
        task: subclass of `Task`.
    """
    values = define_flags()
    try:
        inputs = values(sys.argv)[1:]
    except flags.Error as error:
        sys.exit(_complain(f"{error}; --help lists the flags", 2))
    if values.help:
        sys.exit(print(USAGE.format(name=task.name) + values.get_help(include_special_flags=False)))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it is not heard
    try:
        plan = plan_of(task, values, inputs)
        _import_tensorflow()
        for mode in plan:
            mode()
    except (UserError, ConfigError) as error:
        sys.exit(_complain(error, 1))
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'a file'}: {error.strerror or error}", 1))
    except KeyboardInterrupt:
        sys.exit(_complain("stopped; the same command with --resume goes on from the last checkpoint", 130))


def define_flags():
    """The flags of every task, in a `FlagValues` of their own."""
    values = flags.FlagValues()
    flags.DEFINE_enum("mode", None, modes.MODES, "What to do; all in turn when not given.", flag_values=values)
    flags.DEFINE_string("config", None, "TOML file of differences from the defaults.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of the run; runs/TASK/CONFIG by default.", flag_values=values)
    flags.DEFINE_multi_string("set", [], "KEY=VALUE, laid over the config; can be repeated.", flag_values=values)
    flags.DEFINE_bool("resume", False, "Go on with the run in the workdir, if there is one.", flag_values=values)
    flags.DEFINE_bool("record", False, "Append metrics and samples to tasks/TASK/, by workdir.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", short_name="h", flag_values=values)
    return values


def plan_of(task, values, inputs):
    """What the flags ask for: functions without arguments, to be called in turn."""
    if inputs and values.mode != "predict":
        raise UserError(f"inputs ({inputs[0]}, …) go with --mode=predict")
    if values.record and values.mode not in (None, "evaluate"):
        raise UserError("--record goes with --mode=evaluate, or with no mode")
    workdir = Path(values.workdir or Path("runs", task.name, Path(values.config or "toy").stem))
    config, own = None, workdir if values.resume else None
    if values.mode in (None, "train"):
        config = transfer.load_config(task, values.config, values.set, own=own)
    changes = () if values.mode is None else values.set
    record_as = workdir.name if values.record else None
    show = 1 if sys.stdout.isatty() else 2
    plan = {
        "train": partial(modes.train, task, workdir, config, resume=values.resume, show=show),
        "evaluate": partial(modes.evaluate, task, workdir, changes, record_as=record_as),
        "predict": partial(modes.predict, task, workdir, changes, inputs),
        "export": partial(modes.export, task, workdir, changes),
    }
    return [plan[mode] for mode in ([values.mode] if values.mode else modes.MODES)]


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
