"""Sends random requests to exported models of all tasks, and counts what becomes of them.

    python benchmarks/random_requests.py
    python benchmarks/random_requests.py --tasks classify tag --requests=1000 --work=runs/served

Small runs on generated data are trained for one epoch and exported, unless the folder of --work has them. Each export
is loaded in a process of its own that has neither kseq nor Keras. A request has no row, one, a few, or up to 32; three
rows of four are right, the others are random bytes, random characters, damaged files, or too long. The columns:

    requests, rows    that were sent by one client
    answered          rows with the status "ok"; all others have a sentence that says why there is no answer
    failed            requests that raised an error, or in which a row has no status
    as alone          rows of every hundredth request that were answered as each of them is alone
    MB at             resident size of the process after a tenth of the requests, and after all of them
    1 client          median and 99th percentile of the milliseconds of these requests
    4 clients         the same of a tenth as many more requests, sent by four threads

The program ends with 1 where a request failed, a row was answered otherwise than alone, or the resident size differs by
more than 5 %. Linux only: it reads the memory from /proc.
"""

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from serving import GOOD, TASKS, Model, damaged, export_of, inputs_of, is_same, memory, originals, row_of, saved, wav

COLUMNS = ("", "requests", "rows", "answered", "failed", "as alone", "MB", "1 client, p50 / p99 ms", "4 clients")
GROWTH = 0.05  # of the resident size, at most
EVERY = 100  # of the requests, one is compared row by row
CLIENTS = 4
LONG = 60_000  # characters, more than an export reads


# --- random rows


def picture(chance):
    """A file of a picture of random size, mode and kind, with random colours that change smoothly."""
    mode, kind = chance.choice([("RGB", "PNG"), ("RGBA", "PNG"), ("L", "PNG"), ("RGB", "JPEG"), ("L", "JPEG")])
    mode, kind = chance.choice([(mode, kind), ("RGB", "GIF"), ("RGB", "BMP")])
    channels = len(mode) if mode != "L" else 1
    small = np.frombuffer(chance.randbytes(16 * channels), np.uint8).reshape(4, 4, channels)
    small = Image.fromarray(small.squeeze(-1) if channels == 1 else small)
    return saved(small.resize((chance.randint(8, 200), chance.randint(8, 200))), kind)


def recording(chance):
    """A file of a random tone with noise, of up to a second and any usual rate."""
    rate = chance.choice([8_000, 16_000, 22_050, 44_100])
    time_ = np.arange(int(chance.uniform(0.05, 1) * rate)) / rate
    noise = np.random.default_rng(chance.getrandbits(32)).standard_normal(len(time_))
    return wav(np.clip(np.sin(2 * np.pi * chance.uniform(100, 3000) * time_) / 2 + noise / 20, -1, 1), rate)


def composition(chance):
    """A request for music that is right."""
    keys = chance.choice(["C", "G", "D", "F", "Bb"])
    return f"key={keys} seed={chance.randint(0, 999)} length={chance.randint(1, 16)}".encode()


def words(task, chance):
    """A text of words that the model knows and some that it does not, in any order."""
    known = [*GOOD[task].split(), "star", "of", "x1", "été", "7"]
    return " ".join(chance.choices(known, k=chance.randint(1, 20))).encode()


def right(task, chance):
    """A row that is as it should be."""
    made = {"caption": picture, "transcribe": recording, "compose": composition}
    return made[task](chance) if task in made else words(task, chance)


@functools.cache
def intact(task):
    """The files that are damaged."""
    return list(originals(task).values())


