"""Corpora that are larger than memory: encoded once, shard by shard, and memory-mapped from then on."""

import contextlib
import functools
import itertools
import json
from collections import Counter
from operator import itemgetter

import numpy as np

from kseq.data.cache import (
    code_fingerprint,
    damage_of,
    entry_path,
    is_whole,
    read_columns,
    write_columns,
    write_entry,
)
from kseq.data.corpus import Sequences, Shards, joined, plain
from kseq.data.processes import in_processes
from kseq.files import write_json

SIZE = 2**18  # examples of a shard, with those that are left out; a process has one open file for each that it maps
BATCH = 4096  # texts that are encoded at once: with fewer, calling TensorFlow takes longer than the work
COMPLETE = "shards.json"  # how many shards there are; written when all are


def cached_shards(folder, key, examples, encode, *, processes=1, worker=None):
    """The columns of a corpus, memory-mapped from the cache, where they are encoded shard by shard.

    Each shard is an entry of the cache with checksums of its own. After a kill, encoding goes on behind the shards that
    are whole; a shard that is damaged is told of, and it alone is made again. What is in memory does not depend on the
    size of the corpus: the ids of one shard, and the texts of a few batches. The shards do not depend on the number of
    processes.

    Args:
        folder: of the cache.
        key: list of strings that say all that the columns depend on.
        examples: iterable that can be walked more than once; it is walked only where a shard is missing.
        encode: function of a list of examples → (columns as of `kseq.data.encoded`, {what is counted: number}).
        processes: how many encode; this one alone where it is 1.
        worker: function without arguments → `encode`, which another process can call; for `processes` above 1.

    Returns:
        {name: `Sequences`, `Shards` or array} and the sums of what is counted, `Counter`. Arrays are in memory where
        there is more than one shard.

    Raises:
        UserError: a process has ended; or what `examples` and `encode` raise.
    """
    path = entry_path(folder, ["shards", str(SIZE), code_fingerprint("data", "preprocessors", "tasks"), *key])
    shards = _shards(path)
    if shards is None or any(map(damage_of, shards)):
        shards = []
        here, elsewhere = functools.partial(_plain, encode), functools.partial(_plain_worker, worker)
        with contextlib.closing(in_processes(_missing(path, examples, shards), here, processes, elsewhere)) as encoded:
            for shard, parts in itertools.groupby(encoded, itemgetter(0)):
                _write(shard, folder, [part for _, part in parts])
        write_json(path / COMPLETE, {"shards": len(shards)})
    found = [read_columns(shard) for shard in shards]
    return _behind([columns for columns, _ in found]), sum((Counter(counts) for _, counts in found), Counter())


def _write(shard, folder, parts):
    """Makes the entry of a shard, from its parts (columns, counts)."""
    columns, counts = zip(*parts, strict=True)
    write_entry(shard, folder, lambda draft: write_columns(draft, joined(columns), sum(counts, Counter())))


def _numbered(path):
    """The folders of the shards of a corpus, without end."""
    return (path / f"{number:06d}" for number in itertools.count())


def _shards(path):
    """The folders of all shards of a corpus; None where it has not been encoded to its end, or not all are there."""
    shards = list(itertools.takewhile(lambda shard: shard.exists(), _numbered(path)))
    try:
        complete = json.loads((path / COMPLETE).read_text(encoding="utf-8")) == {"shards": len(shards)}
    except (OSError, ValueError):
        return None
    return shards if complete else None


def _missing(path, examples, shards):
    """Yields (folder of the shard, list of at most `BATCH` examples) for the shards that are not there or damaged.

    The folder of each shard is added to the list `shards`. They are not looked for on disk: while another process
    replaces one, it may not be there.
    """
    examples = iter(examples)
    for shard in _numbered(path):
        part = itertools.islice(examples, SIZE)
        whole = is_whole(shard)
        some = list(itertools.islice(part, BATCH))
        if not some:
            return
        shards.append(shard)
        while some:
            if not whole:
                yield shard, some
            some = list(itertools.islice(part, BATCH))


def _plain(encode, some):
    """What `encode` returns for some examples, in NumPy's arrays and Python's numbers."""
    columns, counts = encode(some)
    return plain(columns), Counter({name: int(count) for name, count in counts.items()})


def _plain_worker(worker):
    """`_plain` of the `encode` that `worker` makes, in its process."""
    return functools.partial(_plain, worker())


def _behind(parts):
    """The columns of the shards of a corpus, one behind the other."""
    if len(parts) < 2:
        return parts[0] if parts else {}
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: Shards(found) if isinstance(found[0], Sequences) else np.concatenate(found)
        for name, found in columns.items()
    }
