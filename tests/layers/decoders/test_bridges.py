"""The bridges against NumPy, and against lists written by hand."""

import numpy as np
import pytest

from contracts import normal, randomise
from kseq.layers import (
    Bidirectional,
    CopyBridge,
    DenseBridge,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    Recurrent,
    Stack,
    StackedCell,
    ZeroBridge,
)


@pytest.mark.parametrize("sizes", [[3], [2, 3], [2, 2, 1]])
@pytest.mark.parametrize("depths", [[4], [2, 3]])
def test_each_state_sees_all_states(sizes, depths):
    """Oracle: s_k = tanh(W_k e + b_k) with each W_k cut out by itself."""
    states = [normal(5, depth, seed=depth) for depth in depths]
    bridge = DenseBridge(sizes)
    bridge(states)
    randomise(bridge)
    made = bridge(states)
    assert len(made) == len(sizes)
    e = np.concatenate(states, axis=-1)
    start = 0
    for size, state in zip(sizes, made, strict=True):
        W, b = np.asarray(bridge.kernel)[:, start : start + size], np.asarray(bridge.bias)[start : start + size]
        np.testing.assert_allclose(state, np.tanh(e @ W + b), atol=1e-6)
        start += size


def test_bias_starts_at_zero():
    bridge = DenseBridge([2, 3])
    bridge.build([(None, 4)])
    np.testing.assert_array_equal(bridge.bias, np.zeros(5))


@pytest.mark.parametrize("states", [[normal(5, 4)], [normal(5, 2), normal(5, 3)]])
def test_zeros_have_the_decoders_sizes(states):
    made = ZeroBridge([2, 3])(states)
    assert [tuple(state.shape) for state in made] == [(5, 2), (5, 3)] and not any(map(np.any, made))


# What becomes the decoder's states, lowest layer first, by the cells and the depths of encoder and decoder.
COPIES = {
    ("lstm", "lstm"): {
        (1, 1): "h1 c1",
        (1, 2): "h1 c1 h1 c1",
        (1, 3): "h1 c1 h1 c1 h1 c1",
        (2, 1): "h2 c2",
        (2, 2): "h1 c1 h2 c2",
        (2, 3): "h1 c1 h1 c1 h2 c2",
        (3, 1): "h3 c3",
        (3, 2): "h2 c2 h3 c3",
        (3, 3): "h1 c1 h2 c2 h3 c3",
    },
    ("lstm", "gru"): {
        (1, 1): "h1",
        (1, 2): "h1 h1",
        (1, 3): "h1 h1 h1",
        (2, 1): "h2",
        (2, 2): "h1 h2",
        (2, 3): "h1 h1 h2",
        (3, 1): "h3",
        (3, 2): "h2 h3",
        (3, 3): "h1 h2 h3",
    },
    ("gru", "lstm"): {
        (1, 1): "h1 h1",
        (1, 2): "h1 h1 h1 h1",
        (1, 3): "h1 h1 h1 h1 h1 h1",
        (2, 1): "h2 h2",
        (2, 2): "h1 h1 h2 h2",
        (2, 3): "h1 h1 h1 h1 h2 h2",
        (3, 1): "h3 h3",
        (3, 2): "h2 h2 h3 h3",
        (3, 3): "h1 h1 h2 h2 h3 h3",
    },
    ("gru", "gru"): {
        (1, 1): "h1",
        (1, 2): "h1 h1",
        (1, 3): "h1 h1 h1",
        (2, 1): "h2",
        (2, 2): "h1 h2",
        (2, 3): "h1 h1 h2",
        (3, 1): "h3",
        (3, 2): "h2 h3",
        (3, 3): "h1 h2 h3",
    },
}
GIVEN = {
    ("lstm", 1): "h1 c1 h2 c2 h3 c3",
    ("lstm", 2): "h1→ c1→ h1← c1← h2→ c2→ h2← c2← h3→ c3→ h3← c3←",
    ("gru", 1): "h1 h2 h3",
    ("gru", 2): "h1→ h1← h2→ h2← h3→ h3←",
}
LETTERS = {"gru": 1, "lstm": 2}


