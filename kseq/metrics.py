"""Scores of generated text, and of where a model looked. Shares are 0…1, BLEU is 0…100."""

import numpy as np
from sacrebleu.metrics import BLEU


def bleu(predictions, references):
    """BLEU-1 to 4 of a corpus (Papineni et al., 2002, https://aclanthology.org/P02-1040), by sacrebleu.

    Args:
        predictions: list of tokenised texts, words joined by one space.
        references: for each prediction, a list of one or more texts of the same form.

    Returns:
        {"bleu_1": …, "bleu_4": …}, 0…100, against all references, with the brevity penalty.
    """
    most = max(len(texts) for texts in references)
    streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
    scores = {}
    for order in (1, 2, 3, 4):
        metric = BLEU(tokenize="none", max_ngram_order=order)
        scores[f"bleu_{order}"] = metric.corpus_score(predictions, streams).score
    return scores


def exact_match(predictions, references):
    """Share of predictions that equal one of their references."""
    return float(np.mean([text in texts for text, texts in zip(predictions, references, strict=True)]))


def pointing(words, alignments, boxes, object_words):
    """How often the region with the largest weight lies on the object that is being named.

    The k-th object word of a text is held against the k-th box. A region counts as on the box when its centre is.

    Args:
        words: for each picture, the words of its text.
        alignments: for each picture, `[time, regions]`, the regions of a square grid row by row.
        boxes: for each picture, `[objects, 4]`: top, left, bottom, right as shares of the picture.
        object_words: set of the words that name objects.

    Returns:
        share of the object words, 0…1; a word beyond the last box counts as a miss. NaN where there is none.
    """
    hits = []
    for text, looks, known in zip(words, alignments, boxes, strict=True):
        side = round(looks.shape[-1] ** 0.5)
        for k, t in enumerate(t for t, word in enumerate(text) if word in object_words):
            row, column = divmod(int(np.argmax(looks[t])), side)
            y, x = (row + 0.5) / side, (column + 0.5) / side
            hits.append(k < len(known) and bool(_inside(known[k], y, x)))
    return float(np.mean(hits)) if hits else float("nan")


def _inside(box, y, x):
    top, left, bottom, right = box
    return top <= y <= bottom and left <= x <= right
