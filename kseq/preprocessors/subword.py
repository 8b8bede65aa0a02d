"""Parts of words that a run learns from its own text: SentencePiece (Kudo and Richardson, 2018).

https://arxiv.org/abs/1808.06226
"""

import base64
import io

import keras
import tensorflow as tf

from kseq.errors import UserError
from kseq.preprocessors.tokenizers import (
    END,
    PADDING,
    SPECIAL,
    START,
    UNKNOWN,
    Tokenizer,
    batches,
    spaced,
    tensorflow_text,
)

SAMPLE = 1_000_000  # texts that the pieces are learned from, drawn at random where there are more
LONGEST = 1 << 20  # bytes of a text that is learned from; longer ones are passed over


@keras.saving.register_keras_serializable("kseq")
class SubwordTokenizer(Tokenizer):
    """Pieces of words; `▁` is the space before one. A character that is rare becomes its bytes, so none is unknown.

    The vocabulary has room for 256 bytes and all characters that are not rare. It needs the extra `kseq[subword]`.

    Args:
        algorithm: "unigram" (Kudo, 2018, https://arxiv.org/abs/1804.10959) or "bpe" (Sennrich et al., 2016,
            https://arxiv.org/abs/1508.07909).
        model: the model of SentencePiece in base64, where pieces have been learned.
        lower_case: as of `Tokenizer`.
        normalize: as of `Tokenizer`.

    Raises:
        UserError: the algorithm is another word, the model is none, or something is not installed.
    """

    def __init__(self, algorithm="unigram", *, model=None, lower_case=False, normalize="none"):
        super().__init__(lower_case=lower_case, normalize=normalize)
        if algorithm not in ("unigram", "bpe"):
            raise UserError(f"pieces of words are learned by unigram or bpe, not {algorithm!r}")
        self.algorithm = algorithm
        tensorflow_text("unit = subword")
        self.model = self._pieces = None
        if model is not None:
            self._use(model)
        values = tf.constant([bytes([i]) for i in range(256)])
        names = tf.constant([f"<0x{i:02X}>" for i in range(256)])
        self._byte = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(names, values), "")

    def _split(self, texts):
        return self._pieces.tokenize(texts)

    def join(self, tokens):
        """Where bytes are missing in a character, it becomes U+FFFD."""
        byte = self._byte.lookup(tokens)
        texts = tf.strings.reduce_join(tf.where(byte == "", tokens, byte), -1)
        return spaced(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace"))

    def learn(self, texts, size, min_count, count_all=map):
        """At most `size` pieces that a model takes from the texts; `min_count` and `count_all` do not apply."""
        if size is None:
            raise UserError("pieces of words need max_tokens, the size of their vocabulary")
        try:
            import sentencepiece
        except ImportError:
            raise UserError("unit = subword learns by sentencepiece: pip install 'kseq[subword]'") from None
        model = io.BytesIO()
        pad, start, end, unknown = SPECIAL  # named, so that no piece takes their names
        sentencepiece.set_random_generator_seed(0)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(line for batch in batches(texts) for line in self.clean(batch).numpy()),
                model_writer=model,
                model_type=self.algorithm,
                vocab_size=size + len(SPECIAL),
                hard_vocab_limit=False,
                byte_fallback=True,
                pad_id=PADDING,
                bos_id=START,
                eos_id=END,
                unk_id=UNKNOWN,
                pad_piece=pad,
                bos_piece=start,
                eos_piece=end,
                unk_piece=unknown,
                normalization_rule_name="identity",  # `clean` has done it
                input_sentence_size=SAMPLE,
                max_sentence_length=LONGEST,
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).rpartition("] ")[2] or "there are no texts"
            raise UserError(f"pieces of words cannot be learned: {reason}") from None
        self._use(base64.b64encode(model.getvalue()).decode())
        return self._pieces_of_model()[len(SPECIAL) :]

    def _use(self, model):
        text = tensorflow_text("unit = subword")
        try:
            data = base64.b64decode(model, validate=True)
            self._pieces = text.SentencepieceTokenizer(model=data, out_type=tf.string)
            self._pieces_of_model()
        except (ValueError, tf.errors.OpError):
            raise UserError("the model is not one of SentencePiece") from None
        self.model = model

    def _pieces_of_model(self):
        count = self._pieces.vocab_size()
        return [piece.decode() for piece in self._pieces.id_to_string(tf.range(count)).numpy()]

    def check(self, vocabulary):
        if self.model is None:
            raise UserError("a vocabulary of pieces needs the model that they belong to")
        if self._pieces_of_model() != vocabulary:
            raise UserError("the model has other pieces than the vocabulary; the two are of different runs")

    def get_config(self):
        return {"algorithm": self.algorithm, "model": self.model, **super().get_config()}
