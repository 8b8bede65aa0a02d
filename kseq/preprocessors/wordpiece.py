"""Pieces of words as a pretrained encoder learned them: WordPiece (Wu et al., 2016, https://arxiv.org/abs/1609.08144),
by keras-hub.
"""

import hashlib
import json
from pathlib import Path

import keras
import tensorflow as tf

from kseq.errors import UserError
from kseq.files import write_json, write_text
from kseq.preprocessors.text import read_options


class WordPieces(tf.Module):
    """One text, or two in one sequence, as an encoder of the BERT family reads them: [CLS] a … [SEP] b … [SEP].

    It needs the extra `kseq[pretrained]`.

    Args:
        max_length: pieces that are kept of each text; the rest is cut off.
        tokenizer: a `keras_hub.tokenizers.WordPieceTokenizer` with [CLS] and [SEP], whose [PAD] has the id 0.
    """

    def __init__(self, max_length, tokenizer):
        super().__init__()
        self.max_length = max_length
        self.tokenizer = tokenizer
        self.vocabulary = tokenizer.get_vocabulary()
        # Outside a graph keras-hub would go another way, in Python.
        self._split = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

    @classmethod
    def from_preset(cls, preset, max_length):
        """The pieces of a preset of keras-hub, by its name, or a folder in the form of keras-hub or of Hugging Face.

        Raises:
            UserError: keras-hub is not installed, or the preset cannot be had or has no such pieces.
        """
        hub = keras_hub(f"model.encoder.pretrained={preset}")
        try:
            tokenizer = hub.tokenizers.Tokenizer.from_preset(preset)
        except Exception as error:  # of many kinds, as where a download fails
            reason, *_ = str(error).split("\n")
            raise UserError(f"model.encoder.pretrained={preset} cannot be loaded: {reason}") from None
        ends = getattr(tokenizer, "cls_token_id", None), getattr(tokenizer, "sep_token_id", None)
        pieces = isinstance(tokenizer, hub.tokenizers.WordPieceTokenizer)
        if not pieces or None in ends or getattr(tokenizer, "pad_token_id", None) != 0:
            raise UserError(
                f"model.encoder.pretrained={preset} reads by a {type(tokenizer).__name__}; it must read by WordPiece "
                "with [CLS], [SEP] and a [PAD] whose id is 0, as BERT, DistilBERT and ELECTRA do"
            )
        return cls(max_length, tokenizer)

    def get_vocabulary(self):
        """List of the pieces; the id of each is its place."""
        return list(self.vocabulary)

    def with_max_length(self, max_length):
        """The same preprocessor, which keeps so many pieces of each text."""
        return type(self)(max_length, self.tokenizer)

    def fingerprint(self):
        """A string that changes when the ids of a text would, whatever `max_length` is."""
        made = self.get_config()["tokenizer"]
        del made["config"]["name"]  # which Keras counts up
        return hashlib.sha256(json.dumps([made["class_name"], made["config"]]).encode()).hexdigest()

    def get_config(self):
        tokenizer = keras.saving.serialize_keras_object(self.tokenizer)
        tokenizer["config"]["vocabulary"] = self.get_vocabulary()
        return {"max_length": self.max_length, "tokenizer": tokenizer}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"tokenizer": keras.saving.deserialize_keras_object(config["tokenizer"])})

    def save(self, path):
        """Writes the pieces, one a line, and beside them, as `.json`, how texts are read."""
        config = self.get_config()
        config["tokenizer"]["config"]["vocabulary"] = None
        write_text(path, "".join(f"{word}\n" for word in self.vocabulary))
        write_json(Path(path).with_suffix(".json"), {"class_name": type(self).__name__, "config": config})

    @classmethod
    def load(cls, path):
        """The preprocessor that `save` wrote.

        Raises:
            UserError: keras-hub is not installed, or a file is missing or damaged.
        """
        keras_hub(f"{path}, of a run with model.encoder.pretrained,")
        try:
            words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            config = read_options(path, cls.__name__)
            config["tokenizer"]["config"]["vocabulary"] = words
            return cls.from_config(config)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"vocabulary {path}: {error}") from None

    def ids(self, texts, *others):
        """string `[batch]`, and as many again for a second text → ragged int32 `[batch, (pieces)]`."""
        begin, end = ([[x]] for x in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id))
        count = tf.shape(texts)[:1]
        parts = [tf.repeat(begin, count, axis=0)]
        for side in (texts, *others):
            pieces = self._pieces(side)[:, : self.max_length]
            parts += [tf.cast(pieces, tf.int32), tf.repeat(end, count, axis=0)]
        return tf.concat(parts, axis=1)

    def _pieces(self, texts):
        # Of bytes that are not UTF-8, tensorflow_text makes an error.
        return self._split(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace"))

    def truncated(self, texts, *others):
        """The same → bool `[batch]`: where a text has more than `max_length` pieces."""
        return tf.reduce_any([self._pieces(side).row_lengths() > self.max_length for side in (texts, *others)], axis=0)

    def tokens(self, texts, *others):
        """The pieces of the same, ragged string `[batch, (pieces)]`."""
        return tf.ragged.map_flat_values(lambda ids: tf.gather(self.vocabulary, ids), self.ids(texts, *others))


def keras_hub(what):
    """The module `keras_hub`, or `UserError` that says who needs it."""
    try:
        import keras_hub
        import tensorflow_text  # noqa: F401  without it keras-hub splits in Python, where a SavedModel has none
    except ImportError:
        raise UserError(f"{what} needs keras-hub: pip install 'kseq[pretrained]'") from None
    return keras_hub
