"""One rung of a ladder: a way to train, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit import devices
from kit.core.errors import NonFiniteLoss
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.costs.counting import count
from kit.inference import device_of, evaluate
from kit.ladders.ratios import SEVERAL, at_once, reach
from kit.measurement.comparison import SAME
from kit.models.custom import output_tensor
from kit.plots import Table
from kit.training import train, updates
from kit.workloads import Workload

Loop = Callable[[nn.Module, Workload], Iterator[Any]]  # each `next` is a step, and gives its loss
Make = Callable[[], nn.Module]  # a fresh model, from PyTorch's random numbers
HEADER = (
    "rung",
    "per step",
    "steps",
    "time to the loss",
    "÷ the best below",
    "memory",
    "of peak",
    "verdict",
)
ENDING = ("schedule", "lr_warmup", "steps")  # options of a training that has an end
# How a step is computed, not which. With bfloat16 a small GPT needed the same steps within 0.4 %.
COMPUTED = {"accumulate", "compile", "precision", "recompute", "sharded"}
ROUNDING = (
    1e-3  # two such ways differ by less, in bfloat16 and with Muon too: 2e-4 after 30 steps …
)
EQUAL = 1e-5  # … and two optimizers or loops that do the same, by 7e-8; with another beta by 1e-4
GIVEN_UP = 2  # trainings that miss the loss: the other seeds are not tried then


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

    def seed(self, k: int) -> int:
        """Of its k-th training: the model's first weights, and the order of the examples."""
        return int(self.options.get("seed", 0)) + k

    def model(self, k: int = 0) -> nn.Module:
        """A fresh model of the k-th seed; what a loop draws at random follows from it, too."""
        devices.seed(self.seed(k) % 2**32)
        model = self.make()
        devices.seed(self.seed(k) % 2**32)  # the same draws for two models of different sizes
        return model

    def start(self, work: Workload) -> Iterator[Any]:
        """Its steps, without an end; what needs one, a schedule, costs nothing."""
        if self.loop:
            return self.loop(self.model(), work)
        endless = {name: value for name, value in self.options.items() if name not in ENDING}
        return updates(self.model(), work, **endless)

    def turn(self, steps: Iterator[Any]) -> Callable[[], None]:
        """A call that makes one of the steps, with as many threads as it is to have."""
        threads = self.threads or torch.get_num_threads()

        def one() -> None:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            next(steps)

        return one

    def steps_to(
        self, loss: float, work: Workload, most: int, every: int, seeds: int
    ) -> tuple[float | None, ...]:
        """Steps to that validation loss, one number per seed; None: not within `most`.

        After two that miss it, the other seeds are not tried.
        """
        found: list[float | None] = []
        for k in range(seeds):
            if found.count(None) == GIVEN_UP:
                break
            try:
                found.append(crossing(self._looks(k, loss, work, most, every), loss))
            except NonFiniteLoss:
                found.append(None)
        return tuple(found)

    def _looks(
        self, k: int, loss: float, work: Workload, most: int, every: int
    ) -> Iterator[tuple[int, float]]:
        """(steps made, validation loss), as the k-th training goes on."""
        if self.threads:
            torch.set_num_threads(self.threads)
        model = self.model(k)
        yield 0, evaluate(model, work, "validation").loss
        if not self.loop:
            given = {"steps": most, **self.options, "seed": self.seed(k), "live": False}
            given |= {"evaluate_every": every, "target_loss": loss}
            yield from ((at, score.loss) for at, score in train(model, work, **given).scores)
            return
        steps = self.loop(model, work)
        for done in range(1, most + 1):
            next(steps)
            if done % every == 0:
                yield done, evaluate(model, work, "validation").loss

    def flops(self, work: Workload) -> float:
        """Of one step."""
        model = self.model()
        inputs, targets = work.example(self.options.get("batch_size", 32), device_of(model))

        def loss(outputs: Any) -> Tensor:
            return work.loss(output_tensor(outputs, model), targets)

        return count(model, inputs, loss).step_flops

    def learns_as(self, other: Way, mine: Iterable[float], theirs: Iterable[float]) -> bool:
        """Whether it can only be faster or slower than the other, never learn more or less.

        Their options differ in how a step is computed, or the change is of the optimizer or the
        loop; and their first losses are equal but for rounding.
        """
        names = {*self.options, *other.options}
        differ = {name for name in names if self.options.get(name) != other.options.get(name)}
        doubtful = self.loop is not other.loop or "optimizer" in differ
        if self.make is not other.make or differ - COMPUTED - {"optimizer"}:
            return False
        a, b, most = tuple(mine), tuple(theirs), EQUAL if doubtful else ROUNDING
        return len(a) == len(b) > 0 and all(
            abs(x - y) <= most * abs(y) for x, y in zip(a, b, strict=True)
        )


