"""The program that writes the phones of recordings, from files to answers, at a size that trains in seconds."""

import importlib.util
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kseq
import real
from kseq.config import ConfigError, load
from kseq.data import SetEpoch, text_grid
from kseq.data.tones import tones, wav
from kseq.errors import MissingPackage, UserError
from kseq.layers import LocationAttention
from kseq.tasks import program
from kseq.tasks.transcribe import NO_PHONE, Transcribe

try:
    import soundfile
except ModuleNotFoundError:
    soundfile = None
needs_soundfile = pytest.mark.skipif(soundfile is None, reason="needs soundfile: pip install 'kseq[audio]'")

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
    program.evaluate(program.finished_run(Transcribe, trained))
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
    program.predict(program.finished_run(Transcribe, trained), [str(recording)])
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
    program.export(program.finished_run(Transcribe, trained))
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
        program.predict(program.finished_run(Transcribe, trained), [str(path)])
    assert "\n" not in str(error.value)
    if content is not None:
        with pytest.raises(UserError, match=rf"^example 1: {message}"):
            kseq.load(trained)(content)


def test_a_clipped_recording_is_answered(trained):
    clipped = wav(np.clip(9 * np.sin(np.arange(8000) / 9), -1, 1))
    assert isinstance(kseq.load(trained)(clipped), str)


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["data.frames=12"], "frames is for the files of a table, tsv:FILE, and source is toy:tones"),
        (
            ["data.source=tsv:x", "data.frames=12", "data.deltas=1"],
            "deltas are computed from recordings, and frames is",
        ),
        (
            ["data.source=tsv:x", "data.frames=12", "augment.speeds=[0.9]"],
            "change waveforms, and data.frames reads none",
        ),
        (["data.tier=MAU"], "tier and silences are for textgrid:FOLDER, and source is toy:tones; leave them out"),
        (["data.source=tsv:x", "data.silences=[]"], "tier and silences are for textgrid:FOLDER, and source is tsv:x"),
        (["data.source=textgrid:x", "data.fields={ audio = 'a', text = 'b' }"], "fields is for a table, tsv:FILE, and"),
        (["data.source=textgrid:x", "data.frames=12"], "frames is for the files of a table, tsv:FILE, and source is"),
        (["augment.speeds=[1.1, 0.1]"], r"speeds must be 0.5 to 2 each, they are \[1.1, 0.1\]"),
        (["augment.noise=[20, 10]"], r"noise must be two ratios of -20 to 100 dB .* it is \[20.0, 10.0\]"),
        (["augment.noise=[20]"], "noise must be two ratios"),
        (["sampler.ctc_weight=0.3"], "sampler.ctc_weight needs a model that was trained with model.ctc_weight above 0"),
    ],
)
def test_a_wrong_config_is_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Transcribe.Config, overrides=changes)


# --- compressed recordings, and TextGrids


def flac(content):
    """A WAV file of 16 bits as FLAC."""
    x, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, x, rate, format="FLAC")
    return file.getvalue()


def unprepared(folder, changes):
    return Transcribe(
        load(Transcribe.Config, overrides=[*TINY, f"data.cache={folder}/cache", *changes]), folder / "run"
    )


@pytest.mark.slow
@needs_soundfile
def test_flac_is_read_as_the_same_recording_in_wav(tmp_path):
    changes = table(tmp_path, ["a.flac\tup so", "a.wav\tup so", "b.wav\tti"])
    (tmp_path / "a.flac").write_bytes(flac((tmp_path / "a.wav").read_bytes()))
    run = unprepared(tmp_path, changes)
    frames, kept = run.source.frames(run.examples("train"), "frames")
    assert len(kept) == 3 and frames.lengths[0] == frames.lengths[1]
    np.testing.assert_array_equal(*frames.padded([0, 1], frames.lengths[0]))
    (tmp_path / "a.flac").write_bytes(flac((tmp_path / "a.wav").read_bytes())[:-9])
    with pytest.raises(
        UserError, match=r"t.tsv:2: recording a.flac cannot be read \(The file is damaged: .*; replace or"
    ):
        run.source.frames(run.examples("train"), "frames")
    run = unprepared(tmp_path, [*changes, "data.on_error=skip"])
    examples = run.examples("train")
    assert [x.id for x in run.source.frames(examples, "frames")[1]] == ["a.wav", "b.wav"]
    assert [run.is_readable(x) for x in examples] == [False, True, True]


