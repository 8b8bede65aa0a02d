"""MIDI files and piano rolls, by mido, which `pip install 'kseq[music]'` brings."""

import importlib
import io

import numpy as np

from kseq.errors import UserError

LOWEST, PIANO = 21, 88  # the number that MIDI has for the lowest key of a piano, and how many there are
MOST_STEPS = 100_000  # of a file: at eighth notes about seven hours
_DRUMS = 9  # the channel of the percussion
_VELOCITY = 80
_TICKS = 480  # of a beat, in files that are written


def require_mido():
    """The module mido.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("mido")
    except ModuleNotFoundError:
        raise UserError("MIDI files need mido, which is not installed: pip install 'kseq[music]'") from None


def roll_of_midi(content, where, steps_per_beat=2, *, onsets=False):
    """The piano roll of a MIDI file: uint8 `[steps, 88]`, 1 where a key is down.

    All tracks and instruments are one; percussion and notes that no piano has are left out. A note lasts for at least a
    step. Without `onsets`, a note that begins at the step at which one on the same key ends is not told from one that
    is held.

    Args:
        content: bytes of the file.
        where: what a message calls it.
        steps_per_beat: steps in a quarter note.
        onsets: whether the step at which a note begins has a 2.

    Raises:
        UserError: it is not a MIDI file, is too long, or has no notes.
    """
    notes = [note for note in _notes(content, where) if 0 <= note[0] < PIANO]
    spans = [(key, round(on * steps_per_beat), round(off * steps_per_beat)) for key, on, off in notes]
    if not spans:
        raise UserError(f"{where}: the MIDI file has no notes on the {PIANO} keys of a piano")
    steps = max(max(on + 1, off) for _, on, off in spans)
    if steps > MOST_STEPS:
        raise UserError(f"{where}: the MIDI file has {steps} steps, and at most {MOST_STEPS} are read")
    roll = np.zeros((steps, PIANO), np.uint8)
    for key, on, off in spans:
        roll[on : max(on + 1, off), key] = 1
    for key, on, _ in spans if onsets else ():
        roll[on, key] = 2
    return roll


def _notes(content, where):
    """Yields (key, beat at which it goes down, beat at which it goes up) of each note of a MIDI file."""
    mido = require_mido()
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
        beats, beat, down = file.ticks_per_beat, 0, {}
        for message in mido.merge_tracks(file.tracks):
            beat += message.time / beats
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            note = message.channel, message.note
            if note in down:
                yield message.note - LOWEST, down.pop(note), beat
            if message.type == "note_on" and message.velocity:
                down[note] = beat
    # mido raises these and no class of its own for what is damaged; a file of another kind often ends too early.
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{where} is not a MIDI file that can be read: {str(error) or 'it ends too early'}") from None


def notes_of_roll(roll):
    """The notes of a piano roll: list of (key, first step, step after the last), by their first step.

    Args:
        roll: `[steps, 88]`, 0 where a key is up, 1 where it is down, 2 where a note begins. A key that is down in
            several steps in a row is one note, up to the next 2.
    """
    down = np.pad(np.asarray(roll) > 0, [(1, 1), (0, 0)])
    begins = (down[1:-1] & ~down[:-2]) | (np.asarray(roll) == 2)
    ends = (down[:-1] & ~down[1:]) | np.pad(begins, [(0, 1), (0, 0)])  # before that step, one note or another
    notes = []
    for step, key in np.argwhere(begins):
        length = 1 + np.argmax(ends[step + 1 :, key])
        notes.append((int(key), int(step), int(step + length)))
    return notes


def midi_of_roll(roll, steps_per_beat=2, tempo=120.0):
    """A MIDI file of a piano roll, as bytes.

    Args:
        roll: `[steps, 88]`, as `notes_of_roll` reads it.
        steps_per_beat: steps in a quarter note.
        tempo: quarter notes a minute.
    """
    mido = require_mido()
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    changes = [(step, down, key) for key, on, off in notes_of_roll(roll) for step, down in ((on, True), (off, False))]
    last = 0
    for step, down, key in sorted(changes):  # where one note ends and the next begins, the end is first
        tick = round(step * _TICKS / steps_per_beat)
        kind, velocity = ("note_on", _VELOCITY) if down else ("note_off", 0)
        track.append(mido.Message(kind, note=key + LOWEST, velocity=velocity, time=tick - last))
        last = tick
    content = io.BytesIO()
    mido.MidiFile(type=0, tracks=[track], ticks_per_beat=_TICKS).save(file=content)
    return content.getvalue()
