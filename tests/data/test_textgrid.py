"""TextGrids: when each token is said, and the file that says so."""

import re

import numpy as np
import pytest

from kseq.data import attention_times, read_text_grid, text_grid
from kseq.data.tones import tones
from kseq.errors import UserError

# Both as Praat 6.1.38 writes them.
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 1 
tiers? <exists> 
size = 3 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "words" 
        xmin = 0 
        xmax = 1 
        intervals: size = 1 
        intervals [1]:
            xmin = 0 
            xmax = 1 
            text = "" 
    item [2]:
        class = "IntervalTier" 
        name = "phones" 
        xmin = 0 
        xmax = 1 
        intervals: size = 3 
        intervals [1]:
            xmin = 0 
            xmax = 0.3 
            text = "AH" 
        intervals [2]:
            xmin = 0.3 
            xmax = 0.55 
            text = "a""b" 
        intervals [3]:
            xmin = 0.55 
            xmax = 1 
            text = "ʃ sil
 two" 
    item [3]:
        class = "TextTier" 
        name = "clicks" 
        xmin = 0 
        xmax = 1 
        points: size = 1 
        points [1]:
            number = 0.4 
            mark = "!x" 
"""  # noqa: W291
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
3
"IntervalTier"
"words"
0
1
1
0
1
""
"IntervalTier"
"phones"
0
1
3
0
0.3
"AH"
0.3
0.55
"a""b"
0.55
1
"ʃ sil
 two"
"TextTier"
"clicks"
0
1
1
0.4
"!x"
"""
INTERVALS = [(0, 0.3, "AH"), (0.3, 0.55, 'a"b'), (0.55, 1, "ʃ sil\n two")]


def test_sharp_attention_gives_the_sounds_their_time():
    """Oracle: when each generated tone begins and ends, with silence between; a row is 0.01 s."""
    for example in tones("train", 20):
        ends, step = example["ends"], 0.01
        rows = np.arange(round(ends[-1, 1] / step) + 5) * step + step / 2
        alignment = np.array([(rows > begin) & (rows < end) for begin, end in ends], "float32")
        times = attention_times(alignment / alignment.sum(axis=1, keepdims=True), step / 2, step, len(rows) * step)
        np.testing.assert_allclose(times[1:, 0], (ends[1:].mean(axis=1) + ends[:-1].mean(axis=1)) / 2, atol=step)
        middles = ends.mean(axis=1)
        assert np.all((times[:, 0] < middles) & (middles < times[:, 1]))


@pytest.mark.parametrize("weight", [1.0, 0.2])  # the weights of local attention sum to less than 1
def test_times_cover_the_recording_in_order_wherever_the_attention_was(weight):
    rng = np.random.default_rng(0)
    alignment = np.eye(6)[[3, 3, 1, 5, 0]] * weight
    times = attention_times(alignment, 0.02, 0.04, 0.3)
    np.testing.assert_allclose(times[1:, 0], times[:-1, 1])
    assert times[0, 0] == 0 and times[-1, 1] >= 0.3 and np.all(np.diff(times) > 0.0009)
    np.testing.assert_allclose(times[3, 0], (0.14 + 0.22) / 2, atol=1e-6)  # rows 3 and 5: it does not go back to row 1
    one = attention_times(rng.random((1, 6)), 0.02, 0.04, 0.3)
    np.testing.assert_array_equal(one, [[0, 0.3]])


