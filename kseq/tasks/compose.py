"""Music from a vector: a recurrent network that reads a key and a style at every step, over piano rolls
(Boulanger-Lewandowski et al., 2012, https://arxiv.org/abs/1206.6392) or over the events that their notes are made of
(Oore et al., 2018, https://arxiv.org/abs/1808.03715).

python -m kseq.tasks.compose --help
"""

import functools
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

import kseq
from kseq.config import Config
from kseq.data.scales import FLAT_KEYS, KEYS
from kseq.errors import UserError
from kseq.files import read_json, write_json
from kseq.tasks.representations import NoteEvents, PianoRolls
from kseq.tasks.requests import OK, first_status, text_status, without_refused
from kseq.tasks.schema import Cell, SplitsConfig, TextServingConfig, TrainingConfig
from kseq.tasks.task import Task, batched, by_length, defined, hashed, read_listed, text_of

VECTOR = "vector.json"
BATCH_SIZE = 32  # tunes that are scored or drawn in one batch
MOST_STEPS = 4096  # that can be drawn
TEMPI = (20, 400)
NUMBERS = (("seed", 0, 10**9 - 1), ("length", 1, MOST_STEPS), ("tempo", *TEMPI))  # names, least, most
NO_NOTE = " is no note of a piano, A0 to C8 as C4, F#4 or Bb4, and - is a rest"
SAID = 40  # characters of a wrong value that are repeated
SHOWN = 12  # steps of a tune in a table of samples

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class DataConfig(SplitsConfig):
    """Which tunes, and how they are read."""

    source: str = Field("toy:scales", description="toy:scales, mat:FILE or midi:FOLDER; see tasks/compose/README.md")
    vector: tuple[Literal["key", "style"], ...] = Field(
        ("key", "style"), min_length=1, description="what a tune is asked for by"
    )
    steps_per_beat: int = Field(2, ge=1, le=24, description="steps of a piano roll in a quarter note")
    segment: int = Field(256, ge=2, description="training tunes are cut into parts of at most this many steps")
    transpose: int = Field(
        0, ge=0, le=11, description="train on tunes moved up or down by up to this many semitones, drawn in every epoch"
    )
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field(
        "stop", description="what becomes of a line of a file of requests that is not in UTF-8"
    )
    buckets: int = Field(3, ge=1, le=20, description="groups of similar length that batches are made of")


class ModelConfig(Config):
    """The recurrent network."""

    representation: Literal["roll", "events"] = Field(
        "roll", description="what is written: the keys that sound at each step, or the events that notes are made of"
    )
    cell: Cell = Field("lstm", description="recurrent cell")
    units: int = Field(128, ge=1, description="size of the state")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers")
    chained: bool = Field(
        True, description="of rolls: a key sees the lower keys of its own step, and not only the steps before"
    )
    embedding_size: int = Field(64, ge=1, description="of events: size of the vector of each")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="of the output of each layer; of events: of each and of the output"
    )
    recurrent_dropout: float = Field(0.0, ge=0, lt=1, description="of rolls: of the state, from step to step")
    vector_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training tunes whose vector is withheld, so that a key may be left out",
    )

    @model_validator(mode="after")
    def _model_fits(self):
        if self.representation == "events" and self.recurrent_dropout:
            raise ValueError("recurrent_dropout has no use here: it is of representation = 'roll'")
        return self


class SamplerConfig(Config):
    """How music is drawn."""

    length: int = Field(32, ge=1, le=MOST_STEPS, description="steps that are drawn, if a request does not say")
    temperature: float = Field(1.0, gt=0, description="values below 1 make likely keys likelier, or likely events")
    threshold: float = Field(0.01, ge=0, lt=1, description="of rolls: a key that is less likely than this never sounds")
    top_k: int = Field(0, ge=0, description="of events: how many of the likeliest are drawn from; 0 is all")
    top_p: float = Field(1.0, gt=0, le=1, description="of events: the probability mass that is drawn from; 1 is all")
    beginning: int = Field(32, ge=1, le=MOST_STEPS, description="most steps that are taken of the file of prime=FILE")


