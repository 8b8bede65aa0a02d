"""The captioning program, from files to answers, at a size that trains in seconds."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import kseq
from kseq.config import ConfigError, load
from kseq.data import Sequences, SetEpoch
from kseq.errors import UserError
from kseq.layers import CELLS
from kseq.metrics import points_at
from kseq.serving import ask, check, versions
from kseq.tasks import program, results
from kseq.tasks.caption import Caption, boxes_of_words, relevant_regions
from kseq.tasks.generation import make_decoder

TINY = (
    "data.train_count=48",
    "data.dev_count=12",
    "data.test_count=5",
    "data.image_size=32",
    "data.buckets=1",
    "model.units=16",
    "model.attention_units=16",
    "model.embedding_size=8",
    "model.encoder.units=16",
    "training.epochs=1",
    "training.batch_size=16",
    "sampler.width=2",
)


def train(workdir, changes, *, resume=False):
    program.train(Caption, workdir, load(Caption.Config, overrides=changes), resume=resume, show=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"data.cache={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(workdir, [*TINY, cache])
    return workdir


def table(folder, rows, columns="image\tcaption"):
    """A folder with two pictures and the same captions for train and dev; its path as `data.source`."""
    (folder / "images").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / "images" / name)
    for split in ("train", "dev"):
        (folder / f"captions_{split}.tsv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return [f"data.source=tsv:{folder}/captions_{{split}}.tsv", "data.fields.image=images/{image}"]


GOOD = ["a.png\ta red square", "b.jpg\ta blue square", "a.png\tsomething red"]


def test_the_workdir_says_how_the_run_was_made(trained):
    assert json.loads((trained / "config.json").read_text())["model"]["units"] == 16
    run = json.loads((trained / "run.json").read_text())
    assert run["seed"] == 0 and run["versions"]["keras"] == keras.__version__
    assert (trained / "log.csv").read_text().startswith("epoch,learning_rate,loss,val_bleu_4\n")
    assert list((trained / "tensorboard").rglob("events.*"))


def test_evaluation_writes_flat_metrics_and_a_row_for_each_picture(trained, capsys):
    program.evaluate(program.finished_run(Caption, trained))
    metrics = json.loads((trained / "metrics-dev.json").read_text())
    scores = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "exact_match", "pointing", "pointing_noun"}
    assert set(metrics) == scores | {"seconds_train"}
    rows = [json.loads(line) for line in (trained / "predictions-dev.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and set(rows[0]) == {"id", "prediction", "score", "exact", "references"}
    assert "bleu_4" in capsys.readouterr().out


def test_a_metric_that_is_undefined_is_left_out(trained, monkeypatch):
    """Captions without a noun point at nothing; JSON has no NaN to say so."""
    run = kseq.load(trained).task
    record = {"text": "a", "score": 0.0, "tokens": ["a"], "alignment": np.ones((1, 4), "float32") / 4}
    monkeypatch.setattr(run, "answered", lambda split: (run.dev, [record] * len(run.dev)))
    metrics, _ = run.evaluate()
    assert "bleu_4" in metrics and not {"pointing", "pointing_noun"} & set(metrics)
    json.dumps(metrics, allow_nan=False)


def test_a_finished_run_is_scored_on_other_data(trained, tmp_path, cache):
    changes = [*table(tmp_path / "mine", GOOD), cache]
    program.evaluate(program.finished_run(Caption, trained, changes))
    [path] = trained.glob("predictions-dev-*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["references"] for row in rows] == [["a red square", "something red"], ["a blue square"]]


def test_only_data_and_sampler_of_a_finished_run_can_change(trained):
    with pytest.raises(
        UserError, match=r"--set model.units=8: of a finished run only data, sampler and serving can be changed"
    ):
        program.evaluate(program.finished_run(Caption, trained, ["model.units=8"]))


def test_prediction_names_the_file_and_draws_the_attention(trained, tmp_path, capsys):
    table(tmp_path / "mine", GOOD)
    program.predict(program.finished_run(Caption, trained), [str(tmp_path / "mine/images/a.png")])
    assert capsys.readouterr().out.startswith("a.png: ")
    with Image.open(trained / "predictions" / "a.png") as overlay:
        assert overlay.width > 300 and np.ptp(np.asarray(overlay)) > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, r"none.png cannot be read: No such file"),
        ("text.png", b"hello", r"text.png: The first bytes are not those of a JPEG, PNG, GIF or BMP file$"),
        ("empty.png", b"", r"empty.png: The first bytes are not those of"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(trained, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        program.predict(program.finished_run(Caption, trained), [str(tmp_path / name)])


@pytest.mark.slow
def test_the_saved_model_answers_in_a_process_without_kseq_and_keras(trained, capsys):
    program.export(program.finished_run(Caption, trained))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out


@pytest.mark.slow
def test_a_wrong_export_is_found_out(trained, tmp_path):
    folder = tmp_path / "export"
    if not (trained / "export").exists():
        program.export(program.finished_run(Caption, trained))
    shutil.copytree(ask.model_folder(trained / "export"), folder)
    content = io.BytesIO()
    Image.new("RGB", (50, 20), "green").save(content, "png")
    picture = {"image": content.getvalue()}
    with pytest.raises(UserError, match=r'in training: request 1: text is \["[a-z ]*"\], and was \["none"\]'):
        versions.record(folder, [picture], [{"text": "none", "score": 0.0, "status": "ok"}], {"model": "a"})
    assert check.read_requests(folder / check.WARMUP) == [{"image": [picture["image"]]}] * 2
    shutil.rmtree(folder / "variables")
    with pytest.raises(UserError, match="does not answer in a process of its own"):
        versions.record(folder, [picture], [{"text": "", "score": 0.0, "status": "ok"}], {"model": "a"})


def test_ask_uses_no_part_of_kseq():
    code = Path(ask.__file__).read_text().split('"""', 2)[2]
    assert "kseq" not in code and "import tensorflow" in code


