"""Texts from any source: generated, parallel files, tables, JSON lines, TensorFlow Datasets."""

import functools
import hashlib
import itertools
import json

from kseq.data import tables, toy
from kseq.data.phrases import PHRASES, SPLITS, phrases
from kseq.data.tfds import read_tfds, value_at
from kseq.errors import UserError

TOYS = ("numbers", *PHRASES)
FORMS = (
    f"{', '.join(f'toy:{name}' for name in TOYS)}, text:<files>, tsv:<file>, csv:<file>, labelled:<file>, "
    "jsonl:<file> or tfds:<name>"
)
TOY_COUNT = {"train": 20_000, "dev": 1_000, "test": 1_000}


class Examples:
    """Pairs (place, {role: text}), read anew each time that they are iterated; none stays in memory.

    Args:
        rows: function that returns a new iterator over the pairs.
    """

    def __init__(self, rows):
        self._rows = rows

    def __iter__(self):
        return self._rows()

    def first(self, count):
        """At most `count` of them, or all where it is 0."""
        return Examples(lambda: itertools.islice(self, count or None))

    def hold_out(self, shares, seed, by=()):
        """Splits the examples into those that stay and those that are held out, by a hash of their texts and the seed.

        Examples that share a text are on one side, whatever their labels. With one role, or none, examples that are
        added move none of the others, and nothing is kept in memory. With several roles, every text is read once
        before the first example, and a hash of it is kept: examples are on one side where one text of one is any text
        of the other, and so on from one example to the next.

        Args:
            shares: {split: share}, about how much of the examples each split gets: {"dev": 0.1, "test": 0.1}.
            seed: int.
            by: the roles of the texts. Where there are none, only equal examples stay together.

        Returns:
            (`Examples` that stay, {split: `Examples`}).

        Raises:
            UserError: a share is not between 0 and 1, or nothing would stay.
        """
        split_of = splitter(shares, seed)
        group_of = _linked(self, by) if len(by) > 1 else lambda example: _group(example, by)

        def part(wanted):
            return Examples(lambda: (pair for pair in self if split_of(group_of(pair[1])) == wanted))

        return part(None), {split: part(split) for split in shares}


def splitter(shares, seed):
    """Function from what groups have in common, any JSON, to the split that the group is held out for, or to None.

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
    """Function from an example to the least hash of the texts that it is linked with, in one or more steps."""

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
    """The text at the end of the chain of parents; the chain is shortened on the way."""
    while (parent := parents.setdefault(text, text)) != text:
        parents[text] = parents[parent]
        text = parent
    return text


def require_splits(source, fields, splits):
    """Refuses a source that gives the same examples for two splits.

    Args:
        source: as in `read`.
        fields: as in `read`.
        splits: {config key: name of the split} of the splits that are read from the source, none of them held out.

    Raises:
        UserError: two splits have one name, or files are read of whose names and fields none says the split.
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
    if len(splits) > 1 and kind not in ("toy", "tfds") and "{split}" not in name and not fields.get("split"):
        raise UserError(
            f"data.source {source!r} gives the same examples for {' and '.join(splits)}. Put {{split}} where the "
            "file's name has the split, or hold a share out of train with data.holdout, or name the field that has "
            "the split of an example with data.fields.split"
        )


def read(source, split, fields, *, columns=(), quotes=False, bad_bytes="stop"):
    """The examples of one split.

    Args:
        source: where they are. Files may be compressed (`.gz`) and larger than memory; `{split}` in their names stands
            for the split.

            - `toy:numbers`: generated, as `toy.numbers` has them.
            - `text:data/{split}.{field}.gz`: files that hold the same line by line, one for each field, which
              `{field}` stands for.
            - `tsv:<file>`, `csv:<file>`: a table, its columns named by the first line or by `columns`.
            - `labelled:<file>`: the first word of a line is its `label`, the rest its `text`.
            - `jsonl:<file>`: an object a line.
            - `tfds:<name>`: TensorFlow Datasets; classes are their names.
            - `toy:<name>`: generated phrases, one of `PHRASES`.
        split: its name.
        fields: {role: field}: what the task calls a text, and the column, the key or the feature that holds it;
            "a/b" is `b` inside `a`. The role "split" names a field that holds the split of an example.
        columns: names of the columns of a table whose first line does not name them.
        quotes: for tsv, whether fields may stand in quotation marks, as those of csv always may.
        bad_bytes: what becomes of a line that is not UTF-8: "stop", "latin-1" or "replace" (see `read_lines`).

    Returns:
        `Examples`. Numbers, and true and false, are the words JSON has for them; a list of texts is its texts with
        spaces between. Reading them raises `UserError` where a line is not as it must be, naming file and line.

    Raises:
        UserError: there is no such kind of source.
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
    return Examples(lambda: _examples(rows(), source, split, fields))


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
