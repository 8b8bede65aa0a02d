"""The encoder-decoder: a source of any kind to a sequence of tokens."""

import functools

import keras
import numpy as np
from keras import layers, ops

from kseq.layers import Decoder, Dropout, PointerGenerator
from kseq.layers.dropout import categorical, uniform
from kseq.layers.functional import check_fraction, check_non_negative, check_positive, replica_share
from kseq.models.checks import check_bridge, check_layer, check_vocabulary
from kseq.models.ctc import ctc_loss
from kseq.models.encoders import build_encoder, build_once, encoded_by, word_embedding
from kseq.models.signature import NamedSignature
from kseq.samplers import SAMPLERS, Constraints

UNKNOWN = 3  # the id of the out-of-vocabulary word in `kseq.preprocessors`


@keras.saving.register_keras_serializable("kseq")
class Seq2Seq(NamedSignature, keras.Model):
    """An encoder, a bridge and a decoder, from a source to a sequence of tokens.

    With an `ImageEncoder` and a `BahdanauDecoder(gate=True, deep_output=True)` this is Show, Attend and Tell (Xu et
    al., 2015, https://arxiv.org/abs/1502.03044), with its doubly stochastic penalty (equation 14; the mean over the
    regions instead of the sum, so that a weight means the same for any number of them):

        penalty = mean_i (1 − Σ_t α_ti)²

    In training the penalty of the decoder's attention, if it has one, is added to the loss too, and so is the loss of
    supervised attention (after Liu et al., 2017, https://arxiv.org/abs/1605.09553), where it is known which rows R_t of
    the memory step t should attend to; the mean is over the steps with such rows:

        loss = mean_t −log Σ_{i ∈ R_t} α_ti

    With `max_oov_words` the model can also copy out-of-vocabulary words from the source (See et al., 2017,
    https://arxiv.org/abs/1704.04368), through a `PointerGenerator` whose context is Σ_s α_ts memory_s, without the
    decoder's gate. Source and tokens then share one vocabulary, in which 3 is the unknown word; the out-of-vocabulary
    words of a source have the ids from `vocabulary_size` on, as `TextPreprocessor` numbers them, and are embedded as
    the unknown word.

    With `aligned` step t also reads row t of the memory, beside its attention to all rows: for a target of which each
    token answers the token of the source at the same place. The decoder's input is

        x_t = [embedding(y_{t−1}); memory_t],  memory_t = 0 behind the last real row

    and a step takes its t from a last state, int `[batch]`, so that every sampler and ensemble runs as it is.

    With `ctc_weight` λ a dense layer labels each row of the memory with a token or nothing, and in training the loss of
    connectionist temporal classification is added (Watanabe et al., 2017, https://doi.org/10.1109/JSTSP.2017.2763455,
    equation 30), which lets the memory and the tokens move forward together from the start:

        loss = λ ctc_loss + (1 − λ) cross-entropy

    The model adds the first part; the second is of `TokenCrossentropy(weight=1 − λ)`.

    Args:
        encoder: layer from a source to `Encoded`.
        bridge: layer from the encoder's state to the states of the decoder's cell.
        decoder: a decoder of `kseq.layers`.
        vocabulary_size: number of tokens; id 0 is padding.
        embedding_size: size of a token's vector.
        embeddings_initializer: of the embedded tokens; `RandomUniform(-0.5, 0.5)` by default.
        dropout: fraction of the embedded tokens, and of the decoder's output, dropped in training.
        alignment_penalty: weight of the doubly stochastic penalty; 0 for none.
        alignment_supervision: weight of the loss of supervised attention, where the inputs have "relevant"; 0 for none.
        max_oov_words: the largest number of out-of-vocabulary words of a source that can be copied; 0 copies none.
        aligned: whether each step reads the row of the memory at its own place.
        ctc_weight: λ, at least 0 and less than 1; 0 adds no layer.

    Call arguments:
        inputs: {"source": what the encoder takes, "tokens": int `[batch, time]`, the previous tokens}, and optionally
            "sampling": float `[batch]`, for scheduled sampling in training: the probability that the decoder reads a
            token drawn from its own output instead of the given one (Bengio et al., 2015,
            https://arxiv.org/abs/1506.03099, who write 1 − ε). Not for an aligned model. And in training, optionally,
            "relevant": bool `[batch, time, source]`, the rows of the memory that each step should attend to, for
            `alignment_supervision`; a step without one is free.

    Returns:
        logits, float32 `[batch, time, vocabulary]`; with max_oov_words log-probabilities, float32 `[batch, time,
        vocabulary + max_oov_words]`.

    Raises:
        ValueError: a part is not a layer of its kind, the bridge makes other states than the decoder's cell has, a
            number is out of range, max_oov_words is given and the encoder has another vocabulary, or an aligned model
            is given "sampling".
    """

    signature_names = ("source", "tokens")

    def __init__(
        self,
        encoder,
        bridge,
        decoder,
        vocabulary_size,
        *,
        embedding_size,
        embeddings_initializer=None,
        dropout=0.0,
        alignment_penalty=0.0,
        alignment_supervision=0.0,
        max_oov_words=0,
        aligned=False,
        ctc_weight=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = check_layer("encoder", encoder, "a layer from a source to Encoded, such as TextEncoder(…)")
        self.bridge = check_layer("bridge", bridge, "a layer such as DenseBridge(cell.state_size)")
        self.decoder = check_layer("decoder", decoder, "a decoder such as LuongDecoder(cell, attention)", Decoder)
        check_bridge(bridge, decoder)
        self.vocabulary_size = check_positive("vocabulary_size", vocabulary_size)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.dropout_rate = check_fraction("dropout", dropout)
        self.alignment_penalty = check_non_negative("alignment_penalty", alignment_penalty)
        self.alignment_supervision = check_non_negative("alignment_supervision", alignment_supervision)
        self.max_oov_words = check_positive("max_oov_words", max_oov_words) if max_oov_words else 0
        self.aligned = bool(aligned)
        self.ctc_weight = check_fraction("ctc_weight", ctc_weight)
        if max_oov_words:
            check_vocabulary(encoder, vocabulary_size)
        self.embedding = word_embedding(vocabulary_size, embedding_size, embeddings_initializer, self.dtype_policy)
        self.embeddings_initializer = self.embedding.embeddings_initializer
        self.input_dropout, self.output_dropout = (Dropout(dropout, dtype=self.dtype_policy) for _ in range(2))
        self.words = layers.Dense(vocabulary_size, dtype="float32")
        self.labels = layers.Dense(vocabulary_size, dtype="float32") if ctc_weight else None
        self.pointer = PointerGenerator(max_oov_words) if max_oov_words else None
        # A seed drawn at random would change the initial weights of everything that is built later.
        self.seed_generator = keras.random.SeedGenerator(0)

    def initialize_output_bias(self, counts):
        """Starts a new model from the frequency of each token, which is what training would teach it first.

            bias_w = log((counts_w + 1) / Σ_v (counts_v + 1))

        Args:
            counts: int `[vocabulary]`, how often each token occurs among the targets of the training data; 0 for
                padding.

        Raises:
            ValueError: counts has another shape or a negative number, or the model has not been called yet.
        """
        counts = np.asarray(counts)
        if counts.shape != (self.vocabulary_size,):
            raise ValueError(
                f"counts must be [{self.vocabulary_size}], one number for each token, got {list(counts.shape)}"
            )
        if np.any(counts < 0):
            raise ValueError(f"counts must not be negative, got {counts.min()}")
        if not self.words.built:
            raise ValueError(
                f"{self.name} has no weights yet: call it on a batch before initialize_output_bias(counts)"
            )
        self.words.bias.assign(np.log((counts + 1) / np.sum(counts + 1)))

    def build(self, inputs_shape):
        batch, time = inputs_shape["tokens"]
        encoded = build_encoder(self.encoder, inputs_shape["source"])
        if encoded is None:
            self.build_by_tracing(inputs_shape)
            return
        memory = encoded.memory.shape
        build_once(self.bridge, [state.shape for state in encoded.state])
        build_once(self.embedding, (batch, time))
        embedded = (batch, time, self.embedding_size + (memory[-1] if self.aligned else 0))
        build_once(self.input_dropout, embedded)
        build_once(self.decoder, embedded, memory)
        outputs, alignments = self.decoder.compute_output_shape(embedded, memory)
        build_once(self.output_dropout, outputs)
        build_once(self.words, outputs)
        if self.labels is not None:
            build_once(self.labels, memory)
        if self.pointer is not None:
            logits, context = (batch, time, self.vocabulary_size), (batch, time, memory[-1])
            build_once(self.pointer, logits, outputs, context, embedded, alignments)

    def call(self, inputs, training=None):
        source, tokens = inputs["source"], inputs["tokens"]
        encoded = encoded_by(self.encoder, self._known(source), training)
        if self.ctc_weight:
            labelled = self.labels(encoded.memory)
            if training:
                # The tokens that are read are those that are written, behind the one that opens them.
                self.add_loss(self.ctc_weight * ctc_loss(labelled, encoded.memory_mask, tokens[:, 1:]))
        embedded = self.embedding(self._known(tokens))
        if self.aligned:
            steps = ops.arange(ops.shape(tokens)[1])[None]
            embedded = beside_own_rows(embedded, encoded.memory, encoded.memory_mask, steps)
        embedded = self.input_dropout(embedded, training=training)
        logits_of = functools.partial(self._logits, memory=encoded.memory, source=source)
        arguments = [embedded, encoded.memory, encoded.memory_mask, self.bridge(encoded.state)]
        if training and "sampling" in inputs:
            if self.aligned:
                raise ValueError('"sampling" is not for an aligned model, whose steps read more than a token')
            scheduled = self._scheduled(tokens, inputs["sampling"], logits_of)
            outputs, alignments, embedded = self.decoder(*arguments, **scheduled)
        else:
            outputs, alignments = self.decoder(*arguments)
        logits = logits_of(self.output_dropout(outputs, training=training), alignments, embedded)
        self._add_losses(inputs, encoded, alignments, logits, training)
        return logits

    def _add_losses(self, inputs, encoded, alignments, logits, training):
        """What the attention adds to the loss."""
        tokens = inputs["tokens"]
        if self.alignment_penalty:
            penalty = doubly_stochastic_penalty(alignments, tokens != 0, encoded.memory_mask)
            self.add_loss(self.alignment_penalty * penalty)
        if training and self.alignment_supervision and "relevant" in inputs:
            has_tokens = ops.any(tokens != 0, axis=1)[:, None, None]
            relevant = ops.logical_and(ops.cast(inputs["relevant"], "bool"), has_tokens)
            self.add_loss(self.alignment_supervision * supervised_attention_loss(alignments, relevant))
        penalty = self.decoder.penalty(alignments, logits, tokens) if training else 0.0
        if not isinstance(penalty, float):
            self.add_loss(penalty)

    def encode(self, source):
        """What a sampler starts from: the decoder's initial states, and the memory that its steps read."""
        encoded = encoded_by(self.encoder, self._known(source), False)
        memory = self.decoder.memorize(encoded.memory, encoded.memory_mask)
        states = self.decoder.get_initial_state(memory, self.bridge(encoded.state))
        if self.aligned:
            states = [*states, ops.zeros((ops.shape(encoded.memory)[0],), "int32")]
        return states, (memory, ops.cast(source, "int32")) if self.max_oov_words else memory

    def step(self, tokens, states, memory):
        """One step of the decoder, as a sampler takes it.

        Tokens int `[n]`, states, memory → logits `[n, vocabulary]`, states, alignment `[n, source]`.
        """
        memory, source = memory if self.max_oov_words else (memory, None)
        embedded, place = self.embedding(self._known(tokens)), []
        if self.aligned:
            *states, t = states
            embedded = beside_own_rows(embedded[:, None], memory.values, memory.mask, t[:, None])[:, 0]
            place = [t + 1]
        (output, alignment), states = self.decoder.step(embedded, states, memory)
        return self._logits(output, alignment, embedded, memory.values, source), [*states, *place], alignment

    def generate(
        self, source, sampler="greedy", *, max_length=100, start=1, end=2, constraints=None, prefix=None, **arguments
    ):
        """Writes a sequence for each source.

        It runs step by step in Python. Where many batches are answered, compile it once, `tf.function(model.generate)`,
        or use `kseq.samplers.compiled`.

        Args:
            source: what the encoder takes.
            sampler: one of `kseq.samplers`, such as `Beam(5, n_best=3)`, or its name: "greedy", "random" or "beam".
            max_length: the largest number of tokens in a sequence, the end token included.
            start: id of the token that opens a sequence.
            end: id of the token that closes a sequence. Both are those of `kseq.preprocessors` by default.
            constraints: `kseq.samplers.Constraints`, such as `Constraints(forbidden=[3], no_repeat=3)`.
            prefix: int `[batch, p]`, padded with 0: the tokens that each sequence begins with.
            arguments: call arguments of the sampler: `seed` of `Random`, `required` and `memory_mask` of `Beam`.

        Returns:
            `kseq.samplers.Hypotheses`: ids, lengths, log_probs, scores and alignments.

        Raises:
            ValueError: sampler is no name of a sampler, or max_length or a constraint is out of range.
        """
        if isinstance(sampler, str):
            if sampler not in SAMPLERS:
                raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, or a sampler, got {sampler!r}")
            sampler = SAMPLERS[sampler]()
        source = ops.convert_to_tensor(source)
        states, memory = self.encode(source)
        constrain = Constraints() if constraints is None else constraints
        line = source if constrain.parallel else None
        step, states = constrain(self.step, states, end=end, max_length=max_length, prefix=prefix, source=line)
        return sampler(step, states, memory, start=start, end=end, max_length=max_length, **arguments)

    def _known(self, ids):
        return ops.where(ids < self.vocabulary_size, ids, UNKNOWN) if self.max_oov_words else ids

    def _logits(self, output, alignment, embedded, memory, source):
        """The logits of one step or of all steps."""
        logits = self.words(output)
        if not self.max_oov_words:
            return logits
        context = ops.einsum("b...s,bsd->b...d", ops.cast(alignment, memory.dtype), memory)
        return self.pointer(logits, output, context, embedded, alignment, source)

    def _scheduled(self, tokens, sampling, logits_of):
        """The arguments of the decoder for scheduled sampling."""

        def next_inputs(output, alignment, embedded):
            logits = logits_of(output, alignment, embedded)
            words = categorical(logits, self.seed_generator)
            return self.input_dropout(self.embedding(self._known(words)), training=True)

        draws = uniform(ops.shape(tokens), self.seed_generator)
        sample_mask = draws < ops.reshape(ops.cast(sampling, "float32"), (-1, 1))
        return {"sample_mask": sample_mask, "next_inputs": next_inputs}

    def get_config(self):
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "bridge": keras.saving.serialize_keras_object(self.bridge),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "dropout": self.dropout_rate,
            "alignment_penalty": self.alignment_penalty,
            "alignment_supervision": self.alignment_supervision,
            "max_oov_words": self.max_oov_words,
            "aligned": self.aligned,
            "ctc_weight": self.ctc_weight,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        parts = [keras.saving.deserialize_keras_object(config.pop(k)) for k in ("encoder", "bridge", "decoder")]
        return cls(*parts, **config)


def beside_own_rows(embedded, memory, memory_mask, steps):
    """The embedded tokens, and beside each the row of the memory at its own place, zero behind the last real row.

    Args:
        embedded: `[batch, time, d]`.
        memory: `[batch, source, d_memory]`.
        memory_mask: bool `[batch, source]`, true where a row is real.
        steps: int `[batch, time]` or `[1, time]`, the place of each token.

    Returns:
        `[batch, time, d + d_memory]`.
    """
    own = ops.arange(ops.shape(memory)[1]) == steps[:, :, None]
    own = ops.cast(ops.logical_and(own, memory_mask[:, None]), memory.dtype)
    return ops.concatenate([embedded, ops.einsum("bts,bsd->btd", own, memory)], axis=-1)


def doubly_stochastic_penalty(alignments, real, memory_mask=None):
    """mean_i (1 − Σ_t α_ti)², the sum over the real steps, the mean over the real rows of each memory.

    In `tf.distribute`, the mean is that over the batches of all replicas.

    Args:
        alignments: `[batch, time, source]`.
        real: bool `[batch, time]`, true where a step is real.
        memory_mask: bool `[batch, source]`, true where a row is real; all are when not given.

    Returns:
        float32, the mean over the examples that have a real step.
    """
    total = ops.einsum("bts,bt->bs", ops.cast(alignments, "float32"), ops.cast(real, "float32"))
    mask = ops.ones_like(total) if memory_mask is None else ops.cast(memory_mask, "float32")
    rows = ops.sum(mask * ops.square(1 - total), axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)
    counted = ops.cast(ops.any(real, axis=1), "float32")
    count = ops.sum(counted)
    return ops.sum(rows * counted) / ops.maximum(count, 1) * replica_share(count)


def supervised_attention_loss(alignments, relevant):
    """mean_t −log Σ_{i ∈ R_t} α_ti over the steps that have relevant rows; 0 where none has.

    Args:
        alignments: `[batch, time, source]`.
        relevant: bool `[batch, time, source]`, true for the rows R_t that step t should attend to.

    Returns:
        float32, the mean over all such steps of the batch.
    """
    relevant = ops.cast(relevant, "float32")
    weight = ops.sum(ops.cast(alignments, "float32") * relevant, axis=-1)
    has_rows = ops.cast(ops.any(relevant > 0, axis=-1), "float32")
    losses = -ops.log(ops.maximum(weight, keras.config.epsilon()))
    return ops.sum(has_rows * losses) / ops.maximum(ops.sum(has_rows), 1) * replica_share(ops.sum(has_rows))
