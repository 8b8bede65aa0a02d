"""What the tasks share whose answers are labels: how texts are read, encoded and walked in batches."""

import abc
import itertools
import json
from typing import Literal

import numpy as np
from pydantic import Field

import kseq
from kseq.errors import UserError
from kseq.tasks.common import transfer
from kseq.tasks.common.label_model import make_encoder, take_vectors, with_words
from kseq.tasks.common.schema import TextDataConfig
from kseq.tasks.common.text_task import TextTask
from kseq.tasks.task import hashed

DRAWN = 100  # inputs of which `predict` shows more than the answer; of a long file the first
AT_ONCE = 256  # texts that are answered at once
LENGTHS = {"caption": 200, "space": 200, "word": 200, "subword": 300, "character": 800, "byte": 1000}
TABLES = "labels.json"

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.

Unit = Literal["caption", "space", "word", "subword", "character", "byte"]


class DataConfig(TextDataConfig):
    """Which texts and labels, and how they are read."""

    names: dict[str, str] = Field({}, description="what labels are called, where the data have numbers, say")
    unit: Unit = "word"
    lower_case: bool = False
    vocabulary_size: int = Field(20_000, ge=5)
    max_length: int = Field(0, ge=0, le=5000, description="tokens of a text; the rest is cut off; 0 goes by the unit")
    buckets: int = Field(4, ge=1, le=20)

    def length(self):
        """Most tokens of a text."""
        return self.max_length or LENGTHS[self.unit]


