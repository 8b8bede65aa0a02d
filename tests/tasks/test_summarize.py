"""The summarizing program, from files to answers, at a size that trains in seconds."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import real
from kseq import plots
from kseq.config import ConfigError, load
from kseq.data import SetEpoch
from kseq.errors import UserError
from kseq.layers import ATTENTIONS
from kseq.serving import ask
from kseq.tasks import program
from kseq.tasks.summarize import Summarize

ROOT = Path(__file__).parents[2]
TINY = (
    "data.train_count=64",
    "data.dev_count=10",
    "data.buckets=2",
    "model.units=16",
    "model.attention_units=16",
    "model.embedding_size=8",
    "model.encoder.units=8",
    "training.epochs=1",
    "training.batch_size=16",
    "sampler.width=2",
)
TEXTS = [
    "The cat Mila sleeps on the mat.",
    "The dog Rex sleeps, and the cat sees the dog.",
    "The cat Tom sees the dog.",
    "The dog Bo sleeps on the mat.",
]
SUMMARIES = ["Mila sleeps", "Rex sleeps", "Tom sees the dog", "Bo, the dog, sleeps"]
PLAIN = ["model.max_oov_words=0", "model.attention=bahdanau", "model.coverage_weight=0.0"]


def train(workdir, changes, *, resume=False):
    program.train(Summarize, workdir, load(Summarize.Config, overrides=changes), resume=resume, show=0)


def prepared(workdir, changes, path=None):
    run = Summarize(load(Summarize.Config, path, changes), workdir)
    run.prepare()
    return run


def written(run, texts):
    """The best record of each text."""
    return [best for [best] in run.answers([{"source": text} for text in texts])]


def say(monkeypatch, texts):
    """Makes the model write these texts for the examples of a split."""
    records = [[{"text": text, "score": 0.0, "tokens": text.split(), "alignment": None}] for text in texts]
    monkeypatch.setattr(Summarize, "records", lambda run, read, lengths, n=1, title=None: records)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(workdir, TINY)
    return workdir


def table(folder, texts=TEXTS, summaries=SUMMARIES):
    """Tables, and what a config says of them: words that stand twice, all names among them, are in no vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{text}\t{summary}\n" for text, summary in zip(texts, summaries, strict=True))
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_bytes(f"text\tsummary\n{lines}".encode("utf-8", "surrogateescape"))
    source = f"data.source=tsv:{folder}/{{split}}.tsv"
    return [*TINY, source, "data.buckets=1", "training.batch_size=2", "data.min_count=3"]


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "cell"), [("word", "gru"), ("character", "lstm"), ("subword", "rnn")])
def test_units_and_cells_move_by_one_line(tmp_path, unit, cell):
    if unit == "subword":
        pytest.importorskip("tensorflow_text")
    changes = [f"data.unit={unit}", f"model.cell={cell}", "training.epochs=2", "data.vocabulary_size=320"]
    train(tmp_path, [*TINY, *changes, "training.learning_rate=0.01"])
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


# --- a run


@pytest.mark.slow
def test_what_is_left_of_a_run(trained):
    assert json.loads((trained / "config.json").read_text())["model"]["max_oov_words"] == 20
    assert (trained / "log.csv").read_text().startswith("epoch,learning_rate,loss,val_rouge_l\n")
    source, target = ((trained / f"{side}_vocabulary.txt").read_text() for side in ("source", "target"))
    assert source == target and {"bicycle", "from", "‿."} <= set(source.split("\n"))
    assert len(source.split("\n")) < 80  # none of the names


