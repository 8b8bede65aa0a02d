"""Training that is stopped anywhere and goes on as if it had not been, and its optimizer."""

import contextlib
import csv
import errno
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq import checkpoints, data, training
from kseq.data import Rows, Sequences, SetEpoch, teacher_forced
from kseq.errors import Terminated, UserError
from kseq.layers import ATTENTIONS, CELLS, DECODERS, DenseBridge
from kseq.losses import TokenCrossentropy
from kseq.models import ImageEncoder, Seq2Seq
from kseq.tasks.schema import GenerationTrainingConfig, TrainingConfig

VOCABULARY, REGIONS, DEPTH = 9, 4, 8


# What is trained: a model of captions on random features, and a small regression where a model's kind is no matter.


def random_sentences(count, seed=0):
    """Row of the picture that belongs to each sentence, and sentences `<s> … </s>` of 1 to 6 words."""
    rng = np.random.default_rng(seed)
    sentences = [[1, *rng.integers(4, VOCABULARY, n).tolist(), 2] for n in rng.integers(1, 7, count)]
    return rng.integers(0, 8, count), sentences


def caption_model(seed):
    keras.utils.set_random_seed(seed)
    cell = CELLS["lstm"](6)
    pixels = keras.Input((4, 2, DEPTH))
    backbone = keras.Model(pixels, keras.layers.Dense(DEPTH)(pixels))
    backbone.trainable = False
    model = Seq2Seq(
        ImageEncoder(backbone, 6, dropout=0.3),
        DenseBridge(cell.state_size),
        DECODERS["bahdanau"](cell, ATTENTIONS["dot"]()),
        VOCABULARY,
        embedding_size=4,
        dropout=0.3,
        alignment_penalty=0.5,
    )
    model({"source": np.zeros((1, REGIONS, DEPTH), "float32"), "tokens": np.zeros((1, 1), "int32")})
    return model


def train_captions(workdir, seed, *, killed_at=None, kill=None, xla=False, epochs=3, save_minutes=0):
    """A run of the caption model that calls `kill` after a step (epoch, batch), or in the validation of (epoch, None).

    The seed is of the first weights and of dropout; a run that is resumed must not depend on it.
    """
    model, set_epoch = caption_model(seed), SetEpoch()
    rows, sentences = random_sentences(30)
    sources = np.random.default_rng(1).normal(size=(8, REGIONS, DEPTH)).astype("float32")
    columns = {
        "source": Rows(sources, rows),
        "tokens": Sequences.joined([tf.ragged.constant(sentences, tf.int32)]),
    }
    options = {"batch_size": 4, "buckets": 1 if xla else 2, "seed": 3, "full": xla}

    def at(batch):
        if (set_epoch.epoch, batch) == killed_at:
            kill()

    def validate():
        at(None)
        return {"score": float(np.sin(1e3 * np.sum(model.words.kernel)))}

    set_epoch.on_train_batch_end = lambda batch, logs=None: at(batch)
    progress = training.fit(
        model,
        data.batches(columns, teacher_forced, epoch=set_epoch, **options),
        TrainingConfig(
            epochs=epochs, xla=xla, learning_rate=0.01, clip_norm=0.5, average=0.9, save_minutes=save_minutes
        ),
        workdir,
        loss=TokenCrossentropy(0.1),
        validate=validate,
        monitor="score",
        set_epoch=set_epoch,
        show=0,
    )
    return model, progress


def regression(seed=0, units=4):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(units, "tanh"), keras.layers.Dropout(0.3), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((3,)), *layers])


