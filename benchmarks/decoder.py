"""An encoder-decoder with attention in kseq and in PyTorch side by side: training, decoding, memory, growth.

    python benchmarks/decoder.py

Each in a process of its own, in turns; PyTorch is left out unless it is installed (`pip install -e '.[bench]'`). An
LSTM encoder and a Bahdanau decoder of an LSTM, 256 units everywhere, 8,000 words on both sides, 64 pairs of 20 and 20
words, float32, Adam. A training step is `train_on_batch`, with all that `fit` does for a batch. Decoding makes 20 words
for each of 64 sources, with random weights and no end: all make the same number.
"""

import argparse
import statistics

import numpy as np
from timing import contestants, in_turns, machine, milliseconds, peak, ratio

BATCH, LENGTH, UNITS, VOCABULARY = 64, 20, 256, 8_000


def batch(length, vocabulary):
    """Random source, previous words and next words, int `[batch, length]` each; none is padding."""
    return np.random.default_rng(0).integers(4, vocabulary, (3, BATCH, length)).astype("int32")


def operations(length, vocabulary):
    """Floating-point operations of the products of a training step: each forward, and twice as many backward."""
    n, rows = UNITS, BATCH * length
    encoder = 2 * n * 4 * n
    attention = n * n + n * n + 2 * length * n  # keys, query, scores and context
    cell = 3 * n * 4 * n
    return 3 * 2 * rows * (encoder + attention + cell + n * vocabulary)


def ours(length, vocabulary, xla):
    """(model, its training step) of kseq."""
    import keras

    from kseq.layers import BahdanauAttention, BahdanauDecoder, DenseBridge, LSTMCell, Recurrent
    from kseq.losses import TokenCrossentropy
    from kseq.models import Seq2Seq, TextEncoder

    keras.utils.set_random_seed(0)
    cell = LSTMCell(UNITS)
    encoder = TextEncoder(vocabulary, Recurrent(LSTMCell(UNITS), return_state=True), embedding_size=UNITS)
    decoder = BahdanauDecoder(cell, BahdanauAttention(UNITS))
    model = Seq2Seq(encoder, DenseBridge(cell.state_size), decoder, vocabulary, embedding_size=UNITS)
    model.compile("adam", TokenCrossentropy(), jit_compile=xla)
    source, tokens, targets = batch(length, vocabulary)
    weights = np.ones(targets.shape, "float32")
    inputs = {"source": source, "tokens": tokens}
    return model, lambda: model.train_on_batch(inputs, targets, sample_weight=weights)


