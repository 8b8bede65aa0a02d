"""Tones and rhymes of tokens, from a table and from pypinyin."""

import sys

import pytest

from kseq.data import read_sounds
from kseq.errors import UserError

VOCABULARY = ["<pad>", "月", "光", "天", "看"]


def table(folder, *lines):
    path = folder / "sounds.tsv"
    path.write_text("\n".join(["token\ttone\trhyme", *lines, ""]), encoding="utf-8")
    return path


def test_a_table_gives_tones_and_rhymes(tmp_path):
    """A token of both tones has none, and keeps its first rhyme; one that the table lacks has neither."""
    path = table(tmp_path, "月\toblique\tyue", "光\t平\tang", "看\t平\tan", "看\t仄\ten", "x\t\tan")
    tones, rhymes = read_sounds(path, VOCABULARY)
    assert tones == [0, 2, 1, 0, 0] and rhymes[0] == rhymes[3] == 0 and len({*rhymes[1:3], rhymes[4]}) == 3


def test_a_table_needs_no_rhymes(tmp_path):
    (tmp_path / "sounds.tsv").write_text("token\ttone\n天\tlevel\n", encoding="utf-8")
    assert read_sounds(tmp_path / "sounds.tsv", VOCABULARY) == ([0, 0, 0, 1, 0], [0] * 5)


def test_pinyin_knows_level_and_oblique_and_what_rhymes():
    """By hand: 天 tiān, 看 kàn and 山 shān rhyme, 光 guāng and 香 xiāng, 知 zhī and 日 rì, but not 知 and 西 xī."""
    words = ["天", "看", "山", "光", "香", "知", "日", "西", "雨", "word", "‿,", "x"]
    tones, rhymes = read_sounds("pinyin", words)
    assert tones == [1, 2, 1, 1, 1, 1, 2, 1, 2, 0, 0, 0]
    names = dict(zip(words, rhymes, strict=True))
    assert names["天"] == names["看"] == names["山"] and names["光"] == names["香"]
    assert names["知"] == names["日"] != names["西"] == names["雨"] and not any(rhymes[9:])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["月\thigh\tyue"], r"sounds.tsv:2: the tone is 'high'; it must be one of level, 平, oblique, 仄, or nothing"),
        (["月\t仄"], r"sounds.tsv:2: 2 field\(s\) between tabs where the first line names 3"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read_sounds(table(tmp_path, *lines), VOCABULARY)


def test_a_table_without_tones_is_named(tmp_path):
    (tmp_path / "sounds.tsv").write_text("character\tpinyin\n天\ttian1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"must have the columns token and tone; it has character, pinyin"):
        read_sounds(tmp_path / "sounds.tsv", VOCABULARY)


def test_what_pinyin_needs_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(UserError, match=r"data.sounds = pinyin needs pypinyin: pip install 'kseq\[chinese\]'"):
        read_sounds("pinyin", VOCABULARY)
