"""Tunes as piano rolls: generated, from .mat files and from MIDI files."""

import dataclasses

import numpy as np
import pytest

import real
from kseq.data.listed import hold_out_listed
from kseq.data.midi import midi_of_roll, notes_of_roll, roll_of_midi
from kseq.data.scales import FLAT_KEYS, KEYS, STYLES, scales
from kseq.data.sources import require_splits
from kseq.data.tunes import estimated_key, pitch_classes, read_tunes, share_in_key
from kseq.errors import UserError

mido = pytest.importorskip("mido", reason="mido, of the extra music, is not installed")
savemat = pytest.importorskip("scipy.io").savemat


def roll_of(*steps):
    """uint8 `[steps, 88]` of the numbers that MIDI has for the keys of each step."""
    roll = np.zeros((len(steps), 88), np.uint8)
    for step, notes in zip(roll, steps, strict=True):
        step[np.array(notes, int) - 21] = 1
    return roll


C_MAJOR = roll_of([60, 64, 67], [60, 64, 67], [62], [], [64], [65], [67], [72])


# --- generated


def test_generated_tunes_are_in_their_key_and_in_one_split():
    found = {split: list(scales(split, 60)) for split in ("train", "dev", "test")}
    for tunes in found.values():
        assert share_in_key([x["roll"] for x in tunes], [x["key"] for x in tunes]) == 1
        assert {x["roll"].shape for x in tunes} == {(32, 88)} and {x["style"] for x in tunes} == set(STYLES)
        assert all(x["roll"].sum(axis=1).min() >= 3 for x in tunes)
    keys = [{x["roll"].tobytes() for x in tunes} for tunes in found.values()]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    again = list(scales("train", 3))
    assert all(np.array_equal(a["roll"], b["roll"]) for a, b in zip(again, found["train"], strict=False))
    assert len({x["key"] for x in found["train"]}) > 15


def test_a_scale_goes_by_steps_and_an_arpeggio_by_the_tones_of_its_chord():
    """By hand: a scale moves by one or two semitones; an arpeggio never does within a bar."""
    for tune in scales("train", 30):
        for bar in np.split(tune["roll"], 4):
            melody = np.array([np.flatnonzero(step).max() for step in bar])
            moves = np.abs(np.diff(melody))
            assert set(moves) <= {1, 2} if tune["style"] == "scale" else min(moves[moves > 0]) >= 3


# --- keys


def test_pitch_classes_are_counted_from_c():
    assert pitch_classes(C_MAJOR).tolist() == [3, 0, 1, 0, 3, 1, 0, 3, 0, 0, 0, 0]
    assert len(KEYS) == len(FLAT_KEYS) == 24 and KEYS[10] == "A#" and FLAT_KEYS[10] == "Bb" and KEYS[21] == "Am"


@pytest.mark.parametrize("by", range(12))
def test_the_estimated_key_moves_with_the_tune(by):
    assert estimated_key(np.roll(C_MAJOR, by, axis=1)) == KEYS[by]
    minor = roll_of([57, 60, 64], [57], [59], [60], [62], [64], [57, 60, 64], [57])
    assert estimated_key(np.roll(minor, by, axis=1)) == KEYS[12 + (9 + by) % 12]


def test_the_key_of_silence_is_c_and_its_share_is_undefined():
    assert estimated_key(np.zeros((3, 88))) == "C"
    assert np.isnan(share_in_key([np.zeros((3, 88))], ["C"]))
    assert share_in_key([C_MAJOR, C_MAJOR], ["C", "F"]) == 1
    assert share_in_key([C_MAJOR], ["D"]) == pytest.approx(7 / 11)  # without C, three times, and F


# --- MIDI


@pytest.mark.parametrize("steps_per_beat", [1, 2, 3, 24])
def test_a_roll_goes_into_a_midi_file_and_comes_back(steps_per_beat):
    rng = np.random.default_rng(0)
    roll = (rng.random((40, 88)) < 0.1).astype(np.uint8)
    roll[-1, [0, 87]] = 1
    content = midi_of_roll(roll, steps_per_beat, tempo=90)
    np.testing.assert_array_equal(roll_of_midi(content, "x.mid", steps_per_beat), roll)


