"""The page in the browser: what it shows, told without Gradio; and, where it is installed, the program itself."""

import contextlib
import html.parser
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import kseq
from kseq import demo
from kseq.config import ConfigError
from kseq.errors import UserError
from kseq.runs import Predictor

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


class Fake(Predictor):
    """A predictor that gives the answers it is made with.

    Args:
        answers: list of records, best first; or an exception, which is raised.
        figure: what `show` gives.
        files: what `files` gives, or an exception.
    """

    def __init__(self, answers=(), *, raw=("text",), paths=False, name="classify", max_n=5, figure=None, files=()):
        self.found, self.raw, self.paths, self.name, self.max_n = answers, raw, paths, name, max_n
        self.figure, self.beside = figure, files

    def answers(self, examples, n):
        self.asked = examples
        if isinstance(self.found, Exception):
            raise self.found
        return [self.found[:n] for _ in examples]

    def show(self, example, record=None):
        self.shown = record
        return self.figure

    def files(self, example, record):
        if isinstance(self.beside, Exception):
            raise self.beside
        return dict(self.beside)

    def examples(self):
        raise UserError("the data are not here")


def record(text, score=0.5, tokens=("a", "b"), alignment=(0.25, 0.75), **more):
    return {"text": text, "score": score, "tokens": list(tokens), "alignment": np.array(alignment), **more}


class Parsed(html.parser.HTMLParser):
    """The tags of HTML with their attributes, and its text; it must be well-formed."""

    EMPTY = ("img",)

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, open_ = [], [], []
        self.open = open_
        self.feed(text)
        self.close()
        assert not open_, open_

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def panel(predictor, n=1, example=None):
    return Parsed(demo.panel(demo.Model("runs/x", predictor), example or {"text": "a b"}, n))


# --- the fields


def test_texts_are_read_as_they_are_typed():
    pair = Fake(raw=("premise", "hypothesis"))
    assert demo.read_example(pair, ["a <b>", "ü\n"]) == {"premise": "a <b>", "hypothesis": "ü\n"}
    assert demo.read_example(Fake(), ["\ud800"]) == {"text": "?"}


def test_a_file_is_read_as_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    assert demo.read_example(Fake(raw=("image",), paths=True), [str(tmp_path / "a.png")]) == {"image": PNG}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("text", "", "The text is empty; type a text."),
        ("text", None, "The text is empty; type a text."),
        ("premise", " \n", "The premise is empty; type a text."),
        ("text", "a" * 20_001, "The text has 20,001 characters, and at most 20,000 are read; shorten it."),
        ("request", "prime=/etc/passwd", "prime=FILE would open a file of the computer that serves this page"),
        ("request", "key=G \n prime=x.mid", "prime=FILE would open a file of the computer that serves this page"),
        ("image", None, "There is no image; choose a file."),
        ("audio", "large", "The audio has 20.0 MB, and at most 20 MB are read; choose a smaller one."),
    ],
)
def test_a_wrong_field_is_one_sentence(tmp_path, name, value, message):
    if value == "large":
        value = tmp_path / "a.wav"
        with open(value, "wb") as file:
            file.truncate(demo.MAX_BYTES + 1)
    predictor = Fake(raw=(name,), paths=name in ("image", "audio"))
    first, *panels = demo.reply([demo.Model("a", predictor), demo.Model("b", predictor)], value, 1)
    parsed = Parsed(first)
    assert parsed.all("p") == [{"class": "kseq-error", "role": "alert"}]
    assert "".join(parsed.words).startswith(message) and panels == ["", ""]


def test_the_page_refuses_every_request_that_composing_would_read_a_file_for(tmp_path):
    """Oracle: the task, which raises for a file that is not there."""
    from kseq.tasks.compose import Compose

    task = Compose(Compose.Config(), tmp_path)
    for request in (
        "",
        "prime=none",
        "key=G prime=none",
        "key=G\tprime=none: C4",
        "a: prime=none",
        "xprime=none",
        ":prime=",
    ):
        try:
            task.expanded(request)
            reads = False
        except UserError:
            reads = True
        try:
            demo.read_example(Fake(raw=("request",)), [request])
            refused = False
        except UserError:
            refused = True
        assert refused == reads, request


# --- the answers


def test_the_best_answer_and_a_table_of_all():
    parsed = panel(Fake([record("<star>", 0.9), record("ring & cross", 0.05)]), 2)
    assert parsed.words[:2] == ["<star>", "The 2 best answers"]
    cells = [parsed.words[i : i + 3] for i in range(2, 11, 3)]
    assert cells == [["#", "answer", "score"], ["1", "<star>", "0.900"], ["2", "ring & cross", "0.050"]]
    assert parsed.all("p") == [{"class": "kseq-answer", "role": "status", "dir": "auto"}]


