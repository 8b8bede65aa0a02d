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
from kseq.tasks.labelling import Labelling, Output, filled, label_of, numbers_of
from kseq.tasks.schema import LabelConfig, LabelDataConfig, PoolingModelConfig, TextServingConfig, TrainingConfig, Unit
from kseq.tasks.task import batched, text_of

BIO = re.compile(r"O|[BI]-.+")
CHECKED = 1000  # examples whose words are counted at once


class Fields(Config):
    """The names that the source has for the parts of an example; "label" and "split" may be empty."""

    text: str = Field("text", min_length=1, description="of the words, with spaces between")
    tags: str = Field("tags", min_length=1, description="of their tags, with spaces between")
    label: str = Field("label", description="of the label of the whole; empty if there is none")
    split: str = Field("", description="of the field that holds the split, if there is one")


class DataConfig(LabelDataConfig):
    """Which words and tags, and how they are read. Words, and tags, have spaces between."""

    source: str = Field("toy:orders", description="where the examples are; see docs/text.md")
    fields: Fields = Fields()
    unit: Unit = Field("space", description="what a token is; a word of several tokens is tagged by its first one")


class TagConfig(LabelConfig):
    """One tagging experiment."""

    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: DataConfig = DataConfig()
    model: PoolingModelConfig = PoolingModelConfig()
    training: TrainingConfig = TrainingConfig()
    serving: TextServingConfig = TextServingConfig()


class Tags(Output):
    """A tag for each word, and a label for the whole."""

    max_n = 1

    @property
    def joint(self):
        """Whether the whole has a label too."""
        return bool(self.task.config.data.fields.label)

    def labels(self, where, example):
        found = {"tags": example["tags"].split()}
        if not self.joint:
            return found
        return found | {"label": [label_of(where, example, self.task.config.data.names)]}

    def checked(self, examples):
        return kseq.data.Examples(lambda: self._counted(examples))

    def _counted(self, examples):
        """The examples, whose words and tags are counted."""
        for batch in batched(examples, CHECKED):
            counts = self.words([example["text"] for _, example in batch]).row_lengths().numpy()
            for (where, example), count in zip(batch, counts, strict=True):
                tags = example["tags"].split()
                if len(tags) != count:
                    raise UserError(f"{where}: {count} word(s) and {len(tags)} tag(s); each word must have one")
                wrong = [tag for tag in tags if not BIO.fullmatch(tag)]
                if wrong:
                    raise UserError(f"{where}: the tag {wrong[0]!r} is neither O nor B-kind or I-kind")
                yield where, example

    @functools.cached_property
    def spaces(self):
        """What splits a text into the words that are tagged."""
        return kseq.preprocessors.SpaceTokenizer()

    def words(self, texts):
        """string `[batch]` → ragged string `[batch, (words)]`."""
        return self.spaces.split(texts)

    def pieces(self, texts):
        """string `[batch]` → ids `[batch, time]` of the tokens of all words, and which is the first of its word."""
        import tensorflow as tf

        words = self.words(texts)
        ids = self.task.ids(words.values)
        first = tf.ragged.range(ids.row_lengths()) == 0
        whole = [tf.RaggedTensor.from_row_splits(x, words.row_splits).merge_dims(1, 2) for x in (ids, first)]
        ids, first = (x[:, : self.task.config.data.length()] for x in whole)
        ids = filled(ids).to_tensor()
        return ids, first.to_tensor(shape=tf.shape(ids))

    def columns(self, examples, counts):
        import tensorflow as tf

        ids, first = self.pieces([example["text"] for _, example in examples])
        tags, labels = np.zeros(ids.shape, "int32"), []
        for (where, example), row, real in zip(examples, tags, first.numpy(), strict=True):
            numbers = {
                name: numbers_of(found, self.task.tables[name], where, name)
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
        one = kseq.losses.TokenCrossentropy(self.task.config.training.label_smoothing)
        return {"tags": one, "label": one} if self.joint else {"tags": one}

    @functools.cached_property
    def graph(self):
        """A `tf.function` from ids to {output: probabilities}."""
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
        def graph(ids):
            logits, _ = self.task.model.attend(ids)
            return {name: tf.nn.softmax(x) for name, x in logits.items()}

        return graph

    @functools.cached_property
    def rules(self):
        """Which tag may follow which, bool `[tags, tags]`, and which may come first: I-kind continues a span."""
        tags = self.task.tables["tags"]
        begins = np.array([tag[0] != "I" or f"B{tag[1:]}" not in tags for tag in tags])
        continues = [[old[0] != "O" and old[2:] == new[2:] for new in tags] for old in tags]
        return np.array(continues) | begins, begins

    def predicted(self, texts):
        """The best tags that make whole spans. A word that was cut off has the tag O."""
        import tensorflow as tf

        tags, _, score, labels = self.tagged(texts)
        found = {"text": tf.strings.reduce_join(tags, axis=-1, separator=" "), "score": score}
        if not self.joint:
            return found
        return found | {"label": tf.gather(tf.constant(self.task.tables["label"]), tf.argmax(labels, axis=-1))}

    def n_best(self, texts):
        """The one answer, with its words "tokens" and their "tags", string `[batch, 1, words]`, and the probabilities
        "tag_score" of these, float32; 0 for a word that was cut off. And where the whole has a label, all of them,
        "label", string `[batch, labels]`, the likeliest first, with their probabilities "label_score".
        """
        import tensorflow as tf

        tags, sure, score, labels = self.tagged(texts)
        words = self.words(texts[0]).to_tensor()
        found = {"text": tf.strings.reduce_join(tags, axis=-1, separator=" "), "score": score}
        found |= {"tokens": words, "tags": tags.to_tensor(), "tag_score": sure.to_tensor(shape=tf.shape(words))}
        found = {name: value[:, None] for name, value in found.items()}
        if self.joint:
            best = tf.math.top_k(labels, len(self.task.tables["label"]))
            found |= {"label": tf.gather(tf.constant(self.task.tables["label"]), best.indices)}
            found |= {"label_score": best.values}
        return found

    def tagged(self, texts):
        """Tensors of texts → the tags of all words, ragged string `[batch, (words)]`, the probabilities of those that
        were not cut off, ragged float32, and their mean, `[batch]`; and those of the labels of the whole, `[batch,
        labels]`, or None.
        """
        import tensorflow as tf

        [text], tables = texts, self.task.tables
        ids, first = self.pieces(text)
        probabilities = self.graph(ids)
        rows = tf.ragged.boolean_mask(probabilities["tags"], first)
        count = rows.row_lengths()
        rows = rows.to_tensor(shape=[None, None, len(tables["tags"])])
        found = kseq.samplers.viterbi_decode(tf.math.log(tf.maximum(rows, 1e-30)), count, *self.rules)
        sure = tf.RaggedTensor.from_tensor(tf.gather(rows, found, batch_dims=2), lengths=count)
        best = tf.RaggedTensor.from_tensor(tf.gather(tf.constant(tables["tags"]), found), lengths=count)
        cut = self.words(text).row_lengths() - count
        best = tf.concat([best, tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(cut)], "O"), cut)], axis=1)
        score = tf.reduce_sum(sure, axis=1) / tf.maximum(tf.cast(count, tf.float32), 1)
        return best, sure, score, probabilities.get("label")

    def tokens(self, texts):
        [text] = texts
        return [[[word.decode() for word in row]] for row in self.words(text).to_list()]

    def records(self, predicted, tokens, n):
        if n > 1:
            raise UserError(f"{n} answers were asked for; tags have one, the likeliest sequence of them")
        label = {"label": predicted["label"].decode()} if self.joint else {}
        text, score = predicted["text"].decode(), float(predicted["score"])
        return [{"text": text, "score": score, "tokens": tokens[0], "alignment": None, "tags": text.split(), **label}]

    def row(self, where, example, record):
        known = self.labels(where, example)
        labels = {"label": record["label"], "label_reference": known["label"][0]} if self.joint else {}
        exact = record["tags"] == known["tags"] and labels.get("label") == labels.get("label_reference")
        row = {"source": example["text"], "prediction": record["text"], "score": record["score"], "exact": exact}
        return row | {"references": [" ".join(known["tags"])]} | labels

    def scores(self, rows):
        tags, references = ([row.split() for row in texts] for texts in _texts(rows))
        metrics = {"span_f1": kseq.metrics.span_f1(tags, references)}
        if self.joint:
            metrics["intent_accuracy"] = float(np.mean([row["label"] == row["label_reference"] for row in rows]))
        return metrics

    def more_scores(self, rows, split):
        tags, references = (" ".join(texts).split() for texts in _texts(rows))
        self.task.unknown_labels(references, "tags")
        metrics = {"accuracy": kseq.metrics.accuracy(tags, references)}
        metrics["exact_match"] = float(np.mean([row["exact"] for row in rows]))
        if self.joint:
            labels = ([row[name] for row in rows] for name in ("label", "label_reference"))
            metrics["confusion"] = self.task.confusion(*labels, split)
        return metrics


