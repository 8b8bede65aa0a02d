"""One label for a sequence, or for a pair of sequences."""

import keras
from keras import layers, ops

from kseq.layers import BahdanauAttention, Dropout, MutualAttention, PoolingAttention, WordByWordAttention
from kseq.layers.functional import check_fraction, check_positive, product
from kseq.models.checks import check_layer
from kseq.models.encoders import TextEncoder, build_encoder, build_once, encoded_by
from kseq.models.signature import NamedSignature

POOLINGS = ("attention", "mean", "max", "last")
MATCHES = ("none", "last", "word", "mutual")


@keras.saving.register_keras_serializable("kseq")
class SequenceClassifier(NamedSignature, keras.Model):
    """A label for a sequence: an encoder, a pooling of its memory, and a dense layer.

        s = pool(h_1 … h_n)
        logits = V s + b

    Args:
        encoder: layer from a source to `Encoded`.
        classes: number of labels.
        pooling: "attention" is `PoolingAttention`; "mean" and "max" are taken over the real rows; "last" is the
            encoder's state, its parts concatenated.
        units: size of the attention's query.
        dropout: fraction of s dropped in training.

    Call arguments:
        source: what the encoder takes.

    Returns:
        logits float32 `[batch, classes]`.

    Raises:
        ValueError: pooling is not one of the four, encoder is not a layer, or a number is out of range.
    """

    def __init__(self, encoder, classes, *, pooling="attention", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.encoder = check_layer("encoder", encoder, "a layer from a source to Encoded, such as TextEncoder(…)")
        self.classes = check_positive("classes", classes)
        self.pooling = Pooling(pooling, units, dtype=self.dtype_policy)
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.labels = layers.Dense(classes, dtype="float32")

    def build(self, source_shape):
        encoded = build_encoder(self.encoder, source_shape)
        if encoded is None:
            self.build_by_tracing(source_shape)
            return
        row = build_pooling(self.pooling, encoded)
        build_once(self.dropout, row)
        build_once(self.labels, row)

    def call(self, source, training=None):
        return self.attend(source, training)[0]

    def attend(self, source, training=None):
        """The logits, and the weight of each row of the memory: float32 `[batch, source]`."""
        row, alignment = self.pooling(*encoded_by(self.encoder, source, training))
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
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)


@keras.saving.register_keras_serializable("kseq")
class Pooling(keras.layers.Layer):
    """One vector for all that an encoder returns, and the weight of each row of the memory in it.

    Args:
        kind: "attention" is `PoolingAttention`; "mean" and "max" are taken over the real rows, zeros if there is none;
            "last" is the state, its parts concatenated.
        units: size of the attention's query.

    Call arguments:
        memory: `[batch, source, d]`.
        memory_mask: bool `[batch, source]`.
        state: list of `[batch, d_i]`.

    Returns:
        `[batch, d]`, and float32 `[batch, source]`: the alignment; 1/n for "mean"; for "max" the fraction of the d
        components that come from the row; zeros for "last".

    Raises:
        ValueError: kind is not one of the four.
    """

    def __init__(self, kind, units, **kwargs):
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {kind!r}")
        self.kind = kind
        self.units = check_positive("units", units)
        self.attention = PoolingAttention(units, dtype=self.dtype_policy) if kind == "attention" else None

    def build(self, memory_shape, memory_mask_shape=None, state_shape=None):
        if self.attention is not None:
            build_once(self.attention, memory_shape)

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


def build_pooling(pooling, encoded):
    """Builds a `Pooling` for an `Encoded` of `keras.KerasTensor` and returns the shape of its output."""
    memory = encoded.memory.shape
    build_once(pooling, memory)
    size = sum(state.shape[-1] for state in encoded.state) if pooling.kind == "last" else memory[-1]
    return memory[0], size


