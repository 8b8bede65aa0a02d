"""Scores of texts, of labels, and of where a model looked. Shares are 0…1, BLEU and ROUGE 0…100."""

import itertools
import types

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
    scores = {}
    for order in (1, 2, 3, 4):
        metric = BLEU(tokenize="none", max_ngram_order=order)
        scores[f"bleu_{order}"] = metric.corpus_score(predictions, _streams(references)).score
    return scores


def corpus_bleu(predictions, references, tokenize="13a"):
    """BLEU-4 of texts as a person writes them (Post, 2018, https://aclanthology.org/W18-6319), by sacrebleu.

    Args:
        predictions: list of texts.
        references: for each prediction, a list of one or more texts.
        tokenize: how sacrebleu parts both into words: "13a" for languages with spaces, "zh" for Chinese, "char" for
            characters.

    Returns:
        0…100.
    """
    return BLEU(tokenize=tokenize).corpus_score(predictions, _streams(references)).score


def _streams(references):
    """The first reference of each text, then the second of those that have one, and so on."""
    most = max(len(texts) for texts in references)
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]


def rouge(predictions, references, words=None):
    """ROUGE-1, 2 and L (Lin, 2004, https://aclanthology.org/W04-1013), F1 without stemming, by rouge-score.

    Args:
        predictions: list of texts.
        references: a text for each prediction.
        words: function from a text to the list of its words; rouge-score's own where there is none: runs of a…z and
            0…9 in lower case, which finds no word in other scripts.

    Returns:
        {"rouge_1": …, "rouge_2": …, "rouge_l": …}, means over the texts, 0…100.
    """
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scorer = RougeScorer(list(kinds.values()), tokenizer=types.SimpleNamespace(tokenize=words or rouge_words))
    scores = [scorer.score(target, text) for text, target in zip(predictions, references, strict=True)]
    return {name: 100 * float(np.mean([s[kind].fmeasure for s in scores])) for name, kind in kinds.items()}


def rouge_words(text):
    """The words of a text as rouge-score counts them."""
    from rouge_score.tokenize import tokenize

    return tokenize(text, None)


def novel(predictions, sources, n=1, words=None):
    """Share of the n-grams of all predictions that their sources do not have (See et al., 2017).

    https://arxiv.org/abs/1704.04368

    Args:
        predictions: list of texts.
        sources: a text for each prediction.
        n: words of an n-gram.
        words: as in `rouge`.

    Returns:
        0…1; NaN where there is no n-gram.
    """
    new = []
    for text, source in zip(predictions, sources, strict=True):
        known = set(_ngrams(source, n, words))
        new += [ngram not in known for ngram in _ngrams(text, n, words)]
    return float(np.mean(new)) if new else float("nan")


def repeated(predictions, n=3, words=None):
    """Share of the n-grams of all predictions that stand in the same prediction before; arguments as in `novel`."""
    texts = [_ngrams(text, n, words) for text in predictions]
    count = sum(map(len, texts))
    return (count - sum(len(set(ngrams)) for ngrams in texts)) / count if count else float("nan")


def token_errors(predictions, references):
    """How often tokens were left out, added, or taken for others, in the best alignment of each text with its reference
    (Levenshtein, 1966), by jiwer.

    Args:
        predictions: list of texts, tokens with spaces between.
        references: a text for each prediction, of one token or more.

    Returns:
        {"insertions", "deletions", "substitutions": …}, each as a share of the tokens of the references; their sum is
        the error rate, which may be above 1.
    """
    from jiwer import process_words

    found = process_words(list(references), list(predictions))
    count = found.hits + found.substitutions + found.deletions
    return {name: getattr(found, name) / count for name in ("insertions", "deletions", "substitutions")}


def token_pairs(predictions, references):
    """The tokens that stand beside each other in the alignment that `token_errors` counts: list of (reference,
    prediction), "" where there is none.

    >>> token_pairs(["a c"], ["a b c"])
    [('a', 'a'), ('b', ''), ('c', 'c')]
    """
    from jiwer import process_words

    found, pairs = process_words(list(references), list(predictions)), []
    for reference, prediction, chunks in zip(found.references, found.hypotheses, found.alignments, strict=True):
        for chunk in chunks:
            right = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            answer = prediction[chunk.hyp_start_idx : chunk.hyp_end_idx]
            pairs += itertools.zip_longest(right, answer, fillvalue="")
    return pairs


