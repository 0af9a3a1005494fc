"""What stands ready before the first step: model, optimizer, batches, processes.

Shapes: B batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.data import Task
from kit.devices import backend_of, collector_held, compiling
from kit.inference import device_of
from kit.models.custom import TOO_FEW_VALUES, enter_training_mode
from kit.training.checks import (
    check_loss_is_a_mean,
    create_all_weights,
    warn_of_batch_norm,
    warn_of_zeros,
)
from kit.training.distributed import Processes
from kit.training.optimizers import optimizer_for
from kit.training.recipe import Recipe
from kit.training.recomputation import recomputed
from kit.training.schedules import rate_at
from kit.training.sharding import fill, gathered, shard_state, spread
from kit.training.steps import accumulate_gradients, loss_of_batch


class Setup:
    """A model, its optimizer and its batches, ready to train.

    One model may have three faces. In one process all three are the same object.

    given    the model as the caller handed it over
    model    the one whose weights the optimizer moves: the same, or its sharded copy (FSDP2)
    net      the one that the forward pass calls: the model, or DDP around it
    """

    def __init__(self, model: nn.Module, workload: Task, recipe: Recipe):
        # Everything that can be refused is refused here, before the first weight has moved.
        recipe.check_batch(workload.size("train"))
        # Lazy layers get their shapes here: DDP, the optimizer and the fingerprints need them.
        create_all_weights(model, workload)
        self.given, self.workload, self.recipe = model, workload, recipe
        self.processes = Processes.here(device_of(model))
        self.processes.check(recipe.batch_size, recipe.accumulate)
        self.device = self.processes.device
        self.model = self.processes.own(model, recipe.sharded)
        # DDP looks for the trainable weights once, here: those unfrozen later would not be
        # averaged.
        self.net = self.processes.joined(self.model)
        # After sharding: the optimizer must hold the weights that will move, not their originals.
        self.optimizer = optimizer_for(self.model, recipe.optimizer, recipe.lr)
        # Taken before any schedule: `set_learning_rate` overwrites the rates in the groups.
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        # A rest that fills no batch is left out, so that all steps do equal work.
        self.steps_per_epoch = workload.size("train") // recipe.batch_size
        if recipe.accumulate > 1 or not self.processes.alone:
            # Averaging the parts of a batch is only right for a mean over examples of equal weight.
            check_loss_is_a_mean(self.model, workload, recipe, self.processes)
        forward = loss_of_batch
        if recipe.compile:  # dynamic=False: one program for exactly these shapes, the fastest
            # Forward pass and loss are compiled as one function, and their backward pass with them.
            forward = torch.compile(loss_of_batch, dynamic=False, **compiling())
        self.forward = forward
        self.step_options: dict[str, Any] = {
            "autocast": recipe.autocast,
            "accumulate": recipe.accumulate,
            "clip": recipe.clip,
            "forward": forward,
        }

    def set_learning_rate(self, done: int, total: int) -> None:
        """Give the optimizer the learning rate of the step after `done` steps of `total`."""
        if self.recipe.constant_rate:
            return
        # A share of each group's own rate, so that groups with different rates keep their ratio.
        share = rate_at(done, total, self.recipe.schedule, self.recipe.lr_warmup)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * share

    def batches(self, done: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches (B, …), (B, …) without an end, from the one after `done` steps.

        Their order depends on the seed and the epoch alone. So a training that resumes finds the
        same batches again without having stored them.
        """
        first, offset = divmod(done, self.steps_per_epoch)
        for epoch in count(first):
            # The factor keeps seeds apart: in a plain sum, epoch 1 of seed 0 would be epoch 0 of
            # seed 1.
            seed = (self.recipe.seed * 100_003 + epoch) % 2**64  # what a generator accepts
            batches = self.workload.batches("train", self.recipe.batch_size, self.device, seed)
            # Batches of an epoch that is half done are skipped: they are views, so this is quick.
            for batch in islice(batches, offset if epoch == first else 0, None):
                # All processes shuffle by the same seed, and each takes another slice of the batch.
                yield self.processes.share(*batch)

    def compile_now(self) -> float:
        """Make the compiler work before the first step; the seconds that it took.

        `torch.compile` compiles at the first call. So we make a forward and a backward pass here,
        then undo what they left behind: gradients, drawn random numbers and BatchNorm's statistics.
        A device that compiles each operation for itself does most of that here, too.
        """
        if not (self.recipe.compile or backend_of(self.device).compiles):
            return 0.0
        started, random_state = time.perf_counter(), torch.get_rng_state()
        inputs, targets = next(self.batches())
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        # Real shapes, the real loss and the real mode: the program is made for exactly these.
        accumulate_gradients(
            self.net,
            inputs,
            targets,
            self.workload.loss,
            self.recipe.autocast,
            parts=self.recipe.accumulate,
            forward=self.forward,
        ).item()  # waits for the device, so that its work counts as well
        self.optimizer.zero_grad()
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        # The CPU's generator, from which dropout draws there. A GPU has a generator of its own.
        torch.set_rng_state(random_state)
        return time.perf_counter() - started

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Training mode; everything is put back at the end.

        Dropout drops and BatchNorm uses the batch's own statistics. Parts that their owner froze
        in evaluation mode stay in it (see `kit.models.custom`). Python's garbage collector is
        held, since it would stop a step now and then; layers are recomputed if that was asked for.
        """
        modes = [(part, part.training) for part in self.model.modules()]
        with collector_held(), recomputed(self.model, self.recipe.recompute):
            enter_training_mode(self.model)
            # After the modes are set: a BatchNorm layer that is frozen in evaluation mode is
            # harmless.
            warn_of_batch_norm(self.model, self.recipe, self.processes)
            warn_of_zeros(self.model)
            try:
                yield
            except ValueError as error:
                if TOO_FEW_VALUES not in str(error):
                    raise
                raise BadValue(
                    f"batch_size={self.recipe.batch_size}: BatchNorm cannot train on one value per "
                    f"channel. Give it at least 2 examples at a time, in each part of a batch too."
                ) from error
            finally:  # part by part: a model that is fine-tuned may mix both modes
                for part, mode in modes:
                    part.training = mode
                if self.model is not self.given:  # sharded: the original waited on the CPU
                    self.given.to(self.device)

    def optimizer_state(self) -> dict[str, Any]:
        """A copy of the optimizer's state, complete also if it is sharded.

        The weights of the model as given are brought up to date, too.
        """
        if self.model is not self.given:
            # The model as given still has old weights, and it is the one that a checkpoint saves.
            fill(self.given, self.model)
        # A copy: the optimizer goes on changing its tensors in place.
        return deepcopy(gathered(self.optimizer.state_dict()))

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take over an optimizer's state, and the weights of the model as given."""
        if self.model is not self.given:
            spread(self.given, self.model)
        self.optimizer.load_state_dict(deepcopy(shard_state(state, self.optimizer)))
