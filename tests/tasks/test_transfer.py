"""Runs whose encoder begins where another run ended, at a size that trains in seconds."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from kseq import runs
from kseq.config import ConfigError
from kseq.errors import UserError
from kseq.tasks import pretrained, program
from kseq.tasks.caption import Caption
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail
from kseq.tasks.summarize import Summarize
from kseq.tasks.tag import Tag
from kseq.tasks.translate import Translate

SMALL = (
    "data.train_count=64",
    "data.dev_count=12",
    "data.buckets=1",
    "model.attention_units=4",
    "training.epochs=1",
    "training.batch_size=32",
)
PAIRS = (*SMALL, "model.attention=none")
SIZES = ("model.units=8", "model.embedding_size=6")
WRITES = (*SMALL, "model.encoder.units=8", "model.encoder.cell=lstm", "model.embedding_size=6", "sampler.width=1")


def prepared(task, workdir, changes):
    """A run as it is before its first step."""
    run = task(pretrained.load_config(task, overrides=changes), workdir)
    keras.utils.set_random_seed(run.config.seed)
    run.prepare()
    return run


def train(task, workdir, changes, *, resume=False):
    config = pretrained.load_config(task, overrides=changes, resumed=workdir if resume else None)
    program.train(task, workdir, config, resume=resume, show=0)


def best(task, workdir):
    return program.finished_run(task, workdir)


def assert_same(weights, expected):
    assert len(weights) == len(expected)
    for value, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run of classify, and the weights of its encoder."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    train(Classify, workdir, [*SMALL, *SIZES, "data.lower_case=true", "training.learning_rate=0.05"])
    return workdir, best(Classify, workdir).model.encoder.get_weights()


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "t"
    train(Translate, workdir, [*WRITES, "model.encoder.layers=2", "model.encoder.residual=true"])
    return workdir, best(Translate, workdir).model.encoder.get_weights()


# --- what is taken over


def test_a_frozen_encoder_of_a_classifier_is_that_of_an_entailment_run_to_the_bit(classifier, tmp_path, capsys):
    workdir, encoder = classifier
    train(Entail, tmp_path, [*PAIRS, f"model.encoder.from={workdir}", "model.encoder.trainable=false"])
    words = (workdir / "vocabulary.txt").read_bytes()
    assert (tmp_path / "vocabulary.txt").read_bytes() == words
    assert f"the encoder and its {len(words.splitlines())} words are those of {workdir}" in capsys.readouterr().out
    run = best(Entail, tmp_path)
    assert_same(run.model.encoder.get_weights(), encoder)
    first = prepared(Entail, tmp_path / "new", [*PAIRS, f"model.encoder.from={workdir}"])
    above = zip(run.model.both.get_weights(), first.model.both.get_weights(), strict=True)
    assert all(np.any(a != b) for a, b in above)  # what lies above it has moved


def test_an_encoder_that_goes_on_begins_there_and_moves(classifier, tmp_path):
    workdir, encoder = classifier
    rates = ["training.learning_rate=0.001", "model.encoder.learning_rate=0.0005"]
    changes = [*PAIRS, f"model.encoder.from={workdir}", *rates]
    first = prepared(Entail, tmp_path / "new", changes)
    assert_same(first.model.encoder.get_weights(), encoder)
    ratios = pretrained.scales(first.model, first.config)
    count = len(encoder)
    assert ratios == (0.5,) * count + (1.0,) * (len(first.model.trainable_variables) - count)
    train(Entail, tmp_path / "run", changes)
    run = best(Entail, tmp_path / "run")
    moved = [np.abs(a - b).max() for a, b in zip(run.model.encoder.get_weights(), encoder, strict=True)]
    # Two steps of Adam, whose first is as large as the rate.
    assert min(moved) > 0 and max(moved) < 2 * 0.0005 * 1.1


def test_all_rates_are_one_where_the_encoder_has_none_of_its_own(classifier):
    config = pretrained.load_config(Entail, overrides=[f"model.encoder.from={classifier[0]}"])
    assert pretrained.scales(None, config) == ()


def test_what_makes_the_encoder_stands_in_the_config(classifier):
    config = pretrained.load_config(Entail, overrides=[f"model.encoder.from={classifier[0]}", "model.units=8"])
    assert config.model.units == 8 and config.model.bidirectional and config.data.lower_case
    assert config.model.encoder.from_ == str(classifier[0])


@pytest.mark.parametrize(("task", "shared"), [(Translate, "false"), (Translate, "true"), (Summarize, "true")])
def test_a_classifier_hands_on_to_tasks_that_write(classifier, tmp_path, task, shared):
    workdir, encoder = classifier
    run = prepared(task, tmp_path, [*SMALL, f"model.encoder.from={workdir}", f"data.shared={shared}"])
    assert_same(run.model.encoder.get_weights(), encoder)
    words = (workdir / "vocabulary.txt").read_bytes()
    assert (tmp_path / "source_vocabulary.txt").read_bytes() == words
    assert ((tmp_path / "target_vocabulary.txt").read_bytes() == words) == (shared == "true")
    assert run.config.data.lower_case == ("both" if shared == "true" else "source")
    assert run.text.tokenizer.lower_case and run.target.tokenizer.lower_case == (shared == "true")


@pytest.mark.slow
def test_a_summary_writer_hands_on_to_a_classifier(tmp_path):
    train(Summarize, tmp_path / "a", [*WRITES, "data.vocabulary_size=30"])
    run = prepared(Classify, tmp_path / "b", [*SMALL, f"model.encoder.from={tmp_path / 'a'}"])
    assert_same(run.model.encoder.get_weights(), best(Summarize, tmp_path / "a").model.encoder.get_weights())
    words = (tmp_path / "a/source_vocabulary.txt").read_bytes()
    assert (tmp_path / "b/vocabulary.txt").read_bytes() == words


@pytest.mark.slow
@pytest.mark.parametrize("task", [Tag, Entail])
def test_a_translator_hands_on_to_tasks_with_labels(translator, task, tmp_path):
    workdir, encoder = translator
    changes = [*SMALL, f"model.encoder.from={workdir}", "model.encoder.trainable=false", "data.max_length=7"]
    run = prepared(task, tmp_path, changes)
    assert_same(run.model.encoder.get_weights(), encoder)
    assert run.config.model.residual and run.config.model.layers == 2
    assert (tmp_path / "vocabulary.txt").read_bytes() == (workdir / "source_vocabulary.txt").read_bytes()
    assert run.text.max_length == 7 and not run.model.encoder.trainable_variables


@pytest.mark.slow
def test_pieces_of_words_go_along(tmp_path):
    pytest.importorskip("sentencepiece", reason="needs kseq[subword]")
    pytest.importorskip("tensorflow_text", reason="needs kseq[subword]")
    train(Classify, tmp_path / "a", [*SMALL, *SIZES, "data.unit=subword", "data.vocabulary_size=320"])
    run = prepared(Entail, tmp_path / "b", [*SMALL, f"model.encoder.from={tmp_path / 'a'}"])
    for name in ("vocabulary.txt", "vocabulary.model"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    assert run.ids(["the red star"]).to_list() == best(Classify, tmp_path / "a").ids(["the red star"]).to_list()


@pytest.mark.slow
def test_a_run_needs_the_other_one_only_to_begin(classifier, tmp_path, monkeypatch, capsys):
    """Killed in its second epoch, it goes on without the other one's folder, and ends as when nobody disturbs it."""
    changes = [*PAIRS, f"model.encoder.from={tmp_path / 'a'}", "training.epochs=2", "model.encoder.learning_rate=0.01"]
    shutil.copytree(classifier[0], tmp_path / "a")
    train(Entail, tmp_path / "whole", changes)

    def killed(run):
        if (run.workdir / "progress.json").exists():
            raise KeyboardInterrupt
        return {"accuracy": 0.5}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Entail, "validate", killed)
        train(Entail, tmp_path / "b", changes)
    shutil.rmtree(tmp_path / "a")
    train(Entail, tmp_path / "b", changes, resume=True)
    last = [np.load(tmp_path / name / "last-0002.npz") for name in ("whole", "b")]
    assert_same(*([file[key] for key in sorted(file.files)] for file in last))
    program.evaluate(program.finished_run(Entail, tmp_path / "b"))
    program.predict(program.finished_run(Entail, tmp_path / "b"), ["the red star\tthe star is red"])
    assert "accuracy" in capsys.readouterr().out
    with pytest.raises(UserError, match="there is no such folder"):
        pretrained.load_config(Entail, overrides=changes)


