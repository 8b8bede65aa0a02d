"""The questions that every task answers."""

import abc
import hashlib
import json
from pathlib import Path

from kseq.errors import UserError
from kseq.files import write_json

FINGERPRINTS = "fingerprints.json"


class Task(abc.ABC):
    """A model, its data and its words, from raw files to raw answers.

    `kseq.tasks.program` asks the questions; the answers know nothing of flags.

    Args:
        config: of the task's `Config`, already valid.
        workdir: `Path` of the folder of the run.

    Attributes:
        name: of the task, its configs and its card.
        monitor: the metric that decides which weights are best, larger is better.
        raw: names of the inputs of `answer`.
        model: `keras.Model`, after `prepare` or `load`.
    """

    name: str
    Config: type
    monitor: str
    raw: tuple[str, ...]

    def __init__(self, config, workdir):
        self.config = config
        self.workdir = workdir
        self.model = None

    @abc.abstractmethod
    def prepare(self):
        """Reads the training data, writes to the workdir what serving needs of them, and builds the model."""

    @abc.abstractmethod
    def load(self, weights):
        """Builds the model from what `prepare` wrote, with the weights in the file."""

    @abc.abstractmethod
    def batches(self, epoch):
        """`tf.data.Dataset` of one training epoch: (inputs, targets, sample weights)."""

    @abc.abstractmethod
    def loss(self):
        """`keras.losses.Loss`, or {output: loss} for a model of several outputs."""

    @abc.abstractmethod
    def validate(self):
        """{metric: number} of what the model generates for the dev split, quickly."""

    @abc.abstractmethod
    def evaluate(self, split="dev"):
        """(metrics, list of rows, one for each example of the split), of "dev" or "test".

        A metric is a number, or a {name: number} that stands in `metrics.json` alone. A row has "id", "prediction",
        "references", a list of what would be right, and "exact", whether the prediction is one of them; "source", where
        what is read is a text; and what else the task knows.
        """

    def shown(self, row):
        """The prediction and a reference of a row of `evaluate`, as a person reads them."""
        return row["prediction"], row["references"][0]

    @abc.abstractmethod
    def predict(self, inputs, folder):
        """Yields a line of text for each input, and writes to `folder` what there is to be seen of it."""

    @abc.abstractmethod
    def answer(self, **raw):
        """Tensors of strings → {"text": string, "score": float32}, in TensorFlow alone: what a SavedModel serves."""

    def ask(self, example):
        """`answer` for one raw example, {input: bytes}, as plain values."""
        answers = self.answer(**{name: [value] for name, value in example.items()})
        return {"text": answers["text"][0].numpy().decode(), "score": float(answers["score"][0])}

    @abc.abstractmethod
    def fingerprints(self):
        """{file that `prepare` wrote to the workdir: hash of all that decides what its ids or labels mean}."""

    def fingerprint(self):
        """A string that changes when an id or a label would mean something else."""
        return hashed(self.fingerprints())

    def files(self):
        """Names of the files in the workdir that must stay as `prepare` wrote them."""
        stems = [Path(name).stem for name in self.fingerprints()]  # a vocabulary has its options beside it
        return [*(path.name for stem in stems for path in self.workdir.glob(f"{stem}.*")), FINGERPRINTS]

    def keep_fingerprints(self):
        """Writes the fingerprints of a run that begins."""
        write_json(self.workdir / FINGERPRINTS, self.fingerprints())

    def check_fingerprints(self):
        """Compares the files of a run with what it was trained with.

        Raises:
            UserError: they, or the keys of the config that decide how they are read, are not the same.
        """
        path = self.workdir / FINGERPRINTS
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        for name, fingerprint in self.fingerprints().items():
            if known.get(name) != fingerprint:
                raise UserError(
                    f"{self.workdir / name} is not what the run was trained with, or the .json beside it is not"
                )

    @abc.abstractmethod
    def parts(self):
        """The objects with weights or tables that `answer` uses."""

    @abc.abstractmethod
    def example(self):
        """One raw input, to ask an exported model."""


def hashed(value):
    """SHA-256 of what JSON can write."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