def crossing(looks: Iterable[tuple[int, float]], loss: float) -> float | None:
    """At which step a loss was reached, in a line between two looks at it; None: it was not.

    >>> crossing([(0, 4.0), (20, 3.0), (40, 2.0), (60, 1.9)], 2.25)
    35.0
    """
    before = None
    for at, found in looks:
        if found <= loss:
            if before is None:
                return max(1.0, float(at))
            share = (before[1] - loss) / (before[1] - found)
            return max(1.0, before[0] + share * (at - before[0]))
        before = (at, found)
    return None


@dataclass(frozen=True)
class Rung(Result):
    """What was measured of one way to train."""

    name: str
    way: Way = field(repr=False)
    step: Estimate  # seconds
    crossings: tuple[float | None, ...] = ()  # steps to the loss, by seed; None: not reached
    learns_as: str = ""  # the rung whose steps these are, since both learn the same; none: its own
    compile_s: float = 0.0  # the wait before the first step
    peak_bytes: int | None = None  # of a step, beyond weights and optimizer; None: unknown
    share: float | None = None  # of the machine's best matmul rate; None: unknown
    losses: tuple[float, ...] = field(default=(), repr=False)  # the first ones
    against: str = ""  # the best rung below; none below the first
    step_ratio: Estimate | None = None  # time of a step ÷ that of that rung
    ratio: Estimate | None = None  # time to the loss ÷ that rung's, for all rungs at once
    noise_floor: float = 0.0  # how far from 1 the ratio can be without meaning anything
    absent: str = ""  # why it cannot be tried here
    elsewhere: bool = False  # trained by other processes: nothing here can take turns with it

    @property
    def reached(self) -> bool:
        """Whether the loss was reached with every seed."""
        return bool(self.crossings) and None not in self.crossings

    @property
    def exact_steps(self) -> float | None:
        """To the loss, the geometric mean over the seeds; None: not reached with every seed."""
        if not self.reached:
            return None
        return float(np.exp(np.mean(np.log(np.array(self.crossings, dtype=float)))))

    @property
    def steps(self) -> int | None:
        """To the loss, as a whole number; None: it was not reached with every seed."""
        return None if self.exact_steps is None else round(self.exact_steps)

    @property
    def seconds(self) -> float | None:
        """To the loss, the compiler's wait included; None: it was not reached with every seed."""
        steps = self.exact_steps
        return None if steps is None else self.compile_s + steps * self.step.value

    @property
    def faster(self) -> bool:
        """Whether it reaches the loss sooner than the best rung below, beyond noise and seeds."""
        return self.ratio is not None and self.ratio.high < 1 / (1 + self.noise_floor)

    @property
    def verdict(self) -> str:
        """*faster* or *slower* with a factor, *same within …*, *cannot tell*; or why there is none.

        A verdict needs the interval beyond the noise floor. It holds the noise of the step's time
        and what another seed changes.
        """
        if self.absent:
            return f"not here: {self.absent}"
        if not self.reached:
            n, hits = len(self.crossings), len(self.crossings) - self.crossings.count(None)
            if hits:
                return f"reaches the target loss with {hits} of {n} seeds"
            return "does not reach the target loss"
        if not self.against:
            return "where we start"
        if self.ratio is None:
            return f"reaches the target loss, unlike {self.against!r}"
        if self.faster:
            return f"{words(1 / self.ratio.value, '×')} faster"
        if self.ratio.low > 1 + self.noise_floor:
            return f"{words(self.ratio.value, '×')} slower"
        if self.ratio.low == 0 and len(self.crossings) < 2:
            return "cannot tell: one seed"
        margin = max(SAME, self.noise_floor)
        if 1 / (1 + margin) <= self.ratio.low and self.ratio.high <= 1 + margin:
            return f"same within {words(margin, '%')}"
        return "cannot tell"

    def __repr__(self) -> str:
        return f"{self.name}: {self.verdict}"

    def table(self) -> Table:
        """What people see: its row, and what it was held against."""
        caption = f"{self._steps_told()}."
        if self.ratio and self.ratio.low > 0:
            wait = f", {words(self.compile_s, 's')} of waiting included" if self.compile_s else ""
            caption += f" Time to the loss ÷ that of {self.against!r}: {self.ratio}{wait}."
        if self.noise_floor:
            caption += f" Nearer to 1 than {words(self.noise_floor, '%')} is noise."
        return Table(HEADER, [self.row()], caption)

    def _steps_told(self) -> str:
        """How many steps each seed needed."""
        each = ", ".join("—" if c is None else f"{c:,.0f}" for c in self.crossings) or "—"
        if self.learns_as:
            return f"Steps to the loss: those of {self.learns_as!r}, whose losses it has"
        return f"Steps to the loss, by seed: {each}"

    def row(self) -> tuple[str, ...]:
        """Its cells in the ladder's table."""
        known = self.ratio if self.ratio and self.ratio.low > 0 else None
        return (
            self.name,
            words(self.step.value, "s"),
            "—" if self.steps is None else f"{self.steps:,}",
            words(self.seconds, "s"),
            f"{words(known.value)} [{known.interval}]" if known else "—",
            words(self.peak_bytes, "B"),
            words(self.share, "%"),
            self.verdict,
        )

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        known = {name: value for name, value in self.way.options.items() if _is_plain(value)}
        sure = self.ratio is not None and self.ratio.low > 0
        return {
            "name": self.name,
            "options": {**known, "threads": self.way.threads},
            "step_s": None if math.isnan(self.step.value) else self.step.to_dict(),
            "steps_to_loss": self.steps,
            "steps_by_seed": list(self.crossings),
            "learns_as": self.learns_as,
            "compile_s": self.compile_s,
            "seconds_to_loss": self.seconds,
            "peak_bytes": self.peak_bytes,
            "peak_share": self.share,
            "against": self.against,
            "ratio": self.ratio.to_dict() if self.ratio and sure else None,
            "noise_floor_share": self.noise_floor,
            "verdict": self.verdict,
        }


