"""What a run is measured on, and what must stay as it was when it was trained."""

import json

import pytest
from PIL import Image

from kseq.checkpoints import PROGRESS
from kseq.config import ConfigError, load
from kseq.errors import UserError
from kseq.tasks import program
from kseq.tasks.caption import Caption
from kseq.tasks.classify import Classify
from kseq.tasks.compose import Compose
from kseq.tasks.entail import Entail
from kseq.tasks.summarize import Summarize
from kseq.tasks.tag import Tag
from kseq.tasks.transcribe import Transcribe
from kseq.tasks.translate import Translate
from kseq.tasks.verse import Verse

TASKS = [Caption, Classify, Entail, Summarize, Tag, Transcribe, Translate]
SMALL = ["data.train_count=64", "data.dev_count=12", "data.test_count=9", "training.batch_size=16", "training.epochs=1"]
PICTURES = [*SMALL, "data.image_size=32", "model.units=8", "model.attention_units=8", "model.encoder.units=8"]
EVERY_TASK = pytest.mark.parametrize("task", [*TASKS, Compose, Verse], ids=lambda task: task.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "classify"
    program.train(Classify, folder, load(Classify.Config, overrides=SMALL), resume=False, show=0)
    return folder


def prepared(task, folder, changes):
    run = task(load(task.Config, overrides=changes), folder)
    run.prepare()
    return run


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- dev and test


def test_dev_and_test_are_reported_apart(trained, capsys):
    program.evaluate(program.finished_run(Classify, trained))
    shown = capsys.readouterr().out
    assert shown.index("dev, which selected the epoch:") < shown.index("test:")
    assert len(rows(trained / "predictions-dev.jsonl")) == 12 and len(rows(trained / "predictions-test.jsonl")) == 9
    dev, test = (json.loads((trained / f"metrics-{split}.json").read_text()) for split in ("dev", "test"))
    assert dev.keys() - test.keys() == {"seconds_train"} and sum(map(len, test["confusion"].values())) > 9
    for split in ("dev", "test"):
        assert (trained / "predictions" / f"confusion-{split}.png").exists()


def test_scores_on_other_data_do_not_replace_those_of_the_run(trained):
    program.evaluate(program.finished_run(Classify, trained))
    before = {path.name: path.read_bytes() for path in trained.glob("*-*.json*")}
    program.evaluate(program.finished_run(Classify, trained, ["data.dev=test"]))
    program.evaluate(program.finished_run(Classify, trained, ["data.dev=test", "data.dev_count=5"]))
    assert {name: (trained / name).read_bytes() for name in before} == before
    others = [json.loads(p.read_text())["changes"] for p in trained.glob("metrics-dev-*.json")]
    assert sorted(others, key=len) == [{"data.dev": "test"}, {"data.dev": "test", "data.dev_count": "5"}]


@EVERY_TASK
def test_generated_data_have_a_test_split_of_their_own(task):
    assert load(task.Config).data.scored() == ("dev", "test")
    other = load(task.Config, overrides=["data.source=tsv:mine/{split}.tsv"])
    assert other.data.scored() == ("dev",)
    other = load(task.Config, overrides=["data.source=tsv:mine/{split}.tsv", "data.test_holdout=0.1"])
    assert other.data.scored() == ("dev", "test")


def test_what_is_held_out_shares_no_text_with_what_is_left(tmp_path):
    """The same text stands there with several labels, and a premise with several hypotheses."""
    lines = ["label\ttext", *(f"{'ab'[i % 2]}\ttext {i // 4}" for i in range(800))]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    source = f"data.source=tsv:{tmp_path}/train.tsv"
    run = prepared(Classify, tmp_path / "run", [source, "data.holdout=0.1", "data.test_holdout=0.2"])
    splits = {name: [example["text"] for _, example in run.examples(name)] for name in ("train", "dev", "test")}
    together = [text for texts in splits.values() for text in texts]
    assert sorted(together) == sorted(line.partition("\t")[2] for line in lines[1:])
    train, dev, test = map(set, splits.values())
    assert not train & dev and not train & test and not dev & test
    assert 10 <= len(dev) <= 30 and 25 <= len(test) <= 55


def test_pictures_are_held_out_with_all_their_captions(tmp_path):
    table = ["image\tcaption", *(f"{i}.png\tcaption {i} {k}" for i in range(40) for k in "abc")]
    for i in range(40):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "captions.tsv").write_text("\n".join(table) + "\n")
    changes = [f"data.source=tsv:{tmp_path}/captions.tsv", "data.holdout=0.2", "data.test_holdout=0.2"]
    run = Caption(load(Caption.Config, overrides=changes), tmp_path / "run")
    splits = {name: run.examples(name) for name in ("train", "dev", "test")}
    assert sorted(p.id for part in splits.values() for p in part) == sorted(f"{i}.png" for i in range(40))
    assert all(len(p.captions) == 3 for part in splits.values() for p in part) and all(splits.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.holdout=0.1", "data.dev=val"], "holdout takes dev out of train, and dev = val names a split; set only"),
        (["data.test_holdout=0.1", "data.test=x"], "test_holdout takes test out of train, and test = x names a split"),
        (["data.holdout=0.5", "data.test_holdout=0.5"], "leave nothing of train; their sum must be below 1"),
    ],
)
@EVERY_TASK
def test_a_split_comes_from_one_place(task, changes, message):
    with pytest.raises(ConfigError, match=message):
        load(task.Config, overrides=changes)


