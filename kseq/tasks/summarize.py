"""Summaries: a decoder that copies words of the text, and knows what it has read (See et al., 2017,
https://arxiv.org/abs/1704.04368).

python -m kseq.tasks.summarize --help
"""

from typing import Literal

from pydantic import Field

import kseq
from kseq.tasks.generation import Generation, Texts
from kseq.tasks.schema import (
    Attention,
    GenerationTrainingConfig,
    PairConfig,
    PairDataConfig,
    PairFields,
    PairModelConfig,
    TextSamplerConfig,
)

REPEATED = 2  # words of the n-grams whose repetitions are counted


class DataConfig(PairDataConfig):
    """Which texts and summaries, how they are read, and how they are scored."""

    source: str = Field("toy:sales", description="where the examples are; see docs/text.md")
    fields: PairFields = PairFields(source="text", target="summary")
    shared: bool = Field(True, description="one vocabulary for both sides")
    min_count: int = Field(5, ge=1, description="words that occur less often in training are unknown, or copied")
    lead: int = Field(10, ge=1, description="words at the start of a text that are scored as a baseline")
    rouge: Literal["english", "unicode"] = Field("english", description="which words ROUGE counts")


class ModelConfig(PairModelConfig):
    """An encoder of texts and a decoder that can copy words."""

    attention: Attention = Field("coverage", description="attention mechanism; a name of kseq.layers.ATTENTIONS")
    coverage_weight: float = Field(0.2, ge=0, description="weight of the penalty of attention = coverage")
    max_oov_words: int = Field(20, ge=0, description="most out-of-vocabulary words of a source that can be copied")


class SummarizeConfig(PairConfig):
    """One experiment with summaries."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: GenerationTrainingConfig = GenerationTrainingConfig(learning_rate=2e-3)
    sampler: TextSamplerConfig = TextSamplerConfig(width=4, length_penalty=1.0, no_repeat=3)


class Summarize(Generation):
    """Texts in, summaries out."""

    name = "summarize"
    Config = SummarizeConfig
    Source = Texts
    monitor = "rouge_l"
    raw = ("source",)

    def score(self, predictions, references):
        references = [texts[0] for texts in references]
        return kseq.metrics.rouge(predictions, references, self.words([*predictions, *references]))

    def more_scores(self, examples, records, rows):
        sources, predictions = ([row[key] for row in rows] for key in ("source", "prediction"))
        references = [row["references"][0] for row in rows]
        words, metrics = self.words([*sources, *predictions, *references]), {}
        for prefix, texts in (("", predictions), ("reference_", references)):
            metrics[f"{prefix}novel"] = kseq.metrics.novel(texts, sources, words=words)
            metrics[f"{prefix}repeated"] = kseq.metrics.repeated(texts, REPEATED, words)
        metrics["copied"] = self.copied(sources, predictions, references)
        lead = [" ".join((words or str.split)(text)[: self.config.data.lead]) for text in sources]
        scores = self.score(lead, [[text] for text in references])
        metrics |= {f"lead_{name}": value for name, value in scores.items()}
        return metrics

    def words(self, texts):
        """A function from each of the texts to its words as ROUGE counts them; None for rouge-score's own."""
        if self.config.data.rouge == "english":
            return None
        return dict(zip(texts, kseq.preprocessors.tokenize(texts), strict=True)).__getitem__

    def copied(self, sources, predictions, references):
        """Of the out-of-vocabulary words that a source and its reference share, the share that is predicted."""
        known, due, found = set(self.target.vocabulary), 0, 0
        split = (self.text.tokenizer.split(texts).to_list() for texts in (sources, predictions, references))
        for source, prediction, reference in zip(*split, strict=True):
            wanted = {word for word in set(source) & set(reference) if word.decode() not in known}
            due += len(wanted)
            found += len(wanted & set(prediction))
        return found / due if due else float("nan")


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Summarize)
