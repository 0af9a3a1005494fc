"""A model, its optimizer, and how one batch moves the weights.

Shapes: B batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import count, islice
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.data import Task
from kit.devices import collector_held, compiling
from kit.inference import device_of, predict
from kit.models.custom import TOO_FEW_VALUES, batch_norms, output_tensor, set_training_mode
from kit.training.distributed import Processes
from kit.training.optimizers import optimizer_for
from kit.training.recipe import Recipe
from kit.training.recomputation import layers_that_repeat, recomputed
from kit.training.schedules import rate_at
from kit.training.sharding import fill, spread, state_apart, together
from kit.training.steps import backward


class Engine:
    """A model, its optimizer, and how one batch moves the weights."""

    def __init__(self, model: nn.Module, workload: Task, recipe: Recipe):
        recipe.check_batch(workload.size("train"))
        begin(model, workload)
        self.whole, self.workload, self.recipe = model, workload, recipe
        self.processes = Processes.here(device_of(model))
        self.processes.check(recipe.batch_size, recipe.accumulate)
        self.device = self.processes.device
        self.model = self.processes.own(model, recipe.sharded)
        self.net = self.processes.joined(self.model)
        self.optimizer = optimizer_for(self.model, recipe.optimizer, recipe.lr)
        groups = self.optimizer.param_groups
        self.rates = [group["lr"] for group in groups]
        self.weights = [weight for group in groups for weight in group["params"]]
        self.steps_per_epoch = workload.size("train") // recipe.batch_size
        if recipe.accumulate > 1 or not self.processes.alone:
            self._check_loss_is_a_mean()
        self.cost = self._cost
        if recipe.compile:  # each training for its own shapes alone
            self.cost = torch.compile(self._cost, dynamic=False, **compiling())
        simple = recipe.autocast is None and recipe.accumulate == 1
        self.backward = self._backward_whole if simple else self._backward

    def _cost(self, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = self.net(inputs)
        if not isinstance(outputs, Tensor):
            outputs = output_tensor(outputs, self.whole)
        return self.workload.loss(outputs, targets)

    def update(self, inputs: Tensor, targets: Tensor, done: int, total: int) -> Tensor:
        """One update from a batch (B, …), (B, …); its loss, a scalar still on the device."""
        recipe = self.recipe
        if not recipe.constant_rate:
            self._set_rate(rate_at(done, total, recipe.schedule, recipe.lr_warmup))
        for weight in self.weights:
            weight.grad = None  # as `zero_grad` does, which takes 20 µs to tell profilers of it
        value = self.backward(inputs, targets)
        if recipe.clip is not None:  # on the device: nothing waits for how long they were
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        return value

    def _backward_whole(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The same as `_backward` where there are neither parts nor autocast, and sooner."""
        value = self.cost(inputs, targets)
        value.backward()
        return value.detach()

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        parts, silent = self.recipe.accumulate, lambda: self.processes.silent(self.net)
        return backward(self.cost, inputs, targets, self.recipe.autocast, parts, silent)

    def _set_rate(self, share: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def batches(self, done: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches without an end; the order depends on seed and epoch alone."""
        first, offset = divmod(done, self.steps_per_epoch)
        for epoch in count(first):
            seed = (self.recipe.seed * 100_003 + epoch) % 2**64  # what a generator takes
            batches = self.workload.batches("train", self.recipe.batch_size, self.device, seed)
            for batch in islice(batches, offset if epoch == first else 0, None):
                yield self.processes.share(*batch)

    def compile(self) -> float:
        """Let the compiler do its work before the first step; the seconds that it took.

        A forward and a backward pass, whose gradients and random numbers are undone.
        """
        if not self.recipe.compile:
            return 0.0
        started, numbers = time.perf_counter(), torch.get_rng_state()
        self.backward(*next(self.batches())).item()
        self.optimizer.zero_grad()
        torch.set_rng_state(numbers)
        return time.perf_counter() - started

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Training mode, the collector held, layers recomputed if asked for; put back after.

        What its owner froze in evaluation mode stays in it: see `kit.models.custom`.
        """
        modes = [(part, part.training) for part in self.model.modules()]
        with collector_held(), recomputed(self.model, self.recipe.recompute):
            set_training_mode(self.model)
            self._warn_of_batch_norm()
            self._warn_of_zeros()
            try:
                yield
            except ValueError as error:
                if TOO_FEW_VALUES not in str(error):
                    raise
                raise BadValue(
                    f"batch_size={self.recipe.batch_size}: BatchNorm cannot train on one value per "
                    f"channel. Give it at least 2 examples at a time, in each part of a batch too."
                ) from error
            finally:
                for part, mode in modes:
                    part.training = mode
                if self.model is not self.whole:  # sharded: it has waited on the CPU
                    self.whole.to(self.device)

    def state(self) -> dict[str, Any]:
        """The optimizer's, whole; the weights of the model as given are those of now, too."""
        if self.model is not self.whole:
            fill(self.whole, self.model)
        return deepcopy(together(self.optimizer.state_dict()))

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over an optimizer's state, and the weights of the model as given."""
        if self.model is not self.whole:
            spread(self.whole, self.model)
        self.optimizer.load_state_dict(deepcopy(state_apart(state, self.optimizer)))

    def _warn_of_batch_norm(self) -> None:
        """Say that parts of a batch, each with statistics of its own, make another update."""
        recipe, parts = self.recipe, self.recipe.accumulate * self.processes.world_size
        if parts > 1 and batch_norms(self.model):
            warn(
                f"BatchNorm takes its statistics from {recipe.batch_size // parts} examples at a "
                f"time (accumulate={recipe.accumulate}, processes: {self.processes.world_size}), "
                f"so this is not the update of a whole batch of {recipe.batch_size}. Where that "
                f"matters, use accumulate=1 in one process, or GroupNorm.",
                stacklevel=4,
            )
        if recipe.recompute and any(map(batch_norms, layers_that_repeat(self.model))):
            warn(
                "recompute=True computes BatchNorm twice per step, so its running statistics move "
                "twice as fast as without it. Where that matters, use recompute=False.",
                stacklevel=4,
            )

    def _warn_of_zeros(self) -> None:
        """Say that the zeros of `kit.techniques.zeroed` do not stay by themselves."""
        if any(
            getattr(part, "zeroed", None) is True and not hasattr(part, "weight_mask")
            for part in self.model.modules()
        ):
            warn(
                "training fills the zeros that kit.techniques.zeroed has made. To keep them, train "
                "within `with kit.techniques.zeros_kept(model):`.",
                stacklevel=5,
            )

    def _check_loss_is_a_mean(self) -> None:
        """Refuse to cut batches if the loss of a batch is not the mean of its parts' losses."""
        batch = next(self.workload.batches("train", min(8, self.recipe.batch_size), self.device))
        inputs, targets = batch
        drawn = torch.Generator().manual_seed(0)  # a fresh model's answers are too much alike
        answers = output_tensor(predict(self.model, inputs), self.whole)
        outputs = 5 * torch.randn(answers.shape, generator=drawn)
        outputs = outputs.to(self.device)
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        alone = torch.stack([self.workload.loss(*pair) for pair in pairs]).mean()
        whole = self.workload.loss(outputs, targets)
        if not torch.isclose(alone, whole, rtol=1e-4):
            parts, processes = self.recipe.accumulate, self.processes.world_size
            raise BadValue(
                f"{f'accumulate={parts}' if parts > 1 else f'{processes} processes'}: the loss of "
                f"{self.workload.name!r} is no mean over examples of equal weight, so parts of a "
                f"batch do not add up to it. Use accumulate=1 in one process."
            )


def begin(model: nn.Module, workload: Task) -> None:
    """Predict one example, so that the model has all its weights, and refuse one that cannot learn.

    Lazy layers get their sizes by it: the optimizer has to know the weights.
    """
    inputs, _ = next(iter(workload.batches("train", 1, device_of(model))))
    if not isinstance(inputs, Tensor):
        raise BadValue(
            f"the inputs of {workload.name!r} are a {type(inputs).__name__}; training needs one "
            f"tensor per batch: join them, and take them apart in the model's forward."
        )
    output_tensor(predict(model, inputs), model)
    check_learns(model)


def check_learns(model: nn.Module) -> None:
    """Refuse a model without a weight that can be trained."""
    weights = list(model.parameters())
    if not any(weight.requires_grad for weight in weights):
        told = f"all {len(weights)} weight tensors are frozen" if weights else "it has no weights"
        todo = ": model.requires_grad_() lets them learn" if weights else ""
        raise BadValue(f"{type(model).__name__} cannot be trained: {told}{todo}.")


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
