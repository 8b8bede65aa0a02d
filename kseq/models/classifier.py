"""One label for a whole sequence: N vs 1."""

import keras
from keras import layers, ops

from kseq.layers import PoolingAttention
from kseq.layers.functional import product

POOLINGS = ("attention", "mean", "max", "last")


@keras.saving.register_keras_serializable("kseq")
class SequenceClassifier(keras.Model):
    """An encoder, one row for all of its memory, and a label.

        s = pool(h_1 … h_n)
        logits = V s + b

    Args:
        encoder: layer from a source to `Encoded`.
        classes: number of labels.
        pooling: "attention" is `PoolingAttention`; "mean" and "max" go over the real rows; "last" is the encoder's
            state, its parts side by side.
        units: size of the attention's query.
        dropout: share of s dropped in training.

    Call arguments:
        source: what the encoder takes.

    Returns:
        logits float32 `[batch, classes]`.

    Raises:
        ValueError: pooling is not one of the four.
    """

    def __init__(self, encoder, classes, *, pooling="attention", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.classes = classes
        self.pooling = Pooling(pooling, units, dtype=self.dtype_policy)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.labels = layers.Dense(classes, dtype="float32")

    def call(self, source, training=None):
        return self.attend(source, training)[0]

    def attend(self, source, training=None):
        """The logits, and how much each row of the memory weighed: float32 `[batch, source]`."""
        row, alignment = self.pooling(*self.encoder(source, training=training))
        return self.labels(self.dropout(row, training=training)), alignment

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "classes": self.classes,
            "pooling": self.pooling.kind,
            "units": self.pooling.units,
            "dropout": self.dropout.rate,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)


@keras.saving.register_keras_serializable("kseq")
class Pooling(keras.layers.Layer):
    """One row for all that an encoder returned, and how much each row of the memory weighs in it.

    Args:
        kind: "attention" is `PoolingAttention`; "mean" and "max" go over the real rows, zeros where there is none;
            "last" is the state, its parts side by side.
        units: size of the attention's query.

    Call arguments:
        memory: `[batch, source, d]`.
        memory_mask: bool `[batch, source]`.
        state: list of `[batch, d_i]`.

    Returns:
        `[batch, d]`, and float32 `[batch, source]`: the alignment; 1/n for "mean"; for "max" the share of the d
        numbers that are the row's; zeros for "last".

    Raises:
        ValueError: kind is not one of the four.
    """

    def __init__(self, kind, units, **kwargs):
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {kind!r}")
        self.kind = kind
        self.units = units
        self.attention = PoolingAttention(units, dtype=self.dtype_policy) if kind == "attention" else None

    def call(self, memory, memory_mask, state):
        real = ops.cast(memory_mask, "float32")
        match self.kind:
            case "attention":
                return self.attention(memory, memory_mask)
            case "mean":
                alignment = real / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1)
                return product(ops.cast(alignment, memory.dtype), memory), alignment
            case "max":
                rows = ops.where(memory_mask[:, :, None], memory, float("-inf"))
                row = ops.where(ops.any(memory_mask, axis=1, keepdims=True), ops.max(rows, axis=1), 0)
                first = ops.one_hot(ops.argmax(rows, axis=1), ops.shape(memory)[1], dtype="float32")
                return row, ops.mean(first, axis=1) * real
        return ops.concatenate(state, axis=-1), ops.zeros_like(real)

    def get_config(self):
        return super().get_config() | {"kind": self.kind, "units": self.units}
