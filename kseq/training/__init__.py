"""Training: `model.fit` with checkpoints, and its optimizer."""

from kseq.training.callbacks import Checkpoints, Interrupts, LearningRate, StopAtNaN, state
from kseq.training.fit import fit, rate
from kseq.training.optimizer import ClippedAdam

__all__ = ["Checkpoints", "ClippedAdam", "Interrupts", "LearningRate", "StopAtNaN", "fit", "rate", "state"]