def to_the_loss(
    step_ratio: Estimate, rung: Rung, best: Rung, several: int = SEVERAL
) -> Estimate | None:
    """Time to the loss ÷ the best rung's, with an interval for that many ratios at once.

    The same seeds for both rungs make pairs, and their log-ratios Student's interval: it says how
    much of the difference another seed would change. Two rungs that learn the same have the same
    steps, so the seed changes nothing. The error of the steps' times is independent of it: both
    add in squares. None if one of them did not reach the loss with every seed.
    """
    if not (rung.reached and best.reached):
        return None
    mine, theirs = (np.array(r.crossings, dtype=float) for r in (rung, best))
    times, ratio = at_once(best.step, several), at_once(step_ratio, several)

    def logs(step_s: float, r: float) -> np.ndarray:
        """Of the ratio, by seed."""
        return np.log(rung.compile_s + mine * step_s * r) - np.log(best.compile_s + theirs * step_s)

    same = (rung.learns_as or rung.name) == (best.learns_as or best.name)
    only_speed = same and not (rung.compile_s or best.compile_s)
    by_seed = logs(times.value, ratio.value)
    middle = float(by_seed.mean())
    if ratio.low <= 0 or times.low <= 0 or (len(by_seed) < 2 and not only_speed):
        return Estimate(math.exp(middle), 0.0, math.inf, "×")
    seeds = 0.0 if only_speed else reach(by_seed, several)
    moved = [
        float(logs(s, r).mean()) - middle
        for s, r in (
            (times.value, ratio.low),
            (times.value, ratio.high),
            (times.low, ratio.value),
            (times.high, ratio.value),
        )
    ]
    down = math.hypot(seeds, min(0.0, *moved[:2]), min(0.0, *moved[2:]))
    up = math.hypot(seeds, max(0.0, *moved[:2]), max(0.0, *moved[2:]))
    return Estimate(math.exp(middle), math.exp(middle - down), math.exp(middle + up), "×")


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))
