"""Captions for pictures: Show, Attend and Tell (Xu et al., 2015, https://arxiv.org/abs/1502.03044).

python -m kseq.tasks.caption --help
"""

import functools
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

import kseq
from kseq.config import Config
from kseq.errors import UserError
from kseq.tasks.generation import Files, Generation, Read
from kseq.tasks.schema import (
    Cell,
    DecoderConfig,
    EncoderRateConfig,
    FileServingConfig,
    GenerationTrainingConfig,
    SamplerConfig,
    SplitsConfig,
)
from kseq.tasks.task import read_listed, target_tokens

VOCABULARY = "vocabulary.txt"

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class DataConfig(SplitsConfig):
    """Which pictures and captions, and how they are read."""

    source: str = Field("toy:shapes", description="toy:shapes, tsv:FILE or tfds:NAME; see docs/text.md")
    fields: dict[str, str] = Field(
        {"image": "image", "caption": "caption"},
        description="columns or features of the source: image, caption, and split if there is one",
    )
    mirror: bool = Field(False, description="train also on mirrored pictures, without captions that say left or right")
    on_error: Literal["stop", "skip"] = Field("stop", description="what happens at a picture that cannot be read")
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field("stop", description="what becomes of a line not in UTF-8")
    image_size: int = Field(
        64, ge=32, le=1024, description="side of the square that pictures are resized to, in pixels"
    )
    max_length: int = Field(20, ge=1, le=200, description="most words of a caption; the rest is cut off")
    vocabulary_size: int = Field(10_000, ge=5, description="most words of the vocabulary")
    min_count: int = Field(1, ge=1, description="words that occur less often in training are unknown")
    buckets: int = Field(3, ge=1, le=20, description="groups of similar length that batches are made of")
    cache: str = Field("runs/cache", description="folder for the pixels or features of the pictures")


class EncoderConfig(EncoderRateConfig):
    """The encoder of the pictures."""

    backbone: str = Field("small", description="small, a class of keras.applications, or a .keras file")
    weights: str = Field("", description="for a class of keras.applications: imagenet or a file; if empty, random")
    trainable: str = Field("all", description="all, none, or the name of the first layer to train")
    units: int = Field(128, ge=1, description="size of the vector of a region")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the features of the regions")


class ModelConfig(DecoderConfig):
    """An encoder of pictures and a decoder."""

    cell: Cell = Field("lstm", description="recurrent cell of the decoder")
    gate: bool = Field(True, description="for bahdanau: a gate that scales the context, as in Show, Attend and Tell")
    readout_dropout: float = Field(
        0.5, ge=0, lt=1, description="for deep_output: probability in training that a step's output ignores the state"
    )
    alignment_supervision: float = Field(
        0.0, ge=0, description="weight of the loss of attention that misses the boxes of the objects; needs boxes"
    )
    embedding_range: float = Field(0.05, gt=0, description="word vectors are initialized uniformly in [-x, x]")
    bridge: Literal["dense", "zero"] = Field("dense", description="how the encoder's state starts the decoder")
    output_bias: Literal["zero", "frequency"] = Field(
        "zero", description="start from equal probabilities, or from how often training has each word"
    )
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _supervision_fits(self):
        if self.decoder == "fixed" and self.alignment_supervision:
            raise ValueError("alignment_supervision teaches the attention; the fixed decoder has none")
        return self


class ServingConfig(FileServingConfig):
    """What the exported model answers; see Serving in README.md."""

    max_bytes: int = Field(20_000_000, ge=1, description="most bytes of a file; a larger one is refused")
    max_pixels: int = Field(
        25_000_000, ge=1, le=2**26, description="most pixels of a picture; a larger one is refused before it is decoded"
    )


class CaptionConfig(Config):
    """One captioning experiment."""

    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: GenerationTrainingConfig = GenerationTrainingConfig()
    sampler: SamplerConfig = SamplerConfig(width=3)
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _boxes_are_known(self):
        if self.model.alignment_supervision and self.data.source != "toy:shapes":
            raise ValueError(
                "model.alignment_supervision needs the boxes of the objects, which only toy:shapes has; set it to 0 "
                f"for {self.data.source}"
            )
        return self

    @model_validator(mode="after")
    def _sampler_fits(self):
        longest = self.data.max_length + 1
        if self.sampler.min_length > longest:
            raise ValueError(f"sampler.min_length is {self.sampler.min_length}, and no text has more than {longest}")
        return self


