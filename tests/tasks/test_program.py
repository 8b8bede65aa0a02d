"""The program and `kseq.load`, on a run of classify that is trained in seconds."""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import keras
import matplotlib.figure
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq import runs
from kseq.cluster import ALONE
from kseq.config import load
from kseq.errors import LostWorker, Terminated, UserError
from kseq.serving.ask import ask
from kseq.tasks import program, results
from kseq.tasks.classify import Classify
from kseq.tasks.entail import Entail

ROOT = Path(__file__).parents[2]
TINY = (
    "data.train_count=64",
    "data.dev_count=24",
    "data.test_count=24",
    "data.buckets=1",
    "model.units=8",
    "model.attention_units=4",
    "model.embedding_size=6",
    "training.epochs=1",
    "training.batch_size=32",
)
TEXTS = ["the red star", "the large blue ring is above the small green cross", "a"]


def train(workdir, *, resume=False):
    program.train(Classify, workdir, load(Classify.Config, overrides=TINY), resume=resume, show=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(workdir)
    return workdir


@pytest.fixture(scope="module")
def run(trained):
    return kseq.load(trained)


def command(*arguments, **options):
    options = {"capture_output": True, "text": True, "check": False, "cwd": ROOT} | options
    return subprocess.run([sys.executable, "-m", "kseq.tasks.classify", *map(str, arguments)], **options)


def predicted(workdir, inputs, capsys, **options):
    capsys.readouterr()
    program.predict(program.finished_run(Classify, workdir, options.pop("changes", [])), inputs, **options)
    return capsys.readouterr().out.splitlines()


# --- kseq.load


def test_a_run_answers_one_text_a_list_and_the_content_of_a_file(run, tmp_path):
    """Oracle: the function that serving_default serves."""
    found = run.task.answer(TEXTS)
    want = [(t.decode(), float(s)) for t, s in zip(found["text"].numpy(), found["score"].numpy(), strict=True)]
    records = run(TEXTS, details=True)
    assert [record["text"] for record in records] == run(TEXTS) == [text for text, _ in want]
    np.testing.assert_allclose([record["score"] for record in records], [score for _, score in want], rtol=1e-5)
    assert records[0]["tokens"] == ["the", "red", "star"] and records[0]["alignment"].shape == (3,)
    path = tmp_path / "text.txt"
    path.write_text(TEXTS[1] + "\n")
    for given in (TEXTS[1], TEXTS[1].encode(), path, {"text": TEXTS[1]}):
        assert run(given, details=True)["score"] == pytest.approx(records[1]["score"], rel=1e-5)
    assert run([]) == []


def test_the_n_best_come_in_order(run):
    records = run(TEXTS[0], n=3, details=True)
    scores = [record["score"] for record in records]
    assert len(records) == 3 and scores == sorted(scores, reverse=True)
    assert run(TEXTS[0], n=3) == [record["text"] for record in records]
    assert run(TEXTS[0], n=1) == [run(TEXTS[0])]
    assert [len(found) for found in run(TEXTS, n=2)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (3, "text must be a str, bytes or a path, it is 3"),
        (("a", "b"), r"text must be a str, bytes or a path, it is \('a', 'b'\)"),
        ({"txt": "a"}, "an example must have text, it has txt"),
        (Path("none.txt"), "text: none.txt cannot be read: No such file or directory"),
        (Path("."), "text: . is no regular file"),
    ],
)
def test_an_example_of_another_kind_is_named(run, example, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        run(example)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_a_wrong_number_of_answers_is_named(run, n):
    with pytest.raises(UserError, match="n must be a whole number of 1 or more"):
        run("a", n=n)


def test_examples_of_two_texts():
    raw = ("premise", "hypothesis")
    for given in (("a", b"b"), {"hypothesis": b"b", "premise": "a"}):
        assert runs.parse_example(raw, False, given) == {"premise": "a", "hypothesis": b"b"}
    for given in ("a\tb", ("a",), 3):
        with pytest.raises(UserError, match="an example must be premise and hypothesis, as a tuple or a dict"):
            runs.parse_example(raw, False, given)


def test_a_path_is_read_where_files_are_asked_for(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\n")
    for given in (path, str(path), b"\x89PNG\n"):
        assert runs.parse_example(("image",), True, given) == {"image": b"\x89PNG\n"}
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        runs.parse_example(("image",), True, str(tmp_path / "pipe"))


def test_the_model_can_be_trained_on_and_the_words_are_beside_it(run):
    model = run.model
    before = model.get_weights()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = run.preprocessor.ids(TEXTS[:1] * 4).to_tensor()
    model.fit(np.array(ids), np.zeros(4, int), verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    model.set_weights(before)


def test_the_attention_is_shown(run):
    assert isinstance(run.show(TEXTS[0]), matplotlib.figure.Figure)


def test_the_attention_of_any_answer_is_shown(run):
    """Also that of another than the best, without asking again."""
    second = run(TEXTS[0], n=2, details=True)[1]
    title = f"{second['text']} {second['score']:.2f}"
    assert run.show(TEXTS[0], second).get_suptitle() == title
    files = run.files(TEXTS[0], second)
    assert list(files) == [".html"] and f"<b>{title}</b>" in files[".html"].decode()
    assert run.files(TEXTS[0], second | {"alignment": None}) == {}


def test_a_run_says_what_it_is_and_how_many_answers_it_has(run):
    assert (run.name, run.max_n) == ("classify", len(run.task.tables["label"]))
    assert len(run(TEXTS[0], n=run.max_n)) == run.max_n


def test_examples_come_from_the_predictions_or_else_from_the_data(run):
    """Oracle: `some_of_dev`, which gives the same places."""
    path = run.task.workdir / "predictions-dev.jsonl"
    want = run.task.some_of_dev()
    assert not path.exists() and run.examples() == want and len(want) == 4
    path.write_text("".join(json.dumps({"id": str(i), "source": f"text {i}"}) + "\n" for i in range(9)))
    try:
        assert run.examples() == [(str(i), {"text": f"text {i}"}) for i in (0, 2, 4, 6)]
    finally:
        path.unlink()


def test_loading_leaves_the_precision_of_the_program_as_it_was(trained):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        run = kseq.load(trained)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert run.model.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_what_is_no_run_is_told(tmp_path, trained):
    for folder, message in ((tmp_path / "none", "there is no such folder$"), (tmp_path, "holds no run of kseq")):
        with pytest.raises(UserError, match=message):
            kseq.load(folder)
    with pytest.raises(UserError, match=rf"no such folder; \S+ holds the runs .*\b{trained.name}\b"):
        kseq.load(trained.parent / "typo")
    with pytest.raises(UserError, match="only data, sampler and serving can be changed"):
        kseq.load(trained, ["model.units=3"])


@pytest.mark.slow
def test_an_exported_run_answers_as_the_run(run, tmp_path):
    folder = tmp_path / "served"
    answer = run.export(folder)
    assert set(answer) == {"text", "score", "status"} and answer["status"] == "ok"
    exported = kseq.load(folder)
    for given, want in zip(exported(TEXTS, details=True), run(TEXTS, details=True), strict=True):
        assert given["text"] == want["text"] and given["score"] == pytest.approx(want["score"], rel=1e-4)
    assert exported(TEXTS[0]) == run(TEXTS[0]) and exported([]) == []
    for name in ("model", "preprocessor", "show", "files", "examples", "export"):
        with pytest.raises(UserError, match=f"is an exported model: it has no {name}; load the run"):
            getattr(exported, name)
    assert exported(TEXTS, n=3) == run(TEXTS, n=3)
    with pytest.raises(UserError, match=r"served/1 gives \d answer\(s\) at most; load the run for n=99"):
        exported(TEXTS[0], n=99)
    for answers in (run, exported):
        with pytest.raises(UserError, match=r"^example 2: The text has 50001 characters, and at most 50000 are read$"):
            answers(["a", "a" * 50_001])
    command = [sys.executable, ROOT / "kseq/serving/ask.py", folder, "text=a", f"text={'a' * 50_001}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "The text has 50001 characters, and at most 50000 are read"
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == f"error: example 2: {said}"
    found = json.loads(result.stdout)
    assert found["status"] == ["ok", said] and found["text"][0] == run("a") and found["text"][1] == ""
    for inputs, message in (
        ({"sentence": [b"a"]}, "takes text, and is given sentence"),
        ({}, "takes text, and is given nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(folder, **inputs)
    assert run.export(folder, keep=0) == answer
    assert sorted(os.listdir(folder)) == ["2", "README.md", "batching.config", "docker-compose.yml", "models.config"]
    assert repr(kseq.load(folder)) == repr(kseq.load(folder / "2")) == f"<exported model in {folder / '2'}>"
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis.txt was written by no export"):
        run.export(folder)


@pytest.mark.slow
def test_loading_needs_no_flags(trained):
    code = f"import sys, kseq; kseq.load({str(trained)!r})('a'); print('kseq.tasks.program' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.endswith("False\n")


# --- predict


def test_a_line_of_the_standard_input_is_answered_as_a_text(trained, capsys, monkeypatch):
    want = predicted(trained, TEXTS, capsys)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO("\n".join(TEXTS).encode())))
    assert predicted(trained, ["-"], capsys) == want
    assert [line.split("\t")[0] for line in want[:-1]] == TEXTS


@pytest.mark.slow
def test_training_says_how_much_there_is(tmp_path, capsys):
    changes = [
        "data.train_count=40",
        "data.dev_count=8",
        "training.batch_size=16",
        "training.epochs=1",
        "data.buckets=1",
    ]
    program.train(Classify, tmp_path / "a", load(Classify.Config, overrides=changes), resume=False, show=0)
    assert "40 training examples, 3 batches an epoch\n" in capsys.readouterr().out


def test_an_empty_standard_input_is_told_of(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO()))
    with pytest.raises(UserError, match="there is nothing to answer: - has no lines"):
        predicted(trained, ["-"], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "text=a"], "nowhere holds no SavedModel"),
        (["served", "the soup"], "'the soup' must be NAME=TEXT or NAME=@FILE"),
        (["served", "text=@gone.txt"], "gone.txt cannot be read: No such file or directory"),
    ],
)
def test_asking_in_vain_is_one_line_or_the_usage(tmp_path, arguments, message):
    (tmp_path / "served/1").mkdir(parents=True)
    (tmp_path / "served/1/saved_model.pb").touch()
    command = [sys.executable, ROOT / "kseq/serving/ask.py", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {message}") and not result.stdout


def test_the_standard_input_is_read_where_it_is_a_pipe_or_a_file(tmp_path):
    (tmp_path / "q.txt").touch()
    read, write = os.pipe()
    file, nothing = (os.open(path, os.O_RDONLY) for path in (tmp_path / "q.txt", os.devnull))
    for descriptor, piped in ((read, True), (file, True), (nothing, False)):
        with open(descriptor) as file:
            assert program._is_piped(file) == piped
    os.close(write)
    assert not program._is_piped(None) and not program._is_piped(io.StringIO())


@pytest.mark.parametrize("bad_bytes", ["stop", "latin-1", "replace"])
def test_bytes_that_are_not_utf_8_are_read_as_the_config_says(trained, capsys, monkeypatch, bad_bytes):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"caf\xe9\n")))
    changes = [f"data.bad_bytes={bad_bytes}"]
    if bad_bytes == "stop":
        with pytest.raises(UserError, match=r"^standard input:1 is not UTF-8; --set data.bad_bytes=latin-1 or replace"):
            predicted(trained, ["-"], capsys, changes=changes)
    else:
        [line, _] = predicted(trained, ["-"], capsys, changes=changes)
        assert line.startswith({"latin-1": "café\t", "replace": "caf\ufffd\t"}[bad_bytes])


