"""One run of `model.fit`: stops, checkpoints, logs, and goes on where a killed run left off."""

import contextlib
import csv
import io
import json
import math
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kseq.errors import UserError
from kseq.files import PROGRESS, replacing, write_json, write_text


class ClippedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980) that clips gradients by their global norm.

        g ← g · min(1, clip_norm / ‖g‖)

    The variable `gradient_norm` holds ‖g‖ of the last step, before clipping, for whoever watches the run.

    With `average` it also keeps a moving average of the weights that are trained (after Polyak and Juditsky, 1992,
    https://doi.org/10.1137/0330046, who take the mean of all). At step t = 0, 1, …

        θ̄ ← d θ̄ + (1 − d) θ,  d = min(average, t / (t + 9))

    Args:
        learning_rate: a number.
        clip_norm: largest norm of all gradients together.
        average: largest decay of the moving average; 0 keeps none.
        scales: for each variable that is trained, in their order, what its learning rate is multiplied by; none is 1
            for all.

    Raises:
        ValueError: there are other than as many scales as variables.
    """

    def __init__(self, learning_rate=0.001, clip_norm=5.0, average=0.0, *, scales=(), **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.clip_norm = clip_norm
        self.average = average
        self.scales = tuple(scales)

    def build(self, variables):
        if self.scales and len(self.scales) != len(variables):
            raise ValueError(f"scales must be one for each of the {len(variables)} variables, got {len(self.scales)}")
        super().build(variables)
        self.gradient_norm = self.add_variable(shape=(), initializer="zeros", name="gradient_norm")
        # They start as the weights: a step that float16 throws away must not leave zeros to validate.
        self.averages = [
            self.add_variable_from_reference(v, name="average", initializer=lambda *_, v=v, **__: ops.copy(v))
            for v in variables
            if self.average
        ]

    def apply(self, grads, trainable_variables=None):
        grads = [tf.convert_to_tensor(g) for g in grads]  # the gradient of an embedding comes as slices
        if not self.built:
            self.build(trainable_variables)
        norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads))
        self.gradient_norm.assign(norm)
        scale = ops.minimum(1.0, self.clip_norm / ops.maximum(norm, 1e-12))
        t = ops.cast(self.iterations, "float32")
        super().apply([g * ops.cast(scale, g.dtype) for g in grads], trainable_variables)
        decay = ops.minimum(self.average, t / (t + 9))
        for mean, variable in zip(self.averages, self._trainable_variables, strict=False):
            mean.assign(decay * mean + (1 - decay) * variable)

    def update_step(self, gradient, variable, learning_rate):
        # A step of Adam is its learning rate times what the rate has no part in.
        scale = self.scales[self._get_variable_index(variable)] if self.scales else 1.0
        super().update_step(gradient, variable, learning_rate * scale)

    @contextlib.contextmanager
    def averaged(self):
        """While it is open, the weights are their moving average, where one is kept."""
        pairs = list(zip(self.averages, self._trainable_variables, strict=False))
        trained = [ops.convert_to_numpy(variable) for _, variable in pairs]
        for mean, variable in pairs:
            variable.assign(mean)
        try:
            yield
        finally:
            for (_, variable), value in zip(pairs, trained, strict=True):
                variable.assign(value)

    def get_config(self):
        options = {"clip_norm": self.clip_norm, "average": self.average, "scales": self.scales}
        return super().get_config() | options


def fit(model, batches, config, workdir, *, loss, validate, monitor, clock, scales=(), started=None, show=2):
    """Trains `model`, from the last checkpoint in `workdir` where there is one.

    After each epoch `validate()` is asked for the metrics of what the model generates. The weights that were best at
    `monitor` are kept, and are the model's when `fit` returns. An epoch that was cut short is done again from its start
    and ends in the same weights, but for their last digit now and then: TensorFlow's AddN, of which gradients are full,
    adds up three tensors or more in an order that depends on which of them another operation still reads.

    Args:
        model: built `keras.Model`.
        batches: `tf.data.Dataset`, one epoch; its order may depend on `clock`.
        config: `TrainingConfig`.
        workdir: folder for checkpoints and logs.
        loss: `keras.losses.Loss`, or {output: loss}.
        validate: function without arguments → {name: number}.
        monitor: name of the metric that decides, larger is better.
        clock: `kseq.data.pipeline.Clock`.
        scales: as of `ClippedAdam`.
        started: `time.monotonic()` from which the run's seconds count; now when not given.
        show: `verbose` of `model.fit`.

    Returns:
        the progress that was saved: "history", a row an epoch, "best" and "seconds".

    Raises:
        UserError: the loss is not finite, or a checkpoint does not fit the model.
    """
    optimizer = ClippedAdam(config.learning_rate, config.clip_norm, config.average, scales=scales)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=config.xla)
    model.optimizer.build(model.trainable_variables)
    journal = Journal(Path(workdir), validate, monitor, config.patience, started or time.monotonic())
    progress = journal.restore(model)
    if not journal.finished and progress["epoch"] < config.epochs:
        callbacks = [
            clock,
            keras.callbacks.LearningRateScheduler(lambda epoch: rate(config, epoch)),
            StopAtNaN(int(batches.cardinality())),
            journal,
            keras.callbacks.TensorBoard(str(Path(workdir, "tensorboard")), write_graph=False),
        ]
        model.fit(
            batches,
            initial_epoch=progress["epoch"],
            epochs=config.epochs,
            callbacks=callbacks,
            verbose=show,
            shuffle=False,
        )
    load_variables(Path(workdir, journal.progress["best"]["file"]), model.weights)
    return journal.progress


def rate(config, epoch):
    """The learning rate of an epoch: constant, or half a cosine down to a twentieth over the epochs."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs)))


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


def state(model):
    """All that the next step depends on: weights, the states of random generators, the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def save_variables(path, variables):
    """Writes variables to one `.npz` file, whole or not at all."""
    with replacing(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{f"{i:04d} {v.path}": ops.convert_to_numpy(v) for i, v in enumerate(variables)})


def load_variables(path, variables):
    """Reads back what `save_variables` wrote.

    Raises:
        UserError: the file is missing or holds variables of other shapes.
    """
    try:
        with open(path, "rb") as raw, np.load(raw) as file:
            values = [file[name] for name in sorted(file.files)]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}") from None
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise UserError(f"checkpoint {path} is of another model; train anew in another --workdir")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
