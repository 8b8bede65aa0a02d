"""One run of `model.fit`, which goes on where a killed run left off."""

import math
import time
from functools import partial
from pathlib import Path

import keras

from kseq.checkpoints import load_variables, save_weights
from kseq.errors import UserError
from kseq.training.callbacks import Checkpoints, Interrupts, LearningRate, StopAtNaN
from kseq.training.optimizer import ClippedAdam, SharedLossScale
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
    and are the model's when `fit` returns; `best.weights.h5` holds them too. Within an epoch, the state is saved every
    `config.save_minutes`, and after Ctrl-C and SIGTERM. A resumed run goes on with the next batch, and ends in the
    weights of an undisturbed one, up to the order in which floating-point numbers are summed (TensorFlow's AddN adds
    three or more gradients in an order that depends on which of them another operation still reads).

    A step takes the mean of the gradients of `config.accumulate` batches, in which each batch counts the same, however
    many tokens it has. Where an epoch ends between two steps, the gradients are kept for the next epoch.

    Args:
        model: built `keras.Model`, made in the scope of the devices.
        batches: `tf.data.Dataset` of known cardinality, one epoch; its order may depend on `set_epoch`. It yields the
            share of the devices.
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
        UserError: the loss or the monitor is not finite, no checkpoint is whole and of this model, another worker has
            ended, or several workers are to go on within an epoch.
        KeyboardInterrupt, Terminated: after Ctrl-C and SIGTERM, when the state is saved; after a second one at once.
    """
    _compile(model, batches, config, loss, scales, devices)
    interrupts, begun = Interrupts(waits=True), started or time.monotonic()
    kept = Checkpoints(workdir, validate, monitor, config, devices.steps(batches), interrupts, begun, devices)
    restore(kept, model, config)
    callbacks = [set_epoch, *_callbacks(kept, config)]
    with interrupts, working_fit(model, devices):
        while not kept.finished:
            epoch, done = kept.progress["epoch"], kept.progress["step"]
            model.fit(
                devices.distributed(devices.without(batches, done)),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else kept.epochs,
                callbacks=callbacks,
                verbose=show,
                shuffle=False,
            )
            if not devices.chief:
                return None
    if not devices.chief:
        return None
    load_variables(Path(workdir, kept.progress["best"]["file"]), model.weights)
    save_weights(workdir, model)
    return kept.progress


def restore(kept, model, config):
    """Loads the newest checkpoint, if there is one; several workers can only resume at the end of an epoch.

    Raises:
        UserError: as of `Checkpoints.restore`; or several workers are to go on within an epoch.
    """
    if kept.restore(model)["step"] and kept.devices.several_workers:
        raise UserError(
            f"{kept.folder} was interrupted within an epoch, and training.strategy={config.strategy} goes on between "
            "epochs only; end the epoch with training.strategy=none or mirrored"
        )


def _callbacks(kept, config):
    board = keras.callbacks.TensorBoard(str(kept.folder / "tensorboard"), write_graph=False)
    return [
        LearningRate(partial(rate, config), kept, config.accumulate),
        StopAtNaN(kept),
        kept,
        *([board] if kept.devices.chief else []),
        FromChief(kept.devices),
    ]


def _compile(model, batches, config, loss, scales, devices):
    accumulation = {"gradient_accumulation_steps": config.accumulate} if config.accumulate > 1 else {}
    with devices.scope():
        optimizer = ClippedAdam(config.learning_rate, config.clip_norm, config.average, scales=scales, **accumulation)
        if model.dtype_policy.name == "mixed_float16":
            optimizer = SharedLossScale(optimizer, name="loss_scale_optimizer")
        model.compile(optimizer=optimizer, loss=loss, jit_compile=config.xla)
        model.optimizer.build(model.trainable_variables)
        devices.build(model, batches)


def rate(config, epoch, step=0, worse=0):
    """The learning rate of a step.

    It rises over `warmup_steps` from 0. Beside that it is constant, or half a cosine down to a twentieth over the
    epochs (over the steps, where `steps` is set), or halved after each epoch without a better score.

    Args:
        config: `TrainingConfig`.
        epoch: from 0.
        step: from 0, over all epochs.
        worse: how many epochs before this one had no better score than all before them.
    """
    factor = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        done = step / config.steps if config.steps else epoch / config.epochs
        factor *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
    elif config.schedule == "plateau":
        factor *= 0.5**worse
    return config.learning_rate * factor
