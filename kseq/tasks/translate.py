"""Translation: an encoder, and a decoder that looks back (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473).

python -m kseq.tasks.translate --help
"""

from typing import Literal

from pydantic import Field

import kseq
from kseq.tasks.common import text_schema
from kseq.tasks.common.generation import Generation
from kseq.tasks.common.schema import TrainingConfig
from kseq.tasks.common.text_schema import GenerationConfig, TextSamplerConfig

GROUPS = 8  # of sentences by their length, for BLEU by length


class DataConfig(text_schema.DataConfig):
    """Which pairs of sentences, and how they are read and scored."""

    source: str = "toy:numbers"
    fields: text_schema.Fields = text_schema.Fields(source="fr", target="en")
    bleu: Literal["13a", "zh", "char"] = Field("13a", description="how sacrebleu parts the target into words")


class TranslateConfig(GenerationConfig):
    """One translation experiment."""

    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig(batch_size=128)
    sampler: TextSamplerConfig = TextSamplerConfig(width=3, length_penalty=1.0)


class Translate(Generation):
    """Sentences in, sentences of another language out."""

    name = "translate"
    Config = TranslateConfig
    monitor = "bleu"

    def score(self, predictions, references):
        references = [[text] for text in references]
        return {"bleu": kseq.metrics.corpus_bleu(predictions, references, self.config.data.bleu)}

    def evaluate(self, split="dev"):
        metrics, rows = super().evaluate(split)
        return metrics | {"bleu_by_length": self.by_length(rows)}, rows

    def by_length(self, rows):
        """{most words of a source in a group: BLEU}, of groups of about one size."""
        words = kseq.preprocessors.WordTokenizer().split([row["source"] for row in rows])
        lengths = words.row_lengths().numpy()
        scores, shorter = {}, -1
        for longest in kseq.data.length_boundaries(lengths, GROUPS):
            group = [row for row, n in zip(rows, lengths, strict=True) if shorter < n <= longest]
            predictions, references = ([row[key] for row in group] for key in ("prediction", "references"))
            scores[longest] = kseq.metrics.corpus_bleu(predictions, references, self.config.data.bleu)
            shorter = longest
        return scores


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Translate)
