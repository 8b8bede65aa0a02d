"""Every public layer: how to make one, and what to call it with. `test_contracts` holds each row to the same rules."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import kseq.layers
import kseq.models
import reference
from kseq.layers import (
    ATTENTIONS,
    BahdanauAttention,
    BahdanauDecoder,
    Bidirectional,
    ConcatAttention,
    CopyBridge,
    CoverageAttention,
    DenseBridge,
    DotAttention,
    Dropout,
    FixedContextDecoder,
    GRUCell,
    HardAttention,
    KerasCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LocalAttention,
    LocationAttention,
    LogMel,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    LuongMonotonicAttention,
    MonotonicAttention,
    MutualAttention,
    NormalizedBahdanauAttention,
    PeepholeLSTMCell,
    PointerGenerator,
    PoolingAttention,
    Recurrent,
    RNNCell,
    ScaledLuongAttention,
    SpecAugment,
    Stack,
    StackedCell,
    WarpFrames,
    WordByWordAttention,
    ZeroBridge,
)
from kseq.models import (
    ImageEncoder,
    PairClassifier,
    PianoRollModel,
    PretrainedEncoder,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
    SpeechEncoder,
    TextEncoder,
    VectorEncoder,
)

UNITS = 4


class Contract(NamedTuple):
    """One way to make a layer, with as many arguments off their defaults as one way allows."""

    make: Callable[[], keras.layers.Layer]
    inputs: Callable[[int, int], dict]  # (batch, time) → the arguments of `call`
    float32_output: bool = False  # whether the outputs are float32 under every policy
    draws: bool = False  # whether training draws random numbers; it changes nothing else


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(layer, seed=0):
    """Gives each weight of a built layer random values: equal constants would hide swapped gates."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(0.5 * rng.normal(size=weight.shape))
    return layer


def lengths_mask(lengths, time):
    """bool `[batch, time]`, true in the first `lengths[b]` places of row b."""
    return np.arange(time) < np.array(lengths)[:, None]


@contextlib.contextmanager
def dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def cell_oracle(cell, *more_rows):
    """`reference`'s step (x, states) → states with the weights of a built cell.

    `more_rows` are kernels of a decoder that stand below the cell's: x is then [y; what the decoder feeds].
    """
    if isinstance(cell, StackedCell):
        step = stack_oracle(cell, *more_rows)
        return lambda x, states: step(x, states)[1]
    W = np.concatenate([cell.kernel, *more_rows])
    U, b = cell.recurrent_kernel, np.zeros(cell.projected_size) if cell.bias is None else cell.bias
    if isinstance(cell, GRUCell):
        U = np.concatenate([U, cell.candidate_kernel], axis=-1)
    if isinstance(cell, RNNCell):
        return functools.partial(reference.rnn_step, W=np.asarray(W), U=np.asarray(U), b=np.asarray(b))
    step, letters, more = reference.lstm_step, "ifco", {}
    if isinstance(cell, LayerNormLSTMCell):
        alpha = [np.asarray(gain) for gain in (cell.input_gain, cell.recurrent_gain, cell.memory_gain)]
        whole = {"W": W, "U": np.asarray(U), "b": np.asarray(b)}
        return functools.partial(
            reference.layer_norm_lstm_step, **whole, alpha=alpha, beta=np.asarray(cell.memory_bias)
        )
    if isinstance(cell, PeepholeLSTMCell):
        step, more = reference.peephole_step, {"p": dict(zip("ifo", np.asarray(cell.peepholes), strict=True))}
    if isinstance(cell, LayerNormGRUCell):
        step, letters = reference.layer_norm_gru_step, "zrn"
        gains = {"alpha_W": cell.input_gain, "alpha_U": cell.recurrent_gain}
        more = {name: reference.cut(gain, letters) for name, gain in gains.items()}
    if isinstance(cell, GRUCell):
        step, letters = reference.gru_step, "zrn"
        if cell.reset_after:
            step, more = reference.gru_reset_after_step, {"b_u": np.asarray(cell.recurrent_bias)}
    W, U, b = (reference.cut(weight, letters) for weight in (W, U, b))
    return functools.partial(step, W=W, U=U, b=b, **more)


def stack_oracle(cell, *more_rows):
    """`reference`'s step (x, states) → output, states with the weights of a built `StackedCell`."""
    lowest, *others = cell.cells
    steps = [cell_oracle(lowest, *more_rows), *map(cell_oracle, others)]
    return functools.partial(reference.stacked_step, steps=steps, numbers=_numbers(cell), residual=cell.residual)


