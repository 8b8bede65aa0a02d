"""Encoders of the BERT family, pretrained on large corpora, through keras-hub."""

import keras
from keras import ops

from kseq.models.checks import check_layer
from kseq.models.encoders import Encoded, encoded_spec


@keras.saving.register_keras_serializable("kseq")
class PretrainedEncoder(keras.layers.Layer):
    """Word pieces to a memory of one row for each piece, by an encoder of the BERT family (Devlin et al., 2019,
    https://arxiv.org/abs/1810.04805, section 3).

        source = [CLS] a … [SEP], or [CLS] a … [SEP] b … [SEP];  segment_s = min(1, number of [SEP] before s)

    Args:
        reader: `keras.Model`, {"token_ids", "padding_mask", and where it has them "segment_ids"} →
            `[batch, source, d]`, as `from_preset` takes it from a backbone.
        separator: the id of [SEP].
        longest: the largest number of pieces that the reader has positions for.

    Call arguments:
        source: int `[batch, source]`; 0 is padding.

    Returns:
        `Encoded`; the state is the row of [CLS].

    Raises:
        ValueError: reader is not a layer, or the preset cannot be loaded or is not of the BERT family.
    """

    def __init__(self, reader, separator, longest, **kwargs):
        super().__init__(**kwargs)
        self.reader = check_layer("reader", reader, "a keras.Model from word pieces; see from_preset")
        self.separator = separator
        self.longest = longest

    @classmethod
    def from_preset(cls, preset, separator):
        """The encoder of a preset of keras-hub, with its weights; `preset` is a name or a folder."""
        import keras_hub

        try:
            backbone = keras_hub.models.Backbone.from_preset(preset, dtype=keras.config.dtype_policy())
        except Exception as error:  # keras-hub raises many kinds, for a failed download among them
            reason, *_ = str(error).split("\n")
            raise ValueError(f"the encoder {preset!r} cannot be loaded: {reason}") from None
        outputs = backbone.output if isinstance(backbone.output, dict) else {"sequence_output": backbone.output}
        inputs = backbone.input if isinstance(backbone.input, dict) else {}
        if not {"token_ids", "padding_mask"} <= inputs.keys() or "sequence_output" not in outputs:
            raise ValueError(f"the encoder {preset!r} is a {type(backbone).__name__}, which is not of the BERT family")
        # The pooled output of [CLS] is left out.
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
        # A frozen encoder drops nothing: its outputs in training are those of inference.
        memory = self.reader(inputs, training=bool(training) and self.trainable)
        memory = ops.cast(memory, self.compute_dtype) * ops.cast(real, self.compute_dtype)[:, :, None]
        return Encoded(memory, real, [memory[:, 0]])

    def compute_output_spec(self, source, training=None):
        size = self.reader.output_shape[-1]
        return encoded_spec((*source.shape, size), [(source.shape[0], size)], self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "reader": keras.saving.serialize_keras_object(self.reader),
            "separator": self.separator,
            "longest": self.longest,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("reader")), **config)
