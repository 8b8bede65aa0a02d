"""The script that makes pairs of description and synopsis from Debian's packages."""

import importlib.util
import lzma
from pathlib import Path

import pytest

from kseq.data import read

spec = importlib.util.spec_from_file_location("synopses", Path(__file__).parents[2] / "tasks/summarize/prepare.py")
prepare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare)

STANZA = """Package: game{i}
Description-md5: 0
Description-en: a game of number {i}: short
 The goal of game number {i} is to collect all
 the gold and to avoid everybody else.
 .
 A second paragraph.

"""
SHORT = "Package: tiny\nDescription-en: too short\n Five words are too few.\n\n"


def test_pairs_are_made_of_the_first_paragraph_and_the_synopsis(tmp_path, capsys):
    text = "".join(STANZA.format(i=i) for i in range(100)) + SHORT + STANZA.format(i=7)
    (tmp_path / "Translation-en.xz").write_bytes(lzma.compress(text.encode()))
    prepare.main(["--translation", str(tmp_path / "Translation-en.xz"), "--out", str(tmp_path / "data")])
    assert "pairs in" in capsys.readouterr().out
    fields = {"package": "package", "source": "description", "target": "synopsis"}
    source, columns = f"tsv:{tmp_path}/data/{{split}}.tsv.gz", tuple(fields.values())
    train, dev = ([row for _, row in read(source, split, fields, columns=columns)] for split in ("train", "dev"))
    assert len(train) + len(dev) == 100 and 0 < len(dev) < 15
    assert {
        "package": "game42",
        "source": "The goal of game number 42 is to collect all the gold and to avoid everybody else.",
        "target": "a game of number 42: short",
    } in train + dev


def test_a_file_that_is_missing_or_holds_nothing_is_named(tmp_path):
    with pytest.raises(SystemExit, match="is missing; get one as the head of this script says"):
        prepare.main(["--translation", str(tmp_path / "none.xz"), "--out", str(tmp_path)])
    (tmp_path / "empty").write_text("no stanza\n")
    with pytest.raises(SystemExit, match="holds no descriptions"):
        prepare.main(["--translation", str(tmp_path / "empty"), "--out", str(tmp_path)])
