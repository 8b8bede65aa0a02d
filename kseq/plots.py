"""Pictures of what a model looked at."""

import numpy as np
from matplotlib.figure import Figure

from kseq.files import replacing


def picture_alignment(picture, words, alignments, title=""):
    """A picture once for each word, lighter where the word's attention lies.

    Args:
        picture: `[height, width, 3]`, 0…255.
        words: list of words.
        alignments: `[time ≥ words, regions]`, the regions of a square grid row by row.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    columns = min(6, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.15 * rows + 0.4), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axis in axes:
        axis.axis("off")
    axes[0].imshow(picture.astype("uint8"))
    grey = picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1) / 255
    for axis, word, weights in zip(axes[1:], words, alignments, strict=False):
        side = round(len(weights) ** 0.5)
        height, width = picture.shape[:2]
        shown = _stretch(weights.reshape(side, side) / max(weights.max(), 1e-9), height, width)[:, :, None]
        axis.imshow(np.clip(0.35 * grey * (1 - shown) + shown * picture / 255, 0, 1))
        axis.set_title(f"{word}  {weights.max():.2f}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def save(figure, path):
    """Writes a figure as a PNG file, whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft, dpi=100, format="png")


def _stretch(grid, height, width):
    """A grid of weights as large as the picture, linear between the centres of its regions."""
    rows, columns = (
        np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
        for size, side in zip((height, width), grid.shape, strict=True)
    )
    by_column = np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), column) for column in by_column.T], axis=1)
