"""Recordings to frames; the same graph in training and in the SavedModel."""

import abc

import tensorflow as tf

from kseq.errors import UserError
from kseq.layers.signal import LogMel, resample
from kseq.preprocessors.binary import broken, number, padded, refusal, required

FORMATS = "PCM of 8, 16, 24 or 32 bits, and floats of 32 or 64 bits"
NORMALIZE = ("utterance", "none")
MAX_RATE = 192_000  # samples a second of a file; what are more of them takes much memory for frames that say no more
# What `AudioPreprocessor.features` says of a string that it refuses, after "assertion failed: ".
EMPTY = "The file is empty"
NOT_WAV = "The first bytes are not those of a WAV file"
COMPRESSED = {  # the first bytes of files that hold a recording in another format
    "FLAC": (b"fLaC",),
    "Ogg": (b"OggS",),
    "MP3": (b"ID3", *(bytes([0xFF, second]) for second in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB))),  # layer III
}
NOT_DECODED = "The file is {0}, and only WAV is read here; convert it: ffmpeg -i in.{1} out.wav"
NO_FORMAT = "The file does not say how its sound is written"
NO_SOUND = "The file has no sound"
SILENT = "The recording is silent: all of its samples are the same"
NOT_FINITE = "The recording has samples that are no numbers"
NOT_NPY = "The file is not a .npy file of float16 or float32 in C order, of two axes of at most 99999 and 9999"
FRAMES_NOT_FINITE = "The frames have values that are no numbers"

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # what a WAV file calls its formats
_KINDS = ((_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64))
_UNKNOWN_SIZE = 2**32 - 1  # of sound that was written to a pipe: it goes on to the end
_MOST_CHUNKS = 2**12  # of a file, walked through in search of the sound
_INSTEAD = 8  # frames in place of a recording that cannot be read
# What a .npy file of version 1.0 says of its array; larger ones are not read.
_NPY = r"\{'descr': '(<f2|<f4)', 'fortran_order': False, 'shape': \((\d{1,5}), (\d{1,4})\), \}\s*"


def compressed_format(content):
    """Which of `COMPRESSED` a file is, by its first bytes; None where it is none of them."""
    return next((name for name, firsts in COMPRESSED.items() if content.startswith(firsts)), None)


class Frames(tf.Module, metaclass=abc.ABCMeta):
    """Bytes of files to frames. A subclass says how the frames of one file are computed.

    Args:
        size: numbers in a frame.
        normalize: "utterance", which brings each of them to mean 0 and variance 1 over the recording:

                (y − μ) / √(σ² + 10⁻⁴)

            or "none".

    Attributes:
        form: what a file must be, in words.

    Raises:
        UserError: normalize is neither.
    """

    form: str

    def __init__(self, size, normalize):
        super().__init__()
        if normalize not in NORMALIZE:
            raise UserError(f"normalize must be one of {', '.join(NORMALIZE)}, not {normalize!r}")
        self.size = size
        self.normalize = normalize
        signature = [tf.TensorSpec([None], tf.string)]
        self._compiled = tf.function(self.ragged, input_signature=signature, autograph=False)

    @abc.abstractmethod
    def get_config(self):
        """All that the frames of a recording depend on, {argument: value}."""

    @abc.abstractmethod
    def frames(self, encoded):
        """string `[]` → float32 `[frames, size]`, not normalized."""

    def features(self, encoded):
        """string `[batch]` → float32 `[batch, frames, size]`; the frames behind the last of a recording are zeros.

        A frame of a recording is never all zeros, so that these tell where it ends, as for `keras.layers.Masking`.

        Raises:
            tf.errors.InvalidArgumentError: a string is not what the class reads.
        """
        return self.ragged(encoded).to_tensor(shape=[None, None, self.size])

    def ragged(self, encoded):
        """The same as float32 `[batch, (frames), size]`."""
        signature = tf.RaggedTensorSpec([None, self.size], tf.float32, ragged_rank=0)
        encoded = tf.convert_to_tensor(encoded)
        return tf.map_fn(lambda one: self._normalized(self.frames(one)), encoded, fn_output_signature=signature)

    def _normalized(self, y):
        if self.normalize == "utterance":
            mean, variance = tf.nn.moments(y, axes=[0])
            y = (y - mean) / tf.sqrt(variance + 1e-4)
        y = tf.where(tf.reduce_all(y == 0, axis=-1, keepdims=True), 1e-6, y)
        return tf.ensure_shape(y, [None, self.size])

    def encode(self, recordings):
        """Recordings with `id`, `where` and `read()` → ragged float32 `[n, (frames), size]`.

        Raises:
            UserError: one cannot be read; where there is one recording, the message names it.
        """
        encoded = [recording.read() for recording in recordings]
        try:
            return self._compiled(tf.constant(encoded))
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                f"{recordings[0].where}: recording {recordings[0].id} cannot be read as {self.form} "
                f"({refusal(error)}); replace or remove it, or leave such recordings out with "
                "--set data.on_error=skip"
            ) from None


