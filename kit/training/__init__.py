"""Changing the weights: one step, the loop around it, and the history it leaves.

A step is what `predict` is not: it keeps what the forward pass computed, goes back through it
for the gradients, and moves each weight a little against its gradient.
"""

from kit.training.history import History
from kit.training.loop import step, train
from kit.training.optimizers import OPTIMIZERS, Optimizer, muon, optimizer_for
from kit.training.run import PRECISIONS

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "History",
    "Optimizer",
    "muon",
    "optimizer_for",
    "step",
    "train",
]
