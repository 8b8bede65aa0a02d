"""Asks a SavedModel as TensorFlow Serving does: through the signature, in a plain session, with TensorFlow alone.

    python ask.py FOLDER image=@photo.jpg        a file's bytes
    python ask.py FOLDER source="Guten Tag"      a text

Prints the outputs as JSON and, as an error, the status of each example that was refused. This file uses nothing of kseq
and can be copied to where a model is served.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

LIBRARIES = "_sentencepiece_tokenizer", "_normalize_ops", "_fast_wordpiece_tokenizer", "_regex_split_ops"


def load_operations(tf):
    """Makes the operations of TensorFlow Text known, where it is installed, as they are to TensorFlow Serving.

    It is not imported, since it imports Keras.
    """
    text = importlib.util.find_spec("tensorflow_text")
    for library in LIBRARIES if text else ():
        tf.load_op_library(str(Path(text.origin).parent / "python" / "ops" / f"{library}.so"))


def ask(folder, **inputs):
    """{output: list of values} of the default signature of the SavedModel in `folder`, for lists of bytes.

    Raises:
        ValueError: the inputs are not those of the model, or not equally many.
    """
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # a session, as Serving has one, is deprecated in Python
    load_operations(tf)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        served = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = served.signature_def["serving_default"]
        if inputs.keys() != signature.inputs.keys():
            takes, given = (", ".join(sorted(names)) or "nothing" for names in (signature.inputs, inputs))
            raise ValueError(f"the model in {folder} takes {takes}, and is given {given}")
        if len({len(values) for values in inputs.values()}) > 1:
            counts = ", ".join(f"{len(values)} of {name}" for name, values in inputs.items())
            raise ValueError(f"inputs must be equally many, and are {counts}")
        feeds = {signature.inputs[name].name: values for name, values in inputs.items()}
        outputs = session.run({name: info.name for name, info in signature.outputs.items()}, feeds)
    return {
        name: [v.decode() if isinstance(v, bytes) else float(v) for v in values] for name, values in outputs.items()
    }


if __name__ == "__main__":
    sys.modules["keras"] = None  # TensorFlow would import it by itself; a served model must do without
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder, *arguments = sys.argv[1:] or sys.exit(__doc__)
    if not Path(folder, "saved_model.pb").is_file():
        sys.exit(f"error: {folder} holds no SavedModel\n\n{__doc__}")
    inputs = {}
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
