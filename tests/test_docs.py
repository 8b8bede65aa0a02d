"""The examples of the pages in `docs/` and of the README run."""

import re
from pathlib import Path

import pytest

import kseq.layers

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(path):
    """The Python examples of a page: (first line, code)."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


LONG = ("from-tfa-seq2seq",)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem) for p in (*PAGES, ROOT / "README.md")],
)
def test_examples_run(page):
    """Each with what the first one of its page has defined."""
    (line, first), *others = blocks(page)
    shared = {}
    exec(compile("\n" * (line - 1) + first, page, "exec"), shared)
    for line, code in others:
        exec(compile("\n" * (line - 1) + code, page, "exec"), dict(shared))


def test_the_page_of_layers_names_every_layer():
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    abstract = {"AttentionDecoder", "AttentionMechanism", "Decoder", "RecurrentCell", "Memory"}
    tables = {"ATTENTIONS", "CELLS", "DECODERS"}
    assert not [name for name in set(kseq.layers.__all__) - abstract - tables if f"`{name}`" not in text]
