"""Pictures that are written."""

import itertools

import matplotlib.font_manager
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from kseq import plots


def test_words_without_a_font_are_written_without_complaint(tmp_path):
    """Warnings are errors in the tests; a font that is there is used for what the first one lacks."""
    figure = plots.picture_alignment(np.zeros((8, 8, 3)), ["山羊", "a"], np.full((2, 4), 0.25), title="山羊")
    plots.save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 300 and np.ptp(np.asarray(picture)) > 0


def test_a_picture_shows_which_words_look_at_their_object():
    """By hand: "red" looks into its box, "ball", harder, beside it; "and" names nothing."""
    weights = np.full((3, 4), 0.1)
    weights[[0, 1, 2], [0, 3, 1]] = 0.6, 0.7, 0.9
    objects = [(0, 2, (0.0, 0.0, 0.5, 0.5))]
    figure = plots.picture_alignment(np.zeros((8, 8, 3)), ["red", "ball", "and"], weights, objects=objects)
    _, *panels = figure.axes
    frames = [[patch for patch in axis.patches if patch.get_linestyle() == "solid"] for axis in panels]
    assert [matplotlib.colors.to_hex(frame.get_edgecolor()) for (frame,) in frames] == ["#32cd32", "#ff0000", "#ffffff"]
    assert [frame.get_bbox().bounds for (frame,) in frames] == [
        (-0.5, -0.5, 4, 4),
        (3.5, 3.5, 4, 4),
        (3.5, -0.5, 4, 4),
    ]
    dashed = [[patch.get_bbox().bounds for patch in axis.patches if patch.get_linestyle() == "--"] for axis in panels]
    assert dashed == [[(-0.5, -0.5, 4, 4)], [(-0.5, -0.5, 4, 4)], []]
    assert [axis.title.get_fontweight() for axis in panels] == ["normal", "bold", "normal"]


def test_a_font_that_is_there_is_asked_for_what_the_first_lacks(tmp_path, monkeypatch):
    """DejaVu Sans stands behind a font of Latin letters alone: the arrow is drawn as by DejaVu Sans itself."""
    figure = plots.picture_alignment(np.zeros((8, 8, 3)), [], np.zeros((0, 4)), title="⇶⇶⇶")
    plots.save(figure, tmp_path / "want.png")
    monkeypatch.setitem(plots.matplotlib.rcParams, "font.sans-serif", ["cmr10"])
    plots.save(figure, tmp_path / "boxes.png")
    monkeypatch.setattr(plots, "CJK_FONTS", ("no such font", "DejaVu Sans"))
    assert "DejaVu Sans" in matplotlib.font_manager.get_font_names()
    plots.save(figure, tmp_path / "got.png")
    pictures = {path.stem: np.asarray(Image.open(path).convert("L")) for path in tmp_path.glob("*.png")}
    assert not np.array_equal(pictures["got"], pictures["boxes"])


@pytest.mark.slow
@pytest.mark.parametrize("source, words", [(1, 1), (3, 12), (90, 60)])
def test_an_alignment_has_a_row_for_each_word_and_every_label_inside_the_picture(source, words):
    """Weights behind the last token, as padding has them, are not shown; "$" begins no formula."""
    rng = np.random.default_rng(0)
    tokens, said = [f"$source_{i}$" for i in range(source)], [f"W{i}" * (1 + i % 3) for i in range(words)]
    figure = plots.text_alignment(tokens, said, rng.random((words + 2, source + 3)), title="$x " * 30)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axis,) = figure.axes
    assert axis.images[0].get_array().shape == (words, source)
    labels = [*axis.get_xticklabels(), *axis.get_yticklabels(), figure._suptitle]
    assert [label.get_text().replace("\\", "") for label in labels[:-1]] == [*tokens, *said]
    for label in labels:
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    columns = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert all(a.x1 <= b.x0 + 1 for a, b in itertools.pairwise(columns))


def test_a_piano_roll_has_a_row_for_each_key_around_those_that_are_used():
    """By hand: keys 38 to 43 are used, with two more on either side; C4, key 39, is labelled."""
    roll = np.zeros((5, 88))
    roll[[0, 1, 4], [38, 39, 43]] = 1
    names = [f"{'C' if k % 12 == 3 else 'x'}{(k + 9) // 12}" for k in range(88)]
    [axis] = plots.piano_roll(roll, names, "a $title").axes
    shown = np.asarray(axis.images[0].get_array())
    assert shown.shape == (10, 5) and np.argwhere(shown).tolist() == [[2, 0], [3, 1], [7, 4]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["C4"] and axis.get_yticks().tolist() == [3]
    assert axis.images[0].origin == "lower"
    for last, shade in ((1, 1), (2, 0.5)):  # a note that goes on is lighter where others are told from it
        image = plots.piano_roll(np.array([[1, 0], [1, last]]), ["C1", "x1"]).axes[0].images[0]
        assert image.norm(1) == shade and image.norm(last) == 1
    [silent] = plots.piano_roll(np.zeros((3, 88)), names).axes
    assert np.asarray(silent.images[0].get_array()).shape == (88, 3)


def test_a_long_token_is_cut():
    figure = plots.text_alignment(["x" * 40], ["y"], np.ones((1, 1)))
    assert figure.axes[0].get_xticklabels()[0].get_text() == "x" * 23 + "…"


def test_a_recording_stands_above_where_its_phones_were_heard(tmp_path):
    """By hand: 20 frames of 10 ms, two phones over five rows."""
    weights = np.array([[1, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]])
    figure = plots.frame_alignment(np.random.default_rng(0).random((20, 8)), ["$a", "b"], weights, 0.01, title="$a b")
    above, below = figure.axes
    [frames], [shown] = above.get_images(), below.get_images()
    assert tuple(frames.get_extent()) == (0, 0.2, 0, 1) and frames.get_array().shape == (8, 20)
    assert tuple(shown.get_extent()) == (0, 0.2, 1.5, -0.5)
    np.testing.assert_array_equal(shown.get_array(), weights[:2])
    assert [label.get_text() for label in below.get_yticklabels()] == [r"\$a", "b"]
    plots.save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 300 and np.ptp(np.asarray(picture)) > 0
