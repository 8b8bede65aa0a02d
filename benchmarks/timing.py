"""What the benchmarks share: contestants timed in turns, and the machine's own speed at matrix products."""

import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np


def in_turns(contestants, rounds):
    """{name: function} → {name: seconds of each round}. All run in every round, so that what slows the machine slows
    all of them; the first two rounds of each are not counted, for they compile.
    """
    for run in contestants.values():
        run()
        run()
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def milliseconds(seconds):
    """`median (least to most)`."""
    return f"{1e3 * statistics.median(seconds):.1f} ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f})"


def ratio(theirs, ours):
    """How many times as fast ours is: the ratio of the medians, and the quartiles of the ratios round by round."""
    middle = statistics.median(theirs) / statistics.median(ours)
    low, _, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def best(seconds, *names):
    """The name with the least median."""
    return min((n for n in seconds if n in names), key=lambda name: statistics.median(seconds[name]))


def peak(multiply, size=2048, rounds=9):
    """Floating-point operations a second of `multiply(a, b)` on two square matrices, the median."""
    a, b = np.random.default_rng(0).normal(size=(2, size, size)).astype("float32")
    [seconds] = in_turns({"product": lambda: multiply(a, b)}, rounds).values()
    return 2 * size**3 / statistics.median(seconds)


def machine():
    """What a figure was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}"
