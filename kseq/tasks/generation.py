"""One way to write a sequence: what is read → encoder → decoder → sampler → text.

A task says what is read and drawn, its `Source`, and what scores.
"""

import abc
import functools
import math
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import kseq
from kseq import runs
from kseq.errors import MissingPackage, UserError
from kseq.tasks import pretrained
from kseq.tasks.requests import OK, text_status, without_refused
from kseq.tasks.task import (
    Task,
    adapted,
    by_length,
    bytes_of,
    defined,
    digest_of,
    encoded_texts,
    read_texts,
    text_of,
    uniform,
)

BATCH_SIZE = 64  # texts that are written in one batch
COMPARED = 32  # examples of dev whose answers a TFLite file must have

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class Read(NamedTuple):
    """What a `Source` makes of a batch of raw inputs."""

    inputs: object  # [batch, ...], what the encoder takes
    tokens: object = None  # string [batch, source], "" after the last; None when the source is no text
    oov_words: object = None  # string [batch, max_oov_words]: what can be copied; None when nothing can
    empty: object = None  # bool [batch], whether there is nothing to read; None when there always is
    status: object = None  # string [batch], as of `Task.answer`; None when all can be answered


class LiteParts(NamedTuple):
    """What a TFLite file is made of, and compared with."""

    function: object  # of one example of a fixed size → as of `kseq.lite.greedy`
    signature: object  # `tf.TensorSpec` of that example
    models: list  # whose weights it reads
    greedy: object  # of one such example → `Hypotheses` of `kseq.samplers.Greedy`
    examples: list  # such examples, of dev
    vocabularies: dict  # {file name: `TextPreprocessor`} of what turns texts into ids and back


class Source(abc.ABC):
    """What a text is written from: its examples, how they are read and drawn, and what encodes them.

    Args:
        config: of the task.
        workdir: folder of the run.

    Attributes:
        raw: name of the input.
        parts: the objects with tables that `read` uses.
    """

    raw: str

    def __init__(self, config, workdir):
        self.config = config
        self.workdir = workdir

    @property
    @abc.abstractmethod
    def parts(self):
        """The objects with tables that `read` uses."""

    @abc.abstractmethod
    def examples(self, split):
        """The examples of "train", "dev" or "test", not yet read."""

    @abc.abstractmethod
    def name_of(self, example, split, i):
        """What example i of a split is called."""

    @abc.abstractmethod
    def raw_of(self, example):
        """An example as `answers` takes it, {raw: str or bytes}."""

    @abc.abstractmethod
    def row_of(self, example):
        """What a row of `evaluate` has of the source: {"source": text}, or nothing when it is no text."""

    @abc.abstractmethod
    def texts_of(self, example):
        """List of the texts that would be right."""

    @abc.abstractmethod
    def adapt(self, train, start):
        """Makes what `read` and the target need of the training examples; returns the target's `TextPreprocessor`."""

    @abc.abstractmethod
    def restore(self):
        """Reads back what `adapt` wrote; returns the target's `TextPreprocessor`."""

    @abc.abstractmethod
    def encoder(self):
        """The encoder of the config, with new weights."""

    @property
    @abc.abstractmethod
    def encoder_input(self):
        """A batch of one that the encoder can be called on."""

    @abc.abstractmethod
    def columns(self, train, target, encoder):
        """{"source": …, "tokens": …} of the training examples, for `kseq.data.batches`."""

    @abc.abstractmethod
    def read(self, raw):
        """string `[batch]` → `Read` with a status, in TensorFlow alone. What is refused is read as something small."""

    @abc.abstractmethod
    def reader(self, examples, encoder):
        """A function from the places of some of a split's examples to `Read`, the lengths to sort the examples by, and
        the examples, without those that cannot be read where the config leaves these out.
        """

    @abc.abstractmethod
    def figure(self, example, record):
        """As of `Task.figure`."""

    @abc.abstractmethod
    def line(self, name, example, record):
        """As of `Task.line`."""

    def is_readable(self, example):
        """As of `Task.is_readable`."""
        return True

    @abc.abstractmethod
    def fixed(self, length):
        """`tf.TensorSpec` of what the encoder takes of one example of at most `length` steps; None is a default.

        Raises:
            UserError: there is no such length.
        """

    @abc.abstractmethod
    def vocabularies(self, target):
        """{file name: `TextPreprocessor`} of what reads and of the target."""


