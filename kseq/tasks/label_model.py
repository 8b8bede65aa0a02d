"""The encoder of the tasks whose answers are labels: its config, and its making."""

from typing import Literal

import numpy as np
from pydantic import Field

import kseq
from kseq.config import Config
from kseq.errors import UserError

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed.


class EncoderConfig(Config):
    """What reads the words."""

    cell: Literal["rnn", "lstm", "gru", "peephole", "layer_norm_lstm", "layer_norm_gru"] = "lstm"
    units: int = Field(64, ge=1, description="of each direction")
    layers: int = Field(1, ge=1, le=16)
    bidirectional: bool = True
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


class ModelConfig(EncoderConfig):
    """What reads the words, and what is taken of all of them."""

    pooling: Literal["attention", "mean", "max", "last"] = "attention"
    attention_units: int = Field(64, ge=1)


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
    return kseq.layers.Stack(layers) if config.layers > 1 else layers[0]


def make_encoder(config, size):
    """The `TextEncoder` of an `EncoderConfig`, for so many words, with new weights."""
    import keras

    encoder = kseq.models.TextEncoder(
        size,
        make_layer(config),
        embedding_size=config.embedding_size,
        dropout=config.embedding_dropout,
        word_dropout=config.word_dropout,
    )
    # `TextEncoder` makes its table when it is built.
    encoder.embedding.embeddings_initializer = keras.initializers.RandomUniform(
        -config.embedding_spread, config.embedding_spread
    )
    encoder.embedding.trainable = config.train_vectors
    return encoder


def with_words(config, text, unit):
    """A `TextPreprocessor` that knows the words of `model.vector_words` too, where there are any to know.

    Raises:
        UserError: the unit is not a word.
    """
    if not config.vectors or not config.vector_words:
        return text
    if unit not in ("caption", "space", "word"):
        raise UserError(
            f"model.vector_words={config.vector_words} needs data.unit=word, space or caption, it is {unit}"
        )
    known = {word.strip(kseq.preprocessors.TIE) for word in text.vocabulary}
    words = kseq.data.first_words(config.vectors, config.embedding_size, config.vector_words)
    more = [word for word in dict.fromkeys(words) if word not in known]
    return kseq.preprocessors.TextPreprocessor([*text.vocabulary, *more], text.max_length, text.tokenizer)


def take_vectors(config, embedding, vocabulary):
    """Puts the vectors of `model.vectors` in place of those of the words that it has."""
    words = [word.strip(kseq.preprocessors.TIE) for word in vocabulary]
    vectors, found = kseq.data.read_vectors(config.vectors, words, config.embedding_size)
    found[: len(kseq.preprocessors.SPECIAL)] = False
    if not np.any(found):
        raise UserError(f"{config.vectors} has no word of the vocabulary")
    embedding.embeddings.assign(np.where(found[:, None], vectors, np.asarray(embedding.embeddings)))
    print(f"{np.sum(found)} of {len(words)} words have their vectors from {config.vectors}", flush=True)