def test_the_file_is_that_of_praat():
    text = text_grid(["AH", 'a"b'], [[0, 0.25], [0.25, 0.5]])
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 0.500000\n')
    found = re.findall(r"intervals \[(\d)\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = (.*)", text)
    assert found == [("1", "0.000000", "0.250000", '"AH"'), ("2", "0.250000", "0.500000", '"a""b"')]
    assert 'name = "phones"' in text and "intervals: size = 2\n" in text and text.endswith("\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "content", [LONG, SHORT, LONG.replace("\n", "\r\n"), SHORT.replace('"phones"', 'name2 "phones" ! 3 "x"')]
)
def test_what_praat_writes_is_read(tmp_path, content, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(content.encode(encoding))
    assert [(begin, end, " ".join(text.split())) for begin, end, text in read_text_grid(path)] == [
        (begin, end, " ".join(text.split())) for begin, end, text in INTERVALS
    ]
    assert read_text_grid(path, "words") == [(0, 1, "")]


def test_what_is_written_is_read_again(tmp_path):
    """And Praat reads it: Parselmouth 0.4.7 finds the labels and the times of `text_grid`."""
    tokens, times = ["AH", 'a"b', "", "!", "ʃ 1 <exists>"], np.cumsum(np.random.default_rng(0).uniform(0.001, 1, 6))
    times = np.stack([times[:-1], times[1:]], axis=1)
    path = tmp_path / "a.TextGrid"
    path.write_text(text_grid(tokens, times, tier='"my" tier'), encoding="utf-8")
    found = read_text_grid(path, '"my" tier')
    assert [interval.text for interval in found] == tokens
    np.testing.assert_allclose([interval[:2] for interval in found], times, atol=1e-6)


def test_a_file_in_latin_1_is_read_when_that_is_asked_for(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(SHORT.replace("ʃ", "é").encode("latin-1"))
    with pytest.raises(UserError, match=r"a.TextGrid:29: not UTF-8 or UTF-16; .* data.bad_bytes to latin-1 or replace"):
        read_text_grid(path)
    assert read_text_grid(path, bad_bytes="latin-1")[2].text == "é sil\n two"
    assert read_text_grid(path, bad_bytes="replace")[2].text == "\ufffd sil\n two"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ooTextFile"', '"ooTextFil"', "a.TextGrid is not a TextGrid that Praat has saved as a text file"),
        ('"TextGrid"', '"PitchTier"', "a.TextGrid is not a TextGrid"),
        ('"phones"', '"segments"', "a.TextGrid: there is no tier 'phones'; it has 'words', 'segments', 'clicks'. Set"),
        ("<exists>\n3", "<absent>", "a.TextGrid: there is no tier 'phones'; it has none"),
        ('"words"', '"phones"', "a.TextGrid: there are 2 tiers named 'phones'; rename all but one"),
        (
            '"clicks"',
            '"phones"',
            "a.TextGrid:37: 'phones' is a tier of points, and data.tier must name one of intervals",
        ),
        ('"TextTier"', '"Tier"', "a.TextGrid:32: the class of the tier 'clicks' is 'Tier'; it must be IntervalTier or"),
        ("0.3\n0.55", "0.3\n0.25", r"a.TextGrid:25: interval 2 of 3 of the tier 'phones' is from 0.3 to 0.25 s, and"),
        ("0.55\n1\n", "0.5\n1\n", r"a.TextGrid:28: interval 3 .* from 0.5 to 1 s, and the one before ends at 0.55 s"),
        ("0.3\n0.55", "0.3", r"a.TextGrid:25: a number must stand here, of interval 2 of 3 .*, not '.a..b.'"),
        ('"AH"', '"AH', r"a.TextGrid:24: a text must stand here, of interval 1 of 3 of the tier 'phones', not '0.3'"),
        ("<exists>\n3", "<exists>\n2.5", "a.TextGrid:7: the size of the list of tiers must be a whole number, not 2.5"),
        ("<exists>\n3", "<exists>\n1e999", "a.TextGrid:7: a number of the list of tiers is too large"),
        ("<exists>\n3", "<exists>\n9", "a.TextGrid:37: the file ends where the class of a tier should follow"),
        ("<exists>\n3", "<exists>\n-1", "a.TextGrid:7: the size of the list of tiers must be a whole number, not -1"),
        (SHORT[100:], "", "a.TextGrid:14: the file ends where interval 1 of 1 of the tier 'words' should follow"),
        (SHORT, "", "a.TextGrid is not a TextGrid"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "a.TextGrid"
    path.write_text(SHORT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_text_grid(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ooBinaryFile\x08TextGrid", "a.TextGrid is a binary file of Praat; save it as a text file"),
        (SHORT.encode("utf-16")[:-1], "a.TextGrid: not UTF-16, although its first bytes say so"),
        (None, "a.TextGrid cannot be read: No such file"),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.TextGrid").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_text_grid(tmp_path / "a.TextGrid")
    with pytest.raises(UserError, match="is not a file"):
        read_text_grid(tmp_path)


def test_a_file_that_is_cut_off_anywhere_is_told(tmp_path):
    path = tmp_path / "a.TextGrid"
    for content in (LONG, SHORT):
        for end in range(0, content.index('"!x"'), 31):
            path.write_text(content[:end], encoding="utf-8")
            with pytest.raises(UserError, match=r"a\.TextGrid"):
                read_text_grid(path)