class ServingConfig(TextServingConfig):
    """What the exported model answers; see Serving in README.md."""

    batch_size: int = Field(16, ge=1, description="examples answered at once; a larger batch is answered in parts")
    n_best: int = Field(5, ge=1, le=100, description="pieces drawn for a request in the signature nbest")


class ComposeConfig(Config):
    """One experiment that writes music."""

    seed: int = Field(0, ge=0, lt=2**32, description="of all that is drawn at random in training")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig(epochs=20, batch_size=16, learning_rate=3e-3)
    sampler: SamplerConfig = SamplerConfig()
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _sampler_fits(self):
        kind, default = self.model.representation, SamplerConfig()
        for name in {"roll": ("top_k", "top_p"), "events": ("threshold",)}[kind]:
            if getattr(self.sampler, name) != getattr(default, name):
                raise ValueError(f"sampler.{name} has no use with model.representation = {kind!r}; leave it out")
        return self


class Asked(NamedTuple):
    """What a batch of requests asks for."""

    vector: object  # float32 [batch, d], zeros for what is left open
    seeds: object  # int64 [batch]
    lengths: object  # int32 [batch], steps to be drawn
    beginning: object  # float32 [batch, steps, 88], as `NotePreprocessor.roll` returns it
    beginning_lengths: object  # int32 [batch]
    status: object  # string [batch], as of `Task.answer`


class Requests:
    """Reads requests, such as "key=G style=scale tempo=120 seed=3 length=64: C4 E4 G4 | D4".

    Every part may be left out. Behind the colon is what the music begins with, as `NotePreprocessor` reads it.

    Args:
        values: {name: list of what it can be} of the parts of the vector.
        length: steps that are drawn where a request does not say.
        notes: `NotePreprocessor`.
        max_characters: of a request that is read.
    """

    def __init__(self, values, length, notes, max_characters=50_000):
        self.values = values
        self.length = length
        self.notes = notes
        self.max_characters = max_characters
        self.names = (*values, "tempo", "seed", "length")

    @property
    def size(self):
        """Of the vector."""
        return sum(map(len, self.values.values()))

    def vectors(self, tunes):
        """float32 `[n, d]`, what each tune is asked for by."""
        given = [[np.array(known) == getattr(tune, name) for name, known in self.values.items()] for tune in tunes]
        return np.array([np.concatenate(parts) for parts in given], np.float32)

    def check(self, request):
        """{name: value} of a request, all str.

        Raises:
            UserError: a part of it is not one of the names, or its value is not one of those that it can have.
        """
        head, _, notes = request.partition(":")
        found = {}
        for word in head.split():
            name, _, value = word.partition("=")
            if name not in self.names or not value:
                raise UserError(f"{word!r} is not one of {', '.join(f'{x}=…' for x in self.names)} or prime=FILE")
            if name in found:
                raise UserError(f"{name} is given twice")
            found[name] = value
        for name, known in self.values.items():
            if name in found and found[name] not in (*known, *(FLAT_KEYS if name == "key" else ())):
                raise UserError(f"{name} must be one of {', '.join(known)}; it is {found[name]!r}")
        for name, least, most in NUMBERS:
            text = found.get(name, str(most))
            if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
                raise UserError(f"{name} must be a whole number from {least} to {most}; it is {text!r}")
        wrong = self.notes.unknown(notes)
        if wrong:
            raise UserError(f"{wrong[0]!r}{NO_NOTE}")
        return found

    def status(self, requests):
        """string `[batch]` → string `[batch]`, as of `Task.status`: a sentence where `check` raises one."""
        import tensorflow as tf

        long = text_status(requests, self.max_characters)
        requests = tf.strings.unicode_transcode(tf.where(long == OK, requests, ""), "UTF-8", "UTF-8")
        head, notes = _halves(requests)
        names = "|".join(self.names)
        rest = tf.strings.regex_replace(head, rf"^\s*(?:(?:{names})=\S+(?:\s+|$))*", "")
        word = tf.strings.regex_replace(rest, r"(?s)\s.*", "")
        found = [long, _status(word == "", "", word, f" is not one of {', '.join(f'{x}=…' for x in self.names)}")]
        for name in self.names:
            twice = tf.strings.regex_full_match(head, rf"(?s)(?:.*\s)?{name}=\S+\s(?:.*\s)?{name}=.*")
            found.append(tf.where(twice, f"{name} is given twice", OK))
        for name, known in self.values.items():
            value = _value(head, name)
            right = (value == "") | tf.reduce_any(_one_hot(value, name, known), axis=1)
            found.append(_status(right, f"{name} must be one of {', '.join(known)}; it is ", value))
        for name, least, most in NUMBERS:
            text = _value(head, name)
            number = _number(text, least)
            right = (number >= least) & (number <= most)
            found.append(_status(right, f"{name} must be a whole number from {least} to {most}; it is ", text))
        wrong = self.notes.first_unknown(notes)
        found.append(_status(wrong == "", "", wrong, NO_NOTE))
        steps = tf.strings.length(tf.strings.regex_replace(notes, r"[^|]", ""))
        said = f"The music begins with more than {MOST_STEPS} steps"
        return first_status(*found, tf.where(steps < MOST_STEPS, OK, said))

    def read(self, requests):
        """string `[batch]` → `Asked`, in TensorFlow alone; of one that is refused, the shortest music."""
        import tensorflow as tf

        requests = tf.convert_to_tensor(requests, tf.string)
        status = self.status(requests)
        head, notes = _halves(tf.where(status == OK, requests, "length=1"))
        values = [_one_hot(_value(head, name), name, known) for name, known in self.values.items()]
        lengths, seeds = _number(_value(head, "length"), self.length), _number(_value(head, "seed"), 0)
        vector = tf.cast(tf.concat(values, axis=1), tf.float32)
        return Asked(vector, seeds, tf.cast(lengths, tf.int32), *self.notes.roll(notes), status)


