"""TextGrids, in which Praat keeps what is said when."""

import numpy as np

MIN_DURATION = 0.001  # seconds of an interval; Praat takes none of length 0


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