def test_no_recording_is_left_out_because_a_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    lines = ["gone.wav\tup", "a.flac\tup", "b.wav\tti"]  # because of the first, they are read one by one
    run = unprepared(tmp_path, [*table(tmp_path, lines), "data.on_error=skip"])
    examples = run.examples("train")
    message = r"t.tsv:3: recording a.flac: The file is FLAC, which needs soundfile: pip"
    with pytest.raises(MissingPackage, match=message):
        run.source.frames(examples, "frames")
    with pytest.raises(MissingPackage, match=message):
        run.is_readable(examples[1])
    with pytest.raises(UserError, match=r"^one.flac: The file is FLAC, which needs soundfile"):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "one.flac").write_bytes(b"fLaC")
        list(program.asked(run, ["one.flac"]))


@pytest.mark.slow
@needs_soundfile
def test_what_is_asked_is_opened_within_the_limits_of_serving(recording):
    content = recording.read_bytes()
    recording.with_suffix(".flac").write_bytes(flac(content))
    run = unprepared(recording.parent, [])
    [(name, example)] = program.asked(run, [str(recording.with_suffix(".flac"))])
    assert (
        name == "one.flac"
        and example["audio"].startswith(b"RIFF")
        and run.opened({"audio": content})["audio"] is content
    )
    np.testing.assert_array_equal(*(run.source.audio.features([x]) for x in (content, example["audio"])))
    for key, message in (
        ("max_seconds=0.1", "The recording is too long: . s, and at most 0.1"),
        ("max_bytes=999", "once"),
    ):
        run = unprepared(recording.parent, [f"serving.{key}"])
        with pytest.raises(UserError, match=rf"one.flac: .*{message}"):
            list(program.asked(run, [str(recording.with_suffix(".flac"))]))


@needs_soundfile
def test_a_run_answers_flac_and_its_export_says_that_it_does_not(trained, recording, tmp_path):
    path = tmp_path / "two.flac"
    path.write_bytes(flac(recording.read_bytes()))
    run = kseq.load(trained)
    assert run(str(path)) == run(path.read_bytes()) == run(str(recording))
    [record] = run([path], details=True)
    assert run.files(path, record) == run.files(recording, record) and (run.show(path) is None) == (
        not record["tokens"]
    )
    with pytest.raises(UserError, match=r"^example 2: The file is damaged"):
        run([path, path.read_bytes()[:-9]])
    run.export(tmp_path / "export")
    with pytest.raises(UserError, match=r"^example 1: The file is FLAC, and only WAV is read here; convert"):
        kseq.load(tmp_path / "export")(path)


def test_textgrids_give_the_phones_of_the_recordings_beside_them(tmp_path):
    for name, example in zip("abcd", tones("train", 4), strict=True):
        phones, times = example["text"].split(), example["ends"]
        edges = np.concatenate([[0], times.ravel(), [times[-1, 1] + 0.1]])
        labels = [x for phone in phones for x in ("sil", phone)] + [""]
        grid = text_grid(labels, np.stack([edges[:-1], edges[1:]], axis=1), tier="MAU")
        (tmp_path / f"{name}.wav").write_bytes(example["audio"])
        (tmp_path / f"{name}.TextGrid").write_text(grid)
    changes = [f"data.source=textgrid:{tmp_path}", "data.tier=MAU", "data.holdout=0.4"]
    run = unprepared(tmp_path, changes)
    found = {x.id: x.text for split in ("train", "dev") for x in run.examples(split)}
    assert found == {f"{name}.wav": x["text"] for name, x in zip("abcd", tones("train", 4), strict=True)}
    with pytest.raises(UserError, match=r"gives the same examples for data.train and data.dev. Put {split}"):
        unprepared(tmp_path, changes[:2]).prepare()


# --- changed recordings, CTC, and frames computed elsewhere


@pytest.mark.slow
def test_further_copies_are_of_training_alone(tmp_path):
    """Oracle: the lengths of the frames, and the frames that serving makes."""
    changes = ["data.train_count=4", "augment.speeds=[0.5, 2.0]", "augment.noise=[10, 20]"]
    plain, run = prepared(tmp_path / "a", changes[:1]), prepared(tmp_path / "b", changes)
    one, four = plain.columns["source"], run.columns["source"]
    assert len(one) == 4 and len(four) == len(run.columns["tokens"]) == 16
    np.testing.assert_array_equal(four.padded(range(4), 900), one.padded(range(4), 900))
    np.testing.assert_allclose(four.lengths.reshape(4, 4), np.outer([1, 2, 0.5, 1], one.lengths), atol=1)
    np.testing.assert_array_equal(run.columns["tokens"].lengths, np.tile(plain.columns["tokens"].lengths, 4))
    assert np.any(four.padded(range(12, 16), 900) != one.padded(range(4), 900))
    assert (tmp_path / "a" / "frames.json").read_text() == (tmp_path / "b" / "frames.json").read_text()
    again = prepared(tmp_path / "c", [*changes, f"data.cache={tmp_path}/other"]).columns["source"]
    np.testing.assert_array_equal(again.padded(range(16), 900), four.padded(range(16), 900))


