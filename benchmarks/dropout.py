"""Dropout of kseq and of Keras side by side, in a graph and under XLA.

python benchmarks/dropout.py
"""

import keras
import tensorflow as tf
from timing import in_turns, machine, milliseconds, ratio

from kseq.layers import Dropout

SHAPE, ROUNDS = (64, 36, 1280), 7  # what a captioner drops of the features of a batch of pictures


def run(layer, xla):
    """A function that drops half of a tensor of ones and waits for the sum of what is left."""
    compiled = tf.function(lambda: tf.reduce_sum(layer(tf.ones(SHAPE), training=True)), jit_compile=xla)
    return lambda: compiled().numpy()


def main():
    """Prints a table in Markdown."""
    print(f"{machine()}, Keras {keras.__version__}; {SHAPE}, median (least to most) of {ROUNDS} rounds\n")
    print("| | kseq, ms | Keras, ms | as fast as Keras |\n|---|---|---|---|")
    for name, xla in (("graph", False), ("XLA", True)):
        layers = {"kseq": Dropout(0.5, seed=0), "Keras": keras.layers.Dropout(0.5, seed=0)}
        seconds = in_turns({key: run(layer, xla) for key, layer in layers.items()}, ROUNDS)
        ours, theirs = seconds["kseq"], seconds["Keras"]
        print(f"| {name} | {milliseconds(ours)} | {milliseconds(theirs)} | {ratio(theirs, ours)} |", flush=True)


if __name__ == "__main__":
    main()
