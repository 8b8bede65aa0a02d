"""How a beam chooses at each step: freely, or so that words and phrases that are required get said."""

import tensorflow as tf

from kseq.samplers.hypotheses import NEVER


class Free:
    """The likeliest continuations, whatever they say.

    What it answers at each step, `Required` answers as well: a prefix may carry something from choice to choice, here
    nothing.

    Args:
        width: prefixes that the beam keeps of each row.
        end: id of the token that closes a sequence.
    """

    def __init__(self, width, end):
        self.width = width
        self.end = end

    def start(self):
        """What the prefixes carry before the first step."""
        return ()

    def choose(self, total, met):
        """Of all continuations the best.

        Args:
            total: `[batch, width, vocabulary]`, the log-probability of each.
            met: what the prefixes carry.

        Returns:
            (whether it ends here, log-probability, prefix continued), each `[batch, n]`, of those that may end; then
            (log-probability, prefix continued, token), each `[batch, width]`, of the best that do not end, in order;
            and what these carry.
        """
        vocabulary = total.shape[-1]
        flat = tf.reshape(total, [-1, self.width * vocabulary])
        best, index = tf.math.top_k(flat, min(2 * self.width, self.width * vocabulary))
        parent, token = index // vocabulary, index % vocabulary
        ended = token == self.end
        # Only the first `width` candidates may end; that makes width 1 the greedy search.
        ending = ended & (tf.range(best.shape[-1]) < self.width) & (best > NEVER / 2)
        log_probs, kept = tf.math.top_k(tf.where(ended, NEVER, best), self.width)
        return (ending, best, parent), (log_probs, *(tf.gather(x, kept, batch_dims=1) for x in (parent, token))), met

    def behind(self, log_probs, met):
        """How far behind the finished ones a prefix stands that has not ended: `[batch, width]`."""
        return tf.fill(tf.shape(log_probs), NEVER / 2)


