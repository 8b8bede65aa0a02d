"""What happens after a step and after an epoch: checkpoints, logs, and reasons to stop."""

import csv
import io
import json
import math
import time

import keras

from kseq.errors import UserError
from kseq.files import PROGRESS, write_json, write_text
from kseq.training.checkpoints import load_variables, save_variables, state


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
            f"rate {float(optimizer.learning_rate):.3g}, gradient norm {float(optimizer.gradient_norm):.3g}. Lower "
            "training.learning_rate or training.clip_norm; the last checkpoint is kept"
        )


class Journal(keras.callbacks.Callback):
    """Validates after each epoch, keeps the best and the last state, and writes the log.

    `progress.json` names the files of the state that it belongs to and is replaced last, so that a run killed at any
    moment finds a whole state. `log.csv` is written from it.
    """

    def __init__(self, workdir, validate, monitor, patience, started):
        super().__init__()
        self.workdir = workdir
        self.validate = validate
        self.monitor = monitor
        self.patience = patience
        self.started = started
        self.progress = {"epoch": 0, "history": [], "best": {"value": -math.inf}, "seconds": 0.0}

    @property
    def finished(self):
        best = self.progress["best"]
        return "epoch" in best and self.progress["epoch"] - best["epoch"] > self.patience

    def restore(self, model):
        """The progress saved in the folder, and the state of model and optimizer that belongs to it."""
        path = self.workdir / PROGRESS
        if path.exists():
            self.progress = json.loads(path.read_text())
            self.started -= self.progress["seconds"]
            load_variables(self.workdir / self.progress["last"], state(model))
        return self.progress

    def on_epoch_end(self, epoch, logs=None):
        before = self.progress
        best = before["best"]
        with _unscaled(self.model.optimizer).averaged():
            metrics = self.validate()
            if metrics[self.monitor] > best["value"]:
                best = {"epoch": epoch + 1, "value": metrics[self.monitor], "file": f"best-{epoch + 1:04d}.npz"}
                save_variables(self.workdir / best["file"], self.model.weights)
        logs |= {f"val_{name}": value for name, value in metrics.items()}
        row = {"epoch": epoch + 1, "learning_rate": float(self.model.optimizer.learning_rate)}
        row |= {name: float(value) for name, value in logs.items() if name != "learning_rate"}
        self.progress = {
            "epoch": epoch + 1,
            "seconds": time.monotonic() - self.started,
            "last": f"last-{epoch + 1:04d}.npz",
            "best": best,
            "history": [*before["history"], row],
        }
        save_variables(self.workdir / self.progress["last"], state(self.model))
        write_json(self.workdir / PROGRESS, self.progress)
        for file in {before.get("last"), before["best"].get("file")} - {
            self.progress["last"],
            best["file"],
            None,
        }:
            (self.workdir / file).unlink(missing_ok=True)
        write_text(self.workdir / "log.csv", table(self.progress["history"]))
        self.model.stop_training = self.finished


def _unscaled(optimizer):
    """The optimizer itself, where Keras has wrapped it to scale the loss of float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def table(rows):
    """CSV text of a list of dicts with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
