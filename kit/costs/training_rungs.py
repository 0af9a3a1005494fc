"""One rung of a ladder: a way to train, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from kit.costs.shares import peak_share
from kit.counting import count
from kit.estimates import Estimate
from kit.figures import Table
from kit.inference import device_of, evaluate
from kit.limits import Peaks
from kit.results import Result
from kit.training import train, updates
from kit.units import words
from kit.workloads import Workload

Loop = Callable[[nn.Module, Workload], Iterator[Any]]  # each `next` is a step, and gives its loss
Make = Callable[[], nn.Module]  # a fresh model, always the same
HEADER = ("rung", "per step", "steps", "time to the loss", "memory", "of peak", "verdict")
ENDING = ("schedule", "lr_warmup", "steps")  # options of a training that has an end


@dataclass(frozen=True)
class Way:
    """A way to train: a model, a loop, and the loop's options."""

    make: Make
    loop: Loop | None = None  # None: the kit's
    options: Mapping[str, Any] = field(default_factory=dict)  # of `kit.train`
    threads: int | None = None

    def changed(self, change: Mapping[str, Any], loop: Loop | None) -> Way:
        """The same way with other options; `make` and `threads` may be among them."""
        options = {**self.options, **change}
        make, threads = options.pop("make", self.make), options.pop("threads", self.threads)
        return Way(make, loop, options, threads)

    @property
    def precision(self) -> str:
        """What its matmuls compute in."""
        return str(self.options.get("precision", "fp32"))

    @property
    def ending(self) -> dict[str, Any]:
        """What it does because it has an end; the first losses do not show it."""
        return {name: value for name, value in self.options.items() if name in ENDING}

    def start(self, work: Workload) -> Iterator[Any]:
        """Its steps, without an end; what needs one, a schedule, costs nothing."""
        if self.loop:
            return self.loop(self.make(), work)
        endless = {name: value for name, value in self.options.items() if name not in ENDING}
        return updates(self.make(), work, **endless)

    def turn(self, steps: Iterator[Any]) -> Callable[[], None]:
        """A call that makes one of the steps, with as many threads as it is to have."""
        threads = self.threads or torch.get_num_threads()

        def one() -> None:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            next(steps)

        return one

    def steps_to(self, loss: float, work: Workload, most: int, every: int) -> int | None:
        """After how many steps the validation loss is low enough; None: not within `most`."""
        if self.loop:
            return self._steps_by_hand(loss, work, most, every)
        options = {"steps": most, **self.options, "evaluate_every": every, "target_loss": loss}
        return train(self.make(), work, live=False, **options).steps_to_loss(loss)

    def _steps_by_hand(self, loss: float, work: Workload, most: int, every: int) -> int | None:
        model = self.make()
        steps = self.loop(model, work)  # type: ignore[misc]
        for done in range(1, most + 1):
            next(steps)
            if done % every == 0 and evaluate(model, work, "validation").loss <= loss:
                return done
        return None

    def share(self, step_s: float, work: Workload, peaks: Peaks | None) -> float | None:
        """The share of the machine's best matmul rate that its steps reach; None: unknown."""
        if peaks is None or peaks.threads != (self.threads or torch.get_num_threads()):
            return None  # another number of threads has another limit
        model = self.make()
        inputs, targets = work.example(self.options.get("batch_size", 32), device_of(model))
        flops = count(model, inputs, lambda outputs: work.loss(outputs, targets)).step_flops
        return peak_share(peaks, flops, step_s, self.precision)


@dataclass(frozen=True)
class Rung(Result):
    """What was measured of one way to train."""

    name: str
    way: Way = field(repr=False)
    step: Estimate  # seconds
    steps: int | None = None  # to the loss; None: it was not reached
    compile_s: float = 0.0  # the wait before the first step
    peak_bytes: int | None = None  # of a step, beyond weights and optimizer; None: unknown
    share: float | None = None  # of the machine's best matmul rate; None: unknown
    losses: tuple[float, ...] = field(default=(), repr=False)  # the first ones
    against: str = ""  # the best rung below; none below the first
    ratio: Estimate | None = None  # time to the loss ÷ that rung's; None: one of them has none
    noise_floor: float = 0.0  # how far from 1 the ratio can be without meaning anything
    absent: str = ""  # why it cannot be tried here
    elsewhere: bool = False  # trained by other processes: nothing here can take turns with it

    @property
    def seconds(self) -> float | None:
        """To the loss, the compiler's wait included; None: it was not reached."""
        return None if self.steps is None else self.compile_s + self.steps * self.step.value

    @property
    def faster(self) -> bool:
        """Whether it surely gets there sooner than the best rung below."""
        return self.ratio is not None and self.ratio.high < 1 / (1 + self.noise_floor)

    @property
    def verdict(self) -> str:
        """*real* with a factor, *within noise*, or *not here* with the reason."""
        if self.absent:
            return f"not here: {self.absent}"
        if not self.against:
            return "where we start"
        if self.ratio is None:
            return "real: it does not get there"
        if self.faster:
            return f"real: {words(1 / self.ratio.value, '×')} faster"
        if self.ratio.low > 1 + self.noise_floor:
            return f"real: {words(self.ratio.value, '×')} slower"
        return "within noise"

    def __repr__(self) -> str:
        return f"{self.name}: {self.verdict}"

    def table(self) -> Table:
        """What people see: its row, and what it was held against."""
        caption = f"To the loss in {self.steps:,} steps." if self.steps else "Not to the loss."
        if self.ratio:
            wait = f", {words(self.compile_s, 's')} of waiting included" if self.compile_s else ""
            caption = f"Time to the loss ÷ that of {self.against!r}: {self.ratio}{wait}."
        if self.noise_floor:
            caption += f" Nearer to 1 than {words(self.noise_floor, '%')} is noise."
        return Table(HEADER, [self.row()], caption)

    def row(self) -> tuple[str, ...]:
        """Its cells in the ladder's table."""
        return (
            self.name,
            words(self.step.value, "s"),
            "—" if self.steps is None else f"{self.steps:,}",
            words(self.seconds, "s"),
            words(self.peak_bytes, "B"),
            words(self.share, "%"),
            self.verdict,
        )

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        known = {name: value for name, value in self.way.options.items() if _is_plain(value)}
        return {
            "name": self.name,
            "options": {**known, "threads": self.way.threads},
            "step_s": None if math.isnan(self.step.value) else self.step.to_dict(),
            "steps_to_loss": self.steps,
            "compile_s": self.compile_s,
            "seconds_to_loss": self.seconds,
            "peak_bytes": self.peak_bytes,
            "peak_share": self.share,
            "against": self.against,
            "ratio": self.ratio.to_dict() if self.ratio else None,
            "noise_floor_share": self.noise_floor,
            "verdict": self.verdict,
        }


def scaled(step: Estimate, ratio: Estimate) -> Estimate:
    """The time of a step, from that of another and their ratio."""
    t = step.value
    return Estimate(t * ratio.value, t * ratio.low, t * ratio.high, "s")


def to_the_loss(step_ratio: Estimate, rung: Rung, best: Rung) -> Estimate | None:
    """Time to the loss ÷ the best rung's, from the ratio of their steps' times."""
    if rung.steps is None or best.seconds is None:
        return None
    scale = rung.steps * best.step.value / best.seconds
    wait = rung.compile_s / best.seconds
    r = step_ratio
    return Estimate(wait + scale * r.value, wait + scale * r.low, wait + scale * r.high, "×")


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))
