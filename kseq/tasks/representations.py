"""The two representations of a tune: as a model learns it, and as it writes it."""

import abc

import numpy as np

import kseq

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed.


class Representation(abc.ABC):
    """What of a tune is learned.

    Args:
        config: `ComposeConfig`.

    Attributes:
        notes: `NotePreprocessor` of the texts that are read and written.
    """

    notes: object

    def __init__(self, config):
        self.config = config

    @abc.abstractmethod
    def model(self, size):
        """The model of the config for vectors of this size, with new weights."""

    @abc.abstractmethod
    def of(self, tune):
        """The piano roll of a tune as `notes` reads and writes it: uint8 `[steps, 88]`."""

    @abc.abstractmethod
    def encoded(self, tune):
        """The targets of one whole tune, `[time, ...]`."""

    @abc.abstractmethod
    def column(self, rolls):
        """The training data as `Sequences` of ids, of which 0 is padding: of rolls as of `of`."""

    @abc.abstractmethod
    def targets(self, ids):
        """A batch of the training data, int `[batch, time]` → targets `[batch, time, ...]`."""

    @abc.abstractmethod
    def inputs(self, vector, targets):
        """What the model is called on, of float `[batch, d]` and targets."""

    @abc.abstractmethod
    def keys(self, targets):
        """The keys of a piano, from 0 on, that sound in the targets of one tune."""

    @abc.abstractmethod
    def moved(self, targets, by):
        """The targets of one tune, moved up by some semitones."""

    @abc.abstractmethod
    def set_bias(self, model, column):
        """Starts a new model from how often each of its outputs occurs in the training data."""

    @abc.abstractmethod
    def loss(self):
        """`keras.losses.Loss`, whose `call` gives the negative log-likelihood `[batch, time]`."""

    @abc.abstractmethod
    def write(self, model, asked):
        """Draws what is `Asked`: rolls `[batch, steps, 88]`, lengths `[batch]` and log-probabilities `[batch]`."""

    def more_scores(self, nll, tunes):
        """{metric: number} beside those of every representation; `nll` is that of a step."""
        return {}

    def cells(self):
        """The cells of the config, the lowest first."""
        config = self.config.model
        return [kseq.layers.CELLS[config.cell](config.units) for _ in range(config.layers)]


class PianoRolls(Representation):
    """The keys that sound at each step, by `PianoRollModel`."""

    def __init__(self, config):
        super().__init__(config)
        self.notes = kseq.preprocessors.NotePreprocessor()
        self.frames = None  # float32 [ids, 88], the distinct steps of the training data

    def model(self, size):
        config = self.config.model
        options = {"recurrent_dropout": config.recurrent_dropout, "chained": config.chained}
        model = kseq.models.PianoRollModel(self.cells(), dropout=config.dropout, **options)
        model(self.inputs(np.zeros((1, size), "float32"), np.zeros((1, 1, model.keys), "float32")))
        return model

    def of(self, tune):
        return tune.roll

    def encoded(self, tune):
        return tune.roll.astype("float32")

    def column(self, rolls):
        """Each step as the number of its frame; the frames of all numbers are kept beside."""
        frames = np.concatenate(rolls)
        distinct, ids = np.unique(np.packbits(frames, axis=1), axis=0, return_inverse=True)
        distinct = np.unpackbits(distinct, axis=1, count=frames.shape[1])
        self.frames = np.concatenate([np.zeros_like(distinct[:1]), distinct]).astype("float32")
        splits = np.cumsum([0, *map(len, rolls)])
        return kseq.data.Sequences(ids.reshape(-1).astype(np.int32) + 1, splits)

    def targets(self, ids):
        import tensorflow as tf

        return tf.gather(tf.constant(self.frames), ids)

    def inputs(self, vector, targets):
        return {"vector": vector, "roll": targets}

    def keys(self, targets):
        return np.flatnonzero(targets.any(axis=0))

    def moved(self, targets, by):
        return np.roll(targets, by, axis=-1)

    def set_bias(self, model, column):
        counts = column.counts(len(self.frames))
        sounding, steps = counts @ self.frames + 1, counts.sum() + 2
        model.readout.bias.assign(np.log(sounding / (steps - sounding)))

    def loss(self):
        return kseq.losses.RollCrossentropy()

    def write(self, model, asked):
        config = self.config.sampler
        sampler = kseq.samplers.RollSampler(model.keys, temperature=config.temperature, threshold=config.threshold)
        begun = {"beginning": asked.beginning, "beginning_lengths": asked.beginning_lengths}
        return model.generate(asked.vector, asked.lengths, asked.seeds, sampler=sampler, **begun)