@pytest.mark.parametrize(("n", "max_n", "given"), [(99, 3, 3), (99, None, 10), (0, 3, 1), (2.0, 3, 2), ("2", 3, 2)])
def test_no_more_answers_are_asked_for_than_there_are(n, max_n, given):
    parsed = panel(Fake([record(str(i)) for i in range(30)], max_n=max_n), n)
    assert len(parsed.all("tr")) == (given + 1 if given > 1 else 0)


def test_the_label_of_a_whole_text_is_shown():
    parsed = panel(Fake([record("O B-a", label="<move>")]))
    assert parsed.words[1:4] == ["label: ", "<move>", "score 0.500"]


def test_an_exported_model_says_that_it_has_no_attention():
    parsed = panel(Fake([{"text": "star", "score": 0.5}]))
    assert parsed.words[1:] == [
        "score 0.500",
        "An exported model gives texts and scores; the run also shows the attention.",
    ]


@pytest.mark.parametrize("error", [UserError("n is\n<wrong>"), ConfigError("n is <wrong>")])
def test_an_error_is_one_sentence(error):
    parsed = panel(Fake(error))
    assert parsed.tags == [("p", {"class": "kseq-error", "role": "alert"})] and parsed.words == ["n is <wrong>"]


def test_what_nobody_foresaw_is_a_sentence_here_and_a_traceback_in_the_terminal(capsys):
    parsed = panel(Fake(ZeroDivisionError("secret /path")))
    assert parsed.words == ["The model failed at this input; what went wrong is in the terminal of the program."]
    assert "ZeroDivisionError: secret /path" in capsys.readouterr().err


def test_one_model_that_fails_leaves_the_other_its_answer():
    models = [demo.Model("a", Fake(UserError("no"))), demo.Model("b", Fake([record("yes")]))]
    status, first, second = demo.reply(models, "a", 1)
    assert status == "" and Parsed(first).words == ["no"] and Parsed(second).words[0] == "yes"


# --- what is drawn


def test_a_figure_is_a_picture_with_a_description_that_the_keyboard_scrolls():
    figure = Figure()
    figure.suptitle("x")
    parsed = panel(Fake([record('a "dog"')], figure=figure, name="translate"))
    [image] = parsed.all("img")
    assert image["alt"] == 'Attention: a "dog"' and image["src"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert {"tabindex": "0", "role": "group"}.items() <= parsed.all("div")[0].items()
    assert parsed.all("details") == [{"open": None}] and parsed.words[-1] == "Attention"


def test_a_page_of_words_is_shown_in_a_frame_that_runs_nothing():
    page = '<!DOCTYPE html><p title="x">a &amp; b</p><script>alert(1)</script>'
    parsed = panel(Fake([record("star")], files={".html": page.encode()}, figure=Figure(), name="tag"))
    [frame] = parsed.all("iframe")
    assert frame["srcdoc"] == page and frame["sandbox"] == "" and frame["title"] == "Spans"
    assert not parsed.all("img") and not parsed.all("script")


def test_each_answer_is_drawn_unless_it_looks_the_same():
    """Labels share the words and their weights; texts have words of their own."""
    parsed = panel(Fake([record("star"), record("ring")], figure=Figure()), 2)
    assert [word for word in parsed.words if "Attention" in word] == ["Attention of answer 1"]
    predictor = Fake([record("a", tokens="a"), record("b", tokens="b")], figure=Figure())
    parsed = panel(predictor, 2)
    assert [word for word in parsed.words if "Attention" in word] == ["Attention of answer 1", "Attention of answer 2"]
    assert parsed.all("details") == [{"open": None}, {}] and predictor.shown["text"] == "b"


def test_nothing_is_drawn_where_there_is_no_attention():
    parsed = panel(Fake([record("star", alignment=None)]))
    assert not parsed.all("details") and not parsed.all("img")


def test_music_is_drawn_and_saved():
    predictor = Fake([record("C4", alignment=None)], name="compose", figure=Figure(), files={".mid": b"MThd"})
    parsed = panel(predictor)
    assert parsed.all("a") == [{"download": "answer.mid", "href": "data:audio/midi;base64,TVRoZA=="}]
    assert "Piano roll" in parsed.words and "Save the MIDI file" in parsed.words and parsed.all("img")


def test_a_missing_package_is_told_beside_the_figure():
    parsed = panel(Fake([record("C4")], figure=Figure(), files=UserError("MIDI files need <mido>")))
    assert "MIDI files need <mido>" in parsed.words and parsed.all("img")


# --- models and examples


def test_models_side_by_side_take_the_same_inputs(monkeypatch):
    known = {"a": Fake(), "b": Fake(raw=("premise", "hypothesis")), "c": Fake()}
    monkeypatch.setattr(kseq, "load", lambda folder, overrides: known[folder], raising=False)
    assert demo.load_models(["a", "c"]) == [demo.Model("a", known["a"]), demo.Model("c", known["c"])]
    message = "^a takes text, and b takes premise and hypothesis; models side by side must take the same$"
    with pytest.raises(UserError, match=message):
        demo.load_models(["a", "b"])


def test_examples_are_those_of_the_first_model_that_has_any(tmp_path):
    pair, picture = Fake(raw=("premise", "hypothesis")), Fake(raw=("image",), paths=True)
    pair.examples = lambda: [("dev-0", {"premise": "a", "hypothesis": "b" * 99})]
    picture.examples = lambda: [("x/dev-1.jpg", {"image": PNG})]
    models = [demo.Model("", Fake()), demo.Model("", pair)]
    assert demo.find_examples(models, tmp_path) == [(f"a / {'b' * 55}…", ["a", "b" * 99])]
    [(name, [path])] = demo.find_examples([demo.Model("", picture)], tmp_path)
    assert name == "x/dev-1.jpg" and path == str(tmp_path / "dev-1-image.png") and Path(path).read_bytes() == PNG
    assert demo.find_examples(models[:1], tmp_path) == []


# --- the program


def test_without_gradio_the_program_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.main(["runs/none"]) == 1
    message = "error: the page needs gradio, which is not installed: pip install 'kseq[demo]'\n"
    assert capsys.readouterr().err == message


def test_an_old_gradio_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="5.49.1"))
    assert demo.main(["runs/none"]) == 1
    assert capsys.readouterr().err.startswith("error: the page needs gradio 6, and 5.49.1 is installed: pip install -U")


