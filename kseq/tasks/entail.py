"""Whether one sentence follows from another (Rocktäschel et al., 2016, https://arxiv.org/abs/1509.06664).

python -m kseq.tasks.entail --help
"""

from typing import ClassVar, Literal

from pydantic import Field

import kseq
from kseq.config import Config
from kseq.tasks.labelling import (
    Labelling,
    LabelTrainingConfig,
    OneLabel,
    attention_pages,
    make_layer,
    without_marks,
)
from kseq.tasks.schema import (
    LabelDataConfig,
    LabelEncoderConfig,
    OneLabelConfig,
    PretrainedConfig,
    TextServingConfig,
)
from kseq.tasks.task import text_of


class Fields(Config):
    """The names that the source has for the parts of an example."""

    premise: str = Field("premise", min_length=1, description="of the first sentence")
    hypothesis: str = Field("hypothesis", min_length=1, description="of the sentence that may follow from it")
    label: str = Field("label", min_length=1, description="of the label of both")
    split: str = Field("", description="of the field that holds the split, if there is one")


class DataConfig(LabelDataConfig):
    """Which pairs and labels, and how they are read."""

    source: str = Field("toy:claims", description="where the examples are; see docs/text.md")
    fields: Fields = Fields()


class ModelConfig(LabelEncoderConfig):
    """The encoder of the sentences, and how the two are compared."""

    bidirectional: bool = Field(False, description="read in both directions")
    # Within Keras' 0.05 all states are near zero: for a thousand steps nothing shows that two words are equal.
    embedding_range: float = Field(0.5, gt=0, description="token vectors are initialized uniformly in [-x, x]")
    attention: Literal["none", "last", "word", "mutual"] = Field(
        "word",
        description="to the premise, from the last word of the hypothesis or from each; or between all words of both",
    )
    attention_units: int = Field(64, ge=1, description="size of the attention")
    encoder: PretrainedConfig = PretrainedConfig()


class EntailConfig(OneLabelConfig):
    """One entailment experiment."""

    kseq_only_keys: ClassVar = (*OneLabelConfig.kseq_only_keys, "model.attention")
    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: LabelTrainingConfig = LabelTrainingConfig(epochs=15, learning_rate=3e-3)
    serving: TextServingConfig = TextServingConfig()


class Entail(Labelling):
    """A premise and a hypothesis in, whether the second follows from the first out."""

    name = "entail"
    Config = EntailConfig
    Output = OneLabel
    monitor = "accuracy"
    raw = ("premise", "hypothesis")

    def make(self, encoder):
        config, classes = self.config.model, len(self.tables["label"])
        if self.preset:  # it has read both sentences as one
            options = {"pooling": "attention", "units": config.attention_units, "dropout": config.dropout}
            return kseq.models.SequenceClassifier(encoder, classes, **options)
        return kseq.models.PairClassifier(
            encoder,
            None if config.attention == "mutual" else make_layer(config),
            classes,
            attention=config.attention,
            units=config.attention_units,
            dropout=config.dropout,
        )

    def figure(self, example, record):
        """Where each word of the hypothesis looked in the premise; the weight of each word for a pretrained encoder."""
        tokens, weights = record["tokens"], record["alignment"]
        title = f"{record['text']} {record['score']:.2f}"
        if weights is None or not tokens:
            return None
        if self.preset:
            return kseq.plots.coloured_words(tokens, weights, title)
        [premise] = self.text.tokens([text_of(example["premise"])]).to_list()
        if not premise:
            return None
        hypothesis = tokens[-1:] if self.config.model.attention == "last" else tokens
        premise = [without_marks(token.decode()) for token in premise]
        return kseq.plots.text_alignment(premise, hypothesis, weights, title=title)

    def pages(self, records):
        return attention_pages(self, records) if self.preset else {}


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Entail)
