"""The encoder of the tasks whose answers are labels: its config, and its making."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

import kseq
from kseq.config import Config
from kseq.errors import UserError
from kseq.tasks.common.schema import ReaderConfig, StartConfig

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed.


class EncoderConfig(Config):
    """What reads the words."""

    cell: Literal["rnn", "lstm", "gru", "peephole", "layer_norm_lstm", "layer_norm_gru"] = "lstm"
    units: int = Field(64, ge=1, description="of each direction")
    layers: int = Field(1, ge=1, le=16)
    bidirectional: bool = True
    residual: bool = False
    embedding_size: int = Field(64, ge=1)
    embedding_spread: float = Field(0.05, gt=0, description="the numbers of a word begin between minus this and this")
    vectors: str = Field("", description="text file of GloVe or word2vec, for the words that it has")
    vector_words: int = Field(
        0, ge=0, description="so many of the first words of `vectors` are known, whether training has them or not"
    )
    train_vectors: bool = Field(True, description="false leaves all words as they are before training")
    embedding_dropout: float = Field(0.0, ge=0, lt=1)
    word_dropout: float = Field(0.0, ge=0, lt=1, description="share of the words that are dropped whole")
    recurrent_dropout: float = Field(0.0, ge=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1, description="between layers and before the labels")
    encoder: StartConfig = StartConfig()

    @model_validator(mode="after")
    def _one_start(self):
        if self.vectors and self.encoder.start:
            raise ValueError(f"vectors are for new words; those of the encoder of {self.encoder.start} have theirs")
        if self.vector_words and not self.vectors:
            raise ValueError(f"vector_words = {self.vector_words} are the first words of `vectors`, and there are none")
        return self


class ModelConfig(EncoderConfig):
    """What reads the words, and what is taken of all of them."""

    pooling: Literal["attention", "mean", "max", "last"] = "attention"
    attention_units: int = Field(64, ge=1)


class LabelConfig(ReaderConfig):
    """An experiment whose answers are labels."""

    reads: ClassVar = {
        "unit": "data.unit",
        "lower_case": "data.lower_case",
        "normalize": "data.normalize",
        "vocabulary_size": "data.vocabulary_size",
        "cell": "model.cell",
        "units": "model.units",
        "layers": "model.layers",
        "bidirectional": "model.bidirectional",
        "residual": "model.residual",
        "embedding_size": "model.embedding_size",
    }

    @model_validator(mode="after")
    def _words_have_vectors(self):
        if self.model.vector_words and self.data.unit not in ("caption", "space", "word"):
            raise ValueError(f"model.vector_words needs data.unit = word, space or caption, it is {self.data.unit}")
        return self

    def idle(self):
        return ("data.min_count", "model.embedding_spread")


class OneLabelConfig(LabelConfig):
    """The same for tasks whose encoder may be a pretrained one.

    `own` are the keys of the encoders of kseq alone.
    """

    reads: ClassVar = LabelConfig.reads | {"pretrained": "model.encoder.pretrained"}
    own: ClassVar = (
        *LabelConfig.reads.values(),
        "model.train_vectors",
        "model.embedding_dropout",
        "model.word_dropout",
        "model.recurrent_dropout",
    )

    def idle(self):
        encoder = self.model.encoder
        # What is taken over of another run may be given too: it is compared.
        taken = self.reads.values() if encoder.from_ else ()
        own = (key for key in self.own if key not in taken) if encoder.preset else ()
        return (*own, *super().idle())


def make_layer(config):
    """The recurrent layer of an `EncoderConfig`, with new weights."""
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
    """The `TextEncoder` of an `EncoderConfig`, for so many words, with new weights."""
    import keras

    encoder = kseq.models.TextEncoder(
        size,
        make_layer(config),
        embedding_size=config.embedding_size,
        embeddings_initializer=keras.initializers.RandomUniform(-config.embedding_spread, config.embedding_spread),
        dropout=config.embedding_dropout,
        word_dropout=config.word_dropout,
    )
    encoder.embedding.trainable = config.train_vectors
    if not config.encoder.trainable:
        encoder.trainable = False
    return encoder


def with_words(config, text):
    """A `TextPreprocessor` that knows the words of `model.vector_words` too, where there are any to know."""
    if not config.vector_words:
        return text
    known = {word.strip(kseq.preprocessors.TIE) for word in text.vocabulary}
    words = kseq.data.first_words(config.vectors, config.embedding_size, config.vector_words)
    more = [word for word in dict.fromkeys(words) if word not in known]
    return text.from_config(text.get_config() | {"vocabulary": [*text.vocabulary, *more]})


def take_vectors(config, embedding, vocabulary):
    """Puts the vectors of `model.vectors` in place of those of the words that it has."""
    words = [word.strip(kseq.preprocessors.TIE) for word in vocabulary]
    vectors, found = kseq.data.read_vectors(config.vectors, words, config.embedding_size)
    found[: len(kseq.preprocessors.SPECIAL)] = False
    if not np.any(found):
        raise UserError(f"{config.vectors} has no word of the vocabulary")
    embedding.embeddings.assign(np.where(found[:, None], vectors, np.asarray(embedding.embeddings)))
    print(f"{np.sum(found)} of {len(words)} words have their vectors from {config.vectors}", flush=True)