def garbage(task, chance):
    """A row that nobody should send."""
    way = chance.choice(["bytes", "characters", "damaged", "long", "empty"])
    if way == "bytes":
        return chance.randbytes(chance.randint(1, 200))
    if way == "characters":
        codes = (chance.choice([chance.randrange(1, 0x300), chance.randrange(0x1F300, 0x1F700)]) for _ in range(40))
        return "".join(map(chr, codes)).encode()
    if way == "damaged":
        files = intact(task) if task in ("caption", "transcribe") else [right(task, chance)]
        return damaged(chance.choice(files), chance)
    return b"x " * (LONG // 2) if way == "long" else b""


def request(task, chance):
    """A list of rows."""
    count = chance.choice([0, 1, 1, 1, 1, 2, 3, chance.randint(4, 8), chance.randint(9, 32)])
    return [right(task, chance) if chance.random() < 0.75 else garbage(task, chance) for _ in range(count)]


# --- the process that is asked


class Client:
    """Sends requests and keeps what became of them.

    Args:
        task: that is asked.
        model: `serving.Model`.
        seed: of the requests.
    """

    def __init__(self, task, model, seed):
        self.task, self.model, self.chance = task, model, random.Random(seed)
        self.seconds, self.rows, self.answered, self.failures = [], 0, 0, []
        self.compared, self.different = 0, 0

    def send(self, count):
        """Sends so many requests, one after the other."""
        for _ in range(count):
            values = request(self.task, self.chance)
            started = time.perf_counter()
            try:
                answer = self.model(**inputs_of(self.task, values))
            except Exception as error:  # of whatever kind: that is what is counted
                self.failures.append(str(error)[:200])
                continue
            self.seconds.append(time.perf_counter() - started)
            self.rows += len(values)
            self.answered += answer["status"].count(b"ok")
            if {len(x) for x in answer.values()} != {len(values)} or not all(answer["status"]):
                self.failures.append(f"{len(values)} rows, {answer['status']}"[:200])
            elif len(self.seconds) % EVERY == 0:
                self.compare(values, answer)

    def compare(self, values, answer):
        """Asks each row of an answer alone."""
        for k, value in enumerate(values):
            alone = row_of(self.model(**inputs_of(self.task, [value])), 0)
            self.compared += 1
            self.different += not is_same(row_of(answer, k), alone)


def percentiles(clients):
    """Milliseconds of half of the requests of some clients, and of all but one in a hundred."""
    return [float(x) * 1000 for x in np.percentile([s for client in clients for s in client.seconds], [50, 99])]


def ask(task, folder, count):
    """What became of so many requests to an export, and of a tenth as many from four clients at once."""
    sys.modules["kseq"] = None  # as on a machine that has TensorFlow alone; `Model` does so for Keras
    model = Model(folder)
    Client(task, model, "warm").send(20)
    one, tenth = Client(task, model, f"{task} one"), count // 10
    one.send(tenth)
    before = memory("VmRSS")
    one.send(count - tenth)
    after = memory("VmRSS")
    several = [Client(task, model, f"{task} {k}") for k in range(CLIENTS)]
    threads = [threading.Thread(target=client.send, args=[tenth // CLIENTS]) for client in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clients = [one, *several]
    found = {name: sum(getattr(client, name) for client in clients) for name in ("compared", "different")}
    found |= {"failures": [failure for client in clients for failure in client.failures]}
    found |= {"requests": count, "rows": one.rows, "answered": one.answered, "before": before, "after": after}
    return found | {"one": percentiles([one]), "several": percentiles(several)}


# --- the program


def asked(task, folder, count):
    """What a process of its own says of an export, or how it died."""
    command = [sys.executable, __file__, f"--requests={count}", "--ask", task, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"died": f"the process died: {result.returncode} {result.stderr.strip()[-300:]}"}
    return json.loads(result.stdout.splitlines()[-1])


def line(task, found):
    """A line of the table."""
    if "died" in found:
        return f"| {task} | {found['died']} |" + " |" * 7
    same = f"{found['compared'] - found['different']} of {found['compared']}"
    sizes = f"{found['before']:.0f} → {found['after']:.0f}"
    times = [" / ".join(f"{x:.1f}" for x in found[name]) for name in ("one", "several")]
    cells = [task, f"{found['requests']:,}", f"{found['rows']:,}", f"{found['answered']:,}", len(found["failures"])]
    return "| " + " | ".join(map(str, [*cells, same, sizes, *times])) + " |"


def is_wrong(found):
    """Whether something happened that should not."""
    if "died" in found or found["failures"] or found["different"]:
        return True
    return abs(found["after"] - found["before"]) > GROWTH * found["before"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    parser.add_argument("--requests", type=int, default=10_000, help="of one client, at least 100")
    parser.add_argument("--work", type=Path, help="folder that keeps the runs and their exports")
    parser.add_argument("--ask", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.requests < 100:
        parser.error("--requests must be 100 or more")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.ask:
        print(json.dumps(ask(*options.ask, options.requests)))
        return 0
    wrong = 0
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for task in options.tasks:
            found = asked(task, export_of(task, options.work or Path(temporary)), options.requests)
            wrong += is_wrong(found)
            print(line(task, found), *found.get("failures", [])[:3], sep="\n", flush=True)
    print(f"\n{wrong} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
