"""A corpus of generated pairs: how fast it is encoded, its bytes on disk, and the memory of training on it.

    python benchmarks/corpus.py --folder=/tmp/corpus

Each start is a process of its own, that of the translation task with its default model: the first learns the
vocabularies, encodes all pairs and trains for some steps; the second is a new run on the same texts, which finds them
in the cache. Pairs are sentences of 3 to 12 of 20,000 made-up words, drawn by Zipf's law; the target has the words in
reverse order, each with another ending. Seconds of a processor, in parentheses, are those of all processes together:
they say more than the clock where other programs run.

With --drawn, the vocabularies are those of the first --some pairs, and the ids of all pairs are drawn at random instead
of encoded: this measures the start of a run and its memory in a tenth of the time.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from timing import machine

STARTED = time.monotonic()  # before TensorFlow is imported, which is a part of a start
WORDS, SHORTEST, LONGEST = 20_000, 3, 12
CHUNK = 100_000  # pairs that are made at once


def write_pairs(path, count, seed):
    """Writes a TSV file of so many pairs, with the columns fr and en."""
    rng = np.random.default_rng(seed)
    syllables = [consonant + vowel for consonant in "bcdfglmnprstv" for vowel in "aeiou"]
    words = ["".join(parts) for parts in itertools.islice(itertools.product(syllables, repeat=3), 0, None, 13)][:WORDS]
    chance = 1 / np.arange(1, len(words) + 1)
    cumulated = np.cumsum(chance / chance.sum())
    cumulated[-1] = 1
    with open(path, "w", encoding="utf-8") as file:
        file.write("fr\ten\n")
        for first in range(0, count, CHUNK):
            lengths = rng.integers(SHORTEST, LONGEST + 1, min(CHUNK, count - first))
            drawn = np.searchsorted(cumulated, rng.random(lengths.sum()))
            sentence, at = [words[i] for i in drawn.tolist()], 0
            for length in lengths.tolist():
                source = sentence[at : at + length]
                file.write(f"{' '.join(source)}\t{'en '.join(reversed(source))}en\n")
                at += length


class Drawn:
    """Encodes the numbers of pairs as pairs of random ids."""

    def __init__(self, size):
        self.size = size

    def __call__(self, numbers):
        import tensorflow as tf

        rng = np.random.default_rng(numbers[0])
        lengths = rng.integers(SHORTEST, LONGEST + 1, len(numbers))
        ids = tf.RaggedTensor.from_row_lengths(rng.integers(4, self.size, lengths.sum(), np.int32), lengths)
        start, end = (tf.fill([len(numbers), 1], k) for k in (1, 2))
        return {"source": ids, "tokens": tf.concat([start, ids, end], axis=1)}, {"pairs": len(numbers)}


def processor_seconds():
    """Of this process and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def memory():
    """{name: MiB} of this process now, and at its peak."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {
        line[0][:-1]: int(line[1]) / 1024 for line in lines if line[0] in ("VmHWM:", "VmRSS:", "RssAnon:", "RssFile:")
    }


def start(folder, changes, steps, drawn):
    """One start of the task: prints, as JSON, the seconds of its parts and its memory.

    Args:
        folder: of the run.
        changes: of the config.
        steps: of training.
        drawn: pairs whose ids are drawn; 0 encodes the texts.
    """
    import contextlib

    import kseq
    from kseq.config import load
    from kseq.tasks import program
    from kseq.tasks.translate import Translate

    report = {}

    @contextlib.contextmanager
    def timed(name):
        clock, processor = time.monotonic(), processor_seconds()
        yield
        report[name] = {"clock": time.monotonic() - clock, "processor": processor_seconds() - processor}
        print(name, report[name], memory(), file=sys.stderr, flush=True)

    class Timed(Translate):
        def adapt(self, train, start):
            with timed("read for changes"):
                _ = self.source.digest
            with timed("vocabularies"):
                super().adapt(train, start)

        def encode(self, train):
            with timed("encode"):
                if not drawn:
                    return super().encode(train)
                encode = Drawn(min(len(self.text.vocabulary), len(self.target.vocabulary)))
                return kseq.data.cached_shards(self.config.data.cache, ["drawn"], range(drawn), encode)[0]

    class Watch(kseq.data.SetEpoch):
        done = 0

        def on_train_batch_end(self, batch, logs=None):
            self.done += 1
            if self.done == 1:
                report["first step"] = time.monotonic() - STARTED
            if self.done in (1, steps):
                report[f"memory after {'the first step' if self.done == 1 else 'all'}"] = memory()

    config = load(Translate.Config, overrides=[*changes, f"training.steps={max(steps, 1)}"])
    program._set_up(config)
    folder.mkdir()
    run, watch = Timed(config, folder), Watch()
    run.prepare()
    report["tokens"] = sum(int(column.lengths.sum()) for column in run.columns.values())
    if steps:
        options = {"loss": run.loss(), "validate": lambda: {"bleu": 0.0}, "monitor": "bleu", "show": 0}
        kseq.training.fit(run.model, run.batches(watch), config.training, folder, set_epoch=watch, **options)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(report | {"memory": memory(), "largest child": children, "load": os.getloadavg()[1]}))


def started(folder, name, changes, steps, drawn=0):
    """The report of `start` in a process of its own."""
    shutil.rmtree(folder / name, ignore_errors=True)
    command = [sys.executable, __file__, f"--folder={folder / name}", f"--steps={steps}"]
    command += [f"--drawn={drawn}", "--start", *changes]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])
    print(f"| {name} | " + " | ".join(cells(report)) + " |", flush=True)
    return report


def cells(report):
    """A row of the table."""
    parts = (report[name] for name in ("read for changes", "vocabularies", "encode"))
    yield from (f"{part['clock']:.1f} ({part['processor']:.1f})" for part in parts)
    yield f"{report['first step']:.1f}" if "first step" in report else "–"
    yield f"{report['memory']['VmHWM']:,.0f}"
    last = report.get("memory after all", report["memory"])
    yield f"{last['RssAnon']:,.0f}"
    yield f"{last['RssFile']:,.0f}"
    yield f"{report['load']:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the pairs, the cache and the runs; 3 GB")
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--some", type=int, default=500_000, help="pairs that are encoded by 1 and by 2 processes")
    parser.add_argument("--processes", type=int, default=2, help="that encode all pairs")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--drawn", type=int, default=0, help="pairs whose ids are drawn in place of --pairs")
    parser.add_argument("--start", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start is not None:
        start(arguments.folder, arguments.start, arguments.steps, arguments.drawn)
        return
    folder, pairs = arguments.folder, arguments.pairs
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dev.tsv").exists():
        write_pairs(folder / "train.tsv", pairs, seed=1)
        write_pairs(folder / "dev.tsv", 100, seed=2)
    print(f"{machine()}; {(folder / 'train.tsv').stat().st_size / 1e6:,.0f} MB of text\n")
    names = ("", "read for changes, s", "vocabularies, s", "encode, s", "first step after, s")
    names += ("peak, MiB", "own, MiB", "mapped, MiB", "load")
    print(f"| {' | '.join(names)} |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    source = [f"data.source=tsv:{folder}/{{split}}.tsv"]
    some = [*source, f"data.train_count={arguments.some}"]
    for count in () if arguments.drawn else (1, 2):
        shutil.rmtree(folder / f"cache{count}", ignore_errors=True)
        changes = [*some, f"data.cache={folder}/cache{count}", f"data.processes={count}"]
        report = started(folder, f"{count} process{'es' * (count > 1)}", changes, 0)
        rates = [2 * arguments.some / report["encode"][kind] for kind in ("clock", "processor")]
        print("lines a second {:,.0f}, a second of a processor {:,.0f}".format(*rates), flush=True)
    changes = [*(some if arguments.drawn else source), f"data.cache={folder}/cache"]
    changes += [f"data.processes={1 if arguments.drawn else arguments.processes}"]
    first = started(folder, "first start", changes, arguments.steps, arguments.drawn)
    started(folder, "second start", changes, arguments.steps, arguments.drawn)
    size = sum(file.stat().st_size for file in (folder / "cache").rglob("columns.bin"))
    print(f"\n{size / first['tokens']:.2f} bytes a token: {size:,} bytes for {first['tokens']:,} tokens")


if __name__ == "__main__":
    main()
