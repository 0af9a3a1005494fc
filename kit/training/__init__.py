"""Changing the weights: one step, the loop around it, and the history it leaves.

A step is what `predict` is not: it keeps what the forward pass computed, goes back through it
for the gradients, and moves each weight a little against its gradient.
"""

from kit.training.engine import updates
from kit.training.history import History
from kit.training.loop import train
from kit.training.optimizers import OPTIMIZERS, Optimizer, adamw, muon, optimizer_for
from kit.training.recipe import PRECISIONS, Recipe
from kit.training.schedules import SCHEDULES
from kit.training.steps import step

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "History",
    "Optimizer",
    "Recipe",
    "adamw",
    "muon",
    "optimizer_for",
    "step",
    "train",
    "updates",
]