def test_a_folder_with_a_run_is_not_trained_over(trained, cache):
    with pytest.raises(UserError, match=r"holds a run; --resume goes on with it"):
        train(trained, [*TINY, cache])
    with pytest.raises(UserError, match=r"holds a run of another config \(model.units: 16 != 8, the value of that"):
        train(trained, [*TINY, cache, "model.units=8"], resume=True)


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"holds no trained run; train one with --mode=train"):
        program.evaluate(program.finished_run(Caption, tmp_path))


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (["a.png a red square"], [], r"captions_train.tsv:2: 1 field\(s\) between tabs where the first line names 2"),
        (["a.png\t "], [], r"captions_train.tsv:2: the caption is empty"),
        (["c.png\ta cat"], [], r"captions_train.tsv:2: picture .*c.png cannot be read: No such file"),
        (["../../x.png\ta cat"], [], r"captions_train.tsv:2: '.*x.png' leaves the data folder"),
        ([], [], r"has no pictures"),
        (GOOD, ["data.fields.caption=text"], r"there is no column 'text'; the first line names image, caption"),
        (GOOD, ["data.source=csv:{split}"], r"'csv:.split.' is not one of toy:shapes, tsv:<file> or tfds:<name>"),
        (GOOD, ["data.source=tsv:x.tsv"], r"the same examples for data.train and data.dev. Put \{split\}.*holdout"),
        (GOOD, ["model.encoder.backbone=ResNet5"], r"model.encoder: backbone must be .* got 'ResNet5'"),
        (GOOD, ["model.encoder.backbone=data/pretrained/x.keras"], r"; get it with python -m kseq.data.fetch pretrain"),
        (GOOD, ["training.xla=true"], r"make no full batch of 16; lower training.batch_size"),
    ],
)
def test_bad_data_stops_the_run_with_one_line(tmp_path, cache, rows, changes, message):
    data = table(tmp_path / "mine", rows)
    with pytest.raises(UserError, match=message) as error:
        train(tmp_path / "run", [*TINY, cache, *data, *changes])
    assert "\n" not in str(error.value)


