"""Examples of texts from generated data, parallel files, tables, JSON Lines or TensorFlow Datasets."""

import functools
import hashlib
import itertools
import json
import os

from kseq.data import tables, toy
from kseq.data.phrases import PHRASES, SPLITS, phrases
from kseq.data.public import of_split
from kseq.data.tfds import read_tfds, value_at
from kseq.errors import UserError

TOYS = ("numbers", *PHRASES)
FORMS = (
    f"{', '.join(f'toy:{name}' for name in TOYS)}, text:<files>, tsv:<file>, csv:<file>, labelled:<file>, "
    "jsonl:<file> or tfds:<name>"
)
FILES = ("text", "tsv", "csv", "labelled", "jsonl")  # the kinds of sources that are files
TOY_COUNT = {"train": 20_000, "dev": 1_000, "test": 1_000}


class Examples:
    """Pairs (place, {role: text}) that are read again at each iteration, so that none of them stays in memory.

    Args:
        rows: function that returns a new iterator over the pairs.
    """

    def __init__(self, rows):
        self._rows = rows

    def __iter__(self):
        return self._rows()

    def first(self, count):
        """The first `count` examples; 0 keeps all."""
        return Examples(lambda: itertools.islice(self, count or None))

    def hold_out(self, shares, seed, by=()):
        """Takes shares of the examples for other splits, chosen by a hash of their texts and the seed.

        Examples that share a text always land in the same split, whatever their labels. With several roles, examples
        are linked if they have any text in common, in any role, and linked examples stay together; this reads the
        source once more and keeps a hash of each text in memory. With one role or none, nothing is kept in memory,
        and adding examples to the source does not move the others to another split.

        Args:
            shares: {split: approximate share of the examples}, such as {"dev": 0.1, "test": 0.1}.
            seed: int.
            by: the roles whose texts are compared, such as ("premise", "hypothesis"). If empty, only examples that are
                equal in every role stay together.

        Returns:
            (the remaining `Examples`, {split: the `Examples` held out for it}).

        Raises:
            UserError: a share is not between 0 and 1, or nothing would stay.
        """
        split_of = splitter(shares, seed)
        group_of = _linked(self, by) if len(by) > 1 else lambda example: _group(example, by)

        def part(wanted):
            return Examples(lambda: (pair for pair in self if split_of(group_of(pair[1])) == wanted))

        return part(None), {split: part(split) for split in shares}


def splitter(shares, seed):
    """A function that maps what a group has in common, any JSON value, to the split it is held out for, or to None.

    Args:
        shares: as in `Examples.hold_out`.
        seed: int.

    Raises:
        UserError: a share is not between 0 and 1, or nothing would stay.
    """
    for split, share in shares.items():
        if not 0 < share < 1:
            raise UserError(f"the share held out for {split} must be between 0 and 1, got {share}")
    if sum(shares.values()) >= 1:
        raise UserError(f"the shares held out for {' and '.join(shares)} must leave something of train, got {shares}")

    def split_of(group):
        draw = _hash(json.dumps([seed, group], sort_keys=True)) / 2**64
        for split, share in shares.items():
            if draw < share:
                return split
            draw -= share
        return None

    return split_of


