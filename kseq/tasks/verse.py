"""Verse: to a line the next of equal length, as in the couplets (對聯) of Chinese poems.

python -m kseq.tasks.verse --help
"""

import functools
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import logsumexp, softmax

import kseq
from kseq.errors import UserError
from kseq.tasks.generation import Generation, Texts
from kseq.tasks.requests import OK, first_status
from kseq.tasks.schema import (
    GenerationTrainingConfig,
    PairConfig,
    PairDataConfig,
    PairFields,
    PairModelConfig,
    TextSamplerConfig,
)

CANDIDATES = 10  # next lines from which the true one is picked
BATCH_SIZE = 320  # pairs of lines that are scored in one batch
OPPOSED = (2, 4, 6)  # places at which the tones of a couplet are opposed

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class DataConfig(PairDataConfig):
    """Which lines, and how they are read."""

    source: str = Field("toy:couplets", description="where the examples are; see docs/text.md")
    fields: PairFields = PairFields(source="line", target="next")
    unit: Literal["word", "character"] = Field("word", description="what is answered by one of its kind")
    shared: Literal[True] = Field(True, description="one vocabulary for both lines, always")
    max_length: int = Field(40, ge=1, le=300, description="most tokens of a line")
    sounds: str = Field(
        "", description="tone and rhyme of each token: pinyin (needs kseq[chinese]), or a TSV file; see the card"
    )

    @model_validator(mode="after")
    def _lines_fit(self):
        if self.max_target_length:
            raise ValueError("max_target_length has no use here: both lines are equally long, at most max_length")
        return self


class ModelConfig(PairModelConfig):
    """An encoder of lines and a decoder of lines as long."""

    aligned: bool = Field(True, description="each step also reads the encoded token at its own place")

    @model_validator(mode="after")
    def _line_model_fits(self):
        if self.max_oov_words:
            raise ValueError("max_oov_words has no use here: the next line copies nothing of the line above")
        return self


class SamplerConfig(TextSamplerConfig):
    """How a line is written."""

    mirror: bool = Field(True, description="repeat tokens exactly where the line above does")
    distinct: bool = Field(True, description="write no token at the place where it stands in the line above")
    opposed: tuple[int, ...] = Field((), description="places, from 1 on, with opposed tones; needs data.sounds")
    rhyme: bool = Field(False, description="let the last token rhyme with that of the line above; needs data.sounds")

    @model_validator(mode="after")
    def _line_fits(self):
        for name in ("length_penalty", "min_length", "no_repeat", "required", "replace_unknown"):
            if getattr(self, name):
                raise ValueError(f"{name} has no use here: the line above decides how long the next is")
        if any(place < 1 for place in self.opposed):
            raise ValueError(f"opposed names places from 1 on, and has {min(self.opposed)}")
        return self


