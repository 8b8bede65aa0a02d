"""What every sampler returns."""

from typing import NamedTuple

NEVER = -1e9  # a log-probability, or a logit, that nothing has; finite, so that sums and differences of it stay finite


class Hypotheses(NamedTuple):
    """Sequences that a sampler found, best first.

    `ids` and `alignments` are padded to the longest that `max_length` allows; the end token belongs to a sequence and
    is counted in `lengths`. A sequence that met `max_length` has no end token.
    """

    ids: object  # int32 [batch, n, max_length], 0 after the end
    lengths: object  # int32 [batch, n]
    log_probs: object  # float32 [batch, n]: log p(sequence), natural
    scores: object  # float32 [batch, n]: what ranked them
    alignments: object  # float32 [batch, n, max_length, source], 0 after the end
