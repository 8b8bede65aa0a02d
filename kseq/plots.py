"""Pictures of what a model looked at."""

import html
import io
import textwrap
import warnings

import matplotlib
import numpy as np
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from kseq.files import write_bytes
from kseq.metrics import points_at

CJK_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "IPAGothic",
)

LINE = 80  # characters of a line of words

_PAGE = """<!DOCTYPE html>
<html lang="und">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.8 sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em; color: #000; background: #fff }}
h1 {{ font-size: 125% }}
b {{ font-size: 85%; padding-right: .6em }}
span span {{ border-radius: 3px; padding: .1em .15em }}
</style>
<h1>{title}</h1>"""


def picture_alignment(picture, words, alignments, title="", objects=()):
    """A picture once for each word, lighter where the word's attention lies, its strongest region framed.

    Where the objects are known, each word of a phrase that names one shows that object's box, dashed. The frame of the
    strongest region is green when its centre lies in the box, red when it does not, and white for a word that names
    nothing. The word with the largest weight of its phrase, which decides `kseq.metrics.pointing`, is bold.

    Args:
        picture: `[height, width, 3]`, 0…255.
        words: list of words.
        alignments: `[time ≥ words, regions]`, the regions of a square grid row by row.
        title: above all.
        objects: list of (first, last + 1, box): the words of a phrase, as `kseq.metrics.noun_phrases` gives them, and
            top, left, bottom and right of what it names, as fractions of the picture.

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
    boxes = {t: box for first, end, box in objects for t in range(first, end)}
    strongest = {first + int(np.argmax(alignments[first:end].max(axis=-1))) for first, end, _ in objects}
    for t, (axis, word, weights) in enumerate(zip(axes[1:], words, alignments, strict=False)):
        side = round(len(weights) ** 0.5)
        height, width = picture.shape[:2]
        shown = _stretch(weights.reshape(side, side) / max(weights.max(), 1e-9), height, width)[:, :, None]
        axis.imshow(np.clip(0.35 * grey * (1 - shown) + shown * picture / 255, 0, 1))
        axis.set_title(f"{word}  {weights.max():.2f}", fontsize=10, fontweight="bold" if t in strongest else "normal")
        row, column = divmod(int(np.argmax(weights)), side)
        colour = "white"
        if t in boxes:
            colour = "limegreen" if points_at(weights, boxes[t]) else "red"
            axis.add_patch(_frame(boxes[t], height, width, edgecolor="white", linestyle="--", linewidth=0.8))
        region = np.array([row, column, row + 1, column + 1]) / side
        axis.add_patch(_frame(region, height, width, edgecolor=colour, linewidth=1.5))
    figure.suptitle(title, fontsize=11)
    return figure


def _frame(box, height, width, **style):
    """The outline of a box, given as fractions of a picture, over that picture."""
    top, left, bottom, right = np.asarray(box) * (height, width, height, width) - 0.5  # pixel 0 begins at -0.5
    return Rectangle((left, top), right - left, bottom - top, fill=False, **style)


def text_alignment(source, words, alignments, title=""):
    """Where each word looked: a row a word, a column a token of the source, 0 white, 1 black.

    Args:
        source: list of tokens.
        words: list of tokens.
        alignments: `[time ≥ words, source ≥ tokens]`.
        title: above all; a long one is broken into lines.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    columns, rows = ([_label(token) for token in tokens] for tokens in (source, words))
    cell = max(0.1, min(0.3, 30 / max(len(rows), len(columns), 1)))  # inches: most pictures are no wider than 30
    size = min(10, 72 * 0.85 * cell)
    beside, above = (max(map(len, labels), default=0) * size / 100 + 0.4 for labels in (rows, columns))
    width = max(cell * len(columns) + beside, 3.2)
    title = textwrap.fill(title, int(11 * width), max_lines=4, placeholder=" …", break_on_hyphens=False)
    height = cell * len(rows) + above + 0.2 * (2 + title.count("\n"))
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.imshow(alignments[: len(words), : len(source)], cmap="Greys", vmin=0, vmax=1, interpolation="none")
    upright = max(map(len, columns), default=0) == 1
    axis.set_xticks(range(len(columns)), columns, rotation=0 if upright else 90, fontsize=size)
    axis.set_yticks(range(len(rows)), rows, fontsize=size)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    return figure