def test_a_test_split_that_is_not_there_is_told_before_training(tmp_path):
    (tmp_path / "train.txt").write_text("a x\nb y\n" * 20)
    (tmp_path / "dev.txt").write_text("a x\n")
    source = f"data.source=labelled:{tmp_path}/{{split}}.txt"
    with pytest.raises(UserError, match=r"test.txt cannot be read"):
        prepared(Classify, tmp_path / "run", [source, "data.test=test"])
    with pytest.raises(UserError, match=r"data.test_holdout=1e-09 leaves no example for test; raise it"):
        prepared(Classify, tmp_path / "run", [source, "data.test_holdout=1e-9"])


# --- a run that goes on


@pytest.mark.slow
def test_a_caption_run_that_goes_on_keeps_its_vocabulary(tmp_path):
    """Its captions have changed meanwhile; the ids are still those that it was trained with."""
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    table = tmp_path / "captions_train.tsv"
    changes = [*PICTURES, f"data.source=tsv:{tmp_path}/captions_{{split}}.tsv", f"data.cache={tmp_path}/cache"]
    changes.append("training.batch_size=1")
    table.write_text("image\tcaption\na.png\ta red cross\n")
    (tmp_path / "captions_dev.tsv").write_text("image\tcaption\na.png\ta red cross\n")
    prepared(Caption, tmp_path / "run", changes)
    (tmp_path / "run" / PROGRESS).touch()  # as an epoch leaves it
    before = (tmp_path / "run/vocabulary.txt").read_text()
    table.write_text("image\tcaption\na.png\tthe blue star of the sea\n")
    run = prepared(Caption, tmp_path / "run", changes)
    assert (tmp_path / "run/vocabulary.txt").read_text() == before and "red" in run.target.vocabulary


@pytest.mark.slow
@pytest.mark.parametrize("going_on", [True, False])
def test_a_vocabulary_of_captions_in_another_order_is_refused(tmp_path, going_on):
    changes = [*PICTURES, f"data.cache={tmp_path}/cache"]
    prepared(Caption, tmp_path / "run", changes)
    path = tmp_path / "run/vocabulary.txt"
    special, words = path.read_text().split("\n")[:4], path.read_text().split("\n")[4:-1]
    path.write_text("\n".join([*special, *words[::-1]]) + "\n")
    (tmp_path / "run" / PROGRESS).touch()
    run = Caption(load(Caption.Config, overrides=changes), tmp_path / "run")
    with pytest.raises(UserError, match=r"vocabulary.txt is not what the run was trained with"):
        run.prepare() if going_on else run.load(tmp_path / "run/best-0001.npz")


@pytest.mark.slow
@pytest.mark.parametrize("task", [Classify, Entail, Tag])
def test_labels_in_another_order_are_refused(task, tmp_path):
    run = prepared(task, tmp_path, SMALL)
    tables = json.loads((tmp_path / "labels.json").read_text())
    (tmp_path / "labels.json").write_text(json.dumps({name: labels[::-1] for name, labels in tables.items()}))
    with pytest.raises(UserError, match=r"labels.json is not what the run was trained with"):
        run.load(tmp_path / "best-0001.npz")
    (tmp_path / "labels.json").write_text("[")
    with pytest.raises(UserError, match=r"labels.json cannot be read"):
        run.load(tmp_path / "best-0001.npz")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_fingerprint_is_of_ids_and_labels(task, tmp_path):
    changes = PICTURES if task is Caption else SMALL
    run, again = prepared(task, tmp_path / "a", changes), prepared(task, tmp_path / "b", changes)
    assert run.fingerprint() == again.fingerprint()
    written = {path.stem for path in (tmp_path / "a").iterdir()}  # a vocabulary has its options beside it
    assert {name.partition(".")[0] for name in run.fingerprints()} == written - {"fingerprints"}
    other = prepared(task, tmp_path / "c", [*changes, "data.train_count=8"])
    assert other.fingerprint() != run.fingerprint()


# --- surprises


def test_names_that_no_label_has_are_an_error(tmp_path):
    (tmp_path / "train.txt").write_text("0 x\n1 y\n" * 20)
    (tmp_path / "dev.txt").write_text("0 x\n2 z\n")
    changes = [*SMALL, f"data.source=labelled:{tmp_path}/{{split}}.txt"]
    with pytest.raises(UserError, match=r"data.names has 3, 7, which is no label of the data \(1, bad\)"):
        prepared(Classify, tmp_path / "run", [*changes, 'data.names={ 0 = "bad", 3 = "good", 7 = "x" }'])
    prepared(Classify, tmp_path / "run", [*changes, 'data.names={ 0 = "bad", 2 = "new" }'])


@pytest.mark.slow
def test_two_pictures_of_one_name_are_drawn_to_two_files(tmp_path, capsys):
    run = prepared(Caption, tmp_path / "run", [*PICTURES, f"data.cache={tmp_path}/cache"])
    paths = [tmp_path / folder / name for folder, name in (("a", "x.png"), ("b", "x.png"), ("b", "x.bmp"))]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), "red").save(path)
    assert len(list(run.predict(program.asked(run, map(str, paths)), tmp_path / "drawn"))) == 3
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["x-2.png", "x-3.png", "x.png"]
