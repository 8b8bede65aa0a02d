"""What becomes of requests that nobody has checked: which are refused, and how batches of any size are answered.

All of it runs inside the exported model, in TensorFlow alone.
"""

OK = "ok"  # the status of an answer; any other is a sentence that says why there is none


def text_status(texts, most):
    """string `[batch]` → string `[batch]`: `OK`, or that a text has more than `most` characters.

    A character of UTF-8 has four bytes at most, so that bytes which are no characters count as well.
    """
    import tensorflow as tf

    texts = tf.convert_to_tensor(texts, tf.string)
    count = tf.maximum(tf.strings.length(texts, "UTF8_CHAR"), (tf.strings.length(texts) + 3) // 4)
    long = tf.strings.join(["The text has ", tf.strings.as_string(count), f" characters, and at most {most} are read"])
    return tf.where(count <= most, OK, long)


def first_status(*statuses):
    """The first status that is not `OK`, of several string `[batch]`."""
    import tensorflow as tf

    first, *others = statuses
    for other in others:
        first = tf.where(first == OK, other, first)
    return first


def without_refused(found, status):
    """{name: tensor `[batch, ...]`}, with empty strings and zeros where the status, string `[batch]`, is not `OK`."""
    import tensorflow as tf

    def kept(x):
        right = tf.reshape(status == OK, [-1] + [1] * (len(x.shape) - 1))
        return tf.where(right, x, tf.zeros([], x.dtype))

    return {name: kept(x) for name, x in found.items()} | {"status": status}


def in_parts(answer, names, size, cost=None, most=None):
    """A function that answers any number of examples by answering a few of them at a time.

    Memory is that of a part, whatever the number; none at all are answered by empty tensors.

    Args:
        answer: function of strings `[batch]`, one for each name → {name: tensor `[batch, ...]`}.
        names: of its arguments.
        size: most examples of a part.
        cost: function like `answer` → float32 `[batch]`, how long each example is. A part is padded to its longest, and
            costs that times its number of examples.
        most: cost of a part; an example that is longer is a part of its own.

    Returns:
        a function like `answer`. Where the parts differ in another dimension than the first, all are padded behind
        with zeros, or empty strings, to the longest. It raises `tf.errors.InvalidArgumentError` where it is not given
        equally many of each name.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec([None], tf.string, name=name) for name in names]
    one = tf.function(answer, input_signature=signature, autograph=False)

    def whole(*raw):
        raw = [tf.convert_to_tensor(x, tf.string) for x in raw]
        counts = [tf.size(x) for x in raw]
        told = [part for name, n in zip(names, counts, strict=True) for part in (name, n)]
        message = f"{' and '.join(names)} must be equally many; there are"
        check = tf.debugging.Assert(tf.reduce_all([n == counts[0] for n in counts]), [message, *told])
        with tf.control_dependencies([] if check is None else [check]):
            raw = [tf.identity(x) for x in raw]
        shapes = one.get_concrete_function().structured_outputs
        none = {name: tf.zeros([0, *(d or 0 for d in x.shape[1:])], x.dtype) for name, x in shapes.items()}
        costs = cost(*raw) if cost else None

        def step(at, found):
            count = _how_many(costs[at : at + size], most) if cost else size
            part = one(*(x[at : at + count] for x in raw))
            return at + count, {name: _joined(found[name], part[name], x.shape) for name, x in shapes.items()}

        invariants = {name: tf.TensorShape([None, *x.shape[1:]]) for name, x in shapes.items()}
        return tf.while_loop(
            lambda at, _: at < counts[0],
            step,
            (tf.constant(0), none),
            shape_invariants=(tf.TensorShape([]), invariants),
            parallel_iterations=1,
        )[1]

    return whole


def _how_many(costs, most):
    """How many of the first examples cost at most `most` when all cost as much as the largest; at least one.

    Args:
        costs: float32 `[examples]`, one or more.
        most: float.

    Returns:
        int32 `[]`.
    """
    import tensorflow as tf

    together = tf.scan(tf.maximum, costs) * tf.range(1, tf.size(costs) + 1, dtype=tf.float32)
    return tf.maximum(tf.math.count_nonzero(together <= most, dtype=tf.int32), 1)


def _joined(above, below, shape):
    """Two tensors `[batch, ...]` of this static shape in one, padded to the larger in all other dimensions."""
    import tensorflow as tf

    if len(shape) > 1:
        sizes = tf.stack([tf.shape(above)[1:], tf.shape(below)[1:]])
        more = tf.reduce_max(sizes, axis=0) - sizes
        above, below = (
            tf.pad(x, tf.pad(tf.stack([tf.zeros_like(by), by], axis=1), [[1, 0], [0, 0]]), constant_values=_zero(x))
            for x, by in ((above, more[0]), (below, more[1]))
        )
    return tf.ensure_shape(tf.concat([above, below], axis=0), [None, *shape[1:]])


def _zero(x):
    import tensorflow as tf

    return "" if x.dtype == tf.string else tf.zeros([], x.dtype)
