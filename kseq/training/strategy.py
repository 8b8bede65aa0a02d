"""Training on several devices and machines with `tf.distribute`, and what must be replaced of Keras for it.

Keras 3.15 says that it does not work with `MultiWorkerMirroredStrategy` (https://github.com/keras-team/keras/issues/20585).
Two of its functions are in the way, and `working_fit` replaces them while a model is fitted:

- `Trainer._maybe_symbolic_build` takes the mean of the inputs over the replicas to learn their shapes, and hands their
  whole structure to a function that takes one tensor. `Devices.build` takes the shapes from the dataset instead.
- `reduce_per_replica` takes the mean of the metrics over an axis that they do not have.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from kseq.cluster import ALONE
from kseq.errors import LostWorker, UserError


class Devices:
    """The devices of all workers that train one model. See `open_devices`.

    Args:
        strategy: of `tf.distribute`; None for the one device that TensorFlow chooses.
        worker: `kseq.cluster.Worker`, which one this process is.

    Attributes:
        chief: whether this process writes to the folder of the run.
    """

    def __init__(self, strategy, worker):
        self.strategy = strategy
        self.worker = worker
        self.chief = worker.chief

    @property
    def several_workers(self):
        """Whether the state of the training is spread over processes, of which each is at a step of its own."""
        return self.worker.count > 1

    @property
    def share(self):
        """(first, count, of): which parts of each global batch this worker reads, one for each of its devices."""
        if self.strategy is None:
            return 0, 1, 1
        replicas = self.strategy.num_replicas_in_sync
        mine = replicas // self.worker.count
        return self.worker.number * mine, mine, replicas

    def scope(self):
        """A context in which a model, an optimizer and their variables are made, which all devices then have."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def build(self, model, dataset):
        """Makes all variables of a compiled model, also those of its losses and metrics."""
        if self.strategy:
            model._symbolic_build(data_batch=dataset.element_spec)

    def distributed(self, dataset):
        """What `model.fit` takes for a dataset that yields the parts of `share`."""
        if self.strategy is None:
            return dataset
        distributed = self.strategy.distribute_datasets_from_function(lambda _: dataset)
        distributed._cardinality = self.steps(dataset)  # Keras would take the number of parts for that of steps
        return distributed

    def without(self, dataset, steps):
        """Such a dataset without its first steps."""
        return dataset.skip(steps * self.share[1]) if steps else dataset

    def steps(self, dataset):
        """Steps of an epoch of such a dataset."""
        return int(dataset.cardinality()) // self.share[1]

    def from_chief(self, value):
        """A number or an array of the chief's, for all; each worker waits here until all others are here too.

        Raises:
            LostWorker: another worker has ended.
        """
        if not self.several_workers:
            return value
        value = np.asarray(value)
        value = value.astype("float32" if np.issubdtype(value.dtype, np.floating) else "int64")
        with others_there():
            return _from_first(self.strategy, tf.constant(value)).numpy()

    def wait(self):
        """Waits until all workers are here."""
        self.from_chief(0)

    def share_weights(self, variables):
        """Gives all workers the values that float variables have in the chief."""
        if self.several_workers:
            variables = [v for v in variables if tf.as_dtype(v.dtype).is_floating]
            values = [v.numpy() for v in variables]
            flat = self.from_chief(np.concatenate([value.ravel() for value in values]))
            parts = np.split(flat, np.cumsum([value.size for value in values])[:-1])
            for variable, part in zip(variables, parts, strict=True):
                variable.assign(part.reshape(variable.shape))

    def vary(self, variables):
        """Lets each device draw random numbers of its own: adds its number to the seeds, `[seed, counter]` each."""

        def add():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            for variable in seeds:
                variable.assign(variable + tf.cast([number, 0], variable.dtype))

        seeds = [v.value for v in variables if v.name == "seed_generator_state"]
        if self.strategy and seeds:
            tf.function(lambda: self.strategy.run(add), autograph=False)()


ONE_DEVICE = Devices(None, ALONE)


class FromChief(keras.callbacks.Callback):
    """Ends the run of every worker when the chief's ends. Callbacks that only the chief has come before it."""

    def __init__(self, devices):
        super().__init__()
        self.devices = devices

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = bool(self.devices.from_chief(int(self.model.stop_training)))


@tf.function(autograph=False)
def _from_first(strategy, value):
    def add():
        replica = tf.distribute.get_replica_context()
        mine = tf.where(tf.equal(replica.replica_id_in_sync_group, 0), value, tf.zeros_like(value))
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    return strategy.experimental_local_results(strategy.run(add))[0]


def open_devices(kind, worker):
    """The `Devices` of `training.strategy`.

    Before anything else of TensorFlow runs: the workers find each other here.

    Args:
        kind: "none", "mirrored" or "multi_worker".
        worker: `kseq.cluster.Worker`.

    Raises:
        UserError: the workers cannot be reached.
    """
    if kind == "none":
        return Devices(None, worker)
    if kind == "mirrored":
        return Devices(tf.distribute.MirroredStrategy(), worker)
    try:
        return Devices(tf.distribute.MultiWorkerMirroredStrategy(), worker)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(
            f"training.strategy=multi_worker: worker {worker.number} of {worker.count} cannot join the others: {error}"
        ) from None


@contextlib.contextmanager
def working_fit(model, devices):
    """While it is open, `model.fit` works on the devices; Keras' own functions are back afterwards.

    Raises:
        LostWorker: another worker has ended.
    """
    if devices.strategy is None:
        yield
        return
    devices.vary(model.variables)
    usual = keras_trainer.reduce_per_replica
    keras_trainer.reduce_per_replica = mean_of_replicas
    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: None
    try:
        with others_there():
            yield
    finally:
        keras_trainer.reduce_per_replica = usual
        del model._maybe_symbolic_build


@contextlib.contextmanager
def others_there():
    """Says it in one line where another worker is lost."""
    try:
        yield
    except tf.errors.UnavailableError:
        raise LostWorker(
            "another worker has ended or cannot be reached; start all of them again, with --resume to go on from the "
            "last checkpoint"
        ) from None


def mean_of_replicas(values, strategy, reduction):
    """Keras' `reduce_per_replica` for what `fit` needs of it, the mean of metrics."""
    return tf.nest.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), values)
