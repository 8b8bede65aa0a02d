"""Labels for texts: an encoder and attention over its words (Yang et al., 2016, https://aclanthology.org/N16-1174).

python -m kseq.tasks.classify --help
"""

from pydantic import Field

import kseq
from kseq.config import Config
from kseq.tasks.labelling import Labelling, LabelTrainingConfig, OneLabel, attention_pages
from kseq.tasks.schema import LabelDataConfig, OneLabelConfig, PoolingModelConfig, PretrainedConfig, TextServingConfig


class Fields(Config):
    """The names that the source has for the parts of an example."""

    text: str = Field("text", min_length=1, description="of the text")
    label: str = Field("label", min_length=1, description="of its label")
    split: str = Field("", description="of the field that holds the split, if there is one")


class DataConfig(LabelDataConfig):
    """Which texts and labels, and how they are read."""

    source: str = Field("toy:places", description="where the examples are; see docs/text.md")
    fields: Fields = Fields()


class ModelConfig(PoolingModelConfig):
    """The encoder of the texts, and how all that it has read becomes one vector."""

    encoder: PretrainedConfig = PretrainedConfig()


class ClassifyConfig(OneLabelConfig):
    """One classification experiment."""

    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: LabelTrainingConfig = LabelTrainingConfig()
    serving: TextServingConfig = TextServingConfig()


class Classify(Labelling):
    """A text in, its label out."""

    name = "classify"
    Config = ClassifyConfig
    Output = OneLabel
    monitor = "accuracy"
    raw = ("text",)

    def make(self, encoder):
        config = self.config.model
        return kseq.models.SequenceClassifier(
            encoder,
            len(self.tables["label"]),
            pooling=config.pooling,
            units=config.attention_units,
            dropout=config.dropout,
        )

    def figure(self, example, record):
        """The words, each on a ground the redder the more it weighed."""
        if record["alignment"] is None or not record["tokens"]:
            return None
        title = f"{record['text']} {record['score']:.2f}"
        return kseq.plots.coloured_words(record["tokens"], record["alignment"], title)

    def pages(self, records):
        return attention_pages(self, records)


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Classify)
