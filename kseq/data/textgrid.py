"""TextGrids, in which Praat keeps what is said when."""

import codecs
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kseq.errors import UnreadableFile, UserError

MIN_DURATION = 0.001  # seconds of an interval; Praat takes none of length 0
INTERVALS, POINTS = "IntervalTier", "TextTier"  # what Praat calls the two kinds of tiers
TOLERANCE = 1e-5  # seconds by which an interval may begin before the end of the one before, by rounding

# A value of a TextGrid stands alone between white space; `intervals [3]:` and `xmin =` are none.
_VALUE = re.compile(
    r"""(?<!\S)(?:"(?P<text>[^"]*(?:""[^"]*)*)"(?!\S)"""
    r"|(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)|(?P<flag><[^<>\s]*>)(?!\S)|(?P<comment>!.*))"
)


def attention_times(alignment, first, step, duration):
    """When each token is said, by where the attention was when it was written.

        c_t = first + step Σ_s s α_ts / Σ_s α_ts, and at least c_{t−1}

    A token begins half-way between c_{t−1} and c_t and ends half-way between c_t and c_{t+1}. The first begins at 0,
    and the last ends with the recording, or a little later: each lasts `MIN_DURATION` or longer.

    Args:
        alignment: `[tokens, rows]`.
        first: the middle of row 0, in seconds.
        step: from the middle of a row to that of the next, in seconds.
        duration: of the recording, in seconds.

    Returns:
        float64 `[tokens, 2]`, begin and end in seconds.
    """
    alignment = np.asarray(alignment, "float64")
    weights = alignment / np.maximum(alignment.sum(axis=1, keepdims=True), 1e-12)
    centres = first + step * (weights @ np.arange(alignment.shape[1]))
    centres = np.maximum.accumulate(np.clip(centres, 0, duration))
    edges = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [duration]])
    spread = MIN_DURATION * np.arange(len(edges))
    edges = np.maximum.accumulate(edges - spread) + spread
    return np.stack([edges[:-1], edges[1:]], axis=1)


def text_grid(tokens, times, tier="phones"):
    """The text of a TextGrid file with one tier of intervals.

    Args:
        tokens: list of str, one or more.
        times: `[tokens, 2]`, each interval beginning where the one before ends.
        tier: its name.
    """
    end = f"{times[-1][1]:.6f}"
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        f"        name = {_quoted(tier)}",
        "        xmin = 0",
        f"        xmax = {end}",
        f"        intervals: size = {len(tokens)}",
    ]
    for i, (token, (first, last)) in enumerate(zip(tokens, times, strict=True), 1):
        lines += [
            f"        intervals [{i}]:",
            f"            xmin = {first:.6f}",
            f"            xmax = {last:.6f}",
            f"            text = {_quoted(token)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text):
    return '"' + text.replace('"', '""') + '"'


class Interval(NamedTuple):
    """An interval of a tier."""

    begin: float  # seconds
    end: float
    text: str


def read_text_grid(path, tier="phones", bad_bytes="stop"):
    """The intervals of one tier of a TextGrid file, in order.

    The file may have the long or the short text format. Praat reads both by the same rules
    (https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html): what counts are texts in quotation marks,
    numbers and flags that stand alone, and the rest is comment. A file that begins with the byte order mark of UTF-16
    is UTF-16, any other UTF-8.

    Args:
        path: of the file.
        tier: name of an interval tier.
        bad_bytes: how a file that is not UTF-8 is read: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        list of `Interval`; the texts are stripped of white space.

    Raises:
        UserError: the file cannot be read, is not a TextGrid in a text format, or ends too early; or it has no interval
            tier of that name, or two; or an interval ends before it begins, or begins before the end of the one before.
    """
    values = _Values(path, _text(path, bad_bytes))
    kinds = [match["text"] for match in itertools.islice(values.found, 2)]
    if kinds not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise UserError(f"{path} is not a TextGrid that Praat has saved as a text file")
    found, names = None, []
    for _ in range(values.header()):
        kind, name = values.text("the class of a tier"), values.text("the name of a tier")
        names.append(name)
        intervals = list(_tier(values, kind, name))
        if name == tier and kind != INTERVALS:
            raise values.error(f"{tier!r} is a tier of points, and data.tier must name one of intervals")
        if name == tier:
            found = intervals
    if names.count(tier) > 1:
        raise UserError(f"{path}: there are {names.count(tier)} tiers named {tier!r}; rename all but one")
    if found is None:
        known = ", ".join(map(repr, names)) or "none"
        raise UserError(f"{path}: there is no tier {tier!r}; it has {known}. Set data.tier")
    return found


def _tier(values, kind, name):
    """Yields the `Interval`s of the tier that comes next; a point is one without length."""
    if kind not in (INTERVALS, POINTS):
        raise values.error(f"the class of the tier {name!r} is {kind!r}; it must be {INTERVALS} or {POINTS}")
    _, _, count = values.number(f"tier {name!r}"), values.number(f"tier {name!r}"), values.count(f"tier {name!r}")
    last = -np.inf
    for i in range(1, count + 1):
        what = f"interval {i} of {count} of the tier {name!r}" if kind == INTERVALS else f"point {i} of {name!r}"
        begin = values.number(what)
        end = values.number(what) if kind == INTERVALS else begin
        if not last - TOLERANCE <= begin <= end:
            raise values.error(f"{what} is from {begin:g} to {end:g} s, and the one before ends at {last:g} s")
        last = end
        yield Interval(begin, end, values.text(what).strip())


class _Values:
    """The values of a TextGrid, one after another.

    Args:
        path: of the file, for messages.
        content: its text.
    """

    def __init__(self, path, content):
        self.path = path
        self.content = content
        self.found = (match for match in _VALUE.finditer(content) if match.lastgroup != "comment")
        self.at = 0

    def error(self, said):
        """The `UserError` that says so of the line that was read last."""
        return UserError(f"{self.path}:{self.content.count(chr(10), 0, self.at) + 1}: {said}")

    def _next(self, kind, what):
        match = next(self.found, None)
        if match is None:
            self.at = len(self.content.rstrip())
            raise self.error(f"the file ends where {what} should follow")
        self.at = match.start()
        if match.lastgroup != kind:
            raise self.error(f"a {kind} must stand here, of {what}, not {match[0][:40]!r}")
        return match[kind]

    def text(self, what):
        """The next value, which must be a text."""
        return self._next("text", what).replace('""', '"')

    def number(self, what):
        """The next value, which must be a number."""
        number = float(self._next("number", what))
        if not np.isfinite(number):
            raise self.error(f"a number of {what} is too large")
        return number

    def count(self, what):
        """The next value, which must be a whole number of at least 0."""
        number = self.number(what)
        if number < 0 or number != int(number):
            raise self.error(f"the size of {what} must be a whole number, not {number:g}")
        return int(number)

    def header(self):
        """The number of tiers, behind the times of the whole file."""
        for what in ("the first time", "the last time"):
            self.number(what)
        if self._next("flag", "the tiers") != "<exists>":
            return 0
        return self.count("the list of tiers")


def _text(path, bad_bytes):
    """The text of a file, with the ends of its lines as they are."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
            raise UserError(f"{path} is not a file")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith(b"ooBinaryFile"):
        raise UserError(f"{path} is a binary file of Praat; save it as a text file")
    wide = content.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise UserError(f"{path}: not UTF-16, although its first bytes say so") from None
        if bad_bytes != "stop":
            return content.decode("latin-1") if bad_bytes == "latin-1" else content.decode("utf-8", "replace")
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 or UTF-16; save it anew, or set data.bad_bytes to latin-1 or replace"
        ) from None
