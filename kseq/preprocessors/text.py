"""Text to ids and back; the same graph in training and in the SavedModel."""

import base64
import hashlib
import json
from pathlib import Path

import keras
import tensorflow as tf

from kseq.errors import UserError
from kseq.files import replacing, write_json, write_text
from kseq.preprocessors.tokenizers import END, SPECIAL, START, UNKNOWN, CaptionTokenizer

MAX_COPIED = 100  # characters of a word that is copied from a source


@keras.saving.register_keras_serializable("kseq")
class TextPreprocessor(tf.Module):
    """Texts to the ids of their tokens and back, as `keras.layers.TextVectorization` does one way.

    The vocabulary is given, or learned by `adapt`. A token that it does not have is `UNKNOWN`, and so is a token of a
    text that is spelled like one of `SPECIAL`.

    Where words are copied from a source, the methods take its `oov_words`: the words that the vocabulary does not have,
    whose ids continue after the vocabulary's.

    Args:
        max_length: tokens that are kept of a text; the rest is cut off.
        tokenizer: splits texts into tokens and joins them again, one of `UNITS`; a `CaptionTokenizer` by default.
        max_tokens: largest size of the vocabulary, `SPECIAL` included, that `adapt` makes; None for no limit.
        min_count: how often a token must occur for `adapt` to take it.
        vocabulary: list of tokens, `SPECIAL` first, instead of `adapt`.

    Raises:
        UserError: a number is out of range, or the vocabulary does not begin with `SPECIAL` or has a token twice.
    """

    def __init__(self, max_length, *, tokenizer=None, max_tokens=None, min_count=1, vocabulary=None):
        super().__init__()
        for name, value, least in (
            ("max_length", max_length, 1),
            ("max_tokens", len(SPECIAL) if max_tokens is None else max_tokens, len(SPECIAL)),
            ("min_count", min_count, 1),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, it is {value}")
        self.max_length = max_length
        self.tokenizer = tokenizer or CaptionTokenizer()
        self.max_tokens = max_tokens
        self.min_count = min_count
        self.vocabulary = None
        if vocabulary is not None:
            self._use(vocabulary)

    def adapt(self, texts, count_all=map):
        """Learns the vocabulary: the most frequent tokens first, those of equal count in the order of the alphabet.

        Args:
            texts: iterable of strings; walked once, a batch of them in memory at a time.
            count_all: function as `map`, which may count the tokens of the batches in other processes.
        """
        size = None if self.max_tokens is None else self.max_tokens - len(SPECIAL)
        options = {} if count_all is map else {"count_all": count_all}  # a tokenizer may have its own way to learn
        self._use([*SPECIAL, *self.tokenizer.learn(texts, size, self.min_count, **options)])

    def _use(self, vocabulary):
        if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
            raise UserError(f"a vocabulary begins with {', '.join(SPECIAL)}, this one with {vocabulary[:4]}")
        if len(set(vocabulary)) < len(vocabulary):
            twice = next(word for i, word in enumerate(vocabulary) if word in vocabulary[:i])
            raise UserError(f"a vocabulary names each word once, this one {twice!r} twice")
        self.tokenizer.check(vocabulary)
        self.vocabulary = list(vocabulary)
        words = tf.constant(self.vocabulary)
        # A word that is spelled like a special token is none.
        ids = tf.constant([UNKNOWN] * len(SPECIAL) + list(range(len(SPECIAL), len(self.vocabulary))))
        self._ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), UNKNOWN)
        self._words = tf.Variable(words, trainable=False)

    def get_vocabulary(self):
        """List of the tokens; the id of each is its place.

        Raises:
            UserError: there is none yet.
        """
        if self.vocabulary is None:
            raise UserError("there is no vocabulary yet: call adapt(texts), or give vocabulary=")
        return list(self.vocabulary)

    def with_max_length(self, max_length):
        """The same preprocessor, which keeps so many tokens of a text."""
        return self.from_config(self.get_config() | {"max_length": max_length})

    def fingerprint(self):
        """A string that changes when the ids of a text would, whatever `max_length` is."""
        ids = [keras.saving.serialize_keras_object(self.tokenizer)["config"], self.get_vocabulary()]
        return hashlib.sha256(json.dumps([type(self.tokenizer).__name__, *ids]).encode()).hexdigest()

    def get_config(self):
        return {
            "max_length": self.max_length,
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            "max_tokens": self.max_tokens,
            "min_count": self.min_count,
            "vocabulary": self.vocabulary and list(self.vocabulary),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"tokenizer": keras.saving.deserialize_keras_object(config["tokenizer"])})

    def save(self, path):
        """Writes the vocabulary, one token a line, and how texts are read beside it: the options as `.json`, and what
        the tokenizer has learned (`SubwordTokenizer`: `.model`).
        """
        config = self.get_config()
        write_text(path, "".join(f"{word}\n" for word in self.get_vocabulary()))
        del config["vocabulary"]
        options = config["tokenizer"]["config"]
        if options.get("model"):
            with replacing(Path(path).with_suffix(".model")) as draft:
                draft.write_bytes(base64.b64decode(options["model"]))
            options["model"] = Path(path).with_suffix(".model").name
        write_json(Path(path).with_suffix(".json"), {"class_name": type(self).__name__, "config": config})

    @classmethod
    def load(cls, path):
        """The preprocessor that `save` wrote.

        A tokenizer of your own must be known to Keras (`keras.saving.register_keras_serializable`).

        Raises:
            UserError: a file is missing, damaged, or does not belong to the others.
        """
        try:
            words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            config = read_options(path, cls.__name__)
            options = config["tokenizer"]["config"]
            if options.get("model"):
                options["model"] = base64.b64encode(Path(path).with_suffix(".model").read_bytes()).decode()
            return cls.from_config(config | {"vocabulary": words})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"vocabulary {path}: {error}") from None

    def tokens(self, texts):
        """string `[batch]` → ragged string `[batch, (tokens)]`, those that are kept."""
        return self._read(texts)[0]

    def ids(self, texts, oov_words=None):
        """string `[batch]` → ragged int32 `[batch, (tokens)]`, without start and end."""
        return self._encode(texts, oov_words)[0]

    def targets(self, texts, oov_words=None):
        """string `[batch]` → ragged int32 `[batch, (tokens)]`, each from `START` to `END`.

        A text that is cut off at `max_length` has no `END`: it did not end there.
        """
        ids, truncated = self._encode(texts, oov_words)
        start = tf.fill([ids.nrows(), 1], START)
        count = tf.cast(~truncated, tf.int64)
        end = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(count)], END), count)
        return tf.concat([start, ids, end], axis=1)

    def truncated(self, texts):
        """string `[batch]` → bool `[batch]`: which texts have more than `max_length` tokens."""
        return self._read(texts)[1]

    def oov_words(self, texts, max_oov_words):
        """The out-of-vocabulary words of each text: the first `max_oov_words` that differ, in the order of the text.

        Words of more than `MAX_COPIED` characters are left out.

        Returns:
            string `[batch, max_oov_words]`, "" where there are fewer.
        """
        words, _ = self._read(texts)
        short = tf.ragged.map_flat_values(_is_short, words)
        words = tf.ragged.boolean_mask(words, (self._lookup(words) == UNKNOWN) & short).to_tensor()
        place = tf.range(tf.shape(words)[1])
        again = tf.reduce_any((words[:, :, None] == words[:, None, :]) & (place[:, None] > place), axis=-1)
        return tf.ragged.boolean_mask(words, (words != "") & ~again).to_tensor(shape=[None, max_oov_words])

    def _read(self, texts):
        """string `[batch]` → ragged string `[batch, (tokens)]`, cut off, and which texts were, bool `[batch]`."""
        words = self.tokenizer.split(texts)
        return words[:, : self.max_length], words.row_lengths() > self.max_length

    def _lookup(self, words):
        if self.vocabulary is None:
            self.get_vocabulary()  # raises
        return tf.ragged.map_flat_values(self._ids.lookup, words)

    def _encode(self, texts, oov_words):
        words, truncated = self._read(texts)
        ids = self._lookup(words)
        if oov_words is None:
            return ids, truncated
        unknown = tf.where(ids.flat_values == UNKNOWN)  # [unknown words, 1]: no other word is compared
        rows, missing = (tf.gather_nd(flat, unknown) for flat in (words.value_rowids(), words.flat_values))
        same = tf.gather(oov_words, rows) == missing[:, None]  # [unknown words, oov words]
        number = len(self.vocabulary) + tf.argmax(same, axis=-1, output_type=tf.int32)
        number = tf.where(tf.reduce_any(same, axis=-1), number, UNKNOWN)
        return ids.with_flat_values(tf.tensor_scatter_nd_update(ids.flat_values, unknown, number)), truncated

    def words(self, ids, oov_words=()):
        """A sequence of ids up to the end → list of tokens; `oov_words` is the source's list of strings."""
        known = len(self.vocabulary)
        return [self.vocabulary[i] if i < known else oov_words[i - known] for i in ids if i > END]

    def spelled(self, ids, *, least=END, oov_words=None):
        """int `[..., time]` → string `[..., time]`: the token of each id, "" where it is `least` or less.

        Args:
            ids: of texts; `[batch, ..., time]` where there are `oov_words`.
            least: the largest id that is left out.
            oov_words: string `[batch, max_oov_words]`, those of what was read, where words are copied.
        """
        known = len(self.vocabulary)
        words = tf.where(ids > least, tf.gather(self._words, tf.minimum(ids, known - 1)), "")
        if oov_words is None:
            return words
        return tf.where(ids < known, words, tf.gather(oov_words, tf.maximum(ids - known, 0), batch_dims=1))

    def text(self, ids, source=None, alignments=None, oov_words=None):
        """int `[..., time]`, 0 after the end → string `[...]`: the words up to the end, as a person writes them.

        Unknown words are left out, or, where a source is given, replaced through the alignment (Luong et al., 2015,
        https://arxiv.org/abs/1410.8206): by the source's token with the largest weight, unless that has more than
        `MAX_COPIED` characters.

        Args:
            ids: of the text; `[batch, time]` where a source or its out-of-vocabulary words are given.
            source: string `[batch, source]`, the tokens of what was read, "" after the last.
            alignments: float `[batch, time, source]`, may be longer than the source.
            oov_words: string `[batch, max_oov_words]`, those of what was read, where words are copied.
        """
        words = self.spelled(ids, least=UNKNOWN, oov_words=oov_words)
        if source is not None:
            words = tf.where(ids == UNKNOWN, looked_at(source, alignments), words)
        return self.tokenizer.join(words)


