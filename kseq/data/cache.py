"""What is computed once and then read from disk: corpora as ids, vocabularies, pixels and features of pictures."""

import contextlib
import functools
import hashlib
import json
import mmap
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kseq.data.corpus import Sequences
from kseq.errors import UserError
from kseq.files import remove_drafts, replacing, sha256, write_json

CHECKSUMS = "checksums.json"  # in each entry: {file: SHA-256}
LOCK = ".lock"
INDEX, ARRAYS = "columns.json", "columns.bin"  # of an entry with columns: what there is, and all their numbers
ALIGNED = 64  # bytes: each array begins at a multiple of them
FORMAT = b"kseq columns 1\n"  # what the numbers begin with; an empty file cannot be mapped


def cached_folder(folder, key, write):
    """The folder in the cache that `write` has filled, now or in an earlier run.

    Each entry has the checksums of its files. One that is damaged is told of and made anew, and one that a killed
    process left half made is removed. Several processes may share a cache.

    Args:
        folder: of the cache.
        key: list of strings that say all that the content depends on.
        write: function of a path that does not exist yet, which makes a folder of files there.

    Returns:
        `Path` of the entry.
    """
    path = entry_path(folder, key)
    if not is_whole(path):
        write_entry(path, folder, write)
    return path


def entry_path(folder, key):
    """Where the cache in a folder keeps the entry of a key, whether it is there or not."""
    return Path(folder) / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]


def is_whole(path):
    """Whether an entry is there and as it was written; one that is damaged is told of."""
    if not path.exists():
        return False
    damage = damage_of(path)
    if damage:
        print(f"{path} is damaged ({damage}); it is made anew", flush=True)
    return not damage


