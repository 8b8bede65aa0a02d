"""Text to ids and back; the same graph in training and in the SavedModel."""

from pathlib import Path

import tensorflow as tf

from kseq.errors import UserError
from kseq.files import write_text
from kseq.preprocessors.tokenizers import END, SPECIAL, START, UNKNOWN, CaptionTokenizer


class TextPreprocessor(tf.Module):
    """The tokens of a text, each by its number in a vocabulary.

    Where words are copied from a source, the methods take what `own` made of it: the words that the vocabulary does not
    have, whose ids go on from the vocabulary's.

    Args:
        vocabulary: list of tokens; those of `SPECIAL` come first.
        max_length: tokens kept of a text; the rest is cut off.
        tokenizer: what parts texts and puts them together, one of `UNITS`; a `CaptionTokenizer` where none is given.
    """

    def __init__(self, vocabulary, max_length, tokenizer=None):
        super().__init__()
        if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
            raise UserError(f"a vocabulary begins with {', '.join(SPECIAL)}, this one with {vocabulary[:4]}")
        if len(set(vocabulary)) < len(vocabulary):
            twice = next(word for i, word in enumerate(vocabulary) if word in vocabulary[:i])
            raise UserError(f"a vocabulary names each word once, this one {twice!r} twice")
        self.vocabulary = list(vocabulary)
        self.max_length = max_length
        self.tokenizer = tokenizer or CaptionTokenizer()
        words = tf.constant(self.vocabulary)
        ids = tf.range(len(self.vocabulary))
        self._ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), UNKNOWN)
        self._words = tf.Variable(words, trainable=False)

    @classmethod
    def adapt(cls, texts, *, max_length, size, min_count, tokenizer=None):
        """Takes the tokens that stand at least `min_count` times in `texts`, at most `size`, the commonest first.

        Args:
            texts: iterable of strings; walked once, a batch of them in memory at a time.
            max_length: tokens kept of a text.
            size: of the vocabulary, `SPECIAL` among it.
            min_count: least count of a token that is kept.
            tokenizer: as of the class.
        """
        tokenizer = tokenizer or CaptionTokenizer()
        return cls([*SPECIAL, *tokenizer.learn(texts, size - len(SPECIAL), min_count)], max_length, tokenizer)

    @classmethod
    def load(cls, path, max_length, tokenizer=None):
        """Reads what `save` wrote, with a tokenizer like the one that it was saved with."""
        tokenizer = tokenizer or CaptionTokenizer()
        try:
            words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            tokenizer.load(path, words)
            return cls(words, max_length, tokenizer)
        except (OSError, ValueError) as error:
            raise UserError(f"vocabulary {path}: {error}") from None

    def save(self, path):
        """Writes the vocabulary, a token a line, a token's id being its line counted from 0."""
        write_text(path, "".join(f"{word}\n" for word in self.vocabulary))
        self.tokenizer.save(path)

    def tokens(self, texts):
        """string `[batch]` → ragged string `[batch, (tokens)]`, as many as are kept of each."""
        return self.tokenizer.split(texts)[:, : self.max_length]

    def ids(self, texts, own=None):
        """string `[batch]` → ragged int32 `[batch, (words)]`, without start and end."""
        words, ids = self._read(texts)
        if own is None:
            return ids
        unknown = tf.where(ids.flat_values == UNKNOWN)  # [unknown words, 1]: no other word is compared
        rows, missing = (tf.gather_nd(flat, unknown) for flat in (words.value_rowids(), words.flat_values))
        same = tf.gather(own, rows) == missing[:, None]  # [unknown words, copies]
        number = len(self.vocabulary) + tf.argmax(same, axis=-1, output_type=tf.int32)
        number = tf.where(tf.reduce_any(same, axis=-1), number, UNKNOWN)
        return ids.with_flat_values(tf.tensor_scatter_nd_update(ids.flat_values, unknown, number))

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
        words = self.tokens(texts)
        return words, tf.ragged.map_flat_values(self._ids.lookup, words)

    def targets(self, texts, own=None):
        """string `[batch]` → ragged int32 `[batch, (words)]`, each from start to end."""
        ids = self.ids(texts, own)
        start, end = (tf.fill([ids.nrows(), 1], token) for token in (START, END))
        return tf.concat([start, ids, end], axis=1)

    def words(self, ids, own=()):
        """A sequence of ids up to the end → list of tokens; `own` is the source's list of strings."""
        known = len(self.vocabulary)
        return [self.vocabulary[i] if i < known else own[i - known] for i in ids if i > END]

    def text(self, ids, source=None, alignments=None, own=None):
        """int `[..., time]`, 0 after the end → string `[...]`: the words up to the end, as a person writes them.

        Unknown words are left out, or, where a source is given, replaced through the alignment (Luong et al., 2015,
        https://arxiv.org/abs/1410.8206): by the source's token with the largest weight.

        Args:
            ids: of the text; `[batch, time]` where a source or its own words are given.
            source: string `[batch, source]`, the tokens of what was read, "" after the last.
            alignments: float `[batch, time, source]`, may be longer than the source.
            own: what `own` made of what was read, where words are copied.
        """
        known = len(self.vocabulary)
        words = tf.where(ids > UNKNOWN, tf.gather(self._words, tf.minimum(ids, known - 1)), "")
        if own is not None:
            words = tf.where(ids < known, words, tf.gather(own, tf.maximum(ids - known, 0), batch_dims=1))
        if source is not None:
            words = tf.where(ids == UNKNOWN, looked_at(source, alignments), words)
        return self.tokenizer.join(words)


def looked_at(source, alignments):
    """string `[batch, source]`, float `[batch, time, source]` → string `[batch, time]`: where the most weight lies."""
    source = tf.pad(source, [[0, 0], [0, 1]], constant_values="")  # so that a text of no words has one to look at
    return tf.gather(source, tf.argmax(alignments, axis=-1), batch_dims=1)


def tokenize(texts):
    """list of texts → list of lists of words, those of captions."""
    tokens = CaptionTokenizer().split(tf.constant(list(texts), tf.string))
    return [[word.decode() for word in words] for words in tokens.to_list()]
