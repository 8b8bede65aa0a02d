"""What `check` compares and measures, in a session and over the REST and gRPC interfaces of TensorFlow Serving."""

import base64
import http.server
import json
import shutil
import subprocess
import sys
import threading
from concurrent import futures
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
import tensorflow as tf

from kseq import export
from kseq.files import write_json
from kseq.serving import check

REQUESTS = [{"text": [b"a"]}, {"text": ["\u00e9".encode()]}, {"text": [b"bc", b"", b"defg"]}]
ANSWERS = [
    {"text": [x.decode().upper() for x in r["text"]], "score": [len(x) / 3 for x in r["text"]]} for r in REQUESTS
]
api = pytest.mark.skipif(not find_spec("tensorflow_serving"), reason="needs the extra kseq[serving]")


def shout(text):
    """The model: upper case, and a third of the number of bytes."""
    return {"text": tf.strings.upper(text, "utf-8"), "score": tf.cast(tf.strings.length(text), tf.float32) / 3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One version of an export."""
    folder = tmp_path_factory.mktemp("served") / "1"
    module = tf.Module()
    module.shout = tf.function(shout, input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    tf.saved_model.save(module, folder, signatures=module.shout)
    (folder / "assets.extra").mkdir()
    check.write_requests(folder / check.WARMUP, REQUESTS, "shouter")
    write_json(folder / check.ABOUT, {"model": "shouter"})
    (folder / check.ANSWERS).write_text(json.dumps(ANSWERS))
    return folder


@pytest.fixture
def version(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "CALLS", 3)
    return Path(shutil.copytree(saved, tmp_path / "1"))


# --- requests


def test_the_file_that_runs_alone_looks_where_an_export_writes():
    assert check.ABOUT == export.ABOUT


def test_requests_are_read_as_they_were_written(saved):
    assert check.read_requests(saved / check.WARMUP) == REQUESTS


@api
def test_the_requests_are_those_of_tensorflow_serving(saved):
    """Oracle: the package tensorflow-serving-api."""
    from tensorflow_serving.apis import prediction_log_pb2

    logs = [
        prediction_log_pb2.PredictionLog.FromString(x.numpy())
        for x in tf.data.TFRecordDataset(str(saved / check.WARMUP))
    ]
    assert [tf.make_ndarray(x.predict_log.request.inputs["text"]).tolist() for x in logs] == [
        x["text"] for x in REQUESTS
    ]
    assert {x.predict_log.request.model_spec.name for x in logs} == {"shouter"}
    assert {x.predict_log.request.model_spec.signature_name for x in logs} == {"serving_default"}
    for log, inputs in zip(logs, REQUESTS, strict=True):
        assert log.WhichOneof("log_type") == "predict_log" and not log.predict_log.request.model_spec.HasField(
            "version"
        )
        assert log.predict_log.request.ByteSize() == check.predict_request(inputs, "shouter").ByteSize()


@api
def test_a_request_and_a_response_are_those_of_tensorflow_serving():
    """Oracle: the package tensorflow-serving-api."""
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest.FromString(check.predict_request(REQUESTS[2], "m", 3).SerializeToString())
    assert request.model_spec.version.value == 3 and list(request.inputs) == ["text"]
    response = predict_pb2.PredictResponse()
    response.model_spec.name = "m"
    response.outputs["score"].CopyFrom(tf.make_tensor_proto([0.5, 0.25]))
    read = check.messages()["PredictResponse"].FromString(response.SerializeToString())
    assert check.tensors(read.outputs) == {"score": [0.5, 0.25]}


# --- comparing


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (1.0, 1.0 + 9e-6, True),
        (1.0, 1.0 + 2e-5, False),
        (1000.0, 1000.009, True),
        (0.0, 9e-6, True),
        (3, 3.0, True),
        (float("nan"), float("nan"), True),
        (float("-inf"), float("-inf"), True),
        ("1", 1, False),
        ([1.0, "a"], [1.0, "a"], True),
        ([1.0], [1.0, 1.0], False),
        ([["a", "b"]], [["a", "c"]], False),
    ],
)
def test_texts_are_equal_and_numbers_nearly(a, b, equal):
    assert check.same(a, b, check.TOLERANCE) == equal == check.same(b, a, check.TOLERANCE)


def test_an_export_that_answers_as_recorded_is_measured(version, capsys):
    check.check(version)
    first, second, head, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{version}: 0.0 MB, loaded in ") and second == "3 requests answered as at export"
    assert head.split() == ["batch", "calls", "p50", "ms", "p99", "ms", "rows/s"]
    assert [[int(x) for x in row.split()[:2]] for row in rows] == [[1, 3], [8, 3], [32, 3]]
    found = check.answers(version)
    assert check.same(found["answers"][2]["score"], ANSWERS[2]["score"], 1e-6) and found["operations"] == []


def changed(key, value):
    def change(folder):
        answers = json.loads((folder / check.ANSWERS).read_text())
        answers[2][key] = value
        (folder / check.ANSWERS).write_text(json.dumps(answers))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed("text", ["BC", "", "DEFX"]),
            r'^request 3: text is \["BC", "", "DEFG"\], and was \["BC", "", "DEFX"\] at',
        ),
        (changed("score", [2 / 3, 3e-5, 4 / 3]), r"^request 3: score is \[0.66\d*, 0.0, 1.3\d*\], and was \[0.6"),
        (changed("label", ["x"] * 3), r"^request 3 has no output label; it has score, text$"),
        (lambda folder: (folder / check.ANSWERS).write_text("[]"), "^0 answers are recorded to 3 requests$"),
        (lambda folder: (folder / check.ANSWERS).write_text("["), "answers.json cannot be read: Expecting value"),
        (lambda folder: (folder / check.ANSWERS).unlink(), "answers.json cannot be read: No such file"),
        (lambda folder: (folder / check.WARMUP).unlink(), "tf_serving_warmup_requests cannot be read: "),
        (lambda folder: (folder / check.WARMUP).write_bytes(b"mine" * 9), "tf_serving_warmup_requests cannot be read"),
    ],
)
def test_what_is_wrong_with_an_export_is_told(version, change, message):
    change(version)
    with pytest.raises(ValueError, match=message):
        check.check(version)


def test_operations_that_tensorflow_lacks_are_named(version):
    assert check.unknown_operations(version) == []
    content = (version / "saved_model.pb").read_bytes()
    assert content.count(b"StringUpper")
    (version / "saved_model.pb").write_bytes(content.replace(b"StringUpper", b"StringUppxr"))
    assert check.unknown_operations(version) == ["StringUppxr"]


# --- servers


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers as TensorFlow Serving's REST interface does to requests in columns."""

    answer = staticmethod(lambda path, body: (200, {"outputs": {}}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code, answer = self.answer(self.path, body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def served(path, body):
    """Oracle: the model in Python."""
    if path != "/v1/models/shouter/versions/1:predict":
        return 404, {"error": f"Servable not found for request: {path}"}
    assert body.keys() == {"signature_name", "inputs"} and body["signature_name"] == "serving_default"
    texts = [base64.b64decode(x["b64"]) for x in body["inputs"]["text"]]
    return 200, {"outputs": {"text": [x.decode().upper() for x in texts], "score": [len(x) / 3 for x in texts]}}


@pytest.fixture
def rest(monkeypatch):
    monkeypatch.setattr(Stub, "answer", staticmethod(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_is_asked_through_rest(version, rest, capsys):
    check.check(version, rest=f"{rest}/")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{rest}/: 3 requests answered as at export" and len(lines) == 1 + 1 + 3
    changed("text", ["BC", "", "X"])(version)
    with pytest.raises(ValueError, match=r"^request 3: text is"):
        check.check(version, rest=rest)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {"error": "Servable not found"}), r':predict answers 404: {"error": "Servable not found"}$'),
        ((200, b"<html>"), r":predict cannot be asked: Expecting value"),
        ((200, {"predictions": []}), r':predict answers without outputs: {"predictions": \[\]}$'),
        ((200, {"outputs": ["A"]}), r':predict answers without outputs: {"outputs": \["A"\]}$'),
        ((200, []), r":predict answers without outputs: \[\]$"),
    ],
)
def test_a_server_that_answers_otherwise_is_told_of(version, rest, monkeypatch, answer, message):
    monkeypatch.setattr(Stub, "answer", staticmethod(lambda path, body: answer))
    with pytest.raises(ValueError, match=message):
        check.check(version, rest=rest)


def test_a_server_that_is_not_there_is_told_of(version):
    with pytest.raises(
        ValueError, match=r"^http://127.0.0.1:1/v1/models/shouter/versions/1:predict cannot be asked: .*ref"
    ):
        check.check(version, rest="http://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"^127.0.0.1:1 cannot be asked: "):
        check.check(version, grpc="127.0.0.1:1")


@pytest.fixture
def grpc_address():
    """A server with the method of TensorFlow Serving, whose messages are those of `check`."""

    def predict(request, context):
        spec = request.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("shouter", 1, "serving_default")
        found = shout(tf.constant(check.tensors(request.inputs)["text"], tf.string))
        entries = {name: tf.make_tensor_proto(value.numpy()).SerializeToString() for name, value in found.items()}
        kinds = check.messages()
        return kinds["PredictResponse"](outputs=[kinds["Entry"](key=k, value=v) for k, v in entries.items()])

    method = grpc.unary_unary_rpc_method_handler(
        predict, check.messages()["PredictRequest"].FromString, lambda response: response.SerializeToString()
    )
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_server_is_asked_through_grpc(version, grpc_address, capsys):
    check.check(version, grpc=grpc_address)
    assert capsys.readouterr().out.startswith(f"{grpc_address}: 3 requests answered as at export\n")
    changed("score", [1.0, 0.0, 0.0])(version)
    with pytest.raises(ValueError, match=r"^request 3: score is"):
        check.check(version, grpc=grpc_address)


# --- the program


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.slow
def test_the_file_runs_alone_without_keras(version, tmp_path):
    """Copied with ask.py to where nothing of kseq is."""
    for name in ("check.py", "ask.py"):
        shutil.copy(Path(check.__file__).with_name(name), tmp_path)
    code = f"import runpy, sys; sys.argv = ['check.py', {str(version.parent)!r}]; "
    code += (
        "runpy.run_path('check.py', run_name='__main__'); print([x for x in ('keras', 'kseq') if sys.modules.get(x)])"
    )
    code = f"import sys; sys.path[0] = '.'; {code}"
    result = program("-c", code, cwd=tmp_path, env={"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert result.returncode == 0, result.stderr
    assert "3 requests answered as at export" in result.stdout and result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_program_ends_with_one_line_where_an_answer_differs(version):
    changed("text", ["BC", "", "X"])(version)
    result = program("-m", "kseq.serving.check", version.parent, cwd=Path(check.__file__).parents[2])
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: request 3: text is")
    assert program(check.__file__, version.parent.parent / "none").stderr.endswith(
        "holds no SavedModel, nor versions of one\n"
    )
