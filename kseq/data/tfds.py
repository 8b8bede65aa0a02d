"""TensorFlow Datasets with random access: prepared when they are first asked for, read row by row."""

from kseq.errors import UserError


def open_tfds(name, split, decoders=None):
    """A split that reads one row at a time, and what the dataset says of itself.

    Args:
        name: of the dataset, with its config where it has some: "glue/mrpc".
        split: as TFDS writes them: "train", "train[:10%]".
        decoders: {feature: decoder}, as `as_data_source` takes them.

    Returns:
        (rows, `tfds.core.DatasetInfo`).

    Raises:
        UserError: the data cannot be had as asked.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        if not builder.is_prepared():
            builder = tfds.builder(name, file_format="array_record")  # the format with random access
            builder.download_and_prepare()
        return builder.as_data_source(split=split, decoders=decoders), builder.info
    except Exception as error:  # TFDS raises many kinds; each one means that the data cannot be had as asked.
        raise UserError(f"tfds:{name}, split {split!r}: {type(error).__name__}: {error}") from None


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