class Pictures(Files):
    """Pictures with their captions."""

    raw = "image"
    vocabulary = VOCABULARY

    @functools.cached_property
    def image(self):
        """What decodes picture files."""
        return kseq.preprocessors.ImagePreprocessor(self.config.data.image_size)

    @property
    def parts(self):
        return [self.image]

    def examples(self, split):
        data = self.config.data

        def read(split, count):
            options = {"fields": data.fields, "size": data.image_size, "bad_bytes": data.bad_bytes}
            return kseq.data.read_pictures(data.source, split, count=count, seed=self.config.seed, **options)

        return read_listed(self.config, split, read, "pictures")

    def decode(self, files):
        return self.image.decode(files)

    def raw_of(self, example):
        return {"image": example.read(), "id": example.id, "boxes": example.boxes}

    def texts_of(self, example):
        return example.captions

    def adapt(self, train, start):
        data = self.config.data
        captions = [caption for picture in train for caption in picture.captions]
        options = {"max_tokens": data.vocabulary_size, "min_count": data.min_count}
        target = kseq.preprocessors.TextPreprocessor(data.max_length, **options)
        target.adapt(captions)
        target.save(self.workdir / VOCABULARY)
        return target

    def fingerprints(self, target):
        return {VOCABULARY: target.fingerprint()}

    def encoder(self):
        config = self.config.model.encoder
        options = {"weights": config.weights or None, "trainable": config.trainable}
        try:
            backbone = kseq.models.make_backbone(config.backbone, size=self.config.data.image_size, **options)
        except ValueError as error:
            raise UserError(f"model.encoder: {error}{kseq.data.fetch_hint(config.backbone)}") from None
        return kseq.models.ImageEncoder(backbone, config.units, dropout=config.dropout)

    @property
    def encoder_input(self):
        size = self.config.data.image_size
        return np.zeros((1, size, size, 3), "float32")

    def fixed(self, length):
        import tensorflow as tf

        size = self.config.data.image_size
        if length is not None:
            raise UserError(f"pictures have one size, data.image_size, which is {size}; length is not for them")
        return tf.TensorSpec([1, size, size, 3], tf.uint8, name="image")

    def columns(self, train, target, encoder):
        if self.config.data.mirror:
            train = [*train, *(mirrored for p in train if (mirrored := p.mirror()).captions)]
        inputs, pictures = self.inputs(train, encoder, "train")
        pairs = [(row, caption) for row, picture in enumerate(pictures) for caption in picture.captions]
        rows, captions = zip(*pairs, strict=True)
        columns = {"source": kseq.data.Rows(inputs, np.array(rows))}
        columns |= target_tokens(self.config.data, captions, target, "captions")
        if self.config.model.alignment_supervision:
            columns |= boxes_of_words([pictures[row] for row in rows], captions, columns["tokens"])
        return columns

    def inputs(self, pictures, encoder, split):
        """What the encoder takes of each picture, and the pictures that have it; computed once, then read from disk.

        That is the features when the backbone is frozen, otherwise the pixels.
        """
        config = self.config.model.encoder
        key, compute, title = [f"upright pixels {self.config.data.image_size}"], self.image.decode, f"pixels of {split}"
        if config.trainable == "none" and not self.config.sampler.ensemble:

            def features(pictures):
                grid = encoder.backbone.predict_on_batch(self.image.decode(pictures).astype("float32"))
                return grid.reshape(len(grid), -1, grid.shape[-1]).astype("float16")

            key += [config.backbone, kseq.models.fingerprint(encoder.backbone)]
            compute, title = features, f"features of {split}"
        folder, skip = Path(self.config.data.cache), self.config.data.on_error == "skip"
        return kseq.data.cached_rows(folder, key, pictures, compute, title=title, skip=skip)

    def readable(self, raw):
        serving = self.config.serving
        return self.image.readable(raw, max_bytes=serving.max_bytes, max_pixels=serving.max_pixels)

    def reader(self, examples, encoder):
        inputs, pictures = self.inputs(examples, encoder, "the pictures that are scored")
        return lambda rows: Read(np.asarray(inputs[rows], "float32")), [0] * len(inputs), pictures

    def figure(self, example, record):
        """The picture once for each word, lighter where the word's attention lies."""
        [pixels] = self.image.features([example["image"]]).numpy()
        words, weights = record["tokens"], record["alignment"]
        weights = np.zeros((len(words), 1)) if weights is None else weights
        phrases = kseq.metrics.noun_phrases(words, kseq.data.toy.NOUNS, kseq.data.toy.MODIFIERS)
        objects = [(*phrase, box) for phrase, box in zip(phrases, example.get("boxes", ()), strict=False)]
        return kseq.plots.picture_alignment(pixels, words, weights, title=record["text"], objects=objects)


