"""Sends requests that nobody should send to exported models of all tasks, and prints what became of each.

    python benchmarks/serving.py
    python benchmarks/serving.py --tasks caption transcribe --corruptions=200

Small runs on generated data are trained for one epoch and exported. Each export is loaded in a process of its own that
knows nothing of kseq and Keras, through the signature and in a plain session, as TensorFlow Serving does. The columns:

    rows        how many there are, and how many of each status; "…" stands for numbers
    as alone    whether the good rows among them are answered as each of them is alone
    s           of the first time that the request is sent; graphs are warm
    MB          the most memory of the process, above what it had before the request

Pictures and recordings are then damaged at random, 20 in a request with a good one among them. What is right: every
row of every request has a status, the good rows are answered as alone, and no request fails. Otherwise the program ends
with 1. Linux only: it reads the memory from /proc.
"""

import argparse
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

TASKS = ("caption", "translate", "summarize", "verse", "transcribe", "classify", "entail", "tag", "compose")
COUNTS = ("data.train_count=200", "data.dev_count=40", "data.test_count=40", "training.epochs=1")
INPUTS = {"caption": ("image",), "transcribe": ("audio",), "compose": ("request",), "entail": ("premise", "hypothesis")}
GOOD = {
    "translate": "trois cent vingt",
    "summarize": "The red star was sold. It is large.",
    "verse": "spring moon over the hill",
    "classify": "the large blue ring is above the small green cross",
    "entail": "a red star",
    "tag": "two large pizzas to the station please",
    "compose": "key=G seed=3 length=16",
}
TEXTS = {
    "spaces": b"   \t \n ",
    "100,000 characters": b"word " * 20_000,
    "1,000,000 characters": b"word " * 200_000,
    "50,000 characters": b"a " * 25_000,
    "a word of 100,000": b"x" * 100_000,
    "a word of 10,000": b"x" * 10_000,
    "100 MB": b"ab " * 33_000_000,
    "100 MB of half characters": b"\x80" * 100_000_000,
    "not UTF-8": b"the \xff\xfe star \xc3",
    "NUL": b"the\x00star\x00",
    "emoji": "the 👩‍👩‍👧‍👦 star 🎵".encode(),
    "right to left": "הכוכב האדום ‮abc".encode(),
    "special tokens": b"<s> </s> <pad> <unk> [CLS] [SEP]",
}
REQUESTS = {
    "not understood": b"a happy tune, please",
    "a wrong key": b"key=H",
    "a key twice": b"key=G key=D",
    "too many steps": b"length=99999",
    "as many steps as may be": b"length=4096",
    "a note that is none": b"key=G: C4 | H4",
    "a beginning of 9,000 steps": b":" + b"|" * 9_000,
}
DAMAGED_ROWS = 20  # in a request


# --- requests


def saved(image, kind, **options):
    """The bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width, height, mode="RGB"):
    """A picture of random pixels."""
    channels = {"RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def chunk(name, content):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width, height, lines=b""):
    """A PNG file of one channel whose header says a size, with these lines, packed, or none."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"IDAT", lines) + chunk(b"IEND", b"") if lines else b"")


def zeros(count):
    """So many zeros, packed, a piece at a time."""
    packer, piece = zlib.compressobj(9), bytes(10**6)
    parts = [packer.compress(piece[: min(10**6, count - at)]) for at in range(0, count, 10**6)]
    return b"".join([*parts, packer.flush()])