def test_the_file_holds_what_a_player_reads(tmp_path):
    """By hand: at two steps a beat and 120 beats a minute, eight steps are two seconds."""
    (tmp_path / "a.mid").write_bytes(midi_of_roll(C_MAJOR, 2, tempo=120))
    file = mido.MidiFile(tmp_path / "a.mid")
    assert file.length == pytest.approx(2)
    down = [m.note for m in file.tracks[0] if m.type == "note_on"]
    assert down == [60, 64, 67, 62, 64, 65, 67, 72]


def test_the_notes_of_a_roll_are_held_until_they_end_or_are_struck_again():
    """By hand."""
    roll = np.zeros((6, 88), np.uint8)
    roll[:, 40] = [2, 1, 2, 1, 0, 2]
    roll[:, 41] = [0, 1, 1, 2, 0, 0]
    assert notes_of_roll(roll) == [(40, 0, 2), (41, 1, 3), (40, 2, 4), (41, 3, 4), (40, 5, 6)]
    assert notes_of_roll(np.minimum(roll, 1)) == [(40, 0, 4), (41, 1, 4), (40, 5, 6)]
    again = roll_of_midi(midi_of_roll(roll), "x.mid", onsets=True)
    np.testing.assert_array_equal(again, np.where((np.arange(88) == 41) & (np.arange(6) == 1)[:, None], 2, roll))
    np.testing.assert_array_equal(roll_of_midi(midi_of_roll(roll), "x.mid"), np.minimum(roll, 1))


def test_generated_tunes_strike_each_chord_once_a_bar_and_the_run_at_every_step():
    for tune in read_tunes("toy:scales", "train", count=20):
        np.testing.assert_array_equal(tune.onsets > 0, tune.roll)
        struck = np.sum(tune.onsets == 2, axis=1)
        assert struck.tolist() == [4, 1, 1, 1, 1, 1, 1, 1] * 4


def test_percussion_and_keys_beside_the_piano_are_left_out(tmp_path):
    track = mido.MidiTrack()
    for note, channel in ((60, 0), (40, 9), (5, 0), (120, 0)):
        track.append(mido.Message("note_on", note=note, channel=channel, velocity=64, time=0))
        track.append(mido.Message("note_off", note=note, channel=channel, time=480))
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(tmp_path / "a.mid")
    roll = roll_of_midi((tmp_path / "a.mid").read_bytes(), "a.mid")
    np.testing.assert_array_equal(roll, roll_of([60], [60]))


def empty_midi(tmp_path):
    mido.MidiFile(tracks=[mido.MidiTrack([mido.MetaMessage("set_tempo")])]).save(tmp_path / "empty.mid")
    return (tmp_path / "empty.mid").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.mid is not a MIDI file that can be read: it ends too early"),
        (b"hello, I am a text", "x.mid is not a MIDI file that can be read: "),
        (midi_of_roll(C_MAJOR)[:40], "x.mid is not a MIDI file that can be read: it ends too early"),
        (None, "x.mid: the MIDI file has no notes on the 88 keys of a piano"),
    ],
)
def test_what_is_no_midi_file_with_notes_is_told_in_a_sentence(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        roll_of_midi(empty_midi(tmp_path) if content is None else content, "x.mid")
    assert "\n" not in str(error.value)


def test_a_file_that_lasts_for_days_is_refused():
    track = mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", note=60, time=480 * 60_000)])
    import io

    content = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=content)
    with pytest.raises(UserError, match=r"x.mid: the MIDI file has 120000 steps, and at most 100000 are read"):
        roll_of_midi(content.getvalue(), "x.mid")


# --- sources


def cells(*rolls):
    """A cell array, as MATLAB writes it."""
    array = np.empty((1, len(rolls)), object)
    array[0, :] = [*rolls]
    return array


