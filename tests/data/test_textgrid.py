"""TextGrids: when each token is said, and the file that says so."""

import re

import numpy as np
import pytest

from kseq.data import attention_times, text_grid
from kseq.data.tones import tones


def test_sharp_attention_gives_the_sounds_their_time():
    """Oracle: when each generated tone begins and ends, with silence between; a row is 0.01 s."""
    for example in tones("train", 20):
        ends, step = example["ends"], 0.01
        rows = np.arange(round(ends[-1, 1] / step) + 5) * step + step / 2
        alignment = np.array([(rows > begin) & (rows < end) for begin, end in ends], "float32")
        times = attention_times(alignment / alignment.sum(axis=1, keepdims=True), step / 2, step, len(rows) * step)
        np.testing.assert_allclose(times[1:, 0], (ends[1:].mean(axis=1) + ends[:-1].mean(axis=1)) / 2, atol=step)
        middles = ends.mean(axis=1)
        assert np.all((times[:, 0] < middles) & (middles < times[:, 1]))


@pytest.mark.parametrize("weight", [1.0, 0.2])  # the weights of local attention sum to less than 1
def test_times_cover_the_recording_in_order_wherever_the_attention_was(weight):
    rng = np.random.default_rng(0)
    alignment = np.eye(6)[[3, 3, 1, 5, 0]] * weight
    times = attention_times(alignment, 0.02, 0.04, 0.3)
    np.testing.assert_allclose(times[1:, 0], times[:-1, 1])
    assert times[0, 0] == 0 and times[-1, 1] >= 0.3 and np.all(np.diff(times) > 0.0009)
    np.testing.assert_allclose(times[3, 0], (0.14 + 0.22) / 2, atol=1e-6)  # rows 3 and 5: it does not go back to row 1
    one = attention_times(rng.random((1, 6)), 0.02, 0.04, 0.3)
    np.testing.assert_array_equal(one, [[0, 0.3]])


def test_the_file_is_that_of_praat():
    text = text_grid(["AH", 'a"b'], [[0, 0.25], [0.25, 0.5]])
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 0.500000\n')
    found = re.findall(r"intervals \[(\d)\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = (.*)", text)
    assert found == [("1", "0.000000", "0.250000", '"AH"'), ("2", "0.250000", "0.500000", '"a""b"')]
    assert 'name = "phones"' in text and "intervals: size = 2\n" in text and text.endswith("\n")
