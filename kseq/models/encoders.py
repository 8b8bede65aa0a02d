"""Encoders: from a source to what a decoder can read."""

import hashlib
import inspect
import math
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers, ops

from kseq.layers import Dropout
from kseq.layers.functional import check_fraction, check_positive
from kseq.models.checks import check_layer


class Encoded(NamedTuple):
    """What every encoder returns, your own included."""

    memory: object  # [batch, source, d]
    memory_mask: object  # bool [batch, source], true where a row is real
    state: list  # tensors [batch, d_i]: a summary of the whole


def word_embedding(vocabulary_size, embedding_size, initializer=None, dtype=None):
    """An `Embedding`, initialised uniformly in [−0.5, 0.5] by default.

    Keras' default, [−0.05, 0.05], makes all words look alike to a recurrent layer, and so all rows of a memory to
    attention: a translator then spends its first epochs on telling them apart.
    """
    initializer = keras.initializers.RandomUniform(-0.5, 0.5) if initializer is None else initializer
    return layers.Embedding(vocabulary_size, embedding_size, embeddings_initializer=initializer, dtype=dtype)


def encoded_by(encoder, source, training):
    """The `Encoded` of a source; `TypeError` where an encoder returns anything else."""
    encoded = encoder(source, training=training)
    if not isinstance(encoded, Encoded):
        raise TypeError(
            f"the encoder {encoder.name} must return kseq.models.Encoded(memory, memory_mask, state), "
            f"got {type(encoded).__name__}"
        )
    return encoded


def build_encoder(encoder, source_shape):
    """Builds an encoder for sources of this shape and returns its output for one, an `Encoded` of `keras.KerasTensor`.

    The encoders of kseq tell it by `compute_output_spec`. For an encoder without that method, or without a `build`, the
    result is None, and nothing is built.
    """
    kind, layer = type(encoder), keras.layers.Layer
    if kind.compute_output_spec is layer.compute_output_spec or kind.build is layer.build:
        return None
    where = {name: i for i, each in reversed([*enumerate(kind.__mro__)]) for name in vars(each)}
    if where["compute_output_spec"] > min(where["call"], where.get("read", math.inf)):
        return None  # it is inherited, while `call` or `read` is not
    build_once(encoder, source_shape)
    spec = encoder.compute_output_spec(keras.KerasTensor(source_shape))
    return spec if isinstance(spec, Encoded) else None  # `encoded_by` raises the error


def build_once(layer, *shapes):
    """Builds a layer for inputs of these shapes, unless it is built, as a part of two models may be."""
    if type(layer).build is keras.layers.Layer.build:  # a symbolic call builds what is inside
        layer(*keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, layer.compute_dtype), shapes))
    elif not layer.built:
        layer.build(*shapes)


def encoded_spec(memory_shape, state_shapes, dtype):
    """The `Encoded` of `keras.KerasTensor` with a memory and states of these shapes."""
    state = [keras.KerasTensor(shape, dtype) for shape in state_shapes]
    return Encoded(keras.KerasTensor(memory_shape, dtype), keras.KerasTensor(memory_shape[:2], "bool"), state)


