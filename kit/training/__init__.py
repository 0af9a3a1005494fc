"""Changing the weights: one step, the loop around it, and what to go on with later.

steps            one update: forward, backward, step of the optimizer
loop             `train`: batches, steps, a look at the validation split now and then
hooks            your own metric or log after each step: `train(…, after_step=…)`
recipe           the options that decide how the weights move
setup            what stands ready before the first step: model, optimizer, batches
checks           what is refused before the first step
loop_state       losses, scores and seconds so far; when to stop
history          the result, a frozen record
checkpointing    writing a training to a file, and going on from it
fine_tuning      the last blocks of a pre-trained encoder, on a few labelled texts
resuming         is it the same training? fingerprints of model, data and options
optimizers, schedules, recomputation        AdamW and Muon; learning rates; less memory
distributed, sharding                       several processes: DDP and FSDP2

A step is what `predict` is not: it keeps what the forward pass computed, goes back through it
for the gradients, and moves each weight a little against its gradient.
"""

from kit.training.history import History as History
from kit.training.hooks import StepInfo as StepInfo
from kit.training.loop import train as train
from kit.training.loop import updates as updates
from kit.training.optimizers import OPTIMIZERS as OPTIMIZERS
from kit.training.optimizers import Optimizer as Optimizer
from kit.training.optimizers import adamw as adamw
from kit.training.optimizers import muon as muon
from kit.training.optimizers import optimizer_for as optimizer_for
from kit.training.recipe import PRECISIONS as PRECISIONS
from kit.training.recipe import Recipe as Recipe
from kit.training.schedules import SCHEDULES as SCHEDULES
from kit.training.steps import step as step