def test_unreadable_pictures_of_dev_are_not_shown(trained, tmp_path, cache):
    data = [*table(tmp_path / "mine", ["bad.png\ta broken picture", *GOOD]), cache]
    (tmp_path / "mine/images/bad.png").write_bytes(b"no picture")
    run = kseq.load(trained, overrides=[*data, "data.on_error=skip"]).task
    assert [name for name, _ in run.some_of_dev()] == ["images/a.png", "images/b.jpg"]
    with pytest.raises(UserError, match=r"captions_dev.tsv:2: picture images/bad.png cannot be decoded"):
        kseq.load(trained, overrides=data).task.some_of_dev()


@pytest.mark.slow
def test_unreadable_pictures_can_be_left_out(tmp_path, cache, capsys):
    """An animated WebP, which TensorFlow's decoder would end the process over, among them."""
    data = table(tmp_path / "mine", [*GOOD, "bad.png\ta broken picture", "c.webp\ttwo pictures in one"])
    (tmp_path / "mine/images/bad.png").write_bytes(b"no picture")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "mine/images/c.webp", save_all=True, append_images=frames[1:])
    train(tmp_path / "run", [*TINY, cache, *data, "data.on_error=skip"])
    assert "pictures that cannot be read, left out: 2 of 4" in capsys.readouterr().out


def test_without_attention_there_is_no_penalty_of_it():
    with pytest.raises(ConfigError, match="alignment_penalty asks attention to look everywhere; the fixed decoder has"):
        load(Caption.Config, overrides=["model.decoder=fixed", "model.alignment_penalty=1.0"])


@pytest.mark.parametrize(
    ("changes", "rate"),
    [([], 0.5), (["model.readout_dropout=0.25"], 0.25), (["model.deep_output=false"], 0.0)],
)
def test_the_readout_dropout_of_the_config_reaches_the_decoder(changes, rate):
    config = load(Caption.Config, overrides=[*TINY, *changes])
    assert make_decoder(config.model).readout_dropout == rate


@pytest.mark.parametrize("changes", [["model.decoder=luong"], ["model.decoder=fixed"], ["model.deep_output=false"]])
def test_the_default_readout_dropout_is_no_bar_to_another_decoder(changes):
    """One key changes the decoder, and the config that the run saves is read again; a rate that was set is refused."""
    config = load(Caption.Config, overrides=changes)
    assert load(Caption.Config, base=config.model_dump(mode="json")) == config
    with pytest.raises(ConfigError, match="readout_dropout is for decoder = bahdanau with deep_output = true"):
        load(Caption.Config, overrides=[*changes, "model.readout_dropout=0.1"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "decoder", "attention"),
    [
        ("rnn", "luong", "luong"),
        ("gru", "luong", "dot"),
        ("peephole", "bahdanau", "normalized"),
        ("layer_norm_lstm", "bahdanau", "concat"),
        ("layer_norm_gru", "bahdanau", "coverage"),
        ("lstm", "fixed", "bahdanau"),
    ],
)
def test_one_line_of_the_config_changes_the_model(tmp_path, cache, cell, decoder, attention):
    """Each part that the config can name writes a caption for every picture of dev."""
    changes = [f"model.cell={cell}", f"model.decoder={decoder}", f"model.attention={attention}"]
    run = Caption(load(Caption.Config, overrides=[*TINY, cache, *changes]), tmp_path)
    run.prepare()
    assert type(run.model.decoder.cell) is CELLS[cell]
    _, records = run.answered("dev")
    assert len(records) == 12 and np.all(np.isfinite([record["score"] for record in records]))
    assert any(record["alignment"] is not None for record in records) == (decoder != "fixed")


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "spread"), [([], 0.05), (["model.embedding_range=3.0"], 3)])
def test_how_far_words_begin_is_in_the_config(tmp_path, cache, changes, spread):
    run = Caption(load(Caption.Config, overrides=[*TINY, cache, *changes]), tmp_path)
    run.prepare()
    assert 0.8 * spread < np.abs(run.model.embedding.embeddings).max() <= spread


