"""Checks an exported model: loads it as TensorFlow Serving does, compares its answers with those recorded at export,
and measures its latency.

    python -m kseq.serving.check EXPORT                            in this process, in a plain session
    python -m kseq.serving.check EXPORT --rest=http://localhost:8501     on a server, through REST
    python -m kseq.serving.check EXPORT --grpc=localhost:8500            on a server, through gRPC

EXPORT is an export, of which the newest version is checked, or a version. The requests are those by which TensorFlow
Serving warms the model up. The exit status is 1 if an answer differs. Copied to another machine together with ask.py,
this file needs TensorFlow alone: `python check.py EXPORT`.
"""

import argparse
import base64
import functools
import itertools
import json
import math
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

if __package__:
    from kseq.serving import ask
else:  # run as a file
    import ask

ABOUT = "assets.extra/kseq.json"  # TensorFlow leaves this folder of a SavedModel to others
WARMUP = "assets.extra/tf_serving_warmup_requests"  # the name that TensorFlow Serving knows
ANSWERS = "assets.extra/answers.json"  # to these requests, in their order
SIGNATURE = "serving_default"
TOLERANCE = 1e-5
SIZES = (1, 8, 32)  # of the batches whose latency is measured
CALLS = 100  # at each size,
SECONDS = 10  # unless they take longer
TIMEOUT = 60

# The part of tensorflow_serving.apis that is needed: {message: {field: (number, kind)}}. A list is of a repeated field.
# A tensor, itself a message, is written as its bytes are, and a map as a list of its entries.
MESSAGES = {
    "Number": {"value": (1, "int64")},
    "ModelSpec": {"name": (1, "string"), "version": (2, "Number"), "signature_name": (3, "string")},
    "Entry": {"key": (1, "string"), "value": (2, "bytes")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, ["Entry"])},
    "PredictResponse": {"outputs": (1, ["Entry"])},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


@functools.cache
def messages():
    """{name: class} of `MESSAGES`. They do without the package tensorflow-serving-api."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="predict", package="kseq", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            repeated, kind = (True, kind[0]) if isinstance(kind, list) else (False, kind)
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in MESSAGES:
                made.type, made.type_name = made.TYPE_MESSAGE, f".kseq.{kind}"
            else:
                made.type = getattr(made, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()  # one of its own: the default one may hold the real package
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kseq.{name}")) for name in MESSAGES}


def predict_request(inputs, model, version=None):
    """The message PredictRequest for {input: list of bytes}."""
    import tensorflow as tf

    kinds = messages()
    number = None if version is None else kinds["Number"](value=version)
    spec = kinds["ModelSpec"](name=model, signature_name=SIGNATURE, version=number)
    entries = [(name, tf.make_tensor_proto(values, tf.string)) for name, values in inputs.items()]
    entries = [kinds["Entry"](key=name, value=tensor.SerializeToString()) for name, tensor in entries]
    return kinds["PredictRequest"](model_spec=spec, inputs=entries)


def tensors(entries):
    """{name: list of values} of the entries of a request or a response."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    return {x.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(x.value)).tolist() for x in entries}


def write_requests(path, requests, model):
    """Writes requests, each {input: list of bytes}, as TensorFlow Serving reads them to warm a model up."""
    import tensorflow as tf

    kinds = messages()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for inputs in requests:
            log = kinds["PredictLog"](request=predict_request(inputs, model))
            writer.write(kinds["PredictionLog"](predict_log=log).SerializeToString())


def read_requests(path):
    """The requests, each {input: list of bytes}, that `write_requests` has written.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        logs = [messages()["PredictionLog"].FromString(record) for record in records]
        return [tensors(log.predict_log.request.inputs) for log in logs]
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def read_json(path):
    """What a JSON file of an export holds.

    Raises:
        ValueError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


# --- servers


class Rest:
    """A model on a server, asked through TensorFlow Serving's REST interface.

    Args:
        url: of the server, such as http://localhost:8501.
        model: its name.
        version: its number; None for the one that the server takes.
    """

    def __init__(self, url, model, version):
        part = "" if version is None else f"/versions/{version}"
        self.url = f"{url.rstrip('/')}/v1/models/{model}{part}:predict"

    def predict(self, inputs):
        """{output: list of values} for {input: list of bytes}.

        Raises:
            ValueError: the server cannot be reached, or does not answer with outputs.
        """
        values = {name: [{"b64": base64.b64encode(x).decode()} for x in given] for name, given in inputs.items()}
        body = json.dumps({"signature_name": SIGNATURE, "inputs": values}).encode()
        try:
            request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            reason = error.read()[:500].decode(errors="replace")
            raise ValueError(f"{self.url} answers {error.code}: {reason}") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.url} cannot be asked: {getattr(error, 'reason', error)}") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("outputs"), dict):
            raise ValueError(f"{self.url} answers without outputs: {json.dumps(answer)[:500]}")
        return answer["outputs"]


class Grpc:
    """A model on a server, asked through TensorFlow Serving's gRPC interface.

    Args:
        address: such as localhost:8500.
        model: its name.
        version: its number; None for the one that the server takes.
    """

    def __init__(self, address, model, version):
        import grpc

        self.address, self.model, self.version, self.error = address, model, version, grpc.RpcError
        self.call = grpc.insecure_channel(address).unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=messages()["PredictResponse"].FromString,
        )

    def predict(self, inputs):
        """{output: list of values} for {input: list of bytes}.

        Raises:
            ValueError: the server cannot be reached, or answers with an error.
        """
        try:
            response = self.call(predict_request(inputs, self.model, self.version), timeout=TIMEOUT)
        except self.error as error:
            raise ValueError(f"{self.address} cannot be asked: {error.details()}") from None
        return {name: ask.plain(values) for name, values in tensors(response.outputs).items()}


