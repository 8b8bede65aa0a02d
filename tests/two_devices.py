"""Training on two devices of one process gives what training on one gives.

They are parts of the CPU, which TensorFlow makes when it starts: `test_strategy.py` runs this file in a process of its
own.
"""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from contracts import dtype_policy
from kseq import training
from kseq.cluster import ALONE, Worker
from kseq.data import Sequences, SetEpoch, Share, batches
from kseq.errors import LostWorker, Terminated
from kseq.losses import TokenCrossentropy
from kseq.models import ctc_loss, supervised_attention_loss
from kseq.tasks.schema import TrainingConfig
from kseq.training.strategy import working_fit

WORDS = 7

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="module")
def two():
    """A strategy of two devices."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def on_each(strategy, function, *values):
    """What a function of one value of each of the lists returns on each device."""
    values = [
        strategy.experimental_distribute_values_from_function(lambda c, v=v: v[c.replica_id_in_sync_group])
        for v in values
    ]
    return strategy.experimental_local_results(strategy.run(function, values))


def test_the_loss_of_two_devices_is_the_mean_over_all_tokens(two):
    """Oracle: the loss of one device on the whole batch. One half has nine tokens with weight, the other three."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 5, (4, 6)), rng.normal(size=(4, 6, 5)).astype("float32")
    weights = np.zeros((4, 6), "float32")
    weights[:2, :4], weights[2:, :2] = 1, 0.5
    loss = TokenCrossentropy(0.1)
    halves = [[tf.constant(x[rows]) for rows in (slice(2), slice(2, 4))] for x in (labels, logits, weights)]
    np.testing.assert_allclose(sum(on_each(two, loss, *halves)), loss(labels, logits, weights), rtol=1e-6)
    unweighted = sum(on_each(two, loss, *halves[:2]))
    np.testing.assert_allclose(unweighted, loss(labels, logits), rtol=1e-6)
    empty = [tf.constant(weights[:2]), tf.zeros((2, 6))]
    alone = loss(labels[:2], logits[:2], weights[:2])
    np.testing.assert_allclose(sum(on_each(two, loss, *halves[:2], empty)), alone, rtol=1e-6)


def test_the_losses_that_a_model_adds_are_those_of_the_whole_batch(two):
    """Oracle: one device on the whole batch. Keras divides what a model adds by the number of devices."""
    rng = np.random.default_rng(3)
    labels = np.array([[1, 2, 3], [2, 2, 1], [4, 0, 0], [3, 0, 0]])
    mask = np.arange(8) < np.array([8, 7, 8, 5])[:, None]
    relevant = rng.random((4, 3, 8)) < np.array([0.9, 0.9, 0.1, 0.1])[:, None, None]
    alignments = rng.dirichlet(np.ones(8), size=(4, 3)).astype("float32")
    logits = rng.normal(size=(4, 8, 5)).astype("float32")
    for loss, *values in ((ctc_loss, logits, mask, labels), (supervised_attention_loss, alignments, relevant)):
        halves = [[tf.constant(x[rows]) for rows in (slice(2), slice(2, 4))] for x in values]
        np.testing.assert_allclose(sum(on_each(two, loss, *halves)) / 2, loss(*values), rtol=1e-5)


def test_gradients_are_clipped_by_the_norm_of_their_sum(two):
    """Oracle: the optimizer on one device, with the sum of both devices' gradients."""
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(4, 2, 3)).astype("float32")
    options = {"learning_rate": 0.1, "clip_norm": 0.5, "average": 0.9}

    def made():
        variable = keras.Variable(np.ones(3, "float32"))
        optimizer = training.ClippedAdam(**options)
        optimizer.build([variable])
        return variable, optimizer

    variable, optimizer = made()
    with two.scope():
        mirrored, shared = made()
    for halves in steps:
        optimizer.apply([tf.constant(halves.sum(0))], [variable])
        on_each(two, lambda g: shared.apply([g], [mirrored]) or 0.0, [tf.constant(half) for half in halves])
    for one, other in zip([variable, *optimizer.variables], [mirrored, *shared.variables], strict=True):
        for value in two.experimental_local_results(other.value):
            np.testing.assert_allclose(value.numpy(), one.numpy(), rtol=1e-6, err_msg=one.path)


