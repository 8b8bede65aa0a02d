"""The bridge against NumPy."""

import numpy as np
import pytest

from contracts import normal, randomise
from kseq.layers import DenseBridge


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