@pytest.mark.slow
def test_the_saved_model_answers_without_the_other_run(classifier, tmp_path, capsys):
    shutil.copytree(classifier[0], tmp_path / "a")
    train(Entail, tmp_path / "b", [*SMALL, f"model.encoder.from={tmp_path / 'a'}"])
    shutil.rmtree(tmp_path / "a")
    program.export(program.finished_run(Entail, tmp_path / "b"))
    assert "it answers" in capsys.readouterr().out


# --- what does not fit


def test_a_run_that_is_none_is_said(tmp_path):
    def load(folder):
        pretrained.load_config(Entail, overrides=[f"model.encoder.from={folder}"])

    with pytest.raises(UserError, match=r"model.encoder.from: \S*nowhere: there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"model.encoder.from: \S* holds no run of kseq"):
        load(tmp_path)
    runs.create_run(tmp_path, Entail, Entail.Config(), {})
    with pytest.raises(UserError, match=r"model.encoder.from: \S* holds no trained run"):
        load(tmp_path)


def test_a_run_of_pictures_is_said(classifier, tmp_path):
    shutil.copytree(classifier[0], tmp_path / "run")
    runs.create_run(tmp_path / "run", Caption, Caption.Config(), {})
    with pytest.raises(UserError, match=r"run is a run of caption, whose encoder reads no texts"):
        pretrained.load_config(Entail, overrides=[f"model.encoder.from={tmp_path / 'run'}"])


@pytest.mark.parametrize("name", ["run.json", "config.json", "progress.json"])
def test_a_run_whose_files_are_broken_is_named(classifier, tmp_path, name):
    shutil.copytree(classifier[0], tmp_path / "run")
    (tmp_path / "run" / name).write_text("{")
    with pytest.raises(UserError, match=f"model.encoder.from: {tmp_path}/run/{name} is damaged, it is not JSON: "):
        pretrained.load_config(Entail, overrides=[f"model.encoder.from={tmp_path / 'run'}"])


def test_an_attempt_that_died_early_decides_nothing(classifier, tmp_path):
    runs.create_run(tmp_path, Entail, Entail.Config(), {})
    config = pretrained.load_config(Entail, overrides=[f"model.encoder.from={classifier[0]}"], resumed=tmp_path)
    assert (config.model.units, Entail.Config().model.units) == (8, 64)


@pytest.mark.parametrize("change", ["data.min_count=2", "model.embedding_range=0.1"])
def test_keys_that_an_encoder_has_no_use_for_are_refused(classifier, change):
    key = change.partition("=")[0]
    with pytest.raises(UserError, match=f"from={classifier[0]} has no use for {key}; leave that out"):
        pretrained.load_config(Entail, overrides=[f"model.encoder.from={classifier[0]}", change])


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (Entail, "model.units=16", "model.units is 16, there 8"),
        (Entail, "data.unit=byte", "data.unit is 'byte', there 'word'"),
        (Entail, "data.lower_case=false", "data.lower_case is False, there True"),
        (Entail, "data.vocabulary_size=5000", "data.vocabulary_size is 5000, there 20000"),
        (Translate, "model.encoder.units=16", "model.encoder.units is 16, there 8"),
        (Translate, "data.lower_case=none", "data.lower_case is 'none', there 'source'"),
    ],
)
def test_keys_that_say_otherwise_are_refused(classifier, task, change, message):
    with pytest.raises(UserError) as error:
        pretrained.load_config(task, overrides=[f"model.encoder.from={classifier[0]}", change])
    assert str(error.value) == (
        f"model.encoder.from={classifier[0]} has another encoder ({message}); leave these keys out to take its settings"
    )


