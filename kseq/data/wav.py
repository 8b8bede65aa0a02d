"""Piano rolls as sound, by additive synthesis."""

import io

import numpy as np
from scipy.io import wavfile

from kseq.data.midi import LOWEST, notes_of_roll

RATE = 16_000  # samples a second
_PARTIALS = 6  # of a note, the fundamental among them
_DECAY = 1.5  # seconds in which a fundamental falls to 1/e of its amplitude; partial h falls h times as fast
_RAMP = 0.01  # seconds in which a note swells, and in which it dies away at its end


def wav_of_roll(roll, steps_per_beat=2, tempo=120.0):
    """A WAV file of a piano roll, as bytes: mono, 16 bits, 16 kHz, as long as the roll's steps.

        x(t) = Σ_h h^−2 exp(−h t / 1.5 s) sin(2π h f t),  f = 440 Hz · 2^((n − 69) / 12)

    for each note, n being its number in MIDI and h = 1 … 6, as far as h f is below half of the sampling rate. The
    loudest sample of the file has 0.9 of the largest amplitude.

    Args:
        roll: `[steps, 88]`, as `notes_of_roll` reads it.
        steps_per_beat: steps in a quarter note.
        tempo: quarter notes a minute.
    """
    step = 60 / tempo / steps_per_beat
    sound = np.zeros(round(len(roll) * step * RATE), np.float32)
    for key, on, off in notes_of_roll(roll):
        first, end = round(on * step * RATE), round(off * step * RATE)
        t = np.arange(end - first) / RATE
        f = 440 * 2 ** ((key + LOWEST - 69) / 12)
        partials = [h for h in range(1, _PARTIALS + 1) if h * f < RATE / 2]
        note = sum(h**-2 * np.exp(-h * t / _DECAY) * np.sin(2 * np.pi * h * f * t) for h in partials)
        sound[first:end] += note * np.clip(np.minimum(t, t[::-1]) / _RAMP, 0, 1)
    sound *= 0.9 / max(np.abs(sound).max(initial=0), 1e-9)
    content = io.BytesIO()
    wavfile.write(content, RATE, np.round(sound * 32767).astype(np.int16))
    return content.getvalue()
