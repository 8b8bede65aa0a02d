"""Text to words and back; the same graph in training and in the SavedModel."""

from collections import Counter
from pathlib import Path

import tensorflow as tf

from kseq.errors import UserError
from kseq.files import write_text

PADDING, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")

# Scripts that put no spaces between words: each character is a word of its own.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー"


class TextPreprocessor(tf.Module):
    """Lower-case words without punctuation, the usual tokenisation of captions; Chinese and Japanese by character.

    Where words are copied from a source, the methods take what `own` made of it: the words that the vocabulary does not
    have, whose ids go on from the vocabulary's.

    Args:
        vocabulary: list of words; those of `SPECIAL` come first.
        max_length: words kept of a text.
    """

    def __init__(self, vocabulary, max_length):
        super().__init__()
        if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
            raise UserError(f"a vocabulary begins with {', '.join(SPECIAL)}, this one with {vocabulary[:4]}")
        if len(set(vocabulary)) < len(vocabulary):
            twice = next(word for i, word in enumerate(vocabulary) if word in vocabulary[:i])
            raise UserError(f"a vocabulary names each word once, this one {twice!r} twice")
        self.vocabulary = list(vocabulary)
        self.max_length = max_length
        words = tf.constant(self.vocabulary)
        ids = tf.range(len(self.vocabulary))
        self._ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), UNKNOWN)
        self._words = tf.Variable(words, trainable=False)

    @classmethod
    def adapt(cls, texts, *, max_length, size, min_count):
        """Takes the words that stand at least `min_count` times in `texts`, at most `size`, the commonest first."""
        counts = Counter(word for text in tokenize(texts) for word in text)
        ranked = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls([*SPECIAL, *ranked[: size - len(SPECIAL)]], max_length)

    @classmethod
    def load(cls, path, max_length):
        """Reads a vocabulary that `save` wrote."""
        try:
            words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            return cls(words, max_length)
        except (OSError, ValueError) as error:
            raise UserError(f"vocabulary {path}: {error}") from None

    def save(self, path):
        """Writes the vocabulary, a word a line, a word's id being its line counted from 0."""
        write_text(path, "".join(f"{word}\n" for word in self.vocabulary))

    def ids(self, texts, own=None):
        """string `[batch]` → ragged int32 `[batch, (words)]`, without start and end."""
        words, ids = self._read(texts)
        if own is None:
            return ids
        same = tf.gather(own, words.value_rowids()) == words.flat_values[:, None]  # [words, copies]
        number = len(self.vocabulary) + tf.argmax(same, axis=-1, output_type=tf.int32)
        return ids.with_flat_values(tf.where(tf.reduce_any(same, axis=-1), number, ids.flat_values))

    def own(self, texts, copies):
        """The words of a text that the vocabulary does not have, the first `copies` of them, each once, in the order of
        the text: string `[batch]` → string `[batch, copies]`, "" where there are fewer.
        """
        words, ids = self._read(texts)
        words = tf.ragged.boolean_mask(words, ids == UNKNOWN).to_tensor()
        place = tf.range(tf.shape(words)[1])
        again = tf.reduce_any((words[:, :, None] == words[:, None, :]) & (place[:, None] > place), axis=-1)
        return tf.ragged.boolean_mask(words, (words != "") & ~again).to_tensor(shape=[None, copies])

    def _read(self, texts):
        """string `[batch]` → its words and their ids, both ragged `[batch, (words)]`."""
        words = split(texts)[:, : self.max_length]
        return words, tf.ragged.map_flat_values(self._ids.lookup, words)

    def sentences(self, texts, own=None):
        """list of texts → list of lists of ids, each from start to end."""
        return [[START, *ids, END] for ids in self.ids(tf.constant(texts, tf.string), own).to_list()]

    def words(self, ids, own=()):
        """A sequence of ids up to the end → list of words; `own` is the source's list of strings."""
        known = len(self.vocabulary)
        return [self.vocabulary[i] if i < known else own[i - known] for i in ids if i > END]

    def text(self, ids, own=None):
        """int `[..., time]`, 0 after the end → string `[...]`: the words up to the end, as a person writes them."""
        if own is None:
            words = tf.gather(self._words, ids)
        else:
            known = len(self.vocabulary)
            copied = tf.gather(own, tf.maximum(ids - known, 0), batch_dims=1)
            words = tf.where(ids < known, tf.gather(self._words, tf.minimum(ids, known - 1)), copied)
        joined = tf.strings.reduce_join(tf.where(ids > UNKNOWN, words, ""), axis=-1, separator=" ")
        joined = tf.strings.regex_replace(joined, rf" *([{_UNSPACED}]) *", r"\1")
        return tf.strings.strip(tf.strings.regex_replace(joined, " +", " "))


def split(texts):
    """string `[batch]` → ragged string `[batch, (words)]`."""
    texts = tf.strings.lower(texts, encoding="utf-8")
    texts = tf.strings.regex_replace(texts, "['’]", "")
    texts = tf.strings.regex_replace(texts, r"[\p{P}\p{S}\p{Z}\p{Cc}]", " ")
    texts = tf.strings.regex_replace(texts, f"([{_UNSPACED}])", r" \1 ")
    return tf.strings.split(texts)


def tokenize(texts):
    """list of texts → list of lists of words."""
    return [[word.decode() for word in words] for words in split(tf.constant(list(texts), tf.string)).to_list()]