@pytest.mark.slow
def test_metrics_are_those_of_the_rows(tmp_path, monkeypatch):
    """Oracle: rouge-score on the rows, and the shares counted anew with a regular expression for the words."""
    from rouge_score.rouge_scorer import RougeScorer

    run = prepared(tmp_path, TINY)
    said = ["Zita buys a boat from Zita buys a boat", "", *(f"{name} gets a boat" for name in "abcdefgh")]
    say(monkeypatch, said)
    metrics, rows = run.evaluate()
    rouge = {"rouge_1", "rouge_2", "rouge_l"}
    shares = {f"{of}{name}" for of in ("", "reference_") for name in ("novel", "repeated")}
    assert set(metrics) == rouge | {f"lead_{name}" for name in rouge} | shares | {"copied", "exact_match"}
    assert [row["prediction"] for row in rows] == said
    assert (
        metrics["rouge_l"] == run.score(said, [row["references"] for row in rows])["rouge_l"] and metrics["copied"] == 0
    )
    scorer = RougeScorer(["rouge2", "rougeL"])
    for prefix in ("", "lead_"):
        scores = [
            scorer.score(row["references"][0], " ".join(row["source"].split()[:10]) if prefix else row["prediction"])
            for row in rows
        ]
        for name, kind in (("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
            want = 100 * np.mean([score[kind].fmeasure for score in scores])
            assert metrics[prefix + name] == pytest.approx(want)
    words = [[re.findall("[a-z0-9]+", row[key].lower()) for key in ("source", "prediction")] for row in rows]
    new = [word not in source for source, text in words for word in text]
    assert metrics["novel"] == pytest.approx(np.mean(new))
    pairs = [list(itertools.pairwise(text)) for _, text in words]
    again = [pair in text[:i] for text in pairs for i, pair in enumerate(text)]
    assert metrics["repeated"] == pytest.approx(np.mean(again)) and metrics["repeated"] >= 3 / len(again)
    assert metrics["reference_repeated"] == 0 and metrics["reference_novel"] > 0.1


def test_the_words_that_are_copied_are_counted(tmp_path):
    """Of the names that a text and its summary share, Mila and Rex are said, and Tom is not."""
    run = prepared(tmp_path, table(tmp_path / "data"))
    assert {"cat", "dog", "sleeps"} <= set(run.target.vocabulary) and "Mila" not in run.target.vocabulary
    sources = [*TEXTS[:3], "The cat sleeps."]
    references = [*SUMMARIES[:3], "Zoe sleeps"]
    said = ["the cat Mila", "Rex , Rex", "Mila sees Bo", "Zoe"]
    assert run.copied(sources, said, references) == 2 / 3
    assert np.isnan(run.copied(["The cat sleeps."], ["Zoe"], ["Zoe"]))


@pytest.mark.slow
def test_a_share_of_nothing_is_no_metric(tmp_path, monkeypatch):
    """What says nothing has no new words; what is asked for is known here, down to the last word."""
    run = prepared(tmp_path, table(tmp_path / "data", ["the dog sees the cat and the dog"] * 4, ["the dog"] * 4))
    say(monkeypatch, [""] * 4)
    metrics, _ = run.evaluate()
    assert not {"copied", "novel", "repeated"} & set(metrics)
    assert metrics["rouge_l"] == metrics["reference_novel"] == 0


@pytest.mark.slow
def test_words_of_other_scripts_are_counted_where_the_config_says(tmp_path, monkeypatch):
    changes = table(tmp_path / "data", ["猫在睡觉。", "狗在睡觉。"], ["猫睡", "狗睡"])
    run = prepared(tmp_path, [*changes, "data.rouge=unicode", "data.min_count=1", "data.lead=2"])
    assert run.score(["狗睡"], [["猫睡"]])["rouge_1"] == pytest.approx(50)
    plain = prepared(tmp_path / "plain", [*changes, "data.min_count=1"])
    assert plain.score(["狗睡"], ["猫睡"])["rouge_1"] == 0
    say(monkeypatch, ["猫"] * len(run.dev))
    metrics, _ = run.evaluate()
    assert metrics["lead_rouge_1"] == pytest.approx(50)  # 猫在: one of two words, in both
    assert metrics["reference_novel"] == 0


@pytest.mark.slow
def test_prediction_writes_a_line_for_each_text(trained, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("Anna sold a boat to Bob.\n\n", encoding="utf-8")
    program.predict(
        program.finished_run(Summarize, trained, ["sampler.min_length=3"]),
        ["Bob has\ta boat", f"@{tmp_path / 'in.txt'}"],
    )
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == ["Bob has a boat", "Anna sold a boat to Bob.", ""]
    assert lines[2] == "\t" and last == f"pictures of the attention in {trained / 'predictions'}"
    assert (trained / "predictions" / "00001.png").exists()


def only_copies(run):
    """The model of a run, made to say nothing but what it looks at."""
    run.model.pointer.bias.assign([-50.0])
    return run


@pytest.mark.slow
def test_words_that_no_vocabulary_has_are_said_and_drawn(tmp_path, monkeypatch):
    """A model that does nothing but copy says the words that it looks at, known or not."""
    run = only_copies(prepared(tmp_path, [*table(tmp_path / "data"), "sampler.min_length=4", "sampler.no_repeat=0"]))
    texts = ["Zorro Quax", "Quax"]
    drawn, text_alignment = [], plots.text_alignment

    def recorded(source, words, alignments, title=""):
        drawn.append(words)
        return text_alignment(source, words, alignments, title)

    monkeypatch.setattr(plots, "text_alignment", recorded)
    lines = [run.line(*found) for found in run.predict(program.asked(run, texts), tmp_path / "drawn")]
    assert len(lines) == 2 and len(drawn) == 2
    for line, words, text in zip(lines, drawn, texts, strict=True):
        assert line == f"{text}\t{' '.join(words)}" and len(words) >= 3 and set(words) <= set(text.split())
    assert set(drawn[1]) == {"Quax"}


@pytest.mark.slow
def test_answers_do_not_depend_on_the_batch(tmp_path):
    run = only_copies(prepared(tmp_path, [*table(tmp_path / "data"), "sampler.min_length=3"]))
    texts = ["Quax sleeps on Zorro the third of Naboo.", "", "Zorro", "The cat Ixi."]
    answers = written(run, texts)
    for text, best in zip(texts, answers, strict=True):
        alone = run.ask({"source": text.encode()})
        assert alone["text"] == best["text"] and alone["score"] == pytest.approx(best["score"], abs=1e-4)
    assert answers[1]["text"] == "" and answers[2]["text"].startswith("Zorro")


@pytest.mark.slow
def test_a_plain_model_says_none_of_them(tmp_path):
    run = prepared(tmp_path, [*table(tmp_path / "data"), *PLAIN, "sampler.min_length=4"])
    assert run.model.max_oov_words == 0 and run.source.oov_words(["Quax"]) is None
    assert type(run.model.decoder.attention) is ATTENTIONS["bahdanau"]
    texts = [best["text"] for best in written(run, TEXTS)]
    assert not set(" ".join(texts).split()) & {"Mila", "Rex", "Tom", "Bo"}


@pytest.mark.slow
def test_training_asks_for_words_that_the_source_has_of_its_own(tmp_path):
    """Oracle: the ids, looked up word by word in a list. What Bo is called in his summary his text does not say."""
    texts, summaries = TEXTS, [*SUMMARIES[:3], "Bo, a Spaniel, sleeps"]
    run = prepared(tmp_path, table(tmp_path / "data", texts, summaries))
    known, want = run.text.vocabulary, set()
    for pair in zip(texts, summaries, strict=True):
        text, summary = ([word.decode() for word in run.text.tokens([side])[0].numpy()] for side in pair)
        every = [*known, *dict.fromkeys(word for word in text if word not in known)]
        target = [every.index(word) if word in every else 3 for word in summary]
        want.add((tuple(map(every.index, text)), (1, *target), (*target, 2)))
    got = set()
    for inputs, targets, _ in run.batches(SetEpoch()):
        arrays = (x.numpy() for x in (inputs["source"], inputs["tokens"], targets))
        got |= {tuple(tuple(ids[ids > 0].tolist()) for ids in row) for row in zip(*arrays, strict=True)}
    assert got == want
    assert sum(max(target) >= len(known) for *_, target in got) == 4 and sum(3 in target for *_, target in got) == 1


def test_a_run_begins_by_saying_the_words_of_summaries_as_often_as_they_do(tmp_path):
    """The start is read and never said; no vocabulary has the names, which are copied."""
    run = prepared(tmp_path, table(tmp_path / "data"))
    shares = dict(zip(run.target.vocabulary, np.exp(run.model.words.bias), strict=True))
    texts = " ".join(SUMMARIES).replace(",", " ‿,").split()
    said = [word for word in texts if word in shares] + ["</s>"] * len(SUMMARIES)
    assert {"sleeps", "dog", "‿,"} <= set(said) and "Mila" not in shares
    want = {word: (said.count(word) + 1) / (len(said) + len(shares)) for word in shares}
    assert shares == pytest.approx(want)


# --- files


@pytest.mark.parametrize(
    ("texts", "summaries", "changes", "message"),
    [
        (["caf\udce9", "x"], ["y", "z"], [], r"dev.tsv:2: not UTF-8 \(byte 4 of the line\); mend it, or set"),
        (["x\ty", "x"], ["y", "z"], [], r"dev.tsv:2: 3 field\(s\) between tabs where the first line names 2"),
        ([], [], [], r"split 'dev' has no examples"),
        (["x", "y"], ["", " "], [], r"all texts of summary in split 'dev' are empty"),
        (["x", ""], ["", "y"], [], r"no pair of train has words on both sides"),
        (TEXTS, SUMMARIES, ["data.fields.source=body"], r"there is no field 'body'; it has text, summary. Set data.f"),
        (TEXTS, SUMMARIES, ["data.dev=test"], r"test.tsv cannot be read: No such file"),
        (TEXTS, SUMMARIES, ["data.source=toy:sale"], r"data.source 'toy:sale' is not one of toy:numbers, .*toy:sales"),
        (
            TEXTS,
            SUMMARIES,
            ["training.batch_size=5", "training.xla=true"],
            r"4 examples in 1 buckets make no full",
        ),
    ],
)
def test_bad_data_stops_the_run_before_training_with_one_line(tmp_path, texts, summaries, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(tmp_path / "run", [*table(tmp_path / "data", texts, summaries), *changes])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_long_texts_and_texts_with_more_words_of_their_own_than_are_copied(tmp_path):
    long = " ".join(f"word{i}" for i in range(10_000))
    changes = [
        *table(tmp_path / "data", [long, *TEXTS], [long, *SUMMARIES]),
        "model.max_oov_words=3",
        "data.max_length=9",
    ]
    run = prepared(tmp_path, [*changes, "data.max_target_length=5"])
    source, target = (side.padded([0], n)[0] for side, n in zip(run.columns.values(), (9, 7), strict=True))
    known, unknown = len(run.text.vocabulary), 3
    assert source.tolist() == [known, known + 1, known + 2] + [unknown] * 6
    assert target.tolist() == [1, known, known + 1, known + 2, unknown, unknown, 0]  # it did not end there
    assert all(len(best["text"].split()) <= 6 for best in written(run, [long[:40_000], "Zorro"]))


# --- a run that goes on


@pytest.mark.slow
def test_a_run_that_was_cut_short_ends_in_the_same_weights(tmp_path):
    """Oracle: the run that nothing stopped."""
    changes = [*table(tmp_path / "data"), "training.epochs=2"]
    train(tmp_path / "whole", changes)

    class Killed(Exception):
        pass

    def evaluate_once(run):
        if getattr(evaluate_once, "asked", False):
            raise Killed
        evaluate_once.asked = True
        return {"rouge_l": 0.5}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Summarize, "validate", evaluate_once)
        with pytest.raises(Killed):
            train(tmp_path / "cut", changes)
    assert json.loads((tmp_path / "cut/progress.json").read_text())["epoch"] == 1
    train(tmp_path / "cut", changes, resume=True)
    whole, cut = (np.load(tmp_path / name / "last-0002.npz") for name in ("whole", "cut"))
    for one, other in zip(sorted(whole.files), sorted(cut.files), strict=True):  # numbered, as variables are
        # The last digit of a weight is now and then another one (`training.fit`). A step of Adam is 2e-3.
        np.testing.assert_allclose(whole[one], cut[other], rtol=1e-5, atol=1e-6, err_msg=one)


# --- configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data.shared=false"],
            r"model.max_oov_words copies words as they are; it needs one vocabulary, data.shared = t",
        ),
        (
            ["model.decoder=fixed", "model.coverage_weight=0"],
            r"max_oov_words copies by attention; the fixed",
        ),
        (["model.attention=bahdanau"], r"coverage_weight is for attention = coverage"),
        (["model.max_oov_words=-1"], r"model.max_oov_words = -1 \(--set\): must be at least 0"),
        (["data.lead=0"], r"data.lead = 0 \(--set\): must be at least 1"),
        (["data.rouge=french"], r"data.rouge = \"french\" \(--set\): must be 'english' or 'unicode'"),
        (["data.lower_case=source"], r"one vocabulary has one case, none or both"),
        (["model.oov_words=9"], r"model.oov_words = 9 \(--set\): unknown key, did you mean model.max_oov_words"),
    ],
)
def test_a_config_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(Summarize.Config, overrides=changes)


