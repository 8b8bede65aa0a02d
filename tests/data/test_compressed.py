"""FLAC, Ogg and MP3 files, against the same samples as WAV; both are written by soundfile."""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf

from kseq.data import decoded_wav
from kseq.errors import MissingPackage, UserError
from kseq.preprocessors import AudioPreprocessor, compressed_format

try:
    import soundfile
except ModuleNotFoundError:
    soundfile = None
needed = pytest.mark.skipif(soundfile is None, reason="needs soundfile: pip install 'kseq[audio]'")

RATE = 16_000
audio = AudioPreprocessor(RATE, 12)


def sound(samples=4000, channels=1):
    """Float64 `[samples, channels]` in −0.9…0.9."""
    return np.random.default_rng(0).uniform(-0.9, 0.9, (samples, channels))


def written(x, kind="FLAC", subtype=None, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=kind.upper(), subtype=subtype)
    return file.getvalue()


def decoded(content, **limits):
    return decoded_wav(content, compressed_format(content), **({"max_seconds": 60} | limits))


def refused(content, message, **limits):
    with pytest.raises(UserError, match=rf"^{message}") as error:
        decoded(content, **limits)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@needed
@pytest.mark.parametrize(
    ("subtype", "channels", "rate"), [("PCM_16", 1, RATE), ("PCM_24", 2, 48_000), ("PCM_16", 8, 96_000)]
)
def test_the_frames_of_flac_are_those_of_wav(subtype, channels, rate):
    whole = np.int32(sound(rate // 4, channels) * 2**31)
    x = np.int16(whole >> 16) if subtype == "PCM_16" else whole & ~0xFF
    flac, wav = written(x, "FLAC", subtype, rate), written(x, "WAV", subtype, rate)
    want = audio.waveform(tf.constant(wav))
    if channels == 1:
        np.testing.assert_array_equal(audio.waveform(tf.constant(decoded(flac))), want)
    np.testing.assert_allclose(audio.waveform(tf.constant(decoded(flac))), want, atol=1e-6)
    frames = audio.features(tf.constant([decoded(flac), wav])).numpy()
    np.testing.assert_allclose(frames[0], frames[1], atol=1e-3)


@pytest.mark.slow
@needed
@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_what_loses_some_of_the_sound_keeps_the_rest(kind, subtype):
    x = 0.5 * np.sin(np.arange(8000)[:, None] / 7) * np.ones((1, 2))
    content = written(x, kind, subtype)
    found = audio.waveform(tf.constant(decoded(content))).numpy()
    want, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    np.testing.assert_allclose(found, want.mean(axis=1), atol=1e-6)
    assert len(found) == 8000 and np.corrcoef(found[1000:7000], x[1000:7000, 0])[0, 1] > 0.99


@needed
def test_long_files_are_decoded_block_by_block(monkeypatch):
    content = written(sound(3000, 3))
    whole = decoded(content)
    monkeypatch.setattr(sys.modules["kseq.data.compressed"], "_BLOCK", 1000)
    assert decoded(content) == whole


@needed
def test_a_file_that_is_cut_off_is_refused_wherever_that_is():
    x = 0.5 * np.sin(np.arange(20_000)[:, None] / 7)
    for kind in ("FLAC", "OGG", "MP3"):
        content = written(x, kind)
        for end in (5, 40, 100, len(content) // 2, len(content) - 1):
            refused(content[:end], "The file is (damaged|cut off)")
    pages = written(x, "OGG")
    refused(pages[: pages.rfind(b"OggS")], "The file is cut off: its last page is missing")
    refused(written(x, "MP3")[:-1], "The file is cut off: its header says 20000 samples, and")


@needed
@pytest.mark.parametrize(
    "content", [b"fLaC", b"fLaC and text " * 99, b"OggS" + bytes(99), b"ID3 is no tag", b"\xff\xfb"]
)
def test_text_with_the_first_bytes_of_a_recording_is_refused(content):
    refused(content, "The file is (damaged|cut off)")


@needed
def test_an_hour_is_refused_before_it_is_decoded(monkeypatch):
    hour = written(np.zeros((3600 * 1000, 1)), rate=1000)
    lies = bytearray(written(sound()))
    lies[21] |= 0x0F  # the highest of 36 bits that say how many samples there are
    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
        refused(hour, "The recording is too long: 3600 s, and at most 60 are read")
        refused(bytes(lies), "The recording is too long: 4026532 s")
        refused(written(sound()), "The file has 16000 bytes once decoded, and at most 15999 are read", max_bytes=15_999)
    assert decoded(written(sound()), max_bytes=16_000, max_seconds=0.25)


@needed
def test_a_length_that_the_file_does_not_say_is_not_guessed():
    """libsndfile would read 61,385 of these 160,000 samples: as many as there were at the bit rate of the beginning."""
    flac = bytearray(written(sound()))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    refused(bytes(flac), "The file does not say how long it is; convert it to WAV")
    t = np.arange(160_000) / RATE
    x = np.where(
        t < 4, 0.5 * np.sin(2 * np.pi * 300 * t), np.random.default_rng(0).uniform(-0.9, 0.9, len(t)) * (t < 7)
    )
    mp3 = written(x[:, None], "MP3")
    without_count = mp3[mp3.find(mp3[:2], 4) :]
    refused(without_count, "The file has a varying bit rate and does not say how long it is; convert it to WAV")
    assert decoded(mp3 + b"TAG" + bytes(125)) == decoded(mp3)


@pytest.mark.parametrize(
    ("first", "kind"), [(b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3\x03", "MP3"), (b"\xff\xfb", "MP3")]
)
def test_without_soundfile_the_message_says_what_to_do(monkeypatch, first, kind):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(
        MissingPackage, match=rf"^The file is {kind}, which needs soundfile: pip install 'kseq\[audio\]'"
    ):
        decoded(first + bytes(99))


def test_a_soundfile_without_its_library_is_told(monkeypatch):
    """Where no wheel brings libsndfile, soundfile is installed and cannot be imported."""

    def fail(name):
        raise OSError("cannot load library 'libsndfile.so'")

    monkeypatch.setattr("kseq.data.compressed.importlib.import_module", fail)
    message = r"^The file is FLAC, and soundfile .* \(cannot load library 'libsndfile.so'\); install libsndfile"
    with pytest.raises(MissingPackage, match=message):
        decoded(b"fLaC" + bytes(99))


def test_what_is_not_compressed_is_told_from_what_is():
    """A text in UTF-16 begins with FF FE, layer II of MPEG with FF FD."""
    for content in (b"", b"RIFF", b"text", "text".encode("utf-16"), b"\xff\xfd\x00", b"\x93NUMPY"):
        assert compressed_format(content) is None
