"""What happens after a step and after an epoch: checkpoints, logs, and reasons to stop."""

import csv
import io
import math
import signal
import threading
import time
from pathlib import Path

import keras

from kseq import checkpoints
from kseq.errors import UserError
from kseq.files import write_text


class StopAtNaN(keras.callbacks.Callback):
    """Ends the run at the first loss that is no number, with what is needed to see why.

    Args:
        steps: steps of an epoch.
    """

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        self.before = epoch * self.steps

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite(logs["loss"]):
            return
        optimizer = _unscaled(self.model.optimizer)
        raise UserError(
            f"the loss is {logs['loss']} at step {self.before + batch + 1} (step {batch + 1} of its epoch): learning "
            f"rate {_number(optimizer.learning_rate):.3g}, gradient norm {_number(optimizer.gradient_norm):.3g}. Lower "
            "training.learning_rate or training.clip_norm; the last checkpoint is kept"
        )


class Checkpoints(keras.callbacks.Callback):
    """Validates after each epoch, and keeps the best weights, the last state and a log.

    Args:
        folder: of the run.
        validate: function without arguments → {name: number}.
        monitor: name of the metric that decides, larger is better.
        patience: epochs without a better score after which the run ends, as in `keras.callbacks.EarlyStopping`.
        started: `time.monotonic()` from which the seconds count.

    Raises:
        UserError: the monitor is no finite number.
    """

    def __init__(self, folder, validate, monitor, patience, started):
        super().__init__()
        self.folder = Path(folder)
        self.validate = validate
        self.monitor = monitor
        self.patience = patience
        self.started = started
        self.progress = {"epoch": 0, "history": []}

    @property
    def finished(self):
        """Whether `patience` has run out."""
        waited = self.progress["epoch"] - self.progress["best"]["epoch"] if self.progress["epoch"] else 0
        return waited >= max(1, self.patience)

    def restore(self, model):
        """Puts model and optimizer in the state of the newest whole checkpoint, where there is one.

        Raises:
            UserError: the run in the folder cannot be resumed.
        """
        progress = checkpoints.read_progress(self.folder)
        if progress:
            self.progress = checkpoints.newest_whole(self.folder, progress)
            self.started -= self.progress["seconds"]
            checkpoints.load_variables(self.folder / self.progress["last"], state(model))
        return self.progress

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1
        before = self.progress
        best, digests = before.get("best"), dict(before.get("sha256", {}))
        with _unscaled(self.model.optimizer).averaged():
            metrics = self.validate()
            value = metrics[self.monitor]
            if not math.isfinite(value):
                raise UserError(f"{self.monitor} is {value} after epoch {epoch}; the checkpoint before it is kept")
            if not best or value > best["value"]:
                best = {"epoch": epoch, "value": value, "file": f"best-{epoch:04d}.npz"}
                digests[best["file"]] = checkpoints.save_variables(self.folder / best["file"], self.model.weights)
        last = f"last-{epoch:04d}.npz"
        digests[last] = checkpoints.save_variables(self.folder / last, state(self.model))
        row = {"epoch": epoch, "learning_rate": _number(self.model.optimizer.learning_rate)}
        logs |= {f"val_{name}": value for name, value in metrics.items()}
        row |= {name: float(value) for name, value in logs.items() if name != "learning_rate"}
        older = [{name: before[name] for name in ("epoch", "last", "best")}] if before["epoch"] else []
        self.progress = {
            "epoch": epoch,
            "seconds": time.monotonic() - self.started,
            "last": last,
            "best": best,
            "before": [*older, *before.get("before", [])][: checkpoints.KEPT - 1],
            "sha256": digests,
            "history": [*before["history"], row],
        }
        checkpoints.write_progress(self.folder, self.progress)
        write_text(self.folder / checkpoints.LOG, table(self.progress["history"]))
        self.model.stop_training = self.finished


class Interrupts(keras.callbacks.Callback):
    """Notices Ctrl-C also where Python can only print it: inside a call from TensorFlow, or in a finalizer.

    A context manager, which raises `KeyboardInterrupt` at its end where one was lost, and a callback of `model.fit`,
    which does so after the step.
    """

    def __enter__(self):
        self.usual = signal.getsignal(signal.SIGINT)
        around = getattr(self.usual, "__self__", None)
        self.interrupted = isinstance(around, Interrupts) and around.interrupted
        self.installed = callable(self.usual) and threading.current_thread() is threading.main_thread()
        if self.installed:
            signal.signal(signal.SIGINT, self.handle)
        return self

    def handle(self, number, frame):
        self.interrupted = True
        self.usual(number, frame)

    def on_train_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_batch_end(epoch)

    def __exit__(self, kind, error, traceback):
        if self.installed:
            signal.signal(signal.SIGINT, self.usual)
        if self.interrupted and kind is not KeyboardInterrupt:
            raise KeyboardInterrupt from error


def state(model):
    """All that the next step depends on: weights, states of random generators, the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def _unscaled(optimizer):
    """The optimizer itself, where Keras has wrapped it to scale the loss of float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _number(variable):
    """Its value, also where each of several devices has one."""
    return float(keras.ops.convert_to_numpy(variable))


def table(rows):
    """CSV text of a list of dicts with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
