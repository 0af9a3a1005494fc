"""How to train on one rung (model, loop and options), and how many steps it takes to a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from kit import devices
from kit.core.errors import BadValue, NonFiniteLoss
from kit.costs.counting import count
from kit.inference import device_of, evaluate
from kit.models.custom import output_tensor
from kit.training import train, updates
from kit.workloads import Workload

# Of model, workload and options: each `next` makes a step and gives its loss.
Loop = Callable[..., Iterator[Any]]
Make = Callable[[], nn.Module]  # a fresh model, from PyTorch's random numbers
ENDING = ("schedule", "lr_warmup", "steps")  # options of a training that has an end
# These change how a step is computed, not what it computes. With bfloat16 a small GPT needed the
# same number of steps within 0.4 %.
COMPUTED = {"accumulate", "compile", "precision", "recompute", "sharded"}
# With such options, losses differ by less than this: 2e-4 after 30 steps, in bfloat16 and Muon too.
ROUNDING = 1e-3
# Two optimizers or loops that do the same differ by 7e-8; another beta of AdamW by 1e-4.
EQUAL = 1e-5
MAX_MISSES = 2  # after this many seeds that miss the loss, the others are not tried


@dataclass(frozen=True)
class Setup:
    """How to train: a function that makes the model, a loop, and the loop's options."""

    make: Make
    loop: Loop = updates  # the kit's
    options: Mapping[str, Any] = field(default_factory=dict)  # of `kit.train`, or of the loop
    threads: int | None = None

    def changed(self, change: Mapping[str, Any], loop: Loop | None = None) -> Setup:
        """The same setup with other options; `make` and `threads` may be among them.

        The loop stays, unless another is given.
        """
        options = {**self.options, **change}
        make, threads = options.pop("make", self.make), options.pop("threads", self.threads)
        return Setup(make, loop or self.loop, options, threads)

    def takes(self, option: str) -> bool:
        """Whether the loop has such a parameter. The kit's takes all options of `kit.train`."""
        own = signature(self.loop).parameters
        return option in own or any(p.kind is Parameter.VAR_KEYWORD for p in own.values())

    @property
    def taken(self) -> dict[str, Any]:
        """The options that are passed to the loop."""
        return {name: value for name, value in self.options.items() if self.takes(name)}

    def check_taken(self, change: Iterable[str]) -> None:
        """Refuse options that the loop does not take: they would change nothing."""
        for name in change:
            if name not in ("seed", "make", "threads") and not self.takes(name):
                needs = (
                    f"needs loop=updates (from kit.training), or a parameter {name!r} of your loop"
                )
                raise BadValue(f"given {name}=, which the loop does not take; {needs}.")

    @property
    def precision(self) -> str:
        """The precision of the matmuls."""
        return str(self.options.get("precision", "fp32"))

    def seed(self, k: int) -> int:
        """The seed of the k-th training: of the first weights, and of the examples' order."""
        return int(self.options.get("seed", 0)) + k

    def model(self, k: int = 0) -> nn.Module:
        """A fresh model of the k-th seed."""
        devices.seed(self.seed(k) % 2**32)
        model = self.make()
        # Seeded again, so that a loop draws the same numbers for models of different sizes.
        devices.seed(self.seed(k) % 2**32)
        return model

    def start(self, work: Workload) -> Iterator[Any]:
        """Training steps without an end, for timing. Schedules are left out: they cost nothing."""
        endless = {name: value for name, value in self.taken.items() if name not in ENDING}
        return self.loop(self.model(), work, **endless)

    def step_call(self, steps: Iterator[Any]) -> Callable[[], Any]:
        """A call that makes one of these steps, with this setup's number of threads."""
        return devices.threaded(self.threads or torch.get_num_threads(), next, steps)

    def steps_to_loss(
        self, loss: float, work: Workload, most: int, every: int, seeds: int
    ) -> tuple[float | None, ...]:
        """Steps to this validation loss, one number per seed; None: not within `most` steps."""
        found: list[float | None] = []
        for k in range(seeds):
            if found.count(None) == MAX_MISSES:
                break
            try:
                found.append(steps_to_reach(loss, self._losses(k, loss, work, most, every)))
            except NonFiniteLoss:
                found.append(None)
        return tuple(found)

    def _losses(
        self, k: int, loss: float, work: Workload, most: int, every: int
    ) -> Iterator[tuple[int, float]]:
        """(steps made, validation loss), while the k-th training runs."""
        if self.threads:
            torch.set_num_threads(self.threads)
        model = self.model(k)
        yield 0, evaluate(model, work, "validation").loss
        if self.loop is updates:
            given = {"steps": most, **self.options, "seed": self.seed(k), "live": False}
            given |= {"evaluate_every": every, "target_loss": loss}
            yield from ((at, score.loss) for at, score in train(model, work, **given).scores)
            return
        steps = self.loop(model, work, **self.taken)
        for done in range(1, most + 1):
            next(steps)
            if done % every == 0:
                yield done, evaluate(model, work, "validation").loss

    def flops(self, work: Workload) -> float:
        """FLOPs of one step."""
        model = self.model()
        inputs, targets = work.example(self.options.get("batch_size", 32), device_of(model))

        def loss(outputs: Any) -> Tensor:
            return work.loss(output_tensor(outputs, model), targets)

        return count(model, inputs, loss).step_flops

    def learns_the_same(self, other: Setup, mine: Iterable[float], theirs: Iterable[float]) -> bool:
        """Whether this setup can only be faster or slower than the other, not learn differently.

        Two things must hold. Their options differ only in how a step is computed, or in the
        optimizer or the loop. And their first losses (`mine`, `theirs`) agree but for rounding.
        """
        names = {*self.options, *other.options}
        differ = {name for name in names if self.options.get(name) != other.options.get(name)}
        if self.make is not other.make or differ - COMPUTED - {"optimizer"}:
            return False
        doubtful = self.loop is not other.loop or "optimizer" in differ
        a, b, most = tuple(mine), tuple(theirs), EQUAL if doubtful else ROUNDING
        return len(a) == len(b) > 0 and all(
            abs(x - y) <= most * abs(y) for x, y in zip(a, b, strict=True)
        )


def steps_to_reach(loss: float, losses: Iterable[tuple[int, float]]) -> float | None:
    """The step at which a loss was reached, by interpolation; None: it was not reached.

    `losses` are pairs: (steps made, validation loss).

    >>> steps_to_reach(2.25, [(0, 4.0), (20, 3.0), (40, 2.0), (60, 1.9)])
    35.0
    """
    before = None
    for at, found in losses:
        if found <= loss:
            if before is None:
                return max(1.0, float(at))
            share = (before[1] - loss) / (before[1] - found)
            return max(1.0, before[0] + share * (at - before[0]))
        before = (at, found)
    return None
