"""SavedModels: raw strings or bytes in, strings out, everything between inside."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from kseq.errors import UserError
from kseq.files import replacing


def export(answer, parts, inputs, path):
    """Writes a SavedModel with one signature, `serving_default`, whose batch dimension is open.

    Args:
        answer: function of string tensors `[batch]` → {name: tensor `[batch]`}, in TensorFlow alone.
        parts: the objects with weights or tables that `answer` uses.
        inputs: names of the arguments of `answer`.
        path: folder to write. One that is there is replaced when the new one is whole.
    """
    archive = keras.export.ExportArchive()
    for part in parts:
        archive.track(part)
    signature = [tf.TensorSpec([None], tf.string, name=name) for name in inputs]
    archive.add_endpoint("serving_default", tf.function(answer, input_signature=signature))
    with replacing(path) as draft:
        archive.write_out(str(draft), verbose=False)


def check(path, example, expected):
    """Asks the SavedModel in a fresh process that imports neither kseq nor keras, as TensorFlow Serving would.

    Args:
        path: folder of the SavedModel.
        example: {input: bytes}, one raw example.
        expected: {"text": …, "score": …} that it must answer.

    Returns:
        the answer.

    Raises:
        UserError: the process fails, or answers something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for name, value in example.items():
            file = Path(folder, name)
            file.write_bytes(value)
            arguments.append(f"{name}=@{file}")
        command = [sys.executable, str(Path(__file__).with_name("ask.py")), str(Path(path).resolve()), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if result.returncode:
        raise UserError(f"{path} does not answer in a process of its own:\n{result.stderr[-2000:]}")
    answer = {name: values[0] for name, values in json.loads(result.stdout.splitlines()[-1]).items()}
    if answer["text"] != expected["text"] or abs(answer["score"] - expected["score"]) > 1e-3:
        raise UserError(f"{path} answers {answer} where the model in training answers {expected}")
    return answer
