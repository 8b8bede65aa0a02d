"""Summaries: a decoder that takes over words of the text, and knows what it has read (See et al., 2017,
https://arxiv.org/abs/1704.04368).

python -m kseq.tasks.summarize --help
"""

import math
from typing import Literal

from pydantic import Field

import kseq
from kseq.tasks.common import text_schema
from kseq.tasks.common.generation import Generation
from kseq.tasks.common.schema import TrainingConfig
from kseq.tasks.common.text_schema import GenerationConfig, TextSamplerConfig

REPEATED = 2  # words of the runs that are counted when a summary says them again


class DataConfig(text_schema.DataConfig):
    """Which texts and summaries, how they are read, and what they are measured by."""

    source: str = "toy:sales"
    fields: text_schema.Fields = text_schema.Fields(source="text", target="summary")
    shared: bool = Field(True, description="one vocabulary for both sides")
    min_count: int = Field(5, ge=1, description="a word that training has less often is unknown, or taken over")
    lead: int = Field(10, ge=1, description="words at the start of a text that are scored beside its summary")
    rouge: Literal["english", "unicode"] = Field("english", description="which words ROUGE finds")


class ModelConfig(text_schema.ModelConfig):
    """What reads the memory and writes the words."""

    attention: text_schema.Attention = "coverage"
    coverage_weight: float = Field(0.2, ge=0, description="of the penalty of attention = coverage")
    copies: int = Field(20, ge=0, description="most words of its own that a source has and a text may take over")


class SummarizeConfig(GenerationConfig):
    """One experiment with summaries."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig(learning_rate=2e-3)
    sampler: TextSamplerConfig = TextSamplerConfig(width=4, length_penalty=1.0, no_repeat=3)


class Summarize(Generation):
    """Texts in, what they say in fewer words out."""

    name = "summarize"
    Config = SummarizeConfig
    monitor = "rouge_l"

    def score(self, predictions, references):
        return kseq.metrics.rouge(predictions, references, self.words([*predictions, *references]))

    def evaluate(self, split="dev"):
        metrics, rows = super().evaluate(split)
        sources, said = ([row[key] for row in rows] for key in ("source", "prediction"))
        references = [row["references"][0] for row in rows]
        words = self.words([*sources, *said, *references])
        for prefix, texts in (("", said), ("reference_", references)):
            metrics[f"{prefix}novel"] = kseq.metrics.novel(texts, sources, words=words)
            metrics[f"{prefix}repeated"] = kseq.metrics.repeated(texts, REPEATED, words)
        metrics["copied"] = self.copied(sources, said, references)
        lead = [" ".join((words or str.split)(text)[: self.config.data.lead]) for text in sources]
        metrics |= {f"lead_{name}": value for name, value in self.score(lead, references).items()}
        return {name: value for name, value in metrics.items() if not math.isnan(value)}, rows

    def words(self, texts):
        """A function from each of the texts to its words as ROUGE is to count them; None for rouge-score's own."""
        if self.config.data.rouge == "english":
            return None
        return dict(zip(texts, kseq.preprocessors.tokenize(texts), strict=True)).__getitem__

    def copied(self, sources, predictions, references):
        """Share of the words of references that the vocabulary does not have, and the source does, that are said."""
        known, due, said = set(self.target.vocabulary), 0, 0
        split = (self.source.tokenizer.split(texts).to_list() for texts in (sources, predictions, references))
        for source, prediction, reference in zip(*split, strict=True):
            wanted = {word for word in set(source) & set(reference) if word.decode() not in known}
            due += len(wanted)
            said += len(wanted & set(prediction))
        return said / due if due else float("nan")


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Summarize)
