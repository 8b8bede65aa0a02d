"""From a waveform to what a recogniser reads, in the graph."""

import keras
import tensorflow as tf
from keras import ops

from kseq.layers.dropout import uniform
from kseq.layers.functional import check_non_negative, check_positive

SPREAD = 2  # frames on either side that a delta is computed from


@keras.saving.register_keras_serializable("kseq")
class LogMel(keras.layers.Layer):
    """The logarithm of the energy in each band of the mel scale, a frame every few milliseconds, with its slopes.

        X_tk = Σ_n w_n x_{tH+n} e^{−2πi kn/F}         n = 0 … W − 1, w the periodic Hann window
        y_tm = log(ε + Σ_k M_km |X_tk|²)              M triangles, equally wide in mel = 1127 log(1 + Hz / 700)
        Δy_t = Σ_j j (y_{t+j} − y_{t−j}) / 2 Σ_j j²   j = 1, 2; the first and last frames are repeated at the ends

    W and H are `window` and `hop` in samples, F is the power of two that is W or above it, and ε is `floor`. Frame t
    begins at sample tH, and there is one for each hop that has begun; behind the waveform are zeros. The filters are
    those of `tf.signal.linear_to_mel_weight_matrix`, the slopes those of HTK (Young et al., 2006, The HTK Book, section
    5.6 and equation 5.16). All is computed in float32 under every dtype policy.

    Args:
        rate: samples a second.
        mels: number of bands.
        window: length of a frame, in seconds.
        hop: from the beginning of a frame to that of the next, in seconds.
        low: lower end of the lowest band, in Hz.
        high: upper end of the highest band, in Hz; half of the rate when not given.
        deltas: how often slopes are taken: with 1, Δy follows y; with 2, Δy and ΔΔy.
        floor: ε, in the unit of |X|²; the waveform is in −1…1.

    Call arguments:
        inputs: `[batch, samples]`, of one length: a shorter one that is padded with zeros gets frames of silence.

    Returns:
        float32 `[batch, ⌈samples / H⌉, mels (1 + deltas)]`.

    Raises:
        ValueError: a number is out of range, or the bands are not below half of the rate.

    >>> LogMel(16000, 40, deltas=1)(keras.ops.ones((2, 1600))).shape
    TensorShape([2, 10, 80])
    """

    def __init__(self, rate, mels=40, *, window=0.025, hop=0.01, low=20.0, high=None, deltas=0, floor=1e-6, **kwargs):
        super().__init__(**{"autocast": False} | kwargs)  # rounded to half precision, a waveform is noise
        self.rate = check_positive("rate", rate)
        self.mels = check_positive("mels", mels)
        self.window = check_non_negative("window", window)
        self.hop = check_non_negative("hop", hop)
        self.low = check_non_negative("low", low)
        self.high = high
        self.deltas = deltas
        self.floor = check_non_negative("floor", floor)
        for name in ("window", "hop"):
            if round(getattr(self, name) * rate) < 1:
                raise ValueError(f"{name} must be a sample or more at {rate} Hz, got {getattr(self, name)!r} seconds")
        if not floor:
            raise ValueError("floor must be positive: the logarithm of no energy at all is minus infinity")
        if not low < (high or rate / 2) <= rate / 2:
            raise ValueError(
                f"low and high must rise and be at most {rate / 2:g} Hz, half of the rate, got {low, high}"
            )
        if deltas not in (0, 1, 2):
            raise ValueError(f"deltas must be 0, 1 or 2, got {deltas!r}")

    def build(self, inputs_shape):
        pass

    def call(self, inputs):
        window, hop = round(self.window * self.rate), round(self.hop * self.rate)
        fft = 1 << (window - 1).bit_length()
        x = ops.cast(inputs, "float32")
        spectrum = tf.signal.stft(x, window, hop, fft, pad_end=True)  # [batch, frames, fft / 2 + 1]
        power = ops.square(ops.real(spectrum)) + ops.square(ops.imag(spectrum))
        high = self.high or self.rate / 2
        mel = tf.signal.linear_to_mel_weight_matrix(self.mels, fft // 2 + 1, self.rate, self.low, high)
        y = [ops.log(self.floor + ops.matmul(power, mel))]
        for _ in range(self.deltas):
            y.append(slopes(y[-1]))
        return ops.concatenate(y, axis=-1)

    def compute_output_shape(self, inputs_shape):
        batch, samples = inputs_shape
        frames = None if samples is None else -(-samples // round(self.hop * self.rate))
        return batch, frames, self.mels * (1 + self.deltas)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), "float32")

    def get_config(self):
        names = ("rate", "mels", "window", "hop", "low", "high", "deltas", "floor")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kseq")