class NoteEvents(Representation):
    """The events of `events_of_roll`, by a `Seq2Seq` that reads the vector in place of a source."""

    def __init__(self, config):
        super().__init__(config)
        self.notes = kseq.preprocessors.NotePreprocessor(onsets=True)

    def model(self, size):
        config, cells = self.config.model, self.cells()
        cell = kseq.layers.StackedCell(cells) if len(cells) > 1 else cells[0]
        model = kseq.models.Seq2Seq(
            kseq.models.VectorEncoder(),
            kseq.layers.DenseBridge(cell.state_size),
            kseq.layers.FixedContextDecoder(cell),
            kseq.preprocessors.EVENTS,
            embedding_size=config.embedding_size,
            dropout=config.dropout,
        )
        model(self.inputs(np.zeros((1, size), "float32"), np.zeros((1, 1), "int32")))
        return model

    def of(self, tune):
        return tune.onsets

    def encoded(self, tune):
        return kseq.preprocessors.events_of_roll(tune.onsets[None], [len(tune.onsets)]).flat_values.numpy()

    def column(self, rolls):
        return kseq.data.Sequences.joined(kseq.preprocessors.events_of_roll(x[None], [len(x)]) for x in rolls)

    def targets(self, ids):
        return ids

    def inputs(self, vector, targets):
        import tensorflow as tf

        before = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=kseq.preprocessors.START)
        return {"source": vector[:, None], "tokens": tf.where(targets > 0, before, 0)}

    def keys(self, targets):
        words = kseq.preprocessors
        played = targets[(targets >= words.RELEASE) & (targets < words.STEP)]
        return (played - words.RELEASE) % len(words.NOTES)

    def moved(self, targets, by):
        words = kseq.preprocessors
        played = (targets >= words.RELEASE) & (targets < words.STEP)
        return np.where(played, targets + by, targets).astype(targets.dtype)

    def set_bias(self, model, column):
        model.initialize_output_bias(column.counts(kseq.preprocessors.EVENTS))

    def loss(self):
        return kseq.losses.TokenCrossentropy()

    def write(self, model, asked):
        import tensorflow as tf

        config, words = self.config.sampler, kseq.preprocessors
        beginning = words.events_of_roll(asked.beginning, asked.beginning_lengths).to_tensor()
        states, memory = model.encode(asked.vector[:, None])
        rules = kseq.samplers.NoteRules(words.RELEASE, len(words.NOTES))
        step, states = rules(model.step, states, end=words.END, lengths=asked.lengths, beginning=beginning)
        sampler = kseq.samplers.Random(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        found = sampler(
            step,
            states,
            memory,
            start=words.START,
            end=words.END,
            max_length=rules.longest(asked.lengths, beginning),
            seed=tf.bitcast(asked.seeds, tf.int32),
        )
        return *words.roll_of_events(found.ids[:, 0]), found.log_probs[:, 0]

    def more_scores(self, nll, tunes):
        """The negative log-likelihood of an event."""
        steps, events = (sum(map(len, x)) for x in zip(*((t.roll, self.encoded(t)) for t in tunes), strict=True))
        return {"nll_event": nll * steps / events}
