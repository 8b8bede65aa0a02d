"""The parts of a configuration that tasks share."""

from typing import Literal

from pydantic import Field

from kseq.config import Config


class TrainingConfig(Config):
    """How a model is trained."""

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float = Field(5.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    average: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average; 0 keeps none")
    patience: int = Field(5, ge=0, description="epochs without a better score before the run ends")
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False


class SamplerConfig(Config):
    """How text is generated: greedy when the width is 1, else beam search."""

    width: int = Field(1, ge=1, le=100)
    length_penalty: float = Field(0.0, ge=0, le=5)
