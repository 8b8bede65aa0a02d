"""The encoder-decoder: N vs M, and 1 vs N."""

import functools

import keras
import numpy as np
from keras import layers, ops

from kseq.layers import Dropout, PointerGenerator
from kseq.layers.dropout import drawn, uniform
from kseq.layers.functional import check_positive
from kseq.models.encoders import SPREAD, word_embedding

UNKNOWN = 3  # the id of the unknown word, as `kseq.preprocessors` has it


@keras.saving.register_keras_serializable("kseq")
class Seq2Seq(keras.Model):
    """An encoder, a bridge and a decoder with attention, from a source to words.

    With an `ImageEncoder` and a `BahdanauDecoder(gate=True, deep_output=True)` this is Show, Attend and Tell (Xu et
    al., 2015, https://arxiv.org/abs/1502.03044), with its doubly stochastic penalty (equation 14; here a mean over
    regions, so that the weight means the same for any number of them):

        penalty = mean_i (1 − Σ_t α_ti)²

    In training the decoder's own penalty, where its attention has one, is added too.

    With `copies` it also says words of the source that are not in the vocabulary (See et al., 2017,
    https://arxiv.org/abs/1704.04368), through a `PointerGenerator` whose context is Σ_s α_ts memory_s, without the
    decoder's gate. Source and tokens are then ids of one vocabulary, where 3 is the unknown word, and of the source's
    own words, as `TextPreprocessor` numbers them; these are embedded as the unknown word.

    Args:
        encoder: layer from a source to `Encoded`.
        bridge: layer from the encoder's state to the states of the decoder's cell.
        decoder: an attention decoder of `kseq.layers`.
        vocabulary_size: number of words; id 0 is padding.
        embedding_size: size of a word's vector.
        embedding_spread: its numbers begin between minus this and this, as those of `TextEncoder` do.
        dropout: share of the embedded words, and of the decoder's output, dropped in training.
        alignment_penalty: weight of the penalty; 0 leaves it out.
        copies: most words of its own that a source has; 0 copies none.

    Call arguments:
        inputs: {"source": what the encoder takes, "tokens": int `[batch, time]`, the words before}. "sampling", float
            `[batch]`, may be there too: the probability with which the decoder, in training, reads a word that it drew
            itself in place of the teacher's (Bengio et al., 2015, https://arxiv.org/abs/1506.03099, who write 1 − ε).

    Returns:
        logits float32 `[batch, time, vocabulary]`; with copies log-probabilities `[batch, time, vocabulary + copies]`.

    Raises:
        ValueError: embedding_spread is not above 0, copies is negative or not whole, or the encoder is of other words.
    """

    def __init__(
        self,
        encoder,
        bridge,
        decoder,
        vocabulary_size,
        *,
        embedding_size,
        embedding_spread=SPREAD,
        dropout=0.0,
        alignment_penalty=0.0,
        copies=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        words = getattr(encoder, "vocabulary_size", None)
        if copies and words != vocabulary_size:
            raise ValueError(
                f"copies needs an encoder of the same {vocabulary_size} words, as a TextEncoder, "
                f"got {encoder.name} with {words}"
            )
        self.encoder = encoder
        self.bridge = bridge
        self.decoder = decoder
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.embedding_spread = embedding_spread
        self.dropout_rate = dropout
        self.alignment_penalty = alignment_penalty
        self.copies = check_positive("copies", copies) if copies else 0
        self.embedding = word_embedding(vocabulary_size, embedding_size, embedding_spread, self.dtype_policy)
        self.input_dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.output_dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.words = layers.Dense(vocabulary_size, dtype="float32")
        self.pointer = PointerGenerator(copies) if copies else None
        # A seed that is drawn here would change the first weights of all that is built later.
        self.seed_generator = keras.random.SeedGenerator(0)

    def expect(self, counts):
        """Lets a new model begin with how often each word is said, which is what training would teach it first.

            bias_w = log((counts_w + 1) / Σ_v (counts_v + 1))

        Args:
            counts: int `[vocabulary]`, how often each word is among the targets of the training data; 0 for padding.

        Raises:
            ValueError: there are more or fewer counts than words, or the model has not been called yet.
        """
        counts = np.asarray(counts)
        if counts.shape != (self.vocabulary_size,):
            raise ValueError(f"counts must be [{self.vocabulary_size}], a number a word, got {list(counts.shape)}")
        if not self.words.built:
            raise ValueError(f"{self.name} has no weights yet: call it on a batch before expect(counts)")
        self.words.bias.assign(np.log((counts + 1) / np.sum(counts + 1)))

    def call(self, inputs, training=None):
        source, tokens = inputs["source"], inputs["tokens"]
        encoded = self.encoder(self._known(source), training=training)
        embedded = self.input_dropout(self.embedding(self._known(tokens)), training=training)
        say = functools.partial(self._say, memory=encoded.memory, source=source)
        arguments = [embedded, encoded.memory, encoded.memory_mask, self.bridge(encoded.state)]
        if training and "sampling" in inputs:
            scheduled = self._scheduled(tokens, inputs["sampling"], say)
            outputs, alignments, embedded = self.decoder(*arguments, **scheduled)
        else:
            outputs, alignments = self.decoder(*arguments)
        if self.alignment_penalty:
            self.add_loss(self.alignment_penalty * doubly_stochastic_penalty(alignments, tokens != 0))
        logits = say(self.output_dropout(outputs, training=training), alignments, embedded)
        penalty = self.decoder.penalty(alignments, logits, tokens) if training else 0.0
        if not isinstance(penalty, float):
            self.add_loss(penalty)
        return logits

    def encode(self, source):
        """What a sampler starts from: the decoder's first states, and the memory that its steps read."""
        encoded = self.encoder(self._known(source), training=False)
        memory = self.decoder.memorize(encoded.memory, encoded.memory_mask)
        states = self.decoder.get_initial_state(memory, self.bridge(encoded.state))
        return states, (memory, ops.cast(source, "int32")) if self.copies else memory

    def step(self, tokens, states, memory):
        """One word on: int `[n]`, states, memory → logits `[n, vocabulary]`, states, alignment `[n, source]`."""
        memory, source = memory if self.copies else (memory, None)
        embedded = self.embedding(self._known(tokens))
        (output, alignment), states = self.decoder.step(embedded, states, memory)
        return self._say(output, alignment, embedded, memory.values, source), states, alignment

    def _known(self, ids):
        return ops.where(ids < self.vocabulary_size, ids, UNKNOWN) if self.copies else ids

    def _say(self, output, alignment, embedded, memory, source):
        """Logits of one step or of all."""
        logits = self.words(output)
        if not self.copies:
            return logits
        context = ops.einsum("b...s,bsd->b...d", ops.cast(alignment, memory.dtype), memory)
        return self.pointer(logits, output, context, embedded, alignment, source)

    def _scheduled(self, tokens, sampling, say):
        """Where the decoder reads its own words in training, and how it says them."""

        def next_inputs(output, alignment, embedded):
            logits = say(output, alignment, embedded)
            words = drawn(logits, self.seed_generator)
            return self.input_dropout(self.embedding(self._known(words)), training=True)

        coins = uniform(ops.shape(tokens), self.seed_generator)
        sample_mask = coins < ops.reshape(ops.cast(sampling, "float32"), (-1, 1))
        return {"sample_mask": sample_mask, "next_inputs": next_inputs}

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "bridge": keras.saving.serialize_keras_object(self.bridge),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "embedding_spread": self.embedding_spread,
            "dropout": self.dropout_rate,
            "alignment_penalty": self.alignment_penalty,
            "copies": self.copies,
        }

    @classmethod
    def from_config(cls, config):
        parts = [keras.saving.deserialize_keras_object(config.pop(k)) for k in ("encoder", "bridge", "decoder")]
        return cls(*parts, **config)


def doubly_stochastic_penalty(alignments, real):
    """mean_i (1 − Σ_t α_ti)² over the real steps: `[batch, time, source]`, bool `[batch, time]` → a number."""
    looked = ops.einsum("bts,bt->bs", ops.cast(alignments, "float32"), ops.cast(real, "float32"))
    return ops.mean(ops.square(1 - looked))