def test_each_device_draws_random_numbers_of_its_own(two):
    with two.scope():
        layer = keras.layers.Dropout(0.5, seed=3)
    devices = training.Devices(two, ALONE)
    devices.vary(layer.variables)
    seeds = two.experimental_local_results(layer.seed_generator.state.value)
    assert [seed.numpy().tolist() for seed in seeds] == [[3, 0], [4, 0]]


def test_the_share_of_a_worker(two):
    assert training.Devices(None, ALONE).share == (0, 1, 1)
    assert training.Devices(two, ALONE).share == (0, 2, 2)

    class Strategy:
        num_replicas_in_sync = 6

    assert training.Devices(Strategy(), Worker(2, 3)).share == (4, 2, 6)


def test_keras_is_as_it_was_after_fit(two):
    trainer, model = keras.src.backend.tensorflow.trainer, keras.Sequential()
    usual = trainer.reduce_per_replica
    with (
        pytest.raises(LostWorker, match=r"another worker has ended .* --resume"),
        working_fit(model, training.Devices(two, ALONE)),
    ):
        assert trainer.reduce_per_replica is not usual
        raise tf.errors.UnavailableError(None, None, "gone")
    assert trainer.reduce_per_replica is usual
    assert model._maybe_symbolic_build.__func__ is type(model)._maybe_symbolic_build


def sentences(count):
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, WORDS, n).tolist() for n in rng.integers(1, 7, count)]
    return {"words": Sequences.joined([tf.ragged.constant(texts, tf.int32)])}


def examples(batch):
    words = batch["words"]
    return words, (words * 3) % WORDS, tf.cast(words > 0, tf.float32)


def tagger(dropout=0.0):
    keras.utils.set_random_seed(1)
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Dense(6, "tanh")(keras.layers.Embedding(WORDS, 5)(tokens))
    x = keras.layers.Dropout(dropout, seed=2)(x)
    return keras.Model(tokens, keras.layers.Dense(WORDS)(x))


def train(folder, devices, count, dropout=0.0, stop=None, **config):
    """With `stop`, a callback, which ends the first epoch by an error."""
    with devices.scope(), dtype_policy(config.get("precision", "float32")):
        model = tagger(dropout)
    epoch, share = SetEpoch() if stop is None else stop, Share(*devices.share)
    progress = training.fit(
        model,
        batches(sentences(count), examples, batch_size=6, buckets=2, seed=3, epoch=epoch, share=share),
        TrainingConfig(**{"epochs": 2, "learning_rate": 0.02, "clip_norm": 0.3, "average": 0.9} | config),
        folder,
        loss=TokenCrossentropy(0.1),
        validate=lambda: {"score": -float(model.optimizer.iterations.numpy())},
        monitor="score",
        set_epoch=epoch,
        show=0,
        devices=devices,
    )
    return model, progress


def state_of(model):
    return [*model.weights, *model.optimizer.variables]