@pytest.mark.slow
def test_mirrored_pictures_are_trained_on_too(tmp_path, cache):
    """Their pixels from right to left, under the captions that stay true of them."""
    rows = ["a.png\ta red square", "a.png\ta square on the LEFT", "b.jpg\tright of nothing"]
    source = table(tmp_path, rows)
    gradient = np.arange(32 * 32 * 3, dtype="uint8").reshape(32, 32, 3)
    Image.fromarray(gradient).save(tmp_path / "images/a.png")
    changes = [*TINY, *source, cache, "data.mirror=true", "data.train_count=0", "training.batch_size=1"]
    run = Caption(load(Caption.Config, overrides=changes), tmp_path)
    run.prepare()
    batches = list(run.batches(SetEpoch()))
    words = sorted(" ".join(run.target.words(y.numpy()[0])) for _, y, _ in batches)
    assert words == ["a red square", "a red square", "a square on the left", "right of nothing"]
    squares = [
        inputs["source"][0] for inputs, y, _ in batches if run.target.words(y.numpy()[0]) == ["a", "red", "square"]
    ]
    np.testing.assert_array_equal(squares[0], squares[1][:, ::-1])


@pytest.mark.slow
def test_the_record_is_appended_by_the_program(trained, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="run it from the project's root"):
        monkeypatch.chdir(tmp_path)
        program.evaluate(program.finished_run(Caption, trained), record_as="tiny")
    (tmp_path / "tasks/caption").mkdir(parents=True)
    program.evaluate(program.finished_run(Caption, trained), record_as="tiny")
    program.evaluate(program.finished_run(Caption, trained), record_as="tiny")
    lines = (tmp_path / "tasks/caption/results.csv").read_text().splitlines()
    assert lines[0] == ",".join(results.COLUMNS) and len(lines) == 1 + 2 * (8 + 7)
    samples = (tmp_path / "tasks/caption/samples/tiny.md").read_text()
    assert samples.count("| dev-") == 12 and len(list((tmp_path / "tasks/caption/samples/tiny").glob("*.png"))) == 4


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "kseq.tasks.caption", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--mod=train"], 2, "Unknown command line flag 'mod'"),
        (["--mode=fit"], 2, "value should be one of <train|evaluate|predict|export|config>"),
        (["photo.jpg"], 1, "inputs (photo.jpg, …) go with --mode=predict"),
        (["--mode=train", "--record"], 1, "--record goes with --mode=evaluate"),
        (["--mode=predict", "--keep=1"], 1, "--keep goes with --mode=export"),
        (["--keep=-1"], 2, "flag --keep=-1: -1 is not"),
        (["--set", "model.unit=1"], 1, "did you mean model.units?"),
        (["--config=none.toml"], 1, "none.toml: cannot be read as a TOML file"),
    ],
)
def test_a_wrong_flag_is_one_line_and_an_exit_code(arguments, code, message):
    result = command(*arguments)
    assert result.returncode == code
    assert result.stderr.startswith("error: ") and message in result.stderr and result.stderr.count("\n") == 1


def test_help_lists_the_flags_without_tensorflow():
    script = "import sys, runpy; sys.argv = ['caption', '--help']\n"
    script += "try: runpy.run_module('kseq.tasks.caption', run_name='__main__')\n"
    script += "finally: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert "--mode" in result.stdout and result.stdout.endswith("False False\n")


@pytest.mark.slow
@pytest.mark.parametrize("changes", [["training.xla=true"], ["training.precision=mixed_float16"]])
def test_it_trains_compiled_and_in_half_precision(tmp_path, cache, changes):
    train(tmp_path, [*TINY, cache, "training.epochs=2", *changes])
    keras.config.set_dtype_policy("float32")
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


def test_a_run_answers_in_python_for_a_path_and_for_bytes(trained, tmp_path):
    table(tmp_path / "mine", GOOD)
    run, path = kseq.load(trained), tmp_path / "mine/images/a.png"
    captions = run([path, str(path), path.read_bytes(), {"image": path}])
    assert len(set(captions)) == 1
    assert captions[0] == run.task.answer([path.read_bytes()])["text"][0].numpy().decode()
    with pytest.raises(UserError, match=r"^example 1: The first bytes are not those of a JPEG"):
        run(b"hello")


