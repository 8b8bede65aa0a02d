"""Encoders that were trained elsewhere on much text, by keras-hub."""

import keras
from keras import ops

from kseq.models.encoders import Encoded


@keras.saving.register_keras_serializable("kseq")
class PretrainedEncoder(keras.layers.Layer):
    """Pieces of words to one memory row a piece, by an encoder of the BERT family (Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805, section 3).

        source = [CLS] a … [SEP], or [CLS] a … [SEP] b … [SEP];  segment_s = min(1, number of [SEP] before s)

    Args:
        reader: `keras.Model`, {"token_ids", "padding_mask", and where it has them "segment_ids"} →
            `[batch, source, d]`, as `from_preset` takes it out of a backbone.
        separator: the id of [SEP].
        longest: most pieces that the reader has places for.

    Call arguments:
        source: int `[batch, source]`; 0 is padding.

    Returns:
        `Encoded`; the state is the row of [CLS].

    Raises:
        ValueError: the preset cannot be had, or is none of these encoders.
    """

    def __init__(self, reader, separator, longest, **kwargs):
        super().__init__(**kwargs)
        self.reader = reader
        self.separator = separator
        self.longest = longest

    @classmethod
    def from_preset(cls, preset, separator):
        """The encoder of a preset of keras-hub, with its weights; `preset` is a name or a folder."""
        import keras_hub

        try:
            backbone = keras_hub.models.Backbone.from_preset(preset, dtype=keras.config.dtype_policy())
        except Exception as error:  # of many kinds, as where a download fails
            reason, *_ = str(error).split("\n")
            raise ValueError(f"the encoder {preset!r} cannot be loaded: {reason}") from None
        outputs = backbone.output if isinstance(backbone.output, dict) else {"sequence_output": backbone.output}
        inputs = backbone.input if isinstance(backbone.input, dict) else {}
        if not {"token_ids", "padding_mask"} <= inputs.keys() or "sequence_output" not in outputs:
            raise ValueError(f"the encoder {preset!r} is a {type(backbone).__name__}, and none of the BERT family")
        # What is made of [CLS] alone stays behind.
        reader = keras.Model(inputs, outputs["sequence_output"], name=backbone.name)
        return cls(reader, separator, backbone.max_sequence_length)

    def build(self, source_shape):
        pass

    def call(self, source, training=None):
        real = source != 0
        ends = ops.cast(source == self.separator, "int32")
        segments = ops.minimum(ops.cumsum(ends, axis=1) - ends, 1) * ops.cast(real, "int32")
        inputs = {"token_ids": source, "padding_mask": ops.cast(real, "int32"), "segment_ids": segments}
        inputs = {name: inputs[name] for name in self.reader.input}
        # What is frozen drops nothing: it says in training what it will say afterwards.
        memory = self.reader(inputs, training=bool(training) and self.trainable)
        memory = ops.cast(memory, self.compute_dtype) * ops.cast(real, self.compute_dtype)[:, :, None]
        return Encoded(memory, real, [memory[:, 0]])

    def get_config(self):
        return super().get_config() | {
            "reader": keras.saving.serialize_keras_object(self.reader),
            "separator": self.separator,
            "longest": self.longest,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("reader")), **config)
