"""The recurrent layers of kseq, Keras and PyTorch side by side: forward, and forward with all gradients.

    python benchmarks/recurrent.py --units 64 256 512

Each in a process of its own, in turns; PyTorch is left out unless it is installed (`pip install -e '.[bench]'`). One
batch of 64 sequences of 50 steps, as many features as units, float32. A GRU is the form with the reset gate after the
product, PyTorch's only one; that of the papers is timed against Keras' own.
"""

import argparse
import importlib.metadata

import numpy as np
from timing import best, contestants, in_turns, machine, milliseconds, ratio

BATCH, TIME = 64, 50
KINDS = ("LSTM", "GRU", "GRU, reset before", "RNN")
NO_TORCH = ("GRU, reset before",)


def inputs(units):
    """One batch of sequences."""
    return np.random.default_rng(0).normal(size=(BATCH, TIME, units)).astype("float32")


def kseq_runs(kind, units):
    """What is timed of kseq."""
    from kseq.layers import GRUCell, LSTMCell, Recurrent, RNNCell

    makers = {
        "LSTM": LSTMCell,
        "GRU": lambda n: GRUCell(n, reset_after=True),
        "GRU, reset before": GRUCell,
        "RNN": RNNCell,
    }
    return _tensorflow_runs(Recurrent(makers[kind](units)), units)


def keras_runs(kind, units):
    """What is timed of Keras."""
    import keras

    makers = {
        "LSTM": keras.layers.LSTM,
        "GRU": keras.layers.GRU,
        "GRU, reset before": lambda n, **options: keras.layers.GRU(n, reset_after=False, **options),
        "RNN": keras.layers.SimpleRNN,
    }
    return _tensorflow_runs(makers[kind](units, return_sequences=True), units)


def _tensorflow_runs(layer, units):
    import tensorflow as tf

    x, runs = tf.constant(inputs(units)), {}
    layer(x)
    for name, xla in (("", False), (" XLA", True)):

        @tf.function(jit_compile=xla)
        def forward():
            return layer(x, training=False)

        @tf.function(jit_compile=xla)
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(layer(x, training=True)))
            return tape.gradient(loss, layer.trainable_weights)

        runs[f"forward{name}"] = lambda forward=forward: forward().numpy()
        runs[f"training step{name}"] = lambda step=step: [gradient.numpy() for gradient in step()]
    return runs


def torch_runs(kind, units):
    """What is timed of PyTorch."""
    import torch

    layer = getattr(torch.nn, kind)(units, units, batch_first=True)
    x = torch.tensor(inputs(units))

    def forward():
        with torch.no_grad():
            layer(x)

    def step():
        layer.zero_grad()
        layer(x)[0].square().mean().backward()

    return {"forward": forward, "training step": step}


def measure(kind, units, rounds, torch):
    """Times one layer at one size, and prints a row for forward and one for the training step."""
    makers = {"kseq": (kseq_runs, kind, units), "Keras": (keras_runs, kind, units)}
    if torch and kind not in NO_TORCH:
        makers["PyTorch"] = (torch_runs, kind, units)
    with contestants(makers) as made:
        for what in ("forward", "training step"):
            runs = {f"{name}{xla}": (made[name], f"{what}{xla}") for name in ("kseq", "Keras") for xla in ("", " XLA")}
            runs |= {"PyTorch": (made["PyTorch"], what)} if "PyTorch" in made else {}
            seconds = in_turns(runs, rounds)
            ours, theirs = (seconds[best(seconds, name, f"{name} XLA")] for name in ("kseq", "Keras"))
            cells = [milliseconds(s) for s in seconds.values()] + ["–"] * (5 - len(seconds))
            cells += [ratio(theirs, ours), ratio(seconds.get("PyTorch"), ours)]
            print(f"| {kind} | {units} | {what} | " + " | ".join(cells) + " |", flush=True)


def version(package):
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(arguments=None):
    """Parses the flags and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    flags = parser.parse_args(arguments)
    torch = version("torch")
    versions = (
        f"TensorFlow {version('tensorflow')}, Keras {version('keras')}, PyTorch {torch or 'not installed: left out'}"
    )
    print(f"{machine()}, {versions}; milliseconds, median (least to most) of {flags.rounds} rounds\n")
    print("| layer | units | | kseq | kseq XLA | Keras | Keras XLA | PyTorch | speed over Keras' best | over PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in flags.kinds:
        for units in flags.units:
            measure(kind, units, flags.rounds, torch)


if __name__ == "__main__":
    main()