def points(batches=4, bad=None):
    """Batches of points; the features of batch `bad` hold a NaN."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(batches, 5, 3)).astype("float32"), rng.normal(size=(batches, 5, 2)).astype("float32")
    if bad is not None:
        x[bad, 0, 0] = np.nan
    return tf.data.Dataset.from_tensor_slices((x, y))


def train_points(workdir, model, validate=None, *, batches=None, set_epoch=None, **config):
    return training.fit(
        model,
        points() if batches is None else batches,
        TrainingConfig(**({"epochs": 3, "learning_rate": 0.01} | config)),
        workdir,
        loss=keras.losses.MeanSquaredError(),
        validate=validate or (lambda: {"score": float(np.sin(1e3 * np.sum(model.weights[0])))}),
        monitor="score",
        set_epoch=set_epoch or SetEpoch(),
        show=0,
    )


def scripted(scores, model):
    """A validation that gives these scores one after the other, and a list of the weights that it saw."""
    scores, seen = iter(scores), []

    def validate():
        seen.append(model.get_weights())
        return {"score": next(scores)}

    return validate, seen


def never(*_):
    raise AssertionError("this must not be asked")


def stop(message="killed"):
    raise RuntimeError(message)


def assert_same_values(variables, expected):
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), np.asarray(value))


# A run that is killed.


@functools.cache
def undisturbed(folder, xla=False):
    model, progress = train_captions(folder, seed=0, xla=xla)
    optimizer = [np.asarray(v) for v in model.optimizer.variables]
    return [np.asarray(v) for v in model.weights], optimizer, progress


@functools.cache
def undisturbed_points(folder):
    model = regression()
    return model, train_points(folder, model, scripted([1, 2, 3], model)[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed") / "captions"


def assert_resumes_as_undisturbed(workdir, whole, xla=False):
    """Oracle: the run that nobody disturbed, bit by bit. The new model begins with other weights and other seeds."""
    weights, optimizer, expected = undisturbed(whole, xla)
    model, progress = train_captions(workdir, seed=1, xla=xla)
    assert progress["history"] == expected["history"] and progress["best"] == expected["best"]
    assert_same_values(model.weights, weights)
    assert_same_values(model.optimizer.variables, optimizer)
    for name in (progress["last"], progress["best"]["file"]):
        with np.load(workdir / name) as file, np.load(whole / name) as other:
            assert_same_values([file[k] for k in sorted(file)], [other[k] for k in sorted(other)])
    assert sorted(os.listdir(workdir)) == sorted(os.listdir(whole))


@pytest.mark.slow
def test_a_killed_run_ends_as_the_undisturbed_one(tmp_path, whole):
    with pytest.raises(RuntimeError, match="killed"):
        train_captions(tmp_path, seed=0, killed_at=(1, 3), kill=stop)
    assert_resumes_as_undisturbed(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("write", [0, *(pytest.param(write, marks=pytest.mark.slow) for write in range(1, 5))])
def test_a_run_killed_between_writes_ends_as_the_undisturbed_one(tmp_path, whole, monkeypatch, write):
    """Epoch 2 writes the best weights, the last state, the progress and the log: each of them may be the one that is
    not written. Oracle: the undisturbed run.
    """
    model, expected = undisturbed_points(whole.parent / "points")
    replace, replaced = os.replace, []

    def replace_until_killed(source, target):
        if len(replaced) == 4 + write:
            raise KeyboardInterrupt
        replaced.append(Path(target).name)
        replace(source, target)

    killed, again = regression(), regression(seed=5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", replace_until_killed)
        train_points(tmp_path, killed, scripted([1, 2, 3], killed)[0])
    written = ["best-0002.npz", "last-0002.npz", "progress.json", "log.csv"]
    assert replaced[4:] == written[:write]
    scores = [2, 3] if write < 3 else [3]
    progress = train_points(tmp_path, again, scripted(scores, again)[0])
    assert progress["history"] == expected["history"]
    assert_same_values(again.weights, model.weights)
    assert_same_values(again.optimizer.variables, model.optimizer.variables)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [5, None])
def test_a_program_killed_by_the_system_is_resumed(tmp_path, whole, batch):
    """The program at the end of this file kills itself by SIGKILL in epoch 2. Oracle: the undisturbed run."""
    command = [sys.executable, __file__, str(tmp_path), "validation" if batch is None else str(batch), "graph", "0"]
    root = str(Path(__file__).parents[1])
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, check=False).returncode == -signal.SIGKILL
    assert_resumes_as_undisturbed(tmp_path, whole)


@pytest.mark.slow
def test_a_killed_run_under_xla_ends_as_the_undisturbed_one(tmp_path, tmp_path_factory):
    with pytest.raises(RuntimeError, match="killed"):
        train_captions(tmp_path, seed=0, killed_at=(1, 2), kill=stop, xla=True)
    assert_resumes_as_undisturbed(tmp_path, tmp_path_factory.mktemp("xla") / "captions", xla=True)


ALWAYS = 1e-9  # minutes: a checkpoint after every batch


def killed_within(folder, at, **config):
    """A run of points that is killed after batch (epoch, batch) is trained, and before it is saved."""
    set_epoch, model = SetEpoch(), regression()
    set_epoch.on_train_batch_end = lambda batch, logs=None: (set_epoch.epoch, batch) == at and stop()
    validate, _ = scripted([1, 2, 3], model)
    with pytest.raises(RuntimeError, match="killed"):
        train_points(folder, model, validate, set_epoch=set_epoch, **config)


def assert_ends_as_undisturbed(folder, whole, done, **config):
    """Oracle: the run that nobody disturbed, bit by bit; `done` epochs of this one are over."""
    model, expected = undisturbed_points(whole.parent / "points")
    again = regression(seed=5)
    progress = train_points(folder, again, scripted([1, 2, 3][done:], again)[0], **config)
    assert progress["history"] == expected["history"] and progress["step"] == 0
    assert_same_values(again.weights, model.weights)
    assert_same_values(again.optimizer.variables, model.optimizer.variables)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_killed_within_an_epoch_goes_on_with_the_next_batch(tmp_path, whole, epoch):
    """The mean of the losses of the epoch, which is in the history, is that of all its batches."""
    killed_within(tmp_path, (epoch, 2), save_minutes=ALWAYS)
    progress = checkpoints.read_progress(tmp_path)
    assert (progress["epoch"], progress["step"], progress["last"]) == (epoch, 2, f"last-{epoch:04d}-000002.npz")
    assert len(list(tmp_path.glob("last-*"))) == 2
    assert_ends_as_undisturbed(tmp_path, whole, epoch)


@pytest.mark.slow
def test_a_damaged_checkpoint_within_an_epoch_is_told_of(tmp_path, whole, capsys):
    killed_within(tmp_path, (1, 3), save_minutes=ALWAYS)
    harm(tmp_path / "last-0001-000003.npz", "bit")
    assert_ends_as_undisturbed(tmp_path, whole, 1, save_minutes=ALWAYS)
    said = f"epoch 1 and 3 batches cannot be resumed: {tmp_path / 'last-0001-000003.npz'} does not have the checksum"
    assert said in capsys.readouterr().out


@pytest.mark.slow
def test_the_minutes_between_checkpoints_do_not_depend_on_the_clock_of_the_machine(tmp_path, monkeypatch):
    """Batches take 40 seconds by `time.monotonic`, while `time.time` goes back; a checkpoint is due every minute."""
    model, set_epoch, now, saved = regression(), SetEpoch(), [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.time", lambda: -1e3 * now[0])

    def batch_done(batch, logs=None):
        saved.append(sorted(path.name for path in tmp_path.glob("last-*")))
        now[0] += 40

    set_epoch.on_train_batch_end = batch_done
    options = {"batches": points(7), "set_epoch": set_epoch, "epochs": 1, "save_minutes": 1}
    progress = train_points(tmp_path, model, lambda: {"score": 1.0}, **options)
    two, four, six = (f"last-0000-00000{n}.npz" for n in (2, 4, 6))
    assert saved == [[], [], [two], [two], [two, four], [two, four], [four, six]]
    assert progress["seconds"] == 7 * 40


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_what_came_after_the_last_checkpoint(tmp_path, whole, monkeypatch):
    """Oracle: the undisturbed run."""
    save, calls = np.savez, []

    def full(file, **arrays):
        calls.append(True)
        if len(calls) == 5:  # after the states of three batches, and the best weights of the first epoch
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, **arrays)

    model = regression()
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left on device.*last-0001\.npz"):
        patch.setattr(np, "savez", full)
        train_points(tmp_path, model, scripted([1], model)[0], save_minutes=ALWAYS)
    assert not list(tmp_path.glob(".*"))
    assert_ends_as_undisturbed(tmp_path, whole, 0)


@pytest.mark.slow
def test_a_program_killed_within_an_epoch_is_resumed_there(tmp_path, tmp_path_factory):
    """SIGKILL in epoch 2, after a checkpoint within it. Oracle: the undisturbed run."""
    command = [sys.executable, __file__, str(tmp_path), "4", "graph", str(ALWAYS)]
    root = str(Path(__file__).parents[1])
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, check=False).returncode == -signal.SIGKILL
    assert checkpoints.read_progress(tmp_path)["last"] == "last-0001-000004.npz"
    assert_resumes_as_undisturbed(tmp_path, tmp_path_factory.mktemp("whole") / "captions")


@pytest.fixture
def mixed_float16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_float16")
def test_the_loss_scale_is_resumed(tmp_path):
    """Oracle: the undisturbed run. A large target overflows float16 at the first scale, so the scale moves."""

    def batches():
        return points().map(lambda x, y: (x, 1e4 * y))

    model = regression()
    expected = train_points(tmp_path / "whole", model, batches=batches())
    assert float(model.optimizer.dynamic_scale) < 2**15
    train_points(tmp_path / "cut", regression(), batches=batches(), epochs=1, schedule="constant")
    again = regression(seed=5)
    progress = train_points(tmp_path / "cut", again, batches=batches())
    assert progress["history"] == expected["history"]
    assert_same_values(again.optimizer.variables, model.optimizer.variables)


@pytest.mark.slow
def test_fit_tells_the_dataset_the_epoch(tmp_path):
    """The data of each epoch are asked for with its number, in a resumed run too."""
    set_epoch, asked = SetEpoch(), []

    def numbers():
        asked.append(set_epoch.epoch)
        for _ in range(2):
            yield np.ones((1, 3), "float32"), np.ones((1, 2), "float32")

    signature = (tf.TensorSpec([1, 3]), tf.TensorSpec([1, 2]))
    batches = tf.data.Dataset.from_generator(numbers, output_signature=signature)
    batches = batches.apply(tf.data.experimental.assert_cardinality(2))
    train_points(tmp_path, regression(), batches=batches, set_epoch=set_epoch, epochs=2)
    assert asked[-2:] == [0, 1] and set(asked) == {0, 1}
    set_epoch.epoch, asked[:] = 0, []
    train_points(tmp_path, regression(), batches=batches, set_epoch=set_epoch, epochs=4)
    assert asked[-2:] == [2, 3]


# The best weights, patience, the end.


@pytest.mark.slow
def test_the_best_weights_are_kept_and_patience_ends_the_run(tmp_path):
    """By hand: 3 in epoch 2 is best, a second 3 is no better; after two epochs without a better score the run ends."""
    model = regression()
    validate, seen = scripted([1.0, 3.0, 3.0, 2.5, 9.0], model)
    progress = train_points(tmp_path, model, validate, epochs=9, patience=2)
    assert [row["epoch"] for row in progress["history"]] == [1, 2, 3, 4] and len(seen) == 4
    assert progress["best"] == {"epoch": 2, "value": 3.0, "file": "best-0002.npz"}
    assert_same_values(model.weights, seen[1])
    assert any((a != b).any() for a, b in zip(seen[1], seen[3], strict=True))
    names = {"best-0002.npz", "best.weights.h5", "last-0003.npz", "last-0004.npz"}
    names |= {"log.csv", "progress.json", "tensorboard"}
    assert set(os.listdir(tmp_path)) == names

    again = regression(seed=5)
    unread = points().map(lambda x, y: tf.numpy_function(never, [x, y], [tf.float32, tf.float32]))
    assert train_points(tmp_path, again, never, batches=unread, epochs=9, patience=2) == progress
    assert_same_values(again.weights, seen[1])
    assert set(os.listdir(tmp_path)) == names


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize("scores", [[1, 2, 1, 1, 1, 3], [3, 2, 1, 4, 3, 2], [1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 2]])
def test_patience_is_that_of_keras(tmp_path, patience, scores):
    """Oracle: keras.callbacks.EarlyStopping, told the same scores."""
    oracle, model = keras.callbacks.EarlyStopping("score", patience=patience, mode="max"), regression()
    oracle.set_model(model)
    oracle.on_train_begin()
    model.stop_training, epochs = False, 0
    while epochs < len(scores) and not model.stop_training:
        oracle.on_epoch_end(epochs, {"score": scores[epochs]})
        epochs += 1
    validate, _ = scripted(scores, model)
    progress = train_points(tmp_path, model, validate, epochs=len(scores), patience=patience, batches=points(1))
    assert progress["epoch"] == epochs


@pytest.mark.slow
def test_a_run_of_all_its_epochs_trains_nothing_more_until_there_are_more(tmp_path):
    model = regression()
    validate, seen = scripted([1, 2, 3], model)
    progress = train_points(tmp_path, model, validate, epochs=2)
    again = regression(seed=5)
    assert train_points(tmp_path, again, never, epochs=2) == progress
    assert_same_values(again.weights, seen[1])
    progress = train_points(tmp_path, again, scripted([3], again)[0], epochs=3)
    assert [row["epoch"] for row in progress["history"]] == [1, 2, 3]


@pytest.mark.slow
def test_the_log_is_the_history(tmp_path):
    model = regression()
    progress = train_points(tmp_path, model, epochs=3, schedule="cosine", learning_rate=0.02)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == progress["history"]
    assert list(rows[0]) == ["epoch", "learning_rate", "loss", "val_score"]
    rates = [0.02 * (0.05 + 0.95 * (1 + np.cos(np.pi * epoch / 3)) / 2) for epoch in range(3)]
    np.testing.assert_allclose([row["learning_rate"] for row in progress["history"]], rates, rtol=1e-6)
    assert progress["seconds"] > 0


@pytest.mark.parametrize("schedule, expected", [("constant", [0.4, 0.4, 0.4]), ("cosine", [0.4, 0.21, 0.02])])
def test_rate(schedule, expected):
    """By hand: the first epoch, the middle, and where the cosine would end: a twentieth."""
    config = TrainingConfig(epochs=8, learning_rate=0.4, schedule=schedule)
    np.testing.assert_allclose([training.rate(config, epoch) for epoch in (0, 4, 8)], expected)


def trained_rates(folder, scores=(1, 2, 3), *, batches=4, **config):
    """The learning rate of every batch, the steps that the optimizer took, and the progress."""
    set_epoch, model, rates = SetEpoch(), regression(), []
    set_epoch.on_train_batch_end = lambda batch, logs=None: rates.append(float(model.optimizer.learning_rate))
    validate, _ = scripted(scores, model)
    config = {"learning_rate": 0.4, "patience": 9} | config
    progress = train_points(folder, model, validate, batches=points(batches), set_epoch=set_epoch, **config)
    return rates, int(model.optimizer.iterations), progress


@pytest.mark.slow
def test_the_rate_rises_over_the_warm_up_steps(tmp_path):
    """By hand. A step of two batches has one rate, and a resumed run goes on with it."""
    rates, steps, _ = trained_rates(tmp_path / "a", [1], epochs=1, schedule="constant", warmup_steps=3)
    np.testing.assert_allclose(rates, [0.4 / 3, 0.8 / 3, 0.4, 0.4], rtol=1e-6)
    config = {"schedule": "constant", "warmup_steps": 4, "accumulate": 2}
    rates, steps, _ = trained_rates(tmp_path / "b", [1, 2], epochs=2, batches=3, **config)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.2, 0.2, 0.3, 0.3], rtol=1e-6)
    assert steps == 3
    rates, *_ = trained_rates(tmp_path / "b", [1], epochs=3, batches=3, **config)
    np.testing.assert_allclose(rates, [0.4, 0.4, 0.4], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scores", [[1, 2, 1, 1, 3, 3, 4], [3, 3, 2, 4, 1, 1, 5]])
def test_plateau_is_that_of_keras(tmp_path, scores):
    """Oracle: keras.callbacks.ReduceLROnPlateau, told the same scores. The run is resumed in the middle."""
    oracle, model = keras.callbacks.ReduceLROnPlateau("score", 0.5, patience=1, mode="max", min_delta=0), regression()
    model.compile(keras.optimizers.SGD(0.4))
    oracle.set_model(model)
    oracle.on_train_begin()
    expected = []
    for epoch, score in enumerate(scores):
        expected.append(float(model.optimizer.learning_rate))
        oracle.on_epoch_end(epoch, {"score": score})
    options = {"schedule": "plateau", "batches": 1}
    rates, *_ = trained_rates(tmp_path, scores[:4], epochs=4, **options)
    rates += trained_rates(tmp_path, scores[4:], epochs=7, **options)[0]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_run_of_so_many_steps(tmp_path):
    """By hand: 3 steps of two batches are an epoch of 4 batches and half of one, and the cosine is over the steps."""
    rates, steps, progress = trained_rates(tmp_path, [1, 2], steps=3, accumulate=2, epochs=1)
    cosine = [0.4 * (0.05 + 0.95 * (1 + np.cos(np.pi * step / 3)) / 2) for step in range(3)]
    np.testing.assert_allclose(rates, np.repeat(cosine, 2), rtol=1e-6)
    assert steps == 3 and [row["epoch"] for row in progress["history"]] == [1, 2]
    again = regression(seed=5)
    assert train_points(tmp_path, again, never, steps=3, accumulate=2) == progress


@pytest.mark.slow
def test_a_run_of_so_many_steps_is_resumed_within_its_last_epoch(tmp_path):
    """Oracle: the undisturbed run."""
    _, _, expected = trained_rates(tmp_path / "whole", [1, 2], steps=7)
    killed_within(tmp_path / "cut", (1, 1), steps=7, learning_rate=0.4, save_minutes=ALWAYS)
    _, steps, progress = trained_rates(tmp_path / "cut", [2], steps=7)
    assert progress["history"] == expected["history"] and steps == 7


def test_scheduled_sampling_that_counts_epochs_does_not_go_with_steps():
    options = {"scheduled_sampling": 0.2, "steps": 5}
    with pytest.raises(ValueError, match="sampling_schedule = linear counts epochs, and steps = 5 replaces them; set"):
        GenerationTrainingConfig(**options)
    assert GenerationTrainingConfig(**options, sampling_schedule="constant").steps == 5


def test_the_best_weights_are_written_in_the_format_of_keras(tmp_path):
    """A model that training has not seen reads them. Oracle: the weights."""
    model, again = caption_model(seed=0), caption_model(seed=1)
    assert (again.words.kernel.numpy() != model.words.kernel.numpy()).any()
    checkpoints.save_weights(tmp_path, model)
    again.load_weights(tmp_path / "best.weights.h5")
    assert_same_values(again.weights, model.weights)


def test_best_weights_for_which_there_is_no_room_leave_the_file_before(tmp_path, monkeypatch):
    """HDF5 says so in a text of many lines."""
    (tmp_path / "best.weights.h5").write_bytes(b"before")

    def full(path):
        Path(path).write_bytes(b"half")
        raise OSError("write failed\n(errno = 28, error message = 'No space left on device')")

    model = regression()
    monkeypatch.setattr(model, "save_weights", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        checkpoints.save_weights(tmp_path, model)
    assert (error.value.errno, error.value.filename) == (28, str(tmp_path / "best.weights.h5"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


# What stops a run with a message.


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    model = regression()
    train_points(tmp_path, model, epochs=1)
    message = (
        "the loss is nan at batch 7 (batch 3 of its epoch): learning rate 0.01, gradient norm nan. Lower "
        "training.learning_rate or training.clip_norm; the last checkpoint is kept"
    )
    before = (tmp_path / "progress.json").read_bytes()
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train_points(tmp_path, model, never, batches=points(bad=2), epochs=2, schedule="constant")
    assert (tmp_path / "progress.json").read_bytes() == before
    assert len(train_points(tmp_path, regression(), epochs=2)["history"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_float16")
def test_the_step_of_a_bad_loss_is_right_in_mixed_float16(tmp_path):
    """The optimizer does not count a step whose gradients it throws away."""
    message = "the loss is nan at batch 3 (batch 3 of its epoch): learning rate 0.01, gradient norm "
    with pytest.raises(UserError, match=re.escape(message)):
        train_points(tmp_path, regression(), never, batches=points(bad=2), epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_score_that_is_no_number_stops_the_run(tmp_path, value, epoch):
    model = regression()
    validate, _ = scripted([1.0] * (epoch - 1) + [value], model)
    message = f"score is {value} after epoch {epoch}; the checkpoint before it is kept"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train_points(tmp_path, model, validate)
    progress = train_points(tmp_path, regression(), scripted([2, 3, 4], model)[0])
    assert progress["epoch"] == 3 and progress["best"]["value"] == (4 if epoch == 1 else 3)


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which a process in the background starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "number, error, at, place",
    [
        (signal.SIGINT, KeyboardInterrupt, (1, 1), (1, 2)),
        (signal.SIGTERM, Terminated, (1, 1), (1, 2)),
        (signal.SIGTERM, Terminated, (0, 3), (1, 0)),
        (signal.SIGINT, KeyboardInterrupt, (1, None), (2, 0)),
    ],
)
def test_a_signal_stops_the_run_when_its_state_is_saved(tmp_path, whole, capfd, number, error, at, place):
    """After a batch; after the last one of an epoch, and in validation, which are followed by the validation's end."""
    usual, set_epoch, model = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], SetEpoch(), regression()
    validate, _ = scripted([1, 2, 3], model)

    def receive(batch, logs=None):
        if (set_epoch.epoch, batch) == at:
            signal.raise_signal(number)

    set_epoch.on_train_batch_end = receive
    with pytest.raises(error):
        train_points(tmp_path, model, lambda: receive(None) or validate(), set_epoch=set_epoch)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == usual
    assert "stopping after this batch or this validation; Ctrl-C stops at once" in capfd.readouterr().err
    progress = checkpoints.read_progress(tmp_path)
    assert (progress["epoch"], progress["step"]) == place
    assert_ends_as_undisturbed(tmp_path, whole, place[0])


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_second_signal_is_not_waited_for(number, error):
    """The exception of one that arrives while TensorFlow calls Python is printed there and lost: it comes again."""
    with pytest.raises(error), training.Interrupts(waits=True) as interrupts:
        signal.raise_signal(number)
        with pytest.raises(error):
            signal.raise_signal(number)
        with pytest.raises(error):
            interrupts.check()
    with pytest.raises(error), training.Interrupts(), contextlib.suppress(error):
        signal.raise_signal(number)
    assert Terminated().code == 75