def theirs(length, vocabulary):
    """(model, its training step) of PyTorch."""
    import torch
    from torch_model import EncoderDecoder

    torch.manual_seed(0)
    model = EncoderDecoder(vocabulary, UNITS)
    optimizer = torch.optim.Adam(model.parameters())
    source, tokens, targets = (torch.tensor(x).long() for x in batch(length, vocabulary))

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(source, tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, step


def kseq_runs(length, vocabulary, xla):
    """What is timed of kseq."""
    import tensorflow as tf

    from kseq.samplers import Beam, Greedy

    model, step = ours(length, vocabulary, xla)
    source, _, _ = batch(length, vocabulary)

    def searched(sampler):
        @tf.function(jit_compile=xla)
        def search():
            # Id 0 is padding, which no word is: as the end it is never said, for nothing has that logit.
            states, memory = model.encode(tf.constant(source))
            return sampler(endless, states, memory, start=1, end=0, max_length=length).ids

        def endless(tokens, states, memory):
            logits, states, alignment = model.step(tokens, states, memory)
            return logits + tf.one_hot(0, vocabulary, on_value=-1e9), states, alignment

        return lambda: search().numpy()

    return {
        "step": step,
        "greedy": searched(Greedy()),
        "beam 5": searched(Beam(5)),
        "peak": lambda: peak(lambda a, b: tf.matmul(a, b).numpy()),
        "memory": most_memory,
    }


def torch_runs(length, vocabulary):
    """What is timed of PyTorch."""
    import torch

    model, step = theirs(length, vocabulary)
    source = torch.tensor(batch(length, vocabulary)[0]).long()
    return {
        "step": step,
        "greedy": lambda: model.beam(source, 1, length, 1),
        "beam 5": lambda: model.beam(source, 1, length, 5),
        "memory": most_memory,
    }


def most_memory():
    """The most memory that this process has held, in MiB."""
    with open("/proc/self/status", encoding="utf-8") as lines:  # what getrusage tells begins with the parent's
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def all_contestants():
    """Those of every table but that of growth."""
    return contestants(
        {
            "kseq": (kseq_runs, LENGTH, VOCABULARY, False),
            "kseq XLA": (kseq_runs, LENGTH, VOCABULARY, True),
            "PyTorch": (torch_runs, LENGTH, VOCABULARY),
        }
    )


def training(rounds):
    """The training step, beside what its products alone would take at the speed measured here."""
    with all_contestants() as made:
        _, speed = made["kseq"].run("peak")
        seconds = in_turns({name: (one, "step") for name, one in made.items()}, rounds)
    products = operations(LENGTH, VOCABULARY) / speed
    print(f"\nProducts of a training step: {operations(LENGTH, VOCABULARY) / 1e9:.1f} billion operations, ", end="")
    print(f"{1e3 * products:.0f} ms at the {speed / 1e9:.0f} billion a second of a product of 2048 × 2048.\n")
    print("| | training step, ms | words a second | share in products | speed over PyTorch |\n|---|---|---|---|---|")
    for name, own in seconds.items():
        median = statistics.median(own)
        print(f"| {name} | {milliseconds(own)} | {BATCH * LENGTH / median:,.0f} | {products / median:.0%} ", end="")
        print(f"| {ratio(seconds.get('PyTorch'), own)} |", flush=True)


def decoding(rounds):
    """Greedy and beam search, in words of the result a second."""
    print("\n| | search | 64 × 20 words, ms | words a second | speed over PyTorch |\n|---|---|---|---|---|")
    with all_contestants() as made:
        for contestant in made.values():
            contestant.run("step")
        for search in ("greedy", "beam 5"):
            seconds = in_turns({name: (one, search) for name, one in made.items()}, rounds)
            for name, own in seconds.items():
                speed = BATCH * LENGTH / statistics.median(own)
                print(
                    f"| {name} | {search} | {milliseconds(own)} | {speed:,.0f} "
                    f"| {ratio(seconds.get('PyTorch'), own)} |",
                    flush=True,
                )


def growth(rounds):
    """The training step of ours at other lengths and vocabularies."""
    print("\n| length | vocabulary | kseq XLA, ms | products alone at 2048 × 2048, ms |\n|---|---|---|---|")
    for length, vocabulary in ((10, 8_000), (20, 8_000), (40, 8_000), (80, 8_000), (20, 2_000), (20, 32_000)):
        with contestants({"kseq XLA": (kseq_runs, length, vocabulary, True)}) as made:
            _, speed = made["kseq XLA"].run("peak")
            [own] = in_turns({"kseq XLA": (made["kseq XLA"], "step")}, rounds).values()
        alone = 1e3 * operations(length, vocabulary) / speed
        print(f"| {length} | {vocabulary:,} | {milliseconds(own)} | {alone:.0f} |", flush=True)


def memory(rounds):
    """The most memory that a process held: with the model made, and after five training steps."""
    print("\n| | with the model built, MiB | after five steps, MiB |\n|---|---|---|")
    with all_contestants() as made:
        for name, contestant in made.items():
            _, before = contestant.run("memory")
            for _ in range(5):
                contestant.run("step")
            print(f"| {name} | {before:,.0f} | {contestant.run('memory')[1]:,.0f} |", flush=True)


PARTS = {"training": training, "decoding": decoding, "growth": growth, "memory": memory}


def main(arguments=None):
    """Parses the flags and prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args(arguments)
    print(f"{machine()}; median (least to most) of {flags.rounds} rounds")
    for part in flags.parts:
        PARTS[part](flags.rounds)


if __name__ == "__main__":
    main()
