"""A small training for the tests of several workers: `python tests/train_worker.py FOLDER WAY`.

It is one of the workers of TF_CONFIG where that is set. WAY is JSON, {name: what differs from `CONFIG`}, or "keras" for
Keras without what kseq replaces of it. Worker N writes `NAME/steps-N.json`, the loss and the norm of the gradient at
each step, and `NAME/weights-N.npz`; the chief also the files of the run.
"""

import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kseq import data, training
from kseq.cluster import ALONE, read_worker
from kseq.layers import ATTENTIONS, CELLS, DECODERS, DenseBridge, Recurrent
from kseq.losses import TokenCrossentropy
from kseq.models import Seq2Seq, TextEncoder
from kseq.tasks.schema import TrainingConfig

WORDS, PAIRS, BATCH = 12, 77, 8
CONFIG = {"epochs": 10, "learning_rate": 0.01, "clip_norm": 0.5, "average": 0.9}


def pairs():
    """Columns of a corpus whose batches have other numbers of words in each of their halves."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(4, WORDS, n).tolist() for n in rng.integers(1, 8, PAIRS)]
    columns = {"source": texts, "tokens": [[1, *text[::-1], 2] for text in texts]}
    return {name: data.Sequences.joined([tf.ragged.constant(x, tf.int32)]) for name, x in columns.items()}


def translator():
    """A `Seq2Seq` with attention and without dropout."""
    keras.utils.set_random_seed(5)
    cell = CELLS["gru"](6)
    model = Seq2Seq(
        TextEncoder(WORDS, Recurrent(CELLS["gru"](6), return_state=True), embedding_size=4),
        DenseBridge(cell.state_size),
        DECODERS["bahdanau"](cell, ATTENTIONS["bahdanau"](5)),
        WORDS,
        embedding_size=4,
        alignment_penalty=0.1,
    )
    model({"source": np.zeros((1, 1), "int32"), "tokens": np.zeros((1, 1), "int32")})
    return model


class Recorded(data.SetEpoch):
    """Keeps the loss and the norm of the gradient at each step. The loss of float16 overflows in the first."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_begin(self, logs=None):
        if hasattr(self.model.optimizer, "dynamic_scale"):
            self.model.optimizer.dynamic_scale.assign(2.0**24)

    def on_train_batch_end(self, batch, logs=None):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        norm = keras.ops.convert_to_numpy(optimizer.gradient_norm)
        self.steps.append([float(logs["loss"]), float(norm)])


def main(folder, way):
    """Trains, and writes what came of it."""
    worker = read_worker(os.environ["TF_CONFIG"]) if "TF_CONFIG" in os.environ else ALONE
    devices = training.open_devices("none" if worker is ALONE else "multi_worker", worker)
    tf.config.experimental.enable_op_determinism()
    if way == "keras":
        epoch = Recorded()
        batches = read(epoch, devices)
        with devices.scope():
            model = translator()
            model.compile("adam", TokenCrossentropy(), jit_compile=False)
        model.fit(devices.distributed(batches), callbacks=[epoch], verbose=0, shuffle=False)
        return
    for name, changes in json.loads(way).items():
        train(folder / name, TrainingConfig(**CONFIG | changes), devices)


def read(epoch, devices):
    share = data.Share(*devices.share)
    return data.batches(pairs(), data.teacher_forced, batch_size=BATCH, buckets=1, seed=3, epoch=epoch, share=share)


def train(folder, config, devices):
    """One training, and what came of it."""
    keras.config.set_dtype_policy(config.precision)
    with devices.scope():
        model = translator()
    epoch = Recorded()
    folder.mkdir(exist_ok=True)
    progress = training.fit(
        model,
        read(epoch, devices),
        config,
        folder,
        loss=TokenCrossentropy(0.1),
        validate=lambda: {"score": -len(epoch.steps)},
        monitor="score",
        set_epoch=epoch,
        show=0,
        devices=devices,
    )
    state = {f"{i:04d} {v.path}": v.numpy() for i, v in enumerate(training.state(model))}
    if devices.chief:  # whose model has the best weights now, which are an average
        with np.load(folder / progress["last"]) as file:
            state = {name: file[name] for name in file.files}
    number = devices.worker.number
    np.savez(folder / f"weights-{number}.npz", **state)
    Path(folder, f"steps-{number}.json").write_text(json.dumps(epoch.steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
