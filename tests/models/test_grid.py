"""Any encoder with any decoder: each pair trains a step, samples, and reads no padding."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.layers import (
    BahdanauAttention,
    BahdanauDecoder,
    Bidirectional,
    CopyBridge,
    CoverageAttention,
    DenseBridge,
    FixedContextDecoder,
    GRUCell,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    Recurrent,
    RNNCell,
    Stack,
    StackedCell,
    ZeroBridge,
)
from kseq.losses import TokenCrossentropy
from kseq.models import Seq2Seq, TextEncoder
from kseq.samplers import Greedy

UNITS, WORDS = 4, 9

ENCODERS = {
    "cnn": lambda: keras.layers.Conv1D(UNITS, 3, padding="same"),
    "rnn": lambda: Recurrent(RNNCell(UNITS), return_state=True),
    "lstm": lambda: Recurrent(LSTMCell(UNITS), return_state=True),
    "gru": lambda: Recurrent(GRUCell(UNITS), return_state=True),
    "birnn": lambda: Bidirectional(Recurrent(GRUCell(UNITS), return_state=True)),
    "stack": lambda: Stack(
        [Bidirectional(Recurrent(GRUCell(UNITS // 2), return_state=True)) for _ in range(2)], residual=True
    ),
    "sequence": lambda: Recurrent(GRUCell(UNITS)),
    "keras": lambda: keras.layers.LSTM(UNITS, return_sequences=True, return_state=True),
}
DECODERS = {
    "fixed": FixedContextDecoder,
    "bahdanau": lambda cell: BahdanauDecoder(cell, BahdanauAttention(3)),
    "luong": lambda cell: LuongDecoder(cell, LuongAttention()),
    "coverage": lambda cell: BahdanauDecoder(cell, CoverageAttention(3)),
}
CELLS = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "deep": lambda units: StackedCell([LSTMCell(units), LSTMCell(units)], residual=True),
}
# What the bridge that copies must know of the two sides: states a layer and directions, states a layer.
READS = {"lstm": (2, 1), "birnn": (1, 2), "stack": (1, 2)}
MAKES = {"gru": 1, "deep": 2}

SOURCE = np.array([[4, 5, 6, 7], [8, 3, 0, 0]], "int32")
TOKENS = np.array([[1, 4, 5], [1, 6, 0]], "int32")
TARGETS = np.array([[4, 5, 2], [6, 2, 0]], "int32")


def made(encoder, decoder, cell, bridge="dense"):
    keras.utils.set_random_seed(0)
    one = CELLS[cell](2 * UNITS if encoder == "birnn" else UNITS)
    if bridge == "copy":
        reads, directions = READS[encoder]
        bridge = CopyBridge(one.state_size, reads=reads, makes=MAKES[cell], directions=directions)
    else:
        bridge = {"dense": DenseBridge, "zero": ZeroBridge}[bridge](one.state_size)
    encoder = TextEncoder(WORDS, ENCODERS[encoder](), embedding_size=3)
    return Seq2Seq(encoder, bridge, DECODERS[decoder](one), WORDS, embedding_size=3)


def grid():
    """Every encoder with every decoder and every cell, and every decoder with every cell, once each (a Latin square of
    cells); and each bridge with each encoder, decoder and cell that it can join.
    """
    for i, encoder in enumerate(ENCODERS):
        for j, decoder in enumerate(DECODERS):
            yield encoder, decoder, list(CELLS)[(i + j) % len(CELLS)], "dense"
    for i, encoder in enumerate(READS):
        for j, (decoder, cell) in enumerate(itertools.product(DECODERS, MAKES)):
            if (i + j) % len(READS) < 2:
                yield encoder, decoder, cell, "copy"
            if decoder != "fixed" and (i + j) % len(READS) > 0:  # fixed would know nothing of the source
                yield encoder, decoder, cell, "zero"


QUICK = {("birnn", "bahdanau", "lstm"), ("stack", "coverage", "rnn"), ("sequence", "fixed", "gru")}
SLOW = [pytest.param(*pair, marks=[] if pair[:3] in QUICK else pytest.mark.slow) for pair in grid()]


def test_the_grid_joins_any_two_parts():
    """By hand: every two of an encoder, a decoder and a cell, and all that each bridge can join."""
    found = [*grid()]
    for (i, some), (j, others) in itertools.combinations(enumerate((ENCODERS, DECODERS, CELLS)), 2):
        assert {(one[i], one[j]) for one in found} == {*itertools.product(some, others)}
    for bridge, decoders in (("copy", {*DECODERS}), ("zero", {*DECODERS} - {"fixed"})):
        joined = [{one[i] for one in found if one[3] == bridge} for i in range(3)]
        assert joined == [{*READS}, decoders, {*MAKES}]


@pytest.mark.parametrize(("encoder", "decoder", "cell", "bridge"), SLOW)
def test_every_pair_learns_and_samples(encoder, decoder, cell, bridge):
    """A step of plain gradient descent lowers the loss and moves every weight; a sampler runs from the same source."""
    model, loss = made(encoder, decoder, cell, bridge), TokenCrossentropy()
    inputs, real = {"source": SOURCE, "tokens": TOKENS}, (TARGETS != 0).astype("float32")
    model(inputs)
    weights = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        before = loss(TARGETS, model(inputs), sample_weight=real)
    for weight, gradient in zip(weights, tape.gradient(before, weights), strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.any(gradient)
        weight.assign_sub(0.05 * gradient)
    assert loss(TARGETS, model(inputs), sample_weight=real) < before
    states, memory = model.encode(SOURCE)
    found = Greedy()(model.step, states, memory, start=1, end=2, max_length=3)
    assert found.ids.shape == (2, 1, 3) and np.all(np.isfinite(found.scores))


def test_what_would_read_padding_is_refused():
    stack = keras.Sequential([keras.layers.Conv1D(2, 3, padding="same")], name="stack")
    message = "layer must be one layer, got the model stack, which would read the padding"
    with pytest.raises(ValueError, match=f"^{message}$"):
        TextEncoder(WORDS, stack, embedding_size=3)
    both = Bidirectional(Recurrent(GRUCell(2)), merge_mode=None, name="both")
    with pytest.raises(ValueError, match=r"^layer must give one sequence, got both with merge_mode=None$"):
        TextEncoder(WORDS, both, embedding_size=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        *((encoder, "bahdanau") for encoder in ENCODERS),
        *(("birnn", decoder) for decoder in ("fixed", "luong", "coverage")),
    ],
)
def test_padding_of_the_source_changes_nothing(encoder, decoder):
    """Each encoder, with one decoder, and each decoder, with one encoder: between them is the mask of the memory."""
    model = made(encoder, decoder, "gru")
    short = model({"source": SOURCE[1:, :2], "tokens": TOKENS[1:]})
    longer = np.pad(SOURCE[1:], [(0, 0), (0, 3)])
    np.testing.assert_allclose(model({"source": longer, "tokens": TOKENS[1:]}), short, atol=1e-6)