def frame_alignment(frames, tokens, alignments, seconds, title=""):
    """The frames of a recording, and below them the attention of each token: a row a token, 0 white, 1 black.

    Args:
        frames: `[frames, bands]`, the lowest band first.
        tokens: list of tokens.
        alignments: `[time ≥ tokens, rows]`, the rows evenly spread over the frames.
        seconds: from frame to frame.
        title: above all; a long one is broken into lines.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    length = len(frames) * seconds
    width, cell = min(max(5.0, 3 * length), 30), 0.22  # inches
    title = textwrap.fill(title, int(11 * width), max_lines=3, placeholder=" …", break_on_hyphens=False)
    figure = Figure(figsize=(width, 1.6 + cell * max(len(tokens), 3) + 0.6), layout="constrained")
    heights = [1.6, cell * max(len(tokens), 3)]
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    above.imshow(np.transpose(frames), origin="lower", aspect="auto", cmap="magma", extent=(0, length, 0, 1))
    above.set(yticks=[], ylabel="mel bands")
    shown = alignments[: len(tokens)]
    below.imshow(
        shown,
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1,
        interpolation="none",
        extent=(0, length, len(tokens) - 0.5, -0.5),
    )
    below.set_yticks(range(len(tokens)), [_label(token) for token in tokens], fontsize=9)
    below.set(xlabel="seconds")
    below.set_yticks(np.arange(len(tokens) + 1) - 0.5, minor=True)
    below.grid(which="minor", axis="y", color="0.9", linewidth=0.5)
    below.tick_params(which="both", axis="y", length=0)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    return figure


def _label(token):
    """A token as a label: short, and no formula."""
    return (token if len(token) <= 24 else f"{token[:23]}…").replace("$", r"\$")


def piano_roll(roll, names, title=""):
    """A piano roll: a row a key, the highest on top, a column a step, dark where the key is down.

    Args:
        roll: `[steps, keys]`, 0 where a key is up, 1 where it is down; where a note that begins has a 2, it is darker.
        names: of the keys; those of the C's are shown.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    used = np.flatnonzero(np.any(roll, axis=0))
    low, high = (max(used[0] - 2, 0), min(used[-1] + 3, len(names))) if len(used) else (0, len(names))
    figure = Figure(figsize=(min(max(4.0, 0.1 * len(roll)), 30), 0.09 * (high - low) + 1.0), layout="constrained")
    axis = figure.subplots()
    axis.imshow(
        np.transpose(roll)[low:high],
        cmap="Blues",
        vmin=0,
        vmax=max(1, np.max(roll, initial=0)),
        origin="lower",
        aspect="auto",
        interpolation="none",
    )
    marked = [k for k in range(low, high) if names[k].rstrip("0123456789") == "C"]
    axis.set_yticks([k - low for k in marked], [names[k] for k in marked], fontsize=8)
    axis.hlines([k - low - 0.5 for k in marked], -0.5, len(roll) - 0.5, color="0.8", linewidth=0.6)
    axis.set_xticks(np.arange(0, len(roll), 8))
    axis.grid(axis="x", color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    return figure


def gradients(norms, title=""):
    """The gradient that reaches each step, on a logarithmic scale, one line a cell.

    Args:
        norms: {name: list of numbers, the first step's first}, as `kseq.layers.state_gradients` gives them.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, values in norms.items():
        steps = np.arange(1, len(values) + 1)
        axis.semilogy(steps, np.where(np.asarray(values) > 0, values, np.nan), label=name)
    axis.set(xlabel="step t", ylabel="‖∂ loss / ∂ h_t‖", title=title)
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def gates(activations, title=""):
    """What each gate does over a sequence: a row a unit, a column a step, −1 blue, 0 white, 1 red.

    Args:
        activations: {letter: `[time, units]`}, as `kseq.layers.gate_activations` gives them for one sequence.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(6.4, 0.5 + 1.3 * len(activations)), layout="constrained")
    axes = np.ravel(figure.subplots(len(activations), 1, sharex=True, squeeze=False))
    for axis, (letter, values) in zip(axes, activations.items(), strict=True):
        picture = axis.imshow(np.transpose(values), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="none")
        axis.set_ylabel(letter, rotation=0, labelpad=12)
        axis.set_yticks([])
    axes[-1].set_xlabel("step t")
    figure.colorbar(picture, ax=axes.tolist(), shrink=0.8)
    figure.suptitle(title, fontsize=11)
    return figure


def by_length(panels, label, length="length of the source"):
    """A score by the length of the source, a panel each, one line a model.

    Args:
        panels: {title: {name: {length: score}}}.
        label: what the score is.
        length: what is counted along the horizontal axis.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(3.6 * len(panels) + 2.4, 3.2), layout="constrained")
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True, squeeze=False))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, scores in lines.items():
            axis.plot(list(scores), list(scores.values()), marker=".", label=name)
        axis.set(xlabel=length, title=title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def confusion(counts, labels, title=""):
    """How often each class was taken for each: a row a class, shaded by the share of the row.

    Args:
        counts: int `[reference, prediction]`.
        labels: names of the classes.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    counts = np.asarray(counts)
    names = [_label(label) for label in labels]
    side = max(3.2, 0.5 * len(names) + 0.09 * max(map(len, names)) + 0.8)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count and len(names) <= 40:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="answer", ylabel="label", title=title)
    return figure