# --- what is checked


def same(a, b, tolerance):
    """Whether two values, or lists of them, are equal, numbers up to a relative or absolute tolerance."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (a != a and b != b)
    return type(a) is type(b) and a == b


def compare(found, recorded, where, tolerance=TOLERANCE):
    """Raises `ValueError` unless the outputs that are recorded are found, texts equal and numbers nearly so."""
    for name, value in recorded.items():
        if name not in found:
            raise ValueError(f"{where} has no output {name}; it has {', '.join(sorted(found))}")
        if not same(found[name], value, tolerance):
            shown, wanted = (json.dumps(x, ensure_ascii=False)[:500] for x in (found[name], value))
            raise ValueError(f"{where}: {name} is {shown}, and was {wanted} at export")


def replay(predict, requests, recorded):
    """Compares the answers to requests with those recorded.

    Raises:
        ValueError: one differs, or they are not equally many.
    """
    if len(requests) != len(recorded):
        raise ValueError(f"{len(recorded)} answers are recorded to {len(requests)} requests")
    for number, (inputs, answer) in enumerate(zip(requests, recorded, strict=True), 1):
        compare(predict(inputs), answer, f"request {number}")


def latencies(predict, inputs, size):
    """Seconds of each of up to `CALLS` calls with `size` rows of the inputs, after one that is not counted."""
    batch = {name: list(itertools.islice(itertools.cycle(values), size)) for name, values in inputs.items()}
    predict(batch)
    seconds, started = [], time.perf_counter()
    while len(seconds) < CALLS and time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        predict(batch)
        seconds.append(time.perf_counter() - before)
    return seconds


def measure(predict, requests):
    """Prints the latency of batches, whose rows are those of the largest request."""
    import numpy as np

    largest = max(requests, key=lambda inputs: len(next(iter(inputs.values()))))
    print(f"{'batch':>8}{'calls':>8}{'p50 ms':>10}{'p99 ms':>10}{'rows/s':>10}")
    for size in SIZES:
        found = latencies(predict, largest, size)
        p50, p99 = np.percentile(found, [50, 99]) * 1000
        print(f"{size:8}{len(found):8}{p50:10.1f}{p99:10.1f}{size * len(found) / sum(found):10.0f}", flush=True)


def unknown_operations(folder):
    """The names of the operations of a SavedModel that are unknown, as are those of TensorFlow Text until loaded."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    [graph] = saved_model_pb2.SavedModel.FromString(Path(folder, ask.MODEL).read_bytes()).meta_graphs
    functions = {function.signature.name for function in graph.graph_def.library.function}
    nodes = itertools.chain(graph.graph_def.node, *(x.node_def for x in graph.graph_def.library.function))
    names = {node.op for node in nodes} - functions
    return sorted(name for name in names if op_def_registry.get(name) is None)


def answers(folder):
    """{"answers": to the warm-up requests, "operations": as of `unknown_operations`} of the SavedModel in a folder."""
    operations = unknown_operations(folder)
    with ask.Served(folder) as served:
        return {"answers": [served.predict(x) for x in read_requests(folder / WARMUP)], "operations": operations}


def check(folder, rest=None, grpc=None):
    """Replays the requests of the SavedModel in a folder, in a session or on servers, and prints what it measures.

    Raises:
        ValueError: an answer is not the recorded one, or a file is missing or damaged, or a server does not answer.
    """
    requests, recorded = read_requests(folder / WARMUP), read_json(folder / ANSWERS)
    model = read_json(folder / ABOUT)["model"]
    version = int(folder.resolve().name) if folder.resolve().name.isdigit() else None
    servers = [(url, Rest(url, model, version)) for url in [rest] if url]
    servers += [(address, Grpc(address, model, version)) for address in [grpc] if address]
    for name, server in servers:
        replay(server.predict, requests, recorded)
        print(f"{name}: {len(requests)} requests answered as at export", flush=True)
        measure(server.predict, requests)
    if servers:
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    operations = unknown_operations(folder)
    started = time.perf_counter()
    with ask.Served(folder) as served:
        print(f"{folder}: {size / 1e6:.1f} MB, loaded in {time.perf_counter() - started:.2f} s", flush=True)
        if operations:
            print(f"operations of TensorFlow Text: {', '.join(operations)}")
        replay(served.predict, requests, recorded)
        print(f"{len(requests)} requests answered as at export", flush=True)
        measure(served.predict, requests)


def main():
    """Runs the program."""
    about, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("export", metavar="EXPORT", help="an export, or one of its versions")
    parser.add_argument("--rest", metavar="URL", help="asks a server through REST")
    parser.add_argument("--grpc", metavar="ADDRESS", help="asks a server through gRPC")
    parser.add_argument("--answers", action="store_true", help="prints the answers to the requests as JSON, no more")
    flags = parser.parse_args()
    try:
        folder = ask.model_folder(flags.export)
        if flags.answers:
            print(json.dumps(answers(folder)))
        else:
            check(folder, flags.rest, flags.grpc)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    ask.alone()
    main()
