"""What the tasks share that read texts: from a source of examples to a model that begins anew, goes on or is served."""

import abc
import collections
import functools
import json

from tqdm import tqdm

import kseq
from kseq.errors import UserError
from kseq.tasks.common import transfer
from kseq.tasks.task import Task

SHOWN = 4  # examples of the dev split that `predict` shows when it is given none

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class TextTask(Task):
    """Texts in. A subclass says what is learned of them, and what comes out.

    Attributes:
        text: what numbers the words that are read, after `prepare` or `load`.
    """

    @abc.abstractmethod
    def learn(self, train, start):
        """Makes the vocabularies and tables of the training examples, pairs (place, example), and writes them to the
        workdir; the words that are read are those of `start` where there is one.
        """

    @abc.abstractmethod
    def recall(self):
        """Reads what `learn` wrote; `UserError` where a file is missing, or is not what the run was trained with."""

    @abc.abstractmethod
    def encode(self, examples, counts):
        """List of (place, example) → the columns of a corpus, as of `kseq.data.encoded`.

        What is cut off or left out is counted in `counts`, a `Counter`.
        """

    @abc.abstractmethod
    def notes(self, counts):
        """The sentences in which a user is told of the counts of `encode`."""

    @abc.abstractmethod
    def build(self):
        """The model of the config, with new weights."""

    @abc.abstractmethod
    def check(self, where, example):
        """Raises `UserError` where an example of the dev split cannot be measured."""

    def encoding(self):
        """What the ids depend on beside the data and the preprocessors, as strings."""
        return []

    def prepare(self):
        again = (self.workdir / kseq.checkpoints.PROGRESS).exists()
        start = None if again else transfer.opened(self.config)
        data = self.config.data
        kseq.data.require_splits(data.source, data.fields.model_dump(), data.own_splits())
        train = self.examples("train")
        _ = self.dev  # what is wrong with it is said before training
        self.peek_test()
        if again:
            self.recall()
            self.check_fingerprints()
        else:
            self.learn(train, start)
            self.keep_fingerprints()
        self.columns = self.encoded(train)
        self.model = self.build()
        if not again:
            self.begin(start)

    @functools.cached_property
    def digest(self):
        """Hash of the training examples: what is cached of them depends on it."""
        walk = TextTask.walk(self, self.examples("train"), f"{self.config.data.train}, read for changes,")
        return kseq.data.fingerprint(example for _, example in walk)

    def adapted(self, text, train, roles):
        """A `TextPreprocessor` with the vocabulary of the training texts of some roles, made or from the cache."""
        data = self.config.data

        def write(path):
            examples = self.walk(train, f"vocabulary of {' and '.join(roles)}")
            text.adapt(example[role] for _, example in examples for role in roles)
            path.mkdir()
            text.save(path / "vocabulary.txt")

        key = ["vocabulary", kseq.data.code_fingerprint(), self.digest, *roles, json.dumps(text.get_config())]
        return text.load(kseq.data.cached_folder(data.cache, key, write) / "vocabulary.txt")

    def encoded(self, train):
        """The columns of the training examples, made or from the cache; what is cut off or left out is said."""
        data = self.config.data

        def make():
            counts = collections.Counter()
            examples = self.walk(train, data.train)
            return kseq.data.encoded(examples, lambda batch: self.encode(batch, counts)), self.notes(counts)

        key = [self.name, self.digest, self.fingerprint(), data.model_dump_json(), *self.encoding()]
        columns, notes = kseq.data.cached_columns(data.cache, key, make)
        for note in notes:
            print(note, flush=True)
        return columns

    def begin(self, start):
        """Gives a new model the weights that are not drawn."""
        if start:
            transfer.take_encoder(self.model, start)

    def load(self, weights):
        self.recall()
        self.check_fingerprints()
        self.model = self.build()
        kseq.checkpoints.load_variables(weights, self.model.weights)

    def examples(self, split):
        """`Examples` of "train", "dev" or "test", not yet read. Those held out share no text with what is left."""
        data = self.config.data
        fields = {role: field for role, field in data.fields.model_dump().items() if field}
        options = {"columns": data.columns, "quotes": data.quotes, "bad_bytes": data.bad_bytes}
        shares = data.shares()
        if split != "train" and split not in shares:
            examples = kseq.data.read(data.source, data.split(split), fields, **options)
        else:
            examples = kseq.data.read(data.source, data.train, fields, **options)
            if shares:
                rest, held_out = examples.hold_out(shares, seed=0, by=self.raw)
                examples = {"train": rest, **held_out}[split]
        return examples.first(getattr(data, f"{split}_count"))

    def scored(self, split):
        """(place, example) for each of "dev" or "test"."""
        if split == "dev":
            return self.dev
        return self.checked(split)

    @functools.cached_property
    def dev(self):
        """(place, example) for each of the dev split."""
        return self.checked("dev")

    def checked(self, split):
        """(place, example) for each of a split, all of which can be scored."""
        found = list(self.walk(self.examples(split), self.config.data.split(split) or split))
        if not found:
            raise self.nothing_held_out(split)
        for where, example in found:
            self.check(where, example)
        return found

    def nothing_held_out(self, split):
        """The error of a share that is too small."""
        key = {"dev": "holdout", "test": "test_holdout"}[split]
        return UserError(f"data.{key}={self.config.data.shares()[split]} leaves no example for {split}; raise it")

    def peek_test(self):
        """Opens the test split, where there is one, so that a wrong name is told before training."""
        if "test" in self.config.data.scored() and not any(True for _ in self.examples("test").first(1)):
            raise self.nothing_held_out("test")

    def some_of_dev(self):
        """Numbers of a few examples, evenly spread."""
        return range(0, len(self.dev), max(1, len(self.dev) // SHOWN))[:SHOWN]

    def walk(self, examples, title):
        """The examples, with a bar that shows how far."""
        return tqdm(examples, desc=f"{title} of {self.config.data.source}", unit=" examples", disable=None)

    def given(self, inputs):
        """Yields (place, text) for each input of the command line: a text, or `@file`, whose lines are texts."""
        for given in inputs:
            if given.startswith("@"):
                yield from kseq.data.read_lines(given[1:], self.config.data.bad_bytes)
            else:  # what the terminal gives may be no UTF-8
                yield given, given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def example(self):
        example = max((example for _, example in self.dev[:SHOWN]), key=lambda e: len(e[self.raw[0]]))
        return {role: example[role].encode() for role in self.raw}
