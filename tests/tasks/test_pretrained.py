"""Encoders of the BERT family, by keras-hub: a tiny one with random weights, from files to answers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.config import ConfigError
from kseq.errors import UserError
from kseq.models import PretrainedEncoder
from kseq.preprocessors import WordPieces
from kseq.tasks import pretrained, program
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail
from kseq.tasks.tag import Tag

keras_hub = pytest.importorskip("keras_hub", reason="needs kseq[pretrained]")

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "red",
    "star",
    "is",
    "un",
    "##aff",
    "##able",
    "a",
    "left",
]
SMALL = (
    "data.train_count=48",
    "data.dev_count=12",
    "data.buckets=1",
    "data.max_length=12",
    "model.attention_units=4",
    "training.epochs=1",
    "training.batch_size=24",
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The folder of a preset, and its backbone."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    keras.utils.set_random_seed(3)
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 32}
    backbone = keras_hub.models.BertBackbone(len(PIECES), **sizes)
    backbone.save_to_preset(str(folder))
    keras_hub.models.BertTokenizer(PIECES, lowercase=True).save_to_preset(str(folder))
    return folder, backbone


def train(task, workdir, changes):
    program.train(task, workdir, pretrained.load_config(task, overrides=[*SMALL, *changes]), resume=False, show=0)
    return program.finished_run(task, workdir)


@pytest.fixture(scope="module")
def frozen(hub, tmp_path_factory):
    """A run of classify over the preset as it is."""
    workdir = tmp_path_factory.mktemp("runs") / "frozen"
    changes = [f"model.encoder.pretrained={hub[0]}", "model.encoder.trainable=false"]
    return workdir, train(Classify, workdir, changes)


def read(backbone, ids, segments):
    inputs = {"token_ids": ids, "segment_ids": segments, "padding_mask": (ids != 0).astype("int32")}
    return np.asarray(backbone(inputs)["sequence_output"])


def assert_same(weights, expected):
    assert len(weights) == len(expected) > 10
    for value, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, other)


# --- pieces and rows


@pytest.mark.parametrize("pair", [False, True])
def test_pieces_and_rows_are_those_of_keras_hub(hub, pair):
    """Oracle: keras-hub's tokenizer, packer and backbone. The state is the row of [CLS]; padding changes no row."""
    folder, backbone = hub
    texts, others = ["The red star is unaffable", "", "a"], ["the star", "red [SEP] red", "left"]
    sides = (texts, others) if pair else (texts,)
    words = WordPieces.from_preset(str(folder), 20)
    packer = keras_hub.layers.MultiSegmentPacker(sequence_length=24, start_value=2, end_value=3)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(folder))
    packed = [packer(tuple(tokenizer(text) for text in row)) for row in zip(*sides, strict=True)]
    want, segments = (np.stack([np.asarray(x) for x in part]) for part in zip(*packed, strict=True))
    ids = words.ids(*(tf.constant(side) for side in sides))
    np.testing.assert_array_equal(ids.to_tensor(shape=[3, 24]), want)
    assert words.tokens(*sides)[0].numpy().tolist()[:8] == (
        [b"[CLS]", b"the", b"red", b"star", b"is", b"un", b"##aff", b"##able"]
    )
    encoder = PretrainedEncoder.from_preset(str(folder), 3)
    rows = read(backbone, want, segments)
    encoded = encoder(want, training=False)
    real = want != 0
    np.testing.assert_allclose(encoded.memory, np.where(real[:, :, None], rows, 0), atol=1e-6)
    np.testing.assert_array_equal(encoded.memory_mask, real)
    np.testing.assert_array_equal(encoded.state[0], encoded.memory[:, 0])
    alone = encoder(ids[2][None], training=False).memory
    np.testing.assert_allclose(alone, encoded.memory[2:, : alone.shape[1]], atol=1e-6)


def test_each_text_is_cut_and_the_pieces_come_back_from_their_files(hub, tmp_path):
    words = WordPieces.from_preset(str(hub[0]), 2)
    words.save(tmp_path / "vocabulary.txt")
    again = WordPieces.load(tmp_path / "vocabulary.txt")
    for one in (words, again):
        assert one.ids(["The red star"], ["a"]).to_list() == [[2, 5, 6, 3, 12, 3]]
        assert one.vocabulary == PIECES and one.fingerprint() == words.fingerprint()
        assert one.truncated(["The red star", "a b", "a"], ["a"] * 3).numpy().tolist() == [True, False, False]
        assert not {2, 3} & set(one.ids(["[CLS] [SEP]"])[0, 1:-1].numpy())  # these are no pieces of a text
    options = json.loads((tmp_path / "vocabulary.json").read_text())
    options["config"]["tokenizer"]["config"]["lowercase"] = False
    (tmp_path / "vocabulary.json").write_text(json.dumps(options))
    other = WordPieces.load(tmp_path / "vocabulary.txt")
    assert other.fingerprint() != words.fingerprint() == words.with_max_length(9).fingerprint()
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(UserError, match=r"vocabulary \S*vocabulary.txt: vocabulary.json is missing"):
        WordPieces.load(tmp_path / "vocabulary.txt")


