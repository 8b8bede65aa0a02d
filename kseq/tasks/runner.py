"""From flags to a run. The only module that reads flags or the environment."""

import os
import sys
from pathlib import Path

from absl import flags

from kseq.config import ConfigError
from kseq.errors import UserError
from kseq.tasks import modes

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
        run(task, values, inputs)
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


def run(task, values, inputs):
    """Does what the flags ask for."""
    if inputs and values.mode != "predict":
        raise UserError(f"inputs ({inputs[0]}, …) go with --mode=predict")
    if values.record and values.mode not in (None, "evaluate"):
        raise UserError("--record goes with --mode=evaluate, or with no mode")
    workdir = Path(values.workdir or Path("runs", task.name, Path(values.config or "toy").stem))
    if values.mode in (None, "train"):
        modes.train(
            task, workdir, values.config, values.set, resume=values.resume, show=1 if sys.stdout.isatty() else 2
        )
    changes = () if values.mode is None else values.set
    if values.mode in (None, "evaluate"):
        modes.evaluate(task, workdir, changes, record_as=workdir.name if values.record else None)
    if values.mode in (None, "predict"):
        modes.predict(task, workdir, changes, inputs)
    if values.mode in (None, "export"):
        modes.export(task, workdir, changes)


def _complain(message, code):
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code
