"""One way to give labels: to a text, to two texts, or to each word of a text."""

import abc
import collections
import functools
import json
from typing import Literal

import numpy as np
from pydantic import Field

import kseq
from kseq.errors import UserError
from kseq.tasks import pretrained
from kseq.tasks.requests import OK, first_status, text_status, without_refused
from kseq.tasks.schema import TrainingConfig
from kseq.tasks.task import (
    Task,
    adapted,
    by_length,
    defined,
    digest_of,
    encoded_texts,
    hashed,
    progress,
    read_texts,
    text_of,
    uniform,
)

BATCH_SIZE = 256  # texts that are labelled in one batch
TABLES = "labels.json"
VOCABULARY = "vocabulary.txt"

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class LabelTrainingConfig(TrainingConfig):
    """How a model of labels is trained."""

    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: rare labels count for more")


class Output(abc.ABC):
    """What is labelled, from the labels of an example to the records and scores of what a model predicts.

    Args:
        task: the `Labelling` that it belongs to.
    """

    def __init__(self, task):
        self.task = task

    @property
    @abc.abstractmethod
    def max_n(self):
        """The most records of one example."""

    @abc.abstractmethod
    def labels(self, where, example):
        """{what is labelled: list of its labels} of an example. Raises `UserError` when they cannot be used."""

    @abc.abstractmethod
    def checked(self, examples):
        """The same `Examples`; walking them raises `UserError` at one whose labels cannot be used."""

    @abc.abstractmethod
    def columns(self, examples, counts):
        """List of (place, example) → the columns of a corpus, as of `kseq.data.encoded`.

        The texts that are cut off are counted in `counts`, as "texts".
        """

    @abc.abstractmethod
    def make_batch(self, batch):
        """A batch of these columns → (inputs, targets, sample weights)."""

    @abc.abstractmethod
    def loss(self):
        """`keras.losses.Loss`, or {output: loss}."""

    @abc.abstractmethod
    def predicted(self, texts):
        """Tensors of texts `[batch]`, one a role → {name: tensor `[batch, ...]`} with "text" and "score"."""

    @abc.abstractmethod
    def n_best(self, texts):
        """Tensors of texts `[batch]`, one a role → what `Task.n_best` has, but for the status."""

    @abc.abstractmethod
    def tokens(self, texts):
        """Lists of texts, one a role → for each example the tokens of each sequence that the model reads."""

    @abc.abstractmethod
    def records(self, predicted, tokens, n):
        """The n best records of one example, from its rows of `predicted` and its `tokens`."""

    @abc.abstractmethod
    def row(self, where, example, record):
        """The row of `evaluate` of an example, without "id"."""

    @abc.abstractmethod
    def scores(self, rows):
        """{metric: number} of rows of `evaluate`, the task's `monitor` among them."""

    @abc.abstractmethod
    def more_scores(self, rows, split):
        """{metric: number or table}: what else `evaluate` reports."""