# --- runs


@pytest.mark.slow
def test_frozen_weights_do_not_move_by_one_bit(hub, frozen):
    _, backbone = hub
    _, run = frozen
    expected = [w for w in backbone.weights if "pooled_dense" not in w.path]
    assert_same(run.model.encoder.get_weights(), [np.asarray(w) for w in expected])
    assert not run.model.encoder.trainable_variables and run.model.trainable_variables
    # In training it reads as it will answer; one that learns drops some of what it reads.
    ids, drawn = run.text.ids(["the red star"] * 8), []
    for trainable in (False, True):
        run.model.encoder.trainable = trainable
        memory = np.asarray(run.model.encoder(ids.to_tensor(), training=True).memory)
        drawn.append(np.ptp(memory, axis=0).max())
    run.model.encoder.trainable = False
    assert drawn[0] < 1e-6 < drawn[1]


@pytest.mark.slow
def test_two_sentences_are_read_in_one_by_an_encoder_that_learns(hub, tmp_path, capsys):
    changes = [f"model.encoder.pretrained={hub[0]}", "model.encoder.learning_rate=0.0001"]
    run = train(Entail, tmp_path, changes)
    before = [np.asarray(w) for w in hub[1].weights if "pooled_dense" not in w.path]
    moved = [np.abs(a - b).max() for a, b in zip(run.model.encoder.get_weights(), before, strict=True)]
    assert max(moved) <= 2.01 * 0.0001 and np.mean(np.array(moved) > 0) > 0.9  # two steps of Adam at its own rate
    program.evaluate(program.finished_run(Entail, tmp_path))
    program.predict(program.finished_run(Entail, tmp_path), ["The red star\tthe <b> is left"])
    assert re.search(r"^The red star\tthe <b> is left\t\w+\t0\.\d+$", capsys.readouterr().out, re.MULTILINE)
    page = (tmp_path / "predictions/attention.html").read_text()
    assert page.count("[SEP]") == 2 and "[CLS]" in page


@pytest.mark.slow
@pytest.mark.parametrize("task", [Classify, Entail])
def test_the_saved_model_splits_the_texts_itself(hub, task, tmp_path, capsys):
    """In a process without keras-hub, when the preset is gone."""
    shutil.copytree(hub[0], tmp_path / "tiny")
    train(task, tmp_path / "run", [f"model.encoder.pretrained={tmp_path / 'tiny'}"])
    shutil.rmtree(tmp_path / "tiny")
    program.export(program.finished_run(task, tmp_path / "run"))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out