def boxes_of_words(pictures, captions, tokens):
    """Which object each word names, and where the objects are: two columns for `kseq.data.batches`.

    Args:
        pictures: of each caption, whose k-th box is that of the k-th noun phrase of the caption.
        captions: list of strings.
        tokens: `Sequences` of their tokens, from the start token on.

    Returns:
        {"objects": `Sequences` beside `tokens`, k + 1 for a word of the k-th noun phrase and 0 for any other token;
        "boxes": float32 `[captions, objects + 1, 4]`, the k-th box in row k + 1, and 0 in row 0}.
    """
    objects = np.zeros_like(tokens.ids)
    boxes = np.zeros((len(captions), max(len(picture.boxes) for picture in pictures) + 1, 4), np.float32)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        boxes[i, 1 : len(picture.boxes) + 1] = picture.boxes
        own = objects[tokens.splits[i] + 1 : tokens.splits[i + 1]]  # the start token names nothing
        phrases = kseq.metrics.noun_phrases(caption.split(), kseq.data.toy.NOUNS, kseq.data.toy.MODIFIERS)
        for k, (first, end) in enumerate(phrases[: len(picture.boxes)]):
            own[first:end] = k + 1
    return {"objects": kseq.data.Sequences(objects, tokens.splits), "boxes": boxes}


def relevant_regions(objects, boxes, regions):
    """The regions whose centre is inside the box of the object that a word names.

    Args:
        objects: int `[batch, time]`, rows of `boxes`.
        boxes: float `[batch, objects, 4]`: top, left, bottom, right as fractions of the picture.
        regions: number of regions, of a square grid row by row.

    Returns:
        bool `[batch, time, regions]`.
    """
    import tensorflow as tf

    side = round(regions**0.5)
    centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
    y, x = (tf.reshape(axis, [-1]) for axis in tf.meshgrid(centres, centres, indexing="ij"))
    top, left, bottom, right = tf.unstack(tf.gather(boxes, objects, batch_dims=1)[..., None], axis=2)
    return (top <= y) & (y <= bottom) & (left <= x) & (x <= right)


class Caption(Generation):
    """Pictures in, sentences out."""

    name = "caption"
    Config = CaptionConfig
    Source = Pictures
    monitor = "bleu_4"
    raw = ("image",)
    paths = True
    scores_tokens = True

    def make_batch(self, batch):
        inputs, *rest = super().make_batch(batch)
        if "objects" in batch:
            _, rows, columns, _ = self.model.encoder.backbone.output_shape
            objects = batch["objects"][:, 1:]
            inputs = inputs | {"relevant": relevant_regions(objects, batch["boxes"], rows * columns)}
        return inputs, *rest

    def score(self, predictions, references):
        return kseq.metrics.bleu(predictions, references)

    def more_scores(self, examples, records, rows):
        boxes, looks = [picture.boxes for picture in examples], [record["alignment"] for record in records]
        if not any(map(len, boxes)) or all(look is None for look in looks):
            return {}
        toy, words = kseq.data.toy, [record["tokens"] for record in records]
        looks = [np.zeros((0, 1)) if look is None else look for look in looks]
        return {
            "pointing": kseq.metrics.pointing(words, looks, boxes, toy.NOUNS, toy.MODIFIERS),
            "pointing_noun": kseq.metrics.pointing(words, looks, boxes, toy.NOUNS),
        }


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Caption)