def test_a_handler_of_sigterm_that_others_have_set_is_left():
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        with training.Interrupts(waits=True), training.Interrupts():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [True]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    progress = train_points(tmp_path, regression(), epochs=1)
    message = f"checkpoint {tmp_path / progress['last']} is of another model ("
    other = regression(units=5)
    before = other.get_weights()
    with pytest.raises(UserError, match=re.escape(message) + r".*\[3, 4\] there, .*\[3, 5\] here\); train anew in an"):
        train_points(tmp_path, other, never, epochs=2)
    assert_same_values(other.weights, before)
    path = tmp_path / progress["best"]["file"]
    with pytest.raises(UserError, match=re.escape(f"checkpoint {path} is of another model (")):
        checkpoints.load_variables(path, other.weights)


def named(*paths):
    """Variables of one shape, `layer/name`."""
    made = []
    for path in paths:
        layer, _, name = path.partition("/")
        with keras.name_scope(layer):
            made.append(keras.Variable(np.full((2, 3), float(len(made))), name=name))
    return made


@pytest.mark.parametrize(
    "there, here, fits",
    [
        (["cell/kernel", "cell/recurrent"], ["cell/recurrent", "cell/kernel"], False),
        (["query/kernel", "keys/kernel"], ["keys/kernel", "query/kernel"], False),
        (["dense/kernel", "dense/bias", "dense_1/kernel"], ["dense_7/kernel", "dense_7/bias", "dense_8/kernel"], True),
        (["dense/kernel", "dense_1/kernel"], ["dense_2/kernel", "dense_2/kernel"], False),
        (["adam/a_1_kernel_velocity", "adam/b_kernel"], ["adam/a_kernel_velocity", "adam/b_3_kernel"], True),
        (["adam/a_kernel_velocity"], ["adam/a_kernel_momentum"], False),
        (["a/kernel"], ["a/kernel", "b/kernel"], False),
    ],
)
def test_names_are_compared_but_for_the_numbers_that_keras_counts_layers_by(tmp_path, there, here, fits):
    checkpoints.save_variables(tmp_path / "a.npz", named(*there))
    variables = named(*here)
    before = [np.asarray(v) + 9 for v in variables]
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    if fits:
        checkpoints.load_variables(tmp_path / "a.npz", variables)
        assert_same_values(variables, named(*there))
    else:
        with pytest.raises(UserError, match="is of another model"):
            checkpoints.load_variables(tmp_path / "a.npz", variables)
        assert_same_values(variables, before)