def test_a_wrong_folder_is_told_and_nothing_is_sent_home(monkeypatch, capsys):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="6.0.0"))
    assert demo.main(["runs/none"]) == 1
    assert "runs/none: there is no such folder" in capsys.readouterr().err
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_wrong_port_is_told_before_anything_is_loaded(capsys, port):
    assert demo.main(["runs/none", f"--port={port}"]) == 1
    assert capsys.readouterr().err == f"error: --port must be from 1 to 65535, it is {port}\n"


def test_an_address_that_is_taken_is_told():
    class Page:
        def queue(self, **options):
            pass

        def launch(self, **options):
            raise OSError("Cannot find empty port; set GRADIO_SERVER_PORT")

    message = "^127.0.0.1:80 is in use, or is not an address of this computer; take another --port or --host$"
    with pytest.raises(UserError, match=message):
        demo.serve(MagicMock(), Page(), "127.0.0.1", 80, "")


@pytest.mark.parametrize(("arguments", "message"), [([], "RUN_OR_EXPORT"), (["a", "--port=x"], "--port: invalid int")])
def test_a_wrong_flag_is_told(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        demo.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


# --- the program as it is used

TINY = (
    "data.train_count=64",
    "data.dev_count=24",
    "data.test_count=24",
    "model.units=8",
    "model.embedding_size=6",
    "training.epochs=1",
)
TEXT = "the large red star"
GRADIO = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs Gradio, which pip install 'kseq[demo]' brings"
)
SERVE_PICTURES = """
import sys
from test_demo import Fake, record
import pathlib, tempfile
from kseq import demo
gradio = demo.import_gradio()
class Reader(Fake):
    def answers(self, examples, n):
        [example] = examples
        if b"PNG" not in example["image"][:8]:
            raise demo.UserError("This is no picture.")
        return [[record(f"{len(example['image'])} bytes", alignment=None)]]
models = [demo.Model("pictures", Reader(raw=("image",), paths=True, name="caption"))]
with tempfile.TemporaryDirectory() as folder:
    demo.serve(gradio, demo.build(gradio, models, []), "127.0.0.1", int(sys.argv[1]), folder)
"""