def _hash(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _group(example, by):
    return " ".join(example[by[0]].casefold().split()) if by else example


def _linked(examples, by):
    """A function that maps an example to the smallest hash among the texts it is linked with, directly or not."""

    @functools.cache
    def parents():
        found = {}
        for _, example in examples:
            least, *others = sorted({_root(found, _hash(_group(example, [role]))) for role in by})
            for other in others:
                found[other] = least
        return found

    return lambda example: _root(parents(), _hash(_group(example, by)))


def _root(parents, text):
    """The root of a text in a union-find forest; paths are halved on the way."""
    while (parent := parents.setdefault(text, text)) != text:
        parents[text] = parents[parent]
        text = parent
    return text


def require_splits(source, fields, splits):
    """Raises an error if a source gives the same examples for two splits.

    Args:
        source: as in `read`.
        fields: as in `read`.
        splits: {config key: name of the split} for each split that is read from the source rather than held out.

    Raises:
        UserError: two splits have the same name, one TFDS split is a slice of another, or neither the name of the file
            nor a field tells the splits apart.
    """
    keys = {}
    for key, split in splits.items():
        if split in keys:
            raise UserError(
                f"{keys[split]} and {key} are both {split!r}: the same examples; name another split, or hold a share "
                "out of train with data.holdout"
            )
        keys[split] = key
    kind, _, name = source.partition(":")
    for split, key in keys.items() if kind == "tfds" else ():
        whole = split.partition("[")[0]
        if whole != split and whole in keys:
            raise UserError(
                f"{key} = {split!r} is a part of {keys[whole]} = {whole!r}: the same examples; give each a slice of "
                "its own, as train[10%:] and train[:10%]"
            )
    if len(splits) > 1 and kind not in ("toy", "tfds", "mat") and "{split}" not in name and not fields.get("split"):
        raise UserError(
            f"data.source {source!r} gives the same examples for {' and '.join(splits)}. Put {{split}} where the "
            "file's name has the split, or hold a share out of train with data.holdout, or name the field that has "
            "the split of an example with data.fields.split"
        )


def read(source, split, fields, *, columns=(), quotes=False, bad_bytes="stop"):
    """The examples of one split.

    Args:
        source: the kind and place of the data. Files may be compressed (`.gz`) and larger than memory; `{split}` in a
            file's name is replaced by the split.

            - `toy:numbers`: numbers in words, from `toy.numbers`.
            - `toy:<name>`: generated phrases, one of `PHRASES`.
            - `text:data/{split}.{field}.gz`: parallel files, one for each field, aligned line by line; `{field}` is
              replaced by the field.
            - `tsv:<file>`, `csv:<file>`: a table whose columns are named by its first line or by `columns`.
            - `labelled:<file>`: the first word of each line is its `label`, the rest its `text`.
            - `jsonl:<file>`: one JSON object a line.
            - `tfds:<name>`: TensorFlow Datasets; classes are given by name.
        split: name of the split.
        fields: {role: field}, from the task's name of a text to the column, key or feature that holds it; "a/b" is `b`
            inside `a`. The role "split" names a field that holds each example's split.
        columns: names of a table's columns, if its first line does not give them.
        quotes: for tsv, whether fields may be quoted, as they always may in csv.
        bad_bytes: how lines that are not UTF-8 are read: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        `Examples`. Numbers and booleans are written as in JSON, and the texts of a list are joined with spaces.
        Iterating raises `UserError` for a malformed line, naming file and line.

    Raises:
        UserError: the kind of source is unknown.
    """
    kind, _, name = source.partition(":")
    path = name.replace("{split}", split)
    names = list(fields.values())
    rows = {
        "text": lambda: _parallel(source, path, names, bad_bytes),
        "tsv": lambda: (
            tables.read_csv(path, columns, separator="\t", bad_bytes=bad_bytes)
            if quotes
            else tables.read_tsv(path, columns, bad_bytes=bad_bytes)
        ),
        "csv": lambda: tables.read_csv(path, columns, bad_bytes=bad_bytes),
        "labelled": lambda: tables.read_labelled(path, bad_bytes=bad_bytes),
        "jsonl": lambda: tables.read_jsonl(path, bad_bytes=bad_bytes),
        "tfds": lambda: read_tfds(name, split, names),
        "toy": lambda: _toy(source, name, split),
    }.get(kind)
    if rows is None or not name or (kind == "toy" and name not in TOYS):
        raise UserError(f"data.source {source!r} is not one of {FORMS}")
    return Examples(lambda: _examples(of_split(rows(), source, split), source, split, fields))


def source_files(source, split, fields):
    """The files that a split is read from, list of paths; none where the source is no files, or one is not there.

    Args:
        source: as in `read`.
        split: as in `read`.
        fields: as in `read`.
    """
    kind, _, name = source.partition(":")
    path = name.replace("{split}", split)
    paths = list(dict.fromkeys(path.replace("{field}", field) for field in fields.values()))
    return paths if kind in FILES and all(map(os.path.isfile, paths)) else []


def _toy(source, name, split):
    if split not in SPLITS:
        raise UserError(f"{source}: there is no split {split!r}; it has {', '.join(SPLITS)}")
    if name in PHRASES:
        return phrases(name, split)
    return ((f"{source} {row['id']}", row) for row in toy.numbers(split, TOY_COUNT[split]))


def _parallel(source, path, names, bad_bytes):
    if "{field}" not in path and len(names) > 1:
        raise UserError(f"data.source {source!r} must hold {{field}}, which stands for {' and '.join(names)} in turn")
    return tables.read_parallel({name: path.replace("{field}", name) for name in names}, bad_bytes=bad_bytes)


def _examples(rows, source, split, fields):
    empty, blank = True, {role: path for role, path in fields.items() if role != "split"}
    for where, row in rows:
        example = {role: _text(value_at(row, path, where, role), path, where) for role, path in fields.items()}
        if example.pop("split", split) == split:
            empty = False
            if blank:
                blank = {role: path for role, path in blank.items() if not example[role].strip()}
            yield where, example
    if empty:
        raise UserError(f"{source}: split {split!r} has no examples")
    if blank:
        raise UserError(f"{source}: all texts of {' and '.join(blank.values())} in split {split!r} are empty")


def _text(value, path, where):
    if hasattr(value, "tolist"):  # TFDS gives NumPy's numbers and arrays
        value = value.tolist()
    if isinstance(value, list) and value and all(isinstance(text, str | bytes) for text in value):
        return " ".join(_text(text, path, where) for text in value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        # JSON can write halves of characters (\ud800), which no UTF-8 has.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UserError(f"{where}: {path!r} is not a text, a number or a list of texts, but {str(value)[:40]}")
