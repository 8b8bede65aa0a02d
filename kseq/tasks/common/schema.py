"""The parts of a configuration that tasks share."""

from functools import reduce
from typing import ClassVar, Literal

from pydantic import Field, model_validator

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


class SplitsConfig(Config):
    """Which examples a model is trained on, by which its best epoch is chosen, and on which it is measured."""

    train: str = "train"
    dev: str = Field("dev", description="split that chooses the best epoch")
    test: str = Field("", description="split that chooses nothing; if empty, generated data have theirs, others none")
    holdout: float = Field(0.0, ge=0, lt=1, description="share of train held out as dev, if dev is no split of its own")
    test_holdout: float = Field(0.0, ge=0, lt=1, description="share of train held out as test; see holdout")
    train_count: int = Field(0, ge=0, description="at most this many examples; 0 takes all")
    dev_count: int = Field(0, ge=0, description="as train_count")
    test_count: int = Field(0, ge=0, description="as train_count")

    @model_validator(mode="after")
    def _splits_fit(self):
        if self.holdout and self.dev != "dev":
            raise ValueError(f"holdout takes dev out of {self.train}, and dev = {self.dev} names a split; set only one")
        if self.test_holdout and self.test:
            raise ValueError(
                f"test_holdout takes test out of {self.train}, and test = {self.test} names a split; set only one"
            )
        if self.holdout + self.test_holdout >= 1:
            raise ValueError(f"holdout and test_holdout leave nothing of {self.train}; their sum must be below 1")
        return self

    def split(self, name):
        """What the source calls "train", "dev" or "test"; empty where it has no such split."""
        if name == "test" and not self.test and self.source.startswith("toy:"):
            return "test"
        return getattr(self, name)

    def shares(self):
        """{"dev" or "test": the share of train that is held out for it}."""
        shares = {"dev": self.holdout, "test": self.test_holdout}
        return {name: share for name, share in shares.items() if share}

    def own_splits(self):
        """{key: what the source calls it} of the splits that are not held out of another."""
        names = [name for name in ("train", *self.scored()) if name not in self.shares()]
        return {f"data.{name}": self.split(name) for name in names}

    def scored(self):
        """The splits a model can be scored on: "dev", and "test" where there is one."""
        return ("dev", "test") if self.test_holdout or self.split("test") else ("dev",)


class TextDataConfig(SplitsConfig):
    """Which examples of texts, and how they are read."""

    source: str
    columns: tuple[str, ...] = Field((), description="of a table whose first line does not name them")
    quotes: bool = Field(False, description="for tsv: fields may stand in quotation marks")
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field("stop", description="what becomes of a line not in UTF-8")
    normalize: Literal["none", "nfc", "nfkc"] = "none"
    min_count: int = Field(1, ge=1, description="a word that training has less often is unknown")
    cache: str = Field("runs/cache", description="folder that keeps encoded texts, so that the next run starts at once")


class SamplerConfig(Config):
    """How text is generated: greedy when the width is 1, else beam search."""

    width: int = Field(1, ge=1, le=100)
    length_penalty: float = Field(0.0, ge=0, le=5)


class OwnRate(Config):
    """How fast an encoder learns."""

    learning_rate: float = Field(0.0, ge=0, description="of the encoder; 0 is training.learning_rate")


class StartConfig(OwnRate):
    """Where an encoder begins, and whether it goes on."""

    from_: str = Field("", alias="from", description="folder of a run whose encoder this one begins with")
    trainable: bool = Field(True, description="false leaves the encoder as it begins")

    @property
    def preset(self):
        """What keras-hub calls the encoder; empty where it is one of kseq."""
        return ""

    @property
    def start(self):
        """What the encoder begins with; empty where it is new."""
        return self.from_ or self.preset

    @model_validator(mode="after")
    def _start_fits(self):
        if not self.trainable and not self.start:
            raise ValueError("trainable = false is for an encoder that has learned elsewhere, and this one is new")
        if not self.trainable and self.learning_rate:
            raise ValueError("learning_rate is of an encoder that learns, and trainable is false")
        return self


class PretrainedConfig(StartConfig):
    """The same where the encoder may be one of the BERT family."""

    pretrained: str = Field("", description="preset of keras-hub, by its name or a folder")

    @property
    def preset(self):
        return self.pretrained


class ReaderConfig(Config):
    """A config of which the part that makes the encoder, and what it reads, can be handed on.

    `reads` says by which key this schema calls each thing that all of them know.
    """

    reads: ClassVar[dict[str, str]] = {}

    def reader(self):
        """{name: value}: what must agree for one encoder to take the place of another."""
        return {name: reduce(getattr, key.split("."), self) for name, key in self.reads.items()}

    def taking(self, reader):
        """{dotted key: value} of this schema, as the reader of another config has it."""
        return {key: reader.get(name, "") for name, key in self.reads.items()}

    def idle(self):
        """The dotted keys that mean nothing to an encoder that has begun elsewhere."""
        return ()