# --- supervised attention


def test_the_words_of_a_noun_phrase_name_its_box():
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]], np.float32)
    pictures = [SimpleNamespace(boxes=boxes), SimpleNamespace(boxes=boxes[:1])]
    captions = ["a red ring above a star", "a star"]
    ids = np.arange(12, dtype=np.int32)  # the first caption with both ends, the second without the end token
    columns = boxes_of_words(pictures, captions, Sequences(ids, np.array([0, 8, 11])))
    assert [list(columns["objects"][i]) for i in range(2)] == [[0, 1, 1, 1, 0, 2, 2, 0], [0, 1, 1]]
    np.testing.assert_array_equal(columns["boxes"][0], [np.zeros(4), *boxes])
    np.testing.assert_array_equal(columns["boxes"][1], [np.zeros(4), boxes[0], np.zeros(4)])


def test_the_regions_of_a_word_are_those_at_which_pointing_is_right():
    """Oracle: `kseq.metrics.points_at`, region by region."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((3, 4, 2, 2)), axis=2).reshape(3, 4, 4).astype(np.float32)
    boxes = np.concatenate([np.zeros((3, 1, 4), np.float32), corners], axis=1)
    objects = rng.integers(0, 5, (3, 6))
    got = relevant_regions(objects, boxes, 16).numpy()
    want = [
        [[k > 0 and points_at(np.eye(16)[i], boxes[b, k]) for i in range(16)] for k in objects[b]] for b in range(3)
    ]
    np.testing.assert_array_equal(got, want)
    assert got.any() and not got[objects == 0].any()


def test_each_step_attends_to_the_object_that_its_target_names(tmp_path):
    """The second target is the noun; the token that is read for it is the one before."""
    run = Caption(load(Caption.Config, overrides=TINY), tmp_path)
    backbone = SimpleNamespace(output_shape=(None, 2, 2, 8))
    run.model = SimpleNamespace(encoder=SimpleNamespace(backbone=backbone))
    batch = {
        "source": np.zeros((1, 32, 32, 3), "uint8"),
        "tokens": np.array([[1, 5, 6, 2]]),
        "objects": np.array([[0, 0, 1, 0]]),
        "boxes": np.array([[[0, 0, 0, 0], [0.5, 0, 1, 0.5]]], "float32"),
    }
    inputs, targets, _ = run.make_batch(batch)
    assert targets.tolist() == [[5, 6, 2]] and inputs["tokens"].numpy().tolist() == [[1, 5, 6]]
    np.testing.assert_array_equal(inputs["relevant"][0], [[False] * 4, [False, False, True, False], [False] * 4])


def test_attention_is_supervised_only_where_boxes_are_known():
    with pytest.raises(
        ConfigError, match="needs the boxes of the objects, which only toy:shapes has; set it to 0 for x"
    ):
        load(Caption.Config, overrides=["data.source=x", "model.alignment_supervision=0.1"])
    with pytest.raises(ConfigError, match="alignment_supervision teaches the attention; the fixed decoder has none"):
        load(Caption.Config, overrides=["model.decoder=fixed", "model.alignment_supervision=0.1"])


@pytest.mark.slow
def test_supervised_attention_is_trained_towards_the_boxes(tmp_path, cache):
    """One batch, of which the loss of attention falls."""
    changes = [*TINY, cache, "model.alignment_supervision=1.0"]
    run = Caption(load(Caption.Config, overrides=changes), tmp_path)
    run.prepare()
    inputs, targets, weights = next(iter(run.batches(SetEpoch(0))))
    assert inputs["relevant"].dtype == "bool" and inputs["relevant"].numpy().any()

    def loss():
        run.model(inputs, training=True)
        return float(sum(run.model.losses))

    before = loss()
    run.model.compile("adam", run.loss())
    run.model.fit(inputs, targets, sample_weight=weights, epochs=20, verbose=0)
    assert loss() < 0.8 * before