def hidden_oracle(cell):
    """(states) → the h that attention asks with."""
    if isinstance(cell, StackedCell):
        return functools.partial(reference.stacked_output, numbers=_numbers(cell), residual=cell.residual)
    return reference.first


def _numbers(cell):
    return [len(one.state_size) for one in cell.cells]


def attention_oracle(attention):
    """(query, memory, mask) → context, alignment of the first step, by `reference` with a built mechanism's weights."""
    [name] = [name for name, kind in ATTENTIONS.items() if kind is type(attention)]

    def attend(query, memory, mask=None):
        results = reference.attend_steps(reference.MECHANISMS[name], attention, query[None], memory, mask)
        return tuple(x[0] for x in results)

    return attend


def tiny_backbone():
    """`[batch, 8, 8, 3]` → `[batch, 2, 2, 3]`."""
    pictures = keras.Input((8, 8, 3))
    return keras.Model(pictures, keras.layers.Conv2D(3, 4, strides=4)(pictures))


def tiny_reader():
    """`[batch, source]` of eleven pieces → `[batch, source, 4]`, which goes by all that a BERT is given."""
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    rows = keras.layers.Embedding(11, 4)(inputs["token_ids"]) + keras.layers.Embedding(2, 4)(inputs["segment_ids"])
    return keras.Model(inputs, rows * inputs["padding_mask"][:, :, None])


def tiny_seq2seq(decoder="bahdanau", **options):
    """An encoder of four regions of three features, sentences over eleven words."""
    cell, attention = LSTMCell(UNITS), BahdanauAttention(3)
    makers = {
        "bahdanau": lambda: BahdanauDecoder(cell, attention, gate=True, deep_output=True),
        "luong": lambda: LuongDecoder(cell, attention),
    }
    encoder = ImageEncoder(tiny_backbone(), 5)
    return Seq2Seq(encoder, DenseBridge(cell.state_size), makers[decoder](), 11, embedding_size=3, **options)


def tiny_copier(max_oov_words=2, **options):
    """From sentences to sentences, both over eleven words and two of the source's own."""
    cell = GRUCell(UNITS)
    encoder = TextEncoder(11, Recurrent(GRUCell(UNITS)), embedding_size=3)
    decoder = BahdanauDecoder(cell, BahdanauAttention(3), gate=True, deep_output=True)
    return Seq2Seq(
        encoder, DenseBridge(cell.state_size), decoder, 11, embedding_size=3, max_oov_words=max_oov_words, **options
    )


def tiny_aligned(decoder="bahdanau", *, aligned=True, **options):
    """From sentences over eleven words to sentences over the same, token by token."""
    cell = GRUCell(UNITS)
    makers = {
        "bahdanau": lambda: BahdanauDecoder(cell, BahdanauAttention(3), deep_output=True),
        "luong": lambda: LuongDecoder(cell, LuongAttention()),
        "fixed": lambda: FixedContextDecoder(cell),
    }
    encoder = TextEncoder(11, two_ways(), embedding_size=3)
    bridge = DenseBridge(cell.state_size)
    return Seq2Seq(encoder, bridge, makers[decoder](), 11, embedding_size=3, aligned=aligned, **options)


def tiny_text_encoder(**options):
    """An encoder of eleven words in both directions."""
    return TextEncoder(11, two_ways(), embedding_size=3, **options)


def two_ways():
    return Bidirectional(Recurrent(LSTMCell(UNITS), return_state=True))


def _states(n):
    return lambda batch: [normal(batch, UNITS, seed=k) for k in range(1, n + 1)]


def _cell_inputs(n):
    return lambda batch, time: {"inputs": normal(batch, 3), "states": _states(n)(batch)}


def _attention_inputs(batch, time):
    return {
        "query": normal(batch, UNITS),
        "memory": normal(batch, time, UNITS, seed=1),
        "memory_mask": lengths_mask([time, *[1 + b % time for b in range(1, batch)]], time),
    }


def _stateful_inputs(batch, time):
    attention_state = np.random.default_rng(3).uniform(size=(batch, time)).astype("float32")
    arguments = _attention_inputs(batch, time)
    return arguments | {"attention_state": attention_state * arguments["memory_mask"]}


def _sequence_inputs(batch, time):
    lengths = [time, *[b % time for b in range(1, batch)]]
    return {"inputs": normal(batch, time, 3), "mask": lengths_mask(lengths, time)}


def _decoder_inputs(n):
    return lambda batch, time: {
        "inputs": normal(batch, time, 3),
        "memory": normal(batch, time + 1, 5, seed=4),
        "memory_mask": lengths_mask([time + 1, *[b % time for b in range(1, batch)]], time + 1),
        "initial_state": _states(n)(batch),
    }