def test_frames_are_warped_and_then_masked(tmp_path):
    """Each layer has the keys of the config that are its own; without any, the frames are left as they are."""

    def layer(*changes):
        return Transcribe(load(Transcribe.Config, overrides=[*TINY, *changes]), tmp_path).source.augmentation()

    warped, masked = "augment.frequency_warp=0.1", "augment.time_masks=2"
    both = layer(warped, masked, "augment.time_warp=0.05", "data.deltas=1")
    warp, mask = both.layers
    assert type(warp) is kseq.layers.WarpFrames and type(mask) is kseq.layers.SpecAugment
    assert (warp.frequency, warp.time, warp.bands) == (0.1, 0.05, 12)
    assert (mask.time_masks, mask.frequency_masks, mask.bands) == (2, 0, 12)
    assert type(layer(warped)) is kseq.layers.WarpFrames and type(layer(masked)) is kseq.layers.SpecAugment
    assert layer() is None


@pytest.mark.slow
def test_masks_and_ctc_are_in_the_model(tmp_path):
    changes = ["augment.time_masks=2", "augment.frequency_width=3", "model.ctc_weight=0.3", "sampler.ctc_weight=0.5"]
    run = prepared(tmp_path, [*changes, "data.train_count=5"])
    assert run.model.encoder.augment.get_config()["time_masks"] == 2 and run.model.encoder.augment.bands == 12
    assert run.loss().weight == 0.7 and run.model.ctc_weight == 0.3
    assert type(run.decoded(run.model)) is kseq.models.JointCTC
    plain = prepared(tmp_path / "plain", ["data.train_count=5"])
    assert plain.model.encoder.augment is None and plain.decoded(plain.model) is plain.model


