"""SavedModels of runs: raw strings or bytes in, strings out, everything between inside.

Numbered versions of one, as TensorFlow Serving takes them, are made by `kseq.serving.versions`. That of a model alone,
`model.export`, has its signature in `kseq.models.signature`.
"""

import errno
from pathlib import Path

from kseq.errors import UserError
from kseq.files import read_json, replacing, write_json

ABOUT = "assets.extra/kseq.json"  # TensorFlow leaves this folder of a SavedModel to others


def export(answer, parts, inputs, path, about=None, *, weights="float32", **signatures):
    """Writes a SavedModel with the signature `serving_default` and any further ones, each for every batch size.

    Args:
        answer: function of string tensors `[batch]` → {name: tensor `[batch]`}, in TensorFlow alone. It is traced
            without AutoGraph, so it must branch on tensors by `tf.cond`.
        parts: the objects with weights or tables that `answer` uses.
        inputs: names of the arguments of `answer`.
        path: folder to write. An export that is there is replaced when the new one is whole.
        about: {name: value} to keep beside the model.
        weights: how the models among the parts are stored, "float32", "float16" or "int8"; see `kseq.quantization`.
            With the last two, no `tf.function` that the answers call may have been called before.
        signatures: {name: function like `answer`} of the further signatures.

    Raises:
        UserError: as of `check_replaceable` and of `kseq.quantization.smaller`.
        OSError: the folder cannot be written, for want of room, say.
    """
    import keras
    import tensorflow as tf

    from kseq.quantization import Dequantized, smaller

    check_replaceable(path)
    archive = keras.export.ExportArchive()
    models = [part for part in parts if isinstance(part, keras.Model)]
    for part in parts:
        if part not in models:
            archive.track(part)
    signature = [tf.TensorSpec([None], tf.string, name=name) for name in inputs]
    with Dequantized(smaller(models, weights)) as scope, replacing(path) as draft:
        for name, function in {"serving_default": answer, **signatures}.items():
            archive.add_endpoint(name, tf.function(function, input_signature=signature, autograph=False))
        # `track` of a model would store its variables twice, as Keras' and as TensorFlow's.
        archive.add_variable_collection("weights", scope.variables(models))
        try:
            archive.write_out(str(draft), verbose=False)
        except tf.errors.OpError as error:
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            reason = "no space left on the device" if full else error.message.splitlines()[0]
            raise OSError(errno.ENOSPC if full else errno.EIO, reason, str(path)) from None
        write_json(draft / ABOUT, {"inputs": list(inputs), **(about or {}), "files": [*files_of(draft), ABOUT]})


def check_replaceable(path, about=ABOUT):
    """Whether an export may take the place of what is at `path`; `about` is the file that names the others.

    Raises:
        UserError: there is a file, or a folder with something that no export has written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; an export is a folder")
    if not path.exists() or not any(path.iterdir()):
        return
    foreign = foreign_files(path, about)
    if foreign:
        raise UserError(f"{path / foreign[0]} was written by no export, which replaces the whole folder; move it away")


def foreign_files(path, about=ABOUT):
    """The names of the files in a folder that no export has written."""
    known = read_json(path / about).get("files", []) if (path / about).exists() else []
    return [name for name in files_of(path) if name not in known]


def files_of(folder):
    """The names of all files in and below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if not path.is_dir())
