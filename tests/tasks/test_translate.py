"""The translation program, from files to answers, at a size that trains in seconds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import kseq
import real
from kseq.config import ConfigError, load
from kseq.data import SetEpoch
from kseq.errors import UserError
from kseq.layers import CELLS
from kseq.serving import ask, check
from kseq.tasks import program
from kseq.tasks.translate import Translate

ROOT = Path(__file__).parents[2]
TINY = (
    "data.train_count=64",
    "data.dev_count=10",
    "data.test_count=6",
    "data.buckets=2",
    "model.units=16",
    "model.attention_units=16",
    "model.embedding_size=8",
    "model.encoder.units=8",
    "training.epochs=1",
    "training.batch_size=16",
    "sampler.width=2",
)
FRENCH = ["l'homme dort .", "la femme, l'homme", "un chat", "un chat dort"]
ENGLISH = ["the man sleeps .", "the woman, the man", "a cat", "a cat sleeps"]


def train(workdir, changes, *, resume=False):
    program.train(Translate, workdir, load(Translate.Config, overrides=changes), resume=resume, show=0)


def prepared(workdir, changes, path=None):
    run = Translate(load(Translate.Config, path, changes), workdir)
    run.prepare()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(workdir, TINY)
    return workdir


def files(folder, french=FRENCH, english=ENGLISH):
    """Parallel files, and what a config says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        for name, lines in (("fr", french), ("en", english)):
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{split}.{name}").write_bytes(text.encode("utf-8", "surrogateescape"))
    return [*TINY, f"data.source=text:{folder}/{{split}}.{{field}}", "data.buckets=1", "training.batch_size=2"]


# --- a run


def test_the_workdir_says_how_the_run_was_made(trained):
    assert json.loads((trained / "config.json").read_text())["model"]["units"] == 16
    assert (trained / "log.csv").read_text().startswith("epoch,learning_rate,loss,val_bleu\n")
    words = (trained / "source_vocabulary.txt").read_text().split("\n")
    assert {"cent", "vingt", "‿-‿"} <= set(words)
    assert "hundred" in (trained / "target_vocabulary.txt").read_text().split("\n")


