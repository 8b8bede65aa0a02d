"""Transcribes recordings that are joined end to end, up to ten times as long as those of training.

    python benchmarks/joined.py --figure docs/joined.png

Recognisers that differ in their attention alone are trained on recordings of two to eight phones, and transcribe test
recordings of which one, two, … ten are joined. Attention that goes by content alone cannot tell a sound from the same
sound elsewhere; location-aware attention sees its last position, and may be held to a window around it (Chorowski et
al., 2015, https://arxiv.org/abs/1506.07503). Prints a table in Markdown, and draws the phone error rate by length.
Trained runs are kept in --folder, and are not trained again.
"""

import argparse
import io
import wave
from pathlib import Path

import numpy as np
from timing import machine

import kseq
from kseq import plots
from kseq.config import load
from kseq.data.tones import tones, wav
from kseq.metrics import token_errors
from kseq.tasks import program
from kseq.tasks.transcribe import Transcribe

COUNTS = (1, 2, 3, 4, 6, 8, 10)  # recordings that are joined
EXAMPLES = 60  # joined recordings of each count
LONGEST = 100  # phones, in training and afterwards
WIDTH = 4  # of the beam; training validates greedily
ATTENTIONS = {  # name in the table: what is set
    "content": ["model.attention=bahdanau"],
    "location": ["model.attention=location"],
    "location, smoothed": ["model.attention=location", "model.attention_options={ smoothing = true }"],
    "location, window of 20 rows": ["model.attention=location", "model.attention_options={ window = 20 }"],
    "monotonic": ["model.attention=monotonic"],
}


def trained(name, folder, changes):
    """The run of an attention mechanism, trained unless it is there."""
    overrides = [f"data.max_length={LONGEST}", "sampler.width=1", *ATTENTIONS[name], *changes]
    workdir = Path(folder, name.replace(", ", "_").replace(" ", "_"))
    program.train(Transcribe, workdir, load(Transcribe.Config, overrides=overrides), resume=True, show=2)
    return kseq.load(workdir, [f"sampler.width={WIDTH}"])


def joined(count):
    """`EXAMPLES` WAV files of `count` test recordings each, and their phones."""
    found = list(tones("test", EXAMPLES * count))
    groups = [found[i : i + count] for i in range(0, len(found), count)]
    sounds = [wav(np.concatenate([samples(one["audio"]) for one in group])) for group in groups]
    return sounds, [" ".join(one["text"] for one in group) for group in groups]


def samples(audio):
    """The samples of a WAV file of 16 bits, in −1…1."""
    with wave.open(io.BytesIO(audio)) as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2") / 2**15


def main():
    """Parses the flags, trains each recogniser, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--attentions", nargs="+", choices=ATTENTIONS, default=list(ATTENTIONS))
    parser.add_argument("--folder", default="runs/joined", help="where the trained runs are kept")
    parser.add_argument("--figure", help="where to draw the phone error rate by length")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all runs")
    flags = parser.parse_args()
    rates, recordings = {}, {count: joined(count) for count in COUNTS}
    for name in flags.attentions:
        transcriber = trained(name, flags.folder, flags.set)
        rates[name] = {n: sum(token_errors(transcriber(x), texts).values()) for n, (x, texts) in recordings.items()}
    print(f"\n{machine()}, seed 0, {EXAMPLES} recordings of each length; phone error rate on test, in %\n")
    print("|", " | ".join(["recordings joined", *map(str, COUNTS)]), "|")
    print("|", " | ".join("---" for _ in range(len(COUNTS) + 1)), "|")
    for name, row in rates.items():
        print("|", " | ".join([name, *(f"{100 * rate:.1f}" for rate in row.values())]), "|")
    if flags.figure:
        plots.save(plots.by_length({"": rates}, label="phone error rate", length="recordings joined"), flags.figure)


if __name__ == "__main__":
    main()