def test_no_array_is_read_before_the_shapes_are_compared(tmp_path, monkeypatch):
    """A small file may hold arrays of many gigabytes."""
    model = regression()
    arrays = {f"{i:04d} {v.path}": np.zeros((7, *v.shape), "float32") for i, v in enumerate(model.weights)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    monkeypatch.setattr(np.lib.format, "read_array", never)
    with pytest.raises(UserError, match="is of another model"):
        checkpoints.load_variables(tmp_path / "a.npz", model.weights)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "array", "objects"])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path, damage):
    path, model = tmp_path / "weights.npz", regression()
    checkpoints.save_variables(path, model.weights)
    whole = path.read_bytes()
    path.unlink()
    if damage in ("array", "objects"):
        with open(path, "wb") as file:
            if damage == "array":
                np.save(file, np.zeros(3))
            else:
                np.savez(file, **{"0000 a": np.array([{}])})
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(UserError, match=f"^{re.escape(f'checkpoint {path} cannot be read: ')}."):
        checkpoints.load_variables(path, model.weights)


def test_saved_variables_are_read_back_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    saved = [keras.Variable(rng.normal(size=(2, 3)), name="same") for _ in range(12)]
    checkpoints.save_variables(tmp_path / "a.npz", saved)
    read = [keras.Variable(np.zeros((2, 3)), name="same") for _ in saved]
    checkpoints.load_variables(tmp_path / "a.npz", read)
    assert_same_values(read, saved)


