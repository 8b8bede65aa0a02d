"""The files beside the versions of an export, with which TensorFlow Serving is started and asked.

    models.config         which versions are served
    batching.config       how requests are put together into batches
    docker-compose.yml    the server, as a container of the official image
    README.md             how it is started and asked, with a request and its answer

The first three are written once, so that they can be changed; the README is written with each version.
"""

import json
import shlex

from kseq.files import read_json, write_text
from kseq.serving import check

MODELS, BATCHING, COMPOSE, README = FILES = ("models.config", "batching.config", "docker-compose.yml", "README.md")

MODELS_TEXT = """# The newest version is served. Version 1: model_version_policy {{ specific {{ versions: 1 }} }}
model_config_list {{
  config {{
    name: {name}
    base_path: {base}
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""

BATCHING_TEXT = """# Requests that arrive within 2 ms are answered together.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
"""

COMPOSE_TEXT = """# docker compose up: gRPC on port 8500, REST on port 8501.
services:
  serving:
    image: tensorflow/serving:${{TAG:-latest}}
    ports: ["8500:8500", "8501:8501"]
    volumes: [{volume}]
    command:
      - {models}
      - "--model_config_file_poll_wait_seconds=30"
      - "--enable_batching=true"
      - {batching}
"""

README_TEXT = """# {name}

A model of `kseq.tasks.{task}`, as TensorFlow Serving takes it. Each numbered folder is a version, and the newest is
served. `docker compose up` in this folder starts the server; `models.config` says which versions it serves.

## REST

```
{curl}
```

```
{outputs}
```

## gRPC

With `pip install grpcio tensorflow tensorflow-serving-api`:

```
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = {model}
{inputs}
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel("localhost:8500"))
response = stub.Predict(request, timeout=60)
for name, value in response.outputs.items():
    print(name, tf.make_ndarray(value).tolist())
```

```
{printed}
```

Both answers are those of version {version} to an example of its dev split. `python -m kseq.serving.check .` in this
folder replays all requests of `{version}/{warmup}`, and measures the latency.
{operations}"""

OPERATIONS_TEXT = """
The graph has operations of TensorFlow Text: {names}. The image tensorflow/serving has TensorFlow Text built in. If
its version lacks one of them, the server says "Op type not registered" when it loads the model; take a newer one then.
"""


def write_files(folder, version):
    """Writes the files that are missing, and the README with an example of a version.

    Args:
        folder: of the export.
        version: folder of the version.
    """
    about = read_json(version / check.ABOUT)
    base = f"/models/{about['model']}"
    texts = {
        MODELS: MODELS_TEXT.format(name=json.dumps(about["model"]), base=json.dumps(base)),
        BATCHING: BATCHING_TEXT,
        COMPOSE: COMPOSE_TEXT.format(
            volume=json.dumps(f".:{base}:ro"),
            models=json.dumps(f"--model_config_file={base}/{MODELS}"),
            batching=json.dumps(f"--batching_parameters_file={base}/{BATCHING}"),
        ),
    }
    for name, text in texts.items():
        if not (folder / name).exists():
            write_text(folder / name, text)
    write_text(folder / README, readme(version, about))


def readme(version, about):
    """The text of the README, whose example is the smallest request of a version."""
    requests = check.read_requests(version / check.WARMUP)
    answers = json.loads((version / check.ANSWERS).read_text(encoding="utf-8"))
    single = [pair for pair in zip(requests, answers, strict=True) if all(len(x) == 1 for x in pair[0].values())]
    inputs, outputs = min(single, key=lambda pair: sum(len(values[0]) for values in pair[0].values()))
    stored = f"{version.name}/assets.extra/" if about["paths"] else None
    operations = OPERATIONS_TEXT.format(names=", ".join(about["operations"])) if about["operations"] else ""
    return README_TEXT.format(
        name=about["model"],
        task=about["task"],
        curl=curl(about["model"], inputs, stored),
        outputs=json.dumps({"outputs": outputs}, ensure_ascii=False, indent=4),
        model=json.dumps(about["model"]),
        inputs="\n".join(f"request.inputs[{json.dumps(x)}].CopyFrom({proto(x, inputs, stored)})" for x in inputs),
        printed="\n".join(f"{name} {[bytes_of(x) for x in values]}" for name, values in sorted(outputs.items())),
        version=version.name,
        warmup=check.WARMUP,
        operations=operations,
    )


def curl(model, inputs, stored):
    """The command that sends a request through REST; `stored` is the folder of the inputs, where they are files."""
    url = f"http://localhost:8501/v1/models/{model}:predict"
    if stored is None:
        body = {"inputs": {name: [value.decode("utf-8", "replace") for value in x] for name, x in inputs.items()}}
        return f"curl -s {shlex.quote(url)} -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    values = ", ".join(f'"{name}": [{{"b64": "\'$(base64 -w0 {stored}{name})\'"}}]' for name in inputs)
    return f"echo '{{\"inputs\": {{{values}}}}}' |\n  curl -s {shlex.quote(url)} -d @-"


def proto(name, inputs, stored):
    """The Python expression of the tensor of an input."""
    if stored is None:
        return f"tf.make_tensor_proto({[value.decode('utf-8', 'replace') for value in inputs[name]]!r})"
    return f'tf.make_tensor_proto([open("{stored}{name}", "rb").read()])'


def bytes_of(value):
    """A value as gRPC carries it: texts are bytes."""
    return value.encode() if isinstance(value, str) else value
