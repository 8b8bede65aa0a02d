"""Training: fit with checkpoints, optimizer, callbacks."""

from kseq.files import PROGRESS
from kseq.training.checkpoints import load_variables, save_variables, state
from kseq.training.fit import fit, rate
from kseq.training.optimizer import ClippedAdam

__all__ = ["PROGRESS", "ClippedAdam", "fit", "load_variables", "rate", "save_variables", "state"]
