"""Pieces of words as a pretrained encoder learned them: WordPiece (Wu et al., 2016, https://arxiv.org/abs/1609.08144),
by keras-hub.
"""

import json
from pathlib import Path

import keras
import tensorflow as tf

from kseq.errors import UserError
from kseq.files import write_json, write_text


class WordPieces(tf.Module):
    """One text, or two in one sequence, as an encoder of the BERT family reads them: [CLS] a … [SEP] b … [SEP].

    It needs the extra `kseq[pretrained]`.

    Args:
        vocabulary: list of pieces.
        max_length: pieces kept of each text; the rest is cut off.
        tokenizer: a `keras_hub.tokenizers.WordPieceTokenizer` with [CLS] and [SEP], whose [PAD] has the id 0.
    """

    def __init__(self, vocabulary, max_length, tokenizer):
        super().__init__()
        self.vocabulary = list(vocabulary)
        self.max_length = max_length
        self.tokenizer = tokenizer
        # Outside a graph keras-hub would go another way, in Python.
        self._split = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)])

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
        return cls(tokenizer.get_vocabulary(), max_length, tokenizer)

    @classmethod
    def load(cls, path, max_length):
        """Reads what `save` wrote."""
        keras_hub(f"{path}, of a run with model.encoder.pretrained,")
        try:
            words = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            made = json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8"))
            made["config"]["vocabulary"] = words
            return cls(words, max_length, keras.saving.deserialize_keras_object(made))
        except (OSError, ValueError) as error:
            raise UserError(f"vocabulary {path}: {error}") from None

    def save(self, path):
        """Writes the pieces, one a line, and beside them, as `.json`, how the tokenizer is made."""
        write_text(path, "".join(f"{word}\n" for word in self.vocabulary))
        write_json(Path(path).with_suffix(".json"), keras.saving.serialize_keras_object(self.tokenizer))

    def ids(self, texts, *others):
        """string `[batch]`, and as many again for a second text → ragged int32 `[batch, (pieces)]`."""
        begin, end = ([[x]] for x in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id))
        count = tf.shape(texts)[:1]
        parts = [tf.repeat(begin, count, axis=0)]
        for side in (texts, *others):
            pieces = self._split(tf.convert_to_tensor(side, tf.string))[:, : self.max_length]
            parts += [tf.cast(pieces, tf.int32), tf.repeat(end, count, axis=0)]
        return tf.concat(parts, axis=1)

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
