"""What every task answers: the contract between a task and the program, `kseq.load` and the export."""

import abc
import functools
import hashlib
import itertools
import json
import math
from pathlib import Path

from tqdm import tqdm

import kseq
from kseq.checkpoints import PROGRESS
from kseq.errors import UserError
from kseq.files import write_json
from kseq.tasks.requests import OK, in_parts
from kseq.tasks.schema import SplitsConfig

FINGERPRINTS = "fingerprints.json"
SHOWN = 4  # examples of the dev split that are predicted when no input is given
DRAWN = 20  # inputs whose attention is drawn: the first ones of a long file
READ = {*SplitsConfig.model_fields, "fields", "columns", "quotes", "bad_bytes"}  # keys that say how files are read
ON_PAGE = 100  # inputs that a page shows

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class Task(abc.ABC):
    """A model, its data and its vocabulary, from raw inputs to raw answers. It knows nothing of flags.

    Args:
        config: of the task's `Config`, already valid.
        workdir: `Path` of the folder of the run.

    Attributes:
        name: of the task, its configs and its card.
        monitor: the metric that decides which weights are best; larger is better.
        raw: names of the inputs of `answer`.
        paths: whether an input is the content of a file, so that a str given for it is a path.
        drawn: what `predict` draws, in words.
        max_n: the most answers to one example; None where there is no limit.
        model: `keras.Model`, after `prepare` or `load`.
        changes: the `key=value` that a finished run was loaded with.
    """

    name: str
    Config: type
    monitor: str
    raw: tuple[str, ...]
    paths = False
    drawn = "pictures of the attention"
    max_n: int | None = None

    def __init__(self, config, workdir):
        self.config = config
        self.workdir = workdir
        self.model = None
        self.changes = ()

    # --- data

    @abc.abstractmethod
    def examples(self, split):
        """The examples of "train", "dev" or "test", not yet read; what is held out of train is taken out of it."""

    @abc.abstractmethod
    def check(self, example):
        """Raises `UserError` when an example cannot be scored."""

    @functools.cached_property
    def dev(self):
        """The examples of the dev split."""
        return self.scored("dev")

    def scored(self, split):
        """The examples of "dev" or "test", all of which can be scored."""
        if split == "dev" and "dev" in vars(self):
            return self.dev
        found = list(self.examples(split))
        if not found:
            raise self._nothing_held_out(split)
        for example in found:
            self.check(example)
        return found

    def _nothing_held_out(self, split):
        key = {"dev": "holdout", "test": "test_holdout"}[split]
        return UserError(f"data.{key}={self.config.data.shares()[split]} leaves no example for {split}; raise it")

    def some_of_dev(self):
        """A few examples of the dev split that can be answered, evenly spaced: list of (name, example)."""
        step, chosen = max(1, len(self.dev) // SHOWN), []
        for first in range(0, len(self.dev), step)[:SHOWN]:
            places = range(first, min(first + step, len(self.dev)))
            chosen += itertools.islice((i for i in places if self.is_readable(self.dev[i])), 1)
        return [(self.name_of(self.dev[i], "dev", i), self.raw_of(self.dev[i])) for i in chosen]

    def is_readable(self, example):
        """Whether an example can be answered; false for one that the config leaves out."""
        return True

    @abc.abstractmethod
    def name_of(self, example, split, i):
        """What example i of a split is called."""

    @abc.abstractmethod
    def raw_of(self, example):
        """An example as `answers` takes it, {raw name: str or bytes}."""

    def example(self):
        """One raw input, {raw name: bytes}, to ask an exported model."""
        return self.request(max((example for _, example in self.some_of_dev()), key=lambda e: len(e[self.raw[0]])))

    def request(self, example):
        """The inputs of a raw example as an exported model takes them, {raw name: bytes}."""
        return {name: bytes_of(example[name]) for name in self.raw}

    # --- training

    def prepare(self, devices=None):
        """Reads the training data, writes to the workdir what serving needs of them, and builds the model.

        In a run that goes on, it is read back from the workdir.

        Args:
            devices: `kseq.training.Devices` that the model is trained on. The chief writes, the other workers wait and
                read what it has written; all have its weights.

        Raises:
            UserError: the data or the files of the run cannot be used, or the workers do not see the same folder.
        """
        devices = devices or kseq.training.ONE_DEVICE
        again = (self.workdir / PROGRESS).exists()
        start = None if again or not devices.chief else self.start()
        data = self.config.data
        kseq.data.require_splits(data.source, data.named_fields(), data.own_splits())
        train = self.examples("train")
        if devices.chief:
            self.check_held_out()  # what is wrong with it is said before training
        if devices.chief and not again:
            self.adapt(train, start)
            self.keep_fingerprints()
        devices.wait()
        if again or not devices.chief:
            self.restore()
            self.check_fingerprints()
        with devices.scope():
            self.model = self.build()
        if devices.chief:  # the others find it in the cache
            self.columns = self.encode(train)
        devices.wait()
        if not devices.chief:
            self.columns = self.encode(train)
        self.check_same(devices)
        if not again and devices.chief:
            self.set_initial_weights(start)
        devices.share_weights(self.model.weights)

    def check_held_out(self):
        """Raises `UserError` where the examples of dev or test cannot be scored."""
        _ = self.dev
        if "test" in self.config.data.scored() and not any(True for _ in self.examples("test")):
            raise self._nothing_held_out("test")

    def check_same(self, devices):
        """Raises `UserError` unless all workers have the same config, vocabularies and number of examples."""
        mine = hashed(
            [self.config.model_dump(mode="json"), self.fingerprints(), len(next(iter(self.columns.values())))]
        )
        mine = int(mine[:12], 16)
        if devices.from_chief(mine) != mine:
            raise UserError(
                f"worker {devices.worker.number} has another config, other data or other files in {self.workdir} than "
                "worker 0; all need the same command, and folders that they share"
            )

    def load(self, weights):
        """Builds the model from what `prepare` wrote, with the weights in a file."""
        self.restore()
        self.check_fingerprints()
        self.model = self.build()
        kseq.checkpoints.load_variables(weights, self.model.weights)

    @abc.abstractmethod
    def start(self):
        """The `pretrained.Start` of a new run; None when its encoder is new."""

    @abc.abstractmethod
    def adapt(self, train, start):
        """Makes the vocabularies and tables of the training examples, and writes them to the workdir."""

    @abc.abstractmethod
    def restore(self):
        """Reads what `adapt` wrote. Raises `UserError` when a file is missing or damaged."""

    @abc.abstractmethod
    def build(self):
        """The model of the config, with new weights."""

    @abc.abstractmethod
    def encode(self, train):
        """The training examples as columns of `kseq.data.batches`."""

    @abc.abstractmethod
    def make_batch(self, batch):
        """A batch of these columns → (inputs, targets, sample weights)."""

    @abc.abstractmethod
    def set_initial_weights(self, start):
        """Gives a new model the weights that are not drawn at random."""

    def batches(self, epoch, share=None):
        """`tf.data.Dataset` of one training epoch; `epoch` is the `kseq.data.SetEpoch` that `fit` calls.

        With a `kseq.data.Share` it has those parts of each batch.
        """
        training = self.config.training
        return kseq.data.batches(
            self.columns,
            self.make_batch,
            batch_size=training.batch_size,
            buckets=self.config.data.buckets,
            seed=self.config.seed,
            epoch=epoch,
            full=training.xla,
            share=share or kseq.data.Share(),
        )

    @abc.abstractmethod
    def loss(self):
        """`keras.losses.Loss`, or {output: loss} for a model of several outputs."""

    @abc.abstractmethod
    def validate(self):
        """{metric: number} of the answers to the dev split, `monitor` among them."""

    # --- answers

    @abc.abstractmethod
    def evaluate(self, split="dev"):
        """(metrics, list of rows, one for each example) of "dev" or "test".

        A metric is a number, or a {name: number} that stands in the metrics file alone; one that is undefined for the
        split, as the F1 of spans where there are none, is missing. A row has "id", "prediction",
        "score", "references", a list of right answers, and "exact", whether the prediction is one of them; "source",
        when the input is text; and what else the task knows.
        """

    def shown(self, row):
        """The prediction and a reference of a row of `evaluate`, as a person reads them."""
        return row["prediction"], row["references"][0]

    def answer(self, *raw):
        """Strings `[batch]` of each input → {"text": string `[batch]`, "score": float32 `[batch]`, "status": string
        `[batch]`, …}: what a SavedModel serves.

        The status is "ok", or a sentence that says why there is no answer; the text is then empty and the score 0. No
        row has an influence on another.

        Raises:
            tf.errors.InvalidArgumentError: the inputs are not equally many.
        """
        return self._answers(*raw)

    @functools.cached_property
    def _answers(self):
        return in_parts(self.answer_part, self.raw, **self.part_limits())

    def part_limits(self):
        """The arguments of `requests.in_parts` that say how many examples are answered at once."""
        return {"size": self.config.serving.batch_size}

    @abc.abstractmethod
    def answer_part(self, *raw):
        """`answer` for a batch that is small enough to be answered at once."""

    def n_best(self, *raw):
        """Strings `[batch]` of each input → the best answers to each: {"text": string `[batch, n]`, "score": float32
        `[batch, n]`, "status": string `[batch]`, …}, what a SavedModel serves under `nbest`.
        """
        return self._n_best(*raw)

    @functools.cached_property
    def _n_best(self):
        return in_parts(self.n_best_part, self.raw, **self.part_limits())

    @abc.abstractmethod
    def n_best_part(self, *raw):
        """`n_best` for a batch that is small enough to be answered at once."""

    @abc.abstractmethod
    def status(self, *raw):
        """Strings `[batch]` of each input → string `[batch]`, the status that `answer` has."""

    @abc.abstractmethod
    def answers(self, examples, n=1):
        """The n best answers to each of a list of {raw name: str or bytes}, by the function that `answer` serves.

        Returns:
            for each example a list of records, best first: {"text": …, "score": …, "tokens": list of str, "alignment":
            array of the attention weights, …}.

        Raises:
            UserError: the config's sampler cannot give n answers.
        """

    def opened(self, example):
        """A raw example as a user gives it, {raw name: str or bytes} → as `answers` takes it.

        Raises:
            UserError: it cannot be read.
        """
        return example

    def check_input(self, name, example):
        """Raises `UserError` when the raw input of that name cannot be answered."""
        [status] = self.status(*([value] for value in self.request(example).values())).numpy()
        if status.decode() != OK:
            raise UserError(f"{name}: {status.decode()}")

    @abc.abstractmethod
    def figure(self, example, record):
        """A matplotlib figure of the attention behind a record of `answers`; None when there is none."""

    def beside(self, example, record):
        """{suffix: bytes} of the files that stand beside the figure of a record."""
        return {}

    def pages(self, records):
        """{file name: HTML} of pages that show many answers at once."""
        return {}

    @abc.abstractmethod
    def line(self, name, example, record):
        """The line of text that `--mode=predict` prints for a record."""

    def predict(self, examples, folder):
        """Yields (name, example, best record) for each (name, example), and draws the attention into `folder`."""
        drawn, shown = set(), []
        for batch in batched(examples):
            found = self.answers([example for _, example in batch])
            for (name, example), [record, *_] in zip(batch, found, strict=True):
                figure = self.figure(example, record) if len(drawn) < DRAWN else None
                if figure is not None:
                    stem = unused(Path(name).stem, drawn)
                    kseq.plots.save(figure, folder / f"{stem}.png")
                    for suffix, content in self.beside(example, record).items():
                        kseq.files.write_bytes(folder / f"{stem}{suffix}", content)
                if len(shown) < ON_PAGE:
                    shown.append(record)
                yield name, example, record
        for name, page in self.pages(shown).items():
            kseq.files.write_text(folder / name, page)

    def ask(self, example):
        """`answer` for one raw example, {raw name: bytes}, as plain values."""
        answers = self.answer(*([example[name]] for name in self.raw))
        text, status = (answers[name][0].numpy().decode() for name in ("text", "status"))
        return {"text": text, "score": float(answers["score"][0]), "status": status}

    @abc.abstractmethod
    def parts(self):
        """The objects with weights or tables that `answer` uses."""

    @property
    def models(self):
        """The models among `parts`."""
        import keras

        return [part for part in self.parts() if isinstance(part, keras.Model)]

    def round_weights(self):
        """Rounds the weights as `serving.weights` stores them: the task then answers as its export does."""
        if self.config.serving.weights != "float32":
            kseq.quantization.round_weights(self.models, self.config.serving.weights)

    def rounded(self):
        """`round_weights` until the end of the block."""
        return kseq.quantization.rounded(self.models, self.config.serving.weights)

    def anew(self):
        """The same task around the same models, none of whose graphs have been built."""
        made = type(self)(self.config, self.workdir)
        made.restore()
        made.model = self.model
        return made

    def lite(self, length):
        """What the TFLite file of the model is made of, as `Generation.lite` has it.

        Raises:
            UserError: the task has none.
        """
        raise UserError(f"TFLite files are for tasks that write a text, and {self.name} is not one; use export")

    # --- what a run must not lose

    @abc.abstractmethod
    def fingerprints(self):
        """{file that `adapt` wrote: hash of all that decides what its ids or labels mean}."""

    def fingerprint(self):
        """A string that changes when an id or a label would mean something else."""
        return hashed(self.fingerprints())

    def keep_fingerprints(self):
        """Writes the fingerprints of a new run."""
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


def hashed(value):
    """SHA-256 of what JSON can write."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def defined(metrics):
    """The metrics that have a value: JSON has no NaN."""
    return {name: value for name, value in metrics.items() if isinstance(value, dict) or not math.isnan(value)}


def batched(items, size=64):
    """Lists of at most `size` of them."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def by_length(lengths, size):
    """The places of examples in lists of at most `size`, those of similar length together."""
    return batched(sorted(range(len(lengths)), key=lambda i: lengths[i]), size)


def unused(name, taken):
    """`name`, or `name-2`, `name-3`, …, whichever is not among `taken` yet; it is added to them."""
    names = (name if i == 1 else f"{name}-{i}" for i in itertools.count(1))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def text_fields(data):
    """{role: field} of those that the source has."""
    return {role: field for role, field in data.fields.model_dump().items() if field}


def read_texts(config, split, raw):
    """`Examples` of texts of "train", "dev" or "test", pairs (place, {role: text}).

    Those held out share no text of the roles `raw` with those that are left.
    """
    data, fields = config.data, text_fields(config.data)
    options = {"columns": data.columns, "quotes": data.quotes, "bad_bytes": data.bad_bytes}
    shares = data.shares()
    if split != "train" and split not in shares:
        examples = kseq.data.read(data.source, data.split(split), fields, **options)
    else:
        examples = kseq.data.read(data.source, data.train, fields, **options)
        if shares:
            rest, held_out = examples.hold_out(shares, seed=0, by=raw)
            examples = {"train": rest, **held_out}[split]
    return examples.first(getattr(data, f"{split}_count"))


def read_listed(config, split, read, kind, **options):
    """The items of "train", "dev" or "test", of `kind`, as "pictures", by `read(split of the source, count)`.

    `options` are those of `kseq.data.hold_out_listed`.
    """
    data, shares = config.data, config.data.shares()
    held_out = split in shares or (split == "train" and shares)
    count = getattr(data, f"{split}_count")
    items = read(data.train if held_out else data.split(split), 0 if held_out else count)
    if held_out:
        rest, parts = kseq.data.hold_out_listed(items, shares, seed=0, kind=kind, **options)
        items = {"train": rest, **parts}[split][: count or None]
    return items


def target_tokens(data, texts, target, kind):
    """The column of the tokens of texts of `kind`, as "captions", made or from the cache.

    Args:
        data: the part of the config.
        texts: list.
        target: `TextPreprocessor`.
        kind: what the texts are called.
    """

    def make():
        columns = kseq.data.encoded(texts, lambda some: {"tokens": target.targets(some)})
        tokens = columns["tokens"]
        cut = int((tokens.ids[tokens.splits[1:] - 1] != kseq.preprocessors.END).sum())
        long = f"{kind} of {data.train} cut off at {data.max_length} words, without an end token: {cut}"
        return columns, [long] if cut else []

    key = [kind, kseq.data.fingerprint(texts), target.fingerprint(), str(data.max_length)]
    return cached(data, key, make)


def progress(examples, title):
    """The examples, with a progress bar."""
    return tqdm(examples, desc=title, unit=" examples", disable=None)


def digest_of(config, raw):
    """Hash of all that the training examples depend on: of the files and of how they are read, or of the examples."""
    data = config.data
    files = kseq.data.source_files(data.source, data.train, text_fields(data))
    if not files:
        walk = progress(read_texts(config, "train", raw), f"{data.train} of {data.source}, read for changes,")
        return kseq.data.fingerprint(example for _, example in walk)
    how = data.model_dump(mode="json", include=READ)
    return hashed([data.source.partition(":")[0], how, raw, [kseq.files.sha256(file) for file in files]])


def options_of(data):
    """The part of a config on texts, without the keys on which the texts and their ids do not depend."""
    return data.model_dump_json(exclude={"cache", "processes"})


def encoded_texts(data, key, train, encode, worker):
    """The columns of the training examples of texts and what is counted, as of `kseq.data.cached_shards`."""
    walk = kseq.data.Examples(lambda: iter(progress(train, f"{data.train} of {data.source}")))
    options = {"processes": data.processes, "worker": worker}
    return kseq.data.cached_shards(data.cache, [*key, options_of(data)], walk, encode, **options)


def adapted(text, train, roles, data, digest):
    """A `TextPreprocessor` with the vocabulary of the training texts of some roles, made or from the cache."""

    def write(path):
        examples = progress(train, f"vocabulary of {' and '.join(roles)}")
        text.adapt((example[role] for _, example in examples for role in roles), count_all)
        path.mkdir()
        text.save(path / "vocabulary.txt")

    def count_all(count, batches):
        tokenizer = text.tokenizer
        worker = functools.partial(counter, type(tokenizer), tokenizer.get_config())
        jobs = ((None, batch) for batch in batches)
        return (counts for _, counts in kseq.data.in_processes(jobs, count, data.processes, worker))

    key = ["vocabulary", kseq.data.code_fingerprint(), digest, *roles, json.dumps(text.get_config())]
    return text.load(kseq.data.cached_folder(data.cache, key, write) / "vocabulary.txt")


def counter(tokenizer, config):
    """What counts the tokens of texts, for a process that does so for another."""
    return tokenizer.from_config(config).count


def cached(data, key, make):
    """The columns of `make()`, or from the cache, with a line for each of its notes."""
    columns, notes = kseq.data.cached_columns(data.cache, key, make)
    for note in notes:
        print(note, flush=True)
    return columns


def bytes_of(value):
    """A raw text or content, str or bytes, as bytes."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def text_of(value):
    """A raw text, str or bytes, as str."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def uniform(limit):
    """The initializer of `embedding_range`: uniform in [-limit, limit]."""
    import keras

    return keras.initializers.RandomUniform(-limit, limit)
