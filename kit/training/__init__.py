"""Changing the weights: one step, the loop around it, and what to go on with later.

steps            one update: forward, backward, step of the optimizer
loop             `train`: batches, steps, a look at the validation split now and then
recipe           the options that decide how the weights move
setup            what stands ready before the first step: model, optimizer, batches
checks           what is refused before the first step
progress         losses, scores and seconds so far; when to stop
history          the result, a frozen record
checkpointing    writing a training to a file, and going on from it
resuming         is it the same training? fingerprints of model, data and options
optimizers, schedules, recomputation        AdamW and Muon; learning rates; less memory
distributed, sharding                       several processes: DDP and FSDP2

A step is what `predict` is not: it keeps what the forward pass computed, goes back through it
for the gradients, and moves each weight a little against its gradient.
"""

from kit.training.history import History
from kit.training.loop import StepInfo, train, updates
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
    "StepInfo",
    "adamw",
    "muon",
    "optimizer_for",
    "step",
    "train",
    "updates",
]
