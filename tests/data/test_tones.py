"""Generated recordings: what they hold, and that no split shows what another asks."""

import io
import itertools
import wave

import numpy as np
import pytest

from kseq.data.tones import GLIDES, PHONES, RATE, tones


def samples(example):
    with wave.open(io.BytesIO(example["audio"])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15


def test_a_seed_and_a_place_decide_a_recording():
    first, again, longer, other = (list(tones("train", n, seed=seed)) for n, seed in ((3, 0), (3, 0), (5, 0), (3, 1)))
    assert [x["audio"] for x in first] == [x["audio"] for x in again] == [x["audio"] for x in longer[:3]]
    assert first[0]["audio"] != other[0]["audio"] and [x["id"] for x in first] == [f"train-0000{i}" for i in range(3)]


@pytest.mark.slow
def test_no_sequence_of_phones_is_in_two_splits():
    texts = {split: {x["text"] for x in tones(split, 60)} for split in ("train", "dev", "test")}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other
    assert all(len(text.split()) > 2 for split in ("dev", "test") for text in texts[split])


def test_each_phone_sounds_where_it_is_said_to():
    """Oracle: the strongest frequency at its beginning and its end, where it glides; nothing but noise between."""
    heard = set()
    for example in tones("train", 30):
        x = samples(example)
        phones = example["text"].split()
        assert len(phones) == len(example["ends"]) and example["ends"][-1][1] < len(x) / RATE
        quiet = x[: int(example["ends"][0][0] * RATE)]
        for phone, (begins, ends) in zip(phones, example["ends"], strict=True):
            part = x[int(begins * RATE) : int(ends * RATE)]
            assert np.std(part) > np.std(quiet)
            heard.add(phone)
            if phone in GLIDES:
                third = len(part) // 3
                for piece, place in ((part[:third], 1 / 6), (part[-third:], 5 / 6)):
                    spectrum = np.abs(np.fft.rfft(piece * np.hanning(third), 2**14))
                    low, high = GLIDES[phone]
                    wanted = low * (high / low) ** place
                    assert np.argmax(spectrum) * RATE / 2**14 == pytest.approx(wanted, rel=0.25)
    assert heard == set(PHONES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "val", "count": 1}, "split must be one of .* got 'val'"),
        ({"split": "dev", "count": -1}, "count must be at least 0, got -1"),
        ({"split": "dev", "count": 1, "seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        tones(**arguments)
