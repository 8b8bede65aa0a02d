"""Compressed recordings, by soundfile, which `pip install 'kseq[audio]'` brings."""

import importlib
import io

import numpy as np
from scipy.io import wavfile

from kseq.errors import MissingPackage, UserError

_BLOCK = 2**20  # samples of all channels that are decoded at once
_ENDLESS = 2**62  # of the frames that libsndfile gives a file whose header has no number of them
_TAGS = 1024  # bytes behind the sound of an MP3 file that are taken for tags


def decoded_wav(content, kind, *, max_seconds, max_bytes=None):
    """The bytes of a WAV file with the sound of a compressed one: the mean of its channels in float32, at its own rate.

    How long a recording is its header says, so that a long one is refused before it is decoded.

    Args:
        content: bytes of a FLAC, Ogg or MP3 file.
        kind: what messages call its format.
        max_seconds: of the recording.
        max_bytes: of the WAV file; None for no limit.

    Raises:
        MissingPackage: soundfile is not installed, or libsndfile, which it loads, is not.
        UserError: the file is damaged or cut off, or the recording is too long.
    """
    soundfile = _require_soundfile(kind)
    if content.startswith(b"OggS") and not _ends(content):
        raise UserError("The file is cut off: its last page is missing")
    stream = io.BytesIO(content)
    try:
        with soundfile.SoundFile(stream) as file:
            x, rate = _samples(file, max_seconds, max_bytes), file.samplerate
            unread = len(content) - stream.tell() if file.format == "MP3" else 0
    except soundfile.SoundFileError as error:
        raise UserError(f"The file is damaged: {getattr(error, 'error_string', None) or error}") from None
    if unread > _TAGS:  # without a header that counts its frames, libsndfile guesses by the first of them
        raise UserError("The file has a varying bit rate and does not say how long it is; convert it to WAV")
    wav = io.BytesIO()
    wavfile.write(wav, rate, x)
    return wav.getvalue()


def _require_soundfile(kind):
    convert = f"convert it: ffmpeg -i in.{kind.lower()} out.wav"
    try:
        return importlib.import_module("soundfile")
    except ModuleNotFoundError as error:
        if error.name != "soundfile":
            raise
        raise MissingPackage(
            f"The file is {kind}, which needs soundfile: pip install 'kseq[audio]'. Or {convert}"
        ) from None
    except OSError as error:  # soundfile is there without libsndfile
        raise MissingPackage(
            f"The file is {kind}, and soundfile cannot be loaded ({error}); install libsndfile, or {convert}"
        ) from None


def _ends(content):
    """Whether the last page of an Ogg file is whole and marked as the last (RFC 3533, section 6)."""
    at = content.rfind(b"OggS")
    if len(content) < at + 27:
        return False
    table = content[at + 27 : at + 27 + content[at + 26]]
    whole = at + 27 + content[at + 26] + sum(table) <= len(content)
    return whole and bool(content[at + 5] & 4)


def _samples(file, max_seconds, max_bytes):
    """The samples of an open file, float32 `[samples]`, decoded block by block."""
    if file.frames >= _ENDLESS:
        raise UserError("The file does not say how long it is; convert it to WAV")
    if file.frames > max_seconds * file.samplerate:
        seconds = file.frames / file.samplerate
        raise UserError(f"The recording is too long: {seconds:.0f} s, and at most {max_seconds:g} are read")
    if max_bytes is not None and 4 * file.frames > max_bytes:
        raise UserError(f"The file has {4 * file.frames} bytes once decoded, and at most {max_bytes} are read")
    parts, count = [np.zeros(0, np.float32)], 0
    while len(x := file.read(max(1, _BLOCK // file.channels), dtype="float32", always_2d=True)):
        parts.append(x.mean(axis=1))
        count += len(x)
    if count < file.frames:
        raise UserError(f"The file is cut off: its header says {file.frames} samples, and {count} are there")
    return np.concatenate(parts)