def jpeg_of(width, height):
    """A small JPEG whose header says another size."""
    data = saved(noise(8, 8), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def scans(count):
    """A progressive JPEG whose last scan is there so many times."""
    data = saved(Image.new("RGB", (3000, 3000), "red"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def pictures():
    """{name: file} of hostile and of odd ones."""
    frames = [noise(400, 300) for _ in range(3)]
    good, jpeg = saved(noise(200, 100), "PNG"), saved(noise(200, 100), "JPEG")
    return {
        "empty": b"",
        "text": b"A picture of a dog.\n",
        "100 MB of zeros": bytes(100_000_000),
        "PNG cut off": good[: len(good) // 2],
        "JPEG cut off": jpeg[: len(jpeg) // 2],
        "GIF cut off": saved(frames[0], "GIF")[:9000],
        "BMP cut off": saved(frames[0], "BMP")[:9000],
        "1 × 1": saved(noise(1, 1), "PNG"),
        "30,000 × 1": saved(noise(30_000, 1), "PNG"),
        "PNG header of a giant": png_of(2**31 - 1, 2**31 - 1),
        "JPEG header of a giant": jpeg_of(65_535, 65_535),
        "GIF header of a giant": b"GIF89a" + b"\xff" * 4 + saved(frames[0], "GIF")[10:],
        "BMP header of a giant": b"BM" + bytes(16) + struct.pack("<ii", 10**5, -(10**5)) + bytes(100),
        "16 bits": saved(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16), "PNG"),
        "CMYK": saved(noise(64, 64, "CMYK"), "JPEG"),
        "animated GIF": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated WEBP": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "GIF of tiny blocks": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2" + b"\1a" * 10**6 + b"\0;",
    }


def with_texts(count):
    """A small PNG with so many texts of 8 MB of zeros each, packed."""
    data, text = png_of(8, 8, zeros(9 * 8)), chunk(b"zTXt", b"Comment\0\0" + zeros(8 * 10**6))
    return data[:33] + text * count + data[33:]


def giants():
    """{name: file} of pictures that take long to make."""
    return {
        "5,000 × 5,000 PNG": png_of(5_000, 5_000, zeros(5_001 * 5_000)),
        "5,000 × 5,000 JPEG": saved(Image.new("RGB", (5_000, 5_000), "red"), "JPEG"),
        "5,000 × 5,000 with alpha": saved(Image.new("RGBA", (5_000, 5_000), "red"), "PNG"),
        "1,000,000 × 25 with alpha": saved(Image.new("RGBA", (10**6, 25), "red"), "PNG"),
        "5,000 × 5,000 progressive CMYK": saved(Image.new("CMYK", (5_000, 5_000)), "JPEG", progressive=True),
        "10,000 × 10,000": png_of(10_000, 10_000, zeros(10_001 * 10_000)),
        "20,000 × 20,000": png_of(20_000, 20_000, zeros(20_001 * 20_000)),
        "JPEG of 1,000 scans": scans(1_000),
        "a bomb behind the header": png_of(8, 8, zeros(2 * 10**9)),
        "a bomb of texts": with_texts(1_000),
        "a bomb behind the pixels": png_of(5_000, 5_000, zeros(5_001 * 5_000 + 2 * 10**9)),
    }


def wav(samples, rate=16_000, size=2):
    """A WAV file of so many bytes a sample."""
    sound = (np.asarray(samples) * (2 ** (8 * size - 1) - 1)).astype("<i4")
    sound = sound.view(np.uint8).reshape(-1, 4)[:, :size].tobytes()
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * size, size, 8 * size)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(sound))
        + b"WAVEfmt "
        + head
        + b"data"
        + struct.pack("<I", len(sound))
        + sound
    )


def tone(seconds, rate=16_000):
    """A WAV file of a tone that rises and falls."""
    time_ = np.arange(int(seconds * rate)) / rate
    return wav(np.sin(2 * np.pi * 440 * time_) * np.sin(3 * time_), rate)


def recordings():
    """{name: file} of hostile and of odd ones."""
    good, header = tone(1), len(tone(1)) - 32_000
    nan = tone(1)[:20] + struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32) + tone(1)[36:40]
    return {
        "empty": b"",
        "text": b"Z IH R OW",
        "cut off in the header": good[:30],
        "cut off in the sound": good[: header + 9_000],
        "an hour of silence": wav(np.zeros(3600 * 16_000 // 4), 4_000),
        "a second of silence": wav(np.zeros(16_000)),
        "one sample": wav(np.ones(1)),
        "10 s at 96 kHz": tone(10, 96_000),
        "60 s": tone(60),
        "43 s at 192 kHz, 24 bits": wav(np.sin(np.arange(43 * 192_000) / 9), 192_000, size=3),
        "30 s at 800 kHz, 8 bits": wav(np.sin(np.arange(30 * 800_000) / 9) / 2, 800_000, size=1),
        "no numbers": nan + struct.pack("<I", 64_000) + b"\xff" * 64_000,
        "4 GHz": wav(np.sin(np.arange(2 * 10**6)), 2**32 // 2 - 1),
        "1 Hz": wav(np.sin(np.arange(60)), 1),
        "size of 4 GB": good[: header - 4] + b"\xff" * 4 + good[header:],
        "5,000 chunks": good[:12] + (b"junk" + bytes(4)) * 5_000 + good[12:],
        "100 MB": bytes(100_000_000),
    }


def good_of(task):
    """Two inputs of a task that are right."""
    if task == "caption":
        return [saved(noise(64, 64), "PNG"), saved(noise(200, 100), "JPEG")]
    if task == "transcribe":
        return [tone(1), tone(2.5, 44_100)]
    return [GOOD[task].encode(), GOOD[task].split()[0].encode()]


def requests_of(task, short):
    """{name: list of inputs}; of two inputs, the first."""
    good, other = good_of(task)
    hostile = {"caption": pictures, "transcribe": recordings}.get(task, lambda: {"empty": b"", **TEXTS})()
    hostile |= REQUESTS if task == "compose" else {}
    hostile |= giants() if task == "caption" and not short else {}
    found = {"empty batch": [], **{name: [good, x, other] for name, x in hostile.items()}}
    small = [x for x in hostile.values() if len(x) < 10**5]
    found["good and bad mixed"] = [good, *small, other] * 3
    found["2,000 rows"] = [good, other] * 1000
    return found


# --- damaged files


def originals(task):
    """{kind: file} of what is damaged."""
    if task == "transcribe":
        return {"WAV": tone(0.5)}
    slope = np.indices((64, 64, 3)).sum(axis=0) + np.random.default_rng(0).integers(0, 30, (64, 64, 3))
    picture = Image.fromarray(slope.astype(np.uint8))
    found = {kind: saved(picture, kind) for kind in ("PNG", "JPEG", "GIF", "BMP")}
    return found | {"progressive JPEG": saved(picture, "JPEG", progressive=True)}


def damaged(data, chance):
    """A file with bytes changed, cut off, left out, or put in; half of the time in its first 100 bytes."""
    data, end = bytearray(data), min(100, len(data)) if chance.random() < 0.5 else len(data)
    at = chance.randrange(end)
    way = chance.choice(("bits", "bytes", "cut", "left out", "put in", "zeros"))
    if way == "bits":
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(end)] ^= 1 << chance.randrange(8)
    elif way == "bytes":
        size = chance.randint(1, 16)
        data[at : at + size] = chance.randbytes(size)
    elif way == "cut":
        del data[at:]
    elif way == "left out":
        del data[at : at + chance.randint(1, 40)]
    elif way == "put in":
        data[at:at] = chance.randbytes(chance.randint(1, 40))
    else:
        data[at : at + 40] = bytes(len(data[at : at + 40]))
    return bytes(data)


# --- the process that is asked


class Model:
    """The default signature of an export in a plain session."""

    def __init__(self, folder):
        sys.modules["keras"] = None
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            served = tf.compat.v1.saved_model.load(self.session, ["serve"], folder)
        signature = served.signature_def["serving_default"]
        self.inputs = {name: info.name for name, info in signature.inputs.items()}
        self.outputs = {name: info.name for name, info in signature.outputs.items()}

    def __call__(self, **inputs):
        """Lists of bytes → {output: list}."""
        feeds = {self.inputs[name]: np.array(values, object) for name, values in inputs.items()}
        return {name: value.tolist() for name, value in self.session.run(self.outputs, feeds).items()}


def memory(key):
    """A line of /proc/self/status, in MB."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def measured(ask, inputs):
    """(answer, error, seconds, MB above what there was) of a request."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = memory("VmRSS"), time.monotonic()
    answer, error = None, ""
    try:
        answer = ask(**inputs)
    except Exception as failure:  # of whatever kind: that is what is counted
        lines = str(failure).strip().splitlines() or [type(failure).__name__]
        error = next((line for line in lines if "assertion failed" in line), lines[0])
    return answer, error, time.monotonic() - started, memory("VmHWM") - before


def row_of(answer, k):
    return {name: values[k] for name, values in answer.items()}


def is_same(one, other):
    """Whether two rows are the same but for rounding."""
    score = abs(one["score"] - other["score"]) <= 1e-3 * max(1, abs(other["score"]))
    return score and all(one[name] == other[name] for name in one if name != "score")


def pattern(text):
    """A status without its numbers and what it repeats of a request."""
    return re.sub(r"'.*'", "'…'", re.sub(r"\d+", "…", text.decode()), flags=re.DOTALL)


def told(name, answer, alone, values):
    """What the table has of an answer."""
    counts = Counter(map(pattern, answer["status"]))
    good = [k for k, value in enumerate(values) if value in alone]
    same = all(is_same(row_of(answer, k), alone[values[k]]) for k in good)
    size = max((len(text) for text in answer["text"]), default=0)
    right = {len(values)} == {len(x) for x in answer.values()}
    return {"name": name, "rows": len(values), "statuses": counts, "same": same and right, "longest": size}


def inputs_of(task, values):
    """{input: list}: of two inputs the second is right."""
    first, *others = INPUTS.get(task, ("text",) if task in ("classify", "tag") else ("source",))
    return {first: values, **{name: [GOOD[task].encode()] * len(values) for name in others}}


def ask_all(task, folder, corruptions, short):
    """Prints a line of JSON for each request to the export in a folder."""
    model = Model(folder)
    alone = {value: row_of(model(**inputs_of(task, [value])), 0) for value in good_of(task)}
    requests = requests_of(task, short)
    if short:
        requests = {name: x for name, x in requests.items() if sum(map(len, x)) < 10**6 and len(x) < 1000}
    for name, values in requests.items():
        answer, error, seconds, size = measured(model, inputs_of(task, values))
        line = told(name, answer, alone, values) if answer else {"name": name, "rows": len(values), "error": error}
        print(json.dumps(line | {"seconds": seconds, "MB": size}), flush=True)
    if task == "entail":
        _, error, seconds, size = measured(model, {"premise": [b"a", b"b"], "hypothesis": [b"a"]})
        right = "premise and hypothesis must be equally many" in error  # it fails, and says why
        line = {"name": "2 premises, 1 hypothesis", "rows": 2, "statuses": {error: 1}, "same": right, "longest": 0}
        print(json.dumps(line | {"seconds": seconds, "MB": size}), flush=True)
    if task in ("caption", "transcribe"):
        ask_damaged(task, model, alone, corruptions)


def ask_damaged(task, model, alone, count):
    """Prints a line of JSON for each kind of file, of which so many are damaged."""
    good = good_of(task)[0]
    for kind, data in originals(task).items():
        chance, counts, same, failed = random.Random(0), Counter(), True, 0
        files = [damaged(data, chance) for _ in range(count)]
        started = time.monotonic()
        for at in range(0, count, DAMAGED_ROWS):
            values = [*files[at : at + DAMAGED_ROWS], good]
            answer, error, *_ = measured(model, inputs_of(task, values))
            if answer is None:
                failed += 1
                counts[f"request failed: {error[:80]}"] += len(values) - 1
                continue
            counts.update(map(pattern, answer["status"][:-1]))
            same &= is_same(row_of(answer, -1), alone[good])
        line = {"kind": kind, "rows": count, "statuses": counts, "same": same, "failed": failed}
        print(json.dumps(line | {"seconds": time.monotonic() - started}), flush=True)


# --- the program


def export_of(task, work):
    """Trains a small run of a task and returns the folder of the SavedModel that it exports."""
    from kseq.serving.ask import model_folder

    folder = work / task
    command = [sys.executable, "-m", f"kseq.tasks.{task}", f"--workdir={folder}"]
    changes = [f"--set={change}" for change in (*COUNTS, f"data.cache={work / 'cache'}")]
    if task == "compose":
        changes.pop(-1)
    if not any((folder / "export").glob("[0-9]*")):  # an interrupted export leaves the folder without a version
        for mode in (["--mode=train", *changes, "--resume"], ["--mode=export"]):
            result = subprocess.run([*command, *mode], capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"{task}: {result.stdout}{result.stderr}")
    return model_folder(folder / "export")


def asked(task, folder, options):
    """The lines that a process of its own prints for an export; the last says how it died, if it did."""
    command = [sys.executable, __file__, f"--corruptions={options.corruptions}", "--ask", task, str(folder)]
    command += ["--short"] if options.short else []
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode:
        said = result.stderr.strip().splitlines()[-1:]
        lines.append({"name": f"the process died: {result.returncode}", "rows": 0, "error": str(said)})
    return lines


def statuses(line):
    """How often there was each status."""
    if "error" in line:
        return f"failed: {line['error'][:200]}"
    return "; ".join(f"{count} {status}" for status, count in line["statuses"].items()) or "none"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    parser.add_argument("--corruptions", type=int, default=200, help="of each kind of picture and recording")
    parser.add_argument("--short", action="store_true", help="small requests alone")
    parser.add_argument("--work", type=Path, help="folder that keeps the runs and their exports")
    parser.add_argument("--ask", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.ask:
        ask_all(*options.ask, options.corruptions, options.short)
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        for task in options.tasks:
            lines = asked(task, export_of(task, options.work or Path(temporary)), options)
            wrong += sum("error" in line or not line["same"] or bool(line.get("failed")) for line in lines)
            print(f"\n| {task} | rows | status | as alone | s | MB |\n|---|---|---|---|---|---|")
            for line in lines:
                name = line.get("name") or f"{line['kind']}, damaged"
                cells = name, line["rows"], statuses(line), "yes" if line.get("same") else "no"
                size = f"{line['MB']:.0f}" if "MB" in line else ""
                print("| " + " | ".join(map(str, (*cells, f"{line.get('seconds', 0):.2f}", size))) + " |", flush=True)
    print(f"\n{wrong} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