def _ngrams(text, n, words):
    text = (words or rouge_words)(text)
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def accuracy(predictions, references):
    """Share of labels that are right."""
    return float(np.mean([label == target for label, target in zip(predictions, references, strict=True)]))


def macro_f1(predictions, references):
    """Mean of the F1 of all classes that stand in either, each counted once however rare, by scikit-learn; 0…1."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0))


def confusion(predictions, references, labels):
    """How often each class was taken for each: int `[reference, prediction]`, in the order of `labels`."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(references, predictions, labels=labels)


def spans(tags):
    """The spans of a sequence of BIO tags, as CoNLL-2000's conlleval reads them: list of (kind, first, last + 1).

    A span begins at B, and at an I that does not go on with a span of its kind.

    >>> spans(["B-city", "I-city", "O", "I-date", "B-date"])
    [('city', 0, 2), ('date', 3, 4), ('date', 4, 5)]
    """
    found, first, kind = [], 0, None
    for i, tag in enumerate([*tags, "O"]):
        mark, _, new = tag.partition("-")
        if mark == "I" and new == kind:
            continue
        if kind is not None:
            found.append((kind, first, i))
        first, kind = i, None if mark == "O" else new
    return found


def span_f1(predictions, references):
    """F1 of the spans (see `spans`) that have their kind and both ends right, over all texts; 0…1.

    Args:
        predictions: list of lists of BIO tags.
        references: the same, of the same lengths.
    """
    right = of = 0
    for tags, targets in zip(predictions, references, strict=True):
        if len(tags) != len(targets):
            raise ValueError(f"{len(tags)} tags cannot be held against {len(targets)}")
        found, known = set(spans(tags)), set(spans(targets))
        right, of = right + 2 * len(found & known), of + len(found) + len(known)
    return right / of if of else float("nan")


def pointing(words, alignments, boxes, nouns, modifiers=()):
    """Share of noun phrases whose largest attention weight lies on the object that they name.

    A noun phrase is a noun with the modifiers right before it ("a large yellow cross"); without modifiers it is the
    noun alone. Its largest weight is that of all its words and all regions. The k-th phrase of a text names the object
    of the k-th box. The phrase is a hit when the centre of the region lies inside that box.

    The share over whole phrases tells whether the model attends to the object while it writes the phrase; the share
    over nouns alone whether it still does when it writes the noun, which it could also predict from its state.

    Args:
        words: for each picture, the words of its text.
        alignments: for each picture, `[time, regions]`, the regions of a square grid row by row.
        boxes: for each picture, `[objects, 4]`: top, left, bottom, right as fractions of the picture.
        nouns: set of the words that name objects.
        modifiers: set of the words that belong to the noun after them.

    Returns:
        0…1; a phrase beyond the last box counts as a miss. NaN where there is no phrase.
    """
    hits = []
    for text, weights, known in zip(words, alignments, boxes, strict=True):
        for k, (first, end) in enumerate(noun_phrases(text, nouns, modifiers)):
            largest = weights[first + int(np.argmax(weights[first:end].max(axis=-1)))]
            hits.append(k < len(known) and points_at(largest, known[k]))
    return float(np.mean(hits)) if hits else float("nan")


def noun_phrases(words, nouns, modifiers=()):
    """The noun phrases of a text: each noun with the unbroken run of modifiers before it, as (first, last + 1).

    >>> noun_phrases("a red ball left of a star".split(), {"ball", "star"}, {"a", "red"})
    [(0, 3), (5, 7)]
    """
    phrases, first = [], 0
    for t, word in enumerate(words):
        if word in nouns:
            phrases.append((first, t + 1))
        if word not in modifiers:
            first = t + 1
    return phrases


def points_at(weights, box):
    """Whether the centre of the region with the largest weight lies inside a box.

    Args:
        weights: `[regions]`, of a square grid row by row.
        box: top, left, bottom, right as fractions of the picture.
    """
    side = round(len(weights) ** 0.5)
    row, column = divmod(int(np.argmax(weights)), side)
    y, x = (row + 0.5) / side, (column + 0.5) / side
    top, left, bottom, right = box
    return bool(top <= y <= bottom and left <= x <= right)