def _seq2seq_inputs(batch, time):
    return {"inputs": {"source": normal(batch, 8, 8, 3), "tokens": _tokens(batch, time)}}


def _tokens(batch, time, words=11):
    return np.random.default_rng(0).integers(1, words, (batch, time)).astype("int32")


def _pointer_inputs(batch, time):
    sizes = {"logits": 7, "output": UNITS, "context": 5, "inputs": 3}
    steps = {name: normal(batch, time, size, seed=size) for name, size in sizes.items()}
    alignments = np.random.default_rng(0).dirichlet(np.ones(time + 1), (batch, time)).astype("float32")
    return steps | {"alignments": alignments, "source_ids": _tokens(batch, time + 1, words=9)}


def _copier_inputs(batch, time):
    return {"inputs": {"source": _tokens(batch, time + 1, words=13), "tokens": _tokens(batch, time, words=13)}}


def _matching_inputs(batch, time):
    arguments = _decoder_inputs(1)(batch, time)
    lengths = [time, *[1 + b % time for b in range(1, batch)]]
    return {name: arguments[name] for name in ("inputs", "memory", "memory_mask")} | {
        "inputs_mask": lengths_mask(lengths, time)
    }


def _mutual_inputs(batch, time):
    arguments = _matching_inputs(batch, time)
    return arguments | {"memory": normal(*arguments["memory"].shape[:2], arguments["inputs"].shape[2], seed=2)}


def _pair_inputs(batch, time):
    return {"inputs": {"premise": _tokens(batch, time + 1), "hypothesis": _tokens(batch, time)}}


def _roll_inputs(batch, time):
    roll = np.random.default_rng(0).integers(0, 2, (batch, time, 5)).astype("float32")
    return {"inputs": {"vector": normal(batch, 3), "roll": roll}}


def _frames(batch, time):
    """Frames of which the last are padding, but in the first row."""
    lengths = [2 * time, *[1 + b % (2 * time) for b in range(1, batch)]]
    return {"source": normal(batch, 2 * time, 3) * lengths_mask(lengths, 2 * time)[:, :, None]}


def _source_inputs(batch, time):
    return {"source": _tokens(batch, time)}


_INITIALIZERS = {"kernel_initializer": "he_normal", "recurrent_initializer": "glorot_normal"}

