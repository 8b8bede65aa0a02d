"""The program that writes music, from tunes to MIDI files, at a size that trains in seconds."""

import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import wavfile

import kseq
from kseq.config import ConfigError, load
from kseq.data import SetEpoch, midi_of_roll, roll_of_midi
from kseq.data.scales import FLAT_KEYS, KEYS
from kseq.errors import UserError
from kseq.tasks import program
from kseq.tasks.compose import Compose, Requests

pytest.importorskip("mido", reason="mido, of the extra music, is not installed")

TINY = (
    "data.train_count=48",
    "data.dev_count=6",
    "data.test_count=4",
    "data.buckets=1",
    "data.segment=20",
    "model.units=8",
    "training.epochs=1",
    "training.batch_size=16",
    "sampler.length=10",
)


EVENTS = ('model.representation="events"', "model.embedding_size=8")


def task_of(workdir, changes=()):
    return Compose(load(Compose.Config, overrides=[*TINY, *changes]), workdir)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    program.train(Compose, workdir, load(Compose.Config, overrides=TINY), resume=False, show=0)
    return workdir


@pytest.fixture(scope="module")
def run(trained):
    return kseq.load(trained)


@pytest.fixture(scope="module")
def performer(tmp_path_factory):
    """A run of note events."""
    workdir = tmp_path_factory.mktemp("runs") / "events"
    config = load(Compose.Config, overrides=[*TINY, *EVENTS])
    program.train(Compose, workdir, config, resume=False, show=0)
    return kseq.load(workdir)


@pytest.fixture(scope="module")
def requests():
    notes = kseq.preprocessors.NotePreprocessor()
    return Requests({"key": list(KEYS), "style": ["arpeggio", "scale"]}, 64, notes)


# --- requests