class Required:
    """How a beam chooses when phrases are required: the grid beam search of Hokamp and Liu (2017,
    https://arxiv.org/abs/1704.07138), in a beam of one width, which Post and Vilar (2018,
    https://arxiv.org/abs/1804.06609) divide anew at each step.

    A prefix belongs to the bank of as many words as it has met: the words of all phrases that it contains, and of the
    phrase that it is furthest in. A phrase that is broken off falls back to what the last words still begin of it; what
    is met stays met. Candidates are, of each prefix, its width + 1 likeliest words and the next word of each phrase
    that it lacks, so that it can always get one bank further. The slots go round the banks, from the highest down, each
    time to the likeliest candidate that is left there. Only a prefix with all phrases may end.

    A phrase may share its words with another, and the same phrase twice is said once.

    Args:
        phrases: int `[batch, phrases, length]`, padded with 0; all that are only 0 are met from the start.
        width: prefixes that the beam keeps of each row.
        end: id of the token that closes a sequence.

    Raises:
        ValueError: phrases has not three dimensions.
    """

    def __init__(self, phrases, width, end):
        phrases = tf.cast(phrases, tf.int32)
        if len(phrases.shape) != 3:
            raise ValueError(f"required must be [batch, phrases, length], got the shape {tuple(phrases.shape)}")
        self.width = width
        self.end = end
        self.lengths = tf.math.count_nonzero(phrases, axis=-1, keepdims=True, dtype=tf.int32)  # [batch, phrases, 1]
        # One 0 more, which is the next word of a phrase that is met.
        self.words = tf.pad(phrases, [[0, 0], [0, 0], [0, 1]])
        self.borders = self._borders()

    def start(self):
        """The words met of each phrase before the first step: `[batch, phrases, width]`."""
        return tf.repeat(tf.zeros_like(self.lengths), self.width, axis=2)

    def choose(self, total, met):
        """As of `Free`; what the prefixes carry is `met`, the words met of each phrase, `[batch, phrases, width]`."""
        early = ~self._complete(met)[:, :, None] & (tf.range(total.shape[-1]) == self.end)
        best, parent, token, after = self._candidates(tf.where(early, NEVER, total), met)
        possible, bank = best > NEVER / 2, self._bank(after)

        taken = self._allot(possible, bank)
        ended, *ends = (tf.gather(x, taken, batch_dims=1) for x in (possible & (token == self.end), best, parent))

        going = possible & (token != self.end)
        taken = self._allot(going, bank)
        log_probs, kept = tf.math.top_k(tf.gather(tf.where(going, best, NEVER), taken, batch_dims=1), self.width)
        taken = tf.gather(taken, kept, batch_dims=1)
        parent, token = (tf.gather(x, taken, batch_dims=1) for x in (parent, token))
        after = tf.ensure_shape(tf.gather(after, taken, axis=2, batch_dims=1), met.shape)
        return (ended, *ends), (log_probs, parent, token), after

    def behind(self, log_probs, met):
        """As of `Free`, and further behind when a phrase is lacking."""
        return tf.where(self._complete(met), NEVER / 2, 0.75 * NEVER)

    def _complete(self, met):
        """The prefixes that contain all phrases: bool `[batch, width]`."""
        return tf.reduce_all(met == self.lengths, axis=1)

    def _candidates(self, total, met):
        """Log-probability, prefix continued and token, each `[batch, n]`, the likeliest first, and the words that are
        then met of each phrase, `[batch, phrases, n]`.
        """
        _, likely = tf.math.top_k(total, min(self.width + 1, total.shape[-1]))
        following = tf.transpose(tf.gather(self.words, met, batch_dims=2), [0, 2, 1])
        # A phrase that is met asks for nothing: the likeliest token stands in, and goes as it is there twice.
        token = tf.concat([likely, tf.where(following > 0, following, likely[:, :, :1])], axis=2)
        places = tf.range(tf.shape(token)[2])
        twice = (token[:, :, :, None] == token[:, :, None, :]) & (places[:, None] > places)
        best = tf.where(tf.reduce_any(twice, axis=-1), NEVER, tf.gather(total, token, batch_dims=2))
        parent = tf.broadcast_to(tf.range(self.width)[:, None], tf.shape(token))
        after = self._after(met, token)

        batch, phrases = tf.shape(after)[0], tf.shape(after)[1]
        best, parent, token = (tf.reshape(x, [batch, -1]) for x in (best, parent, token))
        order = tf.argsort(best, direction="DESCENDING", stable=True)
        best, parent, token = (tf.gather(x, order, batch_dims=1) for x in (best, parent, token))
        return best, parent, token, tf.gather(tf.reshape(after, [batch, phrases, -1]), order, axis=2, batch_dims=1)

    def _after(self, met, token):
        """The words met of each phrase when a token is said: `[batch, phrases, width, n]` from `[batch, width, n]`."""
        borders = tf.gather(self.borders, met, batch_dims=2)[:, :, :, None, :]
        extends = borders & (self.words[:, :, None, None, :] == token[:, None, :, :, None])
        longest = tf.reduce_max(tf.where(extends, tf.range(tf.shape(extends)[-1]) + 1, 0), axis=-1)
        return tf.where((met == self.lengths)[..., None], met[..., None], longest)

    def _borders(self):
        """Whether the first k words of a phrase are the last k of its first n: bool `[batch, phrases, n, k]`."""
        size = tf.shape(self.words)[2]
        n, k, i = tf.range(size)[:, None, None], tf.range(size)[:, None], tf.range(size)
        shifted = tf.gather(self.words, tf.clip_by_value(n - k + i, 0, size - 1), axis=2)
        same = (shifted == self.words[:, :, None, None, :]) | (i >= k)
        return tf.reduce_all(same, axis=-1) & (k <= n)[..., 0]

    def _bank(self, met):
        """The words met, `[batch, n]`, from `[batch, phrases, n]`."""
        complete = met == self.lengths
        # Of several begun phrases one counts. Were they added up, to go on with one, which breaks off the others, could
        # lead to a lower bank, and a narrow beam would never go on.
        partial = tf.reduce_max(tf.where(complete, 0, met), axis=1)
        # Of no phrases at all the maximum is the least integer.
        return tf.reduce_sum(tf.where(complete, met, 0), axis=1) + tf.maximum(partial, 0)

    def _allot(self, possible, bank):
        """The candidates that get the slots, `[batch, width]`, of those that are possible, sorted as they are."""
        shape = tf.shape(self.words)
        banks = shape[1] * shape[2] + 1
        in_bank = tf.one_hot(tf.where(possible, bank, -1), banks, dtype=tf.int32)
        turn = tf.reduce_sum(in_bank * tf.cumsum(in_bank, axis=1, exclusive=True), axis=-1)
        order = tf.where(possible, turn * banks - bank, tf.int32.max)
        return tf.math.top_k(-order, self.width).indices
