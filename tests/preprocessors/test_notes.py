"""Music as text and as piano rolls."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.preprocessors import EVENTS, NOTES, RELEASE, STEP, STRIKE, NotePreprocessor, events_of_roll, roll_of_events

notes = NotePreprocessor()
onsets = NotePreprocessor(onsets=True)
C4, E4, G4 = (NOTES.index(note) for note in ("C4", "E4", "G4"))


def test_the_keys_have_the_names_of_a_piano():
    """By hand: MIDI's 21, 60, 69 and 108."""
    assert len(NOTES) == 88 and [NOTES[n - 21] for n in (21, 60, 69, 108)] == ["A0", "C4", "A4", "C8"]
    assert NOTES[61 - 21] == "C#4" and NOTES[59 - 21] == "B3"


def test_text_becomes_a_roll():
    roll, lengths = notes.roll(["C4 E4 G4 | Bb3|-", "", " A0 A0 ", "C8 |  | F#2"])
    assert list(lengths) == [3, 0, 1, 3] and roll.shape == (4, 3, 88)
    found = [[[NOTES[k] for k in np.flatnonzero(step)] for step in one] for one in np.array(roll)]
    assert found[0] == [["C4", "E4", "G4"], ["A#3"], []] and found[2][0] == ["A0"] and not np.any(roll[1])
    assert found[3] == [["C8"], [], ["F#2"]] and set(np.unique(roll)) == {0, 1}


@pytest.mark.parametrize("graph", [False, True])
def test_a_roll_becomes_text_and_comes_back(graph):
    rng = np.random.default_rng(0)
    rolls, lengths = (rng.random((4, 6, 88)) < 0.03).astype("float32"), [6, 0, 3, 1]
    for roll, n in zip(rolls, lengths, strict=True):
        roll[n:] = 0
    write, read = (
        (tf.function(notes.text, autograph=False), tf.function(notes.roll, autograph=False))
        if graph
        else (notes.text, notes.roll)
    )
    texts = write(rolls, lengths)
    again, found = read(texts)
    np.testing.assert_array_equal(again, rolls)
    assert list(found) == lengths and texts[1] == b""
    assert [len(notes.tokens(text.decode())) for text in texts.numpy()] == lengths


def test_a_step_without_keys_is_a_rest():
    assert notes.text(np.zeros((1, 2, 88)), [2])[0] == b"- | -"


def test_what_is_no_note_is_told():
    assert notes.unknown("C4 H4 | - c4 | C9") == ["H4", "c4", "C9"] and not notes.unknown("")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)A note must be one of A0 to C8, or -; it is.*H4"):
        notes.roll(["C4", "H4"])


# --- notes that are held or struck again


def random_rolls(rng=None, steps=7):
    """`[4, steps, 88]` of 0, 1 and 2, in which every note has a beginning, and lengths; zeros after the end."""
    rng = rng or np.random.default_rng(0)
    rolls, lengths = np.zeros((4, steps, 88)), [steps, 0, 3, 1]
    for roll, n in zip(rolls, lengths, strict=True):
        for t in range(n):
            sounded = roll[t - 1] > 0 if t else np.zeros(88, bool)
            struck, held = rng.random(88) < 0.05, sounded & (rng.random(88) < 0.6)
            roll[t] = np.where(struck, 2, held)
    assert {0, 1, 2} == set(rolls.flat)
    return rolls, lengths


def test_a_note_that_goes_on_has_a_tilde():
    roll, lengths = onsets.roll(["C4 E4|~C4 E4 ~Bb3 | C4", "", "~C4 | -", "C4 | ~C4 | - | ~C4"])
    assert list(lengths) == [3, 0, 2, 4]
    assert roll[0, :, C4].numpy().tolist() == [2, 1, 2, 0] and roll[0, :, E4].numpy().tolist() == [2, 2, 0, 0]
    assert roll[0, 1, C4 - 2] == 2 and roll[2, 0, C4] == 2  # what did not sound before begins
    assert roll[3, :, C4].numpy().tolist() == [2, 1, 0, 2] and not np.any(roll[1])
    assert onsets.text(roll, lengths)[0] == b"C4 E4 | A#3 ~C4 E4 | C4"


