"""Training: `model.fit` with checkpoints, and its optimizer."""

from kseq.training.callbacks import Checkpoints, Interrupts, LearningRate, StopAtNaN, state
from kseq.training.fit import fit, rate
from kseq.training.optimizer import ClippedAdam, SharedLossScale
from kseq.training.strategy import ONE_DEVICE, Devices, open_devices

__all__ = [
    "ONE_DEVICE",
    "Checkpoints",
    "ClippedAdam",
    "Devices",
    "Interrupts",
    "LearningRate",
    "SharedLossScale",
    "StopAtNaN",
    "fit",
    "open_devices",
    "rate",
    "state",
]
