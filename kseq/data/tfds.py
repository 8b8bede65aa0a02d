"""TensorFlow Datasets, read row by row in any order, whether they are ArrayRecord or TFRecord files."""

import difflib

import numpy as np

from kseq.errors import UserError

_REASON = 300  # most characters of what TFDS says, which may be a list of all datasets


def open_tfds(name, split, decoders=None):
    """A split that reads one row at a time, and what the dataset says of itself.

    A dataset that is not in TFDS' data folder (`TFDS_DATA_DIR`, or ~/tensorflow_datasets) is prepared there first.

    Args:
        name: of the dataset, with its config where it has some: "glue/mrpc".
        split: as TFDS writes them: "train", "train[:10%]".
        decoders: {feature: decoder}, as `as_data_source` takes them.

    Returns:
        (rows, `tfds.core.DatasetInfo`).

    Raises:
        UserError: there is no such dataset, config or split, or it cannot be prepared.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        if not builder.is_prepared():
            builder = tfds.builder(name, file_format="array_record")  # the format with random access
            builder.download_and_prepare()
        try:
            return builder.as_data_source(split=split, decoders=decoders), builder.info
        except NotImplementedError:  # it was prepared in a format without random access
            return TFRecordRows(builder.info, split, decoders), builder.info
    except tfds.core.DatasetNotFoundError:
        known = difflib.get_close_matches(name.partition("/")[0], tfds.list_builders(), 3)
        hint = f"; did you mean {' or '.join(known)}?" if known else "; `tfds.list_builders()` names all that there are"
        raise UserError(f"tfds:{name}: there is no such dataset{hint}") from None
    except UserError:
        raise
    except Exception as error:  # TFDS raises many kinds; each one means that the data cannot be had as asked.
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= _REASON else f"{reason[:_REASON]} …"
        raise UserError(f"tfds:{name}, split {split!r}: {type(error).__name__}: {reason}{_near(name)}") from None


def _near(name):
    """The configs that are spelled like the one asked for, as the end of a message."""
    import tensorflow_datasets as tfds

    dataset, _, config = name.partition("/")
    try:
        known = [known.name for known in tfds.builder_cls(dataset).BUILDER_CONFIGS]
    except Exception:  # one of the user's own, which is read from its files
        return ""
    near = difflib.get_close_matches(config, known, 3) if config and config not in known else []
    return f"; did you mean {' or '.join(f'{dataset}/{one}' for one in near)}?" if near else ""


class TFRecordRows:
    """Random access to a split that was prepared as TFRecord, TFDS' default.

    A record is its length (8 bytes), a checksum of that (4), its bytes, and a checksum of those (4). Where each one
    begins is found once, by the lengths alone.

    Args:
        info: `tfds.core.DatasetInfo`.
        split: as TFDS writes them.
        decoders: {feature: decoder}.

    Raises:
        UserError: the dataset has another format, or a file is shorter than its records.
    """

    def __init__(self, info, split, decoders=None):
        if info.file_format.value != "tfrecord":
            raise UserError(
                f"tfds:{info.full_name} is prepared as {info.file_format.value}; prepare it as array_record"
            )
        self._features, self._decoders = info.features, decoders
        instructions = info.splits[split].file_instructions
        self._files = [instruction.filename for instruction in instructions]
        found = [_offsets(instruction) for instruction in instructions]
        self._offsets = np.concatenate([np.zeros(0, np.int64), *found])
        self._file_of = np.repeat(np.arange(len(found)), [len(offsets) for offsets in found])

    def __len__(self):
        return len(self._offsets)

    def __getitem__(self, i):
        with open(self._files[self._file_of[i]], "rb") as file:
            file.seek(self._offsets[i])
            length = int.from_bytes(file.read(8), "little")
            file.seek(4, 1)
            return self._features.deserialize_example_np(file.read(length), decoders=self._decoders)


def _offsets(instruction):
    """int64 `[records]`: where the records begin that are read of one file."""
    found, at = [], 0
    with open(instruction.filename, "rb") as file:
        for _ in range(instruction.skip + instruction.take):
            file.seek(at)
            length = file.read(8)
            if len(length) < 8:
                raise UserError(f"{instruction.filename} is cut off after {len(found)} records; prepare it anew")
            found.append(at)
            at += 16 + int.from_bytes(length, "little")
    return np.array(found[instruction.skip :], np.int64)


def read_tfds(name, split, paths):
    """Yields ("tfds:name split[i]", row) for each row of a split; classes are their names.

    A row that has the number −1 for its class has none and is passed over: the pairs of SNLI that people did not agree
    on.

    Args:
        name: as in `open_tfds`.
        split: as in `open_tfds`.
        paths: what is wanted of a row, as "translation/fr"; classes elsewhere stay numbers.

    Raises:
        UserError: the data cannot be had as asked.
    """
    rows, info = open_tfds(name, split)
    known = dict(info.features.items())
    wanted = {path if path in known else path.split("/")[0] for path in paths} & known.keys()
    for i in range(len(rows)):
        row = {key: _named(value, known[key]) if key in wanted else value for key, value in rows[i].items()}
        if not any(row[key] is None for key in wanted):
            yield f"tfds:{name} {split}[{i}]", row


def value_at(row, path, where, role):
    """What lies at a path of nested fields, as "captions/text".

    Raises:
        UserError: there is nothing; the message says that `data.fields.<role>` must name it.
    """
    value = row
    for key in [path] if path in row else path.split("/"):
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"{where}: there is no field {path!r}; it has {', '.join(row)}. Set data.fields.{role}")
        value = value[key]
    return value


def _named(value, feature):
    """`value` with the names of classes in place of their numbers, also in lists; None for the number −1."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(feature, tfds.features.Sequence) and isinstance(feature.feature, tfds.features.ClassLabel):
        return [feature.feature.int2str(int(i)) for i in value]
    return value