def test_a_mat_file_has_all_splits(tmp_path):
    savemat(tmp_path / "a.mat", {"traindata": cells(C_MAJOR, C_MAJOR[:3]), "validdata": cells(C_MAJOR[1:])})
    source = f"mat:{tmp_path}/a.mat"
    tunes = read_tunes(source, "train")
    assert [tune.id for tune in tunes] == ["train-00000", "train-00001"] and tunes[0].key == "C"
    np.testing.assert_array_equal(tunes[1].roll, C_MAJOR[:3])
    np.testing.assert_array_equal(tunes[1].onsets[:, [39, 41, 43, 46]], [[2, 0, 2, 2], [1, 0, 1, 1], [0, 2, 0, 0]])
    assert len(read_tunes(source, "train", count=1)) == 1 and len(read_tunes(source, "valid")[0].roll) == 7
    require_splits(source, {}, {"data.train": "train", "data.dev": "valid"})
    with pytest.raises(UserError, match=r"there is no split 'test' \(an array 'testdata'\); it has train, valid"):
        read_tunes(source, "test")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (cells(C_MAJOR[:, :5], C_MAJOR), r"traindata\[0\] must be \[steps, 88\] of zeros and ones, it is \(8, 5\)"),
        (cells(C_MAJOR, 3 * C_MAJOR), r"traindata\[1\] must be \[steps, 88\] of zeros and ones, it is \(8, 88\)"),
    ],
)
def test_a_mat_file_of_something_else_is_told(tmp_path, array, message):
    savemat(tmp_path / "a.mat", {"traindata": array})
    with pytest.raises(UserError, match=message):
        read_tunes(f"mat:{tmp_path}/a.mat", "train")


def test_files_that_are_not_there_or_no_mat_are_told(tmp_path):
    (tmp_path / "a.mat").write_text("hello")
    with pytest.raises(UserError, match=r"a.mat is not a MATLAB 5 file that can be read: "):
        read_tunes(f"mat:{tmp_path}/a.mat", "train")
    with pytest.raises(UserError, match=r"b.mat cannot be read: No such file or directory"):
        read_tunes(f"mat:{tmp_path}/b.mat", "train")
    with pytest.raises(
        UserError, match=r"Nottingham.mat cannot be read: .*; get it with python -m kseq.data.fetch nott"
    ):
        read_tunes("mat:data/nottingham/Nottingham.mat", "train")
    with pytest.raises(UserError, match=r"data.source 'csv:a' is not one of toy:scales, mat:<file> or midi:<folder>"):
        read_tunes("csv:a", "train")
    with pytest.raises(UserError, match=r"toy:scales: there is no split 'x'; it has train, dev, test"):
        read_tunes("toy:scales", "x")


def test_a_folder_of_midi_files_has_a_style_for_each_folder_in_it(tmp_path):
    for name in ("train/jigs/a.mid", "train/slow reels/b.MIDI", "train/c.mid"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(midi_of_roll(C_MAJOR))
    (tmp_path / "train/notes.txt").write_text("no tune")
    source = f"midi:{tmp_path}/{{split}}"
    assert [tune.style for tune in read_tunes(source, "train")] == ["", "jigs", "slow_reels"]
    with pytest.raises(UserError, match=r"dev: there is no such folder"):
        read_tunes(source, "dev")
    (tmp_path / "dev").mkdir()
    with pytest.raises(UserError, match=r"split 'dev' has no tunes"):
        read_tunes(source, "dev")
    (tmp_path / "dev/x.mid").write_bytes(b"no")
    with pytest.raises(UserError, match=r"x.mid is not a MIDI file"):
        read_tunes(source, "dev")


def test_equal_tunes_are_held_out_together():
    tunes = read_tunes("toy:scales", "train", count=40)
    copies = [dataclasses.replace(tune, id=f"copy of {tune.id}") for tune in tunes]
    rest, parts = hold_out_listed([*tunes, *copies], {"dev": 0.3, "test": 0.2}, 0, "tunes", by=lambda tune: tune.notes)
    splits = [[tune.roll.tobytes() for tune in part] for part in (rest, parts["dev"], parts["test"])]
    assert sum(map(len, splits)) == 80 and all(splits)
    assert not set(splits[0]) & set(splits[1]) and not set(splits[1]) & set(splits[2])
    with pytest.raises(UserError, match=r"holding out {'dev': 0.5} of 1 tunes leaves none for "):
        hold_out_listed(tunes[:1], {"dev": 0.5}, 0, "tunes", by=lambda tune: tune.notes)


@real.needed
def test_nottingham_is_as_published():
    source = f"mat:{real.FOLDER}/nottingham/Nottingham.mat"
    sizes = {split: len(read_tunes(source, split)) for split in ("train", "valid", "test")}
    assert sizes == {"train": 694, "valid": 173, "test": 170}
