"""Recordings to frames; the same graph in training and in the SavedModel."""

import tensorflow as tf

from kseq.errors import UserError
from kseq.layers.signal import LogMel, resample
from kseq.preprocessors.binary import broken, number, padded, refusal, required

FORMATS = "PCM of 8, 16, 24 or 32 bits, and floats of 32 or 64 bits"
NORMALIZE = ("utterance", "none")
# What `AudioPreprocessor.features` says of a string that it refuses, after "assertion failed: ".
EMPTY = "The file is empty"
NOT_WAV = "The first bytes are not those of a WAV file"
NO_FORMAT = "The file does not say how its sound is written"
NO_SOUND = "The file has no sound"
SILENT = "The recording is silent: all of its samples are the same"
NOT_FINITE = "The recording has samples that are no numbers"

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # what a WAV file calls its formats
_KINDS = ((_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64))
_UNKNOWN_SIZE = 2**32 - 1  # of sound that was written to a pipe: it goes on to the end
_MOST_CHUNKS = 2**12  # of a file, walked through in search of the sound
_INSTEAD = 8  # frames in place of a recording that cannot be read


class AudioPreprocessor(tf.Module):
    """Bytes of a WAV file to log-mel frames (`kseq.layers.LogMel`).

    A file may have any rate, any number of channels, whose mean is taken, and integers of 8 to 32 bits or floats. It is
    resampled to `rate`. With `normalize` = "utterance" each dimension of the frames then has mean 0 and variance 1 over
    the recording:

        (y − μ) / √(σ² + 10⁻⁴)

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

    def __init__(
        self, rate=16_000, mels=40, *, window=0.025, hop=0.01, deltas=0, normalize="utterance", max_seconds=60
    ):
        super().__init__()
        if normalize not in NORMALIZE:
            raise UserError(f"normalize must be one of {', '.join(NORMALIZE)}, not {normalize!r}")
        self.normalize = normalize
        self.max_seconds = max_seconds
        try:
            self.log_mel = LogMel(rate, mels, window=window, hop=hop, deltas=deltas)
        except ValueError as error:
            raise UserError(f"the frames of a recording: {error}") from None
        self.size = mels * (1 + deltas)
        self._compiled = tf.function(self.ragged, input_signature=[tf.TensorSpec([None], tf.string)])

    def get_config(self):
        """All that the frames of a recording depend on, {argument: value}."""
        config = self.log_mel.get_config()
        names = ("rate", "mels", "window", "hop", "deltas")
        return {name: config[name] for name in names} | {"normalize": self.normalize}

    def features(self, encoded):
        """string `[batch]` → float32 `[batch, frames, size]`; the frames behind the last of a recording are zeros.

        A frame of a recording is never all zeros, so that these tell where it ends, as for `keras.layers.Masking`.

        Raises:
            tf.errors.InvalidArgumentError: a string is not a WAV file, its sound is cut off, silent, shorter than
                `window` or longer than `max_seconds`, or it is written otherwise than as one of `FORMATS`.
        """
        return self.ragged(encoded).to_tensor(shape=[None, None, self.size])

    def ragged(self, encoded):
        """The same as float32 `[batch, (frames), size]`."""
        signature = tf.RaggedTensorSpec([None, self.size], tf.float32, ragged_rank=0)
        encoded = tf.convert_to_tensor(encoded)
        return tf.map_fn(lambda one: self._frames(self.waveform(one)), encoded, fn_output_signature=signature)

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

        def one(encoded):
            return self._readable(encoded, max_bytes, most)

        frames, said = tf.map_fn(one, tf.convert_to_tensor(encoded, tf.string), fn_output_signature=signature)
        return frames.to_tensor(shape=[None, None, self.size]), said

    def _readable(self, encoded, max_bytes, max_seconds):
        size = tf.strings.length(encoded)
        large = tf.strings.format(f"The file has {{}} bytes, and at most {max_bytes} are read", size)
        few = size <= max_bytes
        said, about = self._header(tf.where(few, encoded, ""), max_seconds)
        said = tf.where(few, said, large)
        instead = tf.ones([_INSTEAD, self.size])

        def read():
            x, said = _samples(encoded, *about)
            return tf.cond(said == "", lambda: self._frames(self._resampled(x, about)), lambda: instead), said

        return tf.cond(said == "", read, lambda: (instead, said))

    def _frames(self, x):
        """A waveform at `rate` → float32 `[frames, size]`."""
        y = self.log_mel(x[None])[0]
        if self.normalize == "utterance":
            mean, variance = tf.nn.moments(y, axes=[0])
            y = (y - mean) / tf.sqrt(variance + 1e-4)
        y = tf.where(tf.reduce_all(y == 0, axis=-1, keepdims=True), 1e-6, y)
        return tf.ensure_shape(y, [None, self.size])

    def waveform(self, encoded):
        """string `[]` → float32 `[samples]` in −1…1, at `rate`."""
        said, about = self._header(encoded, self.max_seconds)
        x, wrong = _samples(required(encoded, said), *about)
        return self._resampled(required(x, wrong), about)

    def _resampled(self, x, about):
        """Samples of a file with the header `about` → float32 `[samples]`, at `rate`."""
        _, _, rate, _, _ = about
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
            (name == "RIFFWAVE", NOT_WAV),
            ((about > 0) & (channels > 0) & (rate > 0), NO_FORMAT),
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
                f"{recordings[0].where}: recording {recordings[0].id} cannot be read as WAV ({refusal(error)}); "
                "replace or remove it, or leave such recordings out with --set data.on_error=skip"
            ) from None


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
    low, middle, high = tf.unstack(tf.cast(tf.reshape(tf.io.decode_raw(sound, tf.uint8), [-1, 3]), tf.int32), axis=1)
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
