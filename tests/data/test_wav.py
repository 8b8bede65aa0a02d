"""Piano rolls as sound."""

import io

import numpy as np
import pytest
from scipy.io import wavfile

from kseq.data.wav import RATE, wav_of_roll


def sound_of(roll, **options):
    rate, samples = wavfile.read(io.BytesIO(wav_of_roll(roll, **options)))
    assert rate == RATE and samples.dtype == np.int16 and samples.ndim == 1
    return samples / 32767


def note(key, steps=4):
    roll = np.zeros((steps, 88), np.uint8)
    roll[:, key] = 1
    return roll


@pytest.mark.parametrize(("key", "hertz"), [(0, 27.5), (39, 261.63), (48, 440), (87, 4186.01)])
def test_a_note_sounds_at_the_frequency_of_its_key(key, hertz):
    """Oracle: the largest of the Fourier transform, and the published frequencies of A0, C4, A4 and C8."""
    sound = sound_of(note(key), tempo=60)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert np.argmax(spectrum) * RATE / len(sound) == pytest.approx(hertz, abs=0.51)
    assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(("division", "tempo", "seconds"), [(2, 120, 2), (2, 60, 4), (4, 120, 1), (3, 90, 16 / 9)])
def test_the_tempo_gives_the_length(division, tempo, seconds):
    """By hand; a rest at the end is part of it."""
    roll = note(48, steps=8)
    roll[6:] = 0
    sound = sound_of(roll, steps_per_beat=division, tempo=tempo)
    assert len(sound) == round(seconds * RATE)
    assert np.any(sound[: 6 * len(sound) // 8]) and not np.any(sound[6 * len(sound) // 8 + 1 :])


def test_a_note_struck_again_is_loud_again_and_one_that_is_held_dies_away():
    held, struck = note(48, 16), note(48, 16)
    struck[8, 48] = 2
    one, other = (sound_of(roll) for roll in (held, struck))
    half = len(one) // 2
    assert np.abs(one[half:]).max() < 0.5 * np.abs(one).max()
    np.testing.assert_allclose(other[half:], other[:half], atol=0.01)


def test_a_chord_is_the_sum_of_its_notes_and_silence_is_silent():
    chord = note(39) + note(43)
    one, two, both = sound_of(note(39)), sound_of(note(43)), sound_of(chord)
    total = one / np.abs(one).max() + two / np.abs(two).max()
    assert np.corrcoef(both, total)[0, 1] > 0.99
    assert not np.any(sound_of(note(0) * 0)) and len(sound_of(np.zeros((0, 88)))) == 0
    assert wav_of_roll(chord) == wav_of_roll(chord)