def test_two_vocabularies_do_where_nothing_is_copied(tmp_path):
    run = prepared(tmp_path, [*table(tmp_path / "data"), *PLAIN, "data.shared=false", "data.min_count=1"])
    assert run.text.vocabulary != run.target.vocabulary


@pytest.mark.parametrize("path", sorted((ROOT / "configs/summarize").glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path):
    assert load(Summarize.Config, path).sampler.no_repeat > 1
    assert f"--config=configs/summarize/{path.name}\n" in path.read_text()


def test_the_plain_config_differs_in_attention_alone():
    with_pointer, plain = (
        load(Summarize.Config, ROOT / f"configs/summarize/debian_synopsis{name}.toml") for name in ("", "_plain")
    )
    changes = {"attention": "bahdanau", "coverage_weight": 0.0, "max_oov_words": 0}
    assert plain == with_pointer.model_copy(update={"model": with_pointer.model.model_copy(update=changes)})


@pytest.mark.parametrize("name", ["gigaword", "cnn_dailymail"])
def test_the_configs_of_tfds_read_its_features(tmp_path, name):
    """TFDS makes up the texts; nothing is downloaded."""
    with tfds.testing.mock_data(num_examples=20, data_dir=str(tmp_path / "data")):
        run = prepared(tmp_path, [*TINY, "data.min_count=1"], ROOT / f"configs/summarize/{name}.toml")
    assert len(run.dev) == 10 and len(run.columns["source"].lengths) == 20


@pytest.mark.slow
@real.needed
def test_the_first_words_of_debians_descriptions_score_as_they_should(tmp_path, monkeypatch):
    """Figures that were measured apart from this code: ROUGE-1, 2 and L of the first ten words on dev."""
    monkeypatch.chdir(ROOT)
    changes = ["data.train_count=9", f"data.source={real.SOURCES['debian-synopsis'][0]}"]
    run = Summarize(load(Summarize.Config, "configs/summarize/debian_synopsis.toml", changes), tmp_path)
    say(monkeypatch, ["x"] * 1862)
    run.prepare()
    metrics, rows = run.evaluate()
    assert len(rows) == 1862
    lead = [metrics[f"lead_rouge_{name}"] for name in "12l"]
    assert lead == pytest.approx([32.6, 15.6, 28.8], abs=0.05)


def test_help_lists_the_flags_without_tensorflow():
    script = "import sys, runpy; sys.argv = ['summarize', '--help']\n"
    script += "try: runpy.run_module('kseq.tasks.summarize', run_name='__main__')\n"
    script += "finally: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert "--mode" in result.stdout and result.stdout.endswith("False False\n")


# --- trained


@pytest.mark.slow
@pytest.mark.parametrize("changes", [["training.xla=true"], ["training.precision=mixed_float16"]])
def test_it_trains_compiled_and_in_half_precision(tmp_path, changes):
    train(tmp_path, [*TINY, "training.epochs=2", *changes])
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_generated_texts_are_learned_and_their_names_copied_by_the_saved_model_too(tmp_path):
    """The dev split's names are in no vocabulary; the SavedModel is asked in a process without kseq and keras."""
    few = ["data.train_count=3000", "data.dev_count=100", "training.epochs=3", "training.learning_rate=4e-3"]
    train(tmp_path, few)
    program.evaluate(program.finished_run(Summarize, tmp_path))
    metrics = json.loads((tmp_path / "metrics-dev.json").read_text())
    assert metrics["rouge_l"] > 95 and metrics["copied"] > 0.95 and metrics["lead_rouge_l"] < 30
    program.export(program.finished_run(Summarize, tmp_path))
    for gives, takes in (("Yowiqua", "Hexicy"), ("Cajuh", "Wyquo")):
        text = f"Bobo met Lala at the market. On Monday {gives} sold a guitar to {takes}. Lala waited for Bobo."
        command = [sys.executable, str(Path(ask.__file__)), str(tmp_path / "export"), f"source={text}"]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
        assert f"{takes} buys a guitar from {gives}" in result.stdout
