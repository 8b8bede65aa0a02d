"""The program that writes the phones of recordings, from files to answers, at a size that trains in seconds."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kseq
import real
from kseq.config import ConfigError, load
from kseq.data import SetEpoch
from kseq.data.tones import tones, wav
from kseq.errors import UserError
from kseq.layers import LocationAttention
from kseq.tasks import program
from kseq.tasks.transcribe import NO_PHONE, Transcribe

ROOT = Path(__file__).parents[2]
TINY = (
    "data.train_count=48",
    "data.dev_count=8",
    "data.test_count=5",
    "data.mels=12",
    "data.buckets=2",
    "model.units=16",
    "model.attention_units=16",
    "model.embedding_size=8",
    "model.encoder.filters=8",
    "model.encoder.units=8",
    "training.epochs=1",
    "training.batch_size=16",
    "sampler.width=2",
)


def prepared(folder, changes, config=None):
    run = Transcribe(load(Transcribe.Config, config, [*TINY, *changes]), folder)
    run.prepare()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    program.train(Transcribe, folder, load(Transcribe.Config, overrides=TINY), resume=False, show=0)
    return folder


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "one.wav"
    path.write_bytes(next(tones("dev", 1))["audio"])
    return path


def table(folder, lines, columns="file\tphones"):
    """A table of generated recordings a.wav, b.wav and c.wav, as `data.source` and `data.fields`."""
    for name, example in zip("abc", tones("train", 3), strict=True):
        (folder / f"{name}.wav").write_bytes(example["audio"])
    (folder / "t.tsv").write_text("\n".join([columns, *lines]) + "\n")
    fields = "{ audio = 'file', text = 'phones' }"
    return [f"data.source=tsv:{folder}/t.tsv", f"data.fields={fields}", "data.train_count=0", "data.dev_count=0"]


# --- training and scores


@pytest.mark.slow
def test_batches_hold_the_frames_of_their_recordings(tmp_path):
    """Oracle: the preprocessor that serves, recording by recording."""
    run = prepared(tmp_path, ["data.train_count=5", "data.deltas=1", "training.batch_size=2"])
    recordings = {x.text: x for x in run.examples("train")}
    seen = 0
    for inputs, targets, _ in run.batches(SetEpoch()):
        assert inputs["source"].dtype == "float32"
        for frames, ids in zip(inputs["source"].numpy(), targets.numpy(), strict=True):
            [want] = run.source.read([recordings[" ".join(run.target.words(ids))].read()]).inputs.numpy()
            np.testing.assert_allclose(frames[: len(want)], want, atol=2e-3)
            assert not np.any(frames[len(want) :]) and frames.shape[1] == 24
            seen += 1
    assert seen == 5


def test_evaluation_counts_errors_and_draws_which_phone_was_taken_for_which(trained, capsys):
    program.evaluate(Transcribe, trained, [])
    for split, count in (("dev", 8), ("test", 5)):
        metrics = json.loads((trained / f"metrics-{split}.json").read_text())
        kinds = ("insertions", "deletions", "substitutions")
        assert metrics["phone_error_rate"] == pytest.approx(sum(metrics[kind] for kind in kinds))
        assert metrics["phone_accuracy"] == pytest.approx(1 - metrics["phone_error_rate"])
        rows = [json.loads(line) for line in (trained / f"predictions-{split}.jsonl").read_text().splitlines()]
        phones = sum(len(row["references"][0].split()) for row in rows)
        table = metrics["confusion"]
        heard = sum(sum(row.values()) for name, row in table.items() if name != NO_PHONE)
        assert len(rows) == count and heard == phones
        assert sum(table[NO_PHONE].values()) == round(metrics["insertions"] * phones)
        assert (trained / "predictions" / f"confusion-{split}.png").exists()
    assert "phone_accuracy" in capsys.readouterr().out


def test_what_training_scores_is_what_evaluation_scores(trained):
    value = json.loads((trained / "progress.json").read_text())["best"]["value"]
    assert kseq.load(trained).task.evaluate()[0]["phone_accuracy"] == pytest.approx(value)


def test_prediction_draws_where_each_phone_was_heard(trained, recording, capsys):
    program.predict(Transcribe, trained, [], [str(recording)])
    assert capsys.readouterr().out.startswith("one.wav: ")
    run = kseq.load(trained)
    [first, second] = run(str(recording), n=2, details=True)
    assert first["score"] >= second["score"] and first["text"] == run(recording.read_bytes())
    if first["tokens"]:
        with Image.open(trained / "predictions" / "one.png") as picture:
            assert picture.width > 300 and np.ptp(np.asarray(picture)) > 0
        grid = (trained / "predictions" / "one.TextGrid").read_text()
        assert run.files(str(recording), first) == {".TextGrid": grid.encode()}
        assert run.files(str(recording), first | {"alignment": None}) == {}
        assert re.findall('text = "(.*)"', grid) == first["tokens"]
        above, below = run.show(str(recording)).axes
        frames = run.task.source.audio.features([recording.read_bytes()]).shape[1]
        assert below.get_xlim() == above.get_xlim() == (0, pytest.approx(frames * 0.01))


def test_times_follow_the_rows_of_the_memory(trained, recording):
    """A row is four hops of 0.01 s; its middle is that of the window of 0.025 s of its first frame."""
    source, example = kseq.load(trained).task.source, {"audio": recording.read_bytes()}
    frames = source.audio.features([example["audio"]]).shape[1]
    alignment = np.eye(-(-frames // 4) + 3)[[2, 5, 8]]  # the rows beyond the recording are padding
    times = source.times(example, {"alignment": alignment})
    np.testing.assert_allclose(times.ravel()[1:-1], np.repeat([3.5 * 0.04 + 0.0125, 6.5 * 0.04 + 0.0125], 2))
    assert times[0, 0] == 0 and times[-1, 1] == pytest.approx(frames * 0.01)


@pytest.mark.slow
def test_the_saved_model_answers_in_a_process_without_kseq_and_keras(trained, recording, tmp_path, capsys):
    program.export(Transcribe, trained, [])
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out
    run, served = kseq.load(trained), kseq.load(trained / "export")
    others = [recording]
    for rate in (8000, 96_000):  # of other rates, and of other lengths in one request
        others.append(tmp_path / f"{rate}.wav")
        others[-1].write_bytes(wav(np.sin(np.arange(rate) / 7), rate))
    assert served([str(path) for path in others]) == run([str(path) for path in others])
    with pytest.raises(UserError, match=r"^example 2: The first bytes are not those of a WAV file$"):
        served([str(recording), b"no recording"])
    assert (served.name, served.max_n, run.name, run.max_n) == ("transcribe", 2, "transcribe", 2)


# --- what is wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"Z IY R OW", "The first bytes are not those of a WAV file"),
        (wav(np.zeros(16_000)), "The recording is silent"),
        (wav(np.ones(1)), "The recording is too short: 1 samples at 16000 Hz, less than 0.025 s"),
        (wav(np.sin(np.arange(8000)))[:-9], "The file is cut off: its sound has 16000 bytes, and 15991 are there"),
        (wav(np.sin(np.arange(61_000)), 1000), "The recording is too long: 61 s, and at most 60 are read"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_recording_that_cannot_be_read_is_named(trained, tmp_path, content, message):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad.wav.*{message}") as error:
        program.predict(Transcribe, trained, [], [str(path)])
    assert "\n" not in str(error.value)
    if content is not None:
        with pytest.raises(UserError, match=rf"^example 1: {message}"):
            kseq.load(trained)(content)


def test_a_clipped_recording_is_answered(trained):
    clipped = wav(np.clip(9 * np.sin(np.arange(8000) / 9), -1, 1))
    assert isinstance(kseq.load(trained)(clipped), str)


def test_what_cannot_be_read_stops_the_run_or_is_left_out(tmp_path, capsys):
    lines = ["a.wav\tup so", "e.wav\tso", "b.wav\tso ti", "c.wav\tmi"]
    changes = [*table(tmp_path, lines), "data.holdout=0.3"]
    (tmp_path / "e.wav").write_bytes(b"no recording")
    with pytest.raises(UserError, match=r"t.tsv:3: recording e.wav cannot be read as WAV \(The first bytes are not"):
        prepared(tmp_path / "a", changes)
    run = prepared(tmp_path / "b", [*changes, "data.on_error=skip"])
    assert "recordings that cannot be read, left out: 1 of" in capsys.readouterr().out
    names = [x.id for split in ("train", "dev") for x in run.examples(split)]
    assert sorted(names) == ["a.wav", "b.wav", "c.wav", "e.wav"]
    for name in ("e.wav", "a.wav"):
        [recording] = [x for split in ("train", "dev") for x in run.examples(split) if x.id == name]
        assert run.is_readable(recording) == (name == "a.wav")


def test_nothing_that_can_be_read_is_an_error(tmp_path):
    changes = table(tmp_path, [f"{name}.wav\tup" for name in "abc"])
    for name in "ac":  # b is held out
        (tmp_path / f"{name}.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 2 recordings can be read; the first: .*t.tsv:2"):
        prepared(tmp_path / "a", [*changes, "data.holdout=0.5", "data.on_error=skip"])


def test_what_decides_the_frames_of_a_finished_run_cannot_change(trained):
    with pytest.raises(UserError, match=r"frames.json is not what the run was trained with"):
        kseq.load(trained, overrides=["data.sample_rate=8000"])
    assert kseq.load(trained, overrides=["data.max_seconds=0.5"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.encoder.strides=[2, 0]"], r"strides must be 1 or more each, they are \[2, 0\]"),
        (["sampler.min_length=200"], "sampler.min_length is 200, and no text has more than 101"),
        (["sampler.replace_unknown=true"], "replace_unknown copies words of a text, and a recording has none"),
        (["data.normalize=global"], "data.normalize"),
        (["data.deltas=3"], "data.deltas"),
    ],
)
def test_a_wrong_config_is_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Transcribe.Config, overrides=changes)


# --- configs


@pytest.mark.parametrize(("changes", "width"), [([], 15), (["model.attention_options={ kernel_size = 3 }"], 3)])
def test_the_width_of_the_location_filters_is_in_the_config(tmp_path, changes, width):
    attention = prepared(tmp_path, changes).model.decoder.attention
    assert type(attention) is LocationAttention and attention.kernel_size == width


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["model.attention=bahdanau"],
        pytest.param(["model.decoder=luong", "model.attention=luong_monotonic"], marks=pytest.mark.slow),
        pytest.param(
            ["model.decoder=fixed", "model.encoder.layers=2", "model.encoder.strides=[]"], marks=pytest.mark.slow
        ),
    ],
)
def test_one_line_of_the_config_changes_the_model(tmp_path, changes):
    run = prepared(tmp_path, changes)
    _, records = run.answered("dev")
    assert len(records) == 8 and np.all(np.isfinite([record["score"] for record in records]))
    for example, record in zip(run.dev[:2], records, strict=False):
        figure = run.figure(run.raw_of(example), record)
        assert (figure is not None) == (record["alignment"] is not None and bool(record["tokens"]))


@pytest.mark.parametrize("path", sorted((ROOT / "configs/transcribe").glob("*.toml")), ids=lambda path: path.stem)
def test_a_config_says_how_it_is_run(path):
    load(Transcribe.Config, path)
    assert f"--config=configs/transcribe/{path.name}\n" in path.read_text()


@real.needed
def test_the_digits_are_split_by_recording(tmp_path):
    changes = [f"data.source=tsv:{real.FOLDER}/fsdd/phonemes.tsv"]
    run = Transcribe(load(Transcribe.Config, ROOT / "configs/transcribe/fsdd.toml", changes), tmp_path)
    splits = {split: [x.id for x in run.examples(split)] for split in ("train", "dev", "test")}
    assert len(splits["test"]) == 300 and len(splits["train"]) + len(splits["dev"]) == 2700
    assert 220 < len(splits["dev"]) < 320 and len({x for part in splits.values() for x in part}) == 3000


# --- the table of the digits


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("prepare_transcribe", ROOT / "tasks/transcribe/prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@real.needed
def test_the_table_of_the_digits_is_made_of_their_names(prepare):
    lines = (real.FOLDER / "fsdd/phonemes.tsv").read_text().splitlines()
    assert lines[1:] == list(prepare.rows(path.name for path in (real.FOLDER / "fsdd/recordings").iterdir()))


def test_the_recordings_are_copied_beside_the_table(prepare, tmp_path, capsys):
    arguments = ["--recordings", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert prepare.main(arguments) == 1 and "there is no folder" in capsys.readouterr().err
    (tmp_path / "in").mkdir()
    assert prepare.main(arguments) == 1 and "has no file like 0_george_0.wav" in capsys.readouterr().err
    for name in ("7_theo_12.wav", "0_george_4.wav", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(next(tones("dev", 1))["audio"])
    assert prepare.main(arguments) == 0
    fields = {"audio": "file", "text": "phonemes", "split": "split"}
    for split, name, phones in (("test", "0_george_4", "Z IY R OW"), ("train", "7_theo_12", "S EH V AH N")):
        [found] = kseq.data.read_recordings(f"tsv:{tmp_path}/out/phonemes.tsv", split, fields=fields)
        assert (found.id, found.text) == (f"recordings/{name}.wav", phones) and found.read()
    assert prepare.main(arguments) == 1 and "is there; remove it" in capsys.readouterr().err
