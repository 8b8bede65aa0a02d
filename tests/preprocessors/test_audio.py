"""WAV files of all kinds to frames, against what the standard library and SciPy have written."""

import io
import struct
import types
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import tensorflow as tf

from kseq.errors import UserError
from kseq.layers import LogMel
from kseq.preprocessors import AudioPreprocessor, FramePreprocessor, PerturbedAudio

RATE = 8000
LENGTHS = ((800, 1, 16, RATE), (801, 2, 8, 16_000), (4410, 5, 24, 44_100), (300, 3, 32, 4000))  # with channels and bits
audio = AudioPreprocessor(RATE, 12)


def sound(samples=800, channels=1, seed=0):
    """Float64 `[samples, channels]` in −0.9…0.9."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (samples, channels))


def wav(x, bits=16, rate=RATE):
    """A file of integers, by the standard library."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(x.shape[1])
        writer.setsampwidth(bits // 8)
        writer.setframerate(rate)
        whole = np.round(x * (2 ** (bits - 1) - 1)).astype("<i8") + (128 if bits == 8 else 0)
        writer.writeframes(whole.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes())
    return file.getvalue()


def floats(x, dtype="float32", rate=RATE):
    """A file of floats, by SciPy."""
    file = io.BytesIO()
    scipy.io.wavfile.write(file, rate, x.astype(dtype))
    return file.getvalue()


in_a_graph = tf.function(audio.features, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def refused(encoded, message, **options):
    """The function that serves refuses a file, eagerly and in a graph, and `encode` names the file."""
    one = AudioPreprocessor(RATE, 12, **options) if options else audio
    for function in (one.features, tf.function(one.features, autograph=False) if options else in_a_graph):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            function(tf.constant([encoded]))
    recording = types.SimpleNamespace(id="x.wav", where="t.tsv:2", read=lambda: encoded)
    with pytest.raises(UserError, match=rf"t.tsv:2: recording x.wav cannot be read as WAV \({message}") as error:
        one.encode([recording])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_are_read_as_they_were_written(bits, channels):
    x = sound(channels=channels)
    np.testing.assert_allclose(audio.waveform(tf.constant(wav(x, bits))), x.mean(axis=1), atol=2.0 ** (2 - bits) + 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_read_as_they_were_written(dtype):
    x = sound(channels=2)
    np.testing.assert_allclose(audio.waveform(tf.constant(floats(x, dtype))), x.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
def test_every_rate_becomes_that_of_the_frames(rate):
    x = sound(rate // 5)
    want = scipy.signal.resample(x[:, 0], RATE // 5)
    np.testing.assert_allclose(audio.waveform(tf.constant(floats(x, rate=rate))), want, atol=1e-4)


def test_other_chunks_an_extensible_format_and_an_unknown_size_are_read():
    x = np.array([[100], [-200], [300]] * 100, "<i2")
    guid = bytes.fromhex("0000000010008000 00aa00389b71")
    extensible = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4, 1) + guid
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of an odd size, and a byte behind it
    chunks += b"fmt " + struct.pack("<I", len(extensible)) + extensible
    chunks += b"data" + struct.pack("<I", 2**32 - 1) + x.tobytes()
    encoded = b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVE" + chunks
    np.testing.assert_allclose(audio.waveform(tf.constant(encoded)), x[:, 0] / 2**15, atol=1e-7)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "The file is empty"),
        (b"Z IY R OW\n", "The first bytes are not those of a WAV file"),
        (b"RIFF", "The first bytes are not those of a WAV file"),
        (b"fLaC and more", "The file is FLAC, and only WAV is read here; convert it: ffmpeg -i in.flac out.wav"),
        (b"\xff\xf3\x88D", "The file is MP3, and only WAV is read here"),
        (wav(sound())[:12], "The file does not say how its sound is written"),
        (wav(sound())[:36], "The file has no sound"),
        (wav(sound())[:-100], "The file is cut off: its sound has 1600 bytes, and 1500 are there"),
        (wav(sound(1)), "The recording is too short: 1 samples at 8000 Hz, less than 0.025 s"),
        (wav(sound(0)), "The recording is too short: 0 samples at 8000 Hz"),
        (wav(np.zeros((800, 1))), "The recording is silent: all of its samples are the same"),
        (floats(np.where(np.arange(800) == 7, np.nan, 0.1)[:, None]), "The recording has samples that are no numbers"),
        (wav(sound()).replace(b"\x01\x00\x01\x00", b"\x06\x00\x01\x00", 1), "The sound has format 6 with 16 bits, and"),
        (wav(sound(), rate=192_001), "The sound has 192001 samples a second, and at most 192000 are read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(encoded, message):
    refused(encoded, message)


@pytest.mark.slow
def test_a_recording_of_an_hour_is_refused_before_it_is_decoded():
    header = wav(sound(10))[:-20]
    hour = header[:-4] + struct.pack("<I", 2 * RATE * 3600) + bytes(2 * RATE * 3600)
    refused(hour, "The recording is too long: 3600 s, and at most 60 are read")
    refused(wav(sound(RATE)), "The recording is too long: 1 s, and at most 0.5 are read", max_seconds=0.5)


@pytest.mark.slow
def test_frames_of_a_batch_are_those_of_each_recording_and_zeros_behind():
    x = [sound(n, seed=n) for n in (800, 240, 1999)]
    batch = audio.features(tf.constant([wav(one) for one in x])).numpy()
    assert batch.shape == (3, 25, 12)
    for row, one in zip(batch, x, strict=True):
        alone = audio.features(tf.constant([wav(one)])).numpy()[0]
        assert len(alone) == -(-len(one) // 80) and np.all(np.any(alone, axis=-1))
        np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-5)
        assert not np.any(row[len(alone) :])


def test_frames_are_normalized_over_the_recording():
    x = sound()
    plain = AudioPreprocessor(RATE, 12, normalize="none", deltas=1)
    y = plain.features(tf.constant([floats(x)])).numpy()[0]
    np.testing.assert_allclose(y, LogMel(RATE, 12, deltas=1)(x[:, 0].astype("float32")[None])[0], atol=1e-4)
    got = AudioPreprocessor(RATE, 12, deltas=1).features(tf.constant([floats(x)])).numpy()[0]
    np.testing.assert_allclose(got, (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-4), atol=1e-3)


def test_no_frame_of_a_recording_is_all_zeros():
    """A wave whose period is the hop has one and the same frame again and again."""
    x = np.tile(np.sin(2 * np.pi * np.arange(80) / 80), 10)[:, None]
    assert np.all(np.any(audio.features(tf.constant([floats(x)])).numpy(), axis=-1))


def test_loudness_does_not_matter_much_after_normalization():
    one, other = (audio.features(tf.constant([floats(a * sound())])).numpy() for a in (1.0, 0.1))
    np.testing.assert_allclose(one, other, atol=1e-2)


def test_wrong_arguments_are_one_sentence():
    with pytest.raises(UserError, match="normalize must be one of utterance, none, not 'global'"):
        AudioPreprocessor(normalize="global")
    with pytest.raises(UserError, match="the frames of a recording: deltas must be 0, 1 or 2, got 5"):
        AudioPreprocessor(deltas=5)


# --- any string, without an error


def read_any(files, one=audio, **limits):
    limits = {"max_bytes": 10**6} | limits
    read = tf.function(
        lambda x: one.readable(x, **limits), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    frames, said = read(tf.constant(files, tf.string))
    return frames.numpy(), [x.decode() for x in said.numpy()]


@pytest.mark.slow
def test_what_cannot_be_read_is_told_and_spoils_no_other():
    """Oracle for the others: `features`, which raises where there is a bad one."""
    good, plain = [wav(sound()), floats(sound(2000))], wav(sound())
    bad = {
        b"": "The file is empty",
        b"A text": "The first bytes are not those of a WAV file",
        plain[:19]: "The file does not say how its sound is written",
        plain[:-9]: "The file is cut off: its sound has 1600 bytes, and 1591 are there",
        wav(np.zeros((800, 1))): "The recording is silent: all of its samples are the same",
        floats(np.full((800, 1), np.nan)): "The recording has samples that are no numbers",
        wav(sound(1)): "The recording is too short: 1 samples at 8000 Hz, less than 0.025 s",
        wav(sound(61_000), rate=1000): "The recording is too long: 61 s, and at most 60 are read",
        bytes(10**6 + 1): "The file has 1000001 bytes, and at most 1000000 are read",
    }
    frames, said = read_any([good[0], *bad, good[1]])
    assert said == ["", *bad.values(), ""]
    for row, file in zip(frames[[0, -1]], good, strict=True):
        [want] = audio.features(tf.constant([file])).numpy()
        np.testing.assert_allclose(row[: len(want)], want, rtol=1e-5, atol=1e-5)
        assert not np.any(row[len(want) :])


@pytest.mark.slow
def test_the_longest_recording_is_what_is_asked_for():
    second = wav(sound(RATE))
    assert read_any([second], max_seconds=1)[1] == [""]
    assert read_any([second], max_seconds=0.5)[1] == ["The recording is too long: 1 s, and at most 0.5 are read"]


@pytest.mark.slow
def test_how_long_a_recording_is_stands_in_its_header():
    """Oracle: samples divided by the rate. What is refused has no length."""
    files = [wav(sound(samples, channels), bits, rate) for samples, channels, bits, rate in LENGTHS]
    files += [floats(sound(900), "float64", 12_000), b"", files[0][:60], wav(sound(), rate=1)]
    expected = [samples / rate for samples, _, _, rate in LENGTHS] + [900 / 12_000, 0, 0, 0]
    large = wav(sound(500_000))
    seconds = tf.function(lambda x: audio.seconds(x, max_bytes=10**6 - 1), autograph=False)(
        tf.constant([*files, large])
    )
    np.testing.assert_allclose(seconds, [*expected, 0], rtol=1e-6)
    frames = FramePreprocessor(5, hop=0.02)
    files = [npy(np.ones((count, 5), dtype)) for count, dtype in ((30, "float16"), (7, "float32"))]
    seconds = frames.seconds(tf.constant([*files, b"", npy(np.ones((4, 3), "float32"))]), max_bytes=10**6)
    np.testing.assert_allclose(seconds, [0.6, 0.14, 0, 0], rtol=1e-6)


@pytest.mark.slow
def test_random_damage_never_raises():
    chance, files, plain = np.random.default_rng(0), [], wav(sound())
    for _ in range(60):
        damaged = bytearray(plain)
        for at in chance.integers(0, 60, 4):
            damaged[at] ^= 1 << int(chance.integers(8))
        files.append(bytes(damaged[: chance.integers(10, len(plain))] if chance.random() < 0.3 else damaged))
    frames, said = read_any(files)
    assert np.all(np.isfinite(frames)) and 1 < said.count("") < 50


# --- changed recordings


def test_a_faster_recording_is_shorter_and_higher():
    """Oracle: the sine of a higher pitch, at the same rate."""
    n = np.arange(RATE)
    made = PerturbedAudio(audio, speed=1.25)
    y = made.waveform(tf.constant(floats(np.sin(2 * np.pi * 400 * n / RATE)[:, None]))).numpy()
    assert y.shape == (6400,)
    np.testing.assert_allclose(y[50:-50], np.sin(2 * np.pi * 500 * n / RATE)[50 : len(y) - 50], atol=2e-2)
    assert made.features(tf.constant([floats(sound())])).shape == (1, 8, 12)


@pytest.mark.slow
def test_noise_has_its_ratio_and_follows_the_recording():
    encoded = floats(sound(20_000))
    x = audio.waveform(tf.constant(encoded)).numpy()

    def noise(encoded=encoded, **options):
        made = PerturbedAudio(audio, **{"noise": (10, 10)} | options)
        return made.waveform(tf.constant(encoded)).numpy() - x

    np.testing.assert_allclose(10 * np.log10(np.mean(x**2) / np.mean(noise() ** 2)), 10, atol=0.2)
    np.testing.assert_array_equal(noise(), noise())
    assert np.any(noise() != noise(seed=1)) and np.any(noise() != noise(floats(sound(20_000, seed=1))))
    drawn = [np.mean(noise(noise=(0, 20), seed=seed) ** 2) for seed in range(20)]
    ratios = 10 * np.log10(np.mean(x**2) / drawn)
    assert ratios.min() > -0.5 and ratios.max() < 20.5 and np.std(ratios) > 2


def test_what_a_changed_recording_depends_on():
    changed = {"speed": 0.9, "noise": None, "seed": 0}
    assert PerturbedAudio(audio, speed=0.9).get_config() == audio.get_config() | changed
    assert PerturbedAudio(audio, noise=(5, 9), seed=2).get_config()["noise"] == [5, 9]


# --- frames computed elsewhere


def npy(x):
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("normalize", ["none", "utterance"])
def test_frames_are_read_as_numpy_wrote_them(dtype, normalize):
    """Oracle: `numpy.save`, and the equation in NumPy."""
    frames = FramePreprocessor(3, normalize=normalize)
    values = [np.random.default_rng(n).normal(size=(n, 3)).astype(dtype) for n in (5, 2)]
    found = frames.features(tf.constant([npy(x) for x in values])).numpy()
    assert found.shape == (2, 5, 3) and not np.any(found[1, 2:])
    for x, y in zip(values, found, strict=True):
        x = x.astype("float32")
        want = x if normalize == "none" else (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-4)
        np.testing.assert_allclose(y[: len(x)], want, atol=1e-5)


GOOD = np.ones((4, 3), "float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"RIFF", "The file is not a .npy file of float16 or float32 in C order"),
        (floats(sound()), "The file is not a .npy file"),
        (npy(GOOD.astype("float64")), "The file is not a .npy file"),
        (npy(np.asfortranarray(GOOD)), "The file is not a .npy file"),
        (npy(GOOD[0]), "The file is not a .npy file"),
        (npy(np.ones((4, 2), "float16")), "Its frames have 2 numbers, and data.frames is 3"),
        (npy(GOOD[:0]), "The file has no frames"),
        (npy(np.ones((51, 3), "float16")), "The recording is too long: 51 frames, and at most 50 are read"),
        (npy(GOOD)[:-1], "The file is cut off: its frames have 48 bytes, and 47 are there"),
        (npy(GOOD * np.inf), "The frames have values that are no numbers"),
    ],
)
def test_frames_that_cannot_be_read_are_told(content, message):
    frames = FramePreprocessor(3, max_seconds=0.5)
    for function in (frames.features, tf.function(frames.features, autograph=False)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            function(tf.constant([content]))
    recording = types.SimpleNamespace(id="x.npy", where="t.tsv:2", read=lambda: content)
    with pytest.raises(UserError, match=rf"t.tsv:2: recording x.npy cannot be read as frames \({message}"):
        frames.encode([recording])


def test_frames_that_cannot_be_read_spoil_no_others():
    """Oracle for the others: `features`, which raises where there is a bad file."""
    one, good = (
        FramePreprocessor(3, max_seconds=0.5),
        npy(np.random.default_rng(0).normal(size=(12, 3)).astype("float32")),
    )
    bad = {
        b"": "The file is empty",
        good[:-1]: "The file is cut off: its frames have 144 bytes, and 143 are there",
        npy(np.ones((51, 3), "float16")): "The recording is too long: 51 frames, and at most 50 are read",
        npy(GOOD * np.inf): "The frames have values that are no numbers",
    }
    frames, said = read_any([good, *bad, good], one)
    assert said == ["", *bad.values(), ""]
    for row in frames[[0, -1]]:
        np.testing.assert_allclose(row, one.features(tf.constant([good])).numpy()[0], atol=1e-5)