def _halves(requests):
    """The parts of requests before and behind the first colon, string `[batch]` each."""
    import tensorflow as tf

    head = tf.strings.regex_replace(requests, "(?s):.*", "")
    begun = tf.strings.regex_full_match(requests, "(?s)[^:]*:.*")
    return head, tf.where(begun, tf.strings.regex_replace(requests, "(?s)^[^:]*:", ""), "")


def _value(head, name):
    """What follows `name=` in each request, string `[batch]`; empty where nothing does."""
    import tensorflow as tf

    pattern = rf"(?s)(?:.*\s)?{name}=(\S+)(?:\s.*)?"
    return tf.where(tf.strings.regex_full_match(head, pattern), tf.strings.regex_replace(head, pattern, r"\1"), "")


def _one_hot(value, name, known):
    """bool `[batch, known]`: which of the known values each one is."""
    import tensorflow as tf

    found = value[:, None] == tf.constant(known)
    return found | (value[:, None] == tf.constant(FLAT_KEYS)) if name == "key" else found


def _number(text, default):
    """string `[batch]` → int64 `[batch]`: the default where it is empty, −1 where it is no whole number."""
    import tensorflow as tf

    whole = tf.strings.regex_full_match(text, "[0-9]{1,9}")
    number = tf.strings.to_number(tf.where(whole, text, "-1"), tf.int64)
    return tf.where(text == "", tf.constant(default, tf.int64), number)


def _status(right, before, values, behind=""):
    """string `[batch]`: `OK` where it is right, else the beginning of the value with words before and behind it."""
    import tensorflow as tf

    shown = tf.strings.substr(values, 0, SAID, unit="UTF8_CHAR")
    return tf.where(right, OK, tf.strings.join([before, "'", shown, "'", behind]))


