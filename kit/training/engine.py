"""A model, its optimizer, and how one batch moves the weights.

Shapes: B batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Task
from kit.devices import collector_held
from kit.errors import BadValue
from kit.inference import device_of, predict
from kit.training.optimizers import optimizer_for
from kit.training.recipe import Recipe
from kit.training.recomputing import recomputed
from kit.training.schedules import rate_at
from kit.training.steps import backward


class Engine:
    """A model, its optimizer, and how one batch moves the weights."""

    def __init__(self, model: nn.Module, workload: Task, recipe: Recipe):
        recipe.check_batch(workload.size("train"))
        self.model, self.workload, self.recipe = model, workload, recipe
        self.device = device_of(model)
        self.optimizer = optimizer_for(model, recipe.optimizer, recipe.lr)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps_per_epoch = workload.size("train") // recipe.batch_size
        if recipe.accumulate > 1:
            self._check_loss_is_a_mean()
        self.cost = torch.compile(self._cost) if recipe.compile else self._cost

    def _cost(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.workload.loss(self.model(inputs), targets)

    def update(self, inputs: Tensor, targets: Tensor, done: int, total: int) -> Tensor:
        """One update from a batch (B, …), (B, …); its loss, a scalar still on the device."""
        recipe = self.recipe
        if not recipe.constant_rate:
            self._set_rate(rate_at(done, total, recipe.schedule, recipe.lr_warmup))
        self.optimizer.zero_grad()
        value = backward(self.cost, inputs, targets, recipe.autocast, recipe.accumulate)
        if recipe.clip is not None:  # on the device: nothing waits for how long they were
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        return value

    def _set_rate(self, share: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def batches(self, done: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches without an end; the order depends on seed and epoch alone."""
        first, offset = divmod(done, self.steps_per_epoch)
        for epoch in count(first):
            order = self.recipe.seed * 100_003 + epoch
            batches = self.workload.batches("train", self.recipe.batch_size, self.device, order)
            yield from islice(batches, offset if epoch == first else 0, None)

    def compile(self) -> float:
        """Let the compiler do its work before the first step; the seconds that it took.

        A forward and a backward pass, whose gradients and random numbers are undone.
        """
        if not self.recipe.compile:
            return 0.0
        started, numbers = time.perf_counter(), torch.get_rng_state()
        batch = next(self.batches())
        backward(self.cost, *batch, self.recipe.autocast, self.recipe.accumulate).item()
        self.optimizer.zero_grad()
        torch.set_rng_state(numbers)
        return time.perf_counter() - started

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Training mode, the collector held, layers recomputed if asked for; put back after."""
        modes = [(part, part.training) for part in self.model.modules()]
        with collector_held(), recomputed(self.model, self.recipe.recompute):
            self.model.train()
            try:
                yield
            finally:
                for part, mode in modes:
                    part.training = mode

    def _check_loss_is_a_mean(self) -> None:
        """Refuse to cut batches if the loss of a batch is not the mean of its parts' losses."""
        batch = next(self.workload.batches("train", min(8, self.recipe.batch_size), self.device))
        inputs, targets = batch
        drawn = torch.Generator().manual_seed(0)  # a fresh model's answers are too much alike
        outputs = 5 * torch.randn(predict(self.model, inputs).shape, generator=drawn)
        outputs = outputs.to(self.device)
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        alone = torch.stack([self.workload.loss(*pair) for pair in pairs]).mean()
        whole = self.workload.loss(outputs, targets)
        if not torch.isclose(alone, whole, rtol=1e-4):
            raise BadValue(
                f"accumulate={self.recipe.accumulate}: the loss of {self.workload.name!r} is no "
                f"mean over examples of equal weight, so parts of a batch do not add up to it. "
                f"Use accumulate=1."
            )


def updates(model: nn.Module, workload: Task, **options: Any) -> Iterator[Tensor]:
    """The loop without its book-keeping: each `next` makes one update and gives its loss.

    It never ends, and the loss is still on the device. To time one way of training against
    another; `options` as for `kit.train`, which gives the same losses.

    Raises
    ------
    BadValue
        A schedule: it would need an end.

    Explained in lesson 08.
    """
    engine = Engine(model, workload, Recipe(**options))
    if not engine.recipe.constant_rate:
        raise BadValue("updates() has no end, so no schedule and no warm-up: use kit.train.")

    def made() -> Iterator[Tensor]:
        with engine.at_work():
            for batch in engine.batches():
                yield engine.update(*batch, done=0, total=0)

    return made()