@pytest.mark.slow
def test_a_request_becomes_a_vector_a_seed_a_length_and_a_beginning(requests):
    asked = requests.read(["key=Bb style=scale seed=3 length=7: C4 E4 | D4", "", " tempo=90\tkey=Am "])
    vector = np.array(asked.vector)
    assert vector.shape == (3, 26) and vector[0, [10, 25]].tolist() == [1, 1] and vector.sum(1).tolist() == [2, 0, 1]
    assert vector[2, KEYS.index("Am")] == 1
    assert list(asked.seeds) == [3, 0, 0] and list(asked.lengths) == [7, 64, 64]
    assert list(asked.beginning_lengths) == [2, 0, 0] and asked.beginning.shape == (3, 2, 88)
    assert requests.check("key=Bb style=scale seed=3") == {"key": "Bb", "style": "scale", "seed": "3"}
    for sharp, flat in zip(KEYS, FLAT_KEYS, strict=True):
        one, other = requests.read([f"key={sharp}", f"key={flat}"]).vector
        np.testing.assert_array_equal(one, other)
        requests.check(f"key={flat}")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("key=H", "key must be one of C, C#, D, .*; it is 'H'"),
        ("style=waltz", "style must be one of arpeggio, scale; it is 'waltz'"),
        ("keys=G", "'keys=G' is not one of key=…, style=…, tempo=…, seed=…, length=… or prime=FILE"),
        ("a happy tune", "'a' is not one of key=…"),
        ("key=", "'key=' is not one of key=…"),
        ("seed=x", "seed must be a whole number from 0 to 999999999; it is 'x'"),
        ("seed=-1", "seed must be a whole number from 0 to 999999999; it is '-1'"),
        ("length=0", "length must be a whole number from 1 to 4096; it is '0'"),
        ("length=99999", "length must be a whole number from 1 to 4096; it is '99999'"),
        ("length=2.5", "length must be a whole number from 1 to 4096; it is '2.5'"),
        ("tempo=1e3", "tempo must be a whole number from 20 to 400; it is '1e3'"),
        ("tempo=1000", "tempo must be a whole number from 20 to 400; it is '1000'"),
        ("key=G: C4 | H4", "'H4' is no note of a piano, A0 to C8 as C4, F#4 or Bb4, and - is a rest"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence_and_refused_by_the_graph(requests, request_, message):
    with pytest.raises(UserError, match=message) as error:
        requests.check(request_)
    assert "\n" not in str(error.value)
    asked = tf.function(requests.read, autograph=False)(["key=G", request_])
    good, said = (status.decode() for status in asked.status.numpy())
    assert good == "ok" and said == str(error.value).replace(" or prime=FILE", "")
    assert list(asked.lengths) == [64, 1] and not np.any(asked.vector[1]) and asked.beginning_lengths[1] == 0


def test_what_is_given_twice_is_told(requests):
    with pytest.raises(UserError, match="key is given twice"):
        requests.check("key=G key=D")
    statuses = [b"key is given twice", b"seed is given twice", b"ok"]
    assert list(requests.status(["key=G key=D", "seed=1 key=D  seed=1 ", "key=D: C4"]).numpy()) == statuses


# --- training


def test_the_batches_are_the_tunes_in_segments(tmp_path):
    run = task_of(tmp_path, ["model.vector_dropout=0"])
    run.prepare()
    tunes = run.examples("train")
    want = sorted(tune.roll[at : at + 20].tobytes() for tune in tunes for at in (0, 20))
    found = []
    for inputs, targets, weights in run.batches(SetEpoch()):
        np.testing.assert_array_equal(inputs["roll"], targets)
        lengths = weights.numpy().sum(axis=1).astype(int)
        found += [roll[:n].astype(np.uint8).tobytes() for roll, n in zip(targets.numpy(), lengths, strict=True)]
        assert not np.any(targets.numpy()[weights.numpy() == 0])
        assert inputs["vector"].numpy().sum(axis=1).tolist() == [2] * len(targets)
    assert sorted(found) == want


@pytest.mark.slow
def test_a_tune_is_moved_with_its_key_and_vectors_are_withheld(tmp_path):
    """Oracle: the share of notes in the key, which is 1 for generated tunes whatever they are moved by."""
    run = task_of(tmp_path, ["data.transpose=5", "model.vector_dropout=0.4"])
    run.prepare()
    epoch = SetEpoch()
    seen, withheld = [], []
    for number in (0, 1, 0):
        epoch.on_epoch_begin(number)
        batches = [(x["vector"].numpy(), y.numpy()) for x, y, _ in run.batches(epoch)]
        vector, roll = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        known = vector[:, :24].any(axis=1)
        keys = [KEYS[i] for i in vector[known, :24].argmax(axis=1)]
        assert kseq.data.share_in_key(list(roll[known]), keys) == 1
        seen.append(roll)
        withheld.append(1 - known.mean())
    assert not np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
    assert 0.2 < np.mean(withheld) < 0.6


def test_the_likelihood_is_that_of_each_step_of_each_tune(run):
    """Oracle: NumPy, tune by tune, without padding."""
    task, total, steps = run.task, 0.0, 0
    for tune in task.dev:
        inputs = {"vector": np.zeros((1, 26), "float32"), "roll": tune.roll[None].astype("float32")}
        p = 1 / (1 + np.exp(-np.array(run.model(inputs))[0].astype(float)))
        total -= np.where(tune.roll, np.log(p), np.log(1 - p)).sum()
        steps += len(tune.roll)
    assert task.nll(task.dev) == pytest.approx(total / steps, rel=1e-5)


def test_a_new_model_knows_how_often_each_key_sounds(tmp_path):
    run = task_of(tmp_path)
    run.prepare()
    rolls = np.concatenate([tune.roll for tune in run.examples("train")])
    p = 1 / (1 + np.exp(-run.model.readout.bias.numpy()))
    np.testing.assert_allclose(p, (rolls.sum(axis=0) + 1) / (len(rolls) + 2), rtol=1e-4)


# --- answers


def test_evaluation_reports_both_splits(trained, capsys):
    program.evaluate(program.finished_run(Compose, trained))
    for split, count in (("dev", 6), ("test", 4)):
        metrics = json.loads((trained / f"metrics-{split}.json").read_text())
        assert metrics.keys() - {"seconds_train"} == {"nll", "nll_given_vector", "in_key", "in_key_data"}
        assert metrics["in_key_data"] == 1 and 0 < metrics["nll"] < 60
        rows = [json.loads(line) for line in (trained / f"predictions-{split}.jsonl").read_text().splitlines()]
        assert len(rows) == count and len(rows[0]["prediction"].split(" | ")) == 10
        assert re.fullmatch(r"key=\S+ style=(scale|arpeggio) seed=\d+", rows[0]["source"])
    assert "nll" in capsys.readouterr().out


def test_a_run_answers_with_music(run):
    request = "key=G style=scale seed=5"
    text = run(request)
    assert text == run([request, "key=C"])[0] and len(text.split(" | ")) == 10
    assert text != run("key=G style=scale seed=6")
    found = run(f"{request} length=30", n=3, details=True)
    assert len({record["text"] for record in found}) == 3 and all(len(record["tokens"]) == 30 for record in found)
    scores = [record["score"] for record in found]
    assert scores == sorted(scores, reverse=True)
    assert run.show(request).get_suptitle() == request
    assert run.preprocessor is run.task.notes


def test_the_score_is_the_log_likelihood_of_a_step(run):
    record = run("key=G seed=1: C4 | E4 G4", details=True)
    assert record["tokens"][:2] == ["C4", "E4 G4"] and len(record["tokens"]) == 12
    roll = run.task.roll_of(record)[None]
    vector = run.task.requests.read(["key=G"]).vector
    loss = run.task.loss().call(roll, run.model({"vector": vector, "roll": roll}))
    assert record["score"] == pytest.approx(-np.mean(np.array(loss)[0, 2:]), rel=1e-4)


def test_the_n_best_are_the_draws_of_the_run(run):
    """Oracle: `answers`; the request that is refused has no music."""
    asked = ["key=G seed=3 length=6", "key=H", "length=3: C4 | E4"]
    found = {name: x.numpy() for name, x in run.task.n_best(tf.constant(asked)).items()}
    assert found["text"].shape == (3, 5) == found["tokens"].shape[:2]
    assert [x.decode()[:12] for x in found["status"]] == ["ok", "key must be ", "ok"]
    for row in (0, 2):
        for k, record in enumerate(run(asked[row], n=5, details=True)):
            assert found["text"][row, k].decode() == record["text"]
            assert found["score"][row, k] == pytest.approx(record["score"], rel=1e-4)
            assert [x.decode() for x in found["tokens"][row, k] if x] == record["tokens"]
    assert not found["text"][1].any() and not found["score"][1].any()


def test_a_midi_file_begins_the_music(run, tmp_path):
    roll = np.zeros((40, 88))
    roll[:, 39] = roll[::2, 43] = 1
    path = tmp_path / "my tune.mid"
    path.write_bytes(midi_of_roll(roll))
    tokens = run(f"key=C seed=2 prime={path}", details=True)["tokens"]
    assert len(tokens) == 32 + 10 and tokens[:32] == ["C4 E4", "C4"] * 16
    assert run(f"prime={path}").startswith("C4 E4 | C4 | ")
    with pytest.raises(UserError, match=r"example 1: prime: .*none.mid cannot be read: No such file"):
        run(f"prime={tmp_path}/none.mid")
    os.mkfifo(tmp_path / "pipe.mid")  # to be read, it would be waited for
    with pytest.raises(UserError, match=r"example 1: prime: [^:]*pipe.mid is not a file"):
        run(f"prime={tmp_path}/pipe.mid")
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"example 1: .*my tune.mid is not a MIDI file"):
        run(f"key=C prime={path}")