class ReadableFrames(Frames):
    """Frames of files of any kind. A subclass says what is wrong with a file, in place of an error.

    Args:
        size: numbers in a frame.
        normalize: "utterance" or "none".
        max_seconds: the longest recording that is read.
    """

    def __init__(self, size, normalize, max_seconds):
        super().__init__(size, normalize)
        self.max_seconds = max_seconds

    @abc.abstractmethod
    def attempt(self, encoded, max_seconds):
        """string `[]` → float32 `[frames, size]`, not normalized, a few frames of ones where it is refused, and string
        `[]`: empty, or what is wrong with the recording.
        """

    @abc.abstractmethod
    def duration(self, encoded, max_seconds):
        """string `[]` → float32 `[]`, the seconds that the header says, 0 where `attempt` refuses it."""

    def frames(self, encoded):
        """string `[]` → float32 `[frames, size]`, not normalized.

        Raises:
            tf.errors.InvalidArgumentError: something is wrong with the recording.
        """
        return required(*self.attempt(encoded, self.max_seconds))

    def readable(self, encoded, *, max_bytes, max_seconds=None):
        """As `features`, for strings of any kind: one that is refused spoils no other, and raises nothing.

        Args:
            encoded: string `[batch]`.
            max_bytes: of a file.
            max_seconds: of a recording, those of the constructor when not given.

        Returns:
            float32 `[batch, frames, size]`, a few frames of ones where a string is refused, and string `[batch]`:
            empty, or what is wrong with the recording.
        """
        most = max_seconds or self.max_seconds
        signature = tf.RaggedTensorSpec([None, self.size], tf.float32, ragged_rank=0), tf.TensorSpec([], tf.string)
        encoded = tf.convert_to_tensor(encoded, tf.string)

        def one(encoded):
            size = tf.strings.length(encoded)
            large = tf.strings.format(f"The file has {{}} bytes, and at most {max_bytes} are read", size)
            few = size <= max_bytes
            y, said = self.attempt(tf.where(few, encoded, ""), most)
            said = tf.where(few, said, large)
            return tf.cond(said == "", lambda: self._normalized(y), lambda: self._instead()), said

        frames, said = tf.map_fn(one, encoded, fn_output_signature=signature, parallel_iterations=1)
        return frames.to_tensor(shape=[None, None, self.size]), said

    def seconds(self, encoded, *, max_bytes, max_seconds=None):
        """How long recordings are by their headers: string `[batch]` → float32 `[batch]`, in seconds.

        Args:
            encoded: string `[batch]`.
            max_bytes: as of `readable`.
            max_seconds: as of `readable`.

        Returns:
            float32 `[batch]`, 0 where the header says that a recording is refused.
        """
        most = max_seconds or self.max_seconds

        def one(encoded):
            return self.duration(tf.where(tf.strings.length(encoded) <= max_bytes, encoded, ""), most)

        encoded = tf.convert_to_tensor(encoded, tf.string)
        return tf.map_fn(one, encoded, fn_output_signature=tf.float32, parallel_iterations=1)

    def _instead(self):
        return tf.ones([_INSTEAD, self.size])


