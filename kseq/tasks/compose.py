"""Music from a vector: a recurrent network over piano rolls (Boulanger-Lewandowski et al., 2012,
https://arxiv.org/abs/1206.6392) that reads a key and a style at every step.

python -m kseq.tasks.compose --help
"""

import functools
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

import kseq
from kseq.config import Config
from kseq.data.scales import FLAT_KEYS, KEYS
from kseq.errors import UserError
from kseq.files import read_json, write_json
from kseq.tasks.schema import Cell, SplitsConfig, TrainingConfig
from kseq.tasks.task import Task, batched, by_length, defined, hashed, read_listed, text_of

VECTOR = "vector.json"
BATCH_SIZE = 32  # tunes that are scored or drawn in one batch
MOST_STEPS = 4096  # that can be drawn
TEMPI = (20, 400)
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

    cell: Cell = Field("lstm", description="recurrent cell")
    units: int = Field(128, ge=1, description="size of the state")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers")
    chained: bool = Field(True, description="a key sees the lower keys of its own step, and not only the steps before")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the output of each layer")
    recurrent_dropout: float = Field(0.0, ge=0, lt=1, description="of the state, from step to step")
    vector_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training tunes whose vector is withheld, so that a key may be left out",
    )


class SamplerConfig(Config):
    """How music is drawn."""

    length: int = Field(32, ge=1, le=MOST_STEPS, description="steps that are drawn, if a request does not say")
    temperature: float = Field(1.0, gt=0, description="values below 1 make likely keys likelier")
    threshold: float = Field(0.01, ge=0, lt=1, description="a key that is less likely than this never sounds")
    beginning: int = Field(32, ge=1, le=MOST_STEPS, description="most steps that are taken of the file of prime=FILE")


class ComposeConfig(Config):
    """One experiment that writes music."""

    seed: int = Field(0, ge=0, lt=2**32, description="of all that is drawn at random in training")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig(epochs=20, batch_size=16, learning_rate=3e-3)
    sampler: SamplerConfig = SamplerConfig()


class Asked(NamedTuple):
    """What a batch of requests asks for."""

    vector: object  # float32 [batch, d], zeros for what is left open
    seeds: object  # int64 [batch]
    lengths: object  # int32 [batch], steps to be drawn
    beginning: object  # float32 [batch, steps, 88]
    beginning_lengths: object  # int32 [batch]


class Requests:
    """Reads requests, such as "key=G style=scale tempo=120 seed=3 length=64: C4 E4 G4 | D4".

    Every part may be left out. Behind the colon is what the music begins with, as `NotePreprocessor` reads it.

    Args:
        values: {name: list of what it can be} of the parts of the vector.
        length: steps that are drawn where a request does not say.
        notes: `NotePreprocessor`.
    """

    def __init__(self, values, length, notes):
        self.values = values
        self.length = length
        self.notes = notes
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
        for name, least, most in (("seed", 0, 10**9 - 1), ("length", 1, MOST_STEPS), ("tempo", *TEMPI)):
            text = found.get(name, str(most))
            if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
                raise UserError(f"{name} must be a whole number from {least} to {most}; it is {text!r}")
        wrong = self.notes.unknown(notes)
        if wrong:
            raise UserError(f"{wrong[0]!r} is no note of a piano, A0 to C8 as C4, F#4 or Bb4, and - is a rest")
        return found

    def read(self, requests):
        """string `[batch]` → `Asked`, in TensorFlow alone.

        Raises:
            tf.errors.InvalidArgumentError: where `check` raises, except for a name that is given twice.
        """
        import tensorflow as tf

        requests = tf.convert_to_tensor(requests, tf.string)
        head = tf.strings.regex_replace(requests, "(?s):.*", "")
        begun = tf.strings.regex_full_match(requests, "(?s)[^:]*:.*")
        notes = tf.where(begun, tf.strings.regex_replace(requests, "(?s)^[^:]*:", ""), "")
        names = "|".join(self.names)
        _require(tf.strings.regex_full_match(head, rf"\s*(?:(?:{names})=\S+(?:\s+|$))*"), "a request is wrong", head)
        lengths = _number(head, "length", 1, MOST_STEPS, self.length)
        _number(head, "tempo", *TEMPI, TEMPI[0])
        vector = tf.concat([_one_hot(head, name, known) for name, known in self.values.items()], axis=1)
        seeds = _number(head, "seed", 0, 10**9 - 1, 0)
        return Asked(vector, seeds, tf.cast(lengths, tf.int32), *self.notes.roll(notes))


def _value(head, name):
    """What follows `name=` in each request, string `[batch]`; empty where nothing does."""
    import tensorflow as tf

    pattern = rf"(?s)(?:.*\s)?{name}=(\S+)(?:\s.*)?"
    return tf.where(tf.strings.regex_full_match(head, pattern), tf.strings.regex_replace(head, pattern, r"\1"), "")


