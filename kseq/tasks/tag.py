"""Tags for the words of a text, and a label for the whole beside them (Liu and Lane, 2016,
https://arxiv.org/abs/1609.01454).

python -m kseq.tasks.tag --help
"""

import functools
import re

import numpy as np
from pydantic import Field

import kseq
from kseq.config import Config
from kseq.errors import UserError
from kseq.tasks.common import labelled
from kseq.tasks.common.label_model import LabelConfig, ModelConfig
from kseq.tasks.common.labelled import Labelled
from kseq.tasks.common.schema import TrainingConfig

BIO = re.compile(r"O|[BI]-.+")


class Fields(Config):
    """What the source calls the parts of an example; "label" and "split" may be empty."""

    text: str = Field("text", min_length=1)
    tags: str = Field("tags", min_length=1)
    label: str = "label"
    split: str = ""


class DataConfig(labelled.DataConfig):
    """Which words and tags, and how they are read. Words, and tags, have spaces between."""

    source: str = "toy:orders"
    fields: Fields = Fields()
    unit: labelled.Unit = Field("space", description="into which a word is parted; its tag is told by the first part")


class TagConfig(LabelConfig):
    """One tagging experiment."""

    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


class Tag(Labelled):
    """Words in, a tag for each of them out, and a label for all."""

    name = "tag"
    Config = TagConfig
    monitor = "span_f1"
    raw = ("text",)

    @property
    def joint(self):
        """Whether the whole has a label too."""
        return bool(self.config.data.fields.label)

    def labels(self, where, example):
        found = {"tags": example["tags"].split()}
        if not self.joint:
            return found
        return found | {"label": [labelled.label_of(where, example, self.config.data.names)]}

    def walk(self, examples, title):
        for batch in labelled.batched(super().walk(examples, title), 1000):
            counts = self.words([example["text"] for _, example in batch]).row_lengths().numpy()
            for (where, example), count in zip(batch, counts, strict=True):
                tags = example["tags"].split()
                if len(tags) != count:
                    raise UserError(f"{where}: {count} word(s) and {len(tags)} tag(s); each word must have one")
                strange = [tag for tag in tags if not BIO.fullmatch(tag)]
                if strange:
                    raise UserError(f"{where}: the tag {strange[0]!r} is neither O nor B-kind or I-kind")
                yield where, example

    def make(self, encoder):
        config = self.config.model
        return kseq.models.SequenceTagger(
            encoder,
            len(self.tables["tags"]),
            classes=len(self.tables["label"]) if self.joint else 0,
            pooling=config.pooling,
            units=config.attention_units,
            dropout=config.dropout,
        )

    @functools.cached_property
    def spaces(self):
        """What parts a text into the words that are given."""
        return kseq.preprocessors.SpaceTokenizer()

    def words(self, texts):
        """string `[batch]` → ragged string `[batch, (words)]`."""
        return self.spaces.split(texts)

    def pieces(self, texts):
        """string `[batch]` → ids `[batch, time]` of the parts of all words, and which is the first one of its word."""
        import tensorflow as tf

        words = self.words(texts)
        ids = self.ids(words.values)
        first = tf.ragged.range(ids.row_lengths()) == 0
        whole = [tf.RaggedTensor.from_row_splits(x, words.row_splits).merge_dims(1, 2) for x in (ids, first)]
        ids, first = (x[:, : self.config.data.length()] for x in whole)
        ids = labelled.filled(ids).to_tensor()
        return ids, first.to_tensor(shape=tf.shape(ids))

    def encode(self, examples, counts):
        import tensorflow as tf

        ids, first = self.pieces([example["text"] for _, example in examples])
        tags, labels = np.zeros(ids.shape, "int32"), []
        for (where, example), row, real in zip(examples, tags, first.numpy(), strict=True):
            numbers = {
                name: labelled.known(found, self.tables[name], where, name)
                for name, found in self.labels(where, example).items()
            }
            row[real] = numbers["tags"][: np.sum(real)]
            counts["texts"] += np.sum(real) < len(numbers["tags"])
            labels += numbers.get("label", ())
        lengths = tf.math.count_nonzero(ids, axis=1)
        columns = {"text": ids, "tags": tags, "first": tf.cast(first, tf.int32)}
        columns = {name: tf.RaggedTensor.from_tensor(column, lengths) for name, column in columns.items()}
        return columns | ({"label": np.array(labels, "int32")} if self.joint else {})

    def make_batch(self, batch):
        import tensorflow as tf

        labels, weights = {"tags": batch["tags"]}, {"tags": tf.cast(batch["first"], tf.float32)}
        if self.joint:
            labels["label"] = batch["label"]
            weights["label"] = tf.ones_like(batch["label"], tf.float32)
        return batch["text"], labels, weights

    def loss(self):
        one = kseq.losses.TokenCrossentropy(self.config.training.label_smoothing)
        return {"tags": one, "label": one} if self.joint else {"tags": one}

    @functools.cached_property
    def look(self):
        """A `tf.function` from ids to {output: probabilities} and the alignment of the label."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def look(ids):
            logits, alignment = self.model.attend(ids)
            return {name: tf.nn.softmax(x) for name, x in logits.items()}, alignment

        return look

    @functools.cached_property
    def rules(self):
        """Which tag may follow which, bool `[tags, tags]`, and which may come first: I-kind goes on with a span."""
        tags = self.tables["tags"]
        begins = np.array([tag[0] != "I" or f"B{tag[1:]}" not in tags for tag in tags])
        goes_on = [[old[0] != "O" and old[2:] == new[2:] for new in tags] for old in tags]
        return np.array(goes_on) | begins, begins

    def answer(self, text):
        """The best tags that make whole spans. A word that was cut off has the tag O."""
        import tensorflow as tf

        ids, first = self.pieces(text)
        probabilities, _ = self.look(ids)
        rows = tf.ragged.boolean_mask(probabilities["tags"], first)
        count = rows.row_lengths()
        rows = rows.to_tensor(shape=[None, None, len(self.tables["tags"])])
        found = kseq.samplers.viterbi_decode(tf.math.log(tf.maximum(rows, 1e-30)), count, *self.rules)
        sure = tf.RaggedTensor.from_tensor(tf.gather(rows, found, batch_dims=2), lengths=count)
        best = tf.RaggedTensor.from_tensor(tf.gather(tf.constant(self.tables["tags"]), found), lengths=count)
        cut = self.words(text).row_lengths() - count
        best = tf.concat([best, tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(cut)], "O"), cut)], axis=1)
        score = tf.reduce_sum(sure, axis=1) / tf.maximum(tf.cast(count, tf.float32), 1)
        found = {"text": tf.strings.reduce_join(best, axis=-1, separator=" "), "score": score}
        if not self.joint:
            return found
        label = tf.argmax(probabilities["label"], axis=-1)
        return found | {"label": tf.gather(tf.constant(self.tables["label"]), label)}

    def answers(self, texts):
        """{"text": the tags, "score": …, "label": …} for each of a list of texts."""

        def answer(batch):
            texts = np.array([text for (text,) in batch], object)
            found = {name: x.numpy().tolist() for name, x in self.answer(texts).items()}
            found = {name: [x.decode() if isinstance(x, bytes) else x for x in xs] for name, xs in found.items()}
            return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]

        return labelled.by_length([(text,) for text in texts], answer)

    def answered(self, split):
        """The examples of a split, what `answers` says of them, and {what is labelled: the right labels} of each."""
        examples = self.scored(split)
        references = [self.labels(where, example) for where, example in examples]
        return examples, self.answers([example["text"] for _, example in examples]), references

    def validate(self):
        return self.scores(*self.answered("dev")[1:])

    def scores(self, answers, references):
        """The metrics by which a run is watched."""
        tags = [answer["text"].split() for answer in answers]
        metrics = {"span_f1": kseq.metrics.span_f1(tags, [known["tags"] for known in references])}
        if self.joint:
            right = [a["label"] == known["label"][0] for a, known in zip(answers, references, strict=True)]
            metrics["intent_accuracy"] = float(np.mean(right))
        return metrics

    def evaluate(self, split="dev"):
        """Tags and labels that training has not are never the answer, and count as wrong."""
        examples, answers, references = self.answered(split)
        found = [answer["text"].split() for answer in answers]
        rows = []
        for (where, example), answer, tags, known in zip(examples, answers, found, references, strict=True):
            labels = {"label": answer["label"], "label_reference": known["label"][0]} if self.joint else {}
            exact = tags == known["tags"] and labels.get("label") == labels.get("label_reference")
            row = {"id": where.rpartition("/")[2], "source": example["text"], "prediction": answer["text"]}
            row |= {"score": answer["score"], "exact": exact, "references": [" ".join(known["tags"])]}
            rows.append(row | labels)
        metrics = self.scores(answers, references)
        every = [tag for known in references for tag in known["tags"]]
        self.strange(every, "tags")
        metrics["accuracy"] = kseq.metrics.accuracy([tag for tags in found for tag in tags], every)
        metrics["exact_match"] = float(np.mean([row["exact"] for row in rows]))
        if self.joint:
            labels = ([row[name] for row in rows] for name in ("label", "label_reference"))
            metrics["confusion"] = self.confusion(*labels, split)
        return metrics, rows

    def shown(self, row):
        words = [word.decode() for word in self.words([row["source"]])[0].numpy()]

        def marked(tags, label):
            marks = list(words)
            for kind, first, end in kseq.metrics.spans(tags.split()):
                marks[first] = f"[{kind}: {marks[first]}"
                marks[end - 1] += "]"
            return " ".join([*([f"{label}:"] if label else []), *marks])

        return marked(row["prediction"], row.get("label")), marked(row["references"][0], row.get("label_reference"))

    def predict(self, inputs, folder):
        drawn = []
        given = (text for _, text in self.given(inputs))
        texts = given if inputs else [self.dev[i][1]["text"] for i in self.some_of_dev()]
        for batch in labelled.batched(texts):
            for text, answer in zip(batch, self.answers(batch), strict=True):
                drawn += [(text, answer)] if len(drawn) < labelled.DRAWN else []
                label = [answer["label"]] if self.joint else []
                yield "\t".join([text.replace("\t", " "), answer["text"], *label, f"{answer['score']:.3f}"])
        self.draw(drawn, folder)

    def draw(self, answers, folder):
        """Writes a page of the words, those of a span in the colour of its kind."""
        examples = []
        for text, answer in answers:
            words = [word.decode() for word in self.words([text])[0].numpy()]
            examples.append((words, kseq.metrics.spans(answer["text"].split()), answer.get("label", "")))
        page = kseq.plots.coloured_spans(examples, f"{self.workdir.name}: the spans that were found")
        kseq.files.write_text(folder / "spans.html", page)


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Tag)
