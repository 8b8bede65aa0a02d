"""What exports with weights of float32, float16 and int8 cost and answer, and what serving adds to decoding.

    python -m kseq.tasks.translate --mode=train && python benchmarks/sizes.py runs/translate/toy
    python benchmarks/sizes.py runs/classify/toy --rounds=50

A trained run is exported three times. Each export answers the dev and test splits, and the scorer of its task scores
its answers. The columns of the first table:

    variables, MB    size of the files of the weights; the graph beside them is about the same for all three
    MB loaded        memory of a process with TensorFlow alone, above what it had before it loaded the export
    MB at most       the same while it answers 32 examples for the first time
    p50              milliseconds of a request of 1 or 32 examples of dev to `serving_default`, in a plain session

In the second table the same model, in float32, is called on ids that have been read, through a `tf.function`: all that
serving adds to this is reading texts and writing answers, and what a session costs. All take turns, round by round.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

import timing

KINDS = ("float32", "float16", "int8")
SIZES = (1, 32)
BATCH = 64  # examples of a request when a split is answered


# --- the processes that are timed


def served(folder, examples):
    """{name: function} of a process that has an export in a plain session: its memory, and requests of each size."""
    sys.modules["keras"] = None
    import tensorflow as tf  # before the memory is read

    from kseq.serving import ask

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(0))
    before = memory("VmRSS")
    model = ask.Served(folder)
    loaded = memory("VmRSS") - before
    requests = {size: {name: values[:size] for name, values in examples.items()} for size in SIZES}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    model.predict(requests[max(SIZES)])
    most = memory("VmHWM") - before
    asks = {f"p50 {size}": lambda size=size: model.predict(requests[size]) and None for size in SIZES}
    return {"loaded": lambda: loaded, "most": lambda: most, **asks}


def bare(folder, examples):
    """{name: function} of a process that calls the model of a run on ids."""
    import kseq

    task = kseq.load(folder).task
    calls = {}
    for size in SIZES:
        raw = [values[:size] for values in examples.values()]
        if hasattr(task, "source"):
            inputs = task.source.read(*raw).inputs
            calls[f"p50 {size}"] = lambda inputs=inputs: task.sampler(1)(inputs).ids.numpy() is None
        else:
            ids = [side.to_tensor() for side in task.output.read(raw)]
            calls[f"p50 {size}"] = lambda ids=ids: task.output.graph(*ids)[0].numpy() is None
    return calls


def memory(key):
    """A line of /proc/self/status, in MB."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


# --- what exports answer


def answered(task, version, split):
    """{metric: number} of the answers of an export to a split, by the scorer of the task."""
    from kseq.serving.ask import Served

    examples = task.scored(split)
    requests = [task.request(task.raw_of(example)) for example in examples]
    texts = []
    with Served(version) as model:
        for first in range(0, len(requests), BATCH):
            batch = requests[first : first + BATCH]
            texts += model.predict({name: [x[name] for x in batch] for name in task.raw})["text"]
    if hasattr(task, "source"):
        texts = [" ".join(text.split()) for text in texts] if task.scores_tokens else texts
        return task.score(texts, task.references(examples))
    records = [{"text": text, "score": 0.0} for text in texts]
    rows = [task.output.row(*example, record) for example, record in zip(examples, records, strict=True)]
    return task.output.scores(rows)


def exported(folder, work):
    """{kind: (version, {split: score})} of the three exports of a run, and the name of the score."""
    import kseq

    found = {}
    for kind in KINDS:
        run = kseq.load(folder, [f"serving.weights={kind}"])
        run.export(work / kind)
        version = work / kind / "1"
        scores = {split: answered(run.task, version, split) for split in run.task.config.data.scored()}
        found[kind] = version, {split: score[run.task.monitor] for split, score in scores.items()}
    return found, run.task.monitor


def prepare(folder, work):
    """`exported` in a process of its own, which is gone when the others are timed, and examples of dev."""
    import kseq

    task = kseq.load(folder).task
    requests = [task.request(task.raw_of(example)) for example in task.dev[: max(SIZES)]]
    found, monitor = exported(folder, work)
    examples = {name: [request[name].decode("latin-1") for request in requests] for name in task.raw}
    versions = {kind: (str(version), scores) for kind, (version, scores) in found.items()}
    (work / "found.json").write_text(json.dumps([versions, monitor, examples]))
    return {"done": lambda: None}


# --- the tables


def table(versions, monitor, numbers, seconds):
    """Prints the first table."""
    splits = list(versions["float32"][1])
    heads = [f"{monitor}, {split}" for split in splits]
    print("| weights | " + " | ".join(heads) + " | variables, MB | MB loaded | MB at most | p50 of 1 | p50 of 32 |")
    print("|" + "---|" * (len(heads) + 6))
    for kind, (version, scores) in versions.items():
        size = sum(path.stat().st_size for path in Path(version).glob("variables/*")) / 1e6
        cells = [f"{scores[split]:.4g}" for split in splits]
        cells += [f"{size:.3f}", *(f"{numbers[kind][name]:.1f}" for name in ("loaded", "most"))]
        cells += [timing.milliseconds(seconds[f"{kind} {size}"]) for size in SIZES]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a trained run")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as work:
        with timing.contestants({"prepare": (prepare, options.run, Path(work))}):
            pass
        versions, monitor, examples = json.loads(Path(work, "found.json").read_text())
        examples = {name: [value.encode("latin-1") for value in values] for name, values in examples.items()}
        makers = {kind: (served, version, examples) for kind, (version, _) in versions.items()}
        with timing.contestants({**makers, "bare": (bare, options.run, examples)}) as processes:
            numbers = {kind: {name: processes[kind].run(name)[1] for name in ("loaded", "most")} for kind in versions}
            runs = {f"{name} {size}": (process, f"p50 {size}") for name, process in processes.items() for size in SIZES}
            seconds = timing.in_turns(runs, options.rounds)
        print(f"{options.run}, {timing.machine()}; {options.rounds} rounds, median (least to most)\n")
        table(versions, monitor, numbers, seconds)
        print("\n| examples | decoding ids, ms | serving_default, ms | times as long |\n|---|---|---|---|")
        for size in SIZES:
            ours, theirs = seconds[f"bare {size}"], seconds[f"float32 {size}"]
            quotient = statistics.median(theirs) / statistics.median(ours)
            low, _, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
            cells = timing.milliseconds(ours), timing.milliseconds(theirs), f"{quotient:.2f} ({low:.2f} to {high:.2f})"
            print(f"| {size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