@pytest.mark.parametrize("graph", [False, True])
def test_a_roll_with_onsets_becomes_text_and_comes_back(graph):
    rolls, lengths = random_rolls()
    write, read = (
        (tf.function(onsets.text, autograph=False), tf.function(onsets.roll, autograph=False))
        if graph
        else (onsets.text, onsets.roll)
    )
    again, found = read(write(rolls, lengths))
    np.testing.assert_array_equal(again, rolls)
    assert list(found) == lengths


@pytest.mark.parametrize("word", ["~", "~-", "~~C4", "C~4", "C4~", "~H4"])
def test_what_is_no_held_note_is_told(word):
    assert onsets.unknown(f"C4 {word}") == [word] and not onsets.unknown("C4 | ~C4 ~Bb3 -")
    assert notes.unknown("~C4") == ["~C4"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)A note must be one of A0 to C8, or -; it is"):
        onsets.roll(["C4", f"C4 {word}"])


# --- events


def performed(roll):
    """Oracle: the events of one roll, key by key."""
    down, events = set(), []
    for frame in roll:
        sounds = set(np.flatnonzero(frame))
        events += [RELEASE + key for key in sorted(down - sounds)]
        events += [STRIKE + key for key in sorted(sounds) if frame[key] == 2 or key not in down]
        events.append(STEP)
        down = sounds
    return events


def test_a_held_note_and_one_struck_again_have_other_events():
    """By hand."""
    roll = np.zeros((2, 4, 88), "float32")
    roll[0, :, C4], roll[0, :3, G4] = [2, 1, 1, 0], [2, 2, 0]
    roll[1, :, C4] = [2, 2, 0, 1]  # a 1 with nothing before it begins, too
    first, second = events_of_roll(roll, [4, 4]).to_list()
    c, g = STRIKE + C4, STRIKE + G4
    assert first == [c, g, STEP, g, STEP, RELEASE + G4, STEP, RELEASE + C4, STEP]
    assert second == [c, STEP, c, STEP, RELEASE + C4, STEP, c, STEP]
    assert (RELEASE, STRIKE, STEP, EVENTS) == (3, 91, 179, 180)


@pytest.mark.parametrize("graph", [False, True])
def test_a_roll_becomes_events_and_comes_back(graph):
    rolls, lengths = random_rolls()
    write, read = (tf.function(x, autograph=False) if graph else x for x in (events_of_roll, roll_of_events))
    ids = write(rolls, lengths)
    assert ids.to_list() == [performed(roll[:n]) for roll, n in zip(rolls, lengths, strict=True)]
    again, found = read(ids.to_tensor())
    np.testing.assert_array_equal(again, rolls)
    assert list(found) == lengths
    assert all(row == sorted(row) for steps in ids.to_list() for row in _steps(steps))


def _steps(ids):
    ends = [i for i, event in enumerate(ids) if event == STEP]
    return [ids[a:b] for a, b in zip([0, *(i + 1 for i in ends)], [i + 1 for i in ends], strict=False)]


def test_what_is_no_whole_step_is_passed_over():
    """By hand: start, end and padding are no events, and the last step has not ended."""
    roll, lengths = roll_of_events([[1, STRIKE + C4, STEP, RELEASE + E4, STEP, 2, 0], [STRIKE + C4, 2, 0, 0, 0, 0, 0]])
    assert list(lengths) == [2, 0] and roll.shape == (2, 2, 88) and roll[0, :, C4].numpy().tolist() == [2, 1]
    assert np.sum(roll) == 3
    roll, lengths = roll_of_events(np.zeros((0, 5), int))
    assert roll.shape == (0, 0, 88) and lengths.shape == (0,)


def test_a_held_note_is_unknown_where_onsets_are_not_told():
    texts = tf.constant(["C4 ~E4 | -", "C4 | X9 D4", ""])
    assert list(NotePreprocessor(onsets=True).first_unknown(texts).numpy()) == [b"", b"X9", b""]
    assert list(NotePreprocessor().first_unknown(texts).numpy()) == [b"~E4", b"X9", b""]
