"""The examples of the pages in `docs/` and of the README run."""

import re
from pathlib import Path

import pytest

import kseq.layers
from kseq.tasks.results import with_table

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "tasks").glob("*/README.md"))
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(path):
    """The Python examples of a page: (first line, code)."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


LONG = ("from-tfa-seq2seq", "keras", "library", "serving")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem) for p in (*PAGES, ROOT / "README.md")],
)
def test_examples_run(page, tmp_path, monkeypatch):
    """Each with what the first one of its page has defined, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (line, first), *others = blocks(page)
    shared = {}
    exec(compile("\n" * (line - 1) + first, page, "exec"), shared)
    for line, code in others:
        exec(compile("\n" * (line - 1) + code, page, "exec"), dict(shared))


@pytest.mark.parametrize("page", [*PAGES, *CARDS, ROOT / "README.md"], ids=lambda page: page.parent.name + page.stem)
def test_no_placeholder_is_left_in_a_page(page):
    assert re.findall(r"^[A-Z]+(?:_[A-Z]+)+$", page.read_text(encoding="utf-8"), re.M) == []


def test_the_page_of_the_library_needs_fewer_than_40_lines_for_a_model():
    page = ROOT / "docs" / "library.md"
    assert all(len([line for line in code.splitlines() if line.strip()]) < 40 for _, code in blocks(page))


def test_the_page_of_keras_has_ten_programs():
    assert len(blocks(ROOT / "docs" / "keras.md")) == 1 + 10


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_the_table_of_a_card_is_what_the_program_wrote(card):
    text, results = card.read_text(encoding="utf-8"), card.with_name("results.csv").read_text(encoding="utf-8")
    assert with_table(text, results) == text and with_table(text, results.partition("\n")[0]) != text


def test_the_table_of_a_card_has_the_last_run_of_each_config():
    """Another commit, or a metric that comes again, is a newer run; it need not have the metrics of the older one."""
    rows = [
        "a,0,bleu,30.0",
        "a,0,old,0.5",
        "b,0,bleu,0.25",
        "a,1,bleu,40.0",
        "a,1,nll,3.291",
        "b,0,bleu,0.00051",
        "b,0,seconds_train,9.0",
    ]
    lines = [f"x,{commit},{config},0,m,2.0,dev,{rest}" for config, commit, rest in (row.split(",", 2) for row in rows)]
    lines.insert(-1, "x,0,b,0,m,2.0,test,bleu,0.125")
    results = "\n".join(["date,commit,config,seed,machine,minutes,split,metric,value", *lines, ""])
    table = "|  | a | b | b |\n|---|---|---|---|\n| split | dev | dev | test |\n"
    table += "| bleu | 40.0 | 0.00051 | 0.125 |\n| nll | 3.29 |  |  |\n| minutes | 2.0 | 2.0 | 2.0 |\n"
    card = "# Card\n<!-- results.csv -->\n{}<!-- end -->\nrest <!-- end -->\n"
    assert with_table(card.format("old\n"), results) == card.format(f"\n{table}| commit | 1 | 0 | 0 |\n\n")
    assert with_table("no place for it\n", results) == "no place for it\n"


def test_the_page_of_layers_names_every_layer():
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    abstract = {"AttentionDecoder", "AttentionMechanism", "Decoder", "RecurrentCell", "Memory"}
    tables = {"ATTENTIONS", "BRIDGES", "CELLS", "DECODERS"}
    assert not [name for name in set(kseq.layers.__all__) - abstract - tables if f"`{name}`" not in text]
