"""What the tasks share that give one label to a text, or to two."""

import functools
from typing import Literal

import numpy as np
from pydantic import Field

import kseq
from kseq.errors import UserError
from kseq.tasks.common import labelled
from kseq.tasks.common.labelled import Labelled
from kseq.tasks.common.schema import TrainingConfig


class LabelTrainingConfig(TrainingConfig):
    """How a model of labels is trained."""

    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: rare labels count for more")


class OneLabel(Labelled):
    """Texts in, one label out. A subclass says what there is to be seen of an answer."""

    monitor = "accuracy"

    def labels(self, where, example):
        return {"label": [labelled.label_of(where, example, self.config.data.names)]}

    def encode(self, examples, counts):
        texts = [[example[role] for _, example in examples] for role in self.raw]
        sides = self.read(*texts)
        for ids, read in [(sides[0], texts)] if self.preset else zip(sides, ([side] for side in texts), strict=True):
            counts["texts"] += kseq.data.count_truncated(self.text, ids, *read)
        labels = [
            labelled.known(self.labels(where, example)["label"], self.names, where, "label")
            for where, example in examples
        ]
        # A pretrained encoder reads all texts in one.
        return dict(zip(self.raw, sides, strict=False)) | {"label": np.concatenate(labels).astype("int32")}

    def read(self, *texts):
        """string `[batch]` of each role → ragged ids `[batch, (tokens)]` of each sequence that the model reads."""
        return [self.text.ids(*texts)] if self.preset else [self.ids(side) for side in texts]

    @property
    def names(self):
        """The labels."""
        return self.tables["label"]

    def make_batch(self, batch):
        import tensorflow as tf

        sides = [batch[role] for role in self.raw if role in batch]
        width = tf.reduce_max([tf.shape(side)[1] for side in sides])
        sides = [tf.pad(side, [[0, 0], [0, width - tf.shape(side)[1]]]) for side in sides]
        return self.feed(sides), batch["label"], tf.gather(tf.constant(self.weights, tf.float32), batch["label"])

    @property
    def weights(self):
        """What an example of each label counts for."""
        if self.config.training.class_weights == "balanced":
            return balanced_weights(self.columns["label"], len(self.names))
        return np.ones(len(self.names))

    def loss(self):
        return kseq.losses.TokenCrossentropy(self.config.training.label_smoothing)

    @functools.cached_property
    def look(self):
        """A `tf.function` from the ids of each side to probabilities `[batch, labels]` and the alignment."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)] * (1 if self.preset else len(self.raw)))
        def look(*sides):
            logits, alignment = self.model.attend(self.feed(sides))
            return tf.nn.softmax(logits), alignment

        return look

    def label(self, *texts):
        """string `[batch]` of each role → what `answer` is to return."""
        import tensorflow as tf

        probabilities, _ = self.look(*(side.to_tensor() for side in self.read(*texts)))
        best = tf.argmax(probabilities, axis=-1)
        return {"text": tf.gather(tf.constant(self.names), best), "score": tf.reduce_max(probabilities, axis=-1)}

    def answers(self, texts):
        """(label, its probability, alignment) for each of a list of tuples of texts, one text a role."""

        def answer(batch):
            sides = self.read(*(list(side) for side in zip(*batch, strict=True)))
            probabilities, alignments = (x.numpy() for x in self.look(*(side.to_tensor() for side in sides)))
            best = probabilities.argmax(axis=-1)
            return [(self.names[i], float(p[i]), a) for i, p, a in zip(best, probabilities, alignments, strict=True)]

        return labelled.by_length(texts, answer)

    def answered(self, split):
        """The examples of a split, what `answers` says of them, and their labels."""
        examples = self.scored(split)
        references = [self.labels(where, example)["label"][0] for where, example in examples]
        answers = self.answers([tuple(example[role] for role in self.raw) for _, example in examples])
        return examples, answers, references

    def validate(self):
        _, answers, references = self.answered("dev")
        return {"accuracy": kseq.metrics.accuracy([label for label, *_ in answers], references)}

    def evaluate(self, split="dev"):
        examples, answers, references = self.answered(split)
        labels = [label for label, *_ in answers]
        rows = [
            {
                "id": where.rpartition("/")[2],
                "source": "\t".join(example[role] for role in self.raw),
                "prediction": label,
                "score": score,
                "exact": label == reference,
                "references": [reference],
            }
            for (where, example), (label, score, _), reference in zip(examples, answers, references, strict=True)
        ]
        metrics = {
            "accuracy": kseq.metrics.accuracy(labels, references),
            "macro_f1": kseq.metrics.macro_f1(labels, references),
            "confusion": self.confusion(labels, references, split),
        }
        return metrics, rows

    def predict(self, inputs, folder):
        drawn = []
        texts = self.asked(inputs) if inputs else [self.dev[i] for i in self.some_of_dev()]
        for batch in labelled.batched(texts):
            sides = [tuple(example[role] for role in self.raw) for _, example in batch]
            for texts, (label, score, alignment) in zip(sides, self.answers(sides), strict=True):
                if len(drawn) < labelled.DRAWN:
                    drawn.append((texts, alignment, f"{label} {score:.2f}"))
                yield "\t".join([*(text.replace("\t", " ") for text in texts), label, f"{score:.3f}"])
        self.draw(drawn, folder)

    def asked(self, inputs):
        """(place, example) for each line that is given, tabs between the texts."""
        for where, text in self.given(inputs):
            texts = [text] if len(self.raw) == 1 else text.split("\t")
            if len(texts) != len(self.raw):
                raise UserError(f"{where}: must be {' and '.join(self.raw)}, a tab between")
            yield where, dict(zip(self.raw, texts, strict=True))

    def draw(self, answers, folder):
        """Writes to `folder` what there is to be seen of a list of (texts, alignment, answer)."""

    def tokens(self, *texts):
        """The tokens of each of a list of texts, as they are shown; a pretrained encoder's go over several lists."""
        return [[shown(token.decode()) for token in row] for row in self.text.tokens(*texts).to_list()]

    def colour(self, answers, folder):
        """Writes a page of the tokens, coloured by their weights, if they have any."""
        if not answers or not np.any(answers[0][1]):
            return  # the last state has no weights
        tokens = self.tokens(*(list(side) for side in zip(*(texts for texts, *_ in answers), strict=True)))
        examples = [(words, look[: len(words)], label) for words, (_, look, label) in zip(tokens, answers, strict=True)]
        page = kseq.plots.coloured_words(examples, f"{self.workdir.name}: the words that carried the attention")
        kseq.files.write_text(folder / "attention.html", page)


def shown(token):
    """A token without its marks."""
    return token.strip(kseq.preprocessors.TIE).replace(kseq.preprocessors.SPACE, " ") or " "


def balanced_weights(targets, count):
    """n / (labels · n_label) for each label: what makes every label weigh the same in all."""
    return len(targets) / (count * np.maximum(np.bincount(targets, minlength=count), 1))
