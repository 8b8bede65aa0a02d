"""The files beside the versions: what they say is what a client must send, and what it gets."""

import ast
import base64
import json
import re
import shlex
import shutil
import subprocess
from importlib.util import find_spec

import pytest

from kseq.files import write_json
from kseq.serving import beside, check

api = pytest.mark.skipif(not find_spec("tensorflow_serving"), reason="needs the extra kseq[serving]")
TEXTS = [["l'été \"vert\" à $5 \\ 'ici'"], ["un texte plus long que le premier, et de loin"]]
TEXTS.append([text for [text] in TEXTS])
PICTURE = bytes(range(256))


def export(folder, requests, *, paths=False, operations=()):
    version = folder / "3"
    (version / "assets.extra").mkdir(parents=True)
    check.write_requests(version / check.WARMUP, requests, "translator")
    answers = [{"text": ["é" * i for i, _ in enumerate(next(iter(x.values())))], "score": [0.5]} for x in requests]
    (version / check.ANSWERS).write_text(json.dumps(answers))
    about = {"model": "translator", "task": "translate", "paths": paths, "operations": list(operations)}
    write_json(version / check.ABOUT, about)
    return version


def blocks(folder):
    return re.findall(r"^```\n(.*?)^```$", (folder / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def test_the_request_of_the_readme_is_the_smallest_and_has_its_answer(tmp_path):
    version = export(tmp_path, [{"source": [x.encode() for x in texts]} for texts in TEXTS])
    beside.write_files(tmp_path, version)
    command, answer, _, printed = blocks(tmp_path)
    assert shlex.split(command)[:4] == ["curl", "-s", "http://localhost:8501/v1/models/translator:predict", "-d"]
    assert json.loads(shlex.split(command)[4]) == {"inputs": {"source": TEXTS[0]}}
    assert json.loads(answer) == {"outputs": {"text": [""], "score": [0.5]}}
    assert printed == "score [0.5]\ntext [b'']\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_command_for_a_file_sends_its_bytes(tmp_path):
    """Run by bash, with a curl that prints what it is given."""
    version = export(tmp_path, [{"image": [PICTURE]}], paths=True)
    (version / "assets.extra/image").write_bytes(PICTURE)
    beside.write_files(tmp_path, version)
    command, _, python, _ = blocks(tmp_path)
    code = f'curl() {{ echo "$@" >&2; cat; }}; {command}'
    result = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stderr == "-s http://localhost:8501/v1/models/translator:predict -d @-\n"
    [value] = json.loads(result.stdout)["inputs"]["image"]
    assert base64.b64decode(value["b64"]) == PICTURE
    assert 'tf.make_tensor_proto([open("3/assets.extra/image", "rb").read()])' in python


def test_the_program_for_grpc_is_python(tmp_path):
    beside.write_files(tmp_path, export(tmp_path, [{"premise": [b"a 'b'"], "hypothesis": [b"c\\"]}]))
    calls = [ast.unparse(x) for x in ast.parse(blocks(tmp_path)[2]).body]
    assert "request.model_spec.name = 'translator'" in calls
    assert """request.inputs['premise'].CopyFrom(tf.make_tensor_proto(["a 'b'"]))""" in calls
    assert r"""request.inputs['hypothesis'].CopyFrom(tf.make_tensor_proto(['c\\']))""" in calls


@api
def test_the_program_for_grpc_runs(tmp_path, monkeypatch, capsys):
    """With the package tensorflow-serving-api, and a server in its place."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service:
        def __init__(self, channel):
            pass

        def Predict(self, request, timeout):
            assert tf.make_ndarray(request.inputs["source"]).tolist() == [TEXTS[0][0].encode()]
            response = predict_pb2.PredictResponse()
            response.outputs["text"].CopyFrom(tf.make_tensor_proto([""]))
            response.outputs["score"].CopyFrom(tf.make_tensor_proto([0.5]))
            return response

    monkeypatch.setattr(prediction_service_pb2_grpc, "PredictionServiceStub", Service)
    beside.write_files(tmp_path, export(tmp_path, [{"source": [x.encode() for x in texts]} for texts in TEXTS]))
    _, _, python, printed = blocks(tmp_path)
    exec(compile(python, "README.md", "exec"), {})
    assert sorted(capsys.readouterr().out.splitlines()) == printed.splitlines()


@api
def test_the_server_can_read_which_versions_to_serve(tmp_path):
    """Oracle: the message of the package tensorflow-serving-api, before and after the change that its comment shows."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    beside.write_files(tmp_path, export(tmp_path, [{"source": [b"a"]}]))
    text = (tmp_path / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    [model] = config.model_config_list.config
    assert (model.name, model.base_path) == ("translator", "/models/translator")
    assert model.model_version_policy.latest.num_versions == 1
    shown = re.search(r"^#.*(model_version_policy .*)$", text, re.M)[1]
    text = text.replace("model_version_policy { latest { num_versions: 1 } }", shown)
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert list(config.model_config_list.config[0].model_version_policy.specific.versions) == [1]


def test_the_container_has_the_folder_where_its_flags_say(tmp_path):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    beside.write_files(tmp_path, export(tmp_path, [{"source": [b"a"]}]))
    [service] = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())["services"].values()
    assert service["image"] == "tensorflow/serving:${TAG:-latest}"
    [volume] = service["volumes"]
    host, inside, mode = volume.split(":")
    assert (host, mode) == (".", "ro")
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    for flag in ("model_config_file", "batching_parameters_file"):
        assert flags[flag].startswith(f"{inside}/") and (tmp_path / flags[flag].removeprefix(f"{inside}/")).is_file()
    assert f'base_path: "{inside}"' in (tmp_path / "models.config").read_text()


def test_what_was_changed_stays_and_the_readme_is_new(tmp_path):
    version = export(tmp_path, [{"source": [b"a"]}], operations=["NormalizeUTF8"])
    for name in beside.FILES:
        (tmp_path / name).write_text("mine")
    beside.write_files(tmp_path, version)
    assert [(tmp_path / name).read_text() for name in beside.FILES[:3]] == ["mine"] * 3
    assert "operations of TensorFlow Text: NormalizeUTF8." in (tmp_path / "README.md").read_text()
