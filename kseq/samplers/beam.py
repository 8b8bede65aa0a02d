"""Beam search over `step(tokens, states, memory)`, in one graph, for a whole batch."""

import tensorflow as tf

from kseq.layers.functional import check_non_negative, check_positive
from kseq.samplers.hypotheses import NEVER, Configured, Hypotheses
from kseq.samplers.required import Free, Required


class Beam(Configured):
    """Beam search: keeps the `width` best prefixes and, apart from them, the `width` best finished hypotheses.

    At each step the `width` best continuations of all prefixes are taken. Those that end move to the finished
    hypotheses and never change again; the best of those that do not end are continued. A row is done when no prefix can
    reach the score of the worst hypothesis that it would return, or when it has `width` finished hypotheses and no
    prefix would reach that score by ending with the next token: unlikely ends alone do not stop a search. The score is
    that of Wu et al. (2016, https://arxiv.org/abs/1609.08144, equations 14 and 15):

        score = log p(sequence) / ((5 + length) / 6)^length_penalty + cp
        cp = coverage_penalty Σ_i log min(Σ_j p_ij, 1)

    p_ij is the weight that step j gives to source position i; a sum of 0 counts as 1e-30. The score ranks hypotheses,
    finished or not, when they are returned. Within the search prefixes are ranked by log p: they may still attend to
    what they have not attended to yet.

    Prefixes that reach `max_length` rank behind all finished hypotheses. With width 1 this is `Greedy`. The caller
    tiles nothing: states and memory have one row for each source.

    Args:
        width: number of prefixes kept.
        length_penalty: 0 ranks by log-probability; larger values favour longer sequences.
        coverage_penalty: 0 ignores attention; larger values favour sequences that attend to the whole source.
        n_best: number of hypotheses returned, at most `width`.

    Call arguments and result: those of `Greedy`, with n = n_best, and
        required: int `[batch, phrases, length]`, padded with 0: words and phrases that every sequence must contain.
            `Required` says how they are searched for. Hypotheses that lack one at `max_length` rank behind all others.
        memory_mask: bool `[batch, source]`, the positions that cp sums over. By default those that get any weight in
            the first step: all but padding, unless attention is hard or local.

    Raises:
        ValueError: an argument is out of range, or required does not have three dimensions.
    """

    def __init__(self, width=5, *, length_penalty=0.0, coverage_penalty=0.0, n_best=1):
        self.width = check_positive("width", width)
        self.length_penalty = check_non_negative("length_penalty", length_penalty)
        self.coverage_penalty = check_non_negative("coverage_penalty", coverage_penalty)
        self.n_best = check_positive("n_best", n_best)
        if n_best > width:
            raise ValueError(f"n_best must be at most the width, {width}, got {n_best}")

    def __call__(self, step, states, memory, *, start, end, max_length, required=None, memory_mask=None):
        width = self.width
        check_positive("max_length", max_length)
        batch = tf.shape(states[0])[0]
        memory, states = (
            tf.nest.map_structure(lambda x: tf.repeat(x, width, axis=0), nest) for nest in (memory, list(states))
        )
        look = step(tf.fill([batch * width], start), states, memory)[2]
        rule = Free(width, end) if required is None else Required(required, width, end)

        def advance(t, live, tokens, log_probs, met, states, covered, finished, history):
            logits, states, alignment = step(tf.reshape(tokens, [-1]), states, memory)
            alignment = tf.cast(alignment, tf.float32)
            covered = [c + alignment for c in covered]
            each = tf.nn.log_softmax(tf.cast(logits, tf.float32))
            total = log_probs[:, :, None] + tf.reshape(each, [batch, width, logits.shape[-1]])
            ends, (log_probs, parent, tokens), met = rule.choose(total, met)
            finished = self._merge(finished, ends, live, t + 1, covered)
            # A row that is done stays as it is while others go on: a row's result is the same in any batch.
            live &= ~self._done(finished[0], log_probs[:, 0], t + 1, max_length)
            rows = tf.reshape(tf.range(batch)[:, None] * width + parent, [-1])
            states, covered = ([tf.ensure_shape(tf.gather(x, rows), x.shape) for x in xs] for xs in (states, covered))
            written = zip(
                history, (tokens, parent, tf.reshape(alignment, [batch, width, tf.shape(alignment)[-1]])), strict=True
            )
            history = tuple(array.write(t, x) for array, x in written)
            return t + 1, live, tokens, log_probs, met, states, covered, finished, history

        prefixes = (*self._prefixes(batch, start), rule.start(), states, self._uncovered(look, memory_mask))
        counters = (tf.constant(0), tf.fill([batch], True))
        loop = (*counters, *prefixes, self._finished(batch), self._history(max_length, look.shape[-1]))
        t, _, _, log_probs, met, _, covered, finished, history = tf.while_loop(
            lambda t, live, *_: (t == 0) | tf.reduce_any(live), advance, loop, maximum_iterations=max_length
        )
        best = self._best(finished, t, log_probs, covered, rule.behind(log_probs, met))
        return self._read(t, best, [array.stack() for array in history], end)

    def _prefixes(self, batch, start):
        """The last token of each prefix, and its log-probability: all but the first start as impossible."""
        log_probs = tf.tile(tf.constant([[0.0] + [NEVER] * (self.width - 1)]), [batch, 1])
        return tf.fill([batch, self.width], start), log_probs

    def _uncovered(self, look, memory_mask):
        """What each prefix has attended to before the first step, `[batch · width, source]`, in a list that is empty
        when it does not matter. Positions that do not count are covered from the start.
        """
        if not self.coverage_penalty:
            return []
        real = look > 0 if memory_mask is None else tf.repeat(memory_mask, self.width, axis=0)
        return [tf.ensure_shape(tf.where(real, 1e-30, 1.0), look.shape)]

    def _finished(self, batch):
        """Score, log-probability, length, and the prefix (a slot at step length − 1) that each one ended: none yet."""
        none = tf.fill([batch, self.width], NEVER)
        return none, none, tf.zeros([batch, self.width], tf.int32), tf.zeros([batch, self.width], tf.int32)

    def _history(self, max_length, source):
        """The token of each slot at each step, the slot it came from, and where that one looked."""
        return (
            tf.TensorArray(tf.int32, max_length, element_shape=[None, self.width]),
            tf.TensorArray(tf.int32, max_length, element_shape=[None, self.width]),
            tf.TensorArray(tf.float32, max_length, element_shape=[None, self.width, source]),
        )

    def _penalty(self, length):
        return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, self.length_penalty)

    def _scores(self, log_probs, length, parent, covered):
        """The score of each, `[batch, n]`, when what its parent has attended to is all that it has."""
        scores = log_probs / self._penalty(length)
        for c in covered:
            cp = self.coverage_penalty * tf.reduce_sum(tf.math.log(tf.minimum(c, 1.0)), axis=-1)
            scores += tf.gather(tf.reshape(cp, [-1, self.width]), parent, batch_dims=1)
        return scores

    def _merge(self, finished, ends, live, length, covered):
        """The `width` best of the finished hypotheses and of those that end now."""
        ending, log_probs, parent = ends
        scores = self._scores(log_probs, length, parent, covered)
        scores = tf.where(ending & live[:, None], scores, NEVER)
        lengths = tf.fill(tf.shape(scores), length)
        both = [tf.concat(pair, 1) for pair in zip(finished, (scores, log_probs, lengths, parent), strict=True)]
        _, kept = tf.math.top_k(both[0], self.width)
        return tuple(tf.gather(x, kept, batch_dims=1) for x in both)

    def _done(self, scores, best, t, max_length):
        """Rows whose best prefix stays behind the last that is returned: in the end, or with a full set, for now."""
        last = scores[:, self.n_best - 1]
        # A prefix may yet attend to everything: cp is at most 0.
        beaten = last >= best / self._penalty(max_length)
        behind = last >= best / self._penalty(t + 1)
        return beaten | (scores[:, -1] > NEVER / 2) & behind

    def _best(self, finished, t, log_probs, covered, behind):
        """The best hypotheses: score, log-probability, length, slot, and whether it has ended, each `[batch, n_best]`.

        Unfinished prefixes stand behind all finished ones; they have no end token, and their slot is their own.
        """
        slots = tf.broadcast_to(tf.range(self.width), tf.shape(log_probs))
        scores = self._scores(log_probs, t, slots, covered)
        unfinished = (scores, log_probs, tf.fill(tf.shape(log_probs), t), slots, behind)
        if covered:
            # So far behind, scores that differ little are the same number, and such stay in the order they come in.
            _, order = tf.math.top_k(scores, self.width)
            unfinished = tuple(tf.gather(x, order, batch_dims=1) for x in unfinished)
        *unfinished, behind = unfinished
        both = [tf.concat(pair, 1) for pair in zip(finished, unfinished, strict=True)]
        behind = tf.concat([tf.zeros_like(finished[0]), behind], 1)
        order = tf.math.top_k(both[0] + behind, self.n_best).indices
        return *(tf.gather(x, order, batch_dims=1) for x in both), order < self.width

    def _read(self, t, best, history, end):
        """The best hypotheses, their words and alignments read backwards from where each one stopped."""
        tokens, parents, alignments = history  # [max_length, batch, width], …, [max_length, batch, width, source]
        max_length = tokens.shape[0]
        scores, totals, lengths, slot, ended = best

        batch, source = tf.shape(slot)[0], tf.shape(alignments)[-1]
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
            (max_length - t, slot, ids, looks),  # the search ended after t steps: there is nothing beyond
            maximum_iterations=max_length,
        )
        ids = tf.ensure_shape(tf.transpose(ids.stack(), [1, 2, 0]), [None, self.n_best, max_length])
        looks = tf.reshape(tf.transpose(looks.stack(), [1, 2, 0, 3]), [batch, self.n_best, max_length, source])
        return Hypotheses(ids, lengths, totals, scores, looks)
