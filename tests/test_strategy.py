"""Training on several devices and in several processes gives what training on one gives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import train_worker
from kseq import training
from kseq.cluster import Worker
from kseq.config import ConfigError, load
from kseq.errors import Terminated, UserError
from kseq.tasks import program
from kseq.tasks.classify import Classify
from kseq.tasks.schema import TrainingConfig
from kseq.training.fit import restore
from kseq.training.strategy import FromChief


def test_a_worker_stops_with_the_chief():
    class Devices:
        def from_chief(self, value):
            assert value == 0
            return 1

    callback = FromChief(Devices())
    callback.set_model(keras.Sequential())
    callback.model.stop_training = False
    callback.on_epoch_end(0)
    assert callback.model.stop_training is True


# What the program says


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.strategy=multi_worker", "training.xla=true"], "with strategy=multi_worker set xla=false"),
        (["training.strategy=cluster"], "multi_worker"),
        (
            ["training.strategy=multi_worker", "training.save_minutes=5"],
            "save_minutes is for one process; .* set save_",
        ),
    ],
)
def test_what_a_strategy_cannot_do_is_said(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Classify.Config, overrides=changes)


def test_the_place_of_a_worker_comes_from_the_environment():
    text = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}'
    config, several = (load(Classify.Config, overrides=x) for x in ([], ["training.strategy=multi_worker"]))
    assert program.worker_of(several, text) == (1, 2)
    assert program.worker_of(config, None) == (0, 1)
    assert program.worker_of(config, text.replace(', "b:2"', "").replace("1}}", "0}}")) == (0, 1)
    with pytest.raises(UserError, match=r"TF_CONFIG names 2 workers, .* set training.strategy=multi_worker, which"):
        program.worker_of(config, text)
    with pytest.raises(UserError, match="needs the environment variable TF_CONFIG"):
        program.worker_of(several, None)


def start(folder, way, workers):
    folder.mkdir()
    command = [sys.executable, str(Path(train_worker.__file__)), str(folder), way]
    if workers > 1:
        command = [sys.executable, "-m", "kseq.launch", "--workers", str(workers), "--", *command]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment)


def results(folder, number):
    with np.load(folder / f"weights-{number}.npz") as file:
        weights = {name: file[name] for name in file.files}
    return np.array(json.loads((folder / f"steps-{number}.json").read_text())), weights


TRAININGS = {
    "epochs": {"patience": 10},
    # Steps of three batches each, up to within the fourth epoch, at a rate that the chief's scores halve.
    "steps": {"steps": 11, "accumulate": 3, "schedule": "plateau"},
    "float16": {"precision": "mixed_float16", "epochs": 2},
}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """The folders of one process and of two."""
    folder = tmp_path_factory.mktemp("trainings")
    for name, workers in (("one", 1), ("two", 2)):
        run = start(folder / name, json.dumps(TRAININGS), workers)
        assert run.returncode == 0, run.stdout + run.stderr
    return folder / "one", folder / "two"


def assert_same_training(one, two, count):
    """The loss and the norm of the gradient at each step, the weights and the optimizer at the end."""
    steps, weights = results(one, 0)
    assert len(steps) == count
    for number in range(2):
        found_steps, found = results(two, number)
        np.testing.assert_allclose(found_steps[:, 1], steps[:, 1], rtol=1e-6)
        even = np.arange(count) % 10 < 9  # Keras counts the row that fills up the last batch, of 5, in its mean loss
        np.testing.assert_allclose(found_steps[even, 0], steps[even, 0], rtol=1e-6)
        assert found.keys() == weights.keys()
        for name in [name for name in weights if "seed_generator" not in name]:
            np.testing.assert_allclose(found[name], weights[name], atol=1e-5, err_msg=f"{name} of worker {number}")


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one_after_100_steps(trainings):
    one, two = (folder / "epochs" for folder in trainings)
    assert_same_training(one, two, 100)
    names = {path.name for path in two.iterdir()} - {path.name for path in one.iterdir()}
    assert names == {"steps-1.json", "weights-1.npz"}


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(trainings):
    one, two = (folder / "steps" for folder in trainings)
    assert_same_training(one, two, 33)
    rates = [[line.split(",")[1] for line in (f / "log.csv").read_text().splitlines()[1:]] for f in (one, two)]
    assert rates[0] == rates[1] and len(rates[0]) == 4 and len(set(rates[0])) == 3


@pytest.mark.slow
def test_two_processes_scale_the_loss_of_float16_alike(trainings):
    """Bit by bit. One process, whose sums in float16 are of more rows, may overflow where two do not."""
    one, two = (folder / "float16" for folder in trainings)
    (steps, _), (found_steps, found), (others, other) = results(one, 0), results(two, 0), results(two, 1)
    np.testing.assert_array_equal(found_steps, others)
    for name in [name for name in found if "seed_generator" not in name]:
        np.testing.assert_array_equal(found[name], other[name], err_msg=name)
    [scale] = [name for name in found if "dynamic_scale" in name]
    assert found[scale] < 2**24
    first = np.flatnonzero(found_steps[:, 1])[0]  # the first step that is taken, by both from the same weights
    assert first == np.flatnonzero(steps[:, 1])[0] > 0
    np.testing.assert_allclose(found_steps[first, 1], steps[first, 1], rtol=0.001)
    np.testing.assert_allclose(found_steps[:, 0], steps[:, 0], rtol=0.01)


@pytest.mark.slow
def test_keras_still_fails_with_several_workers(tmp_path):
    """Tells when `working_fit` is no longer needed."""
    run = start(tmp_path / "keras", "keras", 2)
    assert run.returncode and "PerReplica" in run.stderr, (
        f"Keras {keras.__version__} needs no working_fit: take it out of kseq/training/strategy.py"
    )


@pytest.mark.slow
def test_two_devices_are_as_one():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("two_devices.py")),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout + run.stderr


def test_several_workers_do_not_go_on_within_an_epoch(tmp_path):
    class Kept:
        devices, folder = training.Devices(object(), Worker(0, 2)), tmp_path

        def restore(self, model):
            return {"step": self.step}

    kept, config = Kept(), TrainingConfig(strategy="multi_worker")
    kept.step = 0
    restore(kept, None, config)
    kept.step = 3
    with pytest.raises(
        UserError, match=r"was interrupted within an epoch, and training.strategy=multi_worker goes on between"
    ):
        restore(kept, None, config)


def checkpoints_of(folder, chief):
    def never():
        raise AssertionError("only the chief validates")

    devices = SimpleNamespace(chief=chief, several_workers=True, from_chief=lambda value: value)
    kept = training.Checkpoints(folder, never, "score", TrainingConfig(), 3, training.Interrupts(), 0.0, devices)
    kept.set_model(keras.Sequential())
    kept.on_epoch_begin(0)
    return kept


def test_a_worker_counts_epochs_and_writes_nothing(tmp_path):
    kept = checkpoints_of(tmp_path, chief=False)
    kept.on_epoch_end(0)
    assert kept.progress["epoch"] == 1 and not list(tmp_path.iterdir())


def test_several_workers_end_at_a_signal_without_a_checkpoint_within_the_epoch(tmp_path):
    kept = checkpoints_of(tmp_path, chief=True)
    kept.interrupts.received = signal.SIGTERM
    with pytest.raises(Terminated):
        kept.on_train_batch_end(0)
    assert not list(tmp_path.iterdir())
