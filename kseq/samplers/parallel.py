"""Lines that answer a line: as long as it, and parallel to it."""

import tensorflow as tf

from kseq.samplers.hypotheses import Configured, check_whole

CLASSES = "one number of at least 0 for each token of the vocabulary, 0 where it has none"


class Parallel(Configured):
    """The rules of the Chinese couplet (對聯): what a line shares with the one above it, and where it must differ.

    A line x of length n is answered by a line y of the same vocabulary. Always, y has n tokens, and then ends. Beside
    that, in the order of their weight:

        y_i = y_j where x_i = x_j, and y_i ≠ y_j elsewhere    with `mirror`
        y_i ≠ x_i                                             with `distinct`
        tone(y_i) = 3 − tone(x_i), i one of `opposed`         where x_i has a tone, 1 or 2
        rhyme(y_n) = rhyme(x_n)                               with `rhymes`, where x_n has one

    A rule that would leave no token of those before it is not applied at that step: the line has its length in any
    case. With `mirror`, tokens that come again at a place of `opposed` are opposed where they come first.

    Args:
        mirror: whether tokens are repeated exactly where those of the line above are.
        distinct: whether no token stands where it stands in the line above.
        opposed: places, from 1 on, at which the tones are opposed.
        tones: tone of each token: 1 or 2, and 0 for none.
        rhymes: rhyme of each token: any number above 0, and 0 for none; None asks for no rhyme.
        unknown: id of the out-of-vocabulary token, which stands for many and repeats none; None where there is none.

    Raises:
        ValueError: a number is out of range, or `opposed` is given without `tones`.
    """

    def __init__(self, *, mirror=False, distinct=False, opposed=(), tones=None, rhymes=None, unknown=None):
        self.mirror = bool(mirror)
        self.distinct = bool(distinct)
        self.opposed = [check_whole("opposed", place) for place in opposed]
        self.tones = _classes("tones", tones)
        self.rhymes = _classes("rhymes", rhymes)
        self.unknown = None if unknown is None else check_whole("unknown", unknown)
        if 0 in self.opposed:
            raise ValueError("opposed must be places from 1 on, got 0")
        if self.opposed and tones is None:
            raise ValueError(f"opposed={self.opposed} needs tones, {CLASSES}")
        if any(tone > 2 for tone in self.tones or ()):
            raise ValueError(f"tones must be 0, 1 or 2, got {max(self.tones)}")

    def narrow(self, banned, above, written, count, end):
        """The tokens that may not be written next: bool `[batch, vocabulary]`.

        Args:
            banned: bool `[batch, vocabulary]` or `[1, vocabulary]`, those that other rules ban.
            above: int `[batch, source]`, the line above, padded with 0.
            written: int `[batch, time]`, the tokens so far.
            count: int `[batch]`, how many they are.
            end: id of the token that closes a line.
        """
        size = banned.shape[-1]
        here = tf.range(tf.shape(above)[1]) == count[:, None]  # [batch, source]
        x = tf.reduce_sum(tf.where(here, above, 0), axis=1)  # 0 behind the line
        same = (above == x[:, None]) & (above != 0)  # where the token of this place stands in the line above
        if self.unknown is not None:
            same &= here | (x != self.unknown)[:, None]
        inside = (count < tf.math.count_nonzero(above, axis=1, dtype=tf.int32))[:, None]
        ends = tf.range(size)[None] == end
        banned = tf.where(inside, banned | ends, ~ends)
        for rule in self._rules(size, x, above, same, written, count):
            stricter = banned | (rule & inside)
            banned = tf.where(tf.reduce_all(stricter, axis=1, keepdims=True), banned, stricter)
        return banned

    def _rules(self, size, x, above, same, written, count):
        """What each rule bans at this step, bool `[batch, vocabulary]`, the weightiest rule first."""
        if self.mirror:
            before = written[:, : tf.shape(above)[1]]
            before = tf.pad(before, [[0, 0], [0, tf.shape(above)[1] - tf.shape(before)[1]]])
            past = tf.range(tf.shape(above)[1]) < count[:, None]
            again = tf.reduce_max(tf.where(same & past, before, 0), axis=1)[
                :, None
            ]  # the answer to x so far, 0 if none
            others = _among(tf.where(past & ~same, before, -1), size)
            yield tf.where(again > 0, tf.range(size) != again, others)
        if self.distinct:
            yield tf.range(size) == x[:, None]
        if self.opposed:
            places = tf.reduce_any(tf.range(1, tf.shape(above)[1] + 1)[:, None] == self.opposed, axis=1)
            due = same & places & (self.mirror | (tf.range(tf.shape(above)[1]) == count[:, None]))
            tone = tf.gather(self.tones, x)[:, None]
            yield tf.reduce_any(due, axis=1, keepdims=True) & (tone > 0) & (tf.constant(self.tones) != 3 - tone)
        if self.rhymes is not None:
            last = tf.math.count_nonzero(above, axis=1, dtype=tf.int32) - 1
            rhyme = tf.gather(self.rhymes, x)[:, None]
            yield (count == last)[:, None] & (rhyme > 0) & (tf.constant(self.rhymes) != rhyme)


def _among(ids, size):
    """Which tokens are among the ids, −1 being none: bool `[batch, size]` from int `[batch, n]`."""
    return tf.reduce_any(tf.one_hot(ids, size, on_value=True, off_value=False), axis=1)


def _classes(name, values):
    """A list of whole numbers, or None."""
    return None if values is None else [check_whole(name, int(value)) for value in values]
