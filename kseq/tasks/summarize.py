"""Summaries: an encoder, and a decoder that takes over words and keeps track of what it has read (See et al., 2017,
https://arxiv.org/abs/1704.04368).

python -m kseq.tasks.summarize --help
"""

from pydantic import Field

import kseq
from kseq.tasks import runner, text_schema
from kseq.tasks.generation import Generation
from kseq.tasks.schema import TrainingConfig
from kseq.tasks.text_schema import GenerationConfig, TextSamplerConfig

REPEATED = 2  # words of the runs that are counted where a summary says them again


class DataConfig(text_schema.DataConfig):
    """Which texts and summaries, how they are read, and what they are measured by."""

    source: str = "toy:sales"
    fields: dict[str, str] = Field({"source": "text", "target": "summary"})
    shared: bool = True
    min_count: int = Field(5, ge=1)
    lead: int = Field(10, ge=1, description="words at the start of a text that are scored as if they were its summary")


class ModelConfig(text_schema.ModelConfig):
    """What reads the memory and writes the words."""

    attention: text_schema.Attention = "coverage"
    coverage_weight: float = Field(1.0, ge=0, description="of the penalty of attention = coverage")
    copies: int = Field(10, ge=0, description="most words of its own that a source has and a text may take over")


class SummarizeConfig(GenerationConfig):
    """One experiment with summaries."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: TextSamplerConfig = TextSamplerConfig(width=4, length_penalty=1.0, no_repeat=3)


class Summarize(Generation):
    """Texts in, what they say in fewer words out."""

    name = "summarize"
    Config = SummarizeConfig
    monitor = "rouge_l"

    def score(self, predictions, references):
        return kseq.metrics.rouge(predictions, references)

    def evaluate(self):
        metrics, rows = super().evaluate()
        sources, texts = ([row[key] for row in rows] for key in ("source", "prediction"))
        lead = self.score([" ".join(text.split()[: self.config.data.lead]) for text in sources], self.references)
        for prefix, said in (("", texts), ("reference_", self.references)):
            metrics[f"{prefix}novel"] = kseq.metrics.novel(said, sources)
            metrics[f"{prefix}repeated"] = kseq.metrics.repeated(said, REPEATED)
        return metrics | {f"lead_{name}": value for name, value in lead.items()}, rows


if __name__ == "__main__":
    runner.main(Summarize)