def test_evaluation_scores_texts_as_they_are_against_references_as_they_are(trained, capsys):
    """Oracle: sacrebleu on the rows that were written."""
    program.evaluate(program.finished_run(Translate, trained))
    metrics = json.loads((trained / "metrics-dev.json").read_text())
    assert set(metrics) == {"bleu", "bleu_by_length", "exact_match", "seconds_train"}
    rows = [json.loads(line) for line in (trained / "predictions-dev.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert set(rows[0]) == {"id", "source", "prediction", "score", "exact", "references"}
    assert rows[0]["references"] == ["six hundred and one thousand four hundred and twenty-four"]
    want = sacrebleu.corpus_bleu([r["prediction"] for r in rows], [[r["references"][0] for r in rows]]).score
    assert metrics["bleu"] == pytest.approx(want)
    shown = capsys.readouterr().out
    assert "exact_match" in shown and "bleu_by_length" not in shown


def test_bleu_by_length_is_that_of_the_sentences_of_each_length(trained):
    run = Translate(load(Translate.Config, overrides=TINY), trained)
    sources = ["un", "un deux", "un deux", "l'homme dort", "un deux trois quatre"]
    texts = ["a b c d e", "a b c d e", "f g h i j", "k l m n o", "p q r s t"]
    rows = [{"source": s, "prediction": t, "references": [t]} for s, t in zip(sources, texts, strict=True)]
    rows[2]["prediction"] = "nothing of it"
    scores = run.by_length(rows)
    assert list(scores) == [1, 2, 3, 4]  # "l'homme dort" has three words
    assert [scores[n] for n in (1, 3, 4)] == pytest.approx([100] * 3)
    want = sacrebleu.corpus_bleu(["a b c d e", "nothing of it"], [["a b c d e", "f g h i j"]]).score
    assert scores[2] == pytest.approx(want)


def test_answers_keep_their_order_and_do_not_depend_on_the_batch(trained):
    run = program.finished_run(Translate, trained)
    texts = ["deux cent trente-quatre mille", "un", "", "quatre-vingts", "mille un"]
    answers = [best for [best] in run.answers([{"source": text} for text in texts])]
    for text, best in zip(texts, answers, strict=True):
        alone = run.ask({"source": text.encode()})
        assert alone["text"] == best["text"] and alone["score"] == pytest.approx(best["score"], abs=1e-4)
    assert answers[2]["text"] == ""


@pytest.mark.slow
def test_prediction_reads_texts_and_files_and_draws_where_it_looked(trained, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("cent\n\nmille\tun\n", encoding="utf-8")
    longer = ["sampler.min_length=3"]
    program.predict(
        program.finished_run(Translate, trained, longer), ["vingt-deux", f"@{tmp_path / 'in.txt'}", "x\udcffy"]
    )
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == ["vingt-deux", "cent", "", "mille un", "x\ufffdy"]
    assert lines[2] == "\t"
    assert last == f"pictures of the attention in {trained / 'predictions'}"
    with Image.open(trained / "predictions" / "00001.png") as picture:
        assert picture.width > 250 and np.ptp(np.asarray(picture)) > 0
    assert not (trained / "predictions" / "00003.png").exists()  # the empty line


def test_a_file_that_is_not_there_is_named(trained):
    with pytest.raises(UserError, match=r"none\.txt cannot be read: No such file"):
        program.predict(program.finished_run(Translate, trained), ["@none.txt"])


@pytest.mark.slow
def test_of_a_long_file_the_first_are_drawn(trained, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("deux\n" * 70, encoding="utf-8")
    run = program.finished_run(Translate, trained, ["sampler.min_length=3"])
    asked = program.asked(run, [f"@{tmp_path / 'in.txt'}"])
    assert len(list(run.predict(asked, tmp_path / "drawn"))) == 70
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 20


@pytest.mark.slow
def test_the_saved_model_answers_in_a_process_without_kseq_and_keras(trained, capsys):
    program.export(program.finished_run(Translate, trained))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out


@pytest.mark.slow
def test_the_n_best_are_the_records_of_the_run_padded(trained):
    """Oracle: `answers`; of a text that is refused there is nothing, and the others are as without it."""
    task = kseq.load(trained, ["serving.batch_size=2", "serving.max_characters=30"]).task
    texts = ["trois cent vingt", "deux", "x" * 31, "", "mille neuf cent"]
    assert task.answer(tf.constant([], tf.string))["status"].shape == (0,)
    found = {name: x.numpy() for name, x in task.n_best(tf.constant(texts)).items()}
    batch, n, time, source = found["alignment"].shape
    assert (batch, n) == (5, 2) and found["tokens"].shape == (batch, n, time) and source >= 3
    assert [x.decode() for x in found["status"]] == [
        *["ok"] * 2,
        "The text has 31 characters, and at most 30 are read",
        *["ok"] * 2,
    ]
    for row, records in zip((0, 1, 3, 4), task.answers([{"source": x} for x in texts if len(x) < 31], 2), strict=True):
        for k, record in enumerate(records):
            tokens = record["tokens"]
            assert found["text"][row, k].decode() == record["text"]
            assert found["score"][row, k] == pytest.approx(record["score"], rel=1e-4)
            assert [x.decode() for x in found["tokens"][row, k] if x] == tokens
            weights = found["alignment"][row, k, : len(tokens)]
            if record["alignment"] is None:  # there is nothing to look at
                assert not np.any(weights)
                continue
            want = record["alignment"][:, :source]
            np.testing.assert_allclose(weights[:, : want.shape[1]], want, rtol=1e-3, atol=1e-5)
            assert not np.any(found["alignment"][row, k, len(tokens) :])
    assert not found["text"][2].any() and not found["score"][2].any() and not found["alignment"][2].any()


@pytest.mark.slow
def test_the_record_has_the_source_beside_the_prediction(trained, tmp_path, monkeypatch):
    (tmp_path / "tasks/translate").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    program.evaluate(program.finished_run(Translate, trained), record_as="tiny")
    rows = (tmp_path / "tasks/translate/results.csv").read_text().splitlines()
    assert [row.split(",")[-3:-1] for row in rows[1:]] == [
        ["dev", "bleu"],
        ["dev", "exact_match"],
        ["dev", "seconds_train"],
        ["test", "bleu"],
        ["test", "exact_match"],
    ]
    samples = (tmp_path / "tasks/translate/samples/tiny.md").read_text().splitlines()
    assert samples[2] == "|  | id | source | prediction | a reference |" and samples[3].count("---") == 5
    assert "| dev-00000 | six cent un mille quatre cent vingt-quatre |" in samples[4]


# --- files


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A run on four sentences, and its config."""
    folder = tmp_path_factory.mktemp("sentences")
    changes = [*files(folder / "data"), "data.lower_case=source"]
    train(folder / "run", changes)
    return folder / "run", changes


@pytest.mark.slow
def test_pairs_with_an_empty_side_are_left_out_of_training_and_scored_on_dev(tmp_path, capsys):
    changes = files(tmp_path / "data", [*FRENCH, "", " \u00a0", "rien"], [*ENGLISH, "nothing", "", ""])
    run = prepared(tmp_path, changes)
    assert "pairs of train with an empty side, left out: 3" in capsys.readouterr().out
    assert len(run.columns["source"].lengths) == 4 and len(run.dev) == 7
    assert [row["prediction"] for row in run.evaluate()[1]][4:6] == ["", ""]


@pytest.mark.slow
def test_only_empty_pairs_are_no_corpus(tmp_path):
    with pytest.raises(UserError, match=r"data/\{split\}.\{field\}: no pair of train has words on both sides"):
        prepared(tmp_path, files(tmp_path / "data", ["", "x"], ["y", ""]))


@pytest.mark.slow
def test_a_long_line_is_cut_and_a_nul_is_a_sign_of_its_own(tmp_path, capsys):
    long = " ".join(["mot"] * 10_000)
    changes = files(tmp_path / "data", [long, "a\x00b", *FRENCH], ["word " * 10_000, "a\x00b", *ENGLISH])
    changes += ["data.max_length=7", "data.max_target_length=5", f"data.cache={tmp_path}/cache"]
    for workdir in ("first", "again"):  # which reads the cache, and says the same
        run = prepared(tmp_path / workdir, changes)
        out = capsys.readouterr().out
        assert "\nsources of train cut off at 7 tokens: 1\n" in f"\n{out}"
        assert "\ntargets of train cut off at 5 tokens, without an end token: 1\n" in out
    assert run.columns["source"].lengths[:2].tolist() == [7, 3]
    word, end = run.target.vocabulary.index("word"), 2
    assert run.columns["tokens"][0].tolist() == [1] + [word] * 5 and run.columns["tokens"][1][-1] == end
    batches = [[part.numpy().tolist() for part in batch[1:]] for batch in run.batches(SetEpoch())]
    rows = [row for batch in batches for row in zip(*batch, strict=True)]
    [(targets, weights)] = [row for row in rows if row[0][0] == word]
    assert targets == [word] * 5 + [0] * (len(targets) - 5)  # no end
    assert weights == [1] * 5 + [0] * (len(targets) - 5)
    assert "\ufffd" in "".join(run.text.vocabulary)
    answers = run.answers([{"source": long}, {"source": "a\x00b"}])
    assert all(len(best["text"].split()) <= 6 for [best] in answers)


@pytest.mark.parametrize(
    ("french", "english", "changes", "message"),
    [
        (FRENCH[:2], ENGLISH, [], r"as many lines each; .*dev.fr has 2, .*dev.en has 4"),
        (["caf\udce9", *FRENCH[1:]], ENGLISH, [], r"dev.fr:1: not UTF-8 \(byte 4 of the line\); mend it, or set"),
        ([], [], [], r"split 'dev' has no examples"),
        (FRENCH, ENGLISH, ["data.source=text:none/{split}.{field}"], r"none/dev.fr cannot be read: No such file"),
        (FRENCH, ENGLISH, ["data.source=text:{split}"], r"must hold \{field\}, which stands for fr and en in turn"),
        (FRENCH, ENGLISH, ["data.dev=test"], r"test.fr cannot be read: No such file"),
        (
            FRENCH,
            ENGLISH,
            ["training.batch_size=5", "training.xla=true"],
            r"4 examples in 1 buckets make no full batch",
        ),
        (FRENCH, ENGLISH, ["data.holdout=1e-9"], r"data.holdout=1e-09 leaves no example for dev; raise it"),
        (FRENCH, ENGLISH, ["model.bridge=copy", "model.units=9"], r"model: .*use DenseBridge, whose weights join"),
        (FRENCH, ENGLISH, ["model.attention=dot", "model.units=9"], r"model: .*dot attention needs a query and"),
    ],
)
def test_bad_data_stops_the_run_before_training_with_one_line(tmp_path, french, english, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(tmp_path / "run", [*files(tmp_path / "data", french, english), *changes])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_bad_bytes_are_read_as_the_config_says(tmp_path):
    changes = files(tmp_path / "data", ["caf\udce9", *FRENCH[1:]])
    run = prepared(tmp_path, [*changes, "data.bad_bytes=latin-1"])
    assert "café" in run.text.vocabulary and run.dev[0][1]["source"] == "café"


@pytest.mark.slow
def test_dev_may_be_held_out_of_train(tmp_path):
    french, english = ([f"{word} {i}" for i in range(200)] for word in ("un", "one"))
    changes = [*files(tmp_path / "data", french, english), "data.holdout=0.2", "data.train_count=0", "data.dev_count=0"]
    run = prepared(tmp_path, changes)
    assert 20 < len(run.dev) < 60 and len(run.columns["source"].lengths) == 200 - len(run.dev)


def test_the_corpus_belongs_to_the_content_of_the_files_and_to_how_they_are_read(tmp_path):
    def digest(folder, *changes, lines=FRENCH):
        run = Translate(load(Translate.Config, overrides=[*files(tmp_path / folder, lines), *changes]), tmp_path)
        return run.source.digest

    first = digest("one")
    assert digest("elsewhere") == digest("one", "model.units=8", "data.processes=2", "data.min_count=3") == first
    others = [
        digest("one", "data.train_count=2"),
        digest("one", "data.fields.source=en"),
        digest("b", lines=FRENCH[::-1]),
    ]
    others += [digest("one", "data.holdout=0.5"), digest("one", "data.bad_bytes=replace")]
    assert len({first, *others}) == 6


@pytest.mark.slow
def test_two_processes_learn_and_encode_as_one(tmp_path):
    changes = [*files(tmp_path / "data", [*FRENCH, ""], [*ENGLISH, "nothing"]), "data.train_count=0"]
    one, two = (
        prepared(tmp_path / name, [*changes, f"data.cache={tmp_path}/{name}/cache", f"data.processes={name}"])
        for name in ("1", "2")
    )
    assert one.fingerprints() == two.fingerprints()
    for name in ("source", "tokens"):
        assert [row.tolist() for row in one.columns[name]] == [row.tolist() for row in two.columns[name]]


@pytest.mark.slow
def test_one_vocabulary_can_serve_both_sides(tmp_path):
    run = prepared(tmp_path, [*files(tmp_path / "data"), "data.shared=true", "data.max_target_length=2"])
    assert run.text.vocabulary == run.target.vocabulary and {"homme", "man"} <= set(run.text.vocabulary)
    assert run.columns["tokens"].lengths.max() == 4 and run.columns["source"].lengths.max() == 5


@pytest.mark.parametrize(("lower_case", "both"), [("source", False), ("both", True), ("none", None)])
def test_letters_are_made_small_where_the_config_says(tmp_path, lower_case, both):
    changes = files(tmp_path / "data", ["Un Chat"] * 4, ["A Cat"] * 4)
    run = prepared(tmp_path, [*changes, f"data.lower_case={lower_case}"])
    assert ("Un" in run.text.vocabulary) == (both is None) and ("A" in run.target.vocabulary) == (not both)
    assert run.dev[0][1]["target"] == "A Cat"


@pytest.mark.slow
def test_an_unknown_word_is_replaced_by_the_word_that_was_looked_at(sentences, tmp_path):
    """A model that says nothing but the unknown word, four times: its answer is made of the source's words."""
    workdir, _ = sentences
    run = program.finished_run(Translate, workdir, ["sampler.replace_unknown=true", "sampler.width=1"])
    end, unknown = 2, 3
    run.model.words.kernel.assign(run.model.words.kernel * 0)
    run.model.words.bias.assign(np.eye(len(run.target.vocabulary), dtype="float32")[unknown] * 50)
    read = run.source.read(["un Zèbre vert"])
    text, found = run.write(read)
    looks = np.asarray(found.alignments)[0, 0]
    words = [read.tokens.numpy()[0][i].decode() for i in looks.argmax(-1)]
    assert set(np.asarray(found.ids)[0, 0]) == {unknown} and text.numpy()[0, 0].decode() == " ".join(words)
    assert set(words) <= {"un", "zèbre", "vert"} and end not in np.asarray(found.ids)
    plain = program.finished_run(Translate, workdir, ["sampler.width=1"])
    plain.model.words.kernel.assign(run.model.words.kernel)
    plain.model.words.bias.assign(run.model.words.bias)
    assert unknown not in np.asarray(plain.write(plain.source.read(["un Zèbre vert"]))[1].ids)


@pytest.mark.slow
def test_a_vocabulary_of_another_run_is_found_out(sentences):
    workdir, _ = sentences
    path = workdir / "target_vocabulary.txt"
    words = path.read_text().splitlines()
    try:
        path.write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
        with pytest.raises(UserError, match=r"target_vocabulary.txt is not what the run was trained with"):
            program.evaluate(program.finished_run(Translate, workdir))
        path.write_text("no vocabulary\n")
        with pytest.raises(UserError, match=r"target_vocabulary.txt is not what the run was trained with"):
            program.evaluate(program.finished_run(Translate, workdir))
        path.unlink()
        with pytest.raises(UserError, match=r"target_vocabulary.txt cannot be read: No such file"):
            program.evaluate(program.finished_run(Translate, workdir))
    finally:
        path.write_text("\n".join(words) + "\n")
    with pytest.raises(UserError, match=r"source_vocabulary.txt was made with unit = .word.*asks for unit = .char"):
        program.finished_run(Translate, workdir, ["data.unit=character"])


def test_a_run_that_goes_on_keeps_its_vocabulary(sentences):
    workdir, changes = sentences
    before = (workdir / "source_vocabulary.txt").read_bytes()
    source = Path(changes[len(TINY)].partition("text:")[2].replace("{split}.{field}", "train.fr"))
    lines = source.read_text()
    try:
        source.write_text(lines.replace("chat", "chien"))
        train(workdir, changes, resume=True)
    finally:
        source.write_text(lines)
    assert (workdir / "source_vocabulary.txt").read_bytes() == before


# --- configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.fields.text=c"], r"unknown key, did you mean data.fields.target\?"),
        (["data.fields.source="], r"data.fields.source = \"\" \(--set\): must have at least 1 character"),
        (["data.shared=true", "data.lower_case=source"], r"one vocabulary has one case, none or both"),
        (["model.decoder=fixed", "model.bridge=zero"], r"bridge = zero brings nothing"),
        (["model.coverage_weight=1.0"], r"coverage_weight is for attention = coverage"),
        (["sampler.min_length=62"], r"sampler.min_length is 62, and no text has more than 61"),
        (["model.decoder=fixed", "sampler.replace_unknown=true"], r"goes by the attention; the fixed decoder has none"),
    ],
)
def test_a_config_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Translate.Config, overrides=changes)


@pytest.mark.parametrize(
    ("unit", "lengths"), [("word", (60, 60)), ("character", (300, 300)), ("byte", (400, 400)), ("subword", (100, 100))]
)
def test_how_much_is_read_goes_by_the_unit(unit, lengths):
    assert load(Translate.Config, overrides=[f"data.unit={unit}"]).data.lengths() == lengths
    changes = [f"data.unit={unit}", "data.max_length=9", "data.max_target_length=5"]
    assert load(Translate.Config, overrides=changes).data.lengths() == (9, 5)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/translate").glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path):
    assert load(Translate.Config, path).sampler.width > 1
    assert f"--config=configs/translate/{path.name}\n" in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ted_hrlr_translate", "wmt14_translate"])
def test_the_configs_of_tfds_read_its_features(tmp_path, name):
    """TFDS makes up the texts; nothing is downloaded. Subwords need an extra, words do not."""
    small = [*TINY, "model.layers=1", "data.unit=word", "data.min_count=1"]
    with tfds.testing.mock_data(num_examples=20, data_dir=str(tmp_path / "data")):
        run = prepared(tmp_path, small, ROOT / f"configs/translate/{name}.toml")
    assert len(run.dev) == 10 and len(run.columns["source"].lengths) == 20


@pytest.mark.slow
@real.needed
def test_real_sentences_are_read_and_come_back_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    source = f"data.source={real.SOURCES['multi30k'][0]}"
    small = [*TINY, source, "data.train_count=2000", "data.min_count=1", "data.lower_case=none"]
    run = prepared(tmp_path, small, "configs/translate/multi30k.toml")
    sides = zip((run.text, run.target), ("source", "target"), strict=True)
    for text, side in sides:
        texts = [pair[side] for _, pair in run.examples("train")]
        kept = [t.decode() for t in text.text(text.ids(texts).to_tensor()).numpy()]
        assert np.mean([" ".join(t.split()) == k for t, k in zip(texts, kept, strict=True)]) > 0.99


# --- models


MODELS = [
    ["model.decoder=luong", "model.attention=luong", "model.cell=lstm"],
    ["model.decoder=fixed", "model.cell=rnn"],
    ["model.decoder=luong", "model.attention=dot", "model.input_feeding=false", "model.encoder.cell=rnn"],
    ["model.attention=coverage", "model.coverage_weight=0.5", "sampler.coverage_penalty=0.3"],
    ["model.layers=2", "model.residual=true", "model.encoder.layers=2", "model.encoder.residual=true"],
    ["model.bridge=copy", "model.cell=lstm", "model.layers=2", "model.encoder.layers=2"],
    ["model.bridge=zero", "model.encoder.bidirectional=false", "sampler.no_repeat=1", "sampler.min_length=4"],
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [*MODELS[:2], *(pytest.param(changes, marks=pytest.mark.slow) for changes in MODELS[2:])]
)
def test_one_line_of_the_config_changes_the_model(tmp_path, changes):
    """Each part that the config can name writes a sentence for each of dev."""
    run = prepared(tmp_path, [*files(tmp_path / "data"), *changes])
    config = run.config.model
    cell = run.model.decoder.cell
    assert type(cell.cells[0] if config.layers > 1 else cell) is CELLS[config.cell]
    read = run.source.read([pair["source"] for _, pair in run.dev])
    _, found = run.write(read)
    looks = np.asarray(found.alignments)[:, 0]
    assert np.all(np.isfinite(found.scores)) and np.any(looks) == (config.decoder != "fixed")
    assert looks.shape[-1] == read.tokens.shape[1]
    ids = np.asarray(found.ids)[:, 0]
    if run.config.sampler.no_repeat:
        assert all(len(set(row[row > 0])) == np.sum(row > 0) >= 4 for row in ids)


def test_batches_hold_what_was_read(sentences):
    workdir, changes = sentences
    run = prepared(workdir, changes)
    pairs = set()
    for inputs, targets, _ in run.batches(SetEpoch()):
        for read, written in zip(inputs["source"].numpy(), targets.numpy(), strict=True):
            pairs.add((" ".join(run.text.words(read)), " ".join(run.target.words(written))))
    assert ("un chat", "a cat") in pairs and ("l'‿ homme dort .", "the man sleeps .") in pairs and len(pairs) == 4


def test_help_lists_the_flags_without_tensorflow():
    script = "import sys, runpy; sys.argv = ['translate', '--help']\n"
    script += "try: runpy.run_module('kseq.tasks.translate', run_name='__main__')\n"
    script += "finally: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert "--mode" in result.stdout and result.stdout.endswith("False False\n")


@pytest.mark.slow
def test_runs_are_drawn_together(trained, tmp_path):
    script = str(ROOT / "tasks/translate/lengths.py")
    program.evaluate(program.finished_run(Translate, trained))
    command = [sys.executable, script, str(trained), "--out", str(tmp_path / "lengths.png")]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    with Image.open(tmp_path / "lengths.png") as picture:
        assert picture.width > 300
    command[2] = str(tmp_path)
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 1 and re.search("has no BLEU by length", result.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "cell"), [("word", "rnn"), ("character", "gru"), ("subword", "lstm")])
def test_units_and_cells_move_by_one_line(tmp_path, unit, cell):
    """Each trains, its loss falls, and what was saved of it answers."""
    if unit == "subword":
        pytest.importorskip("tensorflow_text")
    changes = [*TINY, f"data.unit={unit}", f"model.cell={cell}", "training.epochs=2", "data.vocabulary_size=320"]
    train(tmp_path, [*changes, "training.learning_rate=0.01"])
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]
    run = program.finished_run(Translate, tmp_path)
    program.evaluate(run)
    if cell == "gru":
        program.export(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [["training.precision=mixed_float16"], ["training.precision=mixed_bfloat16"], ["training.xla=true"]],
    ids=["float16", "bfloat16", "compiled"],
)
def test_it_trains_compiled_and_in_half_precision_and_exports_to_the_same_answers(tmp_path, monkeypatch, changes):
    """The export is asked in a process that has no device but the CPU, and answers what the run answers."""
    train(tmp_path / "run", [*TINY, "data.buckets=1", "training.epochs=2", *changes])
    history = json.loads((tmp_path / "run" / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]
    translator = kseq.load(tmp_path / "run")
    dev = [pair["source"] for _, pair in translator.task.dev]
    sources = [{"source": text} for text in dev]
    monkeypatch.setattr(translator.task, "some_of_dev", lambda: list(zip(dev, sources, strict=True)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    translator.export(tmp_path / "export")
    version = tmp_path / "export" / "1"
    asked = [text.decode() for text in check.read_requests(version / check.WARMUP)[-1]["source"]]
    assert set(asked) == set(dev)
    answers, wanted = json.loads((version / check.ANSWERS).read_text())[-1], translator(asked, details=True)
    assert answers["text"] == [record["text"] for record in wanted]
    assert answers["score"] == pytest.approx([record["score"] for record in wanted], abs=1e-3)


@pytest.mark.slow
def test_generated_numbers_are_learned_and_the_saved_model_says_others(tmp_path):
    """No number of dev is in the training data; the SavedModel is asked in a process without kseq and keras."""
    sizes = ["model.units=64", "model.encoder.units=64", "model.attention_units=64", "training.batch_size=64"]
    few = ["data.train_count=5000", "data.dev_count=200", "training.epochs=4", "training.learning_rate=3e-3"]
    train(tmp_path, [*sizes, *few])
    run = program.finished_run(Translate, tmp_path)
    program.evaluate(run)
    metrics = json.loads((tmp_path / "metrics-dev.json").read_text())
    assert metrics["bleu"] > 98 and metrics["exact_match"] > 0.95
    program.export(run)
    unseen = [json.loads(line) for line in (tmp_path / "predictions-dev.jsonl").read_text().splitlines()]
    number = max((row for row in unseen if row["exact"]), key=lambda row: len(row["source"]))
    command = [sys.executable, str(Path(ask.__file__)), str(tmp_path / "export"), f"source={number['source']}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert number["references"][0] in result.stdout


def test_a_run_answers_in_python_as_the_saved_model_does(trained):
    """Oracle: the function that serving_default serves."""
    run, texts = kseq.load(trained), ["deux", "vingt-deux", ""]
    served = [text.decode() for text in run.task.answer(texts)["text"].numpy()]
    assert run(texts) == served and run("deux") == served[0]
    records = run("deux", n=2, details=True)
    assert records[0]["text"] == served[0] and records[0]["score"] >= records[1]["score"]
    assert records[0]["alignment"].shape == (len(records[0]["tokens"]), 1)
    assert kseq.load(trained, ["sampler.min_length=3"]).show("vingt-deux") is not None
    source, target = run.preprocessor
    assert (source, target) == (run.task.source.text, run.task.target)


def test_the_tflite_file_of_a_run_writes_what_the_run_writes(trained, tmp_path):
    """Oracle: the run itself with a width of 1; texts become ids by what lies beside the file."""
    translator = kseq.load(trained, ["sampler.width=1"])
    translator.export_lite(tmp_path / "lite", length=9)
    model = kseq.lite.Lite(tmp_path / "lite")
    assert model.about["task"] == "translate" and model.about["inputs"] == {"source": [1, 9]}
    read, write = (
        kseq.preprocessors.TextPreprocessor.load(tmp_path / "lite" / f"{side}_vocabulary.txt")
        for side in ("source", "target")
    )
    for text in ("deux cent trente-quatre", "un"):
        found = model(source=read.ids([text]).to_tensor(shape=[1, 9]))
        assert write.text(found["ids"]).numpy()[0].decode() == translator(text)
    (tmp_path / "lite" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt was written by no export"):
        translator.export_lite(tmp_path / "lite", length=9)
    with pytest.raises(UserError, match="length must be a whole number of 1 to 60"):
        translator.export_lite(tmp_path / "other", length=61)
    assert not (tmp_path / "other").exists()
