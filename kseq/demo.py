"""A page in the browser that asks trained runs.

    python -m kseq.demo runs/caption/toy
    python -m kseq.demo runs/translate/gru runs/translate/lstm      two runs side by side

It needs Gradio, which `pip install 'kseq[demo]'` brings.
"""

import argparse
import base64
import html
import importlib
import os
import re
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kseq
from kseq import plots
from kseq.config import ConfigError
from kseq.errors import UserError

MAX_BYTES = 20 * 10**6  # of a picture or a recording
MAX_TEXT = 20_000  # characters of a text
MAX_N = 10  # answers to an example
SHOWN = 60  # characters of an example on its button

DRAWN = {"compose": "Piano roll", "tag": "Spans"}  # what a task draws where it is not the attention
HINTS = {
    "image": "A JPEG, PNG, GIF or BMP file.",
    "audio": "A WAV file. A run also takes FLAC, Ogg and MP3, with kseq[audio].",
    "request": "Such as key=G style=scale tempo=120 seed=3 length=64: C4 E4 G4 | D4. Every part may be left out; "
    "behind the colon is what the music begins with.",
}
MEDIA = {".mid": ("audio/midi", "MIDI file"), ".TextGrid": ("text/plain", "TextGrid")}

CSS = """
.kseq-name { overflow-wrap: anywhere }
.kseq-answer { font-size: 1.25rem; overflow-wrap: anywhere; margin: .5rem 0 }
.kseq-error { border-left: 4px solid #b91c1c; padding: .25rem .75rem; overflow-wrap: anywhere }
.kseq-panel table { border-collapse: collapse; width: 100% }
.kseq-panel td, .kseq-panel th { padding: .25rem .5rem; text-align: left }
.kseq-panel td:nth-child(2) { overflow-wrap: anywhere }
.kseq-panel summary { cursor: pointer; padding: .5rem 0 }
.kseq-scroll { overflow-x: auto; background: #fff }
.kseq-scroll img { max-width: none; height: auto; margin: 0 }
.kseq-panel iframe { width: 100%; border: 0; background: #fff }
.kseq-panel :focus-visible { outline: 2px solid currentColor; outline-offset: 2px }
"""


class Model(NamedTuple):
    """What a column of the page asks."""

    folder: str
    predictor: object  # a `kseq.runs.Predictor`


def load_models(folders, overrides=()):
    """The `Model` of each folder.

    Args:
        folders: each that of a run or of an exported model.
        overrides: `key=value` of their data or samplers.

    Raises:
        UserError: as of `kseq.load`; or one takes other inputs than the first.
        ConfigError: an override is wrong.
    """
    models = [Model(str(folder), kseq.load(folder, overrides)) for folder in folders]
    first, *others = models
    for other in others:
        if _inputs(other) != _inputs(first):
            raise UserError(
                f"{first.folder} takes {' and '.join(first.predictor.raw)}, and {other.folder} takes "
                f"{' and '.join(other.predictor.raw)}; models side by side must take the same"
            )
    return models


def _inputs(model):
    return model.predictor.raw, model.predictor.paths


# --- from the fields to an example


def read_example(predictor, values):
    """The fields of the page as an example, {input: str or bytes}.

    Args:
        predictor: what takes the example.
        values: for each of its inputs a text, or the path of a file that was uploaded; None where there is nothing.

    Raises:
        UserError: a field is empty, or holds too much.
    """
    read = _file if predictor.paths else _text
    return {name: read(name, value) for name, value in zip(predictor.raw, values, strict=True)}


def _file(name, path):
    if not path:
        raise UserError(f"There is no {name}; choose a file.")
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise UserError(
            f"The {name} has {size / 10**6:.1f} MB, and at most {MAX_BYTES // 10**6} MB are read; choose a smaller one."
        )
    return Path(path).read_bytes()


def _text(name, value):
    text = str(value or "").encode("utf-8", "replace").decode()
    if len(text) > MAX_TEXT:
        raise UserError(f"The {name} has {len(text):,} characters, and at most {MAX_TEXT:,} are read; shorten it.")
    if name == "request":  # an empty one leaves all open
        if re.match(r"(?s)([^:]*\s)?prime=", text):
            raise UserError(
                "prime=FILE would open a file of the computer that serves this page; write the notes behind a colon."
            )
    elif not text.strip():
        raise UserError(f"The {name} is empty; type a text.")
    return text


# --- from records to HTML


def reply(models, *values):
    """What the page shows for the values of its fields.

    Args:
        models: list of `Model`.
        values: of each input, as `read_example` takes them, and then how many answers are wanted.

    Returns:
        list of HTML: of what is wrong with the fields, or empty; and of the answers of each model.
    """
    *values, n = values
    try:
        example = read_example(models[0].predictor, values)
    except (UserError, OSError) as error:
        return [error_html(error), *("" for _ in models)]
    return ["", *(panel(model, example, n) for model in models)]


