"""The config of the tasks that write one text of another."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from kseq.config import Config
from kseq.tasks.common.schema import ReaderConfig, SamplerConfig, StartConfig, TextDataConfig, TrainingConfig

LENGTHS = {"caption": 60, "word": 60, "subword": 100, "character": 300, "byte": 400}  # where max_length is 0
Cell = Literal["rnn", "lstm", "gru", "peephole", "layer_norm_lstm", "layer_norm_gru"]
Attention = Literal["bahdanau", "normalized", "concat", "coverage", "luong", "scaled_luong", "dot"]


class Fields(Config):
    """What the data call the parts of an example; "split", where they have one, names its split."""

    source: str = Field(min_length=1)
    target: str = Field(min_length=1)
    split: str = ""


class DataConfig(TextDataConfig):
    """Which pairs of texts, and how they are read."""

    fields: Fields
    unit: Literal["caption", "word", "subword", "character", "byte"] = "word"
    lower_case: Literal["none", "source", "both"] = "none"
    vocabulary_size: int = Field(10_000, ge=5)
    target_vocabulary_size: int = Field(0, ge=0, description="0 is vocabulary_size")
    shared: bool = Field(False, description="one vocabulary for both sides")
    max_length: int = Field(0, ge=0, le=2000, description="tokens of a text; the rest is cut off; 0 goes by the unit")
    max_target_length: int = Field(0, ge=0, le=2000, description="0 is max_length")
    buckets: int = Field(5, ge=1, le=20)

    @model_validator(mode="after")
    def _one_case(self):
        if self.shared and self.lower_case == "source":
            raise ValueError('lower_case = "source" and shared = true: one vocabulary has one case, none or both')
        return self

    def lengths(self):
        """Most tokens of a source and of a target."""
        source = self.max_length or LENGTHS[self.unit]
        return source, self.max_target_length or source


class EncoderConfig(StartConfig):
    """What reads the source."""

    cell: Literal["", Cell] = Field("", description="the decoder's where it is empty")
    units: int = Field(128, ge=1, description="of each direction")
    layers: int = Field(1, ge=1, le=16)
    bidirectional: bool = True
    residual: bool = False
    dropout: float = Field(0.0, ge=0, lt=1, description="of the embedded words, and between layers")


class ModelConfig(Config):
    """What reads the memory and writes the words."""

    cell: Cell = "gru"
    units: int = Field(128, ge=1)
    layers: int = Field(1, ge=1, le=16)
    residual: bool = False
    decoder: Literal["bahdanau", "luong", "fixed"] = "bahdanau"
    attention: Attention = "bahdanau"
    attention_units: int = Field(128, ge=1)
    coverage_weight: float = Field(0.0, ge=0, description="of the penalty of attention = coverage")
    copies: int = Field(0, ge=0, description="most words of its own that a source has and a text may take over")
    deep_output: bool = Field(True, description="for bahdanau: the output reads the word before and the context")
    input_feeding: bool = Field(True, description="for luong: the cell reads the attentional state before")
    bridge: Literal["dense", "copy", "zero"] = "dense"
    embedding_size: int = Field(64, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _fits(self):
        if self.decoder == "fixed" and self.bridge == "zero":
            raise ValueError(
                "the fixed decoder knows of the source what the bridge brings, and bridge = zero brings nothing"
            )
        if self.coverage_weight and (self.decoder == "fixed" or self.attention != "coverage"):
            raise ValueError("coverage_weight is for attention = coverage")
        if self.copies and self.decoder == "fixed":
            raise ValueError("copies goes by the attention; the fixed decoder has none")
        return self


class TextSamplerConfig(SamplerConfig):
    """How a text is written of another."""

    coverage_penalty: float = Field(0.0, ge=0, description="favours what has looked at the whole source")
    min_length: int = Field(0, ge=0, description="least tokens, the end among them")
    no_repeat: int = Field(0, ge=0, description="no run of so many tokens is said twice; 0 allows it")
    replace_unknown: bool = Field(False, description="an unknown word becomes the source's word that was looked at")


class GenerationConfig(ReaderConfig):
    """One experiment that writes texts of texts."""

    reads: ClassVar = {
        "unit": "data.unit",
        "lower_case": "data.lower_case",
        "normalize": "data.normalize",
        "vocabulary_size": "data.vocabulary_size",
        "cell": "model.encoder.cell",
        "units": "model.encoder.units",
        "layers": "model.encoder.layers",
        "bidirectional": "model.encoder.bidirectional",
        "residual": "model.encoder.residual",
        "embedding_size": "model.embedding_size",
    }
    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: TextSamplerConfig = TextSamplerConfig()

    @model_validator(mode="after")
    def _sampler_fits(self):
        longest = self.data.lengths()[1] + 1
        if self.sampler.min_length > longest:
            raise ValueError(f"sampler.min_length is {self.sampler.min_length}, and no text has more than {longest}")
        if self.sampler.replace_unknown and self.model.decoder == "fixed":
            raise ValueError("sampler.replace_unknown goes by the attention; the fixed decoder has none")
        if self.model.copies and not self.data.shared:
            raise ValueError("model.copies takes over words as they are; it needs one vocabulary, data.shared = true")
        return self

    def reader(self):
        cell = self.model.encoder.cell or self.model.cell
        return super().reader() | {"lower_case": self.data.lower_case != "none", "cell": cell}

    def taking(self, reader):
        case = "both" if self.data.shared or self.data.lower_case == "both" else "source"
        return super().taking(reader | {"lower_case": case if reader["lower_case"] else "none"})
