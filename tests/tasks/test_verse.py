"""The verse program, from lines to lines of the same length, at a size that trains in seconds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kseq
import real
from kseq.config import ConfigError, load
from kseq.errors import UserError
from kseq.tasks import program
from kseq.tasks.verse import Verse

ROOT = Path(__file__).parents[2]
SMALL = (
    "model.units=16",
    "model.attention_units=8",
    "model.embedding_size=8",
    "model.encoder.units=8",
    "training.epochs=1",
    "training.batch_size=16",
    "data.buckets=1",
)
TINY = (*SMALL, "data.train_count=64", "data.dev_count=40", "data.test_count=40")


def train(workdir, changes, *, resume=False):
    program.train(Verse, workdir, load(Verse.Config, overrides=changes), resume=resume, show=0)


def prepared(workdir, changes):
    run = Verse(load(Verse.Config, overrides=changes), workdir)
    run.prepare()
    return run


def table(folder, pairs):
    """A table of couplets, the same for train and dev, and what a config says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        lines = ["above\tbelow", *("\t".join(pair) for pair in pairs)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = [f"data.source=tsv:{folder}/{{split}}.tsv", "data.unit=character"]
    return [*SMALL, *source, "data.fields={source = 'above', target = 'below'}"]


def couplets(count=12):
    """Pairs of lines of three characters out of fifteen, a different pair each."""
    rng, characters = np.random.default_rng(0), "天地玄黃宇宙洪荒日月盈昃辰宿列"
    return [["".join(rng.choice(list(characters), 3, replace=False)) for _ in range(2)] for _ in range(count)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(workdir, TINY)
    return workdir


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chinese")
    return prepared(folder / "run", [*table(folder / "data", couplets()), "data.sounds=pinyin"])


# --- a run


def test_evaluation_reports_length_perplexity_and_choices(trained):
    program.evaluate(program.finished_run(Verse, trained))
    for split in ("dev", "test"):
        metrics = json.loads((trained / f"metrics-{split}.json").read_text())
        assert set(metrics) - {"seconds_train"} == {
            "perplexity",
            "picked",
            "posterior",
            "equal_length",
            "exact_match",
        }
        assert metrics["equal_length"] == 1 and 0 <= metrics["picked"] <= 1 < metrics["perplexity"]
    assert (trained / "log.csv").read_text().startswith("epoch,learning_rate,loss,val_perplexity,val_picked,val_post")


def test_perplexity_and_choices_are_those_of_the_model_step_by_step(trained):
    """Oracle: `Seq2Seq.step`, a token at a time, and Bayes' rule written out, line by line."""
    run = program.finished_run(Verse, trained)
    examples = run.dev
    sources, lines = run.lines(examples)
    candidates = run.candidates(lines)
    log_prob = {}  # of (number of the line above, number of the line below)
    for k, line in enumerate(lines):
        rows = [i for i, source in enumerate(sources) if len(source) == len(line)]
        states, memory = run.model.encode(np.stack([sources[i] for i in rows]))
        totals, token = np.zeros(len(rows)), 1
        for after in line:
            logits, states, _ = run.model.step(np.repeat(token, len(rows)), states, memory)
            logits = np.array(logits, "float64")
            totals += logits[:, after] - np.log(np.exp(logits).sum(axis=1))
            token = after
        log_prob.update({(i, k): total for i, total in zip(rows, totals, strict=True)})

    def ratio(i, k):
        """p(y_k | x_i) / p(y_k)."""
        return np.exp(log_prob[i, k]) / np.mean([np.exp(log_prob[other, k]) for other in candidates[k]])

    found = run.choices(examples)
    true = [log_prob[i, i] for i in range(len(lines))]
    assert found["perplexity"] == pytest.approx(np.exp(-np.sum(true) / sum(map(len, lines))), rel=1e-4)
    tens = np.array([[ratio(i, k) for k in (i, *others)] for i, others in candidates.items()])
    assert found["picked"] == np.mean(tens.argmax(axis=1) == 0)
    assert found["posterior"] == pytest.approx(np.mean(tens[:, 0] / tens.sum(axis=1)), rel=1e-4)


def test_the_nine_others_are_different_lines_of_the_same_length_and_always_the_same(trained):
    run = program.finished_run(Verse, trained)
    _, lines = run.lines(run.dev)
    candidates = run.candidates(lines)
    assert candidates == run.candidates(lines) and len(candidates) > 10
    for i, others in candidates.items():
        texts = {tuple(lines[k]) for k in (i, *others)}
        assert len(texts) == 10 and {len(text) for text in texts} == {len(lines[i])}


@pytest.mark.parametrize(
    "changes", [[], ["sampler.width=1"], ["sampler.method=random", "sampler.width=1", "sampler.n=5"]]
)
def test_every_answer_has_the_length_of_its_line(trained, changes):
    run = kseq.load(trained, changes)
    lines = ["spring moon sleeps", "", "zebra zebra unheard moon", "one", "autumn one cloud sun comes red hill"]
    for line, answers in zip(lines, run(lines, n=1 if "sampler.width=1" in changes[:1] else 3), strict=True):
        for answer in answers:
            words, above = answer.split(), line.split()
            assert len(words) == len(above)
            assert not any(a == b for a, b in zip(words, above, strict=True))


@pytest.mark.slow
def test_characters_obey_tones_repetitions_and_rhyme(chinese):
    """By the table itself: 平 against 仄 at the second place, an answered repetition, a rhyme at the end."""
    rules = ["sampler.opposed=[2]", "sampler.rhyme=true", "data.sounds=pinyin"]
    config = load(Verse.Config, overrides=rules, base=chinese.config.model_dump(mode="json"))
    run = Verse(config, chinese.workdir)
    run.restore()
    run.model = chinese.model
    tones, rhymes = (dict(zip(run.target.vocabulary, table, strict=True)) for table in run.sounds)
    lines = ["天地玄", "日月日", "列宿盈", "龍宙荒"]  # the dragon is unknown
    for line, [record] in zip(lines, run.answers([{"source": line} for line in lines]), strict=True):
        text = record["text"]
        assert len(text) == len(line) and not any(map(str.__eq__, text, line))
        assert {tones[text[1]], tones[line[1]]} == {1, 2}
        assert rhymes[text[-1]] == rhymes[line[-1]] or line == "日月日"
        assert (text[0] == text[2]) == (line[0] == line[2])


@pytest.mark.slow
def test_the_share_of_opposed_tones_is_counted_where_both_have_one(chinese):
    """By hand: 地 dì and 月 yuè are oblique, 天 tiān and 黃 huáng level; the dragon is unknown."""
    assert chinese.opposed_tones(["玄地", "玄天", "玄龍"], ["日黃", "日黃", "日月"]) == 0.5
    assert np.isnan(chinese.opposed_tones(["玄"], ["日"]))


def test_the_share_of_rhymes_is_counted_where_both_have_one(chinese):
    """By hand: 荒 huāng rhymes with 黃 huáng, and 宿 sù does not with 宇 yǔ; the dragon is unknown."""
    assert chinese.rhymed(["天荒", "天宿", "天龍", ""], ["日黃", "日宇", "日黃", "日"]) == 0.5
    assert np.isnan(chinese.rhymed(["龍"], ["荒"]))
    assert chinese.opposed_tones(["天荒"], ["地黃"]) == 0  # rhymes, and both level


def test_a_line_that_is_too_long_is_named(trained):
    run = kseq.load(trained)
    with pytest.raises(UserError, match=r"^example 2: The line has 41 tokens, and at most 40 are answered$"):
        run(["red", "red " * 41])


@pytest.mark.slow
def test_the_saved_model_answers_with_a_line_as_long(trained, capsys):
    program.export(program.finished_run(Verse, trained, ["sampler.width=3"]))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out
    exported = kseq.load(trained / "export")
    assert [len(text.split()) for text in exported(["spring moon", "", "a b c d e"])] == [2, 0, 5]


# --- files


def test_unequal_lines_are_left_out_of_training_and_refused_in_dev(tmp_path, capsys):
    changes = table(tmp_path / "data", couplets())
    with open(tmp_path / "data/train.tsv", "a", encoding="utf-8") as file:
        file.write("天地玄黃\t宇宙\n天\t\n")
    run = prepared(tmp_path / "run", changes)
    assert "pairs of train with lines of unequal length, left out: 2" in capsys.readouterr().out
    assert len(run.columns["source"].lengths) == 12
    with open(tmp_path / "data/dev.tsv", "a", encoding="utf-8") as file:
        file.write("天地玄黃\t宇宙\n")
    with pytest.raises(UserError, match=r"dev.tsv:14: the lines have 4 and 2 tokens; a couplet has as many in both"):
        prepared(tmp_path / "again", changes)


@pytest.mark.parametrize(
    ("pairs", "changes", "message"),
    [
        (couplets(9), [], r"dev has no 10 different next lines of one length, among which to pick the true one"),
        (couplets(), ["data.max_length=2"], r"dev.tsv:2: a line of 3 tokens, and data.max_length is 2; its end would"),
        (couplets(), ["data.sounds=none.tsv"], r"none.tsv cannot be read: No such file"),
    ],
)
def test_bad_data_stops_the_run_before_training(tmp_path, pairs, changes, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "run", [*table(tmp_path / "data", pairs), *changes])


def test_no_line_of_one_split_is_in_another(tmp_path):
    """Lines in chains, each the answer to the one before: a chain stays together."""
    names = [f"{a}{b}{c}" for a in "天地玄黃" for b in "宇宙洪荒" for c in "日月盈昃"]
    pairs = [pair for k in range(0, 64, 2) for pair in (names[k : k + 2], (names[k + 1], names[k]))]
    run = Verse(load(Verse.Config, overrides=[*table(tmp_path, pairs), "data.holdout=0.4"]), tmp_path / "run")
    train, dev = ({text for _, pair in run.examples(split) for text in pair.values()} for split in ("train", "dev"))
    assert train and dev and not train & dev


# --- configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["sampler.opposed=[2]"],
            "sampler.opposed goes by the sound of the tokens; set data.sounds = 'pinyin' or a TSV",
        ),
        (["sampler.rhyme=true"], "sampler.rhyme goes by the sound of the tokens"),
        (["sampler.opposed=[0]", "data.sounds=pinyin"], "opposed names places from 1 on, and has 0"),
        (["sampler.no_repeat=1"], "no_repeat has no use here: the line above decides how long the next is"),
        (["sampler.min_length=3"], "min_length has no use here"),
        (["sampler.required=['moon']"], "required has no use here"),
        (["sampler.replace_unknown=true"], "replace_unknown has no use here"),
        (["data.max_target_length=3"], "max_target_length has no use here: both lines are equally long"),
        (["data.shared=false"], "data.shared = false"),
        (["data.unit=byte"], "must be 'word' or 'character'"),
        (["model.max_oov_words=3"], "max_oov_words has no use here"),
        (["training.scheduled_sampling=0.2"], "training.scheduled_sampling does not go with model.aligned = true"),
    ],
)
def test_a_config_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        load(Verse.Config, overrides=changes)
    assert message in str(error.value)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/verse").glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path):
    assert load(Verse.Config, path).data.unit == "character"
    assert f"--config=configs/verse/{path.name}\n" in path.read_text()


@real.needed
def test_tang_couplets_are_read(tmp_path):
    source = f"data.source=tsv:{real.FOLDER}/tang-couplets/{{split}}.tsv.gz"
    config = load(Verse.Config, ROOT / "configs/verse/tang_couplets.toml", [source, "data.test_holdout=0"])
    where, first = next(iter(Verse(config, tmp_path).examples("dev")))
    assert where.endswith("dev.tsv.gz:1") and first == {"source": "紅輪不暫駐", "target": "烏飛豈復停"}


def test_help_lists_the_flags_without_tensorflow():
    script = "import sys, runpy; sys.argv = ['verse', '--help']\n"
    script += "try: runpy.run_module('kseq.tasks.verse', run_name='__main__')\n"
    script += "finally: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert "--mode" in result.stdout and result.stdout.endswith("False False\n")


# --- trained


@pytest.mark.slow
def test_generated_couplets_are_learned(tmp_path):
    train(tmp_path, ["data.dev_count=200", "data.test_count=200"])
    program.evaluate(program.finished_run(Verse, tmp_path))
    metrics = json.loads((tmp_path / "metrics-dev.json").read_text())
    assert metrics["exact_match"] >= 0.98 and metrics["picked"] >= 0.98 and metrics["equal_length"] == 1
