"""The encoder-decoder: N vs M, and 1 vs N."""

import keras
from keras import layers, ops

from kseq.layers import Dropout


@keras.saving.register_keras_serializable("kseq")
class Seq2Seq(keras.Model):
    """An encoder, a bridge and a decoder with attention, from a source to words.

    With an `ImageEncoder` and a `BahdanauDecoder(gate=True, deep_output=True)` this is Show, Attend and Tell (Xu et
    al., 2015, https://arxiv.org/abs/1502.03044), with its doubly stochastic penalty (equation 14; here a mean over
    regions, so that the weight means the same for any number of them):

        penalty = mean_i (1 − Σ_t α_ti)²

    In training the decoder's own penalty, where its attention has one, is added too.

    Args:
        encoder: layer from a source to `Encoded`.
        bridge: layer from the encoder's state to the states of the decoder's cell.
        decoder: an attention decoder of `kseq.layers`.
        vocabulary_size: number of words; id 0 is padding.
        embedding_size: size of a word's vector.
        dropout: share of the embedded words, and of the decoder's output, dropped in training.
        alignment_penalty: weight of the penalty; 0 leaves it out.

    Call arguments:
        inputs: {"source": what the encoder takes, "tokens": int `[batch, time]`, the words before}.

    Returns:
        logits float32 `[batch, time, vocabulary]`.
    """

    def __init__(
        self,
        encoder,
        bridge,
        decoder,
        vocabulary_size,
        *,
        embedding_size,
        dropout=0.0,
        alignment_penalty=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.bridge = bridge
        self.decoder = decoder
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.dropout_rate = dropout
        self.alignment_penalty = alignment_penalty
        self.embedding = layers.Embedding(vocabulary_size, embedding_size, dtype=self.dtype_policy)
        self.input_dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.output_dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.words = layers.Dense(vocabulary_size, dtype="float32")

    def call(self, inputs, training=None):
        tokens = inputs["tokens"]
        encoded = self.encoder(inputs["source"], training=training)
        embedded = self.input_dropout(self.embedding(tokens), training=training)
        outputs, alignments = self.decoder(embedded, encoded.memory, encoded.memory_mask, self.bridge(encoded.state))
        if self.alignment_penalty:
            self.add_loss(self.alignment_penalty * doubly_stochastic_penalty(alignments, tokens != 0))
        logits = self.words(self.output_dropout(outputs, training=training))
        penalty = self.decoder.penalty(alignments, logits, tokens) if training else 0.0
        if not isinstance(penalty, float):
            self.add_loss(penalty)
        return logits

    def encode(self, source):
        """What a sampler starts from: the decoder's first states, and the memory that its steps read."""
        encoded = self.encoder(source, training=False)
        memory = self.decoder.memorize(encoded.memory, encoded.memory_mask)
        return self.decoder.first_states(self.bridge(encoded.state), memory), memory

    def step(self, tokens, states, memory):
        """One word on: int `[n]`, states, memory → logits `[n, vocabulary]`, states, alignment `[n, source]`."""
        (output, alignment), states = self.decoder.step(self.embedding(tokens), states, memory)
        return self.words(output), states, alignment

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "bridge": keras.saving.serialize_keras_object(self.bridge),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "dropout": self.dropout_rate,
            "alignment_penalty": self.alignment_penalty,
        }

    @classmethod
    def from_config(cls, config):
        parts = [keras.saving.deserialize_keras_object(config.pop(k)) for k in ("encoder", "bridge", "decoder")]
        return cls(*parts, **config)


def doubly_stochastic_penalty(alignments, real):
    """mean_i (1 − Σ_t α_ti)² over the real steps: `[batch, time, source]`, bool `[batch, time]` → a number."""
    looked = ops.einsum("bts,bt->bs", ops.cast(alignments, "float32"), ops.cast(real, "float32"))
    return ops.mean(ops.square(1 - looked))