def _one_hot(head, name, known):
    import tensorflow as tf

    value = _value(head, name)
    found = value[:, None] == tf.constant(known)
    if name == "key":
        found |= value[:, None] == tf.constant(FLAT_KEYS)
    _require((value == "") | tf.reduce_any(found, axis=1), f"{name} must be one of {', '.join(known)}", value)
    return tf.cast(found, tf.float32)


def _number(head, name, least, most, default):
    import tensorflow as tf

    text = _value(head, name)
    text = tf.where(text == "", str(default), text)
    whole = tf.strings.regex_full_match(text, "[0-9]{1,9}")
    number = tf.strings.to_number(tf.where(whole, text, "-1"), tf.int64)
    right = (number >= least) & (number <= most)
    _require(right, f"{name} must be a whole number from {least} to {most}", text)
    return number


def _require(right, message, values):
    """Asserts that all are right; the error shows the first value that is not."""
    import tensorflow as tf

    tf.debugging.Assert(tf.reduce_all(right), [message, tf.boolean_mask(values, ~right)[:1]])


class Compose(Task):
    """A key and a style in, music out."""

    name = "compose"
    Config = ComposeConfig
    monitor = "log_likelihood"
    raw = ("request",)
    drawn = "piano rolls and MIDI files"

    def __init__(self, config, workdir):
        super().__init__(config, workdir)
        self.values = {}

    @functools.cached_property
    def notes(self):
        """What turns music as text into piano rolls, and back."""
        return kseq.preprocessors.NotePreprocessor()

    @functools.cached_property
    def requests(self):
        """What reads the requests of this run."""
        return Requests(self.values, self.config.sampler.length, self.notes)

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
        config = self.config.model
        model = kseq.models.PianoRollModel(
            [kseq.layers.CELLS[config.cell](config.units) for _ in range(config.layers)],
            dropout=config.dropout,
            recurrent_dropout=config.recurrent_dropout,
            chained=config.chained,
        )
        model({"vector": np.zeros((1, self.requests.size), "float32"), "roll": np.zeros((1, 1, model.keys), "float32")})
        return model

    def encode(self, train):
        """Each step as the number of its frame, 0 for padding; the frames of all numbers are kept beside."""
        longest = self.config.data.segment
        parts = [(tune, tune.roll[at : at + longest]) for tune in train for at in range(0, len(tune.roll), longest)]
        frames = np.concatenate([roll for _, roll in parts])
        distinct, ids = np.unique(np.packbits(frames, axis=1), axis=0, return_inverse=True)
        distinct = np.unpackbits(distinct, axis=1, count=frames.shape[1])
        self.frames = np.concatenate([np.zeros_like(distinct[:1]), distinct]).astype("float32")
        splits = np.cumsum([0, *(len(roll) for _, roll in parts)])
        steps = kseq.data.Sequences(ids.reshape(-1).astype(np.int32) + 1, splits)
        return {"steps": steps, "vector": self.requests.vectors([tune for tune, _ in parts])}

    def set_initial_weights(self, start):
        """Starts from how often each key sounds, which is what training would teach first."""
        counts = self.columns["steps"].counts(len(self.frames))
        sounding, steps = counts @ self.frames + 1, counts.sum() + 2
        self.model.readout.bias.assign(np.log(sounding / (steps - sounding)))

    def make_batch(self, batch):
        import tensorflow as tf

        roll = tf.gather(tf.constant(self.frames), batch["steps"])
        inputs = {"vector": batch["vector"], "roll": roll}
        return inputs, roll, tf.cast(batch["steps"] > 0, tf.float32)

    def batches(self, epoch, share=None):
        import tensorflow as tf

        def varied(number, batch):
            inputs, targets, weights = batch
            number = (
                number // share.count * share.of + share.first + number % share.count
            )  # of all parts of all batches
            draw = functools.partial(self._varied, epoch)
            found = tf.numpy_function(draw, [number, inputs["vector"], targets], [tf.float32, tf.float32])
            vector, roll = (
                tf.ensure_shape(x, y.shape) for x, y in zip(found, (inputs["vector"], targets), strict=True)
            )
            return {"vector": vector, "roll": roll}, roll, weights

        share = share or kseq.data.Share()
        return super().batches(epoch, share).enumerate().map(varied)

    def _varied(self, epoch, number, vector, roll):
        """A batch whose tunes are moved to other keys, and some of whose vectors are withheld."""
        rng = np.random.default_rng([self.config.seed, epoch.epoch, int(number)])
        most, vector, roll = self.config.data.transpose, vector.copy(), roll.copy()
        first = 0
        for name, known in self.values.items():
            if name == "key":
                break
            first += len(known)
        for row, by in enumerate(rng.integers(-most, most + 1, len(roll))):
            keys = np.flatnonzero(roll[row].any(axis=0))
            if not len(keys) or not 0 <= keys[0] + by <= keys[-1] + by < roll.shape[-1]:
                continue
            roll[row] = np.roll(roll[row], by, axis=-1)
            if "key" in self.values:
                modes = vector[row, first : first + len(KEYS)].reshape(2, -1)
                vector[row, first : first + len(KEYS)] = np.roll(modes, by, axis=1).reshape(-1)
        vector[rng.random(len(vector)) < self.config.model.vector_dropout] = 0
        return vector, roll

    def loss(self):
        return kseq.losses.RollCrossentropy()

    def validate(self):
        return {self.monitor: -self.nll(self.dev)}

    @functools.cached_property
    def _crossentropy(self):
        import tensorflow as tf

        def of(vector, roll):
            return self.loss().call(roll, self.model({"vector": vector, "roll": roll}, training=False))

        return tf.function(of, reduce_retracing=True)

    def nll(self, tunes, vectors=None):
        """The negative log-likelihood of tunes in nats, summed over the keys and averaged over all steps of all tunes.

        Args:
            tunes: list of `Tune`.
            vectors: float32 `[n, d]`; zeros, which leave all open, when not given.
        """
        vectors = np.zeros((len(tunes), self.requests.size), "float32") if vectors is None else vectors
        lengths, total = [len(tune.roll) for tune in tunes], 0.0
        for rows in by_length(lengths, BATCH_SIZE):
            roll = np.zeros((len(rows), max(lengths[i] for i in rows), self.model.keys), "float32")
            for padded, i in zip(roll, rows, strict=True):
                padded[: lengths[i]] = tunes[i].roll
            each = self._crossentropy(vectors[rows], roll).numpy()
            total += sum(float(steps[: lengths[i]].sum()) for steps, i in zip(each, rows, strict=True))
        return total / sum(lengths)

    # --- answers

    def evaluate(self, split="dev"):
        tunes, rows = self.scored(split), []
        examples = [self.raw_of(tune) for tune in tunes]
        records = [record for [record] in self.answers(examples)]
        for tune, example, record in zip(tunes, examples, records, strict=True):
            [right] = self.notes.text(tune.roll[None], [len(tune.roll)]).numpy()
            row = {"id": tune.id, "source": example["request"], "prediction": record["text"], "score": record["score"]}
            rows.append(row | {"exact": record["text"] == right.decode(), "references": [right.decode()]})
        keys = [tune.key for tune in tunes]
        metrics = {
            "nll": self.nll(tunes),
            "nll_given_vector": self.nll(tunes, self.requests.vectors(tunes)),
            "in_key": kseq.data.share_in_key([self.roll_of(record) for record in records], keys),
            "in_key_data": kseq.data.share_in_key([tune.roll for tune in tunes], keys),
        }
        return defined(metrics), rows

    def shown(self, row):
        return tuple(self._opening(text) for text in (row["prediction"], row["references"][0]))

    def _opening(self, text):
        steps = self.notes.tokens(text)
        return " | ".join(steps[:SHOWN]) + (" | …" if len(steps) > SHOWN else "")

    @functools.cached_property
    def _composed(self):
        """A graph from requests and the number of the draw to texts and the log-likelihood of a step."""
        import tensorflow as tf

        options = {"temperature": self.config.sampler.temperature, "threshold": self.config.sampler.threshold}
        sampler = kseq.samplers.RollSampler(self.model.keys, **options)

        def compose(requests, draw):
            vector, seeds, lengths, *beginning = self.requests.read(requests)
            named = dict(zip(("beginning", "beginning_lengths"), beginning, strict=True))
            found = self.model.generate(vector, lengths, seeds + draw * 2**32, sampler=sampler, **named)
            return self.notes.text(found.roll, found.lengths), found.log_probs / tf.cast(lengths, tf.float32)

        return tf.function(compose, input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int64)])

    def answer(self, *raw):
        import tensorflow as tf

        text, score = self._composed(tf.convert_to_tensor(raw[0], tf.string), tf.constant(0, tf.int64))
        return {"text": text, "score": score}

    def answers(self, examples, n=1):
        records = []
        for batch in batched((self.expanded(text_of(example["request"])) for example in examples), BATCH_SIZE):
            draws = [[x.numpy() for x in self._composed(np.array(batch, object), np.int64(k))] for k in range(n)]
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
        roll = kseq.data.roll_of_midi(content, path, self.config.data.steps_per_beat)[: self.config.sampler.beginning]
        [notes] = self.notes.text(roll[None], [len(roll)]).numpy()
        return f"{found[1]}: {notes.decode()}"

    def check_input(self, name, example):
        try:
            self.requests.check(self.expanded(text_of(example["request"])))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    def roll_of(self, record):
        """The piano roll of a record, `[steps, 88]`."""
        return self.notes.roll([record["text"]])[0][0].numpy()

    def figure(self, example, record):
        """The piano roll."""
        title = text_of(example["request"])
        return kseq.plots.piano_roll(self.roll_of(record), kseq.preprocessors.NOTES, title)

    def beside(self, example, record):
        """The MIDI file."""
        asked = self.requests.check(self.expanded(text_of(example["request"])))
        tempo = int(asked.get("tempo", 120))
        return {".mid": kseq.data.midi_of_roll(self.roll_of(record), self.config.data.steps_per_beat, tempo)}

    def line(self, name, example, record):
        return f"{name}: {record['text']}"

    def parts(self):
        return [self.model, self.notes]


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Compose)
