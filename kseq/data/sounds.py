"""How tokens sound, as far as verse goes by it: level or oblique tone, and rhyme."""

import re

from kseq.data.tables import read_tsv
from kseq.errors import UserError

PINYIN = "pinyin"
TONES = {"": 0, "level": 1, "平": 1, "oblique": 2, "仄": 2}

# The fourteen rhymes of Zhonghua Xinyun (中華新韻, 2005), by the finals that pypinyin writes; i after zh, ch, sh, r, z,
# c or s is a rhyme of its own.
FINALS = (
    "a ia ua",
    "o e uo",
    "ie ve",
    "ai uai",
    "ei uei",
    "ao iao",
    "ou iou",
    "an ian uan van",
    "en in uen vn",
    "ang iang uang",
    "eng ing ong iong ueng",
    "i er v",
    "-i",
    "u",
)


def read_sounds(source, vocabulary):
    """The tone of each token, 1 for level (平), 2 for oblique (仄), 0 for none, and its rhyme, 0 for none.

    Args:
        source: "pinyin" for the reading in modern standard Chinese that pypinyin has as the first of a character (tones
            1 and 2 are level, 3 and 4 oblique; rhymes of Zhonghua Xinyun), or a tab-separated file with the columns
            token, tone (level or 平, oblique or 仄, or nothing) and, where rhymes are asked for, rhyme (any text). A
            token that the file has with both tones has none; of several rhymes it has the first.
        vocabulary: list of tokens.

    Returns:
        (tones, rhymes): a list of numbers each, of the length of the vocabulary.

    Raises:
        UserError: pypinyin is not installed; the file cannot be read, lacks a column, or has another tone.
    """
    found = _pinyin(vocabulary) if source == PINYIN else _table(source)
    numbers = {rhyme: k for k, rhyme in enumerate(dict.fromkeys(rhyme for _, rhyme in found.values() if rhyme), 1)}
    tones, rhymes = zip(*(found.get(token, (0, "")) for token in vocabulary), strict=True)
    return list(tones), [numbers.get(rhyme, 0) for rhyme in rhymes]


def _table(path):
    found = {}
    for where, row in read_tsv(path):
        if not {"token", "tone"} <= row.keys():
            raise UserError(f"{path} must have the columns token and tone; it has {', '.join(row)}")
        if row["tone"] not in TONES:
            known = ", ".join(filter(None, TONES))
            raise UserError(f"{where}: the tone is {row['tone']!r}; it must be one of {known}, or nothing")
        tone = TONES[row["tone"]]
        before, rhyme = found.get(row["token"], (tone, row.get("rhyme", "")))
        found[row["token"]] = (tone if tone == before else 0, rhyme)
    return found


def _pinyin(vocabulary):
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise UserError("data.sounds = pinyin needs pypinyin: pip install 'kseq[chinese]'") from None
    rhymes = {final: finals for finals in FINALS for final in finals.split()}
    found = {}
    for token in vocabulary:
        read = lazy_pinyin(token, style=Style.FINALS_TONE3, errors="ignore") if len(token) == 1 else []
        final, tone = re.fullmatch(r"([a-zêü]*)(\d?)", "".join(read)).groups()
        if not final:
            continue
        sibilant = lazy_pinyin(token, style=Style.INITIALS, errors="ignore")[0] in (
            "zh",
            "ch",
            "sh",
            "r",
            "z",
            "c",
            "s",
        )
        final = "-i" if final == "i" and sibilant else final.replace("ü", "v")
        found[token] = ({"1": 1, "2": 1, "3": 2, "4": 2}.get(tone, 0), rhymes.get(final, ""))
    return found
