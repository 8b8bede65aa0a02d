"""Tunes as piano rolls, from generated data, the .mat files of Boulanger-Lewandowski's rolls, or MIDI files."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kseq.data.midi import LOWEST, PIANO, roll_of_midi
from kseq.data.public import fetch_hint, of_split
from kseq.data.scales import COUNTS, KEYS, MODES, SPLITS, TONICS, scales
from kseq.errors import UnreadableFile, UserError

FORMS = "toy:scales, mat:<file> or midi:<folder>"

# How well each semitone above the tonic fits into a key, major and minor, as listeners rated it (Krumhansl and Kessler,
# 1982, https://doi.org/10.1037/0033-295X.89.4.334).
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)


@dataclass(frozen=True, eq=False)
class Tune:
    """A piano roll and what is known of it.

    Attributes:
        id: its name.
        number: its place in the split.
        roll: uint8 `[steps, 88]`, 1 where a key is down.
        onsets: uint8 `[steps, 88]`, the roll with a 2 where a note begins.
        key: one of `KEYS`.
        style: what kind of tune it is; empty where nobody says.
    """

    id: str
    number: int
    roll: np.ndarray
    onsets: np.ndarray
    key: str
    style: str

    @property
    def notes(self):
        """All notes as a str, the same for equal rolls."""
        return np.packbits(self.roll).tobytes().hex()


def read_tunes(source, split, *, count=0, steps_per_beat=2, seed=0):
    """The tunes of one split.

    The key is known for generated tunes, and otherwise estimated by `estimated_key`.

    Args:
        source: `toy:scales`; `mat:<file>`, MATLAB 5, with a cell array of rolls `[steps, 88]` named after each split,
            traindata, validdata and testdata, which do not tell a note held from one struck again, so that all
            are held; or `midi:<folder>`, in whose name `{split}` is replaced by the split:
            all .mid and .midi files in it and below it, a tune each, whose style is the name of the folder below it in
            which they are.
        split: name of the split.
        count: at most this many; 0 takes all.
        steps_per_beat: for midi, steps in a quarter note.
        seed: for toy.

    Returns:
        list of `Tune`.

    Raises:
        UserError: the source is unknown, or a file cannot be read or has no tunes.
    """
    kind, _, name = source.partition(":")
    if kind == "toy" and name == "scales":
        found = _toy(split, count, seed)
    elif kind == "mat" and name:
        found = _mat(Path(name.replace("{split}", split)), split)
    elif kind == "midi" and name:
        found = _midi(Path(name.replace("{split}", split)), steps_per_beat)
    else:
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    tunes = [
        Tune(f"{split}-{i:05d}", i, np.minimum(onsets, 1), onsets, key or estimated_key(onsets), style)
        for i, (onsets, key, style) in enumerate(itertools.islice(of_split(found, source, split), count or None))
    ]
    if not tunes:
        raise UserError(f"{source}: split {split!r} has no tunes")
    return tunes


def _toy(split, count, seed):
    if split not in SPLITS:
        raise UserError(f"toy:scales: there is no split {split!r}; it has {', '.join(SPLITS)}")
    return ((x["onsets"], x["key"], x["style"]) for x in scales(split, count or COUNTS[split], seed=seed))


def _mat(path, split):
    from scipy.io import loadmat

    try:
        with open(path, "rb") as file:
            arrays = loadmat(file)
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror or error}{fetch_hint(path)}") from None
    except Exception as error:  # SciPy raises many kinds, bare Exception and NotImplementedError among them
        raise UserError(f"{path} is not a MATLAB 5 file that can be read: {error}") from None
    name = f"{split}data"
    if name not in arrays:
        known = ", ".join(x.removesuffix("data") for x in arrays if x.endswith("data")) or "none"
        raise UserError(f"{path}: there is no split {split!r} (an array {name!r}); it has {known}")
    for i, roll in enumerate(np.ravel(arrays[name])):
        roll = np.asarray(roll)
        if roll.ndim != 2 or roll.shape[1] != PIANO or not len(roll) or not np.isin(roll, (0, 1)).all():
            raise UserError(f"{path}: {name}[{i}] must be [steps, {PIANO}] of zeros and ones, it is {roll.shape}")
        begins = np.diff(roll.astype(np.int8), axis=0, prepend=0) > 0
        yield (roll + begins).astype(np.uint8), "", ""


def _midi(folder, steps_per_beat):
    if not folder.is_dir():
        raise UnreadableFile(f"{folder}: there is no such folder{fetch_hint(folder)}")
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from None
        inside = path.parent.relative_to(folder).parts
        style = inside[0].replace(" ", "_") if inside else ""
        yield roll_of_midi(content, path, steps_per_beat, onsets=True), "", style


def pitch_classes(roll):
    """The steps for which each pitch class sounds, its keys added up: `[..., steps, 88]` → `[..., 12]`, C first."""
    classes = np.eye(len(TONICS))[(np.arange(PIANO) + LOWEST) % len(TONICS)]
    return np.sum(np.asarray(roll) > 0, axis=-2) @ classes


def estimated_key(roll):
    """The key of `KEYS` whose profile correlates best with the pitch classes (Krumhansl, 1990, chapter 4).

    C major where nothing sounds.
    """
    classes = pitch_classes(roll)
    if not classes.any():
        return KEYS[0]
    profiles = np.array([np.roll(profile, tonic) for profile in _PROFILES for tonic in range(len(TONICS))])
    profiles -= profiles.mean(axis=1, keepdims=True)
    fits = profiles @ (classes - classes.mean()) / np.linalg.norm(profiles, axis=1)
    return KEYS[int(np.argmax(fits))]


def share_in_key(rolls, keys):
    """The share of the sounding keys that belong to the scale of the key of their tune; minor is natural minor.

    Args:
        rolls: list of `[steps, 88]`.
        keys: one of `KEYS` for each.

    Returns:
        0…1; not a number where nothing sounds.
    """
    inside = total = 0
    for roll, key in zip(rolls, keys, strict=True):
        mode, tonic = divmod(KEYS.index(key), len(TONICS))
        classes = pitch_classes(roll)
        inside += classes[(np.array(MODES[mode]) + tonic) % len(TONICS)].sum()
        total += classes.sum()
    return float(inside / total) if total else float("nan")