def panel(model, example, n=1):
    """The answers of a model to an example, and what is drawn of them, as HTML; or what went wrong, in a sentence.

    Args:
        model: `Model`.
        example: {input: str or bytes}.
        n: how many answers; no more are given than the model can.
    """
    try:
        records = model.predictor(example, n=max(1, min(int(n), most_answers(model))), details=True)
        return answers_html(model, records) + drawings(model, example, records)
    except (UserError, ConfigError) as error:
        return error_html(error)
    except Exception:  # whatever it is, it is not for the reader of a page
        traceback.print_exc()
        return error_html("The model failed at this input; what went wrong is in the terminal of the program.")


def most_answers(model):
    """The most answers that the page asks of a model."""
    return min(MAX_N, model.predictor.max_n or MAX_N)


def error_html(error):
    """One sentence about what is wrong."""
    return f'<p class="kseq-error" role="alert">{html.escape(" ".join(str(error).split()))}</p>'


def answers_html(model, records):
    """The best answer, and a table of all where there are several."""
    best = records[0]
    found = [f'<p class="kseq-answer" role="status" dir="auto">{html.escape(best["text"]) or "(an empty text)"}</p>']
    if "label" in best:
        found.append(f"<p>label: <strong>{html.escape(best['label'])}</strong></p>")
    if len(records) == 1:
        found.append(f"<p>score {best['score']:.3f}</p>")
    else:
        rows = [
            f'<tr><td>{k}</td><td dir="auto">{html.escape(record["text"])}</td><td>{record["score"]:.3f}</td></tr>'
            for k, record in enumerate(records, 1)
        ]
        head = '<tr><th scope="col">#</th><th scope="col">answer</th><th scope="col">score</th></tr>'
        found.append(f"<table><caption>The {len(records)} best answers</caption>{head}{''.join(rows)}</table>")
    if "alignment" not in best:
        found.append("<p>An exported model gives texts and scores; the run also shows the attention.</p>")
    return "".join(found)


def drawings(model, example, records):
    """What is drawn of each record, without those of which the same would be drawn again; the first one is open."""
    name, found, before = DRAWN.get(model.predictor.name, "Attention"), [], []
    for k, record in enumerate(records, 1):
        if "alignment" not in record or any(_looks_same(record, other) for other in before):
            continue
        before.append(record)
        title = f"{name} of answer {k}" if len(records) > 1 else name
        drawn = drawing(model.predictor, example, record, title)
        if drawn:
            opened = "" if found else " open"
            found.append(f"<details{opened}><summary>{html.escape(title)}</summary>{drawn}</details>")
    return "".join(found)


def _looks_same(record, other):
    return record["tokens"] == other["tokens"] and np.array_equal(record["alignment"], other["alignment"])


def drawing(predictor, example, record, title):
    """The page of coloured words or else the figure of a record, and its files to be saved; empty where there are none.

    Args:
        predictor: `kseq.runs.Run`.
        example: {input: str or bytes}.
        record: one of its answers.
        title: of the drawing.
    """
    try:
        files, links = predictor.files(example, record), []
    except UserError as error:  # mido is missing, say; the figure needs it not
        files, links = {}, [f"<p>{html.escape(str(error))}</p>"]
    for suffix, (kind, name) in MEDIA.items():
        if suffix in files:
            links.append(f'<p><a download="answer{suffix}" href="{_data(kind, files[suffix])}">Save the {name}</a></p>')
    if ".html" in files:
        page, letters = html.escape(files[".html"].decode()), sum(len(token) + 1 for token in record["tokens"])
        height = min(150 + letters, 480)  # pixels; a line of a telephone has some 30 letters, and is 29 pixels high
        frame = f'<iframe sandbox="" title="{html.escape(title)}" style="height: {height}px" srcdoc="{page}"></iframe>'
        return frame + "".join(links)
    figure = predictor.show(example, record)
    if figure is None:
        return "".join(links)
    alt = html.escape(f"{title}: {record['text']}")
    image = f'<img alt="{alt}" src="{_data("image/png", plots.png(figure))}">'
    # Focusable, so that the arrow keys scroll it.
    return f'<div class="kseq-scroll" tabindex="0" role="group" aria-label="{alt}">{image}</div>' + "".join(links)


