"""What every sampler returns, and what all samplers are."""

import inspect
from typing import NamedTuple

NEVER = -1e9  # the log-probability, or logit, of what is impossible; finite, so that sums and differences stay finite


class Hypotheses(NamedTuple):
    """The sequences that a sampler found, best first.

    `ids` and `alignments` are padded to `max_length`. The end token belongs to a sequence and is counted in `lengths`;
    a sequence that reached `max_length` without ending has none.
    """

    ids: object  # int32 [batch, n, max_length], 0 after the end
    lengths: object  # int32 [batch, n]
    log_probs: object  # float32 [batch, n]: log p(sequence), natural
    scores: object  # float32 [batch, n]: what they are ranked by
    alignments: object  # float32 [batch, n, max_length, source], 0 after the end


class Configured:
    """Something whose constructor takes plain values and keeps each under its own name, as Keras' configs have it."""

    def get_config(self):
        """The arguments of the constructor, as `from_config` takes them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config):
        """The same again, from `get_config()`."""
        return cls(**config)


def check_whole(name, value):
    """Returns `value` if it is a whole number of at least 0, else raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
    return value
