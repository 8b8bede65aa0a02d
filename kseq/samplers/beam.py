"""Beam search over `step(tokens, states, memory)`, in one graph, for a whole batch."""

import tensorflow as tf

from kseq.samplers.hypotheses import NEVER, Hypotheses


class Beam:
    """Keeps the `width` best prefixes, and apart from them the `width` best finished hypotheses.

    At each step the `width` best continuations over all prefixes are taken; those that end are moved to the finished
    ones, where nothing is added to them any more, and the best that do not end are carried on. A row is done when
    it has `width` finished hypotheses, or when no prefix can reach the worst of those it would return. The score
    is Wu et al.'s (2016, https://arxiv.org/abs/1609.08144, equation 14):

        score = log p(sequence) / ((5 + length) / 6)^length_penalty

    Prefixes that meet `max_length` are returned only behind all finished hypotheses. With width 1 this is `Greedy`.
    The caller tiles nothing: states and memory come with one row for each sequence.

    Args:
        width: prefixes kept.
        length_penalty: 0 ranks by log-probability, larger values favour longer sequences.
        n_best: hypotheses returned, at most `width`.

    Call arguments and result: as of `Greedy`, with n = n_best.

    Raises:
        ValueError: width or n_best out of range, or a negative length penalty.
    """

    def __init__(self, width, *, length_penalty=0.0, n_best=1):
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        if not 1 <= n_best <= width:
            raise ValueError(f"n_best must be between 1 and the width, {width}, got {n_best}")
        if length_penalty < 0:
            raise ValueError(f"length_penalty must not be negative, got {length_penalty}")
        self.width = width
        self.length_penalty = length_penalty
        self.n_best = n_best

    def __call__(self, step, states, memory, *, start, end, max_length):
        width = self.width
        batch = tf.shape(states[0])[0]
        memory, states = (
            tf.nest.map_structure(lambda x: tf.repeat(x, width, axis=0), nest) for nest in (memory, list(states))
        )
        source = step(tf.fill([batch * width], start), states, memory)[2].shape[-1]

        # Prefixes: log-probability of each, and its last token. All but the first start as impossible.
        log_probs = tf.tile(tf.constant([[0.0] + [NEVER] * (width - 1)]), [batch, 1])
        tokens = tf.fill([batch, width], start)
        # Finished: score, log-probability, length, and the prefix (a slot at step length − 1) that each one ended.
        none = tf.fill([batch, width], NEVER)
        finished = (none, none, tf.zeros([batch, width], tf.int32), tf.zeros([batch, width], tf.int32))
        # History: the token of each slot at each step, the slot it came from, and where that one looked.
        history = (
            tf.TensorArray(tf.int32, max_length, element_shape=[None, width]),
            tf.TensorArray(tf.int32, max_length, element_shape=[None, width]),
            tf.TensorArray(tf.float32, max_length, element_shape=[None, width, source]),
        )

        def advance(t, tokens, log_probs, states, finished, history):
            logits, states, alignment = step(tf.reshape(tokens, [-1]), states, memory)
            each = tf.nn.log_softmax(tf.cast(logits, tf.float32))
            total = log_probs[:, :, None] + tf.reshape(each, [batch, width, logits.shape[-1]])
            # A row that is done stays as it is while others go on: a row's result is the same in any batch.
            live = ~self._done(finished[0], log_probs[:, 0], max_length)
            finished, (log_probs, parent, tokens) = self._choose(total, t + 1, end, finished, live)
            rows = tf.reshape(tf.range(batch)[:, None] * width + parent, [-1])
            states = [tf.ensure_shape(tf.gather(s, rows), s.shape) for s in states]
            alignment = tf.reshape(tf.cast(alignment, tf.float32), [batch, width, -1])
            written = zip(history, (tokens, parent, alignment), strict=True)
            return t + 1, tokens, log_probs, states, finished, tuple(a.write(t, x) for a, x in written)

        def open_rows(t, tokens, log_probs, states, finished, history):
            return ~tf.reduce_all(self._done(finished[0], log_probs[:, 0], max_length))

        loop = (tf.constant(0), tokens, log_probs, states, finished, history)
        t, _, log_probs, _, finished, history = tf.while_loop(open_rows, advance, loop, maximum_iterations=max_length)
        return self._read(t, log_probs, finished, [a.stack() for a in history], end)

    def _choose(self, total, length, end, finished, live):
        """From the log-probability of each continuation, `[batch, width, vocabulary]`: those that end join the finished
        ones in the rows that are live; of the others the best go on, as (log-probability, prefix continued, token).
        """
        vocabulary = total.shape[-1]
        flat = tf.reshape(total, [-1, self.width * vocabulary])
        best, index = tf.math.top_k(flat, min(2 * self.width, self.width * vocabulary))
        parent, token = index // vocabulary, index % vocabulary
        ended = token == end
        # Only the first `width` candidates may end; that makes width 1 the greedy search.
        ending = ended & (tf.range(best.shape[-1]) < self.width) & (best > NEVER / 2) & live[:, None]
        finished = self._merge(finished, best, ending, length, parent)
        log_probs, kept = tf.math.top_k(tf.where(ended, NEVER, best), self.width)
        parent, token = (tf.gather(x, kept, batch_dims=1) for x in (parent, token))
        return finished, (log_probs, parent, token)

    def _penalty(self, length):
        return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, self.length_penalty)

    def _merge(self, finished, log_probs, ending, length, parent):
        """The `width` best of the finished hypotheses and of those that end now."""
        scores = tf.where(ending, log_probs / self._penalty(length), NEVER)
        lengths = tf.fill(tf.shape(scores), length)
        both = [tf.concat(pair, 1) for pair in zip(finished, (scores, log_probs, lengths, parent), strict=True)]
        _, kept = tf.math.top_k(both[0], self.width)
        return tuple(tf.gather(x, kept, batch_dims=1) for x in both)

    def _done(self, scores, best, max_length):
        """Rows with a full set, or whose best prefix, at its longest, stays behind the last that is returned."""
        full = scores[:, -1] > NEVER / 2
        beaten = scores[:, self.n_best - 1] >= best / self._penalty(max_length)
        return full | beaten

    def _read(self, t, log_probs, finished, history, end):
        """The best hypotheses, their words and alignments read backwards from where each one stopped."""
        tokens, parents, alignments = history  # [max_length, batch, width], …, [max_length, batch, width, source]
        max_length = tokens.shape[0]
        scores = finished[0]
        # Unfinished prefixes stand behind all finished ones; they have no end token, and their slot is their own.
        slots = tf.broadcast_to(tf.range(self.width), tf.shape(log_probs))
        unfinished = (log_probs / self._penalty(t), log_probs, tf.fill(tf.shape(log_probs), t), slots)
        both = [tf.concat(pair, 1) for pair in zip(finished, unfinished, strict=True)]
        behind = tf.concat([tf.zeros_like(scores), tf.fill(tf.shape(scores), NEVER / 2)], 1)
        order = tf.math.top_k(both[0] + behind, self.n_best).indices
        scores, totals, lengths, slot = (tf.gather(x, order, batch_dims=1) for x in both)
        ended = order < self.width

        batch, source = tf.shape(order)[0], tf.shape(alignments)[-1]
        ids = tf.TensorArray(tf.int32, max_length, element_shape=[None, self.n_best])
        looks = tf.TensorArray(tf.float32, max_length, element_shape=[None, self.n_best, None])

        def back(k, slot, ids, looks):
            s = max_length - 1 - k
            at_end = ended & (s == lengths - 1)
            # A prefix's own last step, and every step before the end token of a finished one.
            inside = (s < lengths) & ~at_end
            clamped = tf.minimum(s, t - 1)
            came = tf.gather(parents[clamped], slot, batch_dims=1)
            token = tf.where(at_end, end, tf.where(inside, tf.gather(tokens[clamped], slot, batch_dims=1), 0))
            from_slot = tf.where(inside, came, slot)
            look = tf.gather(alignments[clamped], from_slot, batch_dims=1)
            look = tf.where((inside | at_end)[:, :, None], look, 0.0)
            return k + 1, from_slot, ids.write(s, token), looks.write(s, look)

        _, _, ids, looks = tf.while_loop(
            lambda k, *_: k < max_length,
            back,
            (tf.constant(0), slot, ids, looks),
            maximum_iterations=max_length,
        )
        ids = tf.ensure_shape(tf.transpose(ids.stack(), [1, 2, 0]), [None, self.n_best, max_length])
        looks = tf.reshape(tf.transpose(looks.stack(), [1, 2, 0, 3]), [batch, self.n_best, max_length, source])
        return Hypotheses(ids, lengths, totals, scores, looks)
