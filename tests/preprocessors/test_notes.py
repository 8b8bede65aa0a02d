"""Music as text and as piano rolls."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.preprocessors import NOTES, NotePreprocessor

notes = NotePreprocessor()


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
    write, read = (tf.function(notes.text), tf.function(notes.roll)) if graph else (notes.text, notes.roll)
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
