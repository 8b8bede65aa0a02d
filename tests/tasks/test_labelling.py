"""The programs whose answers are labels, from files to answers, at a size that trains in seconds."""

import csv
import html.parser
import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import kseq
from kseq.checkpoints import PROGRESS
from kseq.config import ConfigError, load
from kseq.data import SetEpoch
from kseq.errors import UserError
from kseq.layers import CELLS
from kseq.preprocessors import UNKNOWN
from kseq.tasks import labelling, program, results
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail
from kseq.tasks.labelling import OneLabel, balanced_weights
from kseq.tasks.tag import Tag

ROOT = Path(__file__).parents[2]
TASKS = {"classify": Classify, "tag": Tag, "entail": Entail}
TINY = (
    "data.train_count=64",
    "data.dev_count=24",
    "data.test_count=10",
    "data.buckets=1",
    "model.units=8",
    "model.attention_units=4",
    "model.embedding_size=6",
    "training.epochs=1",
    "training.batch_size=32",
)
METRICS = {
    "classify": {"accuracy", "macro_f1", "confusion", "seconds_train"},
    "entail": {"accuracy", "macro_f1", "confusion", "seconds_train"},
    "tag": {"span_f1", "intent_accuracy", "accuracy", "exact_match", "confusion", "seconds_train"},
}

every_task = pytest.mark.parametrize("name", TASKS)


def train(name, workdir, changes=()):
    config = load(TASKS[name].Config, overrides=[*TINY, *changes])
    program.train(TASKS[name], workdir, config, resume=False, show=0)


def prepared(name, workdir, changes=()):
    run = TASKS[name](load(TASKS[name].Config, overrides=[*TINY, *changes]), workdir)
    run.prepare()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """{name: folder of a run on generated data}."""
    folder = tmp_path_factory.mktemp("runs")
    for name in TASKS:
        train(name, folder / name)
    return {name: folder / name for name in TASKS}


@pytest.fixture
def lines(tmp_path):
    """Writes a file of lines, or the same train.txt and dev.txt; the path of the one, or of train.txt."""

    def lines(content, *names):
        names = names or ("train.txt", "dev.txt")
        for name in names:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / names[0]

    return lines


# --- a run


