"""Variables in files."""

import zipfile

import numpy as np
from keras import ops

from kseq.errors import UserError
from kseq.files import replacing


def state(model):
    """All that the next step depends on: weights, the states of random generators, the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def save_variables(path, variables):
    """Writes variables to one `.npz` file, whole or not at all."""
    with replacing(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{f"{i:04d} {v.path}": ops.convert_to_numpy(v) for i, v in enumerate(variables)})


def load_variables(path, variables):
    """Reads back what `save_variables` wrote.

    Raises:
        UserError: the file is missing or holds variables of other shapes.
    """
    try:
        with open(path, "rb") as raw, np.load(raw) as file:
            values = [file[name] for name in sorted(file.files)]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}") from None
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise UserError(f"checkpoint {path} is of another model; train anew in another --workdir")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