class Compose(Task):
    """A key and a style in, music out."""

    name = "compose"
    Config = ComposeConfig
    monitor = "log_likelihood"
    raw = ("request",)
    drawn = "piano rolls, MIDI files and WAV files"

    def __init__(self, config, workdir):
        super().__init__(config, workdir)
        self.values = {}

    @functools.cached_property
    def form(self):
        """The representation that is learned."""
        return {"roll": PianoRolls, "events": NoteEvents}[self.config.model.representation](self.config)

    @property
    def notes(self):
        """What turns music as text into piano rolls, and back."""
        return self.form.notes

    @functools.cached_property
    def requests(self):
        """What reads the requests of this run."""
        config = self.config
        return Requests(self.values, config.sampler.length, self.notes, config.serving.max_characters)

    # --- data

    def examples(self, split):
        data = self.config.data

        def read(split, count):
            options = {"steps_per_beat": data.steps_per_beat, "seed": self.config.seed}
            return kseq.data.read_tunes(data.source, split, count=count, **options)

        return read_listed(self.config, split, read, "tunes", by=lambda tune: tune.notes)

    def check(self, example):
        pass  # every roll has a likelihood

    def name_of(self, example, split, i):
        return example.id

    def raw_of(self, example):
        parts = [(name, getattr(example, name)) for name in self.values]
        return {"request": " ".join(f"{name}={x}" for name, x in [*parts, ("seed", example.number)] if x != "")}

    # --- training

    def start(self):
        kseq.data.require_mido()  # told before training, not after

    def adapt(self, train, start):
        styles = sorted({tune.style for tune in train} - {""})
        if "style" in self.config.data.vector and not styles:
            raise UserError(
                f"data.vector names style, and the tunes of {self.config.data.source} have none; leave it out"
            )
        known = {"key": list(KEYS), "style": styles}
        self.values = {name: known[name] for name in self.config.data.vector}
        write_json(self.workdir / VECTOR, self.values)

    def restore(self):
        self.values = read_json(self.workdir / VECTOR)

    def fingerprints(self):
        return {VECTOR: hashed([self.config.data.vector, self.values])}

    def build(self):
        return self.form.model(self.requests.size)

    def encode(self, train):
        """Parts of at most `data.segment` steps; what sounds at the beginning of one begins there."""
        longest = self.config.data.segment
        parts = [(tune, at) for tune in train for at in range(0, len(tune.roll), longest)]
        tunes = self.form.column([self.form.of(tune)[at : at + longest] for tune, at in parts])
        return {"tunes": tunes, "vector": self.requests.vectors([tune for tune, _ in parts])}

    def set_initial_weights(self, start):
        """Starts from how often each key, or each event, occurs, which is what training would teach first."""
        self.form.set_bias(self.model, self.columns["tunes"])

    def make_batch(self, batch):
        import tensorflow as tf

        return batch["vector"], self.form.targets(batch["tunes"]), tf.cast(batch["tunes"] > 0, tf.float32)

    def batches(self, epoch, share=None):
        import tensorflow as tf

        def varied(number, batch):
            *given, weights = batch
            # Its place among all parts of all batches.
            number = number // share.count * share.of + share.first + number % share.count
            draw = functools.partial(self._varied, epoch)
            found = tf.numpy_function(draw, [number, *given], [x.dtype for x in given])
            vector, targets = (tf.ensure_shape(x, y.shape) for x, y in zip(found, given, strict=True))
            return self.form.inputs(vector, targets), targets, weights

        share = share or kseq.data.Share()
        return super().batches(epoch, share).enumerate().map(tf.autograph.experimental.do_not_convert(varied))

    def _varied(self, epoch, number, vector, targets):
        """A batch whose tunes are moved to other keys, and some of whose vectors are withheld."""
        rng = np.random.default_rng([self.config.seed, epoch.epoch, int(number)])
        most, vector, targets = self.config.data.transpose, vector.copy(), targets.copy()
        first = 0
        for name, known in self.values.items():
            if name == "key":
                break
            first += len(known)
        for row, by in enumerate(rng.integers(-most, most + 1, len(targets))):
            keys = self.form.keys(targets[row])
            if not len(keys) or not 0 <= min(keys) + by <= max(keys) + by < len(kseq.preprocessors.NOTES):
                continue
            targets[row] = self.form.moved(targets[row], by)
            if "key" in self.values:
                modes = vector[row, first : first + len(KEYS)].reshape(2, -1)
                vector[row, first : first + len(KEYS)] = np.roll(modes, by, axis=1).reshape(-1)
        vector[rng.random(len(vector)) < self.config.model.vector_dropout] = 0
        return vector, targets

    def loss(self):
        return self.form.loss()

    def validate(self):
        return {self.monitor: -self.nll(self.dev)}

    @functools.cached_property
    def _crossentropy(self):
        import tensorflow as tf

        def of(vector, targets):
            return self.loss().call(targets, self.model(self.form.inputs(vector, targets), training=False))

        return tf.function(of, autograph=False, reduce_retracing=True)

    def nll(self, tunes, vectors=None):
        """The negative log-likelihood of tunes in nats, summed over the keys, or over the events, of each step, and
        averaged over all steps of all tunes.

        Args:
            tunes: list of `Tune`.
            vectors: float32 `[n, d]`; zeros, which leave all open, when not given.
        """
        vectors = np.zeros((len(tunes), self.requests.size), "float32") if vectors is None else vectors
        encoded, total = [self.form.encoded(tune) for tune in tunes], 0.0
        lengths = [len(one) for one in encoded]
        for rows in by_length(lengths, BATCH_SIZE):
            targets = np.zeros((len(rows), max(lengths[i] for i in rows), *encoded[0].shape[1:]), encoded[0].dtype)
            for padded, i in zip(targets, rows, strict=True):
                padded[: lengths[i]] = encoded[i]
            each = self._crossentropy(vectors[rows], targets).numpy()
            total += sum(float(steps[: lengths[i]].sum()) for steps, i in zip(each, rows, strict=True))
        return total / sum(len(tune.roll) for tune in tunes)

    # --- answers

    def evaluate(self, split="dev"):
        tunes, rows = self.scored(split), []
        examples = [self.raw_of(tune) for tune in tunes]
        records = [record for [record] in self.answers(examples)]
        for tune, example, record in zip(tunes, examples, records, strict=True):
            [right] = self.notes.text(self.form.of(tune)[None], [len(tune.roll)]).numpy()
            row = {"id": tune.id, "source": example["request"], "prediction": record["text"], "score": record["score"]}
            rows.append(row | {"exact": record["text"] == right.decode(), "references": [right.decode()]})
        keys = [tune.key for tune in tunes]
        metrics = {
            "nll": self.nll(tunes),
            "nll_given_vector": self.nll(tunes, self.requests.vectors(tunes)),
            "in_key": kseq.data.share_in_key([self.roll_of(record) for record in records], keys),
            "in_key_data": kseq.data.share_in_key([tune.roll for tune in tunes], keys),
        }
        return defined(metrics | self.form.more_scores(metrics["nll"], tunes)), rows

    def shown(self, row):
        return tuple(self._opening(text) for text in (row["prediction"], row["references"][0]))

    def _opening(self, text):
        steps = self.notes.tokens(text)
        return " | ".join(steps[:SHOWN]) + (" | …" if len(steps) > SHOWN else "")

    @functools.cached_property
    def _composed(self):
        """A graph from requests and the number of the draw to texts, the log-likelihood of a step, and the status."""
        import tensorflow as tf

        def compose(requests, draw):
            asked = self.requests.read(requests)
            *drawn, log_probs = self.form.write(self.model, asked._replace(seeds=asked.seeds + draw * 2**32))
            text, score = self.notes.text(*drawn), log_probs / tf.cast(asked.lengths, tf.float32)
            return without_refused({"text": text, "score": score}, asked.status)

        signature = [tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int64)]
        return tf.function(compose, input_signature=signature, autograph=False)

    def answer_part(self, *raw):
        import tensorflow as tf

        return self._composed(*raw, tf.constant(0, tf.int64))

    def n_best_part(self, *raw):
        """With "tokens", string `[batch, n, steps]`: the notes of each step, "" behind the last."""
        import tensorflow as tf

        count = self.config.serving.n_best
        draws = [self._composed(*raw, tf.constant(k, tf.int64)) for k in range(count)]
        score, order = tf.math.top_k(tf.stack([draw["score"] for draw in draws], axis=1), count)
        text = tf.gather(tf.stack([draw["text"] for draw in draws], axis=1), order, batch_dims=1)
        steps = self.notes.steps(tf.reshape(text, [-1])).to_tensor()
        tokens = tf.reshape(steps, [tf.shape(text)[0], count, tf.shape(steps)[1]])
        return {"text": text, "score": score, "tokens": tokens, "status": draws[0]["status"]}

    def status(self, *raw):
        return self.requests.status(*raw)

    def answers(self, examples, n=1):
        records = []
        for batch in batched((self.expanded(text_of(example["request"])) for example in examples), BATCH_SIZE):
            draws = [self._composed(np.array(batch, object), np.int64(k)) for k in range(n)]
            draws = [(draw["text"].numpy(), draw["score"].numpy()) for draw in draws]
            for i in range(len(batch)):
                found = [self._record(texts[i].decode(), scores[i]) for texts, scores in draws]
                records.append(sorted(found, key=lambda record: -record["score"]))
        return records

    def _record(self, text, score):
        return {"text": text, "score": float(score), "tokens": self.notes.tokens(text), "alignment": None}

    def expanded(self, request):
        """A request in which prime=FILE, and the path is all that follows, has become the beginning of that MIDI file.

        Raises:
            UserError: there is no such file, or it is not a MIDI file with notes.
        """
        found = re.fullmatch(r"(?s)((?:[^:]*\s)?)prime=(.*)", request)
        if not found:
            return request
        path = Path(found[2].strip())
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, a device read without end
            raise UserError(f"prime: {path} is not a file")
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(f"prime: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        steps = self.config.data.steps_per_beat
        roll = kseq.data.roll_of_midi(content, path, steps, onsets=self.notes.onsets)[: self.config.sampler.beginning]
        [notes] = self.notes.text(roll[None], [len(roll)]).numpy()
        return f"{found[1]}: {notes.decode()}"

    def check_input(self, name, example):
        try:
            request = self.expanded(text_of(example["request"]))
            self.requests.check(request)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        super().check_input(name, {"request": request})

    def roll_of(self, record):
        """The piano roll of a record, `[steps, 88]`, as `NotePreprocessor.roll` returns it."""
        return self.notes.roll([record["text"]])[0][0].numpy()

    def figure(self, example, record):
        """The piano roll."""
        title = text_of(example["request"])
        return kseq.plots.piano_roll(self.roll_of(record), kseq.preprocessors.NOTES, title)

    def beside(self, example, record):
        """The MIDI file, and its sound."""
        asked = self.requests.check(self.expanded(text_of(example["request"])))
        played = self.roll_of(record), self.config.data.steps_per_beat, int(asked.get("tempo", 120))
        return {".mid": kseq.data.midi_of_roll(*played), ".wav": kseq.data.wav_of_roll(*played)}

    def line(self, name, example, record):
        return f"{name}: {record['text']}"

    def parts(self):
        return [self.model, self.notes]


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Compose)