@pytest.mark.slow
def test_recordings_too_short_for_ctc_are_counted(tmp_path, capsys):
    """A recording of 0.1 s has ten frames, and three rows; three phones fit, and not if two are the same."""
    for name, phones in (("a", "so ti mi"), ("b", "so so mi"), ("c", "mi"), ("d", "so ti mi so"), ("e", "ti")):
        (tmp_path / f"{name}.wav").write_bytes(wav(np.sin(np.arange(1600) / (5 + ord(name)))))
        with (tmp_path / "t.tsv").open("a") as file:
            file.write(("" if file.tell() else "file\tphones\tsplit\n") + f"{name}.wav\t{phones}\t")
            file.write("dev\n" if name == "e" else "train\n")
    fields = "{ audio = 'file', text = 'phones', split = 'split' }"
    changes = [f"data.source=tsv:{tmp_path}/t.tsv", f"data.fields={fields}", "data.test_count=0"]
    prepared(tmp_path / "a", changes)
    assert "CTC" not in capsys.readouterr().out
    prepared(tmp_path / "b", [*changes, "model.ctc_weight=0.3", "model.encoder.strides=[2, 2]"])
    assert "too few frames for their phones, left out of CTC: 2 of 4" in capsys.readouterr().out


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A table of the frames of generated recordings, as overrides."""
    folder = tmp_path_factory.mktemp("frames")
    audio, lines = kseq.preprocessors.AudioPreprocessor(mels=12, normalize="none"), ["file\tphones\tsplit"]
    features = tf.function(audio.features, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    for split, count in (("train", 24), ("dev", 4)):
        for example in tones(split, count):
            [found] = features(tf.constant([example["audio"]])).numpy()
            np.save(folder / f"{example['id']}.npy", found.astype("float16"))
            lines.append(f"{example['id']}.npy\t{example['text']}\t{split}")
    (folder / "t.tsv").write_text("\n".join(lines) + "\n")
    fields = "{ audio = 'file', text = 'phones', split = 'split' }"
    return [f"data.source=tsv:{folder}/t.tsv", f"data.fields={fields}", "data.frames=12", "data.test_count=0"]


@pytest.mark.slow
def test_frames_computed_elsewhere_are_those_of_the_recordings(frames, tmp_path):
    """Oracle: the same recordings as WAV, up to the rounding of float16."""
    run, plain = prepared(tmp_path / "a", frames), prepared(tmp_path / "b", ["data.train_count=24"])
    assert len(run.columns["source"]) == 24
    wanted = plain.columns["source"].padded(range(24), 900)
    np.testing.assert_allclose(run.columns["source"].padded(range(24), 900), wanted, atol=3e-2)
    [(_, example), *_] = run.some_of_dev()
    assert run.figure(example, {"tokens": ["x"], "text": "x", "alignment": np.ones((1, 99))})


@pytest.mark.slow
def test_a_recogniser_of_frames_with_ctc_is_trained_asked_and_served(frames, tmp_path, capsys):
    changes = ["model.ctc_weight=0.5", "sampler.ctc_weight=0.3", "augment.time_masks=1", "augment.frequency_masks=1"]
    folder, overrides = tmp_path / "run", [*TINY, *frames, *changes]
    program.train(Transcribe, folder, load(Transcribe.Config, overrides=overrides), resume=False, show=0)
    program.evaluate(program.finished_run(Transcribe, folder))
    program.export(program.finished_run(Transcribe, folder))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out
    files = sorted(str(path) for path in Path(frames[0].partition("tsv:")[2]).parent.glob("dev*.npy"))
    assert len(files) == 4 and kseq.load(folder / "export")(files) == kseq.load(folder)(files)


# --- configs


@pytest.mark.slow
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


@pytest.mark.slow
@real.needed
def test_the_digits_are_split_by_recording(tmp_path):
    changes = [f"data.source=tsv:{real.FOLDER}/fsdd/phonemes.tsv"]
    run = Transcribe(load(Transcribe.Config, ROOT / "configs/transcribe/fsdd.toml", changes), tmp_path)
    splits = {split: [x.id for x in run.examples(split)] for split in ("train", "dev", "test")}
    assert len(splits["test"]) == 300 and len(splits["train"]) + len(splits["dev"]) == 2700
    assert 220 < len(splits["dev"]) < 320 and len({x for part in splits.values() for x in part}) == 3000


# --- the table of the digits


def script(name):
    """A script beside the card, as a module."""
    spec = importlib.util.spec_from_file_location(f"transcribe_{name}", ROOT / f"tasks/transcribe/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepare():
    return script("prepare")


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


# --- the frames of speechocean762


def stored(folder, names):
    """Writes the two files of speechocean762, with recordings of these names, each of another speaker."""
    folder.mkdir()
    lengths = np.arange(1, len(names) + 1)
    frames = np.random.default_rng(0).integers(0, 256, (lengths.sum(), 3), np.uint8)
    values = {"lengths": lengths, "ids": np.array(names), "lo": np.float64(-16), "hi": np.float64(8)}
    np.savez(folder / "train_logmel40.npz", frames=frames, **values)
    rows = [f"{name}\t{k:04d}\tHH AY" for k, name in enumerate(names)]
    (folder / "train.tsv").write_text("\n".join(["utt\tspeaker\tphones", *rows]) + "\n")
    return np.split(-16 + frames / 255 * 24, np.cumsum(lengths)[:-1])


def test_frames_are_written_file_by_file_and_split_by_speaker(tmp_path, capsys):
    prepare, names = script("prepare_speechocean"), [f"{k:05d}" for k in range(25)]
    arguments = ["--features", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert prepare.main(arguments) == 1 and "in cannot be read" in capsys.readouterr().err
    frames = stored(tmp_path / "in", names)
    assert prepare.main(arguments) == 0 and "25 recordings in" in capsys.readouterr().out
    fields, splits = {"audio": "file", "text": "phones", "split": "split"}, {}
    for split in ("train", "dev", "test"):
        splits[split] = kseq.data.read_recordings(f"tsv:{tmp_path}/out/table.tsv", split, fields=fields)
    assert {split: len(found) for split, found in splits.items()} == {"train": 5, "dev": 10, "test": 10}
    found = [*splits["train"], *splits["dev"]]
    for recording, got in zip(
        found, kseq.preprocessors.FramePreprocessor(3, normalize="none").encode(found), strict=True
    ):
        want = frames[names.index(Path(recording.id).stem)]
        np.testing.assert_allclose(got[: len(want)], want, atol=5e-3)
        assert not np.any(got[len(want) :])
    assert prepare.main(arguments) == 1 and "is there; remove it" in capsys.readouterr().err


def test_a_recording_without_frames_is_named_and_so_are_too_few_speakers(tmp_path, capsys):
    prepare, names = script("prepare_speechocean"), [f"{k:05d}" for k in range(25)]
    arguments = ["--features", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    stored(tmp_path / "in", names)
    table = tmp_path / "in" / "train.tsv"
    table.write_text(table.read_text().replace("00003\t", "x3\t"))
    assert prepare.main(arguments) == 1 and "has the recording x3" in capsys.readouterr().err
    table.write_text("utt\tspeaker\tphones\n00003\t1\tHH\n")
    assert prepare.main(arguments) == 1
    assert "10 speakers each are dev and test, and there are 1 in all" in capsys.readouterr().err