def read_options(path, class_name):
    """The config that lies beside the vocabulary at `path`, of an object of that class.

    Raises:
        UserError: there is none, or it is of another class.
        ValueError: it is no JSON.
    """
    beside = Path(path).with_suffix(".json")
    if not beside.exists():
        raise UserError(
            f"{beside.name} is missing, which says how texts are read; runs that were made before it was written "
            "must be trained again"
        )
    made = json.loads(beside.read_text(encoding="utf-8"))
    if not isinstance(made, dict) or made.get("class_name") != class_name or not isinstance(made.get("config"), dict):
        raise UserError(f"{beside.name} is not that of a {class_name}")
    return made["config"]


def _is_short(words):
    """Whether words may be copied, string `[...]` → bool `[...]`."""
    return tf.strings.length(words, "UTF8_CHAR") <= MAX_COPIED


def looked_at(source, alignments):
    """string `[batch, source]`, float `[batch, time, source]` → string `[batch, time]`: where the most weight lies."""
    source = tf.where(_is_short(source), source, "")
    source = tf.pad(source, [[0, 0], [0, 1]], constant_values="")  # so that a text of no words has one to look at
    return tf.gather(source, tf.argmax(alignments, axis=-1), batch_dims=1)


def tokenize(texts):
    """list of texts → list of lists of words, those of captions."""
    tokens = CaptionTokenizer().split(tf.constant(list(texts), tf.string))
    return [[word.decode() for word in words] for words in tokens.to_list()]