@contextlib.contextmanager
def serving(tmp_path_factory, *arguments):
    """Starts a program that serves a page, with a free port as its last argument.

    Yields:
        its address, and the file of what it prints.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log"
    python_path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments, str(port)],
            stdout=file,
            stderr=file,
            env=os.environ | {"PYTHONPATH": python_path},
        )
    try:
        end = time.monotonic() + 180
        while " answers until Ctrl-C" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The address of a page of a run of classify and its export, side by side, and the run."""
    from kseq.config import load
    from kseq.tasks import program
    from kseq.tasks.classify import Classify

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    program.train(Classify, folder, load(Classify.Config, overrides=TINY), resume=False, show=0)
    run = kseq.load(folder)
    run.export(folder / "export")
    with serving(tmp_path_factory, "-m", "kseq.demo", str(folder), str(folder / "export"), "--port") as (address, log):
        yield address, run
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The address of a page that takes pictures, of a stand-in for a model."""
    with serving(tmp_path_factory, "-c", SERVE_PICTURES) as (address, _):
        yield address


def png():
    content = io.BytesIO()
    Image.new("RGB", (32, 24), "orange").save(content, format="PNG")
    return content.getvalue()


@pytest.mark.slow
@GRADIO
@pytest.mark.filterwarnings("ignore")  # what Gradio's client warns of is not ours to mend
def test_a_run_and_its_export_answer_over_http(words):
    from gradio_client import Client

    address, run = words
    client = Client(address, verbose=False)
    status, one, other = client.predict(TEXT, 2, api_name="/answer")
    best, second = run(TEXT, n=2)
    assert status == "" and Parsed(one).words[0] == Parsed(other).words[0] == best
    assert ["2", second] in [Parsed(one).words[i : i + 2] for i in range(20)]
    assert len(Parsed(one).all("iframe")) == 1 and not Parsed(other).all("iframe")
    assert Parsed(other).words[-1].startswith("An exported model gives texts and scores")
    status, *panels = client.predict(" ", 2, api_name="/answer")
    assert Parsed(status).words == ["The text is empty; type a text."] and panels == ["", ""]
    assert [*client.view_api(return_format="dict")["named_endpoints"]] == ["/answer"]


@pytest.mark.slow
@GRADIO
@pytest.mark.filterwarnings("ignore")
def test_pictures_are_uploaded_as_they_are_and_nothing_else_is_read(pictures, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(pictures, verbose=False)
    for name, content, answer in (
        ("a.png", png(), f"{len(png())} bytes"),
        ("a.png", b"nonsense", "This is no picture."),
    ):
        (tmp_path / name).write_bytes(content)
        status, panel = client.predict(handle_file(tmp_path / name), 1, api_name="/answer")
        assert (status, Parsed(panel).words[0]) == ("", answer)
    status, panel = client.predict(None, 1, api_name="/answer")
    assert Parsed(status).words == ["There is no image; choose a file."] and panel == ""
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(demo.MAX_BYTES + 1)
    with pytest.raises(Exception, match=r"413|[Tt]oo large|exceed"):
        client.predict(handle_file(tmp_path / "large.png"), 1, api_name="/answer")
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    assert ask(pictures, file, 1).startswith("event: error")  # a path of the server is no upload


def ask(address, *data):
    """What the page's address for programs says to values, which Gradio's own client would change or upload first."""
    request = urllib.request.Request(
        f"{address}/gradio_api/call/answer",
        json.dumps({"data": data}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/answer/{event}", timeout=60) as answer:
        return answer.read().decode()


@pytest.fixture
def browser():
    """A page of a headless Chromium as wide as a telephone; what it asks other hosts for is an error."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium on the PATH")
    foreign, errors = [], []
    with playwright.sync_playwright() as started:
        program = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = program.new_page(viewport={"width": 375, "height": 800})
        page.on("request", lambda request: foreign.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        program.close()
    assert not errors
    assert not [url for url in foreign if not re.match("(http://127.0.0.1:|data:|blob:)", url)]


def focused(page):
    """What the keyboard acts on: the name of its tag, and its text."""
    return page.evaluate("[document.activeElement.tagName, document.activeElement.innerText]")


@pytest.mark.slow
@GRADIO
def test_a_telephone_and_a_keyboard_are_enough(words, browser):
    address, run = words
    browser.goto(address)
    browser.get_by_label("text").focus()
    browser.keyboard.type(TEXT)
    browser.keyboard.press("Enter")
    browser.locator(".kseq-answer").nth(1).wait_for(timeout=60_000)
    assert browser.locator(".kseq-answer").all_inner_texts() == [run(TEXT)] * 2
    assert browser.locator("iframe").content_frame.get_by_text("star").count()
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    reached = []
    while focused(browser)[0] != "SUMMARY":
        browser.keyboard.press("Tab")
        reached.append(focused(browser))
        assert len(reached) < 40, reached
    assert ["BUTTON", "Answer"] in reached and browser.locator("details[open]").count() == 1
    browser.keyboard.press("Enter")
    assert browser.locator("details[open]").count() == 0
    example = run.examples()[1][1]["text"]
    browser.get_by_role("button", name=example).press("Enter")
    browser.wait_for_function("text => document.querySelector('textarea').value == text", arg=example)
    browser.get_by_label("text").fill("")
    browser.get_by_role("button", name="Answer", exact=True).press("Enter")
    browser.get_by_role("alert").get_by_text("The text is empty; type a text.").wait_for()


@pytest.mark.slow
@GRADIO
def test_a_picture_is_dropped_in_the_browser(pictures, browser):
    browser.goto(pictures)
    browser.locator("input[type=file]").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png()})
    browser.get_by_role("button", name="Remove Image").or_(browser.get_by_role("button", name="Clear")).first.wait_for()
    browser.get_by_role("button", name="Answer", exact=True).press("Enter")
    browser.get_by_text(f"{len(png())} bytes").wait_for()