@pytest.mark.slow
def test_a_new_process_goes_on_with_the_run(frozen):
    """There nothing of kseq or keras-hub has been imported yet. Oracle: what this process answers."""
    command = [sys.executable, "-m", "kseq.tasks.classify", "--mode=predict", f"--workdir={frozen[0]}", "the red star"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(kseq.__file__).parents[1], check=False)
    assert run.returncode == 0, run.stderr
    text, label, score = run.stdout.splitlines()[0].split("\t")
    [[best]] = frozen[1].answers([{"text": b"the red star"}])
    assert (text, label) == ("the red star", best["text"]) and float(score) == pytest.approx(best["score"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_it_trains_in_half_precision(hub, policy, tmp_path):
    changes = [f"model.encoder.pretrained={hub[0]}", f"training.precision={policy}", "training.epochs=3"]
    train(Classify, tmp_path, changes)
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[2]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_the_encoder_of_such_a_run_is_one_to_begin_with(hub, frozen, tmp_path):
    workdir, other = frozen
    run = Entail(pretrained.load_config(Entail, overrides=[*SMALL, f"model.encoder.from={workdir}"]), tmp_path)
    run.prepare()
    assert run.config.model.encoder.pretrained == str(hub[0])
    assert_same(run.model.encoder.get_weights(), other.model.encoder.get_weights())
    for name in ("vocabulary.txt", "vocabulary.json"):
        assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes()


# --- what does not fit


@pytest.mark.slow
def test_only_tasks_of_whole_texts_take_it(hub, frozen):
    with pytest.raises(UserError, match=rf"has the encoder {hub[0]}, which only classify and entail take"):
        pretrained.load_config(Tag, overrides=[f"model.encoder.from={frozen[0]}"])
    with pytest.raises(ConfigError, match=r"model\.encoder\.pretrained = .*unknown key"):
        pretrained.load_config(Tag, overrides=["model.encoder.pretrained=bert"])
    with pytest.raises(UserError, match=rf"model.encoder.pretrained is 'bert', there '{hub[0]}'"):
        pretrained.load_config(Entail, overrides=[f"model.encoder.from={frozen[0]}", "model.encoder.pretrained=bert"])


@pytest.mark.slow
def test_a_run_that_begins_with_a_pretrained_one_keeps_its_keys_and_precision(frozen, tmp_path):
    begun = f"model.encoder.from={frozen[0]}"
    with pytest.raises(UserError, match=rf"{begun} has no use for model.word_dropout, model.attention; leave that out"):
        pretrained.load_config(Entail, overrides=[begun, "model.attention=last", "model.word_dropout=0.1"])
    config = pretrained.load_config(Entail, overrides=[*SMALL, begun, "training.precision=mixed_float16"])
    message = f"training.precision is mixed_float16, and the pretrained encoder of {begun} computes in float32"
    with pytest.raises(UserError, match=message):
        Entail(config, tmp_path).prepare()


def test_keys_of_other_encoders_are_refused(hub, tmp_path):
    (tmp_path / "x.toml").write_text("[model]\nattention = 'last'\nunits = 64\n")
    for changes in ([], ["data.unit=byte"]):
        changes = [f"model.encoder.pretrained={hub[0]}", "data.max_length=9", *changes]
        keys = ", ".join([*["data.unit"][: len(changes) - 2], "model.units", "model.attention"])
        with pytest.raises(UserError, match=f"={re.escape(f'{hub[0]} has no use for {keys}')}; leave that out"):
            pretrained.load_config(Entail, tmp_path / "x.toml", changes)


def test_texts_that_are_longer_than_it_reads(hub, tmp_path):
    changes = [*SMALL, f"model.encoder.pretrained={hub[0]}", "data.max_length=15"]
    message = rf"data.max_length is 15 and may be 14 at most: {hub[0]} has places for 32 pieces of words"
    with pytest.raises(UserError, match=message):
        Entail(pretrained.load_config(Entail, overrides=changes), tmp_path).prepare()


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["keras_hub", "tensorflow_text"])
def test_what_is_not_installed_is_named(frozen, tmp_path, monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    config = pretrained.load_config(Classify, overrides=[*SMALL, "model.encoder.pretrained=bert_tiny_en_uncased"])
    needs = re.escape("needs keras-hub: pip install 'kseq[pretrained]'")
    with pytest.raises(UserError, match=rf"model.encoder.pretrained=bert_tiny_en_uncased {needs}"):
        Classify(config, tmp_path).prepare()
    with pytest.raises(UserError, match=rf"vocabulary.txt, of a run with model.encoder.pretrained, {needs}"):
        program.evaluate(program.finished_run(Classify, frozen[0]))


def test_presets_that_are_none_of_these_encoders(hub, tmp_path):
    with pytest.raises(UserError, match=r"model.encoder.pretrained=\S*/nowhere cannot be loaded: "):
        WordPieces.from_preset(str(tmp_path / "nowhere"), 5)
    with pytest.raises(ValueError, match=r"the encoder '\S*/nowhere' cannot be loaded: "):
        PretrainedEncoder.from_preset(str(tmp_path / "nowhere"), 3)
    shutil.copytree(hub[0], tmp_path / "moved")
    keras_hub.models.BertTokenizer(PIECES[::-1]).save_to_preset(str(tmp_path / "moved"))
    with pytest.raises(UserError, match=r"reads by a BertTokenizer; it must read by WordPiece with \[CLS\], \[SEP\]"):
        WordPieces.from_preset(str(tmp_path / "moved"), 5)
    sizes = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64]}
    sizes |= {"stackwise_num_blocks": [1], "stackwise_num_strides": [1], "block_type": "basic_block"}
    keras_hub.models.ResNetBackbone(**sizes).save_to_preset(str(tmp_path / "pictures"))
    with pytest.raises(ValueError, match="is a ResNetBackbone, which is not of the BERT family"):
        PretrainedEncoder.from_preset(str(tmp_path / "pictures"), 3)
