"""Texts to tokens and back, a class for each unit, in TensorFlow's string operations alone."""

import abc
from collections import Counter
from itertools import islice

import keras
import tensorflow as tf

from kseq.errors import UserError

PADDING, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")  # the first tokens of every vocabulary
BATCH = 4096  # texts that are split at once while a vocabulary is made

# Two marks that tokens carry, which no text may hold (they become _): a tie to the neighbour on this side, and a space.
TIE, SPACE = "‿", "▁"

# Scripts that put no spaces between words: each character is a word of its own.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
# And with their punctuation: what stands beside a space only where the text says so.
_TIGHT = _UNSPACED + r"\x{3001}-\x{303F}\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}"
_SIGN = r"[\p{P}\p{S}]"
_RUNS = r"\.{2,}|-{2,}|!{2,}|\?{2,}|'{2,}|`{2,}"

_replace = tf.strings.regex_replace


class Tokenizer(tf.Module, abc.ABC):
    """Parts texts into tokens and puts tokens together again.

    Before a text is parted, bytes that are not UTF-8 and NUL become U+FFFD, the tokens' two marks become _, and every
    run of white space and control characters becomes one space, none at the ends. For what is left, `join(split(x))`
    is `x`, but for words that a model does not know.

    Args:
        lower_case: whether texts are converted to lower case.
        normalize: "none", or the form of Unicode that texts are brought into: "nfc" (é is one character, however it
            was typed) or "nfkc" (and ﬁ is fi, ① is 1). These two need the extra `kseq[subword]`.

    Raises:
        UserError: `normalize` is another word, or needs what is not installed.
    """

    def __init__(self, *, lower_case=False, normalize="none"):
        super().__init__()
        if normalize not in ("none", "nfc", "nfkc"):
            raise UserError(f"normalize must be none, nfc or nfkc, not {normalize!r}")
        self.lower_case = lower_case
        self.normalize = normalize
        if normalize != "none":
            tensorflow_text(f"normalize = {normalize}")

    def split(self, texts):
        """string `[batch]` → ragged string `[batch, (tokens)]`."""
        return self._split(self.clean(texts))

    @abc.abstractmethod
    def _split(self, texts):
        """The same for clean texts."""

    @abc.abstractmethod
    def join(self, tokens):
        """string `[..., tokens]`, "" where there is none → string `[...]`: the text, as a person writes it."""

    def clean(self, texts):
        """string `[...]` → string `[...]`: valid UTF-8 in the form that `split` parts."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        texts = _replace(_replace(texts, f"[{TIE}{SPACE}]", "_"), r"\x00", "\ufffd")
        if self.normalize != "none":
            texts = tensorflow_text("normalize").normalize_utf8(texts, self.normalize.upper())
        if self.lower_case:
            texts = tf.strings.lower(texts, encoding="utf-8")
        return tf.strings.strip(_replace(texts, r"[\p{Z}\p{Cc}]+", " "))

    def learn(self, texts, size, min_count, count_all=map):
        """The most frequent tokens of an iterable of texts, at most `size` of those that occur `min_count` times.

        Those that are spelled like one of `SPECIAL` are not among them. `size` None sets no limit. `count_all` calls
        `count` on each of several lists of texts, as `map` does.
        """
        counts = Counter()
        for found in count_all(self.count, batches(texts)):
            counts.update(found)
        for token in SPECIAL:
            counts.pop(token.encode(), None)
        ranked = sorted((token for token, n in counts.items() if n >= min_count), key=lambda t: (-counts[t], t))
        return [token.decode() for token in ranked[:size]]

    def count(self, texts):
        """How often each token occurs in a list of texts, {bytes: number}."""
        return Counter(self.split(tf.constant(texts, tf.string)).flat_values.numpy().tolist())

    def check(self, vocabulary):
        """Raises `UserError` where the tokenizer has learned other tokens than these."""

    def same_as(self, other):
        """Whether it splits as another tokenizer does, whatever either has learned."""
        options = [{key: x for key, x in one.get_config().items() if key != "model"} for one in (self, other)]
        return type(self) is type(other) and options[0] == options[1]

    def get_config(self):
        return {"lower_case": self.lower_case, "normalize": self.normalize}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("kseq")
class CaptionTokenizer(Tokenizer):
    """Lower-case words without punctuation, the usual tokenisation of captions; Chinese and Japanese by character.

    What a text loses is not put back. A NUL ends a text.
    """

    def clean(self, texts):
        if self.normalize != "none":
            texts = tensorflow_text("normalize").normalize_utf8(texts, self.normalize.upper())
        return tf.strings.lower(texts, encoding="utf-8")

    def _split(self, texts):
        texts = _replace(texts, "['’]", "")
        texts = _replace(texts, r"[\p{P}\p{S}\p{Z}\p{Cc}]", " ")
        texts = _replace(texts, f"([{_UNSPACED}])", r" \1 ")
        return tf.strings.split(texts)

    def join(self, tokens):
        return spaced(_replace(tf.strings.reduce_join(tokens, -1, separator=" "), rf" *([{_UNSPACED}]) *", r"\1"))


@keras.saving.register_keras_serializable("kseq")
class SpaceTokenizer(Tokenizer):
    """Words as they are given: what stands between spaces."""

    def _split(self, texts):
        return tf.strings.split(texts)

    def join(self, tokens):
        return spaced(tf.strings.reduce_join(tokens, -1, separator=" "))


@keras.saving.register_keras_serializable("kseq")
class WordTokenizer(Tokenizer):
    """Words, with punctuation split off; Chinese and Japanese by character.

    A tie says on which side a token touches its neighbour: `l'homme, (don't)` is `l'‿ homme ‿, (‿ don ‿'t ‿)`. Words
    never carry one, so that a word is the same token everywhere. A character of Chinese or Japanese touches its
    neighbours without a tie, and a space beside it is a token. Runs of one sign (`...`) stay together, and so do
    numbers (`1,000.5`).
    """

    def _split(self, texts):
        # While marks are set, a tie is an edge in the middle of a text, and a line end an edge beside what needs none.
        texts = _replace(_replace(texts, rf"({_RUNS}|{_SIGN})", r"‿\1‿"), "‿+", "‿")
        texts = _replace(texts, f"‿?([{_TIGHT}])‿?", "\n\\1\n")
        for _ in range(2):  # what ends one match may begin the next
            texts = _replace(texts, r"(\p{N})‿([.,])‿(\p{N})", r"\1\2\3")
            texts = _replace(texts, r"(?i)(\p{L})‿(['’])‿(s|t|re|ve|ll|d|m)([‿\n ]|$)", r"\1‿\2\3\4")
        for _ in range(2):
            texts = _replace(texts, r"(\p{L})‿(['’])‿(\p{L})", r"\1\2‿\3")
        texts = _replace(_replace(texts, "‿?( |^|$)‿?", r"\1"), r"[‿\n]*\n[‿\n]*", "\n")
        texts = _replace(texts, r"\n \n?| \n", " ▁ ")
        texts = _replace(texts, f"‿({_SIGN})", r" ‿\1")
        return tf.strings.split(_replace(texts, r"([^ \n])‿", r"\1‿ "))

    def join(self, tokens):
        texts = _replace(tf.strings.reduce_join(tokens, -1, separator=" "), f" *{TIE} *", "")
        texts = _replace(_replace(texts, f" *{SPACE} *", SPACE), f" *([{_TIGHT}]) *", r"\1")
        return spaced(texts)


@keras.saving.register_keras_serializable("kseq")
class CharacterTokenizer(Tokenizer):
    """Characters (code points) of any script; a space is a token of its own, `▁`."""

    def _split(self, texts):
        return tf.strings.unicode_split(_replace(texts, " ", SPACE), "UTF-8")

    def join(self, tokens):
        return spaced(tf.strings.reduce_join(tokens, -1))


@keras.saving.register_keras_serializable("kseq")
class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8, 256 tokens: those that print by their character, the others as `<0xE9>`."""

    def __init__(self, *, lower_case=False, normalize="none"):
        super().__init__(lower_case=lower_case, normalize=normalize)
        self.names = [chr(i) if 0x21 <= i <= 0x7E else f"<0x{i:02X}>" for i in range(256)]
        every = [bytes([i]) for i in range(256)]
        self._name, self._byte = (
            tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), "")
            for keys, values in ((tf.constant(every), tf.constant(self.names)), (self.names, tf.constant(every)))
        )

    def _split(self, texts):
        return tf.ragged.map_flat_values(self._name.lookup, tf.strings.bytes_split(texts))

    def join(self, tokens):
        """Where bytes are missing in a character, it becomes U+FFFD."""
        texts = tf.strings.reduce_join(self._byte.lookup(tokens), -1)
        return tf.strings.strip(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace"))

    def learn(self, texts, size, min_count, count_all=map):
        """All 256 names, whatever the texts are."""
        return self.names


def batches(texts):
    """An iterable of texts → lists of at most `BATCH`."""
    texts = iter(texts)
    while batch := list(islice(texts, BATCH)):
        yield batch


def spaced(texts):
    """Marks of a space and runs of spaces to one space, none at the ends."""
    return tf.strings.strip(_replace(texts, f"[ {SPACE}]+", " "))


def tensorflow_text(what):
    """The module `tensorflow_text`, or `UserError` that says who needs it.

    What it adds to a graph only runs where it is imported, or built in as in TensorFlow Serving.
    """
    try:
        import tensorflow_text
    except ImportError:
        raise UserError(f"{what} needs more than TensorFlow: pip install 'kseq[subword]'") from None
    return tensorflow_text
