"""What the benchmarks share: contestants in processes of their own, timed in turns; the speed of matrix products."""

import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np


class Contestant:
    """A process of its own that holds functions to be timed. TensorFlow and PyTorch crash in one process.

    Args:
        make: function of a module that can be imported, from `arguments` to {name: function to be timed}.
        arguments: for `make`.

    Raises:
        ModuleNotFoundError: `make` needs a package that is not installed.
    """

    def __init__(self, make, *arguments):
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def run(self, name):
        """Runs the named function: its seconds, and what it returned if that is a number."""
        self._pipe.send(name)
        return self._receive()

    def close(self):
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def _receive(self):
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a contestant died with exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe, make, arguments):
    try:
        runs = make(*arguments)
    except ModuleNotFoundError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            name = pipe.recv()
        except EOFError:  # closed
            return
        start = time.perf_counter()
        value = runs[name]()
        seconds = time.perf_counter() - start
        pipe.send((seconds, value if isinstance(value, int | float) else None))


@contextlib.contextmanager
def contestants(makers):
    """{name: (make, *arguments)} → {name: `Contestant`}, without those whose package is not installed."""
    made = {}
    try:
        for name, (make, *arguments) in makers.items():
            try:
                made[name] = Contestant(make, *arguments)
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error}. Install it with pip install -e '.[bench]'.\n", flush=True)
        yield made
    finally:
        for contestant in made.values():
            contestant.close()


def in_turns(runs, rounds):
    """{name: (contestant, name of its function)} → {name: seconds of each round}.

    All run in every round, one after the other, so that what slows the machine slows all of them. The first two rounds
    of each are not counted, since they compile.
    """
    for contestant, function in runs.values():
        contestant.run(function)
        contestant.run(function)
    seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (contestant, function) in runs.items():
            seconds[name].append(contestant.run(function)[0])
    return seconds


def milliseconds(seconds):
    """`median (least to most)`."""
    return f"{1e3 * statistics.median(seconds):.1f} ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f})"


def ratio(theirs, ours):
    """How many times as fast ours is: the ratio of the medians, and the quartiles of the ratios round by round.

    A dash where theirs is None.
    """
    if theirs is None:
        return "–"
    middle = statistics.median(theirs) / statistics.median(ours)
    low, _, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def best(seconds, *names):
    """The name with the least median."""
    return min((n for n in seconds if n in names), key=lambda name: statistics.median(seconds[name]))


def peak(multiply, size=2048, rounds=9):
    """Floating-point operations a second of `multiply(a, b)` on two square matrices, the median."""
    a, b = np.random.default_rng(0).normal(size=(2, size, size)).astype("float32")
    seconds = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        multiply(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


def machine():
    """What a figure was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}"