def test_a_file_that_is_given_as_a_text_is_told_of(trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "q.txt").write_text("the red star\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^q.txt is a file, not a text; @q.txt answers each of its lines$"):
        predicted(trained, ["q.txt"], capsys)
    assert len(predicted(trained, ["@q.txt"], capsys)) == 2
    assert len(predicted(trained, ["q.tx", "word " * 999, "a\0b"], capsys)) == 4


def test_a_text_with_line_ends_is_one_line(trained, capsys):
    lines = predicted(trained, ["the red\nstar\r\nis\tthere"], capsys)
    assert len(lines) == 2 and lines[0].startswith("the red star  is there\t")


def test_json_lines_are_read_and_written(trained, tmp_path, capsys):
    texts = ["the red\nstar", 'a "b"\t\\', "é"]
    lines = [json.dumps(texts[0]), json.dumps({"text": texts[1]}), json.dumps(texts[2], ensure_ascii=False)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = [json.loads(x) for x in predicted(trained, [f"@{tmp_path / 'q.jsonl'}", "x"], capsys, form="jsonl")]
    assert [row["input"]["text"] for row in rows] == [*texts, "x"]
    assert [row["id"] for row in rows] == ["00001", "00002", "00003", "00004"]
    assert all({"text", "score", "tokens", "alignment"} <= row.keys() for row in rows)
    assert rows[0]["tokens"] == ["the", "red", "star"] and len(rows[0]["alignment"]) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"q.jsonl:1: is not JSON: "),
        ("", r"q.jsonl:1: is not JSON: "),
        ("3", r"q.jsonl:1: text must be a str, bytes or a path, it is 3"),
        ('{"tex": "a"}', r"q.jsonl:1: an example must have text, it has tex"),
        ('["a", "b"]', r"q.jsonl:1: text must be a str"),
    ],
)
def test_a_line_that_is_no_example_is_named(trained, tmp_path, capsys, line, message):
    (tmp_path / "q.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        predicted(trained, [f"@{tmp_path / 'q.jsonl'}"], capsys, form="jsonl")


def test_inputs_of_one_name_have_a_picture_each(run, tmp_path):
    example = {"text": TEXTS[0]}
    found = list(run.task.predict([("a.png", example), ("b/a.png", example), ("a.jpg", example)], tmp_path / "drawn"))
    assert len(found) == 3
    assert sorted(p.name for p in (tmp_path / "drawn").glob("*.png")) == ["a-2.png", "a-3.png", "a.png"]


# --- a run's folder


def test_a_run_that_goes_on_compares_its_files_before_it_writes(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    words = (folder / "vocabulary.txt").read_text().splitlines()
    (folder / "vocabulary.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    before = {path: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    for act in (lambda: train(folder, resume=True), lambda: program.evaluate(program.finished_run(Classify, folder))):
        with pytest.raises(UserError, match=r"vocabulary.txt is not what the run was trained with"):
            act()
    assert {path: path.read_bytes() for path in folder.glob("*") if path.is_file()} == before


def test_a_run_of_another_task_is_named(trained):
    with pytest.raises(UserError, match=r"tiny is a run of classify, not of entail; python -m kseq.tasks.classify"):
        program.evaluate(program.finished_run(Entail, trained))


# --- the command


@pytest.mark.parametrize("running", [False, True])
def test_a_program_takes_a_gpus_memory_as_it_needs_it(monkeypatch, running):
    """Before TensorFlow runs. Where it runs already, that is left as it is."""
    taken = []

    def grow(gpu, enable):
        taken.append((gpu, enable))
        if running:
            raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(kseq.training, "open_devices", lambda *_: taken.append("devices"))
    monkeypatch.setattr(kseq.layers, "allow_cudnn", taken.append)
    program._set_up(load(Classify.Config, overrides=["training.cudnn=false"]), ALONE)
    assert taken == [("GPU:0", True), "devices", False]


@pytest.mark.slow
def test_the_resolved_config_is_printed_and_is_a_config(tmp_path):
    result = command("--mode=config", "--set", "model.units=7")
    (tmp_path / "printed.toml").write_text(result.stdout)
    assert load(Classify.Config, tmp_path / "printed.toml") == load(Classify.Config, overrides=["model.units=7"])
    assert result.returncode == 0 and "; at least 1\nunits = 7\n" in result.stdout


@pytest.mark.slow
def test_help_names_folders_that_are_there():
    result = command("--help")
    [folder] = [word.strip(".") for word in result.stdout.split() if word.strip(".").endswith("configs/classify")]
    assert Path(folder, "trec.toml").exists()
    assert "each INPUT is a text. @FILE reads inputs from a file, one per line;" in result.stdout


@pytest.mark.slow
def test_the_help_may_be_cut_short():
    script = f"{sys.executable} -m kseq.tasks.classify --help | head -1"
    result = subprocess.run(script, shell=True, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in result.stderr and result.stdout.startswith("python -m kseq.tasks.classify")


@pytest.mark.slow
def test_a_pipe_is_answered(trained):
    result = command("--mode=predict", f"--workdir={trained}", input="the red star\na\n")
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 3, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_full_disk_is_one_line(tmp_path, limit):
    """As on one: no file may grow beyond a limit, in training, in its log and in the export."""
    sets = [f"--set={change}" for change in TINY]
    result = command(
        f"--workdir={tmp_path / 'run'}",
        *sets,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")] == result.stderr.splitlines()[
        -1:
    ]


def test_an_export_on_a_full_disk_names_the_folder(run, tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "/there/variables; No space left on device\nmore")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", full)
    with pytest.raises(OSError, match="no space left") as error:
        run.export(tmp_path / "served")
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / "served")
    assert os.listdir(tmp_path) == []


def test_a_checkout_is_dirty_when_more_than_its_records_has_changed(tmp_path, monkeypatch):
    """Oracle: git's own hash."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    for name in ("kseq/__init__.py", "tasks/tag/results.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1\n")
    monkeypatch.setattr(kseq, "__file__", str(tmp_path / "kseq/__init__.py"))
    assert results.commit() is None
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        git(*arguments)
    clean = git("rev-parse", "HEAD")[:12]
    (tmp_path / "tasks/tag/results.csv").write_text("2\n")
    assert results.commit() == clean
    (tmp_path / "kseq/__init__.py").write_text("2\n")
    assert results.commit() == f"{clean}-dirty"


@pytest.mark.parametrize(
    "error, code, said",
    [(KeyboardInterrupt, 130, "stopped"), (Terminated, 75, "terminated"), (UserError, 1, ""), (LostWorker, 75, "")],
)
def test_what_ends_a_program_is_one_line_and_an_exit_code(tmp_path, monkeypatch, capsys, error, code, said):
    def end(*_):
        raise error()

    monkeypatch.setattr(program, "do", end)
    monkeypatch.setattr(sys, "argv", ["classify", f"--workdir={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        program.main(Classify)
    assert ended.value.code == code
    line = f"error: {said}; the same command with --resume goes on from the last checkpoint\n" if said else "error: \n"
    assert capsys.readouterr().err == line


@pytest.mark.slow
def test_a_program_that_is_terminated_in_its_first_epoch_is_resumed(tmp_path):
    """It saves after each of 64 batches, so that the first of them can be waited for."""
    folder = tmp_path / "run"
    arguments = ["--mode=train", f"--workdir={folder}", *(f"--set={change}" for change in TINY)]
    arguments += ["--set=training.batch_size=1", "--set=training.save_minutes=1e-9"]
    started = [sys.executable, "-m", "kseq.tasks.classify", *arguments]
    process = subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while process.poll() is None and not (folder / "progress.json").exists():
        time.sleep(0.01)
    process.terminate()
    said = process.communicate()[1].splitlines()
    assert process.returncode == 75 and said[-2:] == [
        "stopping after this batch or this validation; Ctrl-C stops at once",
        "error: terminated; the same command with --resume goes on from the last checkpoint",
    ]
    progress = kseq.checkpoints.read_progress(folder)
    assert progress["epoch"] == 0 and progress["step"] > 0
    evaluated = command("--mode=evaluate", f"--workdir={folder}")
    assert evaluated.returncode == 1 and "holds no trained run: its first epoch has not ended" in evaluated.stderr
    resumed = command(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert kseq.checkpoints.read_progress(folder)["epoch"] == 1


def test_the_best_weights_can_be_loaded_by_keras(run, trained):
    """Oracle: the weights of the run."""
    fresh = Classify(run.task.config, trained)
    fresh.restore()
    fresh.model = fresh.build()
    assert any((a != b).any() for a, b in zip(fresh.model.get_weights(), run.model.get_weights(), strict=True))
    fresh.model.load_weights(trained / "best.weights.h5")
    for value, expected in zip(fresh.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_folder_that_must_not_be_written_to_is_one_line(monkeypatch, capsys):
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        monkeypatch.setattr(sys, "argv", ["classify", f"--workdir={folder}"])
        if root:  # whom no permission stops
            os.seteuid(65534)
        try:
            with pytest.raises(SystemExit) as ended:
                program.main(Classify)
        finally:
            if root:
                os.seteuid(0)
        assert ended.value.code == 1 and os.listdir(folder) == []
        assert capsys.readouterr().err == f"error: {folder}/.lock: Permission denied\n"


def test_all_modes_share_the_run_that_was_loaded(tmp_path, monkeypatch):
    loaded, given = [], []
    monkeypatch.setattr(program, "finished_run", lambda *_: loaded.append(object()) or loaded[-1])
    for mode in ("evaluate", "predict", "export"):
        monkeypatch.setattr(program, mode, lambda run, *_, **options: given.append(run))
    values = program.define_flags()
    inputs = values(["classify", f"--workdir={tmp_path / 'run'}"])[1:]
    _, [_, *others], _ = program.plan_of(Classify, values, inputs)
    for mode in others:
        mode()
    assert len(loaded) == 1 and given == 3 * loaded
