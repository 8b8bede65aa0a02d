"""Dropout of kseq and of Keras side by side, in a graph and under XLA, each in a process of its own.

python benchmarks/dropout.py
"""

import argparse
import importlib.metadata

from timing import contestants, in_turns, machine, milliseconds, ratio

SHAPE = (64, 36, 1280)  # what a captioner drops of the features of a batch of pictures


def runs_of(name):
    """What is timed of "kseq" or "Keras": half of a tensor of ones is dropped, and the sum of the rest awaited."""
    import keras
    import tensorflow as tf

    from kseq.layers import Dropout

    layer = Dropout(0.5, seed=0) if name == "kseq" else keras.layers.Dropout(0.5, seed=0)

    def run(xla):
        compiled = tf.function(lambda: tf.reduce_sum(layer(tf.ones(SHAPE), training=True)), jit_compile=xla)
        return lambda: compiled().numpy()

    return {"graph": run(False), "XLA": run(True)}


def main(arguments=None):
    """Parses the flags and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args(arguments)
    keras = importlib.metadata.version("keras")
    print(f"{machine()}, Keras {keras}; {SHAPE}, median (least to most) of {flags.rounds} rounds\n")
    print("| | kseq, ms | Keras, ms | speed over Keras |\n|---|---|---|---|")
    with contestants({name: (runs_of, name) for name in ("kseq", "Keras")}) as made:
        for way in ("graph", "XLA"):
            seconds = in_turns({name: (one, way) for name, one in made.items()}, flags.rounds)
            ours, theirs = seconds["kseq"], seconds["Keras"]
            print(f"| {way} | {milliseconds(ours)} | {milliseconds(theirs)} | {ratio(theirs, ours)} |", flush=True)


if __name__ == "__main__":
    main()
