"""Compares the answers of runs with those of their exports, which are asked without kseq, in Python and in C.

    python benchmarks/same_answers.py                                             small runs of all tasks, made for it
    python benchmarks/same_answers.py runs/translate/multi30k runs/tag/snips      runs that are there
    python benchmarks/same_answers.py --python=/path/of/another/environment/bin/python

Each run is exported. Up to --count inputs of its dev split are answered by `kseq.load(run)` and by the export:

    Python    in a plain session, in a process in which neither kseq nor Keras can be imported
    C         by tests/serving/client.c, compiled against TensorFlow's C functions; left out without a compiler, and
              where a model has operations of TensorFlow Text

Both use the TensorFlow of this environment, and then that of each --python. A cell says how many texts are the same and
how far a score is from that of the run at most, relative where it is above 1. The program ends with 1 unless all texts
are the same and all scores within 1e-5.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from serving import TASKS, export_of

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-5
COMPILER = shutil.which("cc")
WHERE = "from importlib.util import find_spec; print(find_spec('tensorflow').origin)"
VERSION = "import tensorflow; print(tensorflow.__version__)"
ASK = """
import sys

sys.modules["kseq"] = sys.modules["keras"] = None
sys.path.insert(0, {serving!r})
import json, pathlib, check

print(json.dumps(check.answers(pathlib.Path({version!r}))["answers"]))
"""


def output_of(python, code):
    """What some Python code prints last in an environment of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-I", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{python} fails:\n{result.stderr[-2000:]}")
    return result.stdout.splitlines()[-1]


def in_python(python, version):
    """The answers of an export to its warm-up requests, a list of (text, score)."""
    answers = json.loads(output_of(python, ASK.format(serving=str(ROOT / "kseq/serving"), version=str(version))))
    return [(answer["text"][0], answer["score"][0]) for answer in answers]


def compiled(python, folder):
    """The client in C, compiled against the TensorFlow of an environment."""
    tensorflow = Path(output_of(python, WHERE)).parent
    libraries = [tensorflow / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")]
    client = Path(tempfile.mkdtemp(dir=folder), "client")
    command = [COMPILER, "-O1", "-Wall", "-Werror", "-o", client, ROOT / "tests/serving/client.c"]
    subprocess.run([*command, f"-I{tensorflow / 'include'}", *libraries, f"-Wl,-rpath,{tensorflow}"], check=True)
    return client


def in_c(client, version, requests):
    """The same answers as `in_python`, by a compiled client."""
    from tensorflow.core.protobuf import saved_model_pb2

    [graph] = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs
    signature = graph.signature_def["serving_default"]
    outputs = [signature.outputs[name].name for name in ("text", "score")]
    names = sorted(signature.inputs)
    inputs = [signature.inputs[name].name.removesuffix(":0") for name in names]
    values = [request[name] for request in requests for name in names]
    questions = b"".join(b"%d\n%s" % (len(value), value) for value in values)
    command = [client, version, str(len(outputs)), *outputs, *inputs]
    result = subprocess.run(command, input=questions, capture_output=True, check=False)
    if result.returncode:
        sys.exit(f"{client} fails:\n{result.stderr.decode()[-2000:]}")
    found = list(strings(result.stdout))
    return [(text.decode(), float(score)) for text, score in zip(found[::2], found[1::2], strict=True)]


def strings(data):
    """The strings that the client has written one after the other."""
    file = io.BytesIO(data)
    while size := file.readline():
        yield file.read(int(size))


def answered(folder, count, version):
    """The task of a run, inputs of dev, its answers to them, and the operations of TensorFlow Text in its export, which
    is written to the folder `version` with these inputs.
    """
    import kseq
    from kseq.serving import check

    run = kseq.load(folder, overrides=[f"data.dev_count={count}"])
    task = run.task
    requests = [task.request(task.raw_of(example)) for example in task.dev if task.is_readable(example)]
    run.export(version.parent)
    check.write_requests(version / check.WARMUP, [{name: [x] for name, x in each.items()} for each in requests], "m")
    operations = check.read_json(version / check.ABOUT)["operations"]
    answers = [(record["text"], record["score"]) for record in run(requests, details=True)]
    return task.name, requests, answers, operations


def compared(found, wanted):
    """(cell of the table, whether all is as it should be) of two lists of (text, score)."""
    same = sum(text == right for (text, _), (right, _) in zip(found, wanted, strict=True))
    pairs = [(score, right) for (_, score), (_, right) in zip(found, wanted, strict=True)]
    difference = max(abs(score - right) / max(1, abs(right)) for score, right in pairs)
    return f"{same} of {len(wanted)}, {difference:.0e}", same == len(wanted) and difference <= TOLERANCE


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS, help="of the small runs")
    parser.add_argument("--python", action="append", default=[], help="of another environment that has TensorFlow")
    parser.add_argument("--count", type=int, default=100, help="most inputs of each run")
    parser.add_argument("--work", type=Path, help="folder that keeps the small runs")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    right, environments = True, [sys.executable, *options.python]
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        runs = options.runs or [export_of(task, work).parents[1] for task in options.tasks]
        clients = [compiled(python, scratch) if COMPILER else None for python in environments]
        versions = [output_of(python, VERSION) for python in environments]
        ways = [f"{language}, TensorFlow {version}" for version in versions for language in ("Python", "C")]
        print(f"| | inputs | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}", flush=True)
        for number, folder in enumerate(runs):
            version = Path(scratch, f"export-{number}", "1")
            name, requests, wanted, operations = answered(folder, options.count, version)
            cells = []
            for python, client in zip(environments, clients, strict=True):
                found = [in_python(python, version)]
                found += [in_c(client, version, requests)] if client and not operations else []
                for answers in found:
                    cell, fine = compared(answers, wanted)
                    cells.append(cell)
                    right &= fine
                cells += ["–"] * (2 - len(found))
            print(f"| {name} | {len(wanted)} | {' | '.join(cells)} |", flush=True)
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
