"""Recordings from tables of files, and from TextGrids beside them."""

import shutil

import numpy as np
import pytest

from kseq.data import hold_out_listed, read_recordings, text_grid
from kseq.data.tones import tones
from kseq.errors import UserError

FIELDS = {"audio": "file", "text": "phones"}


def table(folder, *rows, columns="file\tphones\tsplit"):
    (folder / "wav").mkdir(exist_ok=True)
    for name, example in zip("abc", tones("train", 3), strict=True):
        (folder / "wav" / f"{name}.wav").write_bytes(example["audio"])
    (folder / "t.tsv").write_text("\n".join([columns, *rows]) + "\n")
    return f"tsv:{folder}/t.tsv"


def test_a_table_names_files_phones_and_splits(tmp_path):
    source = table(tmp_path, "wav/a.wav\tZ IY\ttrain", "wav/b.wav\tW AH N\tdev", "wav/c.wav\tT UW\ttrain")
    found = read_recordings(source, "train", fields=FIELDS | {"split": "split"})
    assert [(x.id, x.text) for x in found] == [("wav/a.wav", "Z IY"), ("wav/c.wav", "T UW")]
    assert found[1].read() == (tmp_path / "wav/c.wav").read_bytes() and found[1].where.endswith("t.tsv:4")
    assert len(read_recordings(source, "dev", fields=FIELDS, count=2)) == 2
    pattern = read_recordings(source, "x", fields={"audio": "{file}", "text": "phones"})
    assert [x.id for x in pattern] == ["wav/a.wav", "wav/b.wav", "wav/c.wav"]


def test_generated_recordings_are_there_by_name():
    found = read_recordings("toy:tones", "dev", fields={}, count=2, seed=3)
    assert [x.read() for x in found] == [x["audio"] for x in tones("dev", 2, seed=3)]
    with pytest.raises(UserError, match="toy:tones: split must be one of"):
        read_recordings("toy:tones", "val", fields={})


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (["wav/a.wav\t \ttrain"], FIELDS, "t.tsv:2: the text is empty"),
        (["wav/a.wav\tZ\tx", "wav/a.wav\tIY\tx"], FIELDS, "t.tsv:2: wav/a.wav stands in 2 lines of train; a recording"),
        (["../x.wav\tZ\tx"], FIELDS, "t.tsv:2: '../x.wav' leaves the data folder"),
        (["a\tb\tc"], {"audio": "path", "text": "phones"}, "t.tsv:2: there is no column 'path'; the first line names"),
        (["a\tb\tc"], {"audio": "{file", "text": "phones"}, "data.fields.audio '{file': .* a column is {name}"),
        (["a\tb\tc"], {"audio": "{file!r}", "text": "phones"}, "data.fields.audio .*: between braces only the name of"),
        (["a\tb\tc"], {"image": "file"}, "data.fields names audio, text and split, not 'image'"),
        (["a\tb\tc"], FIELDS | {"split": "split"}, "split 'train' has no recordings"),
    ],
)
def test_a_wrong_table_is_told(tmp_path, rows, fields, message):
    with pytest.raises(UserError, match=message):
        read_recordings(table(tmp_path, *rows), "train", fields=fields)


def test_a_file_that_is_not_there_and_a_source_that_is_none_are_told(tmp_path):
    [recording] = read_recordings(table(tmp_path, "wav/x.wav\tZ\tx"), "train", fields=FIELDS)
    with pytest.raises(UserError, match=r"t.tsv:2: recording .*x.wav cannot be read: No such file"):
        recording.read()
    with pytest.raises(
        UserError, match=r"data.source .csv:x. is not one of toy:tones, tsv:<file> or textgrid:<folder>"
    ):
        read_recordings("csv:x", "train", fields=FIELDS)


def test_recordings_are_held_out_by_their_names():
    found = read_recordings("toy:tones", "train", fields={}, count=60)
    rest, held = hold_out_listed(found, {"dev": 0.2, "test": 0.2}, seed=0, kind="recordings")
    assert sorted(x.id for part in (rest, *held.values()) for x in part) == [x.id for x in found]
    with pytest.raises(UserError, match="of 2 recordings leaves none for"):
        hold_out_listed(found[:2], {"dev": 0.01}, seed=0, kind="recordings")


# --- TextGrids


def grids(folder, **texts):
    """A folder with a recording for each name, and beside it a TextGrid with these labels."""
    for (name, labels), example in zip(texts.items(), tones("train", 5), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").write_bytes(example["audio"])
        times = np.arange(len(labels) + 1) / 10
        grid = text_grid(labels, np.stack([times[:-1], times[1:]], axis=1), tier="MAU")
        (folder / f"{name}.TextGrid").write_text(grid, encoding="utf-16")
    return f"textgrid:{folder}"


def test_textgrids_are_read_with_the_recordings_beside_them(tmp_path):
    labels = {"b/two.take": ["", "so", "sp"], "a": ["sil", "do mi", "", "ʃ", "sp"], "c": ["x"]}
    source = grids(tmp_path / "dev", **labels).replace("dev", "{split}")
    (tmp_path / "dev" / "a.wav").rename(tmp_path / "dev" / "a.FLAC")
    (tmp_path / "dev" / "without.wav").write_bytes(b"no TextGrid: not used")
    found = read_recordings(source, "dev", fields=FIELDS, tier="MAU", silences=("sil", "sp"))
    assert [(x.id, x.text) for x in found] == [("a.FLAC", "do mi ʃ"), ("b/two.take.wav", "so"), ("c.wav", "x")]
    assert found[1].read() == (tmp_path / "dev/b/two.take.wav").read_bytes()
    assert found[1].where == str(tmp_path / "dev/b/two.take.TextGrid")
    before = found[1].fingerprint
    (tmp_path / "dev/b/two.take.wav").write_bytes(b"other")
    again = read_recordings(source, "dev", fields=FIELDS, tier="MAU", count=2)
    assert [x.text for x in again] == ["sil do mi ʃ sp", "so sp"] and again[1].fingerprint != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "a.wav").unlink(),
            r"a.TextGrid: its folder must have one recording of the same name, .wav, .*; there is none",
        ),
        (
            lambda folder: (folder / "a.mp3").touch(),
            r"a.TextGrid: its folder must have one recording .*; there are a.mp3 and a.wav$",
        ),
        (lambda folder: grids(folder, a=["", "sil"]), r"a.TextGrid: the tier 'MAU' has no phones"),
        (lambda folder: (folder / "a.TextGrid").unlink(), r"textgrid:.*: split 'train' has no recordings"),
        (lambda folder: (folder / "a.TextGrid").write_text("x"), r"a.TextGrid is not a TextGrid that Praat"),
        (lambda folder: shutil.rmtree(folder), r"data: there is no such folder"),
    ],
)
def test_what_is_wrong_with_a_folder_of_textgrids_is_told(tmp_path, change, message):
    source = grids(tmp_path / "data", a=["so"])
    change(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        read_recordings(source, "train", fields=FIELDS, tier="MAU", silences=("sil",))
