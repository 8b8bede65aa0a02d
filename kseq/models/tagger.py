"""A tag for each element of a sequence."""

import keras
from keras import layers

from kseq.layers import Dropout
from kseq.layers.functional import check_fraction, check_positive
from kseq.models.checks import check_layer
from kseq.models.classifier import POOLINGS, Pooling, build_pooling
from kseq.models.encoders import build_encoder, build_once, encoded_by
from kseq.models.signature import NamedSignature


@keras.saving.register_keras_serializable("kseq")
class SequenceTagger(NamedSignature, keras.Model):
    """A tag for each element of a sequence and, if asked for, a label for the whole sequence (Liu and Lane, 2016,
    https://arxiv.org/abs/1609.01454, section 3.2, without attention for the tags).

        tags_s = V h_s + b
        label = V′ pool(h_1 … h_n) + b′

    Args:
        encoder: layer from a source to `Encoded`.
        tags: number of tags.
        classes: number of labels of a whole sequence; 0 for no label.
        pooling: for the label, as in `SequenceClassifier`.
        units: size of the attention's query, for the label.
        dropout: fraction of each h, and of the pooled vector, dropped in training.

    Call arguments:
        source: what the encoder takes.

    Returns:
        {"tags": logits float32 `[batch, source, tags]`}, and with classes "label": logits float32 `[batch, classes]`.

    Raises:
        ValueError: pooling is not one of the four, encoder is not a layer, or a number is out of range.
    """

    def __init__(self, encoder, tags, *, classes=0, pooling="attention", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.encoder = check_layer("encoder", encoder, "a layer from a source to Encoded, such as TextEncoder(…)")
        self.tags = check_positive("tags", tags)
        self.classes = check_positive("classes", classes) if classes else 0
        self.kind = pooling
        self.units = check_positive("units", units)
        self.pooling = Pooling(pooling, units, dtype=self.dtype_policy) if classes else None
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.tag = layers.Dense(tags, dtype="float32")
        self.label = layers.Dense(classes, dtype="float32") if classes else None

    def build(self, source_shape):
        encoded = build_encoder(self.encoder, source_shape)
        if encoded is None:
            self.build_by_tracing(source_shape)
            return
        build_once(self.dropout, encoded.memory.shape)
        build_once(self.tag, encoded.memory.shape)
        if self.label is not None:
            build_once(self.label, build_pooling(self.pooling, encoded))

    def call(self, source, training=None):
        return self.attend(source, training)[0]

    def attend(self, source, training=None):
        """The logits, and the weight of each row of the memory in the label: float32 `[batch, source]`."""
        encoded = encoded_by(self.encoder, source, training)
        logits = {"tags": self.tag(self.dropout(encoded.memory, training=training))}
        if self.label is None:
            return logits, None
        row, alignment = self.pooling(*encoded)
        return logits | {"label": self.label(self.dropout(row, training=training))}, alignment

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "tags": self.tags,
            "classes": self.classes,
            "pooling": self.kind,
            "units": self.units,
            "dropout": self.dropout.rate,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)
