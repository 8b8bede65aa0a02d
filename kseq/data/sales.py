"""Generated data: short texts about a deal among other events, with one-line summaries. Nearly every name is new."""

CONSONANTS, VOWELS, LAST = "bdfgklmnprstvz", "aeiou", ("", "l", "n", "r", "s", "x")
THINGS = ("bicycle", "boat", "camera", "chair", "clock", "drum", "garden", "guitar", "house", "lamp", "mirror", "table")
WHEN = ("", "yesterday ", "last week ", "on Monday ", "after lunch ")
# What happened, told from the one who gives and from the one who takes, and the word of the summary.
DEALS = (
    ("sold", "bought", "buys"),
    ("lent", "borrowed", "borrows"),
    ("gave", "got", "gets"),
    ("left", "had", "inherits"),
)
# What happened beside. {} stands for someone, {thing} for a thing.
ELSE = (
    "{} met {} at the market",
    "{} waited for {}",
    "{} talked to {} about a {thing}",
    "{} saw a {thing} in the window",
    "{} went home with {}",
    "{} wrote a letter to {}",
)


def sales(rng):
    """Three or four sentences, one of them about a deal, and the deal in a line: `text`, `summary`.

    "Yesterday Zafuko sold a boat to Milel." is "Milel buys a boat from Zafuko" in the summary: which name stands where
    depends on the verb, and the names are to be taken from the text.
    """
    giver, taker, thing = name(rng), name(rng), _draw(rng, THINGS)
    gives, takes, word = _draw(rng, DEALS)
    deal = f"{giver} {gives} a {thing} to {taker}", f"{taker} {takes} a {thing} from {giver}"
    told = [_draw(rng, deal)]
    for _ in range(rng.integers(2, 4)):
        told.insert(
            rng.integers(len(told) + 1), _draw(rng, ELSE).format(name(rng), name(rng), thing=_draw(rng, THINGS))
        )
    text = " ".join(f"{_sentence(_draw(rng, WHEN) + what)}." for what in told)
    return {"text": text, "summary": f"{taker} {word} a {thing} from {giver}"}


def name(rng):
    """A name of three syllables."""
    return "".join(_draw(rng, CONSONANTS) + _draw(rng, VOWELS) for _ in range(3)).capitalize() + _draw(rng, LAST)


def _sentence(text):
    return text[0].upper() + text[1:]


def _draw(rng, choices):
    return choices[rng.integers(len(choices))]
