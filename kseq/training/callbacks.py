"""What happens after a step and after an epoch: checkpoints, logs, and reasons to stop."""

import contextlib
import csv
import io
import math
import os
import signal
import threading
import time
from pathlib import Path

import keras

from kseq import checkpoints
from kseq.errors import Terminated, UserError
from kseq.files import write_text
from kseq.training.strategy import ONE_DEVICE


class StopAtNaN(keras.callbacks.Callback):
    """Ends the run at the first loss that is no number, with what is needed to see why.

    Args:
        place: `Checkpoints`, which comes after it.
    """

    def __init__(self, place):
        super().__init__()
        self.place = place

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite(logs["loss"]):
            return
        optimizer = _unscaled(self.model.optimizer)
        raise UserError(
            f"the loss is {logs['loss']} at batch {self.place.seen + 1} (batch {self.place.step + 1} of its epoch): "
            f"learning rate {_number(optimizer.learning_rate):.3g}, gradient norm "
            f"{_number(optimizer.gradient_norm):.3g}. Lower training.learning_rate or training.clip_norm; the last "
            "checkpoint is kept"
        )


class LearningRate(keras.callbacks.Callback):
    """Sets the learning rate of each step.

    Args:
        rate: function of (epoch, step, epochs without a better score) → learning rate.
        place: `Checkpoints`.
        accumulate: batches of a step.
    """

    def __init__(self, rate, place, accumulate):
        super().__init__()
        self.rate = rate
        self.place = place
        self.accumulate = accumulate
        self.last = None

    def on_train_batch_begin(self, batch, logs=None):
        place = self.place
        rate = self.rate(place.progress["epoch"], place.seen // self.accumulate, place.worse)
        if rate != self.last:
            self.model.optimizer.learning_rate = self.last = rate

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = _number(self.model.optimizer.learning_rate)  # for TensorBoard


class Checkpoints(keras.callbacks.Callback):
    """Validates after each epoch, and keeps the best weights, the last state and a log.

    Args:
        folder: of the run.
        validate: function without arguments → {name: number}.
        monitor: name of the metric that decides, larger is better.
        config: `TrainingConfig`.
        batches: of an epoch.
        interrupts: `Interrupts` around the training, which ends it after the state is saved.
        started: `time.monotonic()` from which the seconds count.
        devices: `Devices`. The chief alone validates and writes; several workers save no state within an epoch.

    Attributes:
        progress: what `progress.json` holds.
        step: batches of this epoch that are done.
        worse: how many epochs before it had no better score than all before them.

    Raises:
        UserError: the monitor is no finite number.
        KeyboardInterrupt, Terminated: after Ctrl-C and SIGTERM.
    """

    def __init__(self, folder, validate, monitor, config, batches, interrupts, started, devices=ONE_DEVICE):
        super().__init__()
        self.folder = Path(folder)
        self.validate = validate
        self.monitor = monitor
        self.config = config
        self.batches = batches
        self.interrupts = interrupts
        self.started = started
        self.devices = devices
        self.progress = {"epoch": 0, "step": 0, "best": None, "history": [], "sha256": {}}
        self.step = self.worse = 0

    @property
    def epochs(self):
        """How many epochs the run has at most; with `training.steps`, the last may be a part of one."""
        steps = self.config.steps * self.config.accumulate
        return math.ceil(steps / self.batches) if steps else self.config.epochs

    @property
    def finished(self):
        """Whether the epochs are over or `patience` has run out."""
        epoch = self.progress["epoch"]
        waited = epoch - self.progress["best"]["epoch"] if epoch else 0
        return epoch >= self.epochs or waited >= max(1, self.config.patience)

    @property
    def seen(self):
        """Batches that the model has been trained on, in all epochs."""
        return self.progress["epoch"] * self.batches + self.step

    def restore(self, model):
        """Puts model and optimizer in the state of the newest whole checkpoint, where there is one.

        That of a state within an epoch is read when the epoch begins: Keras has made the metrics then.

        Raises:
            UserError: the run in the folder cannot be resumed.
        """
        progress = checkpoints.read_progress(self.folder)
        if progress:
            self.progress = checkpoints.newest_whole(self.folder, progress)
            self.started -= self.progress["seconds"]
            if not self.progress["step"]:
                checkpoints.load_variables(self.folder / self.progress["last"], state(model))
        return self.progress

    def on_epoch_begin(self, epoch, logs=None):
        self.step = self.progress["step"]
        if self.step:
            checkpoints.load_variables(self.folder / self.progress["last"], self._state_within())
            self.devices.vary(self.model.variables)  # what is saved are the seeds of the first device
        steps = self.config.steps * self.config.accumulate
        self.end = min(self.batches, steps - epoch * self.batches) if steps else self.batches
        scores = [row[f"val_{self.monitor}"] for row in self.progress["history"]]
        worse = sum(score <= max(scores[:i], default=-math.inf) for i, score in enumerate(scores))
        self.worse = int(self.devices.from_chief(worse))  # which alone validates
        self.saved = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step == self.end:
            self.model.stop_training = self.end < self.batches
            return
        waited = time.monotonic() - self.saved
        due = self.interrupts.received or (self.config.save_minutes and waited >= 60 * self.config.save_minutes)
        if due and not self.devices.several_workers:  # to read metrics, they would have to be at the same step
            self._save(self._state_within(), step=self.step)
            self.saved = time.monotonic()
        self.interrupts.check()

    def on_epoch_end(self, epoch, logs=None):
        epoch += 1
        if not self.devices.chief:
            self.progress = self.progress | {"epoch": epoch, "step": 0}
            return
        best, digests = self.progress["best"], {}
        with _unscaled(self.model.optimizer).averaged():
            metrics = self.validate()
            value = metrics[self.monitor]
            if not math.isfinite(value):
                raise UserError(f"{self.monitor} is {value} after epoch {epoch}; the checkpoint before it is kept")
            if not best or value > best["value"]:
                best = {"epoch": epoch, "value": value, "file": f"best-{epoch:04d}.npz"}
                digests[best["file"]] = checkpoints.save_variables(self.folder / best["file"], self.model.weights)
        row = {"epoch": epoch, "learning_rate": _number(self.model.optimizer.learning_rate)}
        logs |= {f"val_{name}": value for name, value in metrics.items()}
        row |= {name: float(value) for name, value in logs.items() if name != "learning_rate"}
        history = [*self.progress["history"], row]
        self._save(state(self.model), digests, epoch=epoch, step=0, best=best, history=history)
        write_text(self.folder / checkpoints.LOG, table(history))
        self.model.stop_training = self.finished
        self.interrupts.check()

    def _state_within(self):
        return [*state(self.model), *self.model.metrics_variables]

    def _save(self, variables, digests=(), **changes):
        """Writes a checkpoint, and the progress with these changes."""
        before = self.progress
        progress = before | changes
        last = f"last-{progress['epoch']:04d}" + (f"-{progress['step']:06d}" if progress["step"] else "") + ".npz"
        digest = checkpoints.save_variables(self.folder / last, variables)
        older = [{name: before[name] for name in ("epoch", "step", "last", "best")}] if "last" in before else []
        progress |= {
            "seconds": time.monotonic() - self.started,
            "last": last,
            "before": [*older, *before.get("before", [])][: checkpoints.KEPT - 1],
            "sha256": before["sha256"] | dict(digests) | {last: digest},
        }
        self.progress = checkpoints.write_progress(self.folder, progress)


class Interrupts:
    """Notices Ctrl-C and SIGTERM also where Python can only print them: inside a call from TensorFlow, in a finalizer.

    A context manager, which raises `KeyboardInterrupt` or `Terminated` at its end where one was lost. A handler of
    SIGTERM that others have set is left.

    Args:
        waits: whether the first Ctrl-C or SIGTERM is raised by `check` and at the end alone, so that a state can be
            saved.

    Attributes:
        received: the number of the last signal; None before.
    """

    def __init__(self, waits=False):
        self.waits = waits

    def __enter__(self):
        self.usual, self.received = {}, None
        for number in (signal.SIGINT, signal.SIGTERM):
            usual = signal.getsignal(number)
            around = getattr(usual, "__self__", None)
            if isinstance(around, Interrupts):
                self.received = around.received
            elif number == signal.SIGTERM and usual is not signal.SIG_DFL:
                continue
            if usual is not signal.SIG_IGN and usual is not None and _in_main_thread():
                self.usual[number] = signal.signal(number, self.handle)
        return self

    def handle(self, number, frame):
        first = self.received is None
        self.received = number
        if first and self.waits:
            with contextlib.suppress(OSError):  # and no print, which may be at work
                os.write(2, b"stopping after this batch or this validation; Ctrl-C stops at once\n")
            return
        if callable(self.usual[number]):
            self.usual[number](number, frame)
        raise self._error()

    def check(self):
        """Raises `KeyboardInterrupt` or `Terminated` when a signal has been received."""
        if self.received:
            raise self._error()

    def __exit__(self, kind, error, traceback):
        for number, usual in self.usual.items():
            signal.signal(number, usual)
        if self.received and kind not in (KeyboardInterrupt, Terminated):
            raise self._error() from error

    def _error(self):
        return Terminated() if self.received == signal.SIGTERM else KeyboardInterrupt()


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()


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