# A run whose files were damaged.


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory):
    """Folder of a run whose third epoch is best, and its model."""
    folder, model = tmp_path_factory.mktemp("damaged") / "run", regression()
    train_points(folder, model, scripted([2, 1, 3], model)[0])
    return folder, model


def harm(path, damage):
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "bit":
        path.write_bytes(content[:-300] + bytes([content[-300] ^ 1]) + content[-299:])
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2]}[damage])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "bit"])
@pytest.mark.parametrize("name", ["last-0003.npz", "best-0003.npz"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken(tmp_path, three_epochs, capsys, name, damage):
    """Oracle: the run that nobody damaged, bit by bit."""
    folder, model = three_epochs
    shutil.copytree(folder, tmp_path / "run")
    harm(tmp_path / "run" / name, damage)
    again = regression(seed=5)
    progress = train_points(tmp_path / "run", again, scripted([3], again)[0])
    said = f"epoch 3 cannot be resumed: {tmp_path / 'run' / name} "
    said += "cannot be read" if damage == "missing" else "does not have the checksum that progress.json names"
    assert said in capsys.readouterr().out
    assert progress["history"] == checkpoints.read_progress(folder)["history"]
    assert_same_values(again.weights, model.weights)
    assert_same_values(again.optimizer.variables, model.optimizer.variables)


@pytest.mark.slow
def test_damaged_best_weights_are_found_before_the_first_epoch(tmp_path, three_epochs):
    """The best weights of both epochs that can be gone back to are one file."""
    folder, model = tmp_path / "run", regression()
    train_points(folder, model, scripted([3, 2, 1], model)[0], patience=9)
    (folder / "best-0001.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"run: no checkpoint is whole; restore the files, or train anew in another"):
        train_points(folder, regression(), never, epochs=4)
    with pytest.raises(UserError, match=r"best-0001.npz, the best weights, does not have the checksum .* restore it"):
        checkpoints.best_weights(folder, checkpoints.read_progress(folder))
    shutil.copytree(three_epochs[0], tmp_path / "other")
    (tmp_path / "other/best-0003.npz").write_bytes(b"")
    with pytest.raises(UserError, match="--mode=train --resume trains them again"):
        checkpoints.best_weights(tmp_path / "other", checkpoints.read_progress(tmp_path / "other"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: b"", "is damaged, it is not JSON"),
        (lambda p: b"[" * 100_000, "is damaged, it is not JSON"),
        (lambda p: b"\xff\xfe", "is damaged, it is not JSON"),
        (lambda p: b"[1]", r"is damaged: it must hold a table, and holds \[1\]"),
        (lambda p: b"{}", r"is not what a run of this version of kseq writes \(epoch: Field required\)"),
        (lambda p: {"last": "../../a.npz"}, r"last: String should match pattern"),
        (lambda p: {"last": "/etc/passwd"}, r"last: String should match pattern"),
        (lambda p: {"best": p["best"] | {"file": "sub/best-0001.npz"}}, r"best.file: String should match pattern"),
        (lambda p: {"before": [p["before"][0] | {"last": "a"}]}, r"before.0.last: String should match pattern"),
        (lambda p: {"epoch": "3"}, r"epoch: Input should be a valid integer"),
        (lambda p: {"epoch": 2}, r"3 rows of history for 2 epochs"),
        (lambda p: {"history": 3}, r"history: Input should be a valid (tuple|array)"),
        (lambda p: {"sha256": {}}, r"no checksum of best-0001.npz"),
        (lambda p: {"best": None}, r"best: None after 3 epochs"),
        (lambda p: {"step": -1}, r"step: Input should be greater than or equal to 0"),
        (lambda p: {"strange": 1}, r"strange: Extra inputs are not permitted"),
    ],
)
def test_a_progress_that_no_run_has_written_is_refused(tmp_path, three_epochs, change, message):
    folder = tmp_path / "run"
    shutil.copytree(three_epochs[0], folder)
    progress = checkpoints.read_progress(folder)
    changed = change(progress)
    content = changed if isinstance(changed, bytes) else json.dumps(progress | changed).encode()
    (folder / "progress.json").write_bytes(content)
    before = sorted(os.listdir(folder))
    with pytest.raises(UserError, match=rf"progress.json .*{message}"):
        train_points(folder, regression(), never, epochs=4)
    assert sorted(os.listdir(folder)) == before


def test_a_progress_that_was_deleted_is_told_of(tmp_path, three_epochs):
    folder = tmp_path / "run"
    shutil.copytree(three_epochs[0], folder)
    (folder / "progress.json").unlink()
    for name in ("log.csv", "last-0003.npz", "last-0002.npz", "best-0003.npz"):
        with pytest.raises(UserError, match=r"progress.json is missing, though .* is from a trained run"):
            train_points(folder, regression(), never)
        (folder / name).unlink()
    assert checkpoints.read_progress(folder) is None


# The optimizer.

SHAPES = [(2, 3), (4,), ()]


def random_gradients(steps=4, seed=0):
    """Gradients of a norm of about 0.3, 3, 30, … by turns."""
    rng = np.random.default_rng(seed)
    return [[10 ** (t % 3 - 1) * rng.normal(size=shape).astype("float32") for shape in SHAPES] for t in range(steps)]


def apply_all(optimizer, gradients, jit_compile=False, scale=1.0):
    """The variables after these steps from all ones, and the norm that each step reports."""
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in SHAPES]
    optimizer.build(variables)
    apply = tf.function(lambda g: optimizer.apply(g, variables), jit_compile=jit_compile, autograph=False)
    inner, norms = getattr(optimizer, "inner_optimizer", optimizer), []
    for step in gradients:
        apply([scale * tf.constant(g) for g in step])
        norms.append(float(getattr(inner, "gradient_norm", np.nan)))
    return [np.asarray(v) for v in variables], norms


def adam_by_hand(gradients, rate, clip_norm):
    """Kingma and Ba's algorithm 1, with ε where their section 2 puts it, on clipped gradients, in float64."""
    values = [np.ones(shape) for shape in SHAPES]
    m, v = [[np.zeros(shape) for shape in SHAPES] for _ in range(2)]
    norms = []
    for t, step in enumerate(gradients, start=1):
        norms.append(np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in step)))
        step = [g * min(1, clip_norm / norms[-1]) for g in step]
        m = [0.9 * old + 0.1 * g for old, g in zip(m, step, strict=True)]
        v = [0.999 * old + 0.001 * g**2 for old, g in zip(v, step, strict=True)]
        alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        values = [x - alpha * a / (np.sqrt(b) + 1e-7) for x, a, b in zip(values, m, v, strict=True)]
    return values, norms