def write_entry(path, folder, write):
    """Makes the entry at a path in the cache in `folder`, or below it, by `write`, as of `cached_folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _writing(folder), replacing(path) as draft:
        write(draft)
        write_json(draft / CHECKSUMS, {file.name: sha256(file) for file in draft.iterdir()})


def damage_of(path):
    """What is wrong with an entry, such as that it is not there; empty where nothing is."""
    try:
        expected = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        wrong = [name for name, checksum in expected.items() if sha256(path / name) != checksum]
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return f"{wrong[0]} is not as it was written" if wrong else ""


@contextlib.contextmanager
def _writing(folder):
    """Holds a shared lock, which dies with the process. Whoever gets it alone removes the drafts of the dead."""
    with open(folder / LOCK, "a") as lock:
        if sys.platform != "win32":  # which has no locks that die with their process
            import fcntl

            with contextlib.suppress(OSError):  # another process writes, or the file system has no locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_drafts(folder)
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@functools.cache
def code_fingerprint(*parts):
    """Hash of the source of some parts of kseq, of all where none is named, and TensorFlow's version.

    As part of a key it keeps an entry from outliving the code that made it.
    """
    root = Path(__file__).parents[1]
    files = sorted(file for part in parts or ("",) for file in (root / part).rglob("*.py"))
    return hashlib.sha256(b"".join([tf.__version__.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def fingerprint(examples):
    """Hash of an iterable of examples, of anything that JSON can hold, and of their order."""
    state = hashlib.blake2b()
    for example in examples:
        state.update(json.dumps(example).encode() + b"\n")
    return state.hexdigest()


def cached_columns(folder, key, make):
    """The columns of an encoded corpus, memory-mapped from the cache. They are made in memory; see `cached_shards`.

    Args:
        folder: of the cache.
        key: as of `cached_folder`.
        make: function → (columns as of `kseq.data.encoded`, list of sentences on what was left out), called where the
            cache does not have them.

    Returns:
        {name: `Sequences` or array}, read-only, and the sentences.
    """

    def write(path):
        columns, notes = make()
        write_columns(path, columns, notes)

    return read_columns(cached_folder(folder, ["columns", code_fingerprint(), *key], write))


def write_columns(path, columns, about):
    """Makes a folder with columns, and with what is to be known of them, which JSON can hold.

    The numbers of all arrays stand in one file, so that the map of a corpus needs one open file. Ids and splits are
    kept in the smallest type that holds them: mostly two bytes an id.
    """
    path.mkdir()
    index = {}
    with open(path / ARRAYS, "wb") as file:
        file.write(FORMAT)
        for name, column in columns.items():
            parts = {"array": column}
            if isinstance(column, Sequences):
                parts = {"ids": _narrowed(column.ids), "splits": _narrowed(column.splits)}
            index[name] = {part: _written(file, array) for part, array in parts.items()}
    write_json(path / INDEX, {"columns": index, "about": about})


def _written(file, array):
    """Where and how an array stands in the file it has been written to."""
    file.write(bytes(-file.tell() % ALIGNED))
    place = {"at": file.tell(), "dtype": array.dtype.str, "shape": array.shape}
    file.write(np.ascontiguousarray(array).data)
    return place


def _narrowed(array):
    """Integers of which none is negative in the smallest type that holds them; others as they are."""
    if not np.issubdtype(array.dtype, np.integer) or not array.size or array.min() < 0:
        return array
    return array.astype(np.min_scalar_type(array.max()), copy=False)


def read_columns(path):
    """The columns of a folder that `write_columns` has made, memory-mapped and read-only, and what is known of them."""
    about = json.loads((path / INDEX).read_text(encoding="utf-8"))
    with open(path / ARRAYS, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):  # examples are read in any order: what lies behind one is not wanted
        mapped.madvise(mmap.MADV_RANDOM)
    columns = {}
    for name, places in about["columns"].items():
        # Slices of a plain array are quicker than those of a `numpy.memmap`.
        parts = {part: np.ndarray(at["shape"], at["dtype"], mapped, at["at"]) for part, at in places.items()}
        columns[name] = parts["array"] if "array" in parts else Sequences(**parts)
    return columns, about["about"]


def cached_rows(folder, key, items, compute, *, title, batch_size=64, skip=False):
    """One row for each of `items`, memory-mapped from the cache.

    Args:
        folder: of the cache.
        key: list of strings that say what else the rows depend on.
        items: list of things with `fingerprint` and `where`.
        compute: (list of items) → array, a row each. Raises `UserError` for an item that has none.
        title: what the progress bar says.
        batch_size: how many items `compute` is given at once.
        skip: whether items without a row are left out, with a line that counts them, in place of the error.

    Returns:
        the rows, as a read-only memory map, and the list of the items they belong to.

    Raises:
        UserError: an item has no row, and `skip` is false; or none has one.
    """

    def write(path):
        path.mkdir()
        write_json(path / "skipped.json", _fill(path / "rows.npy", items, compute, title, batch_size, skip))

    key = ["rows", code_fingerprint("data", "preprocessors"), *key, *(item.fingerprint for item in items)]
    path = cached_folder(folder, key, write)
    gone = set(json.loads((path / "skipped.json").read_text()))
    if gone and not skip:
        compute([items[min(gone)]])  # raises what it raised when it was left out
    if gone:
        print(f"pictures that cannot be read, left out: {len(gone)} of {len(items)}", flush=True)
    kept = [item for i, item in enumerate(items) if i not in gone]
    return np.load(path / "rows.npy", mmap_mode="r")[: len(kept)], kept


def _fill(path, items, compute, title, batch_size, skip):
    """Writes the rows and returns the places of the items that have none."""
    gone, array, rows = [], None, 0
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
            array = np.lib.format.open_memmap(path, "w+", made.dtype, shape)
        if len(made):
            array[rows : rows + len(made)] = made
        rows += len(made)
    if not rows:
        raise UserError(f"none of {len(items)} pictures can be read; the first: {items[0].where}")
    array.flush()
    return gone


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
