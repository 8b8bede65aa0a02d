"""A label for each row of a sequence: N vs N."""

import keras
from keras import layers

from kseq.layers import Dropout
from kseq.models.classifier import Pooling


@keras.saving.register_keras_serializable("kseq")
class SequenceTagger(keras.Model):
    """An encoder and a tag for each row of its memory, and, where asked, a label for the whole beside them (Liu and
    Lane, 2016, https://arxiv.org/abs/1609.01454, section 3.2, without their attention for the tags).

        tags_s = V h_s + b
        label = V′ pool(h_1 … h_n) + b′

    Args:
        encoder: layer from a source to `Encoded`.
        tags: number of tags.
        classes: number of labels of a whole sequence; 0 is none.
        pooling: as of `SequenceClassifier`, for the label.
        units: size of the attention's query, for the label.
        dropout: share of each h, and of what is pooled, dropped in training.

    Call arguments:
        source: what the encoder takes.

    Returns:
        {"tags": logits float32 `[batch, source, tags]`}, and with classes "label": logits float32 `[batch, classes]`.

    Raises:
        ValueError: pooling is not one of the four.
    """

    def __init__(self, encoder, tags, *, classes=0, pooling="attention", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.tags = tags
        self.classes = classes
        self.kind = pooling
        self.units = units
        self.pooling = Pooling(pooling, units, dtype=self.dtype_policy) if classes else None
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.tag = layers.Dense(tags, dtype="float32")
        self.label = layers.Dense(classes, dtype="float32") if classes else None

    def call(self, source, training=None):
        return self.attend(source, training)[0]

    def attend(self, source, training=None):
        """The logits, and how much each row of the memory weighed for the label: float32 `[batch, source]`."""
        encoded = self.encoder(source, training=training)
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
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)
