"""Whether one sentence follows from another (Rocktäschel et al., 2016, https://arxiv.org/abs/1509.06664).

python -m kseq.tasks.entail --help
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

import kseq
from kseq.config import Config
from kseq.tasks.common import label_model, labelled
from kseq.tasks.common.one_label import LabelTrainingConfig, OneLabel
from kseq.tasks.common.schema import PretrainedConfig
from kseq.tasks.common.text_task import SHOWN


class Fields(Config):
    """What the source calls the parts of an example; "split", where it has one, names its split."""

    premise: str = Field("premise", min_length=1)
    hypothesis: str = Field("hypothesis", min_length=1)
    label: str = Field("label", min_length=1)
    split: str = ""


class DataConfig(labelled.DataConfig):
    """Which pairs and labels, and how they are read."""

    source: str = "toy:claims"
    fields: Fields = Fields()


class ModelConfig(label_model.EncoderConfig):
    """What reads the words, and how the two sentences are held against each other."""

    bidirectional: bool = False
    # Within Keras' 0.05 all states are near zero: for a thousand steps nothing shows that two words are equal.
    embedding_spread: float = Field(0.5, gt=0, description="the numbers of a word begin between minus this and this")
    attention: Literal["none", "last", "word", "mutual"] = Field(
        "word", description="by the last word, word by word, or each word of both by those of the other"
    )
    attention_units: int = Field(64, ge=1)
    encoder: PretrainedConfig = PretrainedConfig()


class EntailConfig(label_model.OneLabelConfig):
    """One entailment experiment."""

    own: ClassVar = (*label_model.OneLabelConfig.own, "model.attention")
    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: LabelTrainingConfig = LabelTrainingConfig(epochs=15, learning_rate=3e-3)


class Entail(OneLabel):
    """A premise and a hypothesis in, whether the one follows from the other out."""

    name = "entail"
    Config = EntailConfig
    raw = ("premise", "hypothesis")

    def make(self, encoder):
        config = self.config.model
        if self.preset:  # it has read both sentences in one
            options = {"pooling": "attention", "units": config.attention_units, "dropout": config.dropout}
            return kseq.models.SequenceClassifier(encoder, len(self.names), **options)
        return kseq.models.PairClassifier(
            encoder,
            None if config.attention == "mutual" else label_model.make_layer(config),
            len(self.names),
            attention=config.attention,
            units=config.attention_units,
            dropout=config.dropout,
        )

    def answer(self, premise, hypothesis):
        return self.label(premise, hypothesis)

    def draw(self, answers, folder):
        if self.preset:
            self.colour(answers, folder)
            return
        for i, (texts, look, label) in enumerate(answers[:SHOWN], 1):
            premise, hypothesis = self.tokens(texts)
            if self.config.model.attention == "last":
                hypothesis = hypothesis[-1:]
            if np.any(look) and premise and hypothesis:
                look = look[: len(hypothesis), : len(premise)]
                figure = kseq.plots.text_alignment(premise, hypothesis, look, title=label)
                kseq.plots.save(figure, folder / f"{i:05d}.png")


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Entail)