def _data(kind, content):
    """A `data:` URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# --- the page


def find_examples(models, folder):
    """A few examples of the first of the models that has any: list of (name, values of the fields).

    Args:
        models: list of `Model`.
        folder: `Path` that pictures and recordings are written to.
    """
    for model in models:
        try:
            examples = model.predictor.examples()
        except (UserError, OSError):  # an exported model, or data that are not on this machine
            continue
        if examples:
            return [(_shown(name, example), _values(name, example, folder)) for name, example in examples]
    return []


def _shown(name, example):
    """An example on its button: the texts, or the name of a file."""
    texts = [value for value in example.values() if isinstance(value, str)]
    text = " / ".join(texts) or name
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _values(name, example, folder):
    values = []
    for key, value in example.items():
        if isinstance(value, bytes):
            path = folder / f"{Path(name).stem}-{key}.{'wav' if key == 'audio' else 'png'}"
            path.write_bytes(value)
            value = str(path)
        values.append(value)
    return values


def import_gradio():
    """The module gradio, which is told to send nothing home.

    Raises:
        UserError: it is not installed, or too old.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        gradio = importlib.import_module("gradio")
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("the page needs gradio, which is not installed: pip install 'kseq[demo]'") from None
    if int(gradio.__version__.partition(".")[0]) < 6:
        raise UserError(f"the page needs gradio 6, and {gradio.__version__} is installed: pip install -U 'kseq[demo]'")
    return gradio


def build(gradio, models, examples):
    """The page, `gradio.Blocks`.

    Args:
        gradio: the module.
        models: list of `Model`.
        examples: list of (name, values of the fields).
    """
    first = models[0].predictor
    most, ask = max(map(most_answers, models)), partial(reply, models)
    title = f"kseq: {first.name}"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.HTML(f"<h1>{html.escape(title)}</h1>")
        fields = [_field(gradio, name, first.paths) for name in first.raw]
        # Hidden where there is no choice; Gradio refuses a slider of one value, and `panel` gives what there is.
        slider = gradio.Slider(1, max(most, 2), min(3, most), step=1, label="answers", visible=most > 1)
        button = gradio.Button("Answer", variant="primary")
        chosen = []
        if examples:
            gradio.HTML("<p>Examples:</p>")
            with gradio.Row():
                for name, values in examples:
                    icon = values[0] if first.raw == ("image",) else None
                    chosen.append((gradio.Button(name, size="sm", min_width=160, icon=icon), values))
        outputs = [gradio.HTML()]
        with gradio.Row():
            for model in models:
                with gradio.Column(min_width=300):
                    gradio.HTML(f'<h2 class="kseq-name">{html.escape(model.folder)}</h2>')
                    outputs.append(gradio.HTML(elem_classes="kseq-panel"))
        asked = {"fn": ask, "inputs": [*fields, slider], "outputs": outputs, "concurrency_id": "model"}
        submitted = [field.submit for field in fields if not first.paths]
        gradio.on([button.click, *submitted], api_name="answer", **asked)
        for example, values in chosen:
            filled = example.click(partial(_fill, values), outputs=fields, api_visibility="private", queue=False)
            filled.then(api_visibility="private", **asked)
    return page


def _fill(values):
    """The values of all fields, as Gradio wants them: a list where there are several."""
    return values if len(values) > 1 else values[0]


def _field(gradio, name, paths):
    """The field of an input."""
    hint = HINTS.get(name)
    if not paths:
        return gradio.Textbox(label=name, info=hint, lines=1, max_lines=8, max_length=MAX_TEXT)
    if name == "image":
        field = gradio.Image(label=f"{name}: {hint}", type="filepath", sources=["upload", "clipboard"], buttons=[])
        # Gradio would open the file with Pillow, whose errors are no sentences, and hand on a copy in another format.
        field.preprocess = lambda payload: payload and payload.path
        return field
    return gradio.Audio(label=f"{name}: {hint}", type="filepath", sources=["upload", "microphone"], buttons=[])


def serve(gradio, page, host, port, folder):
    """Serves a page until the program is interrupted.

    Args:
        gradio: the module.
        page: `gradio.Blocks`.
        host: address to listen on.
        port: to listen on.
        folder: of the files of the examples, which may be read over the network.

    Raises:
        UserError: the port is in use, or the address is not one of this computer.
    """
    page.queue(max_size=20)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            footer_links=[],
            max_file_size=MAX_BYTES,
            allowed_paths=[str(folder)],
            prevent_thread_lock=True,
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=CSS,
        )
    except OSError:  # Gradio has one sentence for both, about its own settings
        raise UserError(
            f"{host}:{port} is in use, or is not an address of this computer; take another --port or --host"
        ) from None
    print(f"http://{host}:{port} answers until Ctrl-C", flush=True)
    page.block_thread()


def main(arguments=None):
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kseq.demo", description="A page in the browser that asks runs.")
    parser.add_argument("folders", nargs="+", metavar="RUN_OR_EXPORT", help="folder of a run or of an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1, this computer")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on; default: 7860")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="changes one value of the data or the sampler"
    )
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported
    try:
        if not 0 < options.port < 2**16:
            raise UserError(f"--port must be from 1 to {2**16 - 1}, it is {options.port}")
        gradio = import_gradio()
        models = load_models(options.folders, options.set)
        with tempfile.TemporaryDirectory() as folder:
            page = build(gradio, models, find_examples(models, Path(folder)))
            serve(gradio, page, options.host, options.port, folder)
    except (UserError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
