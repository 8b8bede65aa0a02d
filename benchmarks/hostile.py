"""Does to a run's folder what should never happen to it, and counts what the program answers.

    python benchmarks/hostile.py --kills=20

A small run of classify on generated data is trained once. Then, each time in a copy or a new folder:

    files        a file of the folder is missing, empty, cut short, of another kind, or of another program
    folders      --workdir is a folder that is no run
    two          two processes start in one folder
    kill -9      a training is killed at a random moment, and resumed until it ends
    Ctrl-C       a training is interrupted at a random moment
    disk         no file may grow beyond a limit, as on a full disk

What is right: an answer; one line that begins with "error: " and exit code 1 (130 after Ctrl-C); and after kills the
weights, the history and the files of the undisturbed run, bit by bit. A traceback, a changed file of somebody else's,
or other weights are wrong, and the program then ends with 1. Linux only: it forks.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np

from kseq import checkpoints
from kseq.tasks import program
from kseq.tasks.classify import Classify

RUN = [
    "--set=data.train_count=300",
    "--set=data.dev_count=40",
    "--set=model.units=8",
    "--set=model.attention_units=4",
    "--set=model.embedding_size=6",
    "--set=training.epochs=4",
    "--set=training.learning_rate=0.01",
]
JSON = {
    "empty": b"",
    "cut": b'{"epoch": 2, "his',
    "nothing": b"null",
    "a list": b"[1, 2]",
    "a number": b"3",
    "an empty table": b"{}",
    "of another program": b'{"name": "thesis", "version": "1.0", "files": ["a"], "epoch": "x", "task": "sing"}',
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 50_000,
}
FOREIGN = {
    "a thesis": {"thesis.txt": "mine"},
    "names of a run": {"config.json": "{}", "log.csv": "mine", "metrics.json": "{}", "export/thesis.txt": "mine"},
    "a run of another program": {"run.json": '{"task": "sing"}', "progress.json": "{}"},
    "a list as run.json": {"run.json": "[]", "notes.txt": "mine"},
    "a progress alone": {"progress.json": "{}", "best-0001.npz": "mine"},
}


class Child:
    """A process that runs the program of classify, forked from this one."""

    def __init__(self, *arguments, limit=None):
        self.folder = Path(tempfile.mkdtemp())
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self.run(arguments, limit)

    def run(self, arguments, limit):
        for number, name in ((0, os.devnull), (1, self.folder / "out"), (2, self.folder / "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
        sys.argv = ["classify", *arguments]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
        code = 1
        try:
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            program.main(Classify)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)

    def send(self, number):
        """Sends a signal; whether the process was still running."""
        running = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        os.kill(self.pid, number)
        return running

    def wait(self):
        """(exit code, stdout, stderr); a negative code is a signal."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        shutil.rmtree(self.folder)
        return code, out, err


def outcome(code, out, err, expected=(0, 1)):
    """The word for what a process did."""
    if "Traceback (most recent call last)" in err + out or code not in (0, 1, 2, 130):
        return "traceback" if code >= 0 else f"signal {-code}"
    if code == 0:
        return "answer"
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    return "sentence" if len(lines) == 1 and code in expected else "other"


class Counts:
    """What came of each kind of try; what was wrong is printed with what the process said."""

    def __init__(self):
        self.of = collections.defaultdict(collections.Counter)
        self.wrong = 0

    def add(self, kind, name, word, said=""):
        self.of[kind][word] += 1
        if word not in ("answer", "sentence", "resumed"):
            self.wrong += 1
            print(f"{kind}: {name}: {word}\n{said[-3000:]}", flush=True)

    def table(self):
        words = sorted({word for counts in self.of.values() for word in counts} | {"answer", "sentence", "resumed"})
        words = [*words, "traceback"] if "traceback" not in words else words
        lines = ["".join(f"{cell:>12}" for cell in ("", "tries", *words))]
        for kind, counts in self.of.items():
            cells = (kind, sum(counts.values()), *(counts[word] for word in words))
            lines.append("".join(f"{cell:>12}" for cell in cells))
        return "\n".join(lines)