def test_a_unit_that_the_task_does_not_have_is_blamed_on_the_other_run(classifier, tmp_path):
    shutil.copytree(classifier[0], tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    config["data"]["unit"] = "space"
    (tmp_path / "a/config.json").write_text(json.dumps(config))
    runs.save_checksums(tmp_path / "a", ["config.json"])
    with pytest.raises(ConfigError, match=r'data.unit = "space" \(\S*a/config.json\): must be'):
        pretrained.load_config(Translate, overrides=[f"model.encoder.from={tmp_path / 'a'}"])


def test_a_vocabulary_that_was_changed_is_refused(classifier, tmp_path):
    shutil.copytree(classifier[0], tmp_path / "a")
    words = (tmp_path / "a/vocabulary.txt").read_text().splitlines()
    (tmp_path / "a/vocabulary.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    with pytest.raises(UserError, match=rf"{tmp_path}/a/vocabulary.txt is not what the run was trained with"):
        prepared(Entail, tmp_path / "b", [*SMALL, f"model.encoder.from={tmp_path / 'a'}"])


def test_a_config_that_was_not_laid_over_the_other_one_is_refused(classifier, tmp_path):
    """As by who builds a task of their own config."""
    config = Entail.Config(model={"encoder": {"from": str(classifier[0])}})
    with pytest.raises(UserError, match=r"model\.units is 64, there 8"):
        Entail(config, Path(tmp_path)).prepare()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.encoder.trainable=false"], "trainable = false is for an encoder that has been trained before"),
        (["model.encoder.learning_rate=-1"], "learning_rate = -1 .* must be at least 0"),
        (
            ["model.encoder.from=a", "model.encoder.trainable=false", "model.encoder.learning_rate=0.1"],
            "learning_rate is for an encoder that is trained, and trainable is false",
        ),
    ],
)
@pytest.mark.parametrize("task", [Entail, Translate])
def test_settings_of_the_encoder_that_contradict_each_other(task, changes, message):
    with pytest.raises(ConfigError, match=message):
        pretrained.load_config(task, overrides=changes)


def test_vectors_are_for_new_words():
    with pytest.raises(ConfigError, match="vector_words = 3 takes words of `vectors`, which is not set"):
        pretrained.load_config(Entail, overrides=["model.vector_words=3"])
    with pytest.raises(ConfigError, match="vectors are for new words; the encoder of a brings its own"):
        pretrained.load_config(Classify, overrides=["model.encoder.from=a", "model.vectors=glove.txt"])
