"""The recurrent layers of kseq, Keras and PyTorch side by side: forward, and forward with all gradients.

    python benchmarks/recurrent.py --units 64 256 512

needs `pip install -e '.[bench]'`. One batch of 64 sequences of 50 steps, as many features as units, float32. A GRU is
the form with the reset gate after the product, PyTorch's only one; that of the papers is timed against Keras' own.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
import torch
from timing import best, in_turns, machine, milliseconds, ratio

from kseq.layers import GRUCell, LSTMCell, Recurrent, RNNCell

BATCH, TIME = 64, 50

LAYERS = {
    "LSTM": (
        lambda n: Recurrent(LSTMCell(n)),
        lambda n: keras.layers.LSTM(n, return_sequences=True),
        torch.nn.LSTM,
    ),
    "GRU": (
        lambda n: Recurrent(GRUCell(n, reset_after=True)),
        lambda n: keras.layers.GRU(n, return_sequences=True),
        torch.nn.GRU,
    ),
    "GRU, reset before": (
        lambda n: Recurrent(GRUCell(n)),
        lambda n: keras.layers.GRU(n, return_sequences=True, reset_after=False),
        None,
    ),
    "RNN": (
        lambda n: Recurrent(RNNCell(n)),
        lambda n: keras.layers.SimpleRNN(n, return_sequences=True),
        torch.nn.RNN,
    ),
}


def keras_runs(layer, inputs, xla):
    """(forward, training step) of a layer of Keras or kseq; each waits for its result."""
    layer(inputs)

    @tf.function(jit_compile=xla)
    def forward():
        return layer(inputs, training=False)

    @tf.function(jit_compile=xla)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(inputs, training=True)))
        return tape.gradient(loss, layer.trainable_weights)

    return lambda: forward().numpy(), lambda: [gradient.numpy() for gradient in step()]


def torch_runs(layer, inputs):
    """(forward, training step) of a layer of PyTorch."""

    def forward():
        with torch.no_grad():
            layer(inputs)

    def step():
        layer.zero_grad()
        layer(inputs)[0].square().mean().backward()

    return forward, step


def measure(kind, units, rounds):
    """Times one layer at one size, and prints a row for forward and one for the training step."""
    make_ours, make_keras, make_torch = LAYERS[kind]
    x = np.random.default_rng(0).normal(size=(BATCH, TIME, units)).astype("float32")
    runs = {
        f"{name}{' XLA' if xla else ''}": keras_runs(make(units), tf.constant(x), xla)
        for name, make in (("kseq", make_ours), ("Keras", make_keras))
        for xla in (False, True)
    }
    if make_torch is not None:
        runs["PyTorch"] = torch_runs(make_torch(units, units, batch_first=True), torch.tensor(x))
    for what, index in (("forward", 0), ("training step", 1)):
        seconds = in_turns({name: both[index] for name, both in runs.items()}, rounds)
        ours = seconds[best(seconds, "kseq", "kseq XLA")]
        cells = [milliseconds(s) for s in seconds.values()] + ([] if make_torch else ["–"])
        cells.append(ratio(seconds[best(seconds, "Keras", "Keras XLA")], ours))
        cells.append(ratio(seconds["PyTorch"], ours) if make_torch else "–")
        print(f"| {kind} | {units} | {what} | " + " | ".join(cells) + " |", flush=True)


def main():
    """Parses the flags and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--kinds", nargs="+", choices=LAYERS, default=list(LAYERS))
    flags = parser.parse_args()
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, PyTorch {torch.__version__}"
    print(f"{machine()}, {versions}; milliseconds, median (least to most) of {flags.rounds} rounds\n")
    print("| layer | units | | kseq | kseq XLA | Keras | Keras XLA | PyTorch | our best over Keras' | over PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in flags.kinds:
        for units in flags.units:
            measure(kind, units, flags.rounds)


if __name__ == "__main__":
    main()
