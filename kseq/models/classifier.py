"""One label for a whole sequence, or for two: N vs 1."""

import keras
from keras import layers, ops

from kseq.layers import BahdanauAttention, Dropout, MutualAttention, PoolingAttention, WordByWordAttention
from kseq.layers.functional import product

POOLINGS = ("attention", "mean", "max", "last")
MATCHES = ("none", "last", "word", "mutual")


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
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
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


@keras.saving.register_keras_serializable("kseq")
class PairClassifier(keras.Model):
    """A label for a premise and a hypothesis, which is read with the premise in mind (Rocktäschel et al., 2016,
    https://arxiv.org/abs/1509.06664, sections 2.2 to 2.4).

        Y, states = encoder(premise);  h_1 … h_N = layer(hypothesis, states)
        h* = tanh(W_p r + W_x h_N)                     equations 10 and 14
        r = Σ_s α_s Y_s,  α = softmax(wᵀ tanh(W_y Y + W_h h_N))    "last", equations 7 to 9
        r = r_N                                        "word", `WordByWordAttention`
        logits = V h* + b

    With "none" there is no r: what is known of the premise has come through the states. h_N is the row of the last
    word. With "mutual" the encoder reads the hypothesis too, from the start, and h* = tanh(W_v v), where v is what
    `MutualAttention` makes of the two.

    Args:
        encoder: `TextEncoder` of the premise, whose layer returns its states.
        layer: a layer as the encoder's, for the hypothesis; None for "mutual".
        classes: number of labels.
        attention: "none", "last", "word" or "mutual".
        units: size of w and of h*, or of m and of h*.
        dropout: share of h* dropped in training.

    Call arguments:
        inputs: {"premise": int `[batch, source]`, "hypothesis": int `[batch, time]`}; the words share one table.

    Returns:
        logits float32 `[batch, classes]`.

    Raises:
        ValueError: attention is not one of the four, or a layer is missing, or there is one too many.
    """

    def __init__(self, encoder, layer, classes, *, attention="word", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if attention not in MATCHES:
            raise ValueError(f"attention must be one of {', '.join(MATCHES)}, got {attention!r}")
        if (layer is None) != (attention == "mutual"):
            raise ValueError(f"layer must be None where attention is 'mutual', and only there, got {layer!r}")
        self.encoder = encoder
        self.layer = layer
        self.classes = classes
        self.kind = attention
        self.units = units
        mechanisms = {"last": BahdanauAttention, "word": WordByWordAttention, "mutual": MutualAttention}
        self.attention = mechanisms[attention](units, dtype=self.dtype_policy) if attention != "none" else None
        self.both = layers.Dense(units, activation="tanh", use_bias=False, dtype=self.dtype_policy)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.labels = layers.Dense(classes, dtype="float32")

    def call(self, inputs, training=None):
        return self.attend(inputs, training)[0]

    def attend(self, inputs, training=None):
        """The logits, and where each word of the hypothesis looked: float32 `[batch, time, source]`.

        With "last" the one look is that of the last word, `[batch, 1, source]`; with "none" it is zeros.
        """
        premise = self.encoder(inputs["premise"], training=training)
        if self.kind == "mutual":
            hypothesis = self.encoder(inputs["hypothesis"], training=training)
            masks = {"inputs_mask": hypothesis.memory_mask, "memory_mask": premise.memory_mask}
            h, alignments = self.attention(hypothesis.memory, premise.memory, **masks)
            return self.labels(self.dropout(self.both(h), training=training)), alignments
        hypothesis = self.encoder.read(self.layer, inputs["hypothesis"], premise.state, training=training)
        h = last_row(hypothesis.memory, hypothesis.memory_mask)
        if self.kind == "word":
            r, alignments = self.attention(
                hypothesis.memory,
                premise.memory,
                inputs_mask=hypothesis.memory_mask,
                memory_mask=premise.memory_mask,
                training=training,
            )
            h = ops.concatenate([r, h], axis=-1)
        elif self.kind == "last":
            r, alignment = self.attention(h, premise.memory, memory_mask=premise.memory_mask)
            h, alignments = ops.concatenate([r, h], axis=-1), alignment[:, None]
        else:
            alignments = ops.cast(ops.zeros_like(premise.memory_mask)[:, None], "float32")
        return self.labels(self.dropout(self.both(h), training=training)), alignments

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "classes": self.classes,
            "attention": self.kind,
            "units": self.units,
            "dropout": self.dropout.rate,
        }

    @classmethod
    def from_config(cls, config):
        parts = [keras.saving.deserialize_keras_object(config.pop(name)) for name in ("encoder", "layer")]
        return cls(*parts, **config)


def last_row(memory, memory_mask):
    """The last row that is real: `[batch, time, d]`, bool `[batch, time]` → `[batch, d]`; the first where none is."""
    places = ops.arange(ops.shape(memory)[1], dtype="int32")
    last = ops.max(ops.where(memory_mask, places, 0), axis=1)
    return ops.squeeze(ops.take_along_axis(memory, last[:, None, None], axis=1), 1)