def assert_close(values, expected):
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.5, 5.0])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("scale", [None, 2.0**10], ids=["plain", "scaled"])
def test_clipped_adam_is_adam_on_clipped_gradients(clip_norm, jit_compile, scale):
    """Oracle: NumPy. A scaled loss changes neither the step nor the norm that is reported."""
    gradients = random_gradients()
    optimizer = training.ClippedAdam(0.1, clip_norm)
    if scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
    values, norms = apply_all(optimizer, gradients, jit_compile, scale or 1.0)
    expected, expected_norms = adam_by_hand(gradients, 0.1, clip_norm)
    assert min(expected_norms) < 0.5 or clip_norm == 0.5
    assert max(expected_norms) > 5
    assert_close(values, expected)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("scale", [None, 2.0**10], ids=["plain", "scaled"])
def test_accumulated_gradients_are_averaged_and_then_clipped(jit_compile, scale):
    """Oracle: NumPy, on the means of two gradients. The fifth waits for a sixth."""
    gradients = random_gradients(5)
    optimizer = training.ClippedAdam(0.1, 0.5, average=0.9, gradient_accumulation_steps=2)
    inner, means = optimizer, [[(a + b) / 2 for a, b in zip(*gradients[i : i + 2], strict=True)] for i in (0, 2)]
    if scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
    values, norms = apply_all(optimizer, gradients, jit_compile, scale or 1.0)
    expected, expected_norms = adam_by_hand(means, 0.1, 0.5)
    assert min(expected_norms) > 0.5
    assert_close(values, expected)
    np.testing.assert_allclose(norms, [0, *np.repeat(expected_norms, 2)], rtol=1e-5)
    first, second = adam_by_hand(means[:1], 0.1, 0.5)[0], expected
    averages = [0.1 * a + 0.9 * b for a, b in zip(first, second, strict=True)]  # d = 0, then 1/10
    assert_close(inner.averages, averages)