def value(name):
    """`[2, 3]`, another for each name of a state."""
    return normal(2, 3, seed=sum(ord(letter) * 7**k for k, letter in enumerate(name)))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("cells", "depths", "want"),
    [(cells, depths, want) for cells, table in COPIES.items() for depths, want in table.items()],
)
def test_states_are_copied_to_where_the_table_says(cells, depths, want, directions):
    """Oracle: the lists above; in two directions each name stands for its two halves side by side."""
    (reads, makes), (above, below) = (LETTERS[cell] for cell in cells), depths
    given = [value(name) for name in GIVEN[cells[0], directions].split()[: above * reads * directions]]
    bridge = CopyBridge([3 * directions] * below * makes, reads=reads, makes=makes, directions=directions)
    sides = [""] if directions == 1 else ["→", "←"]
    want = [np.concatenate([value(name + side) for side in sides], axis=-1) for name in want.split()]
    made = bridge(given)
    assert len(made) == len(want)
    for state, wanted in zip(made, want, strict=True):
        np.testing.assert_array_equal(state, wanted)


def test_layers_of_many_sizes_meet_from_the_top():
    bridge = CopyBridge([4, 2, 3], reads=1, makes=1)
    states = [normal(2, size, seed=size) for size in (5, 4, 2, 3)]
    for state, wanted in zip(bridge(states), states[1:], strict=True):
        np.testing.assert_array_equal(state, wanted)


@pytest.mark.parametrize("two", [False, True])
def test_a_deep_encoder_hands_its_states_to_a_deep_decoder(two):
    """The decoder starts from what the encoder's layers hold, put together by hand."""
    x, memory, size = normal(2, 3, 5), normal(2, 4, 6), 8 if two else 4
    layers = [Recurrent(cell(4), return_state=True) for cell in (LSTMCell, LSTMCell)]
    _, *states = Stack([Bidirectional(layer) for layer in layers] if two else layers)(x)
    cell = StackedCell([LSTMCell(size), LSTMCell(size)])
    decoder = LuongDecoder(cell, LuongAttention())
    outputs, _ = decoder(
        x, memory, initial_state=CopyBridge(cell.state_size, reads=2, makes=2, directions=1 + two)(states)
    )
    pairs = [(0, 2), (1, 3), (4, 6), (5, 7)]
    first = [np.concatenate([states[k] for k in pair], axis=-1) for pair in pairs] if two else states
    np.testing.assert_array_equal(outputs, decoder(x, memory, initial_state=first)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reads": 0, "makes": 1}, "reads must be a positive whole number, got 0$"),
        ({"reads": 1, "makes": 1.5}, "makes must be a positive whole number, got 1.5$"),
        ({"reads": 1, "makes": 1, "directions": 0}, "directions must be a positive whole number, got 0$"),
        ({"reads": 1, "makes": 1, "directions": 3}, "directions must be 1 or 2, got 3$"),
        ({"reads": 1, "makes": 2}, r"state_size must have 2 states a layer, as makes says, got \[4, 4, 4\]$"),
    ],
)
def test_what_cannot_be_made_is_named(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CopyBridge([4, 4, 4], **options)


@pytest.mark.parametrize(
    ("options", "sizes", "message"),
    [
        (
            {"reads": 2, "makes": 1, "directions": 2},
            [2] * 6,
            "the encoder must give reads × directions = 4 states a layer, got 6 states$",
        ),
        (
            {"reads": 1, "makes": 1},
            [4, 3],
            r"the decoder's states are of sizes \[4, 4\], and the encoder's in .* of \[4, 3\]; use DenseBridge, ",
        ),
        (
            {"reads": 1, "makes": 1, "directions": 2},
            [4, 4],
            r"the decoder's states are of sizes \[4, 4\], and the encoder's in .* of \[8, 8\]; use DenseBridge, ",
        ),
    ],
)
def test_what_cannot_be_copied_is_named(options, sizes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CopyBridge([4, 4], **options).build([(None, size) for size in sizes])