class Labelled(TextTask):
    """Texts in, labels out. A subclass says what is labelled, by which model, and how it is scored.

    Attributes:
        raw: the fields of an example that are texts, and the names of the inputs of `answer`.
        tables: {what is labelled: list of its labels}, after `prepare` or `load`.
    """

    @abc.abstractmethod
    def labels(self, where, example):
        """{what is labelled: list of its labels} of an example; `UserError` where they cannot be used."""

    @abc.abstractmethod
    def make(self, encoder):
        """The model over a `TextEncoder`, with new weights, not yet built."""

    def check(self, where, example):
        self.labels(where, example)

    def begin(self, start):
        super().begin(start)
        if self.config.model.vectors:
            take_vectors(self.config.model, self.model.encoder.embedding, self.text.vocabulary)

    def tokenizer(self):
        """What parts the texts."""
        data = self.config.data
        return kseq.preprocessors.UNITS[data.unit](lower_case=data.lower_case, normalize=data.normalize)

    def learn(self, train, start):
        data, found, unused = self.config.data, {}, set(self.config.data.names)
        for where, example in self.walk(train, f"labels of {data.train}"):
            for name, labels in self.labels(where, example).items():
                found.setdefault(name, set()).update(labels)
            unused.discard(example.get("label", "").strip())
        if not found:
            raise UserError(
                f"{data.source}: every example of {data.train} shares a text with one that is held out; set data.dev "
                "in place of data.holdout"
            )
        unused -= {example.get("label", "").strip() for _, example in self.dev}
        if unused:
            there = ", ".join(sorted(found.get("label", ()))[:10]) or "none"
            raise UserError(f"data.names has {', '.join(sorted(unused))}, which is no label of the data ({there})")
        self.text = transfer.words(start, data.length()) if start else self.learn_words(train)
        self.tables = {name: sorted(labels) for name, labels in found.items()}
        for name, labels in self.tables.items():
            if len(labels) < 2:
                raise UserError(f"{data.source}: all of {data.train} has one {name}, {labels[0]!r}; two are needed")
        self.text.save(self.workdir / "vocabulary.txt")
        if self.preset:
            transfer.save_encoder(start, self.workdir)
        kseq.files.write_json(self.workdir / TABLES, self.tables)

    def learn_words(self, train):
        """The `TextPreprocessor` of the training texts, and of more words where vectors are to be had for them."""
        data = self.config.data
        options = {"max_tokens": data.vocabulary_size, "min_count": data.min_count}
        text = kseq.preprocessors.TextPreprocessor(data.length(), tokenizer=self.tokenizer(), **options)
        return with_words(self.config.model, self.adapted(text, train, self.raw))

    def recall(self):
        path = self.workdir / "vocabulary.txt"
        self.text = transfer.load_words(self.config, path, self.tokenizer)
        try:
            self.tables = dict(json.loads((self.workdir / TABLES).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{self.workdir / TABLES} cannot be read: {error}") from None

    def fingerprints(self):
        return {"vocabulary.txt": self.text.fingerprint(), TABLES: hashed(self.tables)}

    def build(self):
        if self.preset:
            encoder = transfer.load_encoder(self.config, self.workdir, len(self.raw))
        else:
            encoder = make_encoder(self.config.model, len(self.text.vocabulary))
        model = self.make(encoder)
        model(self.feed([np.ones((1, 2), "int32")] * (1 if self.preset else len(self.raw))))
        return model

    @property
    def preset(self):
        """What keras-hub calls the encoder, which then reads all texts in one; empty where it is one of kseq."""
        return self.config.model.encoder.preset

    def feed(self, sides):
        """What the model takes of the ids of each role."""
        return sides[0] if len(sides) == 1 else dict(zip(self.raw, sides, strict=True))

    def ids(self, texts):
        """string `[batch]` → ragged int32 `[batch, (tokens)]`; a text without tokens is one unknown one."""
        return filled(self.text.ids(texts))

    @abc.abstractmethod
    def make_batch(self, batch):
        """A batch of these columns → what `fit` takes."""

    def notes(self, counts):
        data = self.config.data
        if not counts["texts"]:
            return []
        return [f"{counts['texts']} texts of {data.train} have more than {data.length()} tokens; the rest is cut off"]

    def batches(self, epoch):
        return kseq.data.batches(
            self.columns,
            self.make_batch,
            batch_size=self.config.training.batch_size,
            buckets=self.config.data.buckets,
            seed=self.config.seed,
            epoch=epoch,
            full=self.config.training.xla,
        )

    def strange(self, references, name):
        """The labels that training has not, which are said: they are never the answer, and count as wrong."""
        strange = sorted(set(references) - set(self.tables[name]))
        if strange:
            count = sum(label in strange for label in references)
            shown = ", ".join(strange[:10])
            print(f"{name}: {count} of {len(references)} are none that training has ({shown}): wrong", flush=True)
        return strange

    def confusion(self, labels, references, split):
        """The confusion matrix, {label: {answer: count}}, drawn in the workdir too."""
        every = [*self.tables["label"], *self.strange(references, "label")]
        counts = kseq.metrics.confusion(labels, references, every)
        kseq.plots.save(kseq.plots.confusion(counts, every), self.workdir / "predictions" / f"confusion-{split}.png")
        return {label: dict(zip(every, row, strict=True)) for label, row in zip(every, counts.tolist(), strict=True)}

    def parts(self):
        return [self.model, self.text]


def batched(items, size=AT_ONCE):
    """Lists of at most `size` of them."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def by_length(examples, answer):
    """`answer(batch)`, a list, for each of a list of tuples of texts, those of similar length in one batch.

    An example is as long as its longest text, to which its batch is padded.
    """
    order = sorted(range(len(examples)), key=lambda i: max(map(len, examples[i])))
    answers = [None] * len(examples)
    for rows in batched(order):
        for i, one in zip(rows, answer([examples[i] for i in rows]), strict=True):
            answers[i] = one
    return answers


def filled(ids):
    """Ragged ids `[batch, (tokens)]` with one unknown token where there was none."""
    import tensorflow as tf

    empty = tf.cast(ids.row_lengths() == 0, tf.int64)
    unknown = tf.fill([tf.reduce_sum(empty)], kseq.preprocessors.UNKNOWN)
    return tf.concat([ids, tf.RaggedTensor.from_row_lengths(unknown, empty)], axis=1)


def label_of(where, example, names):
    """The label of an example, as `data.names` calls it.

    Raises:
        UserError: it is empty.
    """
    label = example["label"].strip()
    if not label:
        raise UserError(f"{where}: the label is empty")
    return names.get(label, label)


def known(labels, table, where, name):
    """The numbers of labels in a table.

    Raises:
        UserError: one is not among them.
    """
    numbers = {label: i for i, label in enumerate(table)}
    for label in labels:
        if label not in numbers:
            raise UserError(f"{where}: the {name} {label!r} is none of the run's ({', '.join(table)})")
    return [numbers[label] for label in labels]
