"""TFLite models for mobile and embedded devices: greedy decoding with built-in operations only.

A model takes one example of a fixed size, ids, pixels or frames, and returns ids. TFLite has no built-in operations for
strings: the `kseq.preprocessors.TextPreprocessor` saved in the same folder turns texts into ids and back.
"""

import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError  # what `tf.lite` raises, which has no public name

from kseq.errors import UserError
from kseq.files import read_json

MODEL = "model.tflite"
ABOUT = "kseq.json"
TOLERANCE = 1e-3  # of the scores of the interpreter to those of TensorFlow


def greedy(step, states, memory, *, start, end, max_length):
    """`kseq.samplers.Greedy` for one example, with states that TFLite can carry through a loop.

    Args:
        step: `logits [1, vocabulary], states, alignment = step(tokens [1], states, memory)`.
        states: list of tensors of known shapes, the states before the first step.
        memory: what every step reads.
        start: id of the token that opens a sequence.
        end: id of the token that closes it.
        max_length: the largest number of tokens, the end token included.

    Returns:
        {"ids": int32 `[1, max_length]`, 0 after the end; "length": int32 `[1]`, the end token included; "score":
        float32 `[1]`, log p of the ids}.
    """

    def advance(t, tokens, done, score, ids, states):
        logits, after, _ = step(tokens, states, memory)
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        tokens = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
        score += tf.reduce_max(log_probs, axis=-1)
        ids = tf.where(tf.range(max_length)[None] == t, tokens[:, None], ids)
        return t + 1, tokens, tokens == end, score, ids, list(after)

    counters = tf.fill([1], start), tf.fill([1], False), tf.zeros([1]), tf.zeros([1, max_length], tf.int32)
    length, _, _, score, ids, _ = tf.while_loop(
        lambda t, _, done, *__: (t < max_length) & ~done[0], advance, (tf.constant(0), *counters, list(states))
    )
    return {"ids": ids, "length": length[None], "score": score}


def convert(function, signature, models):
    """The content of a TFLite file.

    Args:
        function: of tensors → {name: tensor}.
        signature: list of `tf.TensorSpec` of its arguments, with names and without unknown sizes.
        models: list of `keras.Model`, those whose weights it reads.

    Raises:
        UserError: an operation has no built-in counterpart.
    """
    graph = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    module = tf.Module()  # what the converter makes constants of; it does not see the variables of Keras
    module.weights = [variable.value for model in models for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return converter.convert()
    except ConverterError as error:
        said = next((line for line in str(error).splitlines() if "error: " in line), str(error)).partition("error: ")[2]
        raise UserError(f"the model has an operation that TFLite does not have built in: {said[:300]}") from None


class Lite:
    """A TFLite file, called on arrays.

        lite = Lite("served/translator-lite")
        lite(source=ids)["ids"]

    It is run by the package ai_edge_litert where that is installed, and else by the interpreter of TensorFlow.

    Args:
        path: of a folder as `kseq.load(run).export_lite(folder)` writes it, or of a file.

    Attributes:
        about: what the folder says of the model, such as its task; {} of a file.

    Raises:
        UserError: there is no such file, it is damaged, or it has no signature.
    """

    def __init__(self, path):
        path = Path(path)
        self.about = read_json(path / ABOUT) if path.is_dir() else {}
        self.path = path / MODEL if path.is_dir() else path
        try:
            self._interpreter = _interpreter(self.path.read_bytes())
            self._run = self._interpreter.get_signature_runner()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"{self.path} is no TFLite file that can be called: {error}") from None
        self._inputs = {
            name: (tuple(x["shape"].tolist()), x["dtype"]) for name, x in self._run.get_input_details().items()
        }

    def __call__(self, **inputs):
        """{output: array} for {input: array}.

        Raises:
            UserError: the inputs have other names, shapes or dtypes than those of the file.
        """
        given = {name: np.asarray(value) for name, value in inputs.items()}
        found = {name: (value.shape, value.dtype.type) for name, value in given.items()}
        if found != self._inputs:
            raise UserError(f"{self.path} takes {_told(self._inputs)}, and is given {_told(found)}")
        return self._run(**given)


def check(content, function, examples):
    """Compares the answers of a TFLite file with others.

    Args:
        content: of the file.
        function: of an input as the file takes it → `Hypotheses` of a greedy search.
        examples: inputs.

    Raises:
        UserError: ids differ, or a score does by more than `TOLERANCE`.
    """
    run = _interpreter(content).get_signature_runner()
    [name] = run.get_input_details()
    for number, example in enumerate(examples, 1):
        found, want = run(**{name: example}), function(tf.constant(example))
        ids, wanted = found["ids"][0].tolist(), want.ids[0, 0].numpy().tolist()
        score, known = float(found["score"][0]), float(want.scores[0, 0])
        if ids != wanted or not abs(score - known) <= TOLERANCE * max(1, abs(known)):
            raise UserError(
                f"the TFLite file does not answer as the model: to example {number} of the {len(examples)} "
                f"of dev that are compared, it writes {ids} (score {score:.4f}), and the model {wanted} ({known:.4f}); "
                "use export"
            )


def _told(inputs):
    """What inputs are, in words."""
    return ", ".join(f"{name} {np.dtype(kind)} {list(shape)}" for name, (shape, kind) in inputs.items()) or "nothing"


def _interpreter(content):
    """The interpreter of a file with this content."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        # Since TensorFlow 2.18 it says that it will go, for the package above; TensorFlow 2.21 still has it.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        return Interpreter(model_content=content)