@keras.saving.register_keras_serializable("kseq")
class PairClassifier(NamedSignature, keras.Model):
    """A label for a premise and a hypothesis, which is read conditioned on the premise (Rocktäschel et al., 2016,
    https://arxiv.org/abs/1509.06664, sections 2.2 to 2.4).

        Y, states = encoder(premise);  h_1 … h_N = layer(hypothesis, states)
        h* = tanh(W_p r + W_x h_N)                     equations 10 and 14
        r = Σ_s α_s Y_s,  α = softmax(wᵀ tanh(W_y Y + W_h h_N))    "last", equations 7 to 9
        r = r_N                                        "word", `WordByWordAttention`
        logits = V h* + b

    With "none" there is no r: all that is known of the premise is in the states. h_N is the row of the last word. With
    "mutual" the encoder reads the hypothesis as well, from a zero state, and h* = tanh(W_v v), where v is the output of
    `MutualAttention` for the two.

    Args:
        encoder: `TextEncoder` of the premise, whose layer returns its states.
        layer: a layer such as the encoder's, for the hypothesis; None for "mutual".
        classes: number of labels.
        attention: "none", "last", "word" or "mutual".
        units: size of w and of h*, or of m and of h*.
        dropout: fraction of h* dropped in training.

    Call arguments:
        inputs: {"premise": int `[batch, source]`, "hypothesis": int `[batch, time]`}; both share one embedding.

    Returns:
        logits float32 `[batch, classes]`.

    Raises:
        ValueError: attention is not one of the four, a layer is missing or not needed, encoder is not a TextEncoder, or
            a number is out of range.
    """

    signature_names = ("premise", "hypothesis")

    def __init__(self, encoder, layer, classes, *, attention="word", units=64, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if attention not in MATCHES:
            raise ValueError(f"attention must be one of {', '.join(MATCHES)}, got {attention!r}")
        if (layer is None) != (attention == "mutual"):
            raise ValueError(f"layer must be None if attention is 'mutual', and a layer otherwise, got {layer!r}")
        self.encoder = check_layer("encoder", encoder, "a TextEncoder", TextEncoder)
        if layer is not None:
            check_layer("layer", layer, "a layer such as the encoder's, for the hypothesis")
        self.layer = layer
        self.classes = check_positive("classes", classes)
        self.kind = attention
        self.units = check_positive("units", units)
        mechanisms = {"last": BahdanauAttention, "word": WordByWordAttention, "mutual": MutualAttention}
        self.attention = mechanisms[attention](units, dtype=self.dtype_policy) if attention != "none" else None
        self.both = layers.Dense(units, activation="tanh", use_bias=False, dtype=self.dtype_policy)
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.labels = layers.Dense(classes, dtype="float32")

    def build(self, inputs_shape):
        encoded = build_encoder(self.encoder, inputs_shape["premise"])
        if encoded is None:
            self.build_by_tracing(inputs_shape)
            return
        premise = encoded.memory.shape
        if self.layer is None:
            build_once(self.attention, premise, premise)
            size = self.attention.compute_output_shape(premise, premise)[0][-1]
        else:
            hypothesis = self.encoder.build_reader(self.layer, inputs_shape["hypothesis"]).memory.shape
            size = hypothesis[-1]
            if self.attention is not None:
                build_once(self.attention, hypothesis if self.kind == "word" else (hypothesis[0], size), premise)
                size += premise[-1]
        build_once(self.both, (premise[0], size))
        build_once(self.dropout, (premise[0], self.units))
        build_once(self.labels, (premise[0], self.units))

    def call(self, inputs, training=None):
        return self.attend(inputs, training)[0]

    def attend(self, inputs, training=None):
        """The logits, and the alignment of each word of the hypothesis: float32 `[batch, time, source]`.

        With "last" there is one alignment, that of the last word, `[batch, 1, source]`; with "none" it is zeros.
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
        config = dict(config)
        parts = [keras.saving.deserialize_keras_object(config.pop(name)) for name in ("encoder", "layer")]
        return cls(*parts, **config)


def last_row(memory, memory_mask):
    """The last real row: `[batch, time, d]`, bool `[batch, time]` → `[batch, d]`; the first row if none is real."""
    places = ops.arange(ops.shape(memory)[1], dtype="int32")
    last = ops.max(ops.where(memory_mask, places, 0), axis=1)
    return ops.squeeze(ops.take_along_axis(memory, last[:, None, None], axis=1), 1)
