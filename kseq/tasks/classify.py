"""Labels for texts: an encoder and attention over its words (Yang et al., 2016, https://aclanthology.org/N16-1174).

python -m kseq.tasks.classify --help
"""

from pydantic import Field

import kseq
from kseq.config import Config
from kseq.tasks.common import label_model, labelled
from kseq.tasks.common.one_label import LabelTrainingConfig, OneLabel
from kseq.tasks.common.schema import PretrainedConfig


class Fields(Config):
    """What the source calls the parts of an example; "split", where it has one, names its split."""

    text: str = Field("text", min_length=1)
    label: str = Field("label", min_length=1)
    split: str = ""


class DataConfig(labelled.DataConfig):
    """Which texts and labels, and how they are read."""

    source: str = "toy:places"
    fields: Fields = Fields()


class ModelConfig(label_model.ModelConfig):
    """What reads the words, and what is taken of all of them."""

    encoder: PretrainedConfig = PretrainedConfig()


class ClassifyConfig(label_model.OneLabelConfig):
    """One classification experiment."""

    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: LabelTrainingConfig = LabelTrainingConfig()


class Classify(OneLabel):
    """A text in, its label out."""

    name = "classify"
    Config = ClassifyConfig
    raw = ("text",)

    def make(self, encoder):
        config = self.config.model
        return kseq.models.SequenceClassifier(
            encoder,
            len(self.names),
            pooling=config.pooling,
            units=config.attention_units,
            dropout=config.dropout,
        )

    def answer(self, text):
        return self.label(text)

    def draw(self, answers, folder):
        self.colour(answers, folder)


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Classify)