class SpecAugment(keras.layers.Layer):
    """Hides random bands and spans of time of log-mel frames in training (Park et al., 2019,
    https://arxiv.org/abs/1904.08779, section 2; without its time warping).

        x_tm = 0  where  f_0 ≤ m < f_0 + f,  f ~ U{0 … F},  f_0 ~ U{0 … ν − f}
        x_tm = 0  where  t_0 ≤ t < t_0 + w,  w ~ U{0 … min(T, ⌊pτ⌋)},  t_0 ~ U{0 … τ − w}

    Each mask of each recording is drawn on its own. ν is the number of bands, τ that of the frames of the recording, F
    and T are `frequency_width` and `time_width`, p is `time_share`. 0 is the mean of frames that are normalized.

    Args:
        frequency_masks: masks over bands.
        frequency_width: F, bands.
        time_masks: masks over time.
        time_width: T, frames.
        time_share: p, the largest share of a recording that one mask hides.
        bands: ν, where slopes stand behind the bands, which are hidden with their band; all of a frame when not given.
        seed: of the random numbers.

    Call arguments:
        inputs: float `[batch, frames, d]`; frames that are all 0 are padding.

    Returns:
        the same shape; the inputs themselves when not training.

    Raises:
        ValueError: a number is out of range, or a frame has other bands.

    >>> SpecAugment(2, frequency_width=8, time_masks=2)(keras.ops.ones((1, 50, 40)), training=True).shape
    TensorShape([1, 50, 40])
    """

    def __init__(
        self,
        frequency_masks=0,
        *,
        frequency_width=8,
        time_masks=0,
        time_width=40,
        time_share=0.2,
        bands=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("frequency_masks", frequency_masks), ("time_masks", time_masks)):
            setattr(self, name, check_positive(name, value) if value else 0)
        self.frequency_width = check_positive("frequency_width", frequency_width)
        self.time_width = check_positive("time_width", time_width)
        self.time_share = check_non_negative("time_share", time_share)
        if time_share > 1:
            raise ValueError(f"time_share must be at most 1, got {time_share!r}")
        self.bands = None if bands is None else check_positive("bands", bands)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape):
        size = inputs_shape[-1]
        bands = self.bands or size
        _check_bands(self.bands, size)
        if self.frequency_width > bands:
            raise ValueError(f"frequency_width must be at most {bands}, the bands, got {self.frequency_width}")

    def call(self, inputs, training=None):
        if not training:
            return inputs
        batch, frames, size = ops.shape(inputs)[0], ops.shape(inputs)[1], inputs.shape[-1]
        bands = self.bands or size
        counts = ops.sum(ops.cast(ops.any(inputs != 0, axis=-1), "float32"), axis=1)  # [batch]
        width = ops.minimum(float(self.time_width), ops.floor(self.time_share * counts))
        time = self._hidden(self.time_masks, batch, frames, width, counts)  # [batch, frames]
        number = ops.full_like(counts, bands)
        band = self._hidden(self.frequency_masks, batch, bands, ops.full_like(counts, self.frequency_width), number)
        band = ops.tile(band, (1, size // bands))
        return ops.where(ops.logical_or(time[:, :, None], band[:, None]), ops.zeros_like(inputs), inputs)

    def _hidden(self, masks, batch, length, width, number):
        """bool `[batch, length]`: what is hidden, by masks of 0 to `width` of the first `number`, both `[batch]`."""
        draws = uniform((2, batch, max(masks, 1)), self.seed_generator)
        wide = ops.floor(draws[0] * (width[:, None] + 1))
        first = ops.floor(draws[1] * (number[:, None] - wide + 1))
        place = ops.cast(ops.arange(length), "float32")[None, None]
        hidden = ops.logical_and(place >= first[..., None], place < (first + wide)[..., None])
        return ops.any(hidden, axis=1) if masks else ops.zeros((batch, length), "bool")

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        names = ("frequency_masks", "frequency_width", "time_masks", "time_width", "time_share", "bands", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kseq")
class WarpFrames(keras.layers.Layer):
    """Stretches log-mel frames at random in training: other voices, and another course of time.

        x'_tm = x_{p(t), q(m)},  between whole numbers interpolated linearly

        q(m) = α m  where  m ≤ H min(α, 1) / α,  else  S − (S − H min(α, 1)) / (S − H min(α, 1) / α) (S − m)
        p(t) = t c / (c + w)  where  t ≤ c + w,  else  T − (T − c) / (T − c − w) (T − t)

    q is the vocal tract length perturbation of Jaitly & Hinton (2013, section 3), over the numbers of the bands, which
    are almost equally wide in mel, instead of over Hz: S is the last band, H = 0.8 S, and α ~ U[1 − a, 1 + a]. p is the
    time warping of Park et al. (2019, https://arxiv.org/abs/1904.08779, section 2): frame c of a recording moves
    by w, c ~ U[T / 4, 3 T / 4] and w ~ U[−b T, b T]. T is the last frame, which stays where it is, as the first does. a
    and b are `frequency` and `time`.

    Args:
        frequency: a, at most 0.5; 0 leaves the bands in their places.
        time: b, at most 0.2; 0 leaves the frames in theirs.
        bands: number of bands, where slopes stand behind them, which move with their band; all of a frame when not
            given.
        seed: of the random numbers.

    Call arguments:
        inputs: float `[batch, frames, d]`; frames that are all 0 are padding.

    Returns:
        the same shape; the inputs themselves when not training.

    Raises:
        ValueError: a number is out of range, or a frame has other bands.

    >>> WarpFrames(0.1, time=0.05)(keras.ops.ones((1, 50, 40)), training=True).shape
    TensorShape([1, 50, 40])
    """

    def __init__(self, frequency=0.0, *, time=0.0, bands=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        for name, value, most in (("frequency", frequency, 0.5), ("time", time, 0.2)):
            setattr(self, name, check_non_negative(name, value))
            if value > most:
                raise ValueError(f"{name} must be at most {most}, got {value!r}")
        self.bands = None if bands is None else check_positive("bands", bands)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape):
        _check_bands(self.bands, inputs_shape[-1])

    def call(self, inputs, training=None):
        if not training:
            return inputs
        x = inputs
        if self.time:
            x = self._warp_time(x)
        if self.frequency:
            x = self._warp_frequency(x)
        return ops.where(ops.any(inputs != 0, axis=-1, keepdims=True), x, ops.zeros_like(x))

    def _warp_frequency(self, x):
        """x' = x Q,  Q_km = max(0, 1 − |k − q(m)|)."""
        bands = self.bands or x.shape[-1]
        S, H = bands - 1, 0.8 * (bands - 1)
        m = ops.arange(bands, dtype="float32")[None]  # [1, bands]
        α = 1 + self.frequency * (2 * uniform((ops.shape(x)[0], 1), self.seed_generator) - 1)  # [batch, 1]
        low = H * ops.minimum(α, 1.0)
        q = ops.where(m <= low / α, α * m, S - (S - low) / (S - low / α) * (S - m))  # [batch, bands]
        Q = ops.maximum(0.0, 1 - ops.abs(m[..., None] - q[:, None]))  # [batch, bands, bands]
        frames, Q = ops.reshape(x, (-1, ops.shape(x)[1] * (x.shape[-1] // bands), bands)), ops.cast(Q, x.dtype)
        return ops.reshape(ops.matmul(frames, Q), ops.shape(x))

    def _warp_time(self, x):
        draws = uniform((2, ops.shape(x)[0], 1), self.seed_generator)
        frames = ops.sum(ops.cast(ops.any(x != 0, axis=-1), "float32"), axis=1, keepdims=True)
        T = ops.maximum(frames - 1, 0.0)  # [batch, 1]
        t = ops.arange(ops.shape(x)[1], dtype="float32")[None]  # [1, frames]
        c, w = T * (0.25 + 0.5 * draws[0]), T * self.time * (2 * draws[1] - 1)
        below, above = ops.maximum(c + w, 1e-6), ops.maximum(T - c - w, 1e-6)  # 0 for a recording of one frame
        p = ops.clip(ops.where(t <= c + w, c / below * t, T - (T - c) / above * (T - t)), 0.0, T)
        before = ops.floor(p)
        share = ops.cast(p - before, x.dtype)[..., None]
        before = ops.cast(before, "int32")
        after = ops.minimum(before + 1, ops.cast(T, "int32"))
        old, new = (ops.take_along_axis(x, index[..., None], axis=1) for index in (before, after))
        return old * (1 - share) + new * share

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return super().get_config() | {name: getattr(self, name) for name in ("frequency", "time", "bands", "seed")}


def _check_bands(bands, size):
    if size % (bands or size):
        raise ValueError(f"bands is {bands}, and a frame of {size} numbers is no multiple of it")


def slopes(y):
    """Δy of `LogMel`: `[batch, time, d]` → the same shape."""
    time = ops.shape(y)[1]
    padded = ops.concatenate([y[:, :1]] * SPREAD + [y] + [y[:, -1:]] * SPREAD, axis=1)
    steps = range(1, SPREAD + 1)
    ahead = [j * (padded[:, SPREAD + j :][:, :time] - padded[:, SPREAD - j :][:, :time]) for j in steps]
    return sum(ahead[1:], ahead[0]) / (2 * sum(j * j for j in steps))


def resample(x, rate, new_rate):
    """A waveform at another rate, by its Fourier series, as `scipy.signal.resample` computes it.

    What the new rate cannot carry is left out, so that nothing is folded back. The series takes the waveform for one
    period of a periodic signal, so that a jump between its end and its beginning causes ringing in a few samples at
    both ends.

    Args:
        x: float32 `[samples]`, one or more.
        rate: its samples a second, a number or an int tensor `[]`.
        new_rate: those of the result.

    Returns:
        float32 `[⌈samples · new_rate / rate⌉]`.
    """
    samples, rate, new_rate = (ops.cast(n, "int64") for n in (tf.size(x), rate, new_rate))
    count = -(-samples * new_rate // rate)
    # Where an even number of samples ends, the highest frequency stands once for two, as +f and as −f.
    shorter = ops.minimum(samples, count)
    spectrum = tf.signal.rfft(x)[: shorter // 2 + 1]  # what the new rate can carry
    share = tf.where(shorter % 2 == 1, 1.0, tf.where(count < samples, 2.0, tf.where(count > samples, 0.5, 1.0)))
    highest = tf.range(tf.size(spectrum, tf.int64)) == shorter // 2
    spectrum *= tf.cast(tf.where(highest, share, 1.0), spectrum.dtype)
    length = ops.cast(count, "int32")
    y = tf.signal.irfft(spectrum, [length])  # adds zeros for what is missing
    return y * (ops.cast(count, "float32") / ops.cast(samples, "float32"))