def coloured_words(words, weights, title=""):
    """The words of a text, each on a ground the redder the more it weighed among them.

    Args:
        words: list of words.
        weights: a number a word.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    most = max([*map(float, weights), 1e-9])
    colours = [(0.84, 0.15, 0.16, 0.8 * float(weight) / most) for weight in weights]
    return _words(words, colours, title)


def coloured_spans(words, spans, title=""):
    """The words of a text, those of each span on a ground of its kind's colour, with the kind after its last word.

    Args:
        words: list of words.
        spans: as `kseq.metrics.spans` gives them.
        title: above all.

    Returns:
        `matplotlib.figure.Figure`; `save` writes it.
    """
    words, colours = list(words), [(1.0, 1.0, 1.0, 0.0)] * len(words)
    kinds = sorted({kind for kind, *_ in spans})
    for kind, first, end in spans:
        hue = (137.5 * kinds.index(kind)) % 360 / 360
        colours[first:end] = [(*hsv_to_rgb((hue, 0.35, 1.0)), 1.0)] * (end - first)
        words[end - 1] += f" ({kind})"
    return _words(words, colours, title)


def _words(words, colours, title):
    """Words in lines of about 80 characters, each on its colour."""
    lines, width = [[]], 0
    for word, colour in zip(map(_label, words), colours, strict=True):
        if width + len(word) > LINE and lines[-1]:
            lines.append([])
            width = 0
        lines[-1].append((width, word, colour))
        width += len(word) + 1
    figure = Figure(figsize=(8.5, 0.45 + 0.3 * len(lines)))
    axis = figure.add_axes([0.02, 0, 0.96, 1 - 0.35 / figure.get_figheight()])
    axis.set(xlim=(0, LINE + 8), ylim=(len(lines), 0))
    axis.axis("off")
    for y, line in enumerate(lines):
        for x, word, colour in line:
            box = {"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
            axis.text(x, y + 0.5, word, fontsize=10, family="monospace", va="center", bbox=box)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    return figure


def words_page(examples, title=""):
    """A page of texts, each word on a ground the redder the more it weighed, among those of its text.

    Args:
        examples: list of (words, weights, what is said of the text).
        title: above all.

    Returns:
        text of an HTML file.
    """
    page = [_PAGE.format(title=html.escape(title))]
    for words, weights, note in examples:
        most = max([*map(float, weights), 1e-9])
        spans = [
            f'<span style="background:rgba(214,39,40,{0.8 * float(weight) / most:.2f})" title="{float(weight):.3f}">'
            f"{html.escape(word)}</span>"
            for word, weight in zip(words, weights, strict=True)
        ]
        page.append(f'<p><b>{html.escape(note)}</b> <span dir="auto">{" ".join(spans)}</span></p>')
    return "\n".join([*page, "</html>", ""])


def spans_page(examples, title=""):
    """A page of texts, the words of each span on a ground of its kind's colour, its kind behind it.

    Args:
        examples: list of (words, spans as `kseq.metrics.spans` gives them, what is said of the text).
        title: above all.

    Returns:
        text of an HTML file.
    """
    kinds = sorted({kind for _, spans, _ in examples for kind, *_ in spans})
    page = [_PAGE.format(title=html.escape(title))]
    for words, spans, note in examples:
        words = [html.escape(word) for word in words]
        for kind, first, end in spans:
            # By the golden angle, so that neighbours differ and no hue comes twice.
            hue = (137.5 * kinds.index(kind)) % 360
            words[first] = f'<span style="background:hsl({hue:.0f},70%,85%)">{words[first]}'
            words[end - 1] += f" <small>{html.escape(kind)}</small></span>"
        page.append(f'<p><b>{html.escape(note)}</b> <span dir="auto">{" ".join(words)}</span></p>')
    return "\n".join([*page, "</html>", ""])


def save(figure, path):
    """Writes a figure as a PNG file, whole or not at all. See `png`."""
    write_bytes(path, png(figure))


def png(figure):
    """A figure as a PNG file, in bytes.

    Chinese and Japanese need one of `CJK_FONTS` on the machine; words that no font has become boxes.
    """
    installed = set(get_font_names())
    more = [name for name in CJK_FONTS if name in installed]
    for text in figure.findobj(Text):
        text.set_fontfamily([*matplotlib.rcParams["font.family"], *more])
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # one a missing letter
        figure.savefig(content, dpi=100, format="png")
    return content.getvalue()


def _stretch(grid, height, width):
    """A grid of weights as large as the picture, linear between the centres of its regions."""
    rows, columns = (
        np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
        for size, side in zip((height, width), grid.shape, strict=True)
    )
    by_column = np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), column) for column in by_column.T], axis=1)