class AudioPreprocessor(ReadableFrames):
    """Bytes of a WAV file to log-mel frames (`kseq.layers.LogMel`).

    A file may have any rate, any number of channels, whose mean is taken, and integers of 8 to 32 bits or floats. It is
    resampled to `rate`.

    Args:
        rate: samples a second, that the frames are computed from.
        mels: number of bands.
        window: length of a frame, in seconds.
        hop: from frame to frame, in seconds.
        deltas: how often slopes are taken; see `LogMel`.
        normalize: "utterance" or "none".
        max_seconds: the longest recording that is read.

    Raises:
        UserError: an argument is out of range.
    """

    form = "WAV"

    def __init__(
        self, rate=16_000, mels=40, *, window=0.025, hop=0.01, deltas=0, normalize="utterance", max_seconds=60
    ):
        super().__init__(mels * (1 + deltas), normalize, max_seconds)
        try:
            self.log_mel = LogMel(rate, mels, window=window, hop=hop, deltas=deltas)
        except ValueError as error:
            raise UserError(f"the frames of a recording: {error}") from None

    def get_config(self):
        config = self.log_mel.get_config()
        names = ("rate", "mels", "window", "hop", "deltas")
        return {name: config[name] for name in names} | {"normalize": self.normalize}

    def attempt(self, encoded, max_seconds):
        """What is wrong: the string is not a WAV file, its sound is cut off, silent, shorter than `window` or longer
        than `max_seconds`, or it is written otherwise than as one of `FORMATS`.
        """
        said, about = self._header(encoded, max_seconds)

        def read():
            x, said = _samples(encoded, *about)
            return tf.cond(said == "", lambda: self.log_mel(self._resampled(x, about)[None])[0], self._instead), said

        return tf.cond(said == "", read, lambda: (self._instead(), said))

    def duration(self, encoded, max_seconds):
        said, (kind, channels, rate, _, length) = self._header(encoded, max_seconds)
        second = tf.gather(tf.constant([bits // 8 for _, bits in _KINDS], tf.int64), kind) * channels * rate
        seconds = tf.cast(length / tf.maximum(second, 1), tf.float32)
        return tf.where(said == "", seconds, 0.0)

    def waveform(self, encoded, speed=1.0):
        """string `[]` → float32 `[samples]` in −1…1, at `rate`, played at a speed."""
        said, about = self._header(encoded, self.max_seconds)
        x, wrong = _samples(required(encoded, said), *about)
        return self._resampled(required(x, wrong), about, speed)

    def _resampled(self, x, about, speed=1.0):
        """Samples of a file with the header `about` → float32 `[samples]`, at `rate`."""
        _, _, rate, _, _ = about
        if speed != 1:
            rate = tf.cast(tf.round(tf.cast(rate, tf.float64) * speed), rate.dtype)
        to = self.log_mel.rate
        return tf.cond(rate == to, lambda: x, lambda: resample(x, rate, to))

    def _header(self, encoded, max_seconds):
        """What is wrong with the header of a file, string `[]`, empty where nothing is, and (place in `_KINDS`,
        channels, rate, first byte of the sound, its bytes), int32 and int64 `[]`.
        """
        data, end = padded(encoded), tf.cast(tf.strings.length(encoded, "BYTE"), tf.int64)
        about, first, length = _chunks(data, end)
        code, channels, rate, bits = (
            number(data, about + at, size, little=True) for at, size in ((0, 2), (2, 2), (4, 4), (14, 2))
        )
        code = tf.where(code == _EXTENSIBLE, number(data, about + 24, 2, little=True), code)
        known = tf.stack([(code == form) & (bits == size) for form, size in _KINDS])
        length = tf.where(length == _UNKNOWN_SIZE, end - first, length)
        block = tf.maximum(channels * (bits // 8), 1)
        samples = length // block
        name = tf.strings.substr(encoded, 0, 4) + tf.strings.substr(encoded, tf.minimum(end, 8), 4)
        told = tf.strings.format
        other = told(f"The sound has format {{}} with {{}} bits, and what is read is {FORMATS}", (code, bits))
        cut = told("The file is cut off: its sound has {} bytes, and {} are there", (length, end - first))
        said = broken(
            (end > 0, EMPTY),
            *_not_compressed(encoded),
            (name == "RIFFWAVE", NOT_WAV),
            ((about > 0) & (channels > 0) & (rate > 0), NO_FORMAT),
            (rate <= MAX_RATE, told(f"The sound has {{}} samples a second, and at most {MAX_RATE} are read", rate)),
            (tf.reduce_any(known), other),
            (first > 0, NO_SOUND),
            (first + length <= end, cut),
            *self._length_rules(samples, rate, max_seconds),
        )
        return said, (tf.argmax(known, output_type=tf.int32), channels, rate, first, samples * block)

    def _length_rules(self, samples, rate, most):
        """The rules of `broken` for how long a recording is."""
        least = self.log_mel.window
        seconds = tf.cast(samples, tf.float64) / tf.cast(tf.maximum(rate, 1), tf.float64)
        short = f"The recording is too short: {{}} samples at {{}} Hz, less than {least:g} s"
        long = f"The recording is too long: {{}} s, and at most {most:g} are read"
        yield seconds >= least, tf.strings.format(short, (samples, rate))
        yield seconds <= most, tf.strings.format(long, tf.round(seconds))


class PerturbedAudio(Frames):
    """The frames of a recording that is played faster or slower, or that has white noise in it.

        y_n = x(α n) + σ ε_n,  σ² = mean(x²) / 10^(r / 10),  ε_n ~ N(0, 1),  r ~ U[low, high]

    Pitch and formants change with the speed α (Ko et al., 2015,
    https://www.isca-archive.org/interspeech_2015/ko15_interspeech.html). The noise of a recording follows from its
    bytes and the seed.

    Args:
        audio: `AudioPreprocessor`.
        speed: α; 1.1 makes a recording shorter.
        noise: (low, high), signal-to-noise ratios r in dB; None for no noise.
        seed: of the noise.
    """

    form = "WAV"

    def __init__(self, audio, *, speed=1.0, noise=None, seed=0):
        super().__init__(audio.size, audio.normalize)
        self.audio = audio
        self.speed = speed
        self.noise = noise
        self.seed = seed

    def get_config(self):
        noise = None if self.noise is None else list(self.noise)
        return self.audio.get_config() | {"speed": self.speed, "noise": noise, "seed": self.seed}

    def frames(self, encoded):
        """string `[]` → float32 `[frames, size]`, not normalized; raises as of `AudioPreprocessor`."""
        return self.audio.log_mel(self.waveform(encoded)[None])[0]

    def waveform(self, encoded):
        """string `[]` → float32 `[samples]`, y."""
        x = self.audio.waveform(encoded, self.speed)
        if self.noise is None:
            return x
        name = tf.strings.to_hash_bucket_fast(encoded, 2**31 - 1)
        seed = tf.stack([tf.cast(name, tf.int32), self.seed % 2**31])
        ratio = tf.random.stateless_uniform([], seed, *map(float, self.noise))
        deviation = tf.sqrt(tf.reduce_mean(x**2) / 10 ** (ratio / 10))
        return x + deviation * tf.random.stateless_normal(tf.shape(x), seed)


class FramePreprocessor(ReadableFrames):
    """Bytes of a `.npy` file of frames, `[frames, size]`, that were computed elsewhere, to frames.

    The file holds float16 or float32 in C order, as `numpy.save` writes it. A normalized frame is that of
    `AudioPreprocessor`.

    Args:
        size: numbers in a frame.
        hop: from frame to frame, in seconds.
        normalize: "utterance" or "none".
        max_seconds: the longest recording that is read.

    Raises:
        UserError: normalize is neither.
    """

    form = "frames"

    def __init__(self, size, *, hop=0.01, normalize="utterance", max_seconds=60):
        super().__init__(size, normalize, max_seconds)
        self.hop = hop

    def get_config(self):
        return {"size": self.size, "hop": self.hop, "normalize": self.normalize}

    def attempt(self, encoded, max_seconds):
        """What is wrong: the string is not such a file, its frames have another size, it has none or more than
        `max_seconds` of them, is cut off, or has values that are no numbers.
        """
        said, half, first = self._header(encoded, max_seconds)

        def read():
            values = tf.strings.substr(encoded, first, -1)
            y = tf.cond(
                half,
                lambda: tf.cast(tf.io.decode_raw(values, tf.float16), tf.float32),
                lambda: tf.io.decode_raw(values, tf.float32),
            )
            said = broken((tf.reduce_all(tf.math.is_finite(y)), FRAMES_NOT_FINITE))
            return tf.cond(said == "", lambda: tf.reshape(y, [-1, self.size]), self._instead), said

        return tf.cond(said == "", read, lambda: (self._instead(), said))

    def duration(self, encoded, max_seconds):
        said, half, first = self._header(encoded, max_seconds)
        frames = (tf.strings.length(encoded) - first) // (self.size * tf.where(half, 2, 4))
        return tf.where(said == "", tf.cast(frames, tf.float32) * self.hop, 0.0)

    def _header(self, encoded, max_seconds):
        """What is wrong with the header of a file, string `[]`, whether its values are float16, bool `[]`, and its
        first byte behind the header, int32 `[]`.
        """
        data = padded(encoded)
        first = tf.cast(10 + number(data, 8, 2, little=True), tf.int32)
        header = tf.strings.substr(encoded, tf.minimum(10, tf.strings.length(encoded)), first - 10)
        named = tf.strings.regex_full_match(header, _NPY) & (tf.strings.substr(encoded, 0, 8) == b"\x93NUMPY\x01\x00")
        header = tf.where(named, header, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 0), }")
        half = tf.strings.regex_replace(header, _NPY, r"\1") == "<f2"
        count, size = (tf.strings.to_number(tf.strings.regex_replace(header, _NPY, f"\\{k}"), tf.int32) for k in (2, 3))
        there = tf.strings.length(encoded) - first
        length = count * size * tf.where(half, 2, 4)
        told = tf.strings.format
        most = int(max_seconds / self.hop)
        said = broken(
            (tf.strings.length(encoded) > 0, EMPTY),
            (named, NOT_NPY),
            (size == self.size, told(f"Its frames have {{}} numbers, and data.frames is {self.size}", size)),
            (count > 0, "The file has no frames"),
            (count <= most, told(f"The recording is too long: {{}} frames, and at most {most} are read", count)),
            (there == length, told("The file is cut off: its frames have {} bytes, and {} are there", (length, there))),
        )
        return said, half, first


def _not_compressed(encoded):
    """The rules of `broken` by which a file is none of `COMPRESSED`."""
    for name, firsts in COMPRESSED.items():
        starts = [tf.strings.substr(encoded, 0, len(first)) == first for first in firsts]
        yield ~tf.reduce_any(starts), NOT_DECODED.format(name, name.lower())


def _chunks(data, end):
    """Where the chunk `fmt ` of a WAV file has its content, where the chunk `data` has, and how long that is; each
    0 where there is none.
    """

    def step(at, about, first, length):
        name, size = number(data, at, 4), number(data, at + 4, 4, little=True)
        about = tf.where(name == int.from_bytes(b"fmt "), at + 8, about)
        is_sound = name == int.from_bytes(b"data")
        first, length = tf.where(is_sound, at + 8, first), tf.where(is_sound, size, length)
        return at + 8 + size + size % 2, about, first, length

    zero = tf.constant(0, tf.int64)
    _, about, first, length = tf.while_loop(
        lambda at, about, first, length: (at + 8 <= end) & (first == 0),
        step,
        (zero + 12, zero, zero, zero),
        maximum_iterations=_MOST_CHUNKS,
    )
    return about, first, length


def _samples(encoded, kind, channels, rate, first, length):
    """The sound of a file with this header, float32 `[samples]` in −1…1, and what is wrong with it, string `[]`, empty
    where nothing is.
    """
    sound = tf.strings.substr(encoded, first, length)
    x = tf.switch_case(kind, [lambda read=read: read(sound) for read in _READERS])
    x = tf.reduce_mean(tf.reshape(x, [-1, channels]), axis=1)
    finite, silent = tf.reduce_all(tf.math.is_finite(x)), tf.reduce_max(x) <= tf.reduce_min(x)
    return x, broken((finite, NOT_FINITE), (~silent, SILENT))


def _unsigned(sound):
    return (tf.cast(tf.io.decode_raw(sound, tf.uint8), tf.float32) - 2**7) / 2**7


def _three_bytes(sound):
    columns = tf.unstack(tf.reshape(tf.io.decode_raw(sound, tf.uint8), [-1, 3]), axis=1)
    low, middle, high = (tf.cast(x, tf.int32) for x in columns)
    value = low + middle * 2**8 + high * 2**16
    return tf.cast(tf.where(high < 2**7, value, value - 2**24), tf.float32) / 2**23


_READERS = (  # in the order of _KINDS
    _unsigned,
    lambda sound: tf.cast(tf.io.decode_raw(sound, tf.int16), tf.float32) / 2**15,
    _three_bytes,
    lambda sound: tf.cast(tf.io.decode_raw(sound, tf.int32), tf.float32) / 2**31,
    lambda sound: tf.io.decode_raw(sound, tf.float32),
    lambda sound: tf.cast(tf.io.decode_raw(sound, tf.float64), tf.float32),
)
