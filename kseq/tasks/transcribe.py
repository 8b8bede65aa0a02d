"""Recordings to phones: attention-based speech recognition (Chorowski et al., 2015, https://arxiv.org/abs/1506.07503).

python -m kseq.tasks.transcribe --help
"""

import collections
import dataclasses
import functools
import itertools
import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

import kseq
from kseq.config import Config
from kseq.errors import MissingPackage, UserError
from kseq.tasks.generation import Files, Generation, Read, check_length, make_reader
from kseq.tasks.schema import (
    Attention,
    Cell,
    DecoderConfig,
    EncoderRateConfig,
    FileServingConfig,
    GenerationTrainingConfig,
    SplitsConfig,
    TextSamplerConfig,
)
from kseq.tasks.task import cached, hashed, progress, read_listed, target_tokens

VOCABULARY, FRAMES = "phones.txt", "frames.json"
NO_PHONE = "(none)"  # in the confusion matrix: what was added, or left out

# The parts are named through `kseq`, which imports them, and TensorFlow, when they are needed: `--help` and a wrong
# config answer at once.


class DataConfig(SplitsConfig):
    """Which recordings and phones, and how they are read."""

    source: str = Field(
        "toy:tones", description="toy:tones, tsv:FILE or textgrid:FOLDER; see tasks/transcribe/README.md"
    )
    fields: dict[str, str] = Field(
        {"audio": "audio", "text": "text"},
        description="columns of the table: audio, the path of a recording; text, its phones; split, if there is one",
    )
    frames: int = Field(
        0,
        ge=0,
        le=2048,
        description="size of a frame, when the files are .npy files of frames; 0 when they are recordings",
    )
    tier: str = Field("phones", description="for textgrid: the tier whose intervals are the phones")
    silences: tuple[str, ...] = Field(
        ("sil", "sp"), description="for textgrid: labels that are not phones; an empty label never is"
    )
    sample_rate: int = Field(16_000, ge=1000, le=192_000, description="rate that all recordings are resampled to, Hz")
    mels: int = Field(40, ge=1, le=256, description="bands of a frame")
    window: float = Field(0.025, gt=0, le=1, description="length of a frame, in seconds")
    hop: float = Field(0.01, gt=0, le=1, description="from frame to frame, in seconds")
    deltas: Literal[0, 1, 2] = Field(0, description="slopes beside the bands: none, first, or first and second")
    normalize: Literal["utterance", "none"] = Field(
        "utterance", description="bring each band to mean 0 and variance 1 over the recording, or leave it"
    )
    max_seconds: float = Field(60, gt=0, le=3600, description="a longer recording is refused")
    on_error: Literal["stop", "skip"] = Field("stop", description="what happens at a recording that cannot be read")
    bad_bytes: Literal["stop", "latin-1", "replace"] = Field("stop", description="what becomes of a line not in UTF-8")
    max_length: int = Field(100, ge=1, le=2000, description="most phones of a recording; the rest is cut off")
    min_count: int = Field(1, ge=1, description="phones that occur less often in training are unknown")
    buckets: int = Field(5, ge=1, le=20, description="groups of similar length that batches are made of")
    cache: str = Field("runs/cache", description="folder for the frames of the recordings")

    @property
    def bands(self):
        """How many bands a frame has, before its slopes."""
        return self.frames or self.mels

    @model_validator(mode="after")
    def _frames_fit(self):
        if self.frames and not self.source.startswith("tsv:"):
            raise ValueError(f"frames is for the files of a table, tsv:FILE, and source is {self.source}")
        if self.source.startswith("textgrid:"):
            if self.fields != type(self).model_fields["fields"].default:
                raise ValueError(f"fields is for a table, tsv:FILE, and source is {self.source}; leave it out")
        elif (self.tier, self.silences) != tuple(type(self).model_fields[x].default for x in ("tier", "silences")):
            raise ValueError(f"tier and silences are for textgrid:FOLDER, and source is {self.source}; leave them out")
        if self.frames and self.deltas:
            raise ValueError("deltas are computed from recordings, and frames is set; put them into the .npy files")
        return self


