"""Arrays that are computed once and read from disk ever after."""

import hashlib
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kseq.errors import UserError
from kseq.files import replacing, write_json


def cached_rows(folder, key, items, compute, *, title, batch_size=64, skip=False):
    """One row for each of `items`: read from `folder` where the same were computed before, else computed now.

    Args:
        folder: where the arrays are kept, each under the hash of its key.
        key: list of strings that say all that the rows depend on.
        items: list of things with `fingerprint` and `where`.
        compute: (list of items) → array, a row each. Raises `UserError` for an item that has none.
        title: what the progress bar says.
        batch_size: how many items `compute` is given at once.
        skip: whether items without a row are left out, with a line that counts them, in place of the error.

    Returns:
        the rows, as a read-only memory map, and the list of the items they belong to.
    """
    name = hashlib.sha256("\n".join([*key, *(i.fingerprint for i in items)]).encode()).hexdigest()[:20]
    path, dropped = Path(folder, f"{name}.npy"), Path(folder, f"{name}.skipped.json")
    if not path.exists():
        _fill(path, dropped, items, compute, title, batch_size, skip)
    gone = set(json.loads(dropped.read_text()))
    if gone and not skip:
        compute([items[min(gone)]])  # raises what it raised when it was left out
    if gone:
        print(f"{len(gone)} of {len(items)} pictures cannot be read and are left out", flush=True)
    kept = [item for i, item in enumerate(items) if i not in gone]
    return np.load(path, mmap_mode="r")[: len(kept)], kept


def _fill(path, dropped, items, compute, title, batch_size, skip):
    gone, array, rows = [], None, 0
    with replacing(path) as draft:
        for first in tqdm(
            range(0, len(items), batch_size), desc=title, unit_scale=batch_size, unit=" pictures", disable=None
        ):
            batch = items[first : first + batch_size]
            try:
                made = compute(batch)
            except UserError:
                made = _one_by_one(batch, first, compute, gone, skip)
            if array is None and len(made):
                shape = (len(items), *made.shape[1:])
                array = np.lib.format.open_memmap(draft, "w+", made.dtype, shape)
            if len(made):
                array[rows : rows + len(made)] = made
            rows += len(made)
        if not rows:
            raise UserError(f"none of {len(items)} pictures can be read; the first: {items[0].where}")
        array.flush()
        write_json(dropped, gone)


def _one_by_one(batch, first, compute, gone, skip):
    """The rows of those items of a batch that have one; the first that has none is an error unless `skip`."""
    made = []
    for i, item in enumerate(batch, first):
        try:
            made.append(compute([item]))
        except UserError:
            if not skip:
                raise
            gone.append(i)
    return np.concatenate(made) if made else np.empty((0,))
