"""Generated recordings: an alphabet of tones, chirps and noises."""

import functools
import io
import wave
from collections.abc import Iterator

import numpy as np

from kseq.data import toy

RATE = 16_000  # samples a second
# A phone is a sound that glides from one frequency to another, in Hz, or noise, or the trill of a tone.
GLIDES = {
    "do": (400, 400),
    "mi": (630, 630),
    "so": (1000, 1000),
    "ti": (1600, 1600),
    "up": (400, 1600),
    "down": (1600, 400),
    "lift": (1000, 2500),
    "drop": (2500, 1000),
}
PHONES = (*GLIDES, "trill", "hiss")
TRILL = (630, 25)  # Hz of the tone, and how often a second it is cut off

_SHORTEST, _LONGEST = 0.06, 0.16  # seconds of a phone
_GAP = (0.02, 0.08)  # seconds of near silence between two phones
_FEWEST, _MOST = 2, 8  # phones of a recording
_SHIFT = 0.1  # a voice is at most this share higher or lower than another; phones are further apart
_RAMP = 0.005  # seconds in which a phone becomes loud, and quiet again
_NOISE = (0.002, 0.02)  # of the room, as a share of full scale


def tones(split: str, count: int, *, seed: int = 0) -> Iterator[dict]:
    """Yields recordings of two to eight phones of `PHONES`.

    Each recording has a voice of its own, a little higher or lower, a loudness and a noise of the room, and each phone
    a length of its own. Example `i` depends on `seed`, `split` and `i` alone. For one seed, no sequence of phones is in
    two splits, and those of two phones are all in "train".

    Args:
        split: "train", "dev" or "test".
        count: number of examples, at least 0.
        seed: at least 0.

    Returns:
        An iterator of dictionaries: `id`, like "train-00017"; `audio`, the bytes of a WAV file of 16 bits at `RATE`;
        `text`, the phones with spaces between; `ends`, float64 `[phones, 2]`, when each begins and ends, in seconds.

    Raises:
        ValueError: an argument is outside its range.
    """
    if split not in toy.SPLITS:
        raise ValueError(f"split must be one of {toy.SPLITS}, got {split!r}")
    for name, value in (("count", count), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    return (_example(split, index, seed) for index in range(count))


def _example(split, index, seed):
    rng, phones = _drawn(split, index, seed)
    voice, loudness = 1 + rng.uniform(-_SHIFT, _SHIFT) / 2, rng.uniform(0.1, 0.8)
    parts, ends, at = [_silence(rng)], [], 0
    for phone in phones:
        at = sum(map(len, parts))
        parts += [loudness * _phone(rng, phone, voice), _silence(rng)]
        ends.append((at, at + len(parts[-2])))
    x = np.concatenate(parts)
    x += rng.uniform(*_NOISE) * rng.standard_normal(len(x))
    name = f"{split}-{index:05d}"
    return {"id": name, "audio": wav(x), "text": " ".join(phones), "ends": np.array(ends) / RATE}


def _drawn(split, index, seed):
    rng = np.random.default_rng([seed, toy.SPLITS.index(split), index])
    while True:
        phones = [str(phone) for phone in rng.choice(PHONES, rng.integers(_FEWEST, _MOST + 1))]
        text = " ".join(phones)
        if toy.belongs(text, len(phones) == _FEWEST, split, index, functools.partial(_dev_texts, seed)):
            return rng, phones


@functools.cache
def _dev_texts(seed):
    return frozenset(" ".join(_drawn("dev", index, seed)[1]) for index in range(toy.FIRST_DEV))


def _silence(rng):
    return np.zeros(round(rng.uniform(*_GAP) * RATE))


def _phone(rng, phone, voice):
    """The sound of a phone in −1…1."""
    samples = round(rng.uniform(_SHORTEST, _LONGEST) * RATE)
    t = np.arange(samples) / RATE
    if phone == "hiss":
        x = rng.uniform(-1, 1, samples)
    elif phone == "trill":
        tone, often = TRILL
        x = np.sin(2 * np.pi * tone * voice * t) * (np.sin(2 * np.pi * often * t) > 0)
    else:
        first, last = GLIDES[phone]
        frequency = voice * np.geomspace(first, last, samples)
        x = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    ramp = np.minimum(1, np.minimum(t, t[::-1]) / _RAMP)
    return x * ramp


def wav(x, rate=RATE):
    """A waveform in −1…1 as the bytes of a WAV file of 16 bits; what lies beyond is clipped."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.round(np.clip(x, -1, 1) * (2**15 - 1)).astype("<i2").tobytes())
    return file.getvalue()
