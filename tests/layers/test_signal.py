"""Log-mel frames and resampling, against SciPy and the equations in NumPy."""

import keras
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from contracts import dtype_policy
from kseq.layers import LogMel, SpecAugment, WarpFrames
from kseq.layers.signal import resample, slopes


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def triangles(mels, bins, rate, low, high):
    """M `[bins, mels]`: each filter rises from 0 at its left neighbour's middle and falls to 0 at its right one's."""
    mel = 1127 * np.log(1 + np.linspace(0, rate / 2, bins) / 700)
    edges = np.linspace(*(1127 * np.log(1 + f / 700) for f in (low, high)), mels + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mel[:, None] - left) / (middle - left), (right - mel[:, None]) / (right - middle)
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[0] = 0  # the mean of the waveform
    return filters


def log_mel(x, rate, mels, window, hop, fft, low, high, floor):
    """The equation with SciPy's Fourier transform of each frame."""
    frames = -(-len(x) // hop)
    padded = np.pad(x.astype("float64"), (0, frames * hop + window - len(x)))
    w = scipy.signal.get_window("hann", window, fftbins=True)
    X = [np.fft.rfft(w * padded[t * hop : t * hop + window], fft) for t in range(frames)]
    return np.log(floor + np.abs(X) ** 2 @ triangles(mels, fft // 2 + 1, rate, low, high))


@pytest.mark.parametrize(
    ("rate", "samples", "window", "hop", "fft", "options"),
    [
        (8000, 1999, 200, 80, 256, {}),
        (16000, 4000, 400, 160, 512, {"low": 100.0, "high": 7000.0, "floor": 1e-3}),
        (11025, 3000, 256, 128, 256, {"window": 256 / 11025, "hop": 128 / 11025}),
    ],
)
def test_log_mel_is_the_equation(rate, samples, window, hop, fft, options):
    x = noise(2, samples)
    want = [
        log_mel(
            row,
            rate,
            12,
            window,
            hop,
            fft,
            options.get("low", 20),
            options.get("high", rate / 2),
            options.get("floor", 1e-6),
        )
        for row in x
    ]
    np.testing.assert_allclose(LogMel(rate, 12, **options)(x), want, rtol=1e-4, atol=1e-3)


def test_the_spectrum_is_that_of_scipy():
    """Each band of a tone is that of SciPy's own short-time transform, where frames lie inside the waveform."""
    x = np.sin(2 * np.pi * 1000 * np.arange(1600) / 8000).astype("float32")
    transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", 200), 80, 8000, mfft=256, phase_shift=None)
    first = int(np.ceil(100 / 80))  # a frame of SciPy's is centred on its time
    power = np.abs(transform.stft(x, p0=0, p1=18, k_offset=100)).T[:10] ** 2
    want = np.log(1e-6 + power @ triangles(20, 129, 8000, 20, 4000))
    got = LogMel(8000, 20)(x[None])[0, : len(want)]
    assert first == 2 and int(np.argmax(got[3])) == int(np.argmax(want[3]))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("time", [1, 2, 7])
def test_slopes_are_those_of_a_line_through_five_frames(time):
    y = noise(2, time, 3)
    padded = np.pad(y, ((0, 0), (2, 2), (0, 0)), mode="edge")
    want = scipy.signal.savgol_filter(padded, 5, 1, deriv=1, axis=1)[:, 2:-2]
    np.testing.assert_allclose(slopes(tf.constant(y)), want, atol=1e-6)


def test_slopes_follow_the_frames():
    x = noise(1, 800)
    y, first, second = np.split(LogMel(8000, 6, deltas=2)(x).numpy(), 3, axis=-1)
    np.testing.assert_allclose(y, LogMel(8000, 6)(x), atol=1e-6)
    np.testing.assert_allclose(first, slopes(tf.constant(y)), atol=1e-6)
    np.testing.assert_allclose(second, slopes(slopes(tf.constant(y))), atol=1e-6)


def test_half_precision_does_not_hear_the_waveform_rounded():
    x = 1e-3 * noise(1, 800)
    with dtype_policy("mixed_float16"):
        got = LogMel(8000, 6)(x)
    np.testing.assert_array_equal(got, LogMel(8000, 6)(x))
    assert got.dtype == "float32"


def test_every_sample_has_a_frame_and_the_shape_is_known_before():
    layer = LogMel(8000, 6)
    for samples in (1, 80, 81, 799):
        assert layer(noise(1, samples)).shape == layer.compute_output_shape((1, samples)) == (1, -(-samples // 80), 6)
    assert layer(keras.Input((None,))).shape == (None, None, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate must be a positive whole number, got 0"),
        ({"mels": 0}, "mels must be a positive whole number, got 0"),
        ({"hop": 1e-5}, "hop must be a sample or more at 8000 Hz, got 1e-05 seconds"),
        ({"window": 0.0}, "window must be a sample or more at 8000 Hz, got 0.0 seconds"),
        ({"floor": 0.0}, "floor must be positive"),
        ({"high": 5000.0}, r"low and high must rise and be at most 4000 Hz, half of the rate, got \(20.0, 5000.0\)"),
        ({"low": 4000.0}, "low and high must rise"),
        ({"deltas": 3}, "deltas must be 0, 1 or 2, got 3"),
    ],
)
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        LogMel(**{"rate": 8000} | options)


@pytest.mark.parametrize("samples", [1, 2, 441, 1000, 1001])
@pytest.mark.parametrize(("rate", "to"), [(44100, 16000), (8000, 16000), (96000, 16000), (11025, 8000), (8000, 8000)])
def test_resampling_is_that_of_scipy(samples, rate, to):
    x = noise(samples)
    want = scipy.signal.resample(x, -(-samples * to // rate))
    np.testing.assert_allclose(resample(tf.constant(x), rate, to), want, atol=2e-5)


def test_what_the_new_rate_cannot_carry_is_left_out():
    t = np.arange(9600) / 96000
    low, high = np.sin(2 * np.pi * 500 * t), np.sin(2 * np.pi * 30000 * t)
    got = resample(tf.constant(low + high, tf.float32), 96000, 16000)
    np.testing.assert_allclose(got, np.sin(2 * np.pi * 500 * np.arange(1600) / 16000), atol=1e-4)


# --- SpecAugment


def hidden(**options):
    """bool `[recording, frame, band]` of 300 recordings of 12 frames, padded to 20, by a new layer."""
    x = np.ones((300, 20, 6), "float32")
    x[:, 12:] = 0
    return np.asarray(SpecAugment(**{"seed": 3, "frequency_width": 4} | options)(x, training=True))[:, :12] == 0


def widths(masked):
    """How many are hidden in each row, which are side by side."""
    steps = np.diff(np.pad(masked, ((0, 0), (1, 1))).astype(int), axis=1)
    assert np.all(np.sum(steps == 1, axis=1) <= 1)
    return masked.sum(axis=1)


def test_a_mask_hides_whole_bands_side_by_side():
    """Oracle: the docstring's U{0 … F} and its places, from what 300 draws hide."""
    found = hidden(frequency_masks=1)
    assert np.all(found == found[:, :1])
    bands = found[:, 0]
    assert sorted(set(widths(bands))) == [0, 1, 2, 3, 4] and np.all(bands.any(axis=0))
    np.testing.assert_allclose(np.bincount(widths(bands)) / 300, 0.2, atol=0.08)


def test_a_mask_hides_no_more_than_its_share_of_a_recording():
    for options, most in (({"time_width": 5, "time_share": 1.0}, 5), ({"time_width": 40, "time_share": 0.3}, 3)):
        found = hidden(time_masks=1, **options)
        assert np.all(found == found[..., :1])
        assert sorted(set(widths(found[..., 0]))) == list(range(most + 1)) and np.all(found[..., 0].any(axis=0))


def test_several_masks_hide_more_and_slopes_are_hidden_with_their_bands():
    one, three = (hidden(frequency_masks=n, time_masks=n, time_width=4).mean() for n in (1, 3))
    assert 1.5 * one < three < 1
    found = hidden(frequency_masks=1, bands=3, frequency_width=2)
    assert found.any() and np.all(found[..., :3] == found[..., 3:])


def test_masks_follow_the_seed_and_are_for_training_alone():
    options = {"frequency_masks": 1, "time_masks": 1}
    assert np.all(hidden(**options) == hidden(**options)) and np.any(hidden(**options) != hidden(**options, seed=4))
    layer, x = SpecAugment(2, time_masks=2), noise(2, 50, 40)
    assert np.all(layer(x) == x) and np.any(layer(x, training=True) != layer(x, training=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequency_masks": -1}, "frequency_masks must be a positive whole number, got -1"),
        ({"time_width": 0}, "time_width must be a positive whole number, got 0"),
        ({"time_share": 1.5}, "time_share must be at most 1, got 1.5"),
        ({"bands": 4}, "bands is 4, and a frame of 6 numbers is no multiple of it"),
        ({"frequency_width": 7}, "frequency_width must be at most 6, the bands, got 7"),
    ],
)
def test_masks_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        hidden(**options)


# --- WarpFrames


class Drawn:
    """Stands for the generator of a layer: the same numbers for every draw."""

    def __init__(self, monkeypatch, *draws):
        draws = iter(draws)
        monkeypatch.setattr("kseq.layers.signal.uniform", lambda shape, generator: np.broadcast_to(next(draws), shape))


def column(*values):
    return np.array(values, "float32")[:, None]


def test_bands_are_stretched_as_vocal_tract_length_perturbation_has_it(monkeypatch):
    """Oracle: the docstring's q, band by band, with np.interp between bands."""
    x = noise(3, 4, 11)
    Drawn(monkeypatch, column(0.0, 0.5, 1.0))
    found = WarpFrames(0.2)(x, training=True)
    S, H = 10, 8
    for i, α in enumerate((0.8, 1.0, 1.2)):
        edge = H * min(α, 1)
        q = [α * m if m <= edge / α else S - (S - edge) / (S - edge / α) * (S - m) for m in range(11)]
        assert q[0] == 0 and q[-1] == S and np.all(np.diff(q) > 0)
        expected = [np.interp(q, np.arange(11), frame) for frame in x[i]]
        np.testing.assert_allclose(found[i], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], x[1], atol=1e-6)


def test_slopes_are_stretched_with_their_bands(monkeypatch):
    x = noise(1, 3, 6)
    Drawn(monkeypatch, column(1.0), column(1.0), column(1.0))
    found = WarpFrames(0.2, bands=3)(x, training=True)
    for part in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(found[..., part], WarpFrames(0.2)(x[..., part], training=True), atol=1e-6)


def test_time_moves_around_one_frame_and_padding_stays(monkeypatch):
    """Oracle: the docstring's p, frame by frame, with np.interp between frames."""
    x, τ = noise(2, 16, 3), 12
    x[:, τ:] = 0
    Drawn(monkeypatch, np.stack([column(0.1, 0.9), column(1.0, 0.0)]))
    found = np.asarray(WarpFrames(time=0.1)(x, training=True))
    for i, (a, b) in enumerate(((0.1, 1.0), (0.9, 0.0))):
        c, w = 11 * (0.25 + 0.5 * a), 11 * 0.1 * (2 * b - 1)
        p = [t * c / (c + w) if t <= c + w else 11 - (11 - c) / (11 - c - w) * (11 - t) for t in range(τ)]
        expected = np.stack([np.interp(p, np.arange(τ), x[i, :τ, k]) for k in range(3)], axis=-1)
        np.testing.assert_allclose(found[i, :τ], expected, atol=1e-5)
        assert np.all(found[i, τ:] == 0)


def test_the_first_and_the_last_frame_of_a_recording_stay():
    x, lengths = noise(200, 30, 2), 1 + np.arange(200) % 30
    x[np.arange(30) >= lengths[:, None]] = 0
    found = np.asarray(WarpFrames(time=0.2, seed=1)(x, training=True))
    np.testing.assert_array_equal(found[:, 0], x[:, 0])
    np.testing.assert_allclose(found[np.arange(200), lengths - 1], x[np.arange(200), lengths - 1], atol=1e-5)


def test_recordings_are_warped_apart_in_training_only():
    layer, x = WarpFrames(0.3, time=0.2, seed=1), np.repeat(noise(1, 20, 8), 2, axis=0)
    assert np.all(layer(x) == x)
    found = np.asarray(layer(x, training=True))
    assert np.any(found[0] != found[1]) and np.any(found != np.asarray(layer(x, training=True)))
    assert np.all(np.isfinite(WarpFrames(0.5, time=0.2)(noise(4, 1, 1), training=True)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequency": 0.6}, "frequency must be at most 0.5, got 0.6"),
        ({"frequency": -1}, "frequency must not be negative, got -1"),
        ({"time": 0.3}, "time must be at most 0.2, got 0.3"),
        ({"bands": 4}, "bands is 4, and a frame of 6 numbers is no multiple of it"),
    ],
)
def test_warps_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        WarpFrames(**options)(noise(1, 5, 6), training=True)