@keras.saving.register_keras_serializable("kseq")
class ImageEncoder(keras.layers.Layer):
    """Pictures to a memory of one row for each region: the backbone's feature map through a dense layer.

        a_i = relu(W f_i + b) + p_i,  i = 1 … regions;  state = mean_i a_i

    Xu et al. (2015, https://arxiv.org/abs/1502.03044, section 3.1.1) take f_i as it is; p_i says where region i is.

    Args:
        backbone: `keras.Model`, pixels 0…255 `[batch, height, width, 3]` → `[batch, h, w, d]`; None if the source is
            always features.
        units: size of a memory row.
        dropout: fraction of the features dropped in training.

    Call arguments:
        source: pictures `[batch, height, width, 3]`, or what `features` returns for them, `[batch, regions, d]`.

    Returns:
        `Encoded`.

    Raises:
        ValueError: backbone is not a layer, or a number is out of range.
    """

    def __init__(self, backbone, units, *, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if backbone is not None:  # without one the source must be features
            check_layer("backbone", backbone, "a keras.Model from pictures to a feature map, or None for features")
        self.backbone = backbone
        self.units = check_positive("units", units)
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.dense = layers.Dense(units, activation="relu", dtype=self.dtype_policy)

    def build(self, source_shape):
        if len(source_shape) == 4:
            build_once(self.backbone, source_shape)
        features_shape = self._features_shape(source_shape)
        self.dense.build(features_shape)
        self.dropout.build(features_shape)
        self.positions = self.add_weight((features_shape[1], self.units), "zeros", name="positions")

    def _features_shape(self, source_shape):
        if len(source_shape) != 4:
            return source_shape
        _, height, width, depth = self.backbone.compute_output_shape(source_shape)
        return source_shape[0], height * width, depth

    def compute_output_spec(self, source, training=None):
        batch, regions, _ = self._features_shape(source.shape)
        return encoded_spec((batch, regions, self.units), [(batch, self.units)], self.compute_dtype)

    def call(self, source, training=None):
        features = self.features(source, training) if len(source.shape) == 4 else source
        memory = self.dense(self.dropout(features, training=training)) + self.positions
        everywhere = ops.ones(ops.shape(memory)[:2], "bool")
        return Encoded(memory, everywhere, [ops.mean(memory, axis=1)])

    def features(self, pictures, training=None):
        """The output of the backbone as a sequence of regions: `[batch, h, w, 3]` → `[batch, regions, d]`."""
        grid = self.backbone(pictures, training=training)
        return ops.reshape(grid, (-1, grid.shape[1] * grid.shape[2], grid.shape[3]))

    def get_config(self):
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "units": self.units,
            "dropout": self.dropout.rate,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("backbone")), **config)


@keras.saving.register_keras_serializable("kseq")
class VectorEncoder(keras.layers.Layer):
    """Vectors to a memory of one row for each, as they are: what is written from a description in numbers.

    Call arguments:
        source: float `[batch, vectors, d]`; all rows are real.

    Returns:
        `Encoded`; the state is the mean of the rows.
    """

    def build(self, source_shape):
        pass  # no weights

    def call(self, source, training=None):
        memory = ops.cast(source, self.compute_dtype)
        return Encoded(memory, ops.ones(ops.shape(memory)[:2], "bool"), [ops.mean(memory, axis=1)])

    def compute_output_spec(self, source, training=None):
        return encoded_spec(source.shape, [(source.shape[0], source.shape[-1])], self.compute_dtype)


