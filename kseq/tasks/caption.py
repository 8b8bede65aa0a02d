"""Captions for pictures: Show, Attend and Tell (Xu et al., 2015, https://arxiv.org/abs/1502.03044).

python -m kseq.tasks.caption --help
"""

import functools
import itertools
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from tqdm import tqdm

import kseq
from kseq.config import Config
from kseq.errors import UserError
from kseq.tasks.common.schema import OwnRate, SamplerConfig, SplitsConfig, TrainingConfig
from kseq.tasks.task import Task

VOCABULARY = "vocabulary.txt"
SHOWN = 4  # pictures of the dev split that `predict` shows when it is given none

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class DataConfig(SplitsConfig):
    """Which pictures and captions, and how they are read."""

    source: str = "toy:shapes"
    fields: dict[str, str] = Field({"image": "image", "caption": "caption"})
    mirror: bool = Field(False, description="train also on mirrored pictures, without captions that say left or right")
    on_error: Literal["stop", "skip"] = "stop"
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field("stop", description="what becomes of a line not in UTF-8")
    image_size: int = Field(64, ge=32, le=1024)
    max_length: int = Field(20, ge=1, le=200, description="words of a caption; the rest is cut off")
    vocabulary_size: int = Field(10_000, ge=5)
    min_count: int = Field(1, ge=1)
    buckets: int = Field(3, ge=1, le=20)
    cache: str = "runs/cache"


