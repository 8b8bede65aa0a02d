"""Asks a SavedModel as TensorFlow Serving does: through the signature, in a plain session, with TensorFlow alone.

    python ask.py FOLDER image=@photo.jpg        a file's bytes
    python ask.py FOLDER source="Guten Tag"      a text

FOLDER is an export, of which the newest version answers, or a version. Prints the outputs as JSON and, as an error, the
status of each example that was refused. This file uses nothing of kseq and can be copied to where a model is served.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

LIBRARIES = "_sentencepiece_tokenizer", "_normalize_ops", "_fast_wordpiece_tokenizer", "_regex_split_ops"
MODEL = "saved_model.pb"


def load_operations(tf):
    """Makes the operations of TensorFlow Text known, where it is installed, as they are to TensorFlow Serving.

    It is not imported, since it imports Keras.
    """
    text = importlib.util.find_spec("tensorflow_text")
    for library in LIBRARIES if text else ():
        tf.load_op_library(str(Path(text.origin).parent / "python" / "ops" / f"{library}.so"))


def versions(folder):
    """The numbers of the versions in a folder, in order."""
    names = [path.parent.name for path in Path(folder).glob(f"*/{MODEL}")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and not name.startswith("0"))


def model_folder(folder):
    """The folder of the SavedModel: `folder` itself, or that of its newest version.

    Raises:
        ValueError: there is none.
    """
    folder = Path(folder)
    if (folder / MODEL).is_file():
        return folder
    numbers = versions(folder)
    if not numbers:
        raise ValueError(f"{folder} holds no SavedModel, nor versions of one")
    return folder / str(numbers[-1])


class Served:
    """A SavedModel in a plain session, as TensorFlow Serving has it. A context manager.

    Args:
        folder: of the SavedModel.
    """

    def __init__(self, folder):
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # a session, as Serving has one, is deprecated in Python
        load_operations(tf)
        self.folder = folder
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            self.meta = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def predict(self, inputs, signature="serving_default"):
        """{output: list of values} of a signature for {input: list of bytes}.

        Raises:
            ValueError: the inputs are not those of the model, or not equally many.
        """
        signature = self.meta.signature_def[signature]
        if inputs.keys() != signature.inputs.keys():
            takes, given = (", ".join(sorted(names)) or "nothing" for names in (signature.inputs, inputs))
            raise ValueError(f"the model in {self.folder} takes {takes}, and is given {given}")
        if len({len(values) for values in inputs.values()}) > 1:
            counts = ", ".join(f"{len(values)} of {name}" for name, values in inputs.items())
            raise ValueError(f"inputs must be equally many, and are {counts}")
        feeds = {signature.inputs[name].name: values for name, values in inputs.items()}
        outputs = self.session.run({name: info.name for name, info in signature.outputs.items()}, feeds)
        return {name: plain(values.tolist()) for name, values in outputs.items()}


def plain(value):
    """A value, or lists of them, with texts as str."""
    if isinstance(value, list):
        return [plain(x) for x in value]
    return value.decode() if isinstance(value, bytes) else value


def ask(folder, **inputs):
    """{output: list of values} of the default signature of the SavedModel in `folder`, for lists of bytes.

    Raises:
        ValueError: as of `model_folder` and of `Served.predict`.
    """
    with Served(model_folder(folder)) as served:
        return served.predict(inputs)


def alone():
    """Prepares a process that has TensorFlow alone."""
    sys.modules["keras"] = None  # TensorFlow would import it by itself; a served model must do without
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


if __name__ == "__main__":
    alone()
    folder, *arguments = sys.argv[1:] or sys.exit(__doc__)
    inputs = {}
    try:
        model_folder(folder)
    except ValueError as error:
        sys.exit(f"error: {error}\n\n{__doc__}")
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            sys.exit(f"error: {argument!r} must be NAME=TEXT or NAME=@FILE")
        try:
            value = Path(value[1:]).read_bytes() if value.startswith("@") else value.encode()
        except OSError as error:
            sys.exit(f"error: {value[1:]} cannot be read: {error.strerror}")
        inputs.setdefault(name, []).append(value)
    try:
        answer = ask(folder, **inputs)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(answer, ensure_ascii=False), flush=True)
    refused = [(number, status) for number, status in enumerate(answer.get("status", ()), 1) if status != "ok"]
    if refused:
        sys.exit("\n".join(f"error: example {number}: {status}" for number, status in refused))
