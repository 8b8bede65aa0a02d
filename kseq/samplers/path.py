"""The best of all paths through a table of scores."""

import tensorflow as tf

NEVER = -1e9  # finite: where no path is allowed, one is found all the same


def best_path(scores, lengths, follows, begins):
    """The sequence of tags of the largest sum among those in which each tag may follow the one before (Viterbi, 1967,
    https://doi.org/10.1109/TIT.1967.1054010).

        s_1(j) = scores_1(j) where j may begin
        s_t(j) = scores_t(j) + max s_{t−1}(i) over the i that j may follow

    Args:
        scores: float32 `[batch, time, tags]`.
        lengths: int `[batch]`, how many of a row's steps are real.
        follows: bool `[tags, tags]`, whether the second may come after the first.
        begins: bool `[tags]`, whether it may come first.

    Returns:
        int32 `[batch, time]`; after a row's length, the last tag once more.
    """
    scores = tf.pad(scores, [[0, 0], [0, 2], [0, 0]])  # so that there is a step to begin with and one to go on to
    cost = tf.where(follows, 0.0, NEVER)
    same = tf.range(tf.shape(scores)[2])[None]
    steps = tf.transpose(scores, [1, 0, 2])  # [time, batch, tags]
    real = tf.range(tf.shape(scores)[1])[:, None, None] < tf.cast(lengths, tf.int32)[:, None]

    def forward(before, step):
        best, _ = before
        score, real = step
        through = best[:, :, None] + cost  # [batch, from, to]
        after = tf.reduce_max(through, axis=1) + score
        came = tf.argmax(through, axis=1, output_type=tf.int32)
        return tf.where(real, after, best), tf.where(real, came, same)

    start = steps[0] + tf.where(begins, 0.0, NEVER)
    nowhere = tf.zeros_like(start, tf.int32)
    best, came = tf.scan(forward, (steps[1:], real[1:]), (start, nowhere))
    last = tf.argmax(tf.concat([start[None], best], axis=0)[-1], axis=-1, output_type=tf.int32)
    rest = tf.scan(lambda tag, came: tf.gather(came, tag, batch_dims=1), came, last, reverse=True)
    return tf.transpose(rest)[:, :-1]