class EncoderConfig(EncoderRateConfig):
    """The encoder of the recordings."""

    filters: int = Field(64, ge=1, description="filters of each convolution over the frames")
    strides: tuple[int, ...] = Field((2, 2), description="stride of each convolution; together, frames of a memory row")
    kernel_size: int = Field(5, ge=1, description="frames, or rows, that a convolution reads")
    cell: Literal["", Cell] = Field("", description="recurrent cell; if empty, that of the decoder")
    units: int = Field(64, ge=1, description="size of the state in each direction")
    layers: int = Field(1, ge=1, le=16, description="recurrent layers")
    bidirectional: bool = Field(True, description="read in both directions")
    residual: bool = Field(False, description="add the input of a layer to its output, from the second layer on")
    dropout: float = Field(0.1, ge=0, lt=1, description="behind the convolutions, and between layers")

    @model_validator(mode="after")
    def _strides_fit(self):
        if any(stride < 1 for stride in self.strides):
            raise ValueError(f"strides must be 1 or more each, they are {list(self.strides)}")
        return self


class AugmentConfig(Config):
    """How recordings are changed in training; see `kseq.layers.SpecAugment` and `kseq.layers.WarpFrames`."""

    frequency_masks: int = Field(0, ge=0, le=100, description="bands are hidden at so many places")
    frequency_width: int = Field(8, ge=1, description="most bands hidden at one place")
    time_masks: int = Field(0, ge=0, le=100, description="frames are hidden at so many places")
    time_width: int = Field(40, ge=1, description="most frames hidden at one place")
    frequency_warp: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="the bands are stretched or squeezed by up to this share, as other voices do",
    )
    time_warp: float = Field(
        0.0,
        ge=0,
        le=0.2,
        description="a frame moves by up to this share of the recording, and takes those around it along",
    )
    speeds: tuple[float, ...] = Field((), description="speeds of further copies of each recording, such as [0.9, 1.1]")
    noise: tuple[float, ...] = Field(
        (), description="one more copy in white noise: its least and its largest signal-to-noise ratio, in dB"
    )

    @model_validator(mode="after")
    def _copies_fit(self):
        if any(not 0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speeds must be 0.5 to 2 each, they are {list(self.speeds)}")
        if self.noise and not (len(self.noise) == 2 and -20 <= self.noise[0] <= self.noise[1] <= 100):
            raise ValueError(f"noise must be two ratios of -20 to 100 dB that do not fall, it is {list(self.noise)}")
        return self


class ModelConfig(DecoderConfig):
    """An encoder of recordings and a decoder."""

    attention: Attention = Field("location", description="attention mechanism; a name of kseq.layers.ATTENTIONS")
    location_width: int = Field(15, ge=1, description="for attention = location: rows of memory that a filter sees")
    embedding_size: int = Field(32, ge=1, description="size of the vector of a phone")
    ctc_weight: float = Field(
        0.0, ge=0, lt=1, description="share of the CTC loss of the encoder's memory in the loss; 0 is attention alone"
    )
    encoder: EncoderConfig = EncoderConfig()


class ServingConfig(FileServingConfig):
    """What the exported model answers; see Serving in README.md."""

    max_seconds: float = Field(0, ge=0, le=3600, description="a longer recording is refused; 0 takes data.max_seconds")
    batch_seconds: float = Field(
        240,
        gt=0,
        description="most recordings answered at once, times the seconds of the longest; more are answered in parts",
    )


class TranscribeSamplerConfig(TextSamplerConfig):
    """How the phones of a recording are searched for."""

    ctc_weight: float = Field(0.0, ge=0, le=1, description="share of CTC in the score of each phone, beside attention")


class TranscribeConfig(Config):
    """One experiment with recordings."""

    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    training: GenerationTrainingConfig = GenerationTrainingConfig(epochs=8, batch_size=32, learning_rate=2e-3)
    sampler: TranscribeSamplerConfig = TranscribeSamplerConfig(width=4)
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _sampler_fits(self):
        longest = self.data.max_length + 1
        if self.sampler.min_length > longest:
            raise ValueError(f"sampler.min_length is {self.sampler.min_length}, and no text has more than {longest}")
        if self.sampler.replace_unknown:
            raise ValueError("sampler.replace_unknown copies words of a text, and a recording has none")
        if self.sampler.ctc_weight and not self.model.ctc_weight:
            raise ValueError("sampler.ctc_weight needs a model that was trained with model.ctc_weight above 0")
        if self.data.frames and (self.augment.speeds or self.augment.noise):
            raise ValueError("augment.speeds and augment.noise change waveforms, and data.frames reads none")
        return self


class Recordings(Files):
    """Recordings with their phones."""

    raw = "audio"
    vocabulary = VOCABULARY

    @functools.cached_property
    def audio(self):
        """What makes frames of files."""
        data = self.config.data
        if data.frames:
            names = ("hop", "normalize", "max_seconds")
            return kseq.preprocessors.FramePreprocessor(data.frames, **{name: getattr(data, name) for name in names})
        names = ("mels", "window", "hop", "deltas", "normalize", "max_seconds")
        return kseq.preprocessors.AudioPreprocessor(data.sample_rate, **{name: getattr(data, name) for name in names})

    @property
    def parts(self):
        return [self.audio]

    def examples(self, split):
        data = self.config.data

        def read(split, count):
            options = {"fields": data.fields, "bad_bytes": data.bad_bytes}
            options |= {"tier": data.tier, "silences": data.silences}
            return kseq.data.read_recordings(data.source, split, count=count, seed=self.config.seed, **options)

        found = read_listed(self.config, split, read, "recordings")
        return [dataclasses.replace(x, read=functools.partial(self._content, x)) for x in found]

    def _content(self, recording):
        """The bytes of a recording of the data as `audio` reads them."""
        content, most = recording.read(), self.config.data.max_seconds
        try:
            return self.wav(content, max_seconds=most)
        except MissingPackage as error:
            raise MissingPackage(f"{recording.where}: recording {recording.id}: {error}") from None
        except UserError as error:
            raise UserError(
                f"{recording.where}: recording {recording.id} cannot be read ({error}); replace or remove it, or leave "
                "such recordings out with --set data.on_error=skip"
            ) from None

    def wav(self, content, **limits):
        """The bytes of a WAV file with the sound of a FLAC, Ogg or MP3 file; any other bytes as they are.

        Args:
            content: bytes of a file.
            limits: `max_seconds` and `max_bytes` of `kseq.data.decoded_wav`.
        """
        kind = None if self.config.data.frames else kseq.preprocessors.compressed_format(content)
        return kseq.data.decoded_wav(content, kind, **limits) if kind else content

    def decode(self, files):
        return self.audio.encode(files)

    def raw_of(self, example):
        return {"audio": example.read()}

    def texts_of(self, example):
        return [" ".join(example.text.split())]

    def adapt(self, train, start):
        tokenizer = kseq.preprocessors.SpaceTokenizer()
        data = self.config.data
        target = kseq.preprocessors.TextPreprocessor(data.max_length, tokenizer=tokenizer, min_count=data.min_count)
        target.adapt(recording.text for recording in train)
        target.save(self.workdir / VOCABULARY)
        kseq.files.write_json(self.workdir / FRAMES, self.audio.get_config())
        return target

    def fingerprints(self, target):
        return {VOCABULARY: target.fingerprint(), FRAMES: hashed(self.audio.get_config())}

    def encoder(self):
        config = self.config.model.encoder
        layer = make_reader(config, config.cell or self.config.model.cell)
        options = {"strides": config.strides, "kernel_size": config.kernel_size, "dropout": config.dropout}
        return kseq.models.SpeechEncoder(layer, config.filters, augment=self.augmentation(), **options)

    def augmentation(self):
        """The layer that changes the frames in training; None for none."""
        import keras

        augment, bands = self.config.augment, self.config.data.bands
        parts = []
        if augment.frequency_warp or augment.time_warp:
            parts.append(kseq.layers.WarpFrames(augment.frequency_warp, time=augment.time_warp, bands=bands))
        if augment.frequency_masks or augment.time_masks:
            names = ("frequency_masks", "frequency_width", "time_masks", "time_width")
            masks = {name: getattr(augment, name) for name in names}
            parts.append(kseq.layers.SpecAugment(**masks, bands=bands))
        return keras.Sequential(parts) if len(parts) > 1 else next(iter(parts), None)

    @property
    def encoder_input(self):
        return np.ones((1, 8, self.audio.size), "float32")

    def fixed(self, length):
        import tensorflow as tf

        rate = 1 / self.config.data.hop
        most = math.ceil(self.config.data.max_seconds * rate)
        if length is None:
            raise UserError(f"length must be given: the most frames of a recording, of which a second has {rate:g}")
        return tf.TensorSpec([1, check_length(length, most, "data.max_seconds"), self.audio.size], tf.float32, "frames")

    def copies(self):
        """What makes the frames of training: that of serving, then one for each further copy."""
        augment, audio = self.config.augment, self.audio
        made = functools.partial(kseq.preprocessors.PerturbedAudio, audio)
        noisy = [made(noise=augment.noise, seed=self.config.seed)] if augment.noise else []
        return [audio, *(made(speed=speed) for speed in augment.speeds), *noisy]

    def columns(self, train, target, encoder):
        frames, recordings = self.frames(train, "frames of train", self.copies())
        texts = [recording.text for recording in recordings]
        tokens = target_tokens(self.config.data, texts, target, "texts")
        if self.config.model.ctc_weight and (short := self.without_alignment(frames, tokens["tokens"])):
            print(f"recordings with too few frames for their phones, left out of CTC: {short} of {len(frames)}")
        return {"source": frames, **tokens}

    def without_alignment(self, frames, tokens):
        """How many recordings have fewer rows of memory than `kseq.models.ctc_loss` needs."""
        end, ids = kseq.preprocessors.END, np.asarray(tokens.ids)
        phones = ids > end
        repeats = np.append(phones[1:] & (ids[1:] == ids[:-1]), False)
        needed = np.add.reduceat(phones.astype(int) + repeats, np.asarray(tokens.splits)[:-1])
        return int(np.sum(needed > self.rows(frames.lengths)))

    def frames(self, recordings, title, copies=None):
        """The frames of each copy of each recording, and the recordings that have them; computed once, then read from
        disk.
        """
        data, copies = self.config.data, copies or [self.audio]

        def make():
            gone = []
            items = [(audio, i, recording) for audio in copies for i, recording in enumerate(recordings)]
            columns = kseq.data.encoded(progress(items, title), lambda batch: self._encoded(batch, gone))
            if not len(columns["kept"]):
                raise UserError(f"none of {len(recordings)} recordings can be read; the first: {recordings[0].where}")
            left = f"recordings that cannot be read, left out: {len(set(gone))} of {len(recordings)}"
            return columns, [left] if gone else []

        key = ["frames", *(hashed(audio.get_config()) for audio in copies), str(data.max_seconds), data.on_error]
        columns = cached(data, [*key, *(recording.fingerprint for recording in recordings)], make)
        return columns["source"], [recordings[i] for i in columns["kept"]]

    def _encoded(self, batch, gone):
        """The columns of a list of (preprocessor, place, recording); the places of those that are left out are added to
        `gone`.
        """
        found, kept = [], []
        for audio, items in itertools.groupby(batch, key=lambda item: item[0]):
            items = list(items)
            try:
                found.append(audio.encode([recording for *_, recording in items]))
                kept += [i for _, i, _ in items]
            except UserError:
                for _, i, recording in items:  # one by one, so that the message names it
                    try:
                        found.append(audio.encode([recording]))
                        kept.append(i)
                    except UserError as error:
                        if self.config.data.on_error == "stop" or isinstance(error, MissingPackage):
                            raise
                        gone.append(i)
        import tensorflow as tf

        frames = (
            tf.concat(found, axis=0)
            if found
            else tf.RaggedTensor.from_row_lengths(tf.zeros([0, self.audio.size]), tf.zeros([0], tf.int64))
        )
        return {"source": tf.cast(frames, tf.float16), "kept": np.array(kept, np.int64)}

    def readable(self, raw):
        return self.audio.readable(raw, **self._limits())

    def seconds(self, raw):
        """string `[batch]` → float32 `[batch]`, how long recordings are; 0 where the header is refused."""
        return self.audio.seconds(raw, **self._limits())

    def _limits(self):
        serving = self.config.serving
        return {"max_bytes": serving.max_bytes, "max_seconds": serving.max_seconds}

    def reader(self, examples, encoder):
        frames, recordings = self.frames(examples, "frames of the recordings that are scored")
        lengths = frames.lengths

        def read(rows):
            return Read(frames.padded(rows, int(lengths[rows].max())).astype("float32"))

        return read, lengths.tolist(), recordings

    def figure(self, example, record):
        """The frames, and below them the attention of each phone; None when the decoder does not attend."""
        if record["alignment"] is None or not record["tokens"]:
            return None
        [frames] = self.audio.features([example["audio"]]).numpy()
        bands, alignment = frames[:, : self.config.data.bands], self.alignment(record, len(frames))
        return kseq.plots.frame_alignment(
            bands, record["tokens"], alignment, self.config.data.hop, title=record["text"]
        )

    def alignment(self, record, frames):
        """The alignment of a record to the memory of a recording of so many frames, `[phones, rows]`."""
        return record["alignment"][:, : self.rows(frames)]

    def rows(self, frames):
        """The rows of memory of a recording of so many frames."""
        for stride in self.config.model.encoder.strides:
            frames = -(-frames // stride)
        return frames

    def times(self, example, record):
        """When each phone of a record with an alignment is said; see `kseq.data.attention_times`."""
        data = self.config.data
        [frames] = self.audio.features([example["audio"]]).numpy()
        step = data.hop * math.prod(self.config.model.encoder.strides)
        duration = data.hop * len(frames)
        return kseq.data.attention_times(self.alignment(record, len(frames)), data.window / 2, step, duration)


class Transcribe(Generation):
    """Recordings in, phones out."""

    name = "transcribe"
    Config = TranscribeConfig
    Source = Recordings
    monitor = "phone_accuracy"
    raw = ("audio",)
    paths = True
    drawn = "pictures of the attention and TextGrids"

    def opened(self, example):
        serving, most = self.config.serving, self.config.data.max_seconds
        limits = {"max_seconds": serving.max_seconds or most, "max_bytes": serving.max_bytes}
        return {"audio": self.source.wav(example["audio"], **limits)}

    def part_limits(self):
        return super().part_limits() | {"cost": self.source.seconds, "most": self.config.serving.batch_seconds}

    def decoded(self, model):
        weight = self.config.sampler.ctc_weight
        return kseq.models.JointCTC(model, weight, kseq.preprocessors.END) if weight else model

    def loss(self):
        training = self.config.training
        return kseq.losses.TokenCrossentropy(training.label_smoothing, weight=1 - self.config.model.ctc_weight)

    def score(self, predictions, references):
        errors = kseq.metrics.token_errors(predictions, [texts[0] for texts in references])
        rate = sum(errors.values())
        return {"phone_accuracy": 1 - rate, "phone_error_rate": rate, **errors}

    def more_scores(self, examples, records, rows):
        pairs = kseq.metrics.token_pairs([row["prediction"] for row in rows], [row["references"][0] for row in rows])
        counts = collections.Counter((right or NO_PHONE, answer or NO_PHONE) for right, answer in pairs)
        names = [*sorted({name for pair in counts for name in pair} - {NO_PHONE}), NO_PHONE]
        return {"confusion": {right: {answer: counts[right, answer] for answer in names} for right in names}}

    def beside(self, example, record):
        """When each phone is said, for Praat; nothing when the decoder does not attend."""
        if record["alignment"] is None or not record["tokens"]:
            return {}
        grid = kseq.data.text_grid(record["tokens"], self.source.times(example, record))
        return {".TextGrid": grid.encode()}

    def evaluate(self, split="dev"):
        metrics, rows = super().evaluate(split)
        table = metrics["confusion"]
        counts = [list(row.values()) for row in table.values()]
        figure = kseq.plots.confusion(counts, list(table))
        kseq.plots.save(figure, self.workdir / "predictions" / f"confusion-{split}.png")
        return metrics, rows


if __name__ == "__main__":
    from kseq.tasks import program

    program.main(Transcribe)