def test_prediction_draws_rolls_and_writes_midi_files(trained, capsys):
    program.predict(program.finished_run(Compose, trained), ["key=G seed=3 tempo=90", "length=12"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("00001: ")
    assert lines[-1] == f"piano rolls, MIDI files and WAV files in {trained / 'predictions'}"
    with Image.open(trained / "predictions" / "00002.png") as picture:
        assert picture.width > 200
    seconds = []
    for name in ("00001.wav", "00002.wav"):
        rate, samples = wavfile.read(trained / "predictions" / name)
        seconds.append(len(samples) / rate)
    assert seconds == pytest.approx([10 / 2 * 60 / 90, 12 / 2 * 60 / 120], abs=1e-4)
    text = lines[1].removeprefix("00002: ")
    roll = roll_of_midi((trained / "predictions" / "00002.mid").read_bytes(), "x")
    want, _ = kseq.preprocessors.NotePreprocessor().roll([text])
    sounds = np.flatnonzero(np.any(want[0], axis=1))[-1] + 1
    np.testing.assert_array_equal(roll, np.array(want[0])[:sounds])
    with pytest.raises(UserError, match=r"00001: key must be one of C, C#"):
        program.predict(program.finished_run(Compose, trained), ["key=X"])


def test_other_sampling_of_a_finished_run(trained):
    cold = kseq.load(trained, overrides=["sampler.temperature=0.001", "sampler.length=4"])
    assert cold("seed=1") == cold("seed=2") and len(cold("").split(" | ")) == 4
    with pytest.raises(UserError, match=r"vector.json is not what the run was trained with"):
        kseq.load(trained, overrides=['data.vector=["key"]'])


@pytest.mark.slow
def test_the_saved_model_composes_the_same_in_a_process_without_kseq_and_keras(trained, run, tmp_path):
    request = "key=A style=arpeggio seed=9 length=20: A3 C#4"
    run.export(tmp_path / "export")
    served = kseq.load(tmp_path / "export")
    assert served(request) == run(request)
    with pytest.raises(UserError, match=r"^example 1: key must be one of C, .*; it is 'X'$"):
        served("key=X")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.vector=[]"], "data.vector"),
        (['data.vector=["mood"]'], "data.vector"),
        (["sampler.temperature=0"], "sampler.temperature"),
        (["data.transpose=12"], "data.transpose"),
        (['model.representation="midi"'], "model.representation"),
        ([*EVENTS, "model.recurrent_dropout=0.1"], r"recurrent_dropout has no use here: it is of .* = 'roll'"),
        ([*EVENTS, "sampler.threshold=0.1"], r"sampler.threshold has no use with model.representation = 'events'"),
        (["sampler.top_k=3"], r"sampler.top_k has no use with model.representation = 'roll'; leave it out"),
        (["sampler.top_p=0.9"], r"sampler.top_p has no use with model.representation = 'roll'; leave it out"),
    ],
)
def test_a_wrong_config_is_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Compose.Config, overrides=changes)


