"""Generated data: short tunes of scales and arpeggios over chords, in all keys."""

import hashlib

import numpy as np

SPLITS = ("train", "dev", "test")
COUNTS = {"train": 2000, "dev": 100, "test": 100}
STYLES = ("arpeggio", "scale")
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
KEYS = (*TONICS, *(f"{tonic}m" for tonic in TONICS))  # first the major keys, then the minor ones
_FLATS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
FLAT_KEYS = (*_FLATS, *(f"{tonic}m" for tonic in _FLATS))  # the same keys by other names
MODES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # semitones above the tonic: major, natural minor

_CHORDS = (0, 3, 4, 5)  # the degrees on which the chords of the inner bars stand
_BARS, _STEPS = 4, 8  # a step is an eighth note
_MELODY, _CHORD = 39, 27  # the keys of a piano, counted from 0, of the C's above which melody and chords lie
_HELD_OUT = 0.1  # share of the tunes that "train" never shows


def scales(split, count, *, seed=0):
    """Yields tunes of four bars: a held chord in each, and above it a run through the scale or the chord's own tones.

    Example `i` depends on `seed`, `split` and `i` alone. For one seed, no tune is in two splits.

    Args:
        split: "train", "dev" or "test".
        count: number of examples.
        seed: at least 0.

    Returns:
        An iterator of dictionaries: `roll`, uint8 `[32, 88]`, an eighth note a step, 1 where a key is down; `onsets`,
        the same with a 2 where a note begins, as all of a bar's chord do at its first step, and of the run at each;
        `key`, one of `KEYS`; `style`, one of `STYLES`.
    """
    return (_tune(split, i, seed) for i in range(count))


def _tune(split, index, seed):
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        key, style = int(rng.integers(len(KEYS))), STYLES[rng.integers(len(STYLES))]
        onsets = _played(rng, key, style)
        roll = np.minimum(onsets, 1)
        share = int.from_bytes(hashlib.sha256(roll.tobytes()).digest()[:4], "big") / 2**32
        drawn = "train" if share >= _HELD_OUT else "dev" if share < _HELD_OUT / 2 else "test"
        if drawn == split:
            return {"roll": roll, "onsets": onsets, "key": KEYS[key], "style": style}


def _played(rng, key, style):
    mode, tonic = divmod(key, len(TONICS))
    degrees = np.arange(28)
    pitches = np.array(MODES[mode])[degrees % 7] + 12 * (degrees // 7) + tonic  # above a C
    roll = np.zeros((_BARS * _STEPS, 88), np.uint8)
    inner = [_CHORDS[rng.integers(len(_CHORDS))] for _ in range(_BARS - 2)]
    for bar, root in enumerate([0, *inner, 0]):
        steps = bar * _STEPS + np.arange(_STEPS)
        chord = _CHORD + pitches[[root, root + 2, root + 4]]
        roll[np.ix_(steps, chord)] = 1
        roll[steps[0], chord] = 2
        way = np.arange(_STEPS) if rng.random() < 0.5 else np.arange(_STEPS)[::-1]
        if style == "arpeggio":
            way = np.array([0, 2, 4, 7])[np.minimum(way, 6 - way) % 4]
        roll[steps, _MELODY + pitches[root + way]] = 2
    return roll