class VerseConfig(PairConfig):
    """One experiment with verse."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: GenerationTrainingConfig = GenerationTrainingConfig(learning_rate=2e-3)
    sampler: SamplerConfig = SamplerConfig(width=5)

    @model_validator(mode="after")
    def _verse_fits(self):
        if self.model.aligned and self.training.scheduled_sampling:
            raise ValueError("training.scheduled_sampling does not go with model.aligned = true; set one of them")
        if (self.sampler.opposed or self.sampler.rhyme) and not self.data.sounds:
            key = "opposed" if self.sampler.opposed else "rhyme"
            raise ValueError(f"sampler.{key} goes by the sound of the tokens; set data.sounds = 'pinyin' or a TSV file")
        return self


class Lines(Texts):
    """Pairs of lines of equal length; no line of one split is in another."""

    held_out_by = ("source", "target")
    complete = "two lines of equal length"
    incomplete = "lines of unequal length"

    def is_complete(self, read, written):
        return (read > 0) & (read == written)

    def status(self, raw):
        import tensorflow as tf

        status, most = super().status(raw), self.text.max_length
        count = self.text.tokenizer.split(tf.where(status == OK, raw, "")).row_lengths()
        said = ["The line has ", tf.strings.as_string(count), f" tokens, and at most {most} are answered"]
        return first_status(status, tf.where(count <= most, OK, tf.strings.join(said)))

    def lengths(self, lines):
        """Tokens of each line, none cut off: int64 `[lines]`."""
        return self.text.tokenizer.split(lines).row_lengths().numpy()


class Verse(Generation):
    """Lines in, lines of the same length out."""

    name = "verse"
    Config = VerseConfig
    Source = Lines
    monitor = "posterior"
    raw = ("source",)

    def adapt(self, train, start):
        super().adapt(train, start)
        self.check_lines()

    def check_lines(self):
        """Raises `UserError` where dev or test cannot be scored, or the table of sounds cannot be read."""
        _ = self.sounds
        for split in self.config.data.scored():
            examples = self.scored(split)
            above, below = (self.source.lengths([pair[side] for _, pair in examples]) for side in ("source", "target"))
            for (where, _), n, m in zip(examples, above, below, strict=True):
                if n != m or not n:
                    raise UserError(f"{where}: the lines have {n} and {m} tokens; a couplet has as many in both")
                if n > self.text.max_length:
                    raise UserError(
                        f"{where}: a line of {n} tokens, and data.max_length is {self.text.max_length}; its end would "
                        "get no answer"
                    )
        if not self.candidates(self.lines(self.dev)[1]):
            raise UserError(
                f"dev has no {CANDIDATES} different next lines of one length, among which to pick the true one"
            )

    # --- what is written

    @functools.cached_property
    def sounds(self):
        """The tone and the rhyme of each token; None without a table."""
        source = self.config.data.sounds
        return kseq.data.read_sounds(source, self.target.vocabulary) if source else None

    def constraints(self):
        config, words = self.config.sampler, kseq.preprocessors
        tones, rhymes = self.sounds or (None, None)
        parallel = kseq.samplers.Parallel(
            mirror=config.mirror,
            distinct=config.distinct,
            opposed=config.opposed,
            tones=tones,
            rhymes=rhymes if config.rhyme else None,
            unknown=words.UNKNOWN,
        )
        found = super().constraints()
        # A space at the end of a line would be lost, and with it a token.
        space = [i for i, word in enumerate(self.target.vocabulary) if word == words.SPACE]
        return found | {"forbidden": (*found["forbidden"], *space), "parallel": parallel}

    # --- scores

    def validate(self):
        return self.choices(self.dev)

    def score(self, predictions, references):
        return {}  # that a line is another than the poet's says little of it

    def more_scores(self, examples, records, rows):
        above, below, right = ([row[key] for row in rows] for key in ("source", "prediction", "references"))
        equal = self.source.lengths(above) == self.source.lengths(below)
        metrics = self.choices(examples) | {"equal_length": float(np.mean(equal))}
        if self.sounds:
            true = [line for line, *_ in right]
            metrics["opposed_tones"] = self.opposed_tones(above, below)
            metrics["reference_opposed_tones"] = self.opposed_tones(above, true)
            metrics["rhymed"], metrics["reference_rhymed"] = self.rhymed(above, below), self.rhymed(above, true)
        return metrics

    def opposed_tones(self, above, below):
        """Of the places `OPPOSED` at which both lines have a tone, the share where one is level and one oblique."""
        tones, opposed = np.array(self.sounds[0]), []
        for pair in self._couplets(above, below):
            for place in OPPOSED:
                if place <= min(map(len, pair)):
                    one, other = (tones[line[place - 1]] for line in pair)
                    opposed += [one != other] if one and other else []
        return float(np.mean(opposed)) if opposed else float("nan")

    def rhymed(self, above, below):
        """Of the couplets whose last tokens both have a rhyme, the share in which it is the same."""
        rhymes, same = np.array(self.sounds[1]), []
        for pair in self._couplets(above, below):
            one, other = (rhymes[line[-1]] if line else 0 for line in pair)
            same += [one == other] if one and other else []
        return float(np.mean(same)) if same else float("nan")

    def _couplets(self, above, below):
        """Pairs of lists of ids, of lists of lines."""
        return zip(*(self.text.ids(lines).to_list() for lines in (above, below)), strict=True)

    def choices(self, examples):
        """How the model takes the true next lines.

        Of ten lines of one length, one answers the line x above, and nine are drawn from all lines. By Bayes' rule, the
        probability that it is y is r(y) / Σ r(y'), with r(y) = p(y | x) / p(y). Here p(y) is the mean of p(y | x') over
        nine other lines x' of that length. p(y | x) alone would prefer the line of the most common characters.

        Returns:
            perplexity: exp(−mean log p(y_i | y_<i, x)) over the tokens of all true lines, the end left out.
            picked: the share of lines whose true next line has the largest r of the ten; missing, as the next is, where
                no length has ten lines.
            posterior: the mean of r(y) / Σ r(y') of the true y. It chooses the best epoch: it still tells two models
                apart that pick every line.
        """
        sources, lines = self.lines(examples)
        true = self.log_probs(sources, lines)
        perplexity = float(np.exp(-np.sum(true) / sum(map(len, lines))))
        tens = np.array([[i, *others] for i, others in self.candidates(lines).items()])  # the true line is the first
        if not tens.size:
            return {"perplexity": perplexity}
        own, others = np.repeat(tens[:, :1], CANDIDATES, axis=1), tens[:, 1:]
        given = self.log_probs([sources[i] for i in own.flat], [lines[k] for k in tens.flat]).reshape(tens.shape)
        elsewhere = self.log_probs([sources[k] for k in others.flat], [lines[i] for i in own[:, 1:].flat])
        evidence = np.full(len(lines), np.nan)  # log p(y) of each line y
        evidence[tens[:, 0]] = logsumexp(elsewhere.reshape(others.shape), axis=1) - np.log(CANDIDATES - 1)
        log_r = given - evidence[tens]
        return {
            "perplexity": perplexity,
            "picked": float(np.mean(np.all(log_r[:, :1] > log_r[:, 1:], axis=1))),
            "posterior": float(np.mean(softmax(log_r, axis=1)[:, 0])),
        }

    def lines(self, examples):
        """The ids of the lines above and of those below: two lists of int32 `[length]`."""
        sides = (self.text.ids([pair[side] for _, pair in examples]) for side in ("source", "target"))
        return [[np.array(row, "int32") for row in side.to_list()] for side in sides]

    def candidates(self, lines):
        """{number of a line: the numbers of nine others of its length}, for the lines that have as many.

        All ten differ. They are drawn at random, the same in every run.
        """
        rng, groups, found = np.random.default_rng(0), {}, {}
        for i, line in enumerate(lines):
            groups.setdefault(len(line), {}).setdefault(tuple(line), i)
        firsts = {length: np.array([*group.values()]) for length, group in groups.items()}
        for i, line in enumerate(lines):
            if len(firsts[len(line)]) >= CANDIDATES:
                drawn = rng.choice(firsts[len(line)], CANDIDATES, replace=False)
                own = groups[len(line)][tuple(line)]
                found[i] = [k for k in drawn if k != own][: CANDIDATES - 1]
        return found

    def log_probs(self, above, below):
        """log p(y | x), without the end, of each line below given the one above it: float64 `[lines]`."""
        lengths, found = np.array([len(line) for line in below]), np.zeros(len(below))
        for length in np.unique(lengths):
            [rows] = np.nonzero(lengths == length)
            for batch in np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE)):
                found[batch] = self.scorer(np.stack([above[i] for i in batch]), np.stack([below[i] for i in batch]))
        return found

    @functools.cached_property
    def scorer(self):
        """Lines above and below, int32 `[n, length]` → log p of those below, float32 `[n]`."""
        import tensorflow as tf

        @tf.function(autograph=False, reduce_retracing=True)
        def score(above, below):
            start = tf.fill([tf.shape(below)[0], 1], kseq.preprocessors.START)
            logits = self.model({"source": above, "tokens": tf.concat([start, below[:, :-1]], axis=1)})
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(below, logits)
            return -tf.reduce_sum(losses, axis=1)

        return lambda above, below: score(tf.constant(above), tf.constant(below))


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Verse)
