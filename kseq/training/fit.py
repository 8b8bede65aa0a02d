"""One run of `model.fit`, which goes on where a killed run left off."""

import math
import time
from pathlib import Path

import keras

from kseq.checkpoints import load_variables
from kseq.training.callbacks import Checkpoints, Interrupts, StopAtNaN
from kseq.training.optimizer import ClippedAdam
from kseq.training.strategy import ONE_DEVICE, FromChief, working_fit


def fit(
    model,
    batches,
    config,
    workdir,
    *,
    loss,
    validate,
    monitor,
    set_epoch,
    scales=(),
    started=None,
    show=2,
    devices=ONE_DEVICE,
):
    """Trains `model`, from the last checkpoint in `workdir` where there is one.

    After each epoch `validate()` measures what the model generates. The weights that were best at `monitor` are kept,
    and are the model's when `fit` returns. An epoch that was cut short is trained again from its start: a resumed run
    ends in the weights of an undisturbed one, up to the order in which floating-point numbers are summed (TensorFlow's
    AddN adds three or more gradients in an order that depends on which of them another operation still reads).

    Args:
        model: built `keras.Model`, made in the scope of the devices.
        batches: `tf.data.Dataset`, one epoch; its order may depend on `set_epoch`. It yields the share of the devices.
        config: `TrainingConfig`.
        workdir: folder for checkpoints and logs.
        loss: `keras.losses.Loss`, or {output: loss}.
        validate: function without arguments → {name: number}.
        monitor: name of the metric that decides, larger is better.
        set_epoch: `kseq.data.SetEpoch`.
        scales: as of `ClippedAdam`.
        started: `time.monotonic()` from which the run's seconds count; now when not given.
        show: `verbose` of `model.fit`.
        devices: `Devices`. All workers train and take the same steps; the chief alone validates and writes.

    Returns:
        what `progress.json` holds: "history", a row an epoch, "best", "seconds" and the names of files. None where this
        process is not the chief, whose model keeps the last weights.

    Raises:
        UserError: the loss or the monitor is not finite, no checkpoint is whole and of this model, or another worker
            has ended.
    """
    _compile(model, batches, config, loss, scales, devices)
    kept = Checkpoints(workdir, validate, monitor, config.patience, started or time.monotonic())
    progress = kept.restore(model)
    if not kept.finished and progress["epoch"] < config.epochs:
        board = keras.callbacks.TensorBoard(str(Path(workdir, "tensorboard")), write_graph=False)
        with Interrupts() as interrupts, working_fit(model, devices):
            callbacks = [
                set_epoch,
                keras.callbacks.LearningRateScheduler(lambda epoch: rate(config, epoch)),
                interrupts,
                StopAtNaN(devices.steps(batches)),
                *((kept, board) if devices.chief else ()),
                FromChief(devices),
            ]
            model.fit(
                devices.distributed(batches),
                initial_epoch=progress["epoch"],
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=show,
                shuffle=False,
            )
    if devices.chief:
        load_variables(Path(workdir, kept.progress["best"]["file"]), model.weights)
    return kept.progress if devices.chief else None


def _compile(model, batches, config, loss, scales, devices):
    with devices.scope():
        optimizer = ClippedAdam(config.learning_rate, config.clip_norm, config.average, scales=scales)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=config.xla)
        model.optimizer.build(model.trainable_variables)
        devices.build(model, batches)


def rate(config, epoch):
    """The learning rate of an epoch: constant, or half a cosine down to a twentieth over the epochs."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs)))
