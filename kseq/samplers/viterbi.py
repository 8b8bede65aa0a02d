"""Viterbi decoding: the best path through a table of scores."""

import tensorflow as tf

from kseq.samplers.hypotheses import NEVER


def viterbi_decode(scores, lengths, follows, begins):
    """The sequence of tags with the highest score among those whose transitions are allowed (Viterbi, 1967,
    https://doi.org/10.1109/TIT.1967.1054010). Where no sequence is allowed, one is returned all the same.

        s_1(j) = scores_1(j) where j may begin
        s_t(j) = scores_t(j) + max s_{t−1}(i) over the i that j may follow

    Args:
        scores: float32 `[batch, time, tags]`.
        lengths: int `[batch]`, the number of steps of each row.
        follows: bool `[tags, tags]`, whether the second tag may follow the first.
        begins: bool `[tags]`, whether a sequence may begin with the tag.

    Returns:
        int32 `[batch, time]`; after the end of a row its last tag is repeated.
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