@pytest.mark.slow
def test_accumulated_batches_are_one_big_batch(tmp_path):
    """Oracle: the same points in batches twice as large. No dropout, which each batch draws for itself."""
    models = []
    for accumulate in (1, 2):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
        batches = points().unbatch().batch(10 // accumulate)
        batches = batches.apply(tf.data.experimental.assert_cardinality(2 * accumulate))
        config = {"accumulate": accumulate, "clip_norm": 0.3, "warmup_steps": 3, "epochs": 2, "average": 0.9}
        progress = train_points(tmp_path / str(accumulate), model, lambda: {"score": 1.0}, batches=batches, **config)
        models.append((model, progress["history"]))
    assert int(models[1][0].optimizer.iterations) == 4
    assert_close(models[1][0].weights, [np.asarray(v) for v in models[0][0].weights])
    for row, expected in zip(models[1][1], models[0][1], strict=True):
        assert row["learning_rate"] == expected["learning_rate"]


@pytest.mark.slow
def test_a_run_killed_between_two_accumulated_batches_ends_as_the_undisturbed_one(tmp_path):
    """Oracle: the undisturbed run, bit by bit."""
    options, models = {"accumulate": 3, "average": 0.9}, [regression(), regression(seed=5)]
    expected = train_points(tmp_path / "whole", models[0], scripted([1, 2, 3], models[0])[0], **options)
    killed_within(tmp_path / "cut", (1, 2), save_minutes=ALWAYS, **options)
    progress = train_points(tmp_path / "cut", models[1], scripted([2, 3], models[1])[0], **options)
    assert progress["history"] == expected["history"]
    assert_same_values(models[1].weights, models[0].weights)
    assert_same_values(models[1].optimizer.variables, models[0].optimizer.variables)


@pytest.mark.slow
def test_clipped_adam_without_clipping_is_that_of_keras():
    """Oracle: keras.optimizers.Adam."""
    gradients = random_gradients()
    expected, _ = apply_all(keras.optimizers.Adam(0.1), gradients)
    assert_same_values(apply_all(training.ClippedAdam(0.1, 1e6), gradients)[0], expected)


def test_clipping_is_that_of_keras():
    """Oracle: keras.optimizers.Adam(global_clipnorm)."""
    gradients = random_gradients()
    expected, _ = apply_all(keras.optimizers.Adam(0.1, global_clipnorm=0.7), gradients)
    assert_close(apply_all(training.ClippedAdam(0.1, 0.7), gradients)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("scale", [None, 2.0**10], ids=["plain", "scaled"])
def test_a_variable_can_have_a_learning_rate_of_its_own(jit_compile, scale):
    """Oracle: keras.optimizers.Adam of that rate. The first step is a tenth of the one without."""
    gradients, scales = random_gradients(), (0.1, 1.0, 0.1)
    whole, tenth = (apply_all(keras.optimizers.Adam(rate), gradients)[0] for rate in (0.1, 0.01))
    optimizer = training.ClippedAdam(0.1, 1e6, scales=scales)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale) if scale else optimizer
    values, _ = apply_all(optimizer, gradients, jit_compile, scale or 1.0)
    assert_close(values, [tenth[0], whole[1], tenth[2]])
    first, slow = (apply_all(training.ClippedAdam(0.1, scales=s), gradients[:1], jit_compile)[0] for s in ((), scales))
    for ratio, x, y in zip(scales, first, slow, strict=True):
        np.testing.assert_allclose(1 - y, ratio * (1 - x), rtol=1e-5)


def test_there_is_a_scale_for_each_variable():
    with pytest.raises(ValueError, match="scales must be one for each of the 3 variables, got 2"):
        apply_all(training.ClippedAdam(scales=(1, 2)), random_gradients())


def test_words_that_come_twice_count_with_the_sum_of_their_gradients():
    """Oracle: the same gradient as a whole table."""
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, -1.0], [5.0, 0.0]]), tf.constant([2, 0, 2]), (4, 2))
    results = []
    for gradient in (slices, tf.convert_to_tensor(slices)):
        optimizer, table = training.ClippedAdam(0.1, 1.0), keras.Variable(np.ones((4, 2), "float32"))
        optimizer.apply([gradient], [table])
        results.append((np.asarray(table), float(optimizer.gradient_norm)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose([norm for _, norm in results], np.sqrt(6**2 + 2**2 + 3**2 + 1), rtol=1e-6)


def test_gradients_of_zero_move_nothing():
    values, norms = apply_all(training.ClippedAdam(), [[np.zeros(shape, "float32") for shape in SHAPES]])
    assert_same_values(values, [np.ones(shape) for shape in SHAPES])
    assert norms == [0.0]


def test_a_scaled_step_that_overflows_is_thrown_away():
    optimizer = keras.optimizers.LossScaleOptimizer(training.ClippedAdam(0.1), initial_scale=4.0)
    gradients = random_gradients(2)
    gradients[1][0][0, 0] = np.inf
    values, _ = apply_all(optimizer, gradients, scale=4.0)
    assert_close(values, adam_by_hand(gradients[:1], 0.1, 5.0)[0])
    assert float(optimizer.dynamic_scale) == 2.0


@pytest.mark.slow
@pytest.mark.parametrize("policy, xla", [("float32", False), ("mixed_float16", True)])
def test_fit_clips_and_reports_the_norm_of_the_gradients(tmp_path, policy, xla):
    """Oracle: a GradientTape, and Adam by Keras on the clipped gradients."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
    finally:
        keras.config.set_dtype_policy(before)
    [(x, y)] = points(batches=1)
    with tf.GradientTape() as tape:
        loss = keras.losses.MeanSquaredError()(y, model(x))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    clipped, norm = tf.clip_by_global_norm(gradients, 0.1)
    expected = [keras.Variable(v.numpy()) for v in model.trainable_variables]
    keras.optimizers.Adam(0.01).apply(clipped, expected)

    train_points(tmp_path, model, batches=points(batches=1), epochs=1, clip_norm=0.1, xla=xla)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    assert hasattr(model.optimizer, "dynamic_scale") == (policy == "mixed_float16")
    exact = policy == "float32"
    np.testing.assert_allclose(float(optimizer.gradient_norm), norm, rtol=1e-5 if exact else 1e-2)
    assert float(norm) > 0.1
    for value, other in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6 if exact else 2e-4)


def test_the_average_of_the_weights_by_hand():
    """d = 0, 1/10, 2/11, … up to `average`."""
    optimizer, weight = training.ClippedAdam(0.5, 1e9, average=0.15), keras.Variable(3.0)
    mean, trained = None, []
    for t, gradient in enumerate([1.0, -2.0, 0.5, 4.0]):
        optimizer.apply([tf.constant(gradient)], [weight])
        trained.append(float(weight))
        decay = [0, 1 / 10, 0.15, 0.15][t]
        mean = trained[-1] if mean is None else decay * mean + (1 - decay) * trained[-1]
    with pytest.raises(RuntimeError, match="inside"), optimizer.averaged():
        np.testing.assert_allclose(weight, mean, rtol=1e-6)
        raise RuntimeError("inside")
    assert float(weight) == trained[-1] != mean


@pytest.mark.slow
def test_the_average_is_validated_and_kept_and_the_weights_are_trained_on(tmp_path):
    """Oracle: the same run without an average, whose weights are what is averaged."""
    seen = []
    run = {"epochs": 2, "schedule": "constant"}
    for average in (0.0, 0.9):
        model = regression()
        values = iter([1.0, 2.0])
        train_points(
            tmp_path / str(average),
            model,
            lambda model=model, values=values: seen.append(model.get_weights()) or {"score": next(values)},
            average=average,
            **run,
        )
        seen.append(model.get_weights())
        checkpoints.load_variables(tmp_path / str(average) / "last-0002.npz", training.state(model))
        seen.append(model.get_weights())
    plain, averaged = seen[:4], seen[4:]
    assert_same_values(plain[3], averaged[3])  # trained alike
    assert_same_values(averaged[1], averaged[2])  # validated and kept: the same
    assert not any(np.array_equal(a, b) for a, b in zip(averaged[2], averaged[3], strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_float16")
def test_the_average_of_an_epoch_without_a_finite_step_is_the_first_weights(tmp_path):
    """A target beyond float16: every gradient overflows, and the optimizer throws every step away."""
    model, seen = regression(), []
    before = model.get_weights()
    batches = points().map(lambda x, y: (x, 3e6 * y))
    train_points(
        tmp_path,
        model,
        lambda: seen.append(model.get_weights()) or {"score": 1.0},
        batches=batches,
        epochs=1,
        average=0.9,
    )
    assert_same_values(seen[0], before)


def test_an_optimizer_comes_back_from_its_config():
    optimizer = training.ClippedAdam(0.02, 0.7, average=0.5, scales=(0.1, 1.0), beta_1=0.8)
    again = training.ClippedAdam.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert (again.clip_norm, again.beta_1, float(again.learning_rate)) == (0.7, 0.8, pytest.approx(0.02))


if __name__ == "__main__":  # the program that kills itself
    folder, where, compiled, minutes = sys.argv[1:]
    train_captions(
        Path(folder),
        seed=0,
        killed_at=(1, None if where == "validation" else int(where)),
        kill=lambda: os.kill(os.getpid(), signal.SIGKILL),
        xla=compiled == "xla",
        save_minutes=float(minutes),
    )
