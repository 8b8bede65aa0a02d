"""Labels for texts: an encoder and attention over its words (Yang et al., 2016, https://aclanthology.org/N16-1174).

python -m kseq.tasks.classify --help
"""

import numpy as np
from pydantic import Field

import kseq
from kseq.config import Config
from kseq.tasks import labelled, runner
from kseq.tasks.label_model import LabelConfig, ModelConfig
from kseq.tasks.one_label import LabelTrainingConfig, OneLabel


class Fields(Config):
    """What the source calls the parts of an example; "split", where it has one, names its split."""

    text: str = "text"
    label: str = "label"
    split: str = ""


class DataConfig(labelled.DataConfig):
    """Which texts and labels, and how they are read."""

    source: str = "toy:places"
    fields: Fields = Fields()


class ClassifyConfig(LabelConfig):
    """One classification experiment."""

    seed: int = Field(0, ge=0)
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
        if not answers or not np.any(answers[0][1]):
            return  # the last state has no weights
        tokens = self.tokens([texts[0] for texts, *_ in answers])
        examples = [(words, look[: len(words)], label) for words, (_, look, label) in zip(tokens, answers, strict=True)]
        page = kseq.plots.coloured_words(examples, f"{self.workdir.name}: the words that carried the attention")
        kseq.files.write_text(folder / "attention.html", page)


if __name__ == "__main__":
    runner.main(Classify)