@keras.saving.register_keras_serializable("kseq")
class TextEncoder(keras.layers.Layer):
    """Words to a memory of one row for each word: an embedding, then a layer from a sequence to a sequence.

    Args:
        vocabulary_size: number of words; id 0 is padding.
        layer: a `Recurrent`, a `Bidirectional`, or a layer of Keras: a recurrent one with `return_sequences=True`, or
            a convolution with `padding="same"`.
        embedding_size: size of a word's vector.
        embeddings_initializer: `RandomUniform(-0.5, 0.5)` by default. Keras' own default, ten times smaller, makes all
            words look alike to the layer at first.
        dropout: fraction of the embedded words' components dropped in training.
        word_dropout: fraction of the words dropped as a whole in training.

    Call arguments:
        source: int `[batch, source]`.

    Returns:
        `Encoded`; the state is the layer's final states if it returns them, else the mean of the memory's real rows.

    Raises:
        ValueError: a number is out of range; layer is not a layer, is a model, returns no sequence or several.
    """

    def __init__(
        self,
        vocabulary_size,
        layer,
        *,
        embedding_size,
        embeddings_initializer=None,
        dropout=0.0,
        word_dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.layer = _sequence_layer(layer)
        self.vocabulary_size = check_positive("vocabulary_size", vocabulary_size)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.embedding = word_embedding(vocabulary_size, embedding_size, embeddings_initializer, self.dtype_policy)
        self.embeddings_initializer = self.embedding.embeddings_initializer
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.word_dropout = Dropout(check_fraction("word_dropout", word_dropout), dtype=self.dtype_policy)

    def build(self, source_shape):
        self.embedding.build(source_shape)
        self.build_reader(self.layer, source_shape)
        self.dropout.build((*source_shape, self.embedding_size))
        self.word_dropout.build((*source_shape, 1))

    def call(self, source, training=None):
        return self.read(self.layer, source, training=training)

    def read(self, layer, source, initial_state=None, training=None):
        """What `call` returns, from another layer over the same embedding, which may start from given states."""
        real = source != 0
        kept = ops.cast(real, self.compute_dtype)[:, :, None]
        embedded = self.embedding(source)
        embedded *= self.word_dropout(ops.ones_like(embedded[:, :, :1]), training=training)
        embedded = self.dropout(embedded, training=training) * kept
        return _read_by(layer, embedded, real, {} if initial_state is None else {"initial_state": initial_state})

    def compute_output_spec(self, source, training=None):
        return self.build_reader(self.layer, source.shape)

    def build_reader(self, layer, source_shape):
        """Builds `layer` and returns the output of `read` with it, as `compute_output_spec` does."""
        embedded = (*source_shape, self.embedding_size)
        build_once(layer, embedded)
        return _read_spec(layer, embedded, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "layer": keras.saving.serialize_keras_object(self.layer),
            "embedding_size": self.embedding_size,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "dropout": self.dropout.rate,
            "word_dropout": self.word_dropout.rate,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(config.pop("vocabulary_size"), keras.saving.deserialize_keras_object(config.pop("layer")), **config)


@keras.saving.register_keras_serializable("kseq")
class SpeechEncoder(keras.layers.Layer):
    """Frames of a recording to a memory of fewer rows: strided convolutions, then a layer over the sequence.

        x_0 the frames;  x_kt = relu(W_k [x_{k−1, s t − c}; …; x_{k−1, s t + n − 1 − c}] + b_k),  s = strides[k]

    n is `kernel_size` and c = ⌊(n − 1) / 2⌋, so that row t is centred on frame t Π strides, however long the other
    recordings of a batch are. Speech has about ten frames a phone; a memory with a row for each would be long, and its
    rows alike (Chan et al., 2016, https://arxiv.org/abs/1508.01211, section 2.2, who join neighbours in a pyramid).

    Args:
        layer: as of `TextEncoder`.
        filters: size of a row behind a convolution.
        strides: that of each convolution.
        kernel_size: rows that a convolution reads.
        dropout: fraction dropped in training of the rows behind each convolution.
        augment: layer that changes the frames in training, such as `SpecAugment`; None for none.

    Call arguments:
        source: float `[batch, frames, d]`; frames that are all 0 are padding, as for `keras.layers.Masking`.

    Returns:
        `Encoded` of ⌈… ⌈frames / strides[0]⌉ … / strides[−1]⌉ rows; the state as of `TextEncoder`.

    Raises:
        ValueError: a number is out of range, or layer is not one that `TextEncoder` takes.
    """

    def __init__(self, layer, filters, *, strides=(2, 2), kernel_size=5, dropout=0.0, augment=None, **kwargs):
        super().__init__(**kwargs)
        self.layer = _sequence_layer(layer)
        self.filters = check_positive("filters", filters)
        self.strides = tuple(check_positive("strides", stride) for stride in strides)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        self.dropout = Dropout(check_fraction("dropout", dropout), dtype=self.dtype_policy)
        self.augment = None if augment is None else check_layer("augment", augment, "a layer such as SpecAugment(2)")
        options = {"activation": "relu", "kernel_initializer": "he_normal", "dtype": self.dtype_policy}
        self.convolutions = [layers.Conv1D(filters, kernel_size, strides=s, **options) for s in self.strides]

    def build(self, source_shape):
        size = source_shape[-1]
        if self.augment is not None:
            build_once(self.augment, source_shape)
        for convolution in self.convolutions:
            convolution.build((None, None, size))
            size = self.filters
            self.dropout.build((None, None, size))
        build_once(self.layer, (*source_shape[:2], size))

    def call(self, source, training=None):
        real, x = ops.any(source != 0, axis=-1), source
        if self.augment is not None:
            x = self.augment(x, training=training)
        before = (self.kernel_size - 1) // 2
        for stride, convolution in zip(self.strides, self.convolutions, strict=True):
            # Padding of Keras' own would depend on the length that the longest recording gives to the batch.
            x = ops.pad(x, [[0, 0], [before, self.kernel_size - 1 - before], [0, 0]])
            real = real[:, ::stride]
            x = self.dropout(convolution(x), training=training) * ops.cast(real, self.compute_dtype)[:, :, None]
        return _read_by(self.layer, x, real)

    def compute_output_spec(self, source, training=None):
        batch, time, size = source.shape
        for stride in self.strides:
            time, size = None if time is None else -(-time // stride), self.filters
        return _read_spec(self.layer, (batch, time, size), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "filters": self.filters,
            "strides": list(self.strides),
            "kernel_size": self.kernel_size,
            "dropout": self.dropout.rate,
            "augment": keras.saving.serialize_keras_object(self.augment),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["augment"] = keras.saving.deserialize_keras_object(config["augment"])
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


def _sequence_layer(layer):
    """Returns `layer` if it is a layer from a sequence to a sequence, else raises `ValueError`."""
    check_layer("layer", layer, "a layer from a sequence to a sequence, such as Recurrent(GRUCell(64))")
    if isinstance(layer, keras.Model):
        raise ValueError(f"layer must be one layer, got the model {layer.name}, which would read the padding")
    if getattr(layer, "return_sequences", True) is False:
        raise ValueError(f"layer must return a sequence, got {layer.name} with return_sequences=False")
    if getattr(layer, "merge_mode", "") is None:
        raise ValueError(f"layer must give one sequence, got {layer.name} with merge_mode=None")
    return layer


def _read_by(layer, x, real, options=None):
    """The `Encoded` of rows `[batch, time, d]`, of which those are real that bool `[batch, time]` says, by a layer."""
    kept = ops.cast(real, x.dtype)[:, :, None]
    # A convolution takes no mask: it sees zeros for padding, and its outputs there are set to zero.
    options = dict(options or {}) | ({"mask": real} if "mask" in inspect.signature(layer.call).parameters else {})
    memory, *state = tf.nest.flatten(layer(x, **options))
    if getattr(layer, "go_backwards", False):  # its outputs come last step first
        memory = ops.flip(memory, axis=1)
    memory *= kept
    mean = ops.sum(memory, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1)
    return Encoded(memory, real, state or [mean])


def _read_spec(layer, shape, dtype):
    """The shapes of what `_read_by` returns for rows of this shape."""
    memory, *state = (x.shape for x in tf.nest.flatten(layer.compute_output_spec(keras.KerasTensor(shape, dtype))))
    return encoded_spec(memory, state or [(memory[0], memory[-1])], dtype)


@keras.saving.register_keras_serializable("kseq")
class ApplicationPixels(keras.layers.Layer):
    """Pixels 0…255 as the named model of `keras.applications` was trained on them.

    Args:
        application: name of a class in `keras.applications`, as "ResNet50".
    """

    def __init__(self, application, **kwargs):
        super().__init__(**kwargs)
        self.application = application

    def call(self, pictures):
        return inspect.getmodule(getattr(keras.applications, self.application)).preprocess_input(pictures)

    def get_config(self):
        return super().get_config() | {"application": self.application}


def small_cnn(size, filters=(32, 64, 128)):
    """A network to train from scratch on small pictures: `[batch, size, size, 3]` → `[batch, size/8, size/8, 2 d]`.

    A kernel of 4 at a stride of 2 keeps each region's field of view, 22 pixels, centred on the region (one of 3 would
    not), so that a picture of the attention shows what was looked at. There is no batch normalisation: captions of one
    length come in one batch, and its statistics would tell how much there is to say.
    """
    pictures = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(pictures)
    for width in filters:
        x = layers.Conv2D(width, 4, strides=2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Conv2D(2 * filters[-1], 1, activation="relu")(x)
    return keras.Model(pictures, x, name="small_cnn")


def make_backbone(name, *, size, weights=None, trainable="none"):
    """A backbone by name.

    Args:
        name: "small", a class of `keras.applications`, or a Keras model file (`.keras`).
        size: pictures are `[size, size, 3]`.
        weights: for a class of `keras.applications`: "imagenet", a weights file, or None for random ones.
        trainable: "none" is frozen, "all" is trained whole; the name of a layer trains that layer and all above it.

    Returns:
        `keras.Model`, pixels 0…255 → `[batch, h, w, d]`.

    Raises:
        ValueError: there is no such model, its weights cannot be had, it makes no map of features, or it has no
            such layer.
    """
    if weights is not None and (name == "small" or name.endswith(".keras")):
        raise ValueError(f"weights are for a class of keras.applications, the backbone is {name!r}")
    if name == "small":
        model = small_cnn(size)
    elif name.endswith(".keras"):
        model = _from_file(name)
    else:
        model = _from_applications(name, size, weights)
    if len(model.output_shape) != 4:
        raise ValueError(f"backbone {name!r} must give a map [h, w, d], it gives {model.output_shape[1:]}")
    shape, pictures = model.input_shape[1:], (size, size, 3)
    if len(shape) != 3 or any(n not in (None, m) for n, m in zip(shape, pictures, strict=True)):
        raise ValueError(f"backbone {name!r} takes pictures {shape}, and they are {pictures}")
    leaves = list(_leaves(model))
    names = [layer.name for layer in leaves]
    if trainable not in ("none", "all", *names):
        shown = ", ".join(names[-8:])
        raise ValueError(
            f'trainable must be "none", "all" or a layer of {name!r} (the last: {shown}), got {trainable!r}'
        )
    first = {"none": len(names), "all": 0}.get(trainable)
    first = names.index(trainable) if first is None else first
    for i, layer in enumerate(leaves):
        layer.trainable = i >= first
    return model


def _leaves(model):
    """The layers of a model in order, those of the models inside it in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def fingerprint(model):
    """A string that changes when any weight of the model does."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(ops.convert_to_numpy(weight).tobytes())
    return digest.hexdigest()


def _from_file(path):
    try:
        loaded = keras.saving.load_model(path, compile=False)
        model = keras.models.clone_model(loaded, clone_function=_servable, recursive=True)
        model.set_weights(loaded.get_weights())
    except Exception as error:  # Keras raises many kinds, as KeyError for a file without its parts.
        raise ValueError(f"backbone {path!r} is not a Keras model file that can be read: {error}") from None
    return model


def _servable(layer):
    """A copy of a layer whose name, and so the names of its variables, can stand in a SavedModel."""
    name = layer.name if layer.name[0].isalnum() else f"layer{layer.name}"
    return type(layer).from_config(layer.get_config() | {"name": name})


def _from_applications(name, size, weights):
    make = getattr(keras.applications, name, None)
    if not inspect.isfunction(make):
        raise ValueError(f'backbone must be "small", a class of keras.applications or a .keras file, got {name!r}')
    pictures = keras.Input((size, size, 3))
    try:
        trunk = make(include_top=False, weights=weights, input_shape=(size, size, 3))
    except Exception as error:  # Keras raises bare Exception where a download fails.
        raise ValueError(f"weights {weights!r} of backbone {name!r} cannot be loaded: {error}") from None
    return keras.Model(pictures, trunk(ApplicationPixels(name)(pictures)), name=name.lower())