@pytest.mark.parametrize(
    ("count", "config"),
    [
        (22, {}),  # the last batch of a bucket cannot be halved
        (24, {"steps": 4, "accumulate": 3, "schedule": "plateau"}),  # three epochs, of which the last is cut short
    ],
    ids=["epochs", "steps"],
)
def test_two_devices_reach_the_weights_of_one(tmp_path, two, count, config):
    one, alone = train(tmp_path / "one", training.Devices(None, ALONE), count, **config)
    model, both = train(tmp_path / "two", training.Devices(two, ALONE), count, **config)
    for variable, value in zip(state_of(model), state_of(one), strict=True):
        for found in two.experimental_local_results(variable.value):
            np.testing.assert_allclose(found.numpy(), value.numpy(), atol=1e-6, err_msg=variable.path)
    losses, rates = ([[row[name] for row in p["history"]] for p in (both, alone)] for name in ("loss", "learning_rate"))
    np.testing.assert_allclose(*losses, rtol=1e-6 if count == 24 else 0.01)
    assert rates[0] == rates[1] and len(set(rates[0])) > 1
    assert int(model.optimizer.iterations.numpy()) == config.get("steps", len(losses[0]) * 5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_that_of_one_device(tmp_path, two, precision):
    """Up to its rounding, and bit by bit the same on both devices."""
    one, alone = train(tmp_path / "one", training.Devices(None, ALONE), 24, precision=precision)
    model, both = train(tmp_path / "two", training.Devices(two, ALONE), 24, precision=precision)
    for variable, value in zip(state_of(model), state_of(one), strict=True):
        first, second = two.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=variable.path)
        np.testing.assert_allclose(first.numpy(), value.numpy(), atol=0.02, err_msg=variable.path)
    losses = [[row["loss"] for row in progress["history"]] for progress in (both, alone)]
    np.testing.assert_allclose(*losses, rtol=0.005)


@pytest.mark.parametrize("accumulate", [None, 2])
def test_a_step_that_overflows_on_one_device_is_thrown_away_on_both(two, accumulate):
    """Oracle: one device, with the sums of the gradients that are finite. Keras asks the first device alone."""
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(6, 2, 3)).astype("float32")
    steps[1, 1, 0] = steps[3, 0, 2] = np.inf
    options = {"learning_rate": 0.1, "clip_norm": 0.5, "average": 0.9, "gradient_accumulation_steps": accumulate}

    def made():
        variable = keras.Variable(np.ones(3, "float32"))
        optimizer = training.SharedLossScale(training.ClippedAdam(**options), initial_scale=4.0)
        optimizer.build([variable])
        return variable, optimizer

    variable, optimizer = made()
    for halves in steps[[0, 2, 4, 5]]:
        optimizer.apply([tf.constant(4 * halves.sum(0))], [variable])
        optimizer.dynamic_scale.assign(4.0)
    with two.scope():
        mirrored, shared = made()
    run = tf.function(
        lambda *halves: on_each(two, lambda g: shared.apply([g], [mirrored]) or 0.0, list(halves)), autograph=False
    )
    scales = []
    for halves in steps:
        scales.append(float(shared.dynamic_scale.numpy()))
        run(*(tf.constant(scales[-1] * half) for half in halves))
    assert scales == [4, 4, 2, 2, 1, 1]
    state, expected = [mirrored, *shared.inner_optimizer.variables], [variable, *optimizer.inner_optimizer.variables]
    for one, other in zip(expected, state, strict=True):
        for value in two.experimental_local_results(other.value):
            np.testing.assert_allclose(value.numpy(), one.numpy(), rtol=1e-6, atol=1e-7, err_msg=one.path)


class Stopped(SetEpoch):
    """Ends the training after the third batch, as a signal does that comes in it."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_two_devices_go_on_within_an_epoch_and_a_step(tmp_path, two):
    """Oracle: the undisturbed run. Each device goes on with random numbers of its own."""
    devices = training.Devices(two, ALONE)
    one, whole = train(tmp_path / "one", devices, 24, 0.4, accumulate=2)
    with pytest.raises(Terminated):
        train(tmp_path / "two", devices, 24, 0.4, Stopped(), accumulate=2)
    assert (tmp_path / "two" / "last-0000-000003.npz").exists()
    model, resumed = train(tmp_path / "two", devices, 24, 0.4, accumulate=2)
    assert resumed["history"] == whole["history"]
    for variable, value in zip(state_of(model), state_of(one), strict=True):
        for place in range(2):
            found, want = (two.experimental_local_results(v.value)[place] for v in (variable, value))
            np.testing.assert_array_equal(found.numpy(), want.numpy(), err_msg=variable.path)