class Generation(Task):
    """Anything in, texts out. A subclass says what is read (and drawn) and what scores.

    Attributes:
        Source: subclass of `Source`.
        scores_tokens: whether texts are scored as tokens joined by spaces, not as a person writes them.
        target: `TextPreprocessor` of what is written, after `prepare` or `load`.
    """

    Source: type
    scores_tokens = False

    def __init__(self, config, workdir):
        super().__init__(config, workdir)
        self.source = self.Source(config, workdir)
        self.target = None

    @abc.abstractmethod
    def score(self, predictions, references):
        """{metric: number} of texts, each against a list of one or more references; `monitor` is among them unless
        `validate` is another.
        """

    @abc.abstractmethod
    def more_scores(self, examples, records, rows):
        """{metric: number or table}: what else `evaluate` reports."""

    @property
    def text(self):
        """What numbers the tokens that a text encoder reads."""
        return self.source.text

    # --- data

    def examples(self, split):
        return self.source.examples(split)

    def check(self, example):
        pass  # a text can always be compared with another

    def name_of(self, example, split, i):
        return self.source.name_of(example, split, i)

    def raw_of(self, example):
        return self.source.raw_of(example)

    def is_readable(self, example):
        return self.source.is_readable(example)

    # --- training

    def start(self):
        return pretrained.load_start(self.config)

    def adapt(self, train, start):
        self.target = self.source.adapt(train, start)

    def restore(self):
        self.target = self.source.restore()

    def fingerprints(self):
        return self.source.fingerprints(self.target)

    def build(self):
        encoder, one = self.source.encoder(), self.source.encoder_input
        return make_model(self.config.model, encoder, one, len(self.target.vocabulary))

    def encode(self, train):
        return self.source.columns(train, self.target, self.model.encoder)

    def set_initial_weights(self, start):
        if start:
            pretrained.take_encoder(self.model, start)
        if self.config.model.output_bias == "frequency":
            counts = self.columns["tokens"].counts(len(self.target.vocabulary))
            counts[kseq.preprocessors.START] = 0  # it is read, and never written
            self.model.initialize_output_bias(counts)

    def batches(self, epoch, share=None):
        batches, training = super().batches(epoch, share), self.config.training
        if not training.scheduled_sampling:
            return batches
        import tensorflow as tf

        def add(inputs, targets, weights):
            share = tf.numpy_function(lambda: np.float32(sampling_rate(training, epoch.epoch)), [], tf.float32)
            sampling = tf.fill([tf.shape(targets)[0]], tf.ensure_shape(share, []))
            return inputs | {"sampling": sampling}, targets, weights

        return batches.map(tf.autograph.experimental.do_not_convert(add))

    def make_batch(self, batch):
        import tensorflow as tf

        inputs, *rest = kseq.data.teacher_forced(batch)
        if len(inputs["source"].shape) > 2:  # pixels, features or frames, which are kept in few bytes
            inputs = inputs | {"source": tf.cast(inputs["source"], tf.float32)}
        return inputs, *rest

    def loss(self):
        return kseq.losses.TokenCrossentropy(self.config.training.label_smoothing)

    # --- answers

    @functools.cached_property
    def ensemble(self):
        """The runs of `sampler.ensemble`, with their weights."""
        return [self._member(folder) for folder in self.config.sampler.ensemble]

    def _member(self, folder):
        run = runs.load_task(folder, task=type(self))
        if run.fingerprint() != self.fingerprint():
            raise UserError(f"sampler.ensemble: {folder} has another vocabulary; runs that vote need the same")
        return run

    @property
    def max_n(self):
        """The width of the beam; None where texts are drawn at random."""
        return None if self.config.sampler.method == "random" else self.config.sampler.width

    @functools.cached_property
    def sampler(self):
        """Function of n → a `tf.function` from what the encoder takes to the n best `Hypotheses`."""
        return functools.cache(self._sampler)

    def _sampler(self, n):
        config = self.config.sampler
        if config.method == "random":
            options = {"temperature": config.temperature, "top_k": config.top_k, "top_p": config.top_p}
            sampler = kseq.samplers.Random(**options, n=max(n, config.n), seed=self.config.seed)
        elif n > self.max_n:
            raise UserError(f"{n} answers were asked for, and sampler.width is {config.width}; set it to {n} or more")
        elif config.width == 1:
            sampler = kseq.samplers.Greedy()
        else:
            penalties = {"length_penalty": config.length_penalty}
            penalties["coverage_penalty"] = getattr(config, "coverage_penalty", 0.0)
            sampler = kseq.samplers.Beam(config.width, **penalties, n_best=n)
        models = [self.decoded(model) for model in (self.model, *(run.model for run in self.ensemble))]
        return kseq.samplers.compiled(
            sampler,
            *together(models, self.source.encoder_input),
            start=kseq.preprocessors.START,
            end=kseq.preprocessors.END,
            max_length=self.target.max_length + 1,
            **self.constraints(),
        )

    def anew(self):
        made = super().anew()
        made.ensemble = self.ensemble  # as they were loaded, in the precision of this run
        return made

    def lite(self, length):
        """The `LiteParts` of the run. The file writes greedily, as with `sampler.width = 1`.

        Args:
            length: most tokens or frames of the source; None for `data.max_length`. Pictures have one size.

        Raises:
            UserError: the run has something that TFLite files do not do, or there is no such length.
        """
        import tensorflow as tf

        self._check_lite()
        spec, model = self.source.fixed(length), self.model
        options = {"start": kseq.preprocessors.START, "end": kseq.preprocessors.END}
        options["max_length"] = self.target.max_length + 1
        constraints = self.constraints()
        constrain = kseq.samplers.Constraints(**constraints)

        def encode(source):  # pixels come in bytes
            return model.encode(source if len(spec.shape) == 2 else tf.cast(source, tf.float32))

        def function(source):
            states, memory = encode(source)
            above = source if constrain.parallel else None
            limits = {name: options[name] for name in ("end", "max_length")}
            step, states = constrain(model.step, states, **limits, source=above)
            return kseq.lite.greedy(step, states, memory, **options)

        greedy = kseq.samplers.compiled(kseq.samplers.Greedy(), encode, model.step, **options, **constraints)
        return LiteParts(function, spec, [model], greedy, self._fixed(spec), self.source.vocabularies(self.target))

    def _check_lite(self):
        """Raises `UserError` where the run has something that TFLite files do not do."""
        config = self.config
        refused = {
            "sampler.method = random": config.sampler.method == "random",
            "sampler.ensemble": bool(config.sampler.ensemble),
            "sampler.required": bool(config.sampler.required),
            "sampler.replace_unknown": getattr(config.sampler, "replace_unknown", False),
            "sampler.ctc_weight": bool(getattr(config.sampler, "ctc_weight", 0)),
            "model.max_oov_words": bool(getattr(config.model, "max_oov_words", 0)),
            f"training.precision = {config.training.precision}": config.training.precision != "float32",
        }
        for name, given in refused.items():
            if given:
                raise UserError(f"a TFLite file cannot do what {name} asks for; use export")

    def _fixed(self, spec):
        """Examples of dev of a fixed size: each padded with zeros behind its last step, or cut off."""
        found, step = [], max(1, len(self.dev) // COMPARED)
        for example in filter(self.is_readable, self.dev[::step][:COMPARED]):
            inputs = self.source.read([self.request(self.raw_of(example))[self.source.raw]]).inputs.numpy()
            inputs = inputs[:, : spec.shape[1]]
            more = [(0, most - size) for size, most in zip(inputs.shape, spec.shape, strict=True)]
            found.append(np.pad(inputs, more).astype(spec.dtype.as_numpy_dtype))
        return found

    def decoded(self, model):
        """What the sampler is given of a model: an object with its `encode` and `step`."""
        return model

    def constraints(self):
        """The arguments of the sampler's `Constraints`."""
        config, words = self.config.sampler, kseq.preprocessors
        unknown = () if getattr(config, "replace_unknown", False) else (words.UNKNOWN,)
        forbidden = (words.PADDING, words.START, *unknown)
        return {"forbidden": forbidden, "min_length": config.min_length, "no_repeat": config.no_repeat}

    @functools.cached_property
    def required(self):
        """The ids of `sampler.required`, int `[1, phrases, length]`; None when there are none."""
        import tensorflow as tf

        phrases = list(self.config.sampler.required)
        if not phrases:
            return None
        with tf.init_scope():  # values, not symbols of the graph of an export that asks first
            ids = self.target.ids(tf.constant(phrases))
            padded = ids.to_tensor()[None]
        for phrase, row in zip(phrases, ids.to_list(), strict=True):
            if not row or kseq.preprocessors.UNKNOWN in row:
                raise UserError(
                    f"sampler.required has {phrase!r}, and the vocabulary of the run does not have its words"
                )
        return padded

    def write(self, read, n=1):
        """`Read` → texts, string `[batch, n]`, and their `Hypotheses`, best first.

        The text of an empty source is the empty text, and so is that of one that is refused, with a score of 0.
        """
        import tensorflow as tf

        required = {}
        if self.required is not None:
            required["required"] = tf.tile(self.required, [tf.shape(read.inputs)[0], 1, 1])
        found = self.sampler(n)(read.inputs, **required)
        if self.config.sampler.method == "random":  # in the order in which they were drawn
            best = tf.math.top_k(found.scores, n).indices
            found = type(found)(*(tf.gather(x, best, axis=1, batch_dims=1) for x in found))
        texts = []
        for k in range(n):
            replaced = ()
            if getattr(self.config.sampler, "replace_unknown", False):
                replaced = (read.tokens, found.alignments[:, k])
            texts.append(self.target.text(found.ids[:, k], *replaced, oov_words=read.oov_words))
        texts = tf.stack(texts, axis=1)
        texts = texts if read.empty is None else tf.where(read.empty[:, None], "", texts)
        if read.status is None:
            return texts, found
        kept = without_refused({"text": texts, "score": found.scores}, read.status)
        return kept["text"], found._replace(scores=kept["score"])

    def answer_part(self, *raw):
        read = self.source.read(*raw)
        text, found = self.write(read)
        return {"text": text[:, 0], "score": found.scores[:, 0], "status": read.status}

    def n_best_part(self, *raw):
        """With "tokens", string `[batch, n, time]`, "" behind the last, and "alignment", float32 `[batch, n, time,
        source]`, 0 there; time and source are those of the longest of the batch.
        """
        import tensorflow as tf

        config, read = self.config, self.source.read(*raw)
        drawn = config.sampler.method == "random"
        text, found = self.write(read, config.serving.n_best or (config.sampler.n if drawn else config.sampler.width))
        ids = found.ids[:, :, : tf.reduce_max(found.lengths)]
        alignment = found.alignments[:, :, : tf.reduce_max(found.lengths)]
        alignment = tf.where(ids[..., None] > kseq.preprocessors.END, alignment, 0.0)
        tokens = self.target.spelled(ids, oov_words=read.oov_words)
        found = {"text": text, "score": found.scores, "tokens": tokens, "alignment": alignment}
        return without_refused(found, read.status)

    def status(self, *raw):
        return self.source.read(*raw).status

    def parts(self):
        return [self.model, *(run.model for run in self.ensemble), *self.source.parts, self.target]

    def answers(self, examples, n=1):
        raw = [bytes_of(example[self.source.raw]) for example in examples]

        def read(rows):
            found = self.source.read([raw[i] for i in rows])
            for status in found.status.numpy():
                if status.decode() != OK:
                    raise UserError(status.decode())
            return found

        return self.records(read, [len(value) for value in raw], n)

    def records(self, read, lengths, n=1, title=None):
        """The records of `answers` for what `read(numbers of examples)` gives, those of similar length together."""
        records = [None] * len(lengths)
        bar = tqdm(total=len(lengths), desc=title, disable=None if title else True)
        for rows in by_length(lengths, BATCH_SIZE):
            batch = read(rows)
            texts, found = self.write(batch, n)
            texts, ids, scores, alignments = (x.numpy() for x in (texts, found.ids, found.scores, found.alignments))
            copied = None if batch.oov_words is None else batch.oov_words.numpy()
            for row, i in enumerate(rows):
                oov = () if copied is None else [word.decode() for word in copied[row]]
                records[i] = [
                    self._record(texts[row, k], scores[row, k], ids[row, k], alignments[row, k], oov) for k in range(n)
                ]
            bar.update(len(rows))
        bar.close()
        return records

    def _record(self, text, score, ids, alignment, oov):
        tokens = self.target.words(ids, oov)
        weights = alignment[: len(tokens)].copy() if np.any(alignment) else None
        return {"text": text.decode(), "score": float(score), "tokens": tokens, "alignment": weights}

    def answered(self, split):
        """The examples of a split, and the best record for each."""
        read, lengths, examples = self.source.reader(self.scored(split), self.model.encoder)
        return examples, [best for best, *_ in self.records(read, lengths, title=f"texts of {split}")]

    def figure(self, example, record):
        return self.source.figure(example, record)

    def line(self, name, example, record):
        return self.source.line(name, example, record)

    def scored_text(self, record):
        """The text of a record as it is scored."""
        return " ".join(record["tokens"]) if self.scores_tokens else record["text"]

    def references(self, examples):
        """For each example, its right texts as they are scored."""
        texts = [self.source.texts_of(example) for example in examples]
        if not self.scores_tokens:
            return texts
        return [[" ".join(words) for words in kseq.preprocessors.tokenize(group)] for group in texts]

    def validate(self):
        examples, records = self.answered("dev")
        predictions = [self.scored_text(record) for record in records]
        return {self.monitor: self.score(predictions, self.references(examples))[self.monitor]}

    def evaluate(self, split="dev"):
        examples, records = self.answered(split)
        references, rows = self.references(examples), []
        for i, (example, record, right) in enumerate(zip(examples, records, references, strict=True)):
            prediction = self.scored_text(record)
            row = {"id": self.name_of(example, split, i), **self.source.row_of(example)}
            row |= {"prediction": prediction, "score": record["score"]}
            rows.append(row | {"exact": prediction in [" ".join(text.split()) for text in right], "references": right})
        metrics = self.score([row["prediction"] for row in rows], references)
        metrics["exact_match"] = float(np.mean([row["exact"] for row in rows]))
        return defined(metrics | self.more_scores(examples, records, rows)), rows


class Texts(Source):
    """Pairs of texts: the source is read, the target is written.

    Attributes:
        held_out_by: the sides whose texts no two splits share.
        complete, incomplete: what pairs that a model is trained on have, and the others, in words.
    """

    raw = "source"
    held_out_by = ("source",)
    complete = "words on both sides"
    incomplete = "an empty side"

    @property
    def parts(self):
        return [self.text]

    def examples(self, split):
        return read_texts(self.config, split, self.held_out_by)

    def name_of(self, example, split, i):
        return f"{split}-{i:05d}"

    def raw_of(self, example):
        return {"source": example[1]["source"]}

    def row_of(self, example):
        return self.raw_of(example)

    def texts_of(self, example):
        return [example[1]["target"]]

    def _tokenizers(self):
        data = self.config.data
        kind = kseq.preprocessors.UNITS[data.unit]
        lower = {"source": data.lower_case != "none", "target": data.lower_case == "both"}
        return {side: kind(lower_case=case, normalize=data.normalize) for side, case in lower.items()}

    def adapt(self, train, start):
        data, made = self.config.data, kseq.preprocessors.TextPreprocessor
        sizes = {"source": data.vocabulary_size, "target": data.target_vocabulary_size or data.vocabulary_size}
        lengths = dict(zip(sizes, data.lengths(), strict=True))
        sides = {}
        for side, tokenizer in self._tokenizers().items():
            if start and side == "source":
                text = pretrained.words(start, lengths[side])
            elif data.shared and side == "target":
                text = sides["source"].with_max_length(lengths[side])
            else:
                text = made(lengths[side], tokenizer=tokenizer, max_tokens=sizes[side], min_count=data.min_count)
                text = adapted(text, train, tuple(sizes) if data.shared else (side,), data, self.digest)
            text.save(self.workdir / f"{side}_vocabulary.txt")
            sides[side] = text
        self.text = sides["source"]
        return sides["target"]

    def restore(self):
        self.text, target = (
            pretrained.read_words(self.workdir / f"{side}_vocabulary.txt", length, tokenizer)
            for (side, tokenizer), length in zip(self._tokenizers().items(), self.config.data.lengths(), strict=True)
        )
        return target

    def fingerprints(self, target):
        sides = {"source": self.text, "target": target}
        return {f"{side}_vocabulary.txt": text.fingerprint() for side, text in sides.items()}

    def encoder(self):
        model = self.config.model
        config = model.encoder
        layer = make_reader(config, config.cell or model.cell)
        encoder = kseq.models.TextEncoder(
            len(self.text.vocabulary),
            layer,
            embedding_size=model.embedding_size,
            embeddings_initializer=uniform(model.embedding_range),
            dropout=config.dropout,
        )
        encoder.trainable = config.trainable
        return encoder

    @property
    def encoder_input(self):
        return np.zeros((1, 1), "int32")

    def fixed(self, length):
        import tensorflow as tf

        most = self.config.data.lengths()[0]
        length = check_length(most if length is None else length, most, "data.max_length")
        return tf.TensorSpec([1, length], tf.int32, name="source")

    def vocabularies(self, target):
        return {"source_vocabulary.txt": self.text, "target_vocabulary.txt": target}

    def columns(self, train, target, encoder):
        most = str(self.config.model.max_oov_words)
        columns, counts = encoded_texts(
            self.config.data,
            ["pairs", self.digest, self.text.fingerprint(), target.fingerprint(), most],
            train,
            functools.partial(self.encode, target),
            functools.partial(restored_encode, type(self), self.config, self.workdir),
        )
        self.report(counts)
        return columns

    def encode(self, target, pairs):
        """List of (place, pair) → the columns of those that are complete, and how many there are of each kind."""
        import tensorflow as tf

        sources, targets = ([pair[side] for _, pair in pairs] for side in ("source", "target"))
        oov = self.oov_words(sources)
        source, tokens = self.text.ids(sources, oov), target.targets(targets, oov)
        words = tf.reduce_sum(tf.cast(tokens > kseq.preprocessors.END, tf.int32), axis=1)
        whole = self.is_complete(tf.cast(source.row_lengths(), tf.int32), words)
        complete = int(tf.reduce_sum(tf.cast(whole, tf.int32)))
        counts = {
            "pairs": complete,
            "incomplete": len(pairs) - complete,
            "sources": kseq.data.count_truncated(self.text, source, sources),
            "targets": kseq.data.count_truncated(target, tokens, targets),
        }
        columns = {"source": source, "tokens": tokens}
        return {name: tf.ragged.boolean_mask(x, whole) for name, x in columns.items()}, counts

    def is_complete(self, read, written):
        """Which pairs a model is trained on, from the number of tokens of both sides, int32 `[batch]`."""
        return (read > 0) & (written > 0)

    def report(self, counts):
        """Prints how many pairs are left out or cut off. Raises `UserError` where none is left."""
        data = self.config.data
        if not counts["pairs"]:
            raise UserError(f"{data.source}: no pair of {data.train} has {self.complete}")
        if counts["incomplete"]:
            print(f"pairs of {data.train} with {self.incomplete}, left out: {counts['incomplete']}", flush=True)
        for side, length in zip(("sources", "targets"), data.lengths(), strict=True):
            if counts[side]:
                without = ", without an end token" if side == "targets" else ""
                print(f"{side} of {data.train} cut off at {length} tokens{without}: {counts[side]}", flush=True)

    @functools.cached_property
    def digest(self):
        """Hash of the training examples, on which all that is cached depends."""
        return digest_of(self.config, self.held_out_by)

    def oov_words(self, texts):
        """The out-of-vocabulary words of each source that can be copied; None when none can."""
        most = self.config.model.max_oov_words
        return self.text.oov_words(texts, most) if most else None

    def read(self, raw):
        import tensorflow as tf

        status = self.status(raw)
        return self.encoded(tf.where(status == OK, raw, ""))._replace(status=status)

    def status(self, raw):
        """string `[batch]` → string `[batch]`, as of `Task.status`."""
        return text_status(raw, self.config.serving.max_characters)

    def encoded(self, raw):
        """string `[batch]` → `Read` without a status, however long the texts are."""
        import tensorflow as tf

        raw = tf.convert_to_tensor(raw, tf.string)
        oov = self.oov_words(raw)
        tokens, ids = self.text.tokens(raw), self.text.ids(raw, oov)
        shape = tf.stack([ids.nrows(), tf.maximum(ids.bounding_shape(1), 1)])  # attention needs a position
        tokens, ids = tokens.to_tensor(shape=shape), ids.to_tensor(shape=shape)
        return Read(ids, tokens, oov, tf.reduce_all(ids == 0, axis=1))

    def reader(self, examples, encoder):
        sources = [pair["source"] for _, pair in examples]
        return lambda rows: self.encoded([sources[i] for i in rows]), list(map(len, sources)), examples

    def figure(self, example, record):
        """Where each token looked, when the decoder attends at all."""
        if record["alignment"] is None or not record["tokens"]:
            return None
        tie = kseq.preprocessors.TIE
        [source] = self.text.tokens([text_of(example["source"])]).to_list()
        source, tokens = [token.decode().strip(tie) for token in source], [word.strip(tie) for word in record["tokens"]]
        return kseq.plots.text_alignment(source, tokens, record["alignment"], title=record["text"])

    def line(self, name, example, record):
        """The source, a tab, the text."""
        return f"{text_of(example['source']).replace(chr(9), ' ')}\t{record['text']}"


def restored_encode(source, config, workdir):
    """`Texts.encode` of a class, of what a run has in its workdir, for a process that encodes for it."""
    made = source(config, workdir)
    return functools.partial(made.encode, made.restore())


class Files(Source):
    """Files with their texts, such as pictures with captions.

    Attributes:
        vocabulary: name of the file of the vocabulary of the texts.
    """

    vocabulary: str

    @abc.abstractmethod
    def decode(self, files):
        """What is read of a list of files. Raises `UserError` when one cannot be read."""

    def name_of(self, example, split, i):
        return example.id

    def row_of(self, example):
        return {}

    def restore(self):
        target = kseq.preprocessors.TextPreprocessor.load(self.workdir / self.vocabulary)
        return target.with_max_length(self.config.data.max_length)

    def is_readable(self, example):
        try:
            self.decode([example])
        except UserError as error:
            if self.config.data.on_error == "stop" or isinstance(error, MissingPackage):
                raise
            return False
        return True

    @abc.abstractmethod
    def readable(self, raw):
        """string `[batch]` → what the encoder takes, and string `[batch]`: empty, or what is wrong with a file."""

    def vocabularies(self, target):
        return {self.vocabulary: target}

    @functools.cached_property
    def graph(self):
        """`readable` as a `tf.function`."""
        import tensorflow as tf

        return tf.function(self.readable, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

    def read(self, raw):
        import tensorflow as tf

        inputs, said = self.graph(tf.convert_to_tensor(raw, tf.string))
        return Read(inputs, status=tf.where(said == "", OK, said))

    def line(self, name, example, record):
        return f"{name}: {record['text']}"


def check_length(length, most, key):
    """Returns the length of a source of a TFLite file if it is a whole number of 1 to `most`; `UserError` if not."""
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= most:
        raise UserError(f"length must be a whole number of 1 to {most}, which {key} allows; it is {length!r}")
    return length


def make_reader(config, cell):
    """The recurrent layer of an encoder, of a config with its units, layers and directions, that returns its states."""
    layers = []
    for k in range(config.layers):
        layer = kseq.layers.Recurrent(
            kseq.layers.CELLS[cell](config.units), return_state=True, dropout=config.dropout if k else 0.0
        )
        layers.append(kseq.layers.Bidirectional(layer) if config.bidirectional else layer)
    return kseq.layers.Stack(layers, residual=config.residual) if config.layers > 1 else layers[0]


def make_model(config, encoder, one, target_size):
    """The `Seq2Seq` of a `DecoderConfig`, with new weights.

    Args:
        config: `DecoderConfig`.
        encoder: layer from a source to `Encoded`.
        one: a source of one that the encoder can be called on.
        target_size: tokens that can be written.

    Raises:
        UserError: the parts do not fit each other.
    """
    try:
        decoder = make_decoder(config)
        bridge = make_bridge(config, decoder.cell.state_size)
        # One after the other, so that the part that does not fit says so itself, and not a model around it.
        encoded = encoder(one)
        aligned = getattr(config, "aligned", False)
        depth = config.embedding_size + aligned * encoded.memory.shape[-1]
        embedded = np.zeros((1, 1, depth), "float32")
        decoder(embedded, encoded.memory, encoded.memory_mask, bridge(encoded.state))
        model = kseq.models.Seq2Seq(
            encoder,
            bridge,
            decoder,
            target_size,
            embedding_size=config.embedding_size,
            embeddings_initializer=uniform(config.embedding_range),
            dropout=config.dropout,
            alignment_penalty=config.alignment_penalty,
            alignment_supervision=getattr(config, "alignment_supervision", 0.0),
            max_oov_words=getattr(config, "max_oov_words", 0),
            aligned=aligned,
            ctc_weight=getattr(config, "ctc_weight", 0.0),
        )
    except ValueError as error:
        raise UserError(f"model: {error}") from None
    model({"source": one, "tokens": np.zeros((1, 1), "int32")})
    return model


def make_decoder(config):
    """The decoder of a `DecoderConfig`, with new weights."""
    cells = [kseq.layers.CELLS[config.cell](config.units) for _ in range(config.layers)]
    cell = kseq.layers.StackedCell(cells, residual=config.residual) if config.layers > 1 else cells[0]
    if config.decoder == "fixed":
        return kseq.layers.DECODERS["fixed"](cell)
    options = dict(config.attention_options)
    # Options that a task has keys of its own for, with other defaults than the mechanism's.
    for name, option, key in (("coverage", "weight", "coverage_weight"), ("location", "kernel_size", "location_width")):
        if config.attention == name and option not in options and hasattr(config, key):
            options[option] = getattr(config, key)
    attention = kseq.layers.make_attention(config.attention, config.attention_units, **options)
    names = {"bahdanau": ("gate", "deep_output"), "luong": ("input_feeding",)}[config.decoder]
    if config.decoder == "bahdanau" and config.deep_output:
        names += ("readout_dropout",)
    return kseq.layers.DECODERS[config.decoder](cell, attention, **{name: getattr(config, name) for name in names})


def make_bridge(config, state_size):
    """The bridge of a `DecoderConfig` to states of these sizes."""
    bridge = kseq.layers.BRIDGES[config.bridge]
    if config.bridge != "copy":
        return bridge(state_size)
    encoder = config.encoder
    reads = len(kseq.layers.CELLS[encoder.cell or config.cell](1).state_size)
    makes = len(state_size) // config.layers
    return bridge(state_size, reads=reads, makes=makes, directions=2 if encoder.bidirectional else 1)


def together(models, one):
    """(encode, step) of one model, or of an ensemble of several."""
    [first, *others] = models
    if not others:
        return first.encode, first.step
    counts = [len(model.encode(one)[0]) for model in models]

    def encode(source):
        found = [model.encode(source) for model in models]
        return [state for states, _ in found for state in states], [memory for _, memory in found]

    return encode, kseq.samplers.ensemble([model.step for model in models], counts)


def sampling_rate(training, epoch):
    """The probability of scheduled sampling (Bengio et al., 2015, https://arxiv.org/abs/1506.03099) in an epoch."""
    done = epoch / max(training.epochs - 1, 1)
    share = {"constant": 1.0, "linear": done, "sigmoid": 1 / (1 + math.exp(-10 * (done - 0.5)))}
    return training.scheduled_sampling * share[training.sampling_schedule]
