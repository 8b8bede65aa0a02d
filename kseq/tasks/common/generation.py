"""What the tasks share that write one text of another: from two texts a line to answers in words."""

import abc
import functools
import itertools

import numpy as np
from tqdm import tqdm

import kseq
from kseq.errors import UserError
from kseq.tasks.common import transfer
from kseq.tasks.common.text_model import make_model
from kseq.tasks.common.text_task import TextTask

DRAWN = 20  # inputs whose alignment `predict` draws; of a long file the first
GENERATED = 64  # texts that are written at once

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class Generation(TextTask):
    """Texts in, texts out. A subclass says how they are scored."""

    raw = ("source",)

    @abc.abstractmethod
    def score(self, predictions, references):
        """{metric: number} of texts, each held against one reference; `monitor` among them."""

    def build(self):
        return make_model(self.config.model, len(self.source.vocabulary), len(self.target.vocabulary))

    def begin(self, start):
        super().begin(start)
        counts = self.columns["tokens"].counts(len(self.target.vocabulary))
        counts[kseq.preprocessors.START] = 0  # it is read, and never said
        self.model.initialize_output_bias(counts)

    def tokenizers(self):
        """What parts the texts of each side."""
        data = self.config.data
        kind = kseq.preprocessors.UNITS[data.unit]
        lower = {"source": data.lower_case != "none", "target": data.lower_case == "both"}
        return {side: kind(lower_case=case, normalize=data.normalize) for side, case in lower.items()}

    @property
    def text(self):
        """What numbers the words that are read."""
        return self.source

    def check(self, where, example):
        pass  # two texts can always be held against each other

    def learn(self, train, start):
        data, made = self.config.data, kseq.preprocessors.TextPreprocessor
        sizes = {"source": data.vocabulary_size, "target": data.target_vocabulary_size or data.vocabulary_size}
        lengths = dict(zip(sizes, data.lengths(), strict=True))
        for side, tokenizer in self.tokenizers().items():
            if start and side == "source":
                text = transfer.words(start, lengths[side])
            elif data.shared and side == "target":
                text = self.source.with_max_length(lengths[side])
            else:
                text = made(lengths[side], tokenizer=tokenizer, max_tokens=sizes[side], min_count=data.min_count)
                text = self.adapted(text, train, tuple(sizes) if data.shared else (side,))
            text.save(self.workdir / f"{side}_vocabulary.txt")
            setattr(self, side, text)

    def recall(self):
        for (side, tokenizer), length in zip(self.tokenizers().items(), self.config.data.lengths(), strict=True):
            setattr(self, side, transfer.read_words(self.workdir / f"{side}_vocabulary.txt", length, tokenizer))

    def fingerprints(self):
        return {f"{side}_vocabulary.txt": getattr(self, side).fingerprint() for side in ("source", "target")}

    def encode(self, examples, counts):
        """The columns of the pairs that have words on both sides."""
        import tensorflow as tf

        sources, targets = ([pair[side] for _, pair in examples] for side in ("source", "target"))
        oov = self.oov_words(sources)
        source, tokens = self.source.ids(sources, oov), self.target.targets(targets, oov)
        said = tf.reduce_sum(tf.cast(tokens > kseq.preprocessors.END, tf.int32), axis=1)
        whole = (source.row_lengths() > 0) & (said > 0)
        counts["pairs"] += int(tf.reduce_sum(tf.cast(whole, tf.int32)))
        counts["empty"] += len(examples) - int(tf.reduce_sum(tf.cast(whole, tf.int32)))
        counts["sources"] += kseq.data.count_truncated(self.source, source, sources)
        counts["targets"] += kseq.data.count_truncated(self.target, tokens, targets)
        return {name: tf.ragged.boolean_mask(x, whole) for name, x in {"source": source, "tokens": tokens}.items()}

    def encoding(self):
        return [str(self.config.model.copies)]

    def notes(self, counts):
        data, found = self.config.data, []
        if not counts["pairs"]:
            raise UserError(f"{data.source}: no pair of {data.train} has words on both sides")
        if counts["empty"]:
            found.append(f"{counts['empty']} pairs of {data.train} have an empty side and are left out")
        for side, length in zip(("sources", "targets"), data.lengths(), strict=True):
            if counts[side]:
                rest = "the rest is cut off" + (", and they teach no end" if side == "targets" else "")
                found.append(f"{counts[side]} {side} of {data.train} have more than {length} tokens; {rest}")
        return found

    def oov_words(self, texts):
        """The out-of-vocabulary words of each source, string `[batch, copies]`; None where none are copied."""
        copies = self.config.model.copies
        return self.source.oov_words(texts, copies) if copies else None

    def batches(self, epoch):
        training = self.config.training
        return kseq.data.batches(
            self.columns,
            kseq.data.teacher_forced,
            batch_size=training.batch_size,
            buckets=self.config.data.buckets,
            seed=self.config.seed,
            epoch=epoch,
            full=training.xla,
        )

    def loss(self):
        return kseq.losses.TokenCrossentropy(self.config.training.label_smoothing)

    @functools.cached_property
    def best(self):
        """A `tf.function` from ids of sources to `Hypotheses`, by the sampler of the config."""
        config, words = self.config.sampler, kseq.preprocessors
        unknown = () if config.replace_unknown else (words.UNKNOWN,)
        penalties = {"length_penalty": config.length_penalty, "coverage_penalty": config.coverage_penalty}
        return kseq.samplers.compiled(
            kseq.samplers.Greedy() if config.width == 1 else kseq.samplers.Beam(config.width, **penalties),
            self.model.encode,
            self.model.step,
            start=words.START,
            end=words.END,
            max_length=self.config.data.lengths()[1] + 1,
            forbidden=(words.PADDING, words.START, *unknown),
            min_length=config.min_length,
            no_repeat=config.no_repeat,
        )

    def write(self, texts):
        """string `[batch]` → texts, `Hypotheses`, and the tokens of the sources, string `[batch, source]`.

        What is written of a text without tokens is the empty text.
        """
        import tensorflow as tf

        oov = self.oov_words(texts)
        tokens, ids = self.source.tokens(texts), self.source.ids(texts, oov)
        shape = tf.stack([ids.nrows(), tf.maximum(ids.bounding_shape(1), 1)])  # attention looks at one place at least
        tokens, ids = tokens.to_tensor(shape=shape), ids.to_tensor(shape=shape)
        found = self.best(ids)
        replaced = (tokens, found.alignments[:, 0]) if self.config.sampler.replace_unknown else ()
        written = self.target.text(found.ids[:, 0], *replaced, oov_words=oov)
        return tf.where(tf.reduce_any(ids != 0, axis=1), written, ""), found, tokens

    def answer(self, source):
        text, found, _ = self.write(source)
        return {"text": text, "score": found.scores[:, 0]}

    def parts(self):
        return [self.model, self.source, self.target]

    def generate(self, texts, title):
        """(text, score) for each of a list of texts; those of one length are written together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        answers = [None] * len(texts)
        for first in tqdm(range(0, len(texts), GENERATED), desc=title, unit_scale=GENERATED, disable=None):
            rows = order[first : first + GENERATED]
            found = self.answer([texts[i] for i in rows])
            for i, text, score in zip(rows, found["text"].numpy(), found["score"].numpy(), strict=True):
                answers[i] = text.decode(), float(score)
        return answers

    def validate(self):
        answers = self.generate([pair["source"] for _, pair in self.dev], "texts of dev")
        references = [pair["target"] for _, pair in self.dev]
        return {self.monitor: self.score([text for text, _ in answers], references)[self.monitor]}

    def evaluate(self, split="dev"):
        pairs = [pair for _, pair in self.scored(split)]
        answers = self.generate([pair["source"] for pair in pairs], f"texts of {split}")
        rows = [
            {
                "id": f"{split}-{i:05d}",
                "source": pair["source"],
                "prediction": text,
                "score": score,
                "exact": text == " ".join(pair["target"].split()),
                "references": [pair["target"]],
            }
            for i, (pair, (text, score)) in enumerate(zip(pairs, answers, strict=True))
        ]
        metrics = self.score([text for text, _ in answers], [pair["target"] for pair in pairs])
        return metrics | {"exact_match": float(np.mean([row["exact"] for row in rows]))}, rows

    def predict(self, inputs, folder):
        named = self.inputs(inputs)
        for first in itertools.count(step=GENERATED):
            batch = list(itertools.islice(named, GENERATED))
            if not batch:
                return
            sources = [text for _, text in batch]
            oov, (texts, found, tokens) = self.oov_words(sources), self.write(sources)
            for i, (name, text) in enumerate(batch):
                written = texts[i].numpy().decode()
                if first + i < DRAWN:
                    copied = () if oov is None else [word.decode() for word in oov[i].numpy()]
                    words = self.target.words(found.ids[i, 0].numpy(), copied)
                    self.draw(folder / f"{name}.png", tokens[i], words, found.alignments[i, 0], written)
                source = text.replace("\t", " ")
                yield f"{source}\t{written}"

    def inputs(self, inputs):
        """Yields (name, text) of what the command line gives, or of some examples of dev."""
        if inputs:
            yield from ((f"{number:05d}", text) for number, (_, text) in enumerate(self.given(inputs), 1))
        else:
            yield from ((f"dev-{i:05d}", self.dev[i][1]["source"]) for i in self.some_of_dev())

    def draw(self, path, tokens, words, alignment, title):
        """Draws where each word looked, if the decoder looks anywhere."""
        tie = kseq.preprocessors.TIE
        source = [token.decode().strip(tie) for token in tokens.numpy() if token]
        words = [word.strip(tie) for word in words]
        if words and np.any(alignment):
            figure = kseq.plots.text_alignment(source, words, alignment.numpy(), title=title)
            kseq.plots.save(figure, path)