def _texts(rows):
    return [row["prediction"] for row in rows], [row["references"][0] for row in rows]


class Tag(Labelling):
    """Words in, a tag for each of them out, and a label for all."""

    name = "tag"
    Config = TagConfig
    Output = Tags
    monitor = "span_f1"
    raw = ("text",)

    def make(self, encoder):
        config = self.config.model
        return kseq.models.SequenceTagger(
            encoder,
            len(self.tables["tags"]),
            classes=len(self.tables["label"]) if self.output.joint else 0,
            pooling=config.pooling,
            units=config.attention_units,
            dropout=config.dropout,
        )

    def shown(self, row):
        words = [word.decode() for word in self.output.words([row["source"]])[0].numpy()]

        def marked(tags, label):
            marks = list(words)
            for kind, first, end in kseq.metrics.spans(tags.split()):
                marks[first] = f"[{kind}: {marks[first]}"
                marks[end - 1] += "]"
            return " ".join([*([f"{label}:"] if label else []), *marks])

        return marked(row["prediction"], row.get("label")), marked(row["references"][0], row.get("label_reference"))

    def figure(self, example, record):
        """The words, those of a span on the colour of its kind."""
        if not record["tokens"]:
            return None
        return kseq.plots.coloured_spans(record["tokens"], kseq.metrics.spans(record["tags"]), record.get("label", ""))

    def pages(self, records):
        examples = [(r["tokens"], kseq.metrics.spans(r["tags"]), r.get("label", "")) for r in records]
        page = kseq.plots.spans_page(examples, f"{self.workdir.name}: the spans that were found")
        return {"spans.html": page} if examples else {}

    def line(self, name, example, record):
        label = [record["label"]] if "label" in record else []
        text = text_of(example["text"]).replace("\t", " ")
        return "\t".join([text, record["text"], *label, f"{record['score']:.3f}"])


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Tag)
