"""Pictures that are written."""

import matplotlib.font_manager
import numpy as np
from PIL import Image

from kseq import plots


def test_words_without_a_font_are_written_without_complaint(tmp_path):
    """Warnings are errors in the tests; a font that is there is used for what the first one lacks."""
    figure = plots.picture_alignment(np.zeros((8, 8, 3)), ["山羊", "a"], np.full((2, 4), 0.25), title="山羊")
    plots.save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 300 and np.ptp(np.asarray(picture)) > 0


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