def test_shares_of_train_are_held_out(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02d}.mid").write_bytes(midi_of_roll(np.eye(88)[i : i + 5]))
    changes = [f"data.source=midi:{tmp_path}", "data.holdout=0.2", "data.test_holdout=0.2", "data.train_count=3"]
    run = task_of(tmp_path / "run", [*changes, "data.dev_count=0", "data.test_count=0"])
    splits = [{tune.roll.tobytes() for tune in run.examples(split)} for split in ("train", "dev", "test")]
    assert len(splits[0]) == 3 and len(set.union(*splits)) == sum(map(len, splits)) < 30 and all(splits)


def test_tunes_without_a_style_need_a_vector_without_one(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.mid").write_bytes(midi_of_roll(np.eye(88)[:30]))
    source = f"data.source=midi:{tmp_path}/{{split}}"
    with pytest.raises(UserError, match=r"data.vector names style, and the tunes of midi:.* have none; leave it out"):
        task_of(tmp_path / "run", [source]).prepare()
    (tmp_path / "run").mkdir(exist_ok=True)
    run = task_of(tmp_path / "run", [source, 'data.vector=["key"]'])
    run.prepare()
    assert run.requests.size == 24 and run.config.data.scored() == ("dev",)


# --- note events


@pytest.mark.slow
def test_the_batches_of_events_are_the_tunes_in_segments(tmp_path):
    """Oracle: the rolls with onsets, read back from the events; the model is told each event before the next."""
    run = task_of(tmp_path, [*EVENTS, "model.vector_dropout=0"])
    run.prepare()
    want, found = [], []
    for tune in run.examples("train"):
        for part in (tune.onsets[:20].copy(), tune.onsets[20:].copy()):
            part[0] = np.where(part[0], 2, 0)  # what sounds at the beginning of a segment begins there
            want.append(part.tobytes())
    for inputs, targets, weights in run.batches(SetEpoch()):
        np.testing.assert_array_equal(weights, targets.numpy() > 0)
        assert np.all(inputs["tokens"][:, 0] == 1) and not np.any(inputs["tokens"].numpy()[weights.numpy() == 0])
        np.testing.assert_array_equal(np.where(weights[:, 1:] > 0, targets[:, :-1], 0), inputs["tokens"][:, 1:])
        assert inputs["source"].shape[1:] == (1, 26) and np.all(inputs["source"].numpy().sum(axis=2) == 2)
        rolls, lengths = kseq.preprocessors.roll_of_events(targets)
        found += [roll[:n].astype(np.uint8).tobytes() for roll, n in zip(rolls.numpy(), lengths, strict=True)]
    assert sorted(found) == sorted(want)
    counts = run.columns["tunes"].counts(180)
    np.testing.assert_allclose(run.model.words.bias, np.log((counts + 1) / np.sum(counts + 1)), rtol=1e-5)


@pytest.mark.slow
def test_events_are_moved_with_their_key(tmp_path):
    """Oracle: the share of notes in the key, which is 1 for generated tunes whatever they are moved by."""
    run = task_of(tmp_path, [*EVENTS, "data.transpose=5", "model.vector_dropout=0"])
    run.prepare()
    still = sorted(tuple(row) for row in run.columns["tunes"].padded(range(len(run.columns["tunes"])), 120))
    moved = []
    for inputs, targets, _ in run.batches(SetEpoch()):
        rolls, _ = kseq.preprocessors.roll_of_events(targets)
        keys = [KEYS[i] for i in inputs["source"].numpy()[:, 0, :24].argmax(axis=1)]
        assert kseq.data.share_in_key(list(rolls.numpy()), keys) == 1
        moved += [tuple(np.pad(row, (0, 120 - len(row)))) for row in targets.numpy()]
    assert len(moved) == len(still) and sorted(moved) != still


@pytest.mark.slow
def test_the_likelihood_of_events_is_that_of_each_event_of_each_tune(performer):
    """Oracle: NumPy, tune by tune, without padding; evaluation reports it by the step and by the event."""
    task, total, steps, count = performer.task, 0.0, 0, 0
    for tune in task.dev:
        ids = kseq.preprocessors.events_of_roll(tune.onsets[None], [len(tune.onsets)]).to_tensor().numpy()
        inputs = {"source": np.zeros((1, 1, 26), "float32"), "tokens": np.concatenate([[[1]], ids[:, :-1]], axis=1)}
        logits = np.array(performer.model(inputs))[0].astype(float)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= log_p[np.arange(ids.size), ids[0]].sum()
        steps, count = steps + len(tune.roll), count + ids.size
    assert task.nll(task.dev) == pytest.approx(total / steps, rel=1e-5)
    metrics, rows = task.evaluate("test")
    assert metrics.keys() == {"nll", "nll_given_vector", "nll_event", "in_key", "in_key_data"}
    assert metrics["in_key_data"] == 1 and 0 < metrics["nll_event"] < 6
    assert len(rows) == 4 and all(len(row["prediction"].split(" | ")) == 10 for row in rows)
    assert "~" in rows[0]["references"][0]
    assert task.evaluate("dev")[0]["nll_event"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.slow
def test_a_run_of_events_answers_as_one_of_rolls_does(performer, tmp_path, capsys):
    request = "key=G style=scale seed=5"
    text = performer(request)
    assert text == performer(["key=C", request])[1] and len(text.split(" | ")) == 10
    assert text != performer("key=G style=scale seed=6")
    found = performer(f"{request} length=30", n=3, details=True)
    assert len({record["text"] for record in found}) == 3 and all(len(record["tokens"]) == 30 for record in found)
    begun = performer("seed=1: C4 E4 | ~C4 E4 | -", details=True)
    assert begun["tokens"][:3] == ["C4 E4", "~C4 E4", "-"] and len(begun["tokens"]) == 13
    assert begun["score"] < 0 and performer.show(request).get_suptitle() == request
    path = tmp_path / "a.mid"
    roll = np.zeros((4, 88), np.uint8)
    roll[:, 39], roll[:, 43] = [2, 1, 2, 0], [0, 2, 2, 1]
    path.write_bytes(midi_of_roll(roll))
    assert performer(f"prime={path}").startswith("C4 | ~C4 E4 | C4 E4 | ~E4 | ")
    with pytest.raises(UserError, match=r"example 1: '~H4' is no note of a piano"):
        performer("key=G: C4 | ~H4")
    program.predict(program.finished_run(Compose, performer.task.workdir), ["seed=3: C4 | C4 | ~C4"])
    again = roll_of_midi((performer.task.workdir / "predictions" / "00001.mid").read_bytes(), "x", onsets=True)
    assert again[:3, 39].tolist() == [2, 2, 1] and (performer.task.workdir / "predictions" / "00001.wav").exists()
    want, _ = kseq.preprocessors.NotePreprocessor(onsets=True).roll(
        [capsys.readouterr().out.splitlines()[0].removeprefix("00001: ")]
    )
    np.testing.assert_array_equal(again, np.array(want[0])[: len(again)])


@pytest.mark.slow
def test_other_sampling_of_a_finished_run_of_events(performer):
    folder = performer.task.workdir
    for change in ("sampler.temperature=0.001", "sampler.top_k=1", "sampler.top_p=0.000001"):
        greedy = kseq.load(folder, overrides=[change, "sampler.length=4"])
        assert greedy("seed=1") == greedy("seed=2") and len(greedy("").split(" | ")) == 4
    with pytest.raises(UserError, match="only data, sampler and serving can be changed"):
        kseq.load(folder, overrides=['model.representation="roll"'])


@pytest.mark.slow
def test_the_saved_model_of_events_composes_the_same(performer, tmp_path):
    request = "key=A style=arpeggio seed=9 length=20: A3 C#4 | ~A3"
    performer.export(tmp_path / "export")
    assert kseq.load(tmp_path / "export")(request) == performer(request)