@every_task
def test_evaluation_writes_metrics_and_a_row_for_each_text(name, trained, capsys):
    program.evaluate(program.finished_run(TASKS[name], trained[name]))
    metrics = json.loads((trained[name] / "metrics-dev.json").read_text())
    assert metrics.keys() == METRICS[name]
    rows = [json.loads(line) for line in (trained[name] / "predictions-dev.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and {"id", "source", "prediction", "score", "exact", "references"} <= rows[0].keys()
    right = np.mean([row["exact"] for row in rows])
    if name != "tag":
        assert metrics["accuracy"] == pytest.approx(right)
        counts = metrics["confusion"]
        assert sum(counts[label].get(label, 0) for label in counts) == sum(row["exact"] for row in rows)
    assert sum(sum(row.values()) for row in metrics["confusion"].values()) == 24
    with Image.open(trained[name] / "predictions" / "confusion-dev.png") as picture:
        assert np.ptp(np.asarray(picture)) > 0
    assert "confusion" not in capsys.readouterr().out


@pytest.mark.slow
@every_task
def test_the_saved_model_answers_in_a_process_without_kseq_and_keras(name, trained, capsys):
    program.export(program.finished_run(TASKS[name], trained[name]))
    assert "asked in a process without kseq and keras, it answers" in capsys.readouterr().out


@every_task
def test_all_labels_come_with_their_probabilities(name, trained):
    """Oracle: `answers`. The row that is refused has none, and changes nothing for the others."""
    task = kseq.load(trained[name], ["serving.max_characters=50", "serving.batch_size=2"]).task
    texts = ["make the red star", "x" * 51, "", "two of them"]
    inputs = [tf.constant(texts) for _ in task.raw]
    found = {key: x.numpy() for key, x in task.n_best(*inputs).items()}
    said = "The text has 51 characters, and at most 50 are read"
    assert [x.decode() for x in found["status"]] == ["ok", said, "ok", "ok"]
    served = {key: x.numpy() for key, x in task.answer(*inputs).items()}
    assert served["text"].tolist() == found["text"][:, 0].tolist() and served["text"][1] == b"" == found["text"][1, 0]
    labels, key = task.tables["label"], "label" if name == "tag" else "text"
    assert found[key].shape == (4, len(labels)) and sorted(x.decode() for x in found[key][0]) == sorted(labels)
    score = found["label_score" if name == "tag" else "score"]
    np.testing.assert_allclose(score.sum(axis=1), [1, 0, 1, 1], rtol=1e-5)
    assert np.all(np.diff(score, axis=1) <= 0)
    for row in (0, 2, 3):
        [records] = task.answers([dict.fromkeys(task.raw, texts[row])], 1 if name == "tag" else len(labels))
        for k, record in enumerate(records):
            assert found["text"][row, k].decode() == record["text"]
            assert found["score"][row, k] == pytest.approx(record["score"], rel=1e-4)
        if name == "tag":
            assert [x.decode() for x in found["tokens"][row, 0] if x] == texts[row].split()
            assert [x.decode() for x in found["tags"][row, 0] if x] == records[0]["tags"]
            assert found["label"][row, 0].decode() == records[0]["label"]


@pytest.mark.parametrize("name", ["classify", "tag", pytest.param("entail", marks=pytest.mark.slow)])
def test_a_line_of_a_file_is_answered_as_a_text_of_the_command_line(name, trained, lines, capsys):
    """Whatever it holds: nothing, NUL, another script, what is not UTF-8, 10,000 words."""
    texts = ["make the <b> red & blue", "", "a\0b", "我爱 北京", "caf\udce9", "word " * 10_000, "the red star"]
    sides = [f"{text}\ta claim" for text in texts] if name == "entail" else texts
    content = "\n".join(sides).encode("utf-8", "surrogateescape") + b"\n"
    path = lines(content)
    answers = []
    for inputs in ([f"@{path}"], sides):
        program.predict(program.finished_run(TASKS[name], trained[name], ["data.bad_bytes=replace"]), inputs)
        *found, last = capsys.readouterr().out.splitlines()
        assert last.startswith("pictures of the attention in ") and len(found) == len(texts)
        answers.append([line.split("\t")[1:] for line in found])
    assert answers[0] == answers[1]
    if name == "tag":
        counts = [len(tags.split()) for tags, *_ in answers[0]]
        assert counts == [6, 0, 1, 2, 1, 10_000, 3]


def test_without_inputs_some_of_dev_are_answered(trained, capsys):
    program.predict(program.finished_run(Classify, trained["classify"]), [])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4


def test_the_page_of_attention_is_html_that_holds_the_words(trained, capsys):
    """The words that weigh the most are coloured the most, and no text can add elements of its own."""
    text = 'the <script>alert(1)</script> & "star"'
    program.predict(program.finished_run(Classify, trained["classify"]), [text])
    page = (trained["classify"] / "predictions/attention.html").read_text()
    words = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert tag in ("html", "meta", "title", "style", "h1", "p", "b", "span")
            self.weight = dict(attributes).get("title")

        def handle_data(self, data):
            if getattr(self, "weight", None):
                words.append((data, float(self.weight)))
                self.weight = None

    Reader().feed(page)
    run = TASKS["classify"](load(Classify.Config, overrides=TINY), trained["classify"])
    run.load(trained["classify"] / "best-0001.npz")
    [[record]] = run.answers([{"text": text}])
    look = record["alignment"]
    assert [word for word, _ in words] == record["tokens"]
    np.testing.assert_allclose([weight for _, weight in words], look, atol=1e-3)
    assert sum(look) == pytest.approx(1, abs=1e-5)


def test_the_page_of_spans_holds_the_words_and_their_kinds(trained):
    program.predict(program.finished_run(Tag, trained["tag"]), ["put the <i> star"])
    page = (trained["tag"] / "predictions/spans.html").read_text()
    assert "&lt;i&gt;" in page and "<i>" not in page


@pytest.mark.slow
def test_tags_are_shown_as_brackets_around_their_words(tmp_path):
    run = prepared("tag", tmp_path)
    row = {"source": "put the red star away", "prediction": "O O B-object I-object O", "label": "put"}
    row |= {"references": ["O O B-colour B-object O"], "label_reference": "remove"}
    want = ("put: put the [object: red star] away", "remove: put the [colour: red] [object: star] away")
    assert run.shown(row) == want


def test_the_alignment_of_two_sentences_is_drawn(trained):
    program.predict(program.finished_run(Entail, trained["entail"]), ["the red star\tthe star is red"])
    with Image.open(trained["entail"] / "predictions/00001.png") as picture:
        assert np.ptp(np.asarray(picture)) > 0
    with pytest.raises(UserError, match="must be premise and hypothesis, with a tab between"):
        program.predict(program.finished_run(Entail, trained["entail"]), ["the red star"])


@every_task
def test_a_vocabulary_of_another_run_is_refused(name, trained, tmp_path):
    run = prepared(name, tmp_path)
    words = (tmp_path / "vocabulary.txt").read_text().splitlines()
    (tmp_path / "vocabulary.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    with pytest.raises(UserError, match=r"vocabulary.txt is not what the run was trained with, or the .json"):
        run.load(trained[name] / "best-0001.npz")


@pytest.mark.slow
@every_task
@pytest.mark.parametrize(("option", "said"), [("lower_case", "lower_case = True"), ("normalize", "normalize = 'nfc'")])
def test_options_of_a_vocabulary_that_were_changed_are_refused(name, tmp_path, option, said):
    run = prepared(name, tmp_path)
    path = tmp_path / "vocabulary.json"
    made = json.loads(path.read_text())
    made["config"]["tokenizer"]["config"][option] = {"lower_case": True, "normalize": "nfc"}[option]
    path.write_text(json.dumps(made))
    with pytest.raises(UserError, match=rf"vocabulary.txt was made with unit = .*{said}.*, the config asks for unit ="):
        run.load(tmp_path / "best-0001.npz")


@every_task
def test_the_record_is_written_by_the_program(name, trained, tmp_path, monkeypatch):
    (tmp_path / "tasks" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    program.evaluate(program.finished_run(TASKS[name], trained[name]), record_as="tiny")
    with open(tmp_path / "tasks" / name / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"] for row in rows if row["split"] == "dev"} == METRICS[name] - {"confusion"} and tuple(
        rows[0]
    ) == results.COLUMNS
    samples = (tmp_path / "tasks" / name / "samples/tiny.md").read_text()
    assert samples.count("\n| = |") + samples.count("\n| ≠ |") == 20
    assert (tmp_path / "tasks" / name / "samples/tiny/confusion.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cell", "unit"),
    [
        ("classify", "rnn", "word"),
        pytest.param("tag", "lstm", "byte", marks=pytest.mark.slow),
        pytest.param("entail", "gru", "character", marks=pytest.mark.slow),
    ],
)
def test_one_line_of_the_config_changes_the_model(name, cell, unit, tmp_path):
    """Each text of dev has an answer, each word its tag, and a batch of training is one that the model takes."""
    run = prepared(name, tmp_path, [f"model.cell={cell}", f"data.unit={unit}", "data.train_count=32"])
    layer = run.model.encoder.layer
    assert type((layer if name == "entail" else layer.forward_layer).cell) is CELLS[cell]
    inputs, targets, weights = next(iter(run.batches(SetEpoch())))
    outputs = run.model(inputs)
    parts = [run.loss(), targets, outputs, weights]
    for loss, y, logits, w in zip(*map(keras.tree.flatten, parts), strict=True):
        assert np.isfinite(loss(y, logits, w)) and logits.shape[:-1] == y.shape == w.shape
    assert all(0 <= value <= 1 for value in run.validate().values())


@pytest.mark.parametrize("roles", [1, 2])
def test_texts_of_similar_length_are_answered_in_one_batch(monkeypatch, roles):
    """Oracle: the lengths of the longest texts, sorted; each answer comes back to its own example."""
    monkeypatch.setattr(labelling, "BATCH_SIZE", 5)
    rng = np.random.default_rng(0)
    examples = [tuple("x" * n for n in lengths) for lengths in rng.integers(0, 90, (23, roles))]
    seen = []

    class Echo(OneLabel):
        def predicted(self, texts):
            assert len(texts[0]) <= 5
            seen.extend(max(map(len, example)) for example in zip(*texts, strict=True))
            return {f"{side}": tf.constant(text) for side, text in enumerate(texts)}

        def tokens(self, texts):
            return [None] * len(texts[0])

        def records(self, predicted, tokens, n):
            return [tuple(text.decode() for text in predicted.values())]

    task = Classify if roles == 1 else Entail
    monkeypatch.setattr(task, "Output", Echo)
    run = task(load(task.Config), None)
    answers = run.answers([dict(zip(run.raw, example, strict=True)) for example in examples])
    assert answers == [[example] for example in examples]
    assert seen == sorted(max(map(len, example)) for example in examples)


GRID = [  # each task with two cells and two units
    ("classify", "rnn", "subword"),
    ("classify", "lstm", "character"),
    ("tag", "lstm", "subword"),
    ("tag", "gru", "word"),
    ("entail", "gru", "subword"),
    ("entail", "rnn", "byte"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cell", "unit"), GRID)
def test_the_grid_trains(name, cell, unit, tmp_path):
    if unit == "subword":
        pytest.importorskip("tensorflow_text")
    changes = [f"model.cell={cell}", f"data.unit={unit}", "data.vocabulary_size=320", "training.epochs=2"]
    train(name, tmp_path, changes)
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "files"),
    [
        ("classify", "model.pooling=attention", 5),  # a picture each, and a page of all
        ("classify", "model.pooling=mean", 5),
        ("classify", "model.pooling=max", 5),
        ("classify", "model.pooling=last", 0),
        ("entail", "model.attention=none", 0),
        ("entail", "model.attention=last", 4),
        ("entail", "model.attention=word", 4),
        ("entail", "model.attention=mutual", 4),
    ],
)
def test_each_way_of_reading_answers_and_shows_what_it_looked_at(name, change, files, tmp_path):
    run = prepared(name, tmp_path, [change, "data.train_count=32"])
    lines = [run.line(*found) for found in run.predict(run.some_of_dev(), tmp_path / "drawn")]
    assert len(lines) == 4 and all(line.split("\t")[-2] in run.output.names for line in lines)
    assert len(list(tmp_path.glob("drawn/*"))) == files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tag", "training.xla=true"),
        ("entail", "training.xla=true"),
        ("tag", "training.precision=mixed_float16"),
        ("classify", "training.precision=mixed_float16"),
        ("classify", "model.layers=2"),
        ("entail", "model.layers=2"),
    ],
)
def test_it_trains_compiled_in_half_precision_and_deep(name, change, tmp_path):
    """Each change with two of the tasks, and each task with two of the changes."""
    train(name, tmp_path, [change, "training.epochs=2"])
    keras.config.set_dtype_policy("float32")
    history = json.loads((tmp_path / "progress.json").read_text())["history"]
    assert history[1]["loss"] < history[0]["loss"]


@pytest.mark.slow
@every_task
def test_the_generated_task_is_learned(name, tmp_path):
    config = load(TASKS[name].Config)
    program.train(TASKS[name], tmp_path, config, resume=False, show=0)
    assert json.loads((tmp_path / "progress.json").read_text())["best"]["value"] > 0.95


# --- labels


@pytest.mark.slow
def test_a_label_that_training_has_not_is_counted_as_wrong(lines, tmp_path, capsys):
    lines("a x\nb y\n" * 20, "train.txt")
    lines("a x\nc y\nc y\n", "dev.txt")
    metrics, _ = prepared("classify", tmp_path / "run", [f"data.source=labelled:{tmp_path}/{{split}}.txt"]).evaluate()
    assert "label: 2 of 3 not among those of training, counted as wrong (c)" in capsys.readouterr().out
    assert metrics["confusion"].keys() == {"a", "b", "c"}
    answers = metrics["confusion"]["c"]
    assert sum(answers.values()) == 2 and answers["c"] == 0


@pytest.mark.slow
def test_tags_that_training_has_not_are_counted_as_wrong(lines, tmp_path, capsys):
    for split, tags in (("train", "O B-a"), ("dev", "O B-z")):
        lines("play it\n" * 40, f"{split}.in")
        lines(f"{tags}\n" * 40, f"{split}.out")
    changes = [f"data.source=text:{tmp_path}/{{split}}.{{field}}", "data.fields.text=in", "data.fields.tags=out"]
    metrics, _ = prepared("tag", tmp_path / "run", [*changes, "data.fields.label="]).evaluate()
    assert "tags: 24 of 48 not among those of training, counted as wrong (B-z)" in capsys.readouterr().out
    assert metrics.keys() == {"span_f1", "accuracy", "exact_match"} and metrics["span_f1"] == 0


@pytest.mark.slow
def test_labels_are_called_as_the_config_says(lines, tmp_path):
    path = lines("0 x\n1 y\n7 z\n" * 20)
    changes = [f"data.source=labelled:{path.parent}/{{split}}.txt", 'data.names={ 0 = "bad", 1 = "good" }']
    run = prepared("classify", tmp_path / "run", changes)
    assert run.output.names == ["7", "bad", "good"] and [row["references"] for row in run.answered("dev")[:3]] == [
        ["bad"],
        ["good"],
        ["7"],
    ]


def test_rare_labels_weigh_more_where_asked(lines, tmp_path):
    """Oracle: scikit-learn's "balanced"."""
    from sklearn.utils.class_weight import compute_class_weight

    path = lines("a x\n" * 30 + "b y\n" * 10)
    changes = [f"data.source=labelled:{path.parent}/{{split}}.txt", "training.class_weights=balanced"]
    run = prepared("classify", tmp_path / "run", changes)
    want = compute_class_weight("balanced", classes=np.array([0, 1]), y=run.columns["label"])
    np.testing.assert_allclose(balanced_weights(run.columns["label"], 2), want)
    for _, labels, weights in run.batches(SetEpoch()):
        np.testing.assert_allclose(weights, want[labels.numpy()], rtol=1e-6)


@pytest.mark.slow
def test_every_example_comes_once_with_its_own_label_and_tags(tmp_path):
    run = prepared("tag", tmp_path, ["data.unit=character", "training.batch_size=7"])
    ids, tags, labels = (run.columns[name] for name in ("text", "tags", "label"))
    known = {tuple(ids[i]): (tags[i].tolist(), label) for i, label in enumerate(labels)}
    count = 0
    for tokens, labels, weights in run.batches(SetEpoch()):
        rows = zip(
            tokens.numpy(), labels["tags"].numpy(), labels["label"].numpy(), weights["tags"].numpy(), strict=True
        )
        for ids, tags, label, real in rows:
            n = np.count_nonzero(ids)
            assert known[tuple(ids[:n])] == (tags[:n].tolist(), label)
            text = [run.text.vocabulary[i] for i in ids[:n]]
            assert not np.any(real[n:]) and np.sum(real) <= len(text)
            count += 1
    assert count == 64


@pytest.mark.slow
def test_a_word_is_tagged_by_its_first_part(tmp_path):
    """By hand: "ab c" has three characters; the tags of a and c are told, that of b is not."""
    run = prepared("tag", tmp_path, ["data.unit=character", "data.max_length=4"])
    ids, first = run.output.pieces(["ab c", "", "abcde f"])
    assert first.numpy().tolist() == [[True, False, True, False], [False] * 4, [True, False, False, False]]
    assert ids.numpy()[1].tolist() == [UNKNOWN, 0, 0, 0]
    tags = [text.decode().split() for text in run.answer(np.array(["ab c", "", "abcde f"], object))["text"].numpy()]
    assert list(map(len, tags)) == [2, 0, 2] and tags[2][1] == "O"


@pytest.mark.slow
def test_tags_make_whole_spans(tmp_path):
    """A model that would say I-object to every word says B-object first; a kind that has no B- begins with its I-."""
    run = prepared("tag", tmp_path)
    liked = np.array([tag == "I-object" for tag in run.tables["tags"]]) * 9.0
    bias, kernel = run.model.tag.bias, run.model.tag.kernel
    bias.assign(liked), kernel.assign(np.zeros(kernel.shape))
    assert run.answers([{"text": "put the star"}, {"text": ""}])[0][0]["text"] == "B-object I-object I-object"
    run.tables["tags"] = ["I-x", "O", "B-y", "I-y"]
    del run.output.rules
    follows, begins = run.output.rules
    assert begins.tolist() == [True, True, True, False] and follows[:, :3].all()
    assert follows[:, 3].tolist() == [False, False, True, True]


@pytest.mark.slow
def test_the_two_texts_of_a_pair_stay_together(tmp_path):
    run = prepared("entail", tmp_path, ["training.batch_size=7", "data.buckets=3"])
    premise, hypothesis, labels = (run.columns[name] for name in ("premise", "hypothesis", "label"))
    known = {(tuple(premise[i]), tuple(hypothesis[i])): label for i, label in enumerate(labels)}
    count = 0
    for sides, labels, _ in run.batches(SetEpoch()):
        pairs = zip(sides["premise"].numpy(), sides["hypothesis"].numpy(), labels.numpy(), strict=True)
        for premise, hypothesis, label in pairs:
            assert known[tuple(premise[premise > 0]), tuple(hypothesis[hypothesis > 0])] == label
            count += 1
    assert count == 64


# --- bad data


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("a x\nb caf\xe9\n".encode("latin-1"), [], r"train.txt:2: not UTF-8 .* set data.bad_bytes"),
        ("a x\na y\n", [], r"all of train has one label, 'a'; two are needed"),
        ("", [], r"split 'train' has no examples"),
        ("a x\nb y\n", ["data.fields.text=body"], r"dev.txt:1: there is no field 'body'; .* Set data.fields.text"),
        ("a x\nb y\n", ["data.holdout=0.001"], r"data.holdout=0.001 leaves no example for dev; raise it"),
        ("a x\nb y\n", ["data.source=labelled:none/{split}"], r"none.dev cannot be read"),
        ("a x\nb y\n", ["model.vectors=none.txt"], r"none.txt cannot be read"),
        ("a x\nb y\n", ["training.xla=true"], r"make no full batch of 32; lower training.batch_size"),
    ],
)
def test_bad_data_stop_the_run_with_one_line(lines, tmp_path, content, changes, message):
    path = lines(content)
    lines("a x\nb y\n", "dev.txt")
    with pytest.raises(UserError, match=message) as error:
        train("classify", tmp_path / "run", [f"data.source=labelled:{path.parent}/{{split}}.txt", *changes])
    assert "\n" not in str(error.value)