class EncoderConfig(OwnRate):
    """What sees the pictures."""

    backbone: str = "small"
    weights: str = ""
    trainable: str = "all"
    units: int = Field(128, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class ModelConfig(Config):
    """What reads the memory and writes the words."""

    cell: Literal["rnn", "lstm", "gru", "peephole", "layer_norm_lstm", "layer_norm_gru"] = "lstm"
    decoder: Literal["bahdanau", "luong", "fixed"] = "bahdanau"
    attention: Literal["bahdanau", "normalized", "concat", "coverage", "luong", "dot"] = "bahdanau"
    units: int = Field(128, ge=1)
    attention_units: int = Field(128, ge=1)
    embedding_size: int = Field(64, ge=1)
    embedding_spread: float = Field(0.05, gt=0, description="the numbers of a word begin between minus this and this")
    gate: bool = True
    deep_output: bool = True
    readout_dropout: float = Field(
        0.0, ge=0, lt=1, description="fraction of the steps in training whose deep output does not see the state"
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    alignment_penalty: float = Field(0.0, ge=0)
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _penalty_needs_attention(self):
        if self.decoder == "fixed" and self.alignment_penalty:
            raise ValueError("alignment_penalty asks attention to look everywhere; the fixed decoder has none")
        return self

    @model_validator(mode="after")
    def _readout_dropout_needs_a_deep_output(self):
        if self.readout_dropout and not (self.decoder == "bahdanau" and self.deep_output):
            raise ValueError("readout_dropout is of the bahdanau decoder with deep_output = true; set it to 0")
        return self


class CaptionConfig(Config):
    """One captioning experiment."""

    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: SamplerConfig = SamplerConfig(width=3)


class Caption(Task):
    """Pictures in, sentences out."""

    name = "caption"
    Config = CaptionConfig
    monitor = "bleu_4"
    raw = ("image",)

    def prepare(self):
        data = self.config.data
        kseq.data.require_splits(data.source, data.fields, data.own_splits())
        self.train_pictures = self.pictures("train")
        if "test" in data.scored():
            self.pictures("test")  # a wrong name is told before training
        if (self.workdir / kseq.checkpoints.PROGRESS).exists():
            self.recall()
        else:
            self.learn()
        self.model = self.build()

    def learn(self):
        """Makes the vocabulary of the training captions."""
        data = self.config.data
        self.text = kseq.preprocessors.TextPreprocessor(
            data.max_length, max_tokens=data.vocabulary_size, min_count=data.min_count
        )
        self.text.adapt(caption for picture in self.train_pictures for caption in picture.captions)
        self.text.save(self.workdir / VOCABULARY)
        self.keep_fingerprints()

    def recall(self):
        """Reads the vocabulary that `learn` wrote."""
        text = kseq.preprocessors.TextPreprocessor.load(self.workdir / VOCABULARY)
        self.text = text.with_max_length(self.config.data.max_length)
        self.check_fingerprints()

    def fingerprints(self):
        return {VOCABULARY: self.text.fingerprint()}

    def load(self, weights):
        self.recall()
        self.model = self.build()
        kseq.checkpoints.load_variables(weights, self.model.weights)

    def build(self):
        """The model of the config, with new weights."""
        import keras

        config, size = self.config.model, self.config.data.image_size
        encoder, self.image = config.encoder, kseq.preprocessors.ImagePreprocessor(size)
        try:
            backbone = kseq.models.make_backbone(
                encoder.backbone, size=size, weights=encoder.weights or None, trainable=encoder.trainable
            )
        except ValueError as error:
            raise UserError(f"model.encoder: {error}{kseq.data.fetch_hint(encoder.backbone)}") from None
        decoder = self.decoder()
        model = kseq.models.Seq2Seq(
            kseq.models.ImageEncoder(backbone, encoder.units, dropout=encoder.dropout),
            kseq.layers.DenseBridge(decoder.cell.state_size),
            decoder,
            len(self.text.vocabulary),
            embedding_size=config.embedding_size,
            embeddings_initializer=keras.initializers.RandomUniform(-config.embedding_spread, config.embedding_spread),
            dropout=config.dropout,
            alignment_penalty=config.alignment_penalty,
        )
        model({"source": np.zeros((1, size, size, 3), "float32"), "tokens": np.zeros((1, 1), "int32")})
        return model

    def decoder(self):
        """The decoder of the config, with new weights."""
        config = self.config.model
        cell = kseq.layers.CELLS[config.cell](config.units)
        if config.decoder == "fixed":
            return kseq.layers.FixedContextDecoder(cell)
        sized = [] if config.attention in ("luong", "dot") else [config.attention_units]
        attention = kseq.layers.ATTENTIONS[config.attention](*sized)
        names = ("gate", "deep_output", "readout_dropout") if config.decoder == "bahdanau" else ()
        extras = {name: getattr(config, name) for name in names}
        return kseq.layers.DECODERS[config.decoder](cell, attention, **extras)

    def pictures(self, split):
        """The pictures of "train", "dev" or "test", not yet read."""
        data, shares = self.config.data, self.config.data.shares()
        held_out = split in shares or (split == "train" and shares)
        count = getattr(data, f"{split}_count")
        pictures = kseq.data.read_pictures(
            data.source,
            data.train if held_out else data.split(split),
            fields=data.fields,
            count=0 if held_out else count,
            size=data.image_size,
            seed=self.config.seed,
            bad_bytes=data.bad_bytes,
        )
        if held_out:
            rest, held_out = kseq.data.hold_out_pictures(pictures, shares, seed=0)
            pictures = {"train": rest, **held_out}[split][: count or None]
        return pictures

    def sources(self, pictures, split):
        """What the model takes of each picture, and the pictures that have it; computed once, then read from disk.

        That is the features where the backbone is frozen, else the pixels.
        """
        encoder = self.config.model.encoder
        key, compute, title = [f"upright pixels {self.config.data.image_size}"], self.image.decode, f"pixels of {split}"
        if encoder.trainable == "none":
            key += [encoder.backbone, kseq.models.fingerprint(self.model.encoder.backbone)]
            compute, title = self.features, f"features of {split}"
        folder, skip = Path(self.config.data.cache), self.config.data.on_error == "skip"
        return kseq.data.cached_rows(folder, key, pictures, compute, title=title, skip=skip)

    def features(self, pictures):
        """float16 `[n, regions, d]` of the frozen backbone."""
        grid = self.model.encoder.backbone.predict_on_batch(self.image.decode(pictures).astype("float32"))
        return grid.reshape(len(grid), -1, grid.shape[-1]).astype("float16")

    def batches(self, epoch):
        import tensorflow as tf

        training, pictures = self.config.training, self.train_pictures
        if self.config.data.mirror:
            pictures = [*pictures, *(mirrored for p in pictures if (mirrored := p.mirror()).captions)]
        sources, pictures = self.sources(pictures, "train")
        pairs = [(row, caption) for row, picture in enumerate(pictures) for caption in picture.captions]
        rows, captions = zip(*pairs, strict=True)
        columns = {"source": kseq.data.Rows(sources, np.array(rows)), **self.encoded(captions)}

        def make(batch):
            inputs, *rest = kseq.data.teacher_forced(batch)
            return inputs | {"source": tf.cast(inputs["source"], tf.float32)}, *rest

        return kseq.data.batches(
            columns,
            make,
            batch_size=training.batch_size,
            buckets=self.config.data.buckets,
            seed=self.config.seed,
            epoch=epoch,
            full=training.xla,
        )

    def encoded(self, captions):
        """The column of the captions' tokens, made or from the cache; how many are cut off is said."""
        data, words = self.config.data, kseq.preprocessors

        def make():
            columns = kseq.data.encoded(captions, lambda texts: {"tokens": self.text.targets(texts)})
            tokens = columns["tokens"]
            cut = int(np.sum(tokens.ids[tokens.splits[1:] - 1] != words.END))
            long = f"{cut} captions of {data.train} have more than {data.max_length} words"
            return columns, [f"{long}; the rest is cut off, and they teach no end"] if cut else []

        key = [self.name, kseq.data.fingerprint(captions), self.text.fingerprint(), str(data.max_length)]
        columns, notes = kseq.data.cached_columns(data.cache, key, make)
        for note in notes:
            print(note, flush=True)
        return columns

    def loss(self):
        return kseq.losses.TokenCrossentropy(self.config.training.label_smoothing)

    def scored(self, split):
        """(sources, pictures) of "dev" or "test"."""
        return self.dev if split == "dev" else self.sources(self.pictures(split), split)

    @functools.cached_property
    def dev(self):
        """(sources, pictures) of the dev split."""
        return self.sources(self.pictures("dev"), "dev")

    @functools.cached_property
    def best(self):
        """The sampler of the config."""
        config = self.config.sampler
        if config.width == 1:
            return self.generator(kseq.samplers.Greedy())
        return self.generator(kseq.samplers.Beam(config.width, length_penalty=config.length_penalty))

    def generator(self, sampler):
        """A `tf.function` from what the model takes of pictures to `Hypotheses`."""
        words = kseq.preprocessors
        return kseq.samplers.compiled(
            sampler,
            self.model.encode,
            self.model.step,
            start=words.START,
            end=words.END,
            max_length=self.config.data.max_length + 1,
            forbidden=(words.PADDING, words.START, words.UNKNOWN),
        )

    def generate(self, sampler, sources, title):
        """The words, scores and alignments of the first hypothesis for each picture."""
        size = 100
        parts = []
        for first in tqdm(range(0, len(sources), size), desc=title, unit_scale=size, unit=" pictures", disable=None):
            found = sampler(np.asarray(sources[first : first + size], "float32"))
            parts.append([np.asarray(x[:, 0]) for x in (found.ids, found.scores, found.alignments)])
        ids, scores, alignments = (np.concatenate(x) for x in zip(*parts, strict=True))
        return [self.text.words(row) for row in ids], scores, alignments

    def validate(self):
        sources, pictures = self.dev
        words, _, _ = self.generate(self.best, sources, "captions of dev")
        return {"bleu_4": kseq.metrics.bleu([" ".join(text) for text in words], references_of(pictures))["bleu_4"]}

    def evaluate(self, split="dev"):
        sources, pictures = self.scored(split)
        words, scores, alignments = self.generate(self.best, sources, f"captions of {split}")
        texts, every = [" ".join(text) for text in words], references_of(pictures)
        metrics = kseq.metrics.bleu(texts, every)
        metrics["exact_match"] = kseq.metrics.exact_match(texts, every)
        boxes = [picture.boxes for picture in pictures]
        if any(map(len, boxes)) and np.any(alignments):
            toy = kseq.data.toy
            metrics["pointing"] = kseq.metrics.pointing(words, alignments, boxes, toy.NOUNS, toy.MODIFIERS)
            metrics["pointing_noun"] = kseq.metrics.pointing(words, alignments, boxes, toy.NOUNS)
        rows = [
            {
                "id": p.id,
                "prediction": text,
                "score": float(score),
                "exact": text in references,
                "references": references,
            }
            for p, text, score, references in zip(pictures, texts, scores, every, strict=True)
        ]
        return metrics, rows

    def answer(self, image):
        found = self.best(self.image.features(image))
        return {"text": self.text.text(found.ids[:, 0]), "score": found.scores[:, 0]}

    def parts(self):
        return [self.model, self.text, self.image]

    def predict(self, inputs, folder):
        pictures = [kseq.data.picture_file(path) for path in inputs]
        if not pictures:
            _, known = self.dev
            pictures = known[:: max(1, len(known) // SHOWN)][:SHOWN]
        names = set()
        for picture in pictures:
            pixels = self.image.decode([picture])
            found = self.best(pixels.astype("float32"))
            words, looks = self.text.words(np.asarray(found.ids)[0, 0]), np.asarray(found.alignments)[0, 0]
            text = self.text.text(found.ids[0, 0]).numpy().decode()
            phrases = kseq.metrics.noun_phrases(words, kseq.data.toy.NOUNS, kseq.data.toy.MODIFIERS)
            objects = [(*phrase, box) for phrase, box in zip(phrases, picture.boxes, strict=False)]
            figure = kseq.plots.picture_alignment(pixels[0], words, looks, title=text, objects=objects)
            name = own_name(Path(picture.id).stem, names)
            kseq.plots.save(figure, folder / f"{name}.png")
            yield f"{picture.id}: {text}"

    def example(self):
        return {"image": self.dev[1][0].read()}


def references_of(pictures):
    """For each picture, its captions in the tokens that are scored."""
    return [[" ".join(words) for words in kseq.preprocessors.tokenize(p.captions)] for p in pictures]


def own_name(name, taken):
    """A name that is not among `taken`, to which it is added: `name`, or that with a number behind it."""
    names = (name if i == 1 else f"{name}-{i}" for i in itertools.count(1))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Caption)
