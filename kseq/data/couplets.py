"""Generated data: lines of verse in plain words, and the lines that answer them word by word."""

SEASONS = ("spring", "autumn")
COLOURS = ("red", "golden", "green", "blue", "white", "black")
PAIRS = (
    ("sun", "moon"),
    ("hill", "river"),
    ("bird", "fish"),
    ("wind", "rain"),
    ("flower", "leaf"),
    ("gate", "road"),
    ("cloud", "field"),
    ("monk", "king"),
)
VERBS = (("rises", "falls"), ("sings", "sleeps"), ("opens", "closes"), ("comes", "goes"), ("wakes", "dreams"))
NUMBERS = ("one", "two", "three", "four", "six", "seven", "eight", "nine")
MOST = 3  # phrases of a line


def couplets(rng):
    """A `line` of a season and one to three phrases of two words, and the line that answers it, `next`.

    Each word is answered at its own place: moon answers sun, falls answers rises, and a number is answered by what it
    lacks of ten. A colour is answered by the next of `COLOURS` in spring, and by the one before it in autumn: that word
    depends on the first of its line. No word answers itself, and words are repeated where those above them are.
    """
    season, words = _draw(rng, SEASONS), []
    for _ in range(rng.integers(1, MOST + 1)):
        noun = _draw(rng, _both(PAIRS))
        words += _draw(
            rng, ((_draw(rng, COLOURS), noun), (_draw(rng, NUMBERS), noun), (noun, _draw(rng, _both(VERBS))))
        )
    line = [season, *words]
    return {"line": " ".join(line), "next": " ".join(answers(line))}


def answers(line):
    """The words that answer those of a line."""
    to = {a: b for pair in (SEASONS, *PAIRS, *VERBS) for a, b in (pair, pair[::-1])}
    to |= dict(zip(NUMBERS, reversed(NUMBERS), strict=True))
    turned = COLOURS[1:] + COLOURS[:1] if line[0] == "spring" else COLOURS[-1:] + COLOURS[:-1]
    to |= dict(zip(COLOURS, turned, strict=True))
    return [to[word] for word in line]


def _both(pairs):
    return [word for pair in pairs for word in pair]


def _draw(rng, choices):
    return choices[rng.integers(len(choices))]