class Labelling(Task):
    """Texts in, labels out. A subclass says what is labelled, by which model, and what is drawn.

    Attributes:
        Output: subclass of `Output`.
        raw: the fields of an example that are texts, and the names of the inputs of `answer`.
        text: what numbers the tokens, after `prepare` or `load`.
        tables: {what is labelled: list of its labels}, after `prepare` or `load`.
    """

    Output: type

    def __init__(self, config, workdir):
        super().__init__(config, workdir)
        self.output = self.Output(self)

    @abc.abstractmethod
    def make(self, encoder):
        """The model over an encoder, with new weights, not yet built."""

    # --- data

    def examples(self, split):
        return self.output.checked(read_texts(self.config, split, self.raw))

    def check(self, example):
        self.output.labels(*example)

    def name_of(self, example, split, i):
        return f"{split}-{i:05d}"

    def raw_of(self, example):
        return {role: example[1][role] for role in self.raw}

    # --- training

    def start(self):
        return pretrained.load_start(self.config)

    def adapt(self, train, start):
        data = self.config.data
        found, used = self._labels(train)
        if not found:
            raise UserError(
                f"{data.source}: every example of {data.train} shares a text with one that is held out; set data.dev "
                "in place of data.holdout"
            )
        unused = set(data.names) - used - {example.get("label", "").strip() for _, example in self.dev}
        if unused:
            there = ", ".join(sorted(found.get("label", ()))[:10]) or "none"
            raise UserError(f"data.names has {', '.join(sorted(unused))}, which is no label of the data ({there})")
        self.text = pretrained.words(start, data.length()) if start else self._adapted(train)
        self.tables = found
        for name, labels in self.tables.items():
            if len(labels) < 2:
                raise UserError(f"{data.source}: all of {data.train} has one {name}, {labels[0]!r}; two are needed")
        self.text.save(self.workdir / VOCABULARY)
        if self.preset:
            pretrained.save_encoder(start, self.workdir)
        kseq.files.write_json(self.workdir / TABLES, self.tables)

    def _labels(self, train):
        """{what is labelled: sorted list of its labels} of training, and the set of those that are written in the data,
        made or from the cache.
        """
        data = self.config.data

        def write(path):
            found, used = collections.defaultdict(set), set()
            for where, example in progress(train, f"labels of {data.train}"):
                for name, labels in self.output.labels(where, example).items():
                    found[name].update(labels)
                used.add(example.get("label", "").strip())
            path.mkdir()
            tables = {name: sorted(labels) for name, labels in found.items()}
            kseq.files.write_json(path / TABLES, {"tables": tables, "used": sorted(used)})

        key = ["labels", kseq.data.code_fingerprint(), self.name, self.digest, json.dumps(data.names)]
        kept = kseq.files.read_json(kseq.data.cached_folder(data.cache, key, write) / TABLES)
        return kept["tables"], set(kept["used"])

    def _tokenizer(self):
        data = self.config.data
        return kseq.preprocessors.UNITS[data.unit](lower_case=data.lower_case, normalize=data.normalize)

    def _adapted(self, train):
        """The `TextPreprocessor` of the training texts, with the words of `model.vector_words`."""
        data, model = self.config.data, self.config.model
        options = {"max_tokens": data.vocabulary_size, "min_count": data.min_count}
        text = kseq.preprocessors.TextPreprocessor(data.length(), tokenizer=self._tokenizer(), **options)
        text = adapted(text, train, self.raw, data, self.digest)
        if not model.vector_words:
            return text
        known = {word.strip(kseq.preprocessors.TIE) for word in text.vocabulary}
        words = kseq.data.first_words(model.vectors, model.embedding_size, model.vector_words)
        more = [word for word in dict.fromkeys(words) if word not in known]
        return text.from_config(text.get_config() | {"vocabulary": [*text.vocabulary, *more]})

    def restore(self):
        self.text = pretrained.load_words(self.config, self.workdir / VOCABULARY, self._tokenizer)
        try:
            self.tables = dict(json.loads((self.workdir / TABLES).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{self.workdir / TABLES} cannot be read: {error}") from None

    def fingerprints(self):
        return {VOCABULARY: self.text.fingerprint(), TABLES: hashed(self.tables)}

    def build(self):
        if self.preset:
            encoder = pretrained.load_encoder(self.config, self.workdir, len(self.raw))
        else:
            encoder = make_encoder(self.config.model, len(self.text.vocabulary))
        model = self.make(encoder)
        model(self.feed([np.ones((1, 2), "int32")] * self.sides))
        return model

    def encode(self, train):
        data = self.config.data
        columns, counts = encoded_texts(
            data,
            [self.name, self.digest, self.fingerprint()],
            train,
            self.encode_some,
            functools.partial(restored_encode, type(self), self.config, self.workdir),
        )
        if counts["texts"]:
            print(f"texts of {data.train} cut off at {data.length()} tokens: {counts['texts']}", flush=True)
        return columns

    def encode_some(self, examples):
        """List of (place, example) → their columns, and how many "texts" are cut off."""
        counts = collections.Counter()
        return self.output.columns(examples, counts), counts

    @functools.cached_property
    def digest(self):
        """Hash of the training examples, on which all that is cached depends."""
        return digest_of(self.config, self.raw)

    def set_initial_weights(self, start):
        if start:
            pretrained.take_encoder(self.model, start)
        if self.config.model.vectors:
            take_vectors(self.config.model, self.model.encoder.embedding, self.text.vocabulary)

    # --- what the model reads

    @property
    def max_n(self):
        """As many as there are labels; one sequence of tags."""
        return self.output.max_n

    @property
    def preset(self):
        """The keras-hub preset of a pretrained encoder, which reads all texts as one; empty for an encoder of kseq."""
        return self.config.model.encoder.preset

    @property
    def sides(self):
        """How many sequences the model reads."""
        return 1 if self.preset else len(self.raw)

    def feed(self, sides):
        """The input of the model for the ids of each sequence."""
        return sides[0] if len(sides) == 1 else dict(zip(self.raw, sides, strict=True))

    def ids(self, texts):
        """string `[batch]` → ragged int32 `[batch, (tokens)]`; a text without tokens becomes one unknown token."""
        return filled(self.text.ids(texts))

    # --- answers

    def make_batch(self, batch):
        return self.output.make_batch(batch)

    def loss(self):
        return self.output.loss()

    def answer_part(self, *texts):
        status, texts = self.checked(texts)
        found = self.output.predicted(texts)
        return without_refused({name: value for name, value in found.items() if len(value.shape) == 1}, status)

    def n_best_part(self, *texts):
        status, texts = self.checked(texts)
        return without_refused(self.output.n_best(texts), status)

    def status(self, *texts):
        most = self.config.serving.max_characters
        return first_status(*(text_status(side, most) for side in texts))

    def checked(self, texts):
        """Strings `[batch]` of each role → their status, and the same, empty where they are refused."""
        import tensorflow as tf

        status = self.status(*texts)
        return status, [tf.where(status == OK, side, "") for side in texts]

    def answers(self, examples, n=1):
        texts = [[text_of(example[role]) for role in self.raw] for example in examples]
        records = [None] * len(texts)
        for rows in by_length([max(map(len, sides)) for sides in texts], BATCH_SIZE):
            sides = [[texts[i][side] for i in rows] for side in range(len(self.raw))]
            found = self.output.predicted([np.array(side, object) for side in sides])
            found = {name: value.numpy() for name, value in found.items()}
            for k, (i, tokens) in enumerate(zip(rows, self.output.tokens(sides), strict=True)):
                records[i] = self.output.records({name: value[k] for name, value in found.items()}, tokens, n)
        return records

    def line(self, name, example, record):
        """The texts, the label and its probability, with tabs between."""
        texts = [text_of(example[role]).replace("\t", " ") for role in self.raw]
        return "\t".join([*texts, record["text"], f"{record['score']:.3f}"])

    def answered(self, split):
        """The row of `evaluate` of each example of a split."""
        examples = self.scored(split)
        records = self.answers([self.raw_of(example) for example in examples])
        rows = [self.output.row(*example, best) for example, [best, *_] in zip(examples, records, strict=True)]
        return [{"id": where.rpartition("/")[2]} | row for (where, _), row in zip(examples, rows, strict=True)]

    def validate(self):
        return self.output.scores(self.answered("dev"))

    def evaluate(self, split="dev"):
        rows = self.answered(split)
        return defined(self.output.scores(rows) | self.output.more_scores(rows, split)), rows

    def unknown_labels(self, references, name):
        """The labels that training does not have, with a line that counts them: they are never predicted."""
        unknown = sorted(set(references) - set(self.tables[name]))
        if unknown:
            count = sum(label in unknown for label in references)
            shown = ", ".join(unknown[:10])
            total = len(references)
            print(f"{name}: {count} of {total} not among those of training, counted as wrong ({shown})", flush=True)
        return unknown

    def confusion(self, labels, references, split):
        """The confusion matrix, {label: {prediction: count}}, drawn in the workdir too."""
        every = [*self.tables["label"], *self.unknown_labels(references, "label")]
        counts = kseq.metrics.confusion(labels, references, every)
        kseq.plots.save(kseq.plots.confusion(counts, every), self.workdir / "predictions" / f"confusion-{split}.png")
        return {label: dict(zip(every, row, strict=True)) for label, row in zip(every, counts.tolist(), strict=True)}

    def parts(self):
        return [self.model, self.text]


def restored_encode(task, config, workdir):
    """`Labelling.encode_some` of a task, of what a run has in its workdir, for a process that encodes for it."""
    run = task(config, workdir)
    run.restore()
    return run.encode_some


class OneLabel(Output):
    """One label for each example."""

    @property
    def names(self):
        """The labels."""
        return self.task.tables["label"]

    @property
    def max_n(self):
        return len(self.names)

    def labels(self, where, example):
        return {"label": [label_of(where, example, self.task.config.data.names)]}

    def checked(self, examples):
        return examples  # `labels` checks each

    def read(self, texts):
        """Tensors of texts, one a role → ragged ids `[batch, (tokens)]` of each sequence that the model reads."""
        return [self.task.text.ids(*texts)] if self.task.preset else [self.task.ids(side) for side in texts]

    def columns(self, examples, counts):
        texts = [[example[role] for _, example in examples] for role in self.task.raw]
        sides = self.read(texts)
        pairs = [(sides[0], texts)] if self.task.preset else zip(sides, ([side] for side in texts), strict=True)
        for ids, read in pairs:
            counts["texts"] += kseq.data.count_truncated(self.task.text, ids, *read)
        labels = [
            numbers_of(self.labels(where, example)["label"], self.names, where, "label") for where, example in examples
        ]
        # A pretrained encoder reads all texts as one.
        return dict(zip(self.task.raw, sides, strict=False)) | {"label": np.concatenate(labels).astype("int32")}

    def make_batch(self, batch):
        import tensorflow as tf

        sides = [batch[role] for role in self.task.raw if role in batch]
        width = tf.reduce_max([tf.shape(side)[1] for side in sides])
        sides = [tf.pad(side, [[0, 0], [0, width - tf.shape(side)[1]]]) for side in sides]
        weights = tf.gather(tf.constant(self.weights, tf.float32), batch["label"])
        return self.task.feed(sides), batch["label"], weights

    @property
    def weights(self):
        """The weight of an example of each label."""
        if self.task.config.training.class_weights == "balanced":
            return balanced_weights(self.task.columns["label"], len(self.names))
        return np.ones(len(self.names))

    def loss(self):
        return kseq.losses.TokenCrossentropy(self.task.config.training.label_smoothing)

    @functools.cached_property
    def graph(self):
        """A `tf.function` from the ids of each sequence to probabilities `[batch, labels]` and the alignment."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * self.task.sides, autograph=False)
        def graph(*sides):
            logits, alignment = self.task.model.attend(self.task.feed(sides))
            return tf.nn.softmax(logits), alignment

        return graph

    def predicted(self, texts):
        import tensorflow as tf

        probabilities, alignment = self.graph(*(side.to_tensor() for side in self.read(texts)))
        text = tf.gather(tf.constant(self.names), tf.argmax(probabilities, axis=-1))
        score = tf.reduce_max(probabilities, axis=-1)
        return {"text": text, "score": score, "probabilities": probabilities, "alignment": alignment}

    def n_best(self, texts):
        """All labels, the likeliest first, with their probabilities."""
        import tensorflow as tf

        found = tf.math.top_k(self.predicted(texts)["probabilities"], len(self.names))
        return {"text": tf.gather(tf.constant(self.names), found.indices), "score": found.values}

    def tokens(self, texts):
        text = self.task.text
        sides = [text.tokens(*texts)] if self.task.preset else [text.tokens(side) for side in texts]
        sides = [[[without_marks(token.decode()) for token in row] for row in side.to_list()] for side in sides]
        return list(zip(*sides, strict=True))

    def records(self, predicted, tokens, n):
        probabilities, alignment = predicted["probabilities"], predicted["alignment"]
        weights = None  # the last state has none
        if np.any(alignment):
            last = [min(size, len(side)) for size, side in zip(alignment.shape[::-1], tokens, strict=False)][::-1]
            weights = alignment[tuple(slice(size) for size in last)]
        best = np.argsort(-probabilities, kind="stable")[:n]
        read = {"tokens": tokens[-1], "alignment": weights}
        return [{"text": self.names[i], "score": float(probabilities[i]), **read} for i in best]

    def row(self, where, example, record):
        [reference] = self.labels(where, example)["label"]
        return {
            "source": "\t".join(example[role] for role in self.task.raw),
            "prediction": record["text"],
            "score": record["score"],
            "exact": record["text"] == reference,
            "references": [reference],
        }

    def scores(self, rows):
        return {"accuracy": kseq.metrics.accuracy(*_labels(rows))}

    def more_scores(self, rows, split):
        labels, references = _labels(rows)
        return {
            "macro_f1": kseq.metrics.macro_f1(labels, references),
            "confusion": self.task.confusion(labels, references, split),
        }


def _labels(rows):
    return [row["prediction"] for row in rows], [row["references"][0] for row in rows]


def attention_pages(task, records):
    """{file name: HTML} of a page of the tokens, coloured by their weights; none when these have none."""
    shown = [record for record in records if record["alignment"] is not None]
    if not shown:
        return {}
    examples = [(r["tokens"], r["alignment"], f"{r['text']} {r['score']:.2f}") for r in shown]
    return {"attention.html": kseq.plots.words_page(examples, f"{task.workdir.name}: the attention to each word")}


def label_of(where, example, names):
    """The label of an example, as `data.names` calls it.

    Raises:
        UserError: it is empty.
    """
    label = example["label"].strip()
    if not label:
        raise UserError(f"{where}: the label is empty")
    return names.get(label, label)


def numbers_of(labels, table, where, name):
    """The numbers of labels in a table.

    Raises:
        UserError: one is not among them.
    """
    numbers = {label: i for i, label in enumerate(table)}
    for label in labels:
        if label not in numbers:
            raise UserError(f"{where}: the {name} {label!r} is none of the run's ({', '.join(table)})")
    return [numbers[label] for label in labels]


def filled(ids):
    """Ragged ids `[batch, (tokens)]`, with one unknown token in each row that had none."""
    import tensorflow as tf

    empty = tf.cast(ids.row_lengths() == 0, tf.int64)
    unknown = tf.fill([tf.reduce_sum(empty)], kseq.preprocessors.UNKNOWN)
    return tf.concat([ids, tf.RaggedTensor.from_row_lengths(unknown, empty)], axis=1)


def without_marks(token):
    """A token without its marks."""
    return token.strip(kseq.preprocessors.TIE).replace(kseq.preprocessors.SPACE, " ") or " "


def balanced_weights(targets, count):
    """n / (labels · n_label) for each label: every label weighs the same in total."""
    return len(targets) / (count * np.maximum(np.bincount(targets, minlength=count), 1))


def make_layer(config):
    """The recurrent layer of a `LabelEncoderConfig`, with new weights."""
    layers = []
    for k in range(config.layers):
        layer = kseq.layers.Recurrent(
            kseq.layers.CELLS[config.cell](config.units),
            return_state=True,
            dropout=config.dropout if k else 0.0,
            recurrent_dropout=config.recurrent_dropout,
        )
        layers.append(kseq.layers.Bidirectional(layer) if config.bidirectional else layer)
    return kseq.layers.Stack(layers, residual=config.residual) if config.layers > 1 else layers[0]


def make_encoder(config, size):
    """The `TextEncoder` of a `LabelEncoderConfig` for a vocabulary of this size, with new weights."""
    encoder = kseq.models.TextEncoder(
        size,
        make_layer(config),
        embedding_size=config.embedding_size,
        embeddings_initializer=uniform(config.embedding_range),
        dropout=config.embedding_dropout,
        word_dropout=config.word_dropout,
    )
    encoder.embedding.trainable = config.train_vectors
    if not config.encoder.trainable:
        encoder.trainable = False
    return encoder


def take_vectors(config, embedding, vocabulary):
    """Puts the vectors of `model.vectors` in place of those of the words that it has."""
    words = [word.strip(kseq.preprocessors.TIE) for word in vocabulary]
    vectors, found = kseq.data.read_vectors(config.vectors, words, config.embedding_size)
    found[: len(kseq.preprocessors.SPECIAL)] = False
    if not np.any(found):
        raise UserError(f"{config.vectors} has no word of the vocabulary")
    embedding.embeddings.assign(np.where(found[:, None], vectors, np.asarray(embedding.embeddings)))
    print(f"{np.sum(found)} of {len(words)} words have their vectors from {config.vectors}", flush=True)
