"""Copy, reverse and sort sequences of up to 20 symbols: with attention, and with one vector in its place.

    python benchmarks/length.py --figure docs/length.png

Sequences are 1 to 20 of 20 symbols, drawn anew for each step; the score is the share of 2,000 others whose whole answer
is right. Prints a table in Markdown, and draws what is right by length.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from timing import machine

from kseq import plots
from kseq.layers import (
    BahdanauAttention,
    BahdanauDecoder,
    Bidirectional,
    DenseBridge,
    FixedContextDecoder,
    LSTMCell,
    LuongAttention,
    LuongDecoder,
    Recurrent,
)
from kseq.losses import TokenCrossentropy
from kseq.models import Seq2Seq, TextEncoder
from kseq.samplers import Greedy, compiled

SYMBOLS, LONGEST, UNITS, BATCH = 20, 20, 128, 128
START, END, FIRST = 1, 2, 3  # 0 is padding

TASKS = {"copy": lambda row: row, "reverse": lambda row: row[::-1], "sort": np.sort}
STEPS = {"copy": 600, "reverse": 600, "sort": 1_200}

DECODERS = {
    "Bahdanau": lambda cell: BahdanauDecoder(cell, BahdanauAttention(UNITS)),
    "Luong": lambda cell: LuongDecoder(cell, LuongAttention()),
    "no attention": FixedContextDecoder,
}


def examples(task, count, seed):
    """(sources, previous words, next words) of random sequences, int `[count, LONGEST + 1]`, 0 after the end."""
    rng = np.random.default_rng(seed)
    source, tokens, targets = np.zeros((3, count, LONGEST + 1), "int32")
    tokens[:, 0] = START
    for i, length in enumerate(rng.integers(1, LONGEST + 1, count)):
        row = rng.integers(FIRST, FIRST + SYMBOLS, length)
        answer = TASKS[task](row)
        source[i, :length], tokens[i, 1 : length + 1], targets[i, :length] = row, answer, answer
        targets[i, length] = END
    return source, tokens, targets


def made(decoder, steps):
    """A model with new weights, compiled."""
    cell = LSTMCell(UNITS)
    layer = Bidirectional(Recurrent(LSTMCell(UNITS // 2), return_state=True))
    encoder = TextEncoder(FIRST + SYMBOLS, layer, embedding_size=32)
    model = Seq2Seq(encoder, DenseBridge(cell.state_size), decoder(cell), FIRST + SYMBOLS, embedding_size=32)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=4e-3, warmup_steps=100)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), TokenCrossentropy(), jit_compile=True)
    return model


def right_by_length(model, task):
    """{length: share of the sequences that are right from end to end}."""
    source, _, targets = examples(task, 2_000, seed=1)
    search = compiled(Greedy(), model.encode, model.step, start=START, end=END, max_length=LONGEST + 1)
    ids = search(tf.constant(source)).ids[:, 0].numpy()
    right, lengths = (ids == targets).all(axis=1), (source != 0).sum(axis=1)
    return {n: float(right[lengths == n].mean()) for n in range(1, LONGEST + 1)}, float(right.mean())


def main():
    """Parses the flags, trains each decoder at each task, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--figure", help="where to draw what is right by length")
    flags = parser.parse_args()
    print(f"{machine()}, seed 0, batches of {BATCH} sequences\n")
    print("| task | steps | decoder | exact | exact at 20 symbols | weights | minutes |\n|---|---|---|---|---|---|---|")
    panels = {}
    for task in flags.tasks:
        steps = STEPS[task]
        source, tokens, targets = examples(task, steps * BATCH, seed=0)
        for name in flags.decoders:
            keras.utils.set_random_seed(0)
            model, start = made(DECODERS[name], steps), time.perf_counter()
            inputs, real = {"source": source, "tokens": tokens}, (targets != 0).astype("float32")
            model.fit(inputs, targets, sample_weight=real, batch_size=BATCH, shuffle=False, verbose=0)
            minutes = (time.perf_counter() - start) / 60
            by_length, exact = right_by_length(model, task)
            panels.setdefault(task, {})[name] = by_length
            longest, size = by_length[LONGEST], model.count_params()
            print(
                f"| {task} | {steps:,} | {name} | {exact:.3f} | {longest:.2f} | {size:,} | {minutes:.1f} |", flush=True
            )
    if flags.figure:
        plots.save(plots.by_length(panels, label="exact"), flags.figure)


if __name__ == "__main__":
    main()