def snapshot(folder):
    """{name: content} of what does not depend on the time of day."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            found[path.name] = arrays(path)
        elif path.name == checkpoints.PROGRESS:
            progress = json.loads(path.read_text())
            found[path.name] = {name: progress[name] for name in ("epoch", "last", "best", "before", "history")}
        elif path.name in ("run.json", ".lock"):
            found[path.name] = None
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


def arrays(path):
    """The content of each array of an .npz file; of a damaged one, that of the file."""
    try:
        with np.load(path) as file:
            return [file[name].tobytes() for name in sorted(file.files)]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        return path.read_bytes()


def train(folder, *more):
    return ("--mode=train", f"--workdir={folder}", *RUN, *more)


def try_files(counts, base, work, names, contents, modes):
    for name in names:
        for damage in ("missing", *contents):
            for mode in modes:
                folder = work / "run"
                shutil.copytree(base, folder)
                (folder / name).unlink()
                if damage != "missing":
                    (folder / name).write_bytes(contents[damage])
                arguments = train(folder, "--resume") if mode == "train" else (f"--mode={mode}", f"--workdir={folder}")
                result = Child(*arguments).wait()
                counts.add("files", f"{name} {damage}, {mode}", outcome(*result), "".join(result[1:]))
                shutil.rmtree(folder)


def try_checkpoints(counts, base, work):
    progress = json.loads((base / checkpoints.PROGRESS).read_text())
    in_use = progress["best"]["file"], progress["last"]
    for path in sorted(base.glob("*.npz")):
        content = path.read_bytes()
        damages = {"missing": None, "empty": b"", "cut": content[: len(content) // 2], "text": b"mine"}
        damages["a bit"] = content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]
        for damage, changed in damages.items():
            for mode in ("train", "evaluate"):
                folder = work / "run"
                shutil.copytree(base, folder)
                (folder / path.name).unlink()
                if changed is not None:
                    (folder / path.name).write_bytes(changed)
                arguments = train(folder, "--resume") if mode == "train" else (f"--mode={mode}", f"--workdir={folder}")
                code, out, err = Child(*arguments).wait()
                word = outcome(code, out, err)
                if word == "answer" and mode == "train":
                    found, want = snapshot(folder), snapshot(base)
                    if path.name not in in_use:  # an older checkpoint, kept for the case that the newer is damaged
                        found.pop(path.name, None), want.pop(path.name)
                    word = "resumed" if found == want else "other weights"
                counts.add("checkpoints", f"{path.name} {damage}, {mode}", word, out + err)
                shutil.rmtree(folder)


def try_folders(counts, work):
    for name, files in FOREIGN.items():
        for mode in ("train", "evaluate", "all"):
            folder = work / "foreign"
            for file, text in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(text)
            arguments = [a for a in train(folder, "--resume") if mode != "all" or not a.startswith("--mode")]
            if mode == "evaluate":
                arguments = ["--mode=evaluate", f"--workdir={folder}"]
            code, out, err = Child(*arguments).wait()
            left = {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}
            word = outcome(code, out, err) if left == files else "changed"
            counts.add("folders", f"{name}, {mode}", "not refused" if word == "answer" else word, out + err)
            shutil.rmtree(folder)


def try_two(counts, base, work, times, random_):
    for number in range(times):
        folder = work / "two"
        first = Child(*train(folder, "--resume"))
        time.sleep(random_.uniform(0, 1))
        second = Child(*train(folder, "--resume"))
        results = [first.wait(), second.wait()]
        words = sorted(outcome(*result) for result in results)
        same = snapshot(folder) == snapshot(base)
        right = same and words == ["answer", "sentence"]
        # The first may have ended before the second began.
        right |= same and words == ["answer", "answer"] and "in use" not in results[1][2]
        counts.add(
            "two", number, "sentence" if right else " and ".join(words), "".join(results[0][1:] + results[1][1:])
        )
        shutil.rmtree(folder)


def try_kills(counts, base, work, times, seconds, random_):
    for number in range(times):
        folder = work / "killed"
        moments = [random_.uniform(0, seconds) for _ in range(random_.randint(1, 3))]
        for moment in moments:
            child = Child(*train(folder, "--resume"))
            time.sleep(moment)
            child.send(signal.SIGKILL)
            child.wait()
        code, out, err = Child(*train(folder, "--resume")).wait()
        word = outcome(code, out, err)
        if word == "answer":
            word = "resumed" if snapshot(folder) == snapshot(base) else "other weights"
        where = ", ".join(f"{moment:.2f} s" for moment in moments)
        counts.add("kill -9", f"{number}: after {where}", word if word != "sentence" else "refused", out + err)
        shutil.rmtree(folder)


def try_interrupts(counts, work, times, seconds, random_):
    for number in range(times):
        folder, moment = work / "interrupted", random_.uniform(0.1, seconds)
        child = Child(*train(folder))
        time.sleep(moment)
        running = child.send(signal.SIGINT)
        result = child.wait()
        word = outcome(*result, (130,))
        word = "ignored" if running and word == "answer" else word
        counts.add("Ctrl-C", f"{number}: after {moment:.2f} s", word, "".join(result[1:]))
        shutil.rmtree(folder, ignore_errors=True)


def try_disk(counts, work, limits):
    for limit in limits:
        folder = work / "full"
        arguments = [a for a in train(folder) if not a.startswith("--mode")]
        code, out, err = Child(*arguments, limit=limit).wait()
        counts.add("disk", f"{limit} bytes", outcome(code, out, err), out + err)
        shutil.rmtree(folder, ignore_errors=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="trainings that are killed, and that are interrupted")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--short", action="store_true", help="one try of each kind or two")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # noqa: F401  before the forks, which then begin at once
    import tensorflow  # noqa: F401

    random_, counts = random.Random(options.seed), Counts()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        base, started = work / "base", time.monotonic()
        code, out, err = Child(*train(base)).wait()
        if code:
            sys.exit(f"the undisturbed run failed:\n{out}{err}")
        seconds = time.monotonic() - started
        print(f"the undisturbed run took {seconds:.1f} s", flush=True)
        names = ("run.json", "config.json", "progress.json", "vocabulary.txt", "labels.json")
        names = [name for name in names if (base / name).exists()]
        contents = dict(list(JSON.items())[::4]) if options.short else JSON
        try_files(counts, base, work, names, contents, ["evaluate"] if options.short else ["evaluate", "train"])
        if not options.short:
            try_checkpoints(counts, base, work)
        try_folders(counts, work)
        try_two(counts, base, work, 1 if options.short else 5, random_)
        try_kills(counts, base, work, options.kills, seconds, random_)
        try_interrupts(counts, work, options.kills, seconds, random_)
        try_disk(counts, work, [20_000] if options.short else [500, 5_000, 20_000, 50_000, 200_000])
    print(counts.table())
    print(f"{counts.wrong} wrong")
    return int(bool(counts.wrong))


if __name__ == "__main__":
    sys.exit(main())