CONTRACTS = {
    "RNNCell": Contract(lambda: RNNCell(UNITS, **_INITIALIZERS), _cell_inputs(1)),
    "LSTMCell": Contract(lambda: LSTMCell(UNITS, forget_bias=0.5, **_INITIALIZERS), _cell_inputs(2)),
    "GRUCell": Contract(lambda: GRUCell(UNITS), _cell_inputs(1)),
    "GRUCell-reset_after": Contract(lambda: GRUCell(UNITS, reset_after=True, **_INITIALIZERS), _cell_inputs(1)),
    "PeepholeLSTMCell": Contract(lambda: PeepholeLSTMCell(UNITS, **_INITIALIZERS), _cell_inputs(2)),
    "LayerNormLSTMCell": Contract(lambda: LayerNormLSTMCell(UNITS, **_INITIALIZERS), _cell_inputs(2)),
    "LayerNormGRUCell": Contract(lambda: LayerNormGRUCell(UNITS, **_INITIALIZERS), _cell_inputs(1)),
    "KerasCell": Contract(lambda: KerasCell(keras.layers.LSTMCell(UNITS)), _cell_inputs(2)),
    "StackedCell": Contract(lambda: StackedCell([LSTMCell(UNITS), GRUCell(UNITS)], residual=True), _cell_inputs(3)),
    "BahdanauAttention": Contract(lambda: BahdanauAttention(3), _attention_inputs),
    "LuongAttention": Contract(LuongAttention, _attention_inputs),
    "ScaledLuongAttention": Contract(ScaledLuongAttention, _attention_inputs),
    "DotAttention": Contract(lambda: DotAttention(scaled=True), _attention_inputs),
    "NormalizedBahdanauAttention": Contract(lambda: NormalizedBahdanauAttention(3), _attention_inputs),
    "ConcatAttention": Contract(lambda: ConcatAttention(3), _attention_inputs),
    "LocalAttention": Contract(lambda: LocalAttention(3, 2), _attention_inputs),
    "LocationAttention": Contract(lambda: LocationAttention(3, 2, 3, sharpening=1.5), _stateful_inputs),
    "LocationAttention-smooth": Contract(
        lambda: LocationAttention(3, 2, 3, smoothing=True, window=1), _stateful_inputs
    ),
    "CoverageAttention": Contract(lambda: CoverageAttention(3, weight=0.5), _stateful_inputs),
    "MonotonicAttention": Contract(
        lambda: MonotonicAttention(3, score_bias=0.5, noise=0.3, hard=False), _stateful_inputs, draws=True
    ),
    "LuongMonotonicAttention": Contract(
        lambda: LuongMonotonicAttention(score_bias=0.5, noise=0.3, hard=False, seed=1), _stateful_inputs, draws=True
    ),
    "HardAttention": Contract(lambda: HardAttention(3, weight=0.5, decay=0.8, seed=1), _attention_inputs, draws=True),
    "PoolingAttention": Contract(
        lambda: PoolingAttention(3),
        lambda batch, time: {
            name.removeprefix("memory_"): x for name, x in _attention_inputs(batch, time).items() if name != "query"
        },
    ),
    "WordByWordAttention": Contract(lambda: WordByWordAttention(3), _matching_inputs),
    "MutualAttention": Contract(lambda: MutualAttention(3), _mutual_inputs),
    "DenseBridge": Contract(
        lambda: DenseBridge([2, 3]), lambda batch, time: {"states": [normal(batch, 4), normal(batch, 5, seed=1)]}
    ),
    "ZeroBridge": Contract(lambda: ZeroBridge([2, 3]), lambda batch, time: {"states": [normal(batch, 4)]}),
    "CopyBridge": Contract(
        lambda: CopyBridge([2 * UNITS] * 4, reads=1, makes=2, directions=2),
        lambda batch, time: {"states": _states(4)(batch)},
    ),
    "Dropout": Contract(
        lambda: Dropout(0.4, seed=1), lambda batch, time: {"inputs": normal(batch, time, 3)}, draws=True
    ),
    "LogMel": Contract(
        lambda: LogMel(1000, 3, window=0.03, hop=0.02, low=50.0, high=450.0, deltas=1, floor=1e-3),
        lambda batch, time: {"inputs": normal(batch, 25 * time)},
        float32_output=True,
    ),
    "SpecAugment": Contract(
        lambda: SpecAugment(2, frequency_width=2, time_masks=2, time_width=3, time_share=0.5, seed=1),
        lambda batch, time: {"inputs": _frames(batch, time)["source"]},
        draws=True,
    ),
    "WarpFrames": Contract(
        lambda: WarpFrames(0.3, time=0.2, seed=1),
        lambda batch, time: {"inputs": _frames(batch, time)["source"]},
        draws=True,
    ),
    "Recurrent": Contract(lambda: Recurrent(LSTMCell(UNITS), go_backwards=True, return_state=True), _sequence_inputs),
    "Recurrent-dropped": Contract(
        lambda: Recurrent(GRUCell(UNITS), dropout=0.1, recurrent_dropout=0.2, zoneout=0.3, seed=1),
        _sequence_inputs,
        draws=True,
    ),
    "Bidirectional": Contract(
        lambda: Bidirectional(Recurrent(GRUCell(UNITS), return_state=True), merge_mode="ave"), _sequence_inputs
    ),
    "Stack": Contract(
        lambda: Stack(
            [
                Bidirectional(Recurrent(GRUCell(2), return_state=True)),
                Recurrent(LSTMCell(UNITS), go_backwards=True, return_state=True),
            ],
            residual=True,
        ),
        _sequence_inputs,
    ),
    "BahdanauDecoder": Contract(
        lambda: BahdanauDecoder(LSTMCell(UNITS), BahdanauAttention(3), gate=True, deep_output=True),
        _decoder_inputs(2),
    ),
    "BahdanauDecoder-readout_dropout": Contract(
        lambda: BahdanauDecoder(GRUCell(UNITS), BahdanauAttention(3), deep_output=True, readout_dropout=0.5, seed=1),
        _decoder_inputs(1),
        draws=True,
    ),
    "BahdanauDecoder-stack": Contract(
        lambda: BahdanauDecoder(
            StackedCell([LSTMCell(UNITS), GRUCell(UNITS)], residual=True), LuongAttention(), gate=True
        ),
        _decoder_inputs(3),
    ),
    "BahdanauDecoder-stateful": Contract(
        lambda: BahdanauDecoder(GRUCell(UNITS), LocationAttention(3, 2, 3)), _decoder_inputs(1)
    ),
    "FixedContextDecoder": Contract(lambda: FixedContextDecoder(LSTMCell(UNITS)), _decoder_inputs(2)),
    "LuongDecoder": Contract(
        lambda: LuongDecoder(GRUCell(UNITS, reset_after=True), LuongAttention()), _decoder_inputs(1)
    ),
    "LuongDecoder-stateful": Contract(lambda: LuongDecoder(GRUCell(UNITS), CoverageAttention(3)), _decoder_inputs(1)),
    "PointerGenerator": Contract(lambda: PointerGenerator(2), _pointer_inputs, float32_output=True),
    "ImageEncoder": Contract(
        lambda: ImageEncoder(tiny_backbone(), 5, dropout=0.1),
        lambda batch, time: {"source": normal(batch, 8, 8, 3)},
        draws=True,
    ),
    "TextEncoder": Contract(
        lambda: tiny_text_encoder(dropout=0.1, word_dropout=0.2),
        _source_inputs,
        draws=True,
    ),
    "SpeechEncoder": Contract(
        lambda: SpeechEncoder(
            two_ways(), 5, strides=(1, 2), kernel_size=3, dropout=0.1, augment=SpecAugment(1, frequency_width=2)
        ),
        _frames,
        draws=True,
    ),
    "VectorEncoder": Contract(VectorEncoder, lambda batch, time: {"source": normal(batch, time, 3)}),
    "PretrainedEncoder": Contract(lambda: PretrainedEncoder(tiny_reader(), 1, 20), _source_inputs),
    "SequenceClassifier": Contract(
        lambda: SequenceClassifier(tiny_text_encoder(), 5, pooling="attention", units=3, dropout=0.1),
        _source_inputs,
        float32_output=True,
        draws=True,
    ),
    "SequenceClassifier-last": Contract(
        lambda: SequenceClassifier(tiny_text_encoder(), 5, pooling="last", units=2, dropout=0.1),
        _source_inputs,
        float32_output=True,
        draws=True,
    ),
    "PairClassifier": Contract(
        lambda: PairClassifier(tiny_text_encoder(), two_ways(), 5, attention="word", units=3, dropout=0.1),
        _pair_inputs,
        float32_output=True,
        draws=True,
    ),
    "PairClassifier-last": Contract(
        lambda: PairClassifier(tiny_text_encoder(), two_ways(), 5, attention="last", units=3, dropout=0.1),
        _pair_inputs,
        float32_output=True,
        draws=True,
    ),
    "PianoRollModel": Contract(
        lambda: PianoRollModel([LSTMCell(UNITS), GRUCell(3)], keys=5, dropout=0.1, recurrent_dropout=0.2, chained=True),
        _roll_inputs,
        float32_output=True,
        draws=True,
    ),
    "SequenceTagger": Contract(
        lambda: SequenceTagger(tiny_text_encoder(), 5, classes=4, pooling="max", units=3, dropout=0.1),
        _source_inputs,
        float32_output=True,
        draws=True,
    ),
    "Seq2Seq": Contract(
        lambda: tiny_seq2seq("luong", dropout=0.1, alignment_penalty=0.2),
        _seq2seq_inputs,
        float32_output=True,
        draws=True,
    ),
    "Seq2Seq-copies": Contract(tiny_copier, _copier_inputs, float32_output=True),
    "Seq2Seq-ctc": Contract(
        lambda: tiny_seq2seq("luong", ctc_weight=0.4),
        _seq2seq_inputs,
        float32_output=True,
    ),
    "Seq2Seq-aligned": Contract(
        lambda: tiny_aligned("luong", dropout=0.1),
        lambda batch, time: {"inputs": {"source": _tokens(batch, time + 1), "tokens": _tokens(batch, time)}},
        float32_output=True,
        draws=True,
    ),
}


def public_layers():
    """The concrete Keras layers among the public names of the layers and the models."""
    names = [getattr(module, name) for module in (kseq.layers, kseq.models) for name in module.__all__]
    classes = [x for x in names if inspect.isclass(x) and issubclass(x, keras.layers.Layer)]
    return [x for x in classes if not inspect.isabstract(x)]


@functools.cache
def functional_model(name):
    """The row's layer in a functional model from a list of tensors to a list, batch and time unknown.

    Its weights are random. It is made once: no test may change it.
    """
    make, inputs, *_ = CONTRACTS[name]

    def symbol(small, large):
        shape = [a if a == b else None for a, b in zip(small.shape, large.shape, strict=True)]
        return keras.Input(batch_shape=shape, dtype=str(small.dtype))

    symbols = keras.tree.map_structure(symbol, inputs(2, 3), inputs(3, 4))
    outputs = make()(**symbols)
    return randomise(keras.Model(keras.tree.flatten(symbols), keras.tree.flatten(outputs)))


def flat_inputs(name, batch, time):
    """What `functional_model(name)` is called with."""
    return keras.tree.map_structure(tf.constant, keras.tree.flatten(CONTRACTS[name].inputs(batch, time)))