def test_an_empty_label_is_named(lines, tmp_path):
    path = lines("label,text\na,x\n ,y\n")
    with pytest.raises(UserError, match=r"dev.txt:3: the label is empty"):
        train("classify", tmp_path / "run", [f"data.source=csv:{path.parent}/{{split}}.txt"])


@pytest.mark.parametrize(
    ("text", "tags", "message"),
    [
        ("play it\n", "O B-a\nO\n", "as many lines each; .*dev.in has 1, .*dev.out has 2"),
        ("play it\nnow\n", "O B-a\nO O\n", r"dev.in:2: 1 word\(s\) and 2 tag\(s\); each word must have one"),
        ("play it\n", "O NN\n", r"dev.in:1: the tag 'NN' is neither O nor B-kind or I-kind"),
    ],
)
def test_words_and_tags_that_do_not_fit_are_named(lines, tmp_path, text, tags, message):
    lines(text, "train.in", "dev.in")
    lines(tags, "train.out", "dev.out")
    changes = [f"data.source=text:{tmp_path}/{{split}}.{{field}}", "data.fields.text=in", "data.fields.tags=out"]
    with pytest.raises(UserError, match=message):
        train("tag", tmp_path / "run", [*changes, "data.fields.label="])


@pytest.mark.slow
def test_words_that_are_spelled_like_special_tokens_are_tagged_as_any_other(lines, tmp_path):
    """`<pad>` has its tag in its place; no word of a text is padding, start or end."""
    lines("play <pad> by <unk>\n<s> it </s>\n" * 4, "train.in", "dev.in")
    lines("O B-song O B-artist\nO B-it O\n" * 4, "train.out", "dev.out")
    changes = [f"data.source=text:{tmp_path}/{{split}}.{{field}}", "data.fields.text=in", "data.fields.tags=out"]
    run = prepared("tag", tmp_path / "run", [*changes, "data.fields.label=", f"data.cache={tmp_path}/cache"])
    ids, tags = run.columns["text"], run.columns["tags"]
    names = run.tables["tags"]
    assert [names[tag] for tag in tags[0]] == ["O", "B-song", "O", "B-artist"]
    assert [names[tag] for tag in tags[1]] == ["O", "B-it", "O"]
    assert (ids[0] == UNKNOWN).tolist() == [False, True, False, True]
    assert (ids[1] == UNKNOWN).tolist() == [True, False, True]
    answers = run.answers([{"text": "<pad> play <s>"}, {"text": "</s>"}])
    assert [len(best["text"].split()) for [best] in answers] == [3, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classify", "tag", "entail"])
def test_texts_that_are_cut_off_are_counted(name, tmp_path, capsys):
    """Oracle: the words of the generated training texts."""
    changes = ["data.unit=space", "data.max_length=5", f"data.cache={tmp_path}/cache"]
    run = prepared(name, tmp_path / "run", changes)
    long = sum(len(example[role].split()) > 5 for _, example in run.examples("train") for role in run.raw)
    told = f"texts of train cut off at 5 tokens: {long}"
    assert long and told in capsys.readouterr().out.splitlines()
    prepared(name, tmp_path / "again", changes)
    assert told in capsys.readouterr().out.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classify", "tag", "entail"])
def test_changed_data_are_never_read_from_the_cache(name, tmp_path):
    """A text, a label, the order: whatever changes, the columns are those of a run with a new cache."""
    texts = [{"text": f"w{i} x", "premise": f"p{i}", "hypothesis": f"q{i}", "tags": "O B-y"} for i in range(24)]
    examples = [row | {"label": "ab"[i // 2 % 2]} for i, row in enumerate(texts)]
    moved = [{**examples[i], "label": label} for i, label in ((1, "b"), (0, "a"))]
    path, stat = tmp_path / "train.jsonl", None
    changes = [f"data.source=jsonl:{path}", "data.holdout=0.2", "data.train_count=0"]
    for i, version in enumerate([examples, [*moved, *examples[2:]], examples[::-1], examples[:-1], examples]):
        path.write_text("".join(f"{json.dumps(row)}\n" for row in version))
        stat = stat or path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a careless copy leaves it
        caches = {"cached": tmp_path / "cache", "new": tmp_path / f"cache-{i}"}
        runs = [prepared(name, tmp_path / f"{kind}-{i}", [*changes, f"data.cache={at}"]) for kind, at in caches.items()]
        assert runs[0].text.vocabulary == runs[1].text.vocabulary
        for column, other in zip(*(run.columns.values() for run in runs), strict=True):
            np.testing.assert_array_equal(getattr(column, "ids", column), getattr(other, "ids", other))


def test_a_held_out_share_that_takes_all_of_train_is_told(lines, tmp_path):
    """All pairs share one text, and so they are on one side."""
    path = lines("premise,hypothesis,label\n" + "".join(f"p{i},q,{'ab'[i % 2]}\n" for i in range(9)), "x.csv")
    with pytest.raises(UserError, match=r"x.csv: every example of train shares a text with one that is held out; set"):
        prepared("entail", tmp_path / "run", [f"data.source=csv:{path}", "data.holdout=0.95"])


@pytest.mark.slow
def test_texts_without_words_and_very_long_ones_train(lines, tmp_path):
    """A text without words is one unknown word; one of 10,000 words is cut off at `data.max_length`."""
    path = lines("label,text\na,\nb,\0\na," + "word " * 10_000 + "\nb,x\n" * 8)
    run = prepared("classify", tmp_path, [f"data.source=csv:{path.parent}/{{split}}.txt", "data.max_length=50"])
    assert run.columns["text"][0].tolist() == [UNKNOWN] and max(run.columns["text"].lengths) == 50
    run.validate()


def test_a_label_that_is_new_when_a_run_goes_on_is_named(lines, tmp_path):
    lines("a x\nb y\n" * 20, "train.txt")
    lines("a x\n", "dev.txt")
    changes = [f"data.source=labelled:{tmp_path}/{{split}}.txt"]
    prepared("classify", tmp_path / "run", changes)
    (tmp_path / "run" / PROGRESS).touch()  # as an epoch leaves it
    path = lines("a x\nc y\n" * 20, "train.txt")
    message = f"{path}:2: the label 'c' is none of the run's (a, b)"
    with pytest.raises(UserError, match=re.escape(message)):
        prepared("classify", tmp_path / "run", changes)


def test_a_key_that_is_mistyped_is_named():
    with pytest.raises(ConfigError, match=r"did you mean data.fields.premise\?"):
        load(Entail.Config, overrides=["data.fields.premisse=a"])


# --- vectors


@pytest.fixture
def vectors(lines):
    return lines("x 1 2 3 4 5 6\nDog 6 5 4 3 2 1\nbird 1 1 1 1 1 1\n", "vectors.txt")


@pytest.mark.slow
@pytest.mark.parametrize("moves", [True, False])
def test_words_have_their_vectors_which_move_or_stay(lines, tmp_path, vectors, moves, capsys):
    """Frozen ones do not move by one bit, over training, loading and going on."""
    lines("a x dog\nb y Dog\n" * 20, "train.txt")
    lines("a x\n", "dev.txt")
    changes = [f"data.source=labelled:{tmp_path}/{{split}}.txt", f"model.vectors={vectors}"]
    changes += [f"model.train_vectors={str(moves).lower()}"]
    run = prepared("classify", tmp_path / "a", changes)
    before = np.asarray(run.model.encoder.embedding.embeddings)
    rows = dict(zip(run.text.vocabulary, before, strict=True))
    assert rows["x"].tolist() == [1, 2, 3, 4, 5, 6] and rows["Dog"].tolist() == [6, 5, 4, 3, 2, 1]
    assert "2 of 8 words have their vectors" in capsys.readouterr().out
    train("classify", tmp_path / "b", changes)
    vectors.unlink()  # a finished run needs it no more
    after = TASKS["classify"](load(Classify.Config, overrides=[*TINY, *changes]), tmp_path / "b")
    after.load(tmp_path / "b/best-0001.npz")
    table = np.asarray(after.model.encoder.embedding.embeddings)
    assert after.text.vocabulary == run.text.vocabulary
    words = [run.text.vocabulary.index(word) for word in ("x", "Dog")]
    assert np.array_equal(table[words], before[words]) != moves


def test_words_that_only_the_vectors_have_are_known_where_asked(lines, tmp_path, vectors):
    """`bird` stands in no text; it is known with `model.vector_words`, and has its vector."""
    lines("a x dog\nb y Dog\n" * 20, "train.txt")
    lines("a x\n", "dev.txt")
    changes = [f"data.source=labelled:{tmp_path}/{{split}}.txt", f"model.vectors={vectors}", "model.vector_words=3"]
    run = prepared("classify", tmp_path / "a", changes)
    rows = dict(zip(run.text.vocabulary, np.asarray(run.model.encoder.embedding.embeddings), strict=True))
    assert run.text.vocabulary[-1] == "bird" and rows["bird"].tolist() == [1] * 6 and len(rows) == 9
    assert "bird" not in prepared("classify", tmp_path / "b", [*changes, "model.vector_words=2"]).text.vocabulary
    message = "model.vector_words needs data.unit = word, space or caption, it is character"
    with pytest.raises(ConfigError, match=message):
        load(Classify.Config, overrides=[*changes, "data.unit=character"])


def test_vectors_without_a_word_of_the_text_are_named(lines, tmp_path, vectors):
    path = lines("a p\nb q\n")
    changes = [f"data.source=labelled:{path.parent}/{{split}}.txt", f"model.vectors={vectors}"]
    with pytest.raises(UserError, match=r"vectors.txt has no word of the vocabulary"):
        prepared("classify", tmp_path / "run", changes)


# --- configs


@pytest.mark.slow
@every_task
def test_words_begin_as_far_from_zero_as_the_config_says(name, tmp_path):
    model = prepared(name, tmp_path, ["data.train_count=8", "model.embedding_range=2.0"]).model
    assert 1.5 < np.abs(np.asarray(model.encoder.embedding.embeddings)).max() <= 2.0


@every_task
def test_an_empty_file_has_no_answers(name, trained, tmp_path, lines):
    run = program.finished_run(TASKS[name], trained[name])
    assert list(run.predict(program.asked(run, [f"@{lines('')}"]), tmp_path / "drawn")) == []


@every_task
def test_every_config_is_valid(name):
    configs = sorted((ROOT / "configs" / name).glob("*.toml"))
    assert configs
    for config in configs:
        load(TASKS[name].Config, config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("classify", "imdb_reviews"),
        ("classify", "ag_news_subset"),
        ("entail", "snli"),
        ("entail", "multi_nli"),
        ("entail", "glue_rte"),
    ],
)
def test_datasets_of_tfds_train(name, config, tmp_path):
    """TFDS makes up texts and classes; nothing is downloaded."""
    tiny = [change for change in TINY if not change.startswith("data.dev_count")]
    changes = [*tiny, "data.min_count=1", *(["data.holdout=0.3"] if name == "classify" else [])]
    loaded = load(TASKS[name].Config, f"configs/{name}/{config}.toml", changes)
    with tfds.testing.mock_data(num_examples=40, data_dir=str(tmp_path / "data")):
        program.train(TASKS[name], tmp_path / "run", loaded, resume=False, show=0)
    labels = json.loads((tmp_path / "run/labels.json").read_text())["label"]
    assert not any(label.isdigit() for label in labels)
