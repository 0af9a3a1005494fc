"""One rung of the training ladder: what was measured of one way to train."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.core.statistics import Estimate, average
from kit.core.units import words
from kit.ladders.ladder import COMPARISONS, Rung, simultaneous, student_half_width
from kit.ladders.training_setup import Setup
from kit.measurement.comparison import SAME, Decision, decide
from kit.plots import Table

HEADER = ("rung", "per step", "steps", "time to the loss", "memory", "against the best so far")


@dataclass(frozen=True)
class TrainingRung(Rung):
    """What was measured of one way to train."""

    name: str
    setup: Setup = field(repr=False)
    step: Estimate  # seconds
    steps_by_seed: tuple[float | None, ...] = ()  # to the loss; None: not reached
    learns_as: str = ""  # the rung whose steps these are, if both learn the same
    compile_s: float = 0.0  # the wait for the compiler before the first step
    peak_bytes: int | None = None  # of a step, beyond weights and optimizer; None: unknown
    share: float | None = None  # of the machine's best matmul rate; None: unknown
    losses: tuple[float, ...] = field(default=(), repr=False)  # of the first steps
    # Learning rates to choose from -> steps to the loss (with other seeds); None: not reached
    tried: Mapping[float, float | None] = field(default_factory=dict)
    baseline: str = ""  # the best rung below; "" for the first
    step_ratio: Estimate | None = None  # time of a step ÷ the baseline's
    ratio: Estimate | None = None  # time to the loss ÷ the baseline's, simultaneous for all rungs
    noise_floor: float = 0.0  # ratios nearer to 1 than this mean nothing
    absent: str = ""
    external: bool = False  # trained by other processes, so it cannot be timed in turns

    @property
    def reached(self) -> bool:
        """Whether every seed reached the loss."""
        return bool(self.steps_by_seed) and None not in self.steps_by_seed

    @property
    def exact_steps(self) -> float | None:
        """Steps to the loss: the geometric mean over the seeds. None: a seed did not reach it."""
        return mean_steps(self.steps_by_seed)

    @property
    def steps(self) -> int | None:
        """Steps to the loss, rounded. None: a seed did not reach it."""
        return None if self.exact_steps is None else round(self.exact_steps)

    @property
    def seconds(self) -> float | None:
        """Time to the loss, with the wait for the compiler. None: a seed did not reach it."""
        steps = self.exact_steps
        return None if steps is None else self.compile_s + steps * self.step.value

    @property
    def training_s(self) -> Estimate | None:
        """Seconds to the loss: the mean over the seeds, with its interval. None: not reached."""
        if not self.reached:
            return None
        steps = [each for each in self.steps_by_seed if each is not None]
        each_s = [self.compile_s + n * self.step.value for n in steps]
        return average(sum(each_s), sum(s * s for s in each_s), len(each_s), "s")

    @property
    def decision(self) -> Decision:
        """Whether it reaches the loss sooner than its baseline, beyond noise and seeds."""
        return decide(self.ratio, self.noise_floor) if self.ratio else "cannot tell"

    @property
    def faster(self) -> bool:
        """Whether the decision is *faster*."""
        return self.decision == "faster"

    @property
    def verdict(self) -> str:
        """*faster* or *slower* with a ratio, *same within …*, *cannot tell*, or why there is none.

        The interval holds the noise of the step's time, and the differences between seeds.
        """
        if self.absent:
            return f"not here: {self.absent}"
        if not self.reached:
            n, hits = len(self.steps_by_seed), sum(s is not None for s in self.steps_by_seed)
            if hits:
                return f"reaches the target loss with {hits} of {n} seeds"
            return "does not reach the target loss"
        if not self.baseline:
            return "where we start"
        if self.ratio is None:
            return f"reaches the target loss, unlike {self.baseline!r}"
        if self.ratio.low == 0 and len(self.steps_by_seed) < 2:
            return "cannot tell: one seed"
        return {
            "faster": f"faster: {words(self.ratio.value, '×')} its time",
            "slower": f"slower: {words(self.ratio.value, '×')} its time",
            "same": f"same within {words(max(SAME, self.noise_floor), '%')}",
        }.get(self.decision, "cannot tell")

    def __repr__(self) -> str:
        return f"{self.name}: {self.verdict}"

    def table(self) -> Table:
        """The rung's row, and what it was compared with."""
        caption = f"Steps to the loss, by seed: {self.each}."
        if self.learns_as:
            caption = f"Same losses as {self.learns_as!r}, so the steps were copied from there."
        details = ""
        if self.sure_ratio:
            details = f"Time to the loss ÷ that of {self.baseline!r}: {self.ratio}."
        if self.noise_floor:
            details += f" Ratios within {words(self.noise_floor, '%')} of 1 are noise."
        if self.tried:
            found = (f"{rate:g} {_steps(steps)}" for rate, steps in self.tried.items())
            details += f" Steps at each rate, with other seeds: {', '.join(found)}."
        if self.share:
            details += f" It reaches {words(self.share, '%')} of this machine's best matmul rate."
        return Table(HEADER, [self.row()], caption, details.strip())

    @property
    def each(self) -> str:
        """The steps to the loss of each seed, in words."""
        return ", ".join(map(_steps, self.steps_by_seed)) or "—"

    def row(self) -> tuple[str, ...]:
        """The rung's cells in the ladder's table."""
        wait = f", {words(self.compile_s, 's')} to compile" if self.compile_s else ""
        against = self.verdict
        if ratio := self.sure_ratio:  # always the same unit: the best rung's time is 1
            known = self.decision in ("faster", "slower")
            against += "" if known else f": {words(ratio.value, '×')} its time"
            against += f" [{ratio.with_unit('').interval}]"
        return (
            self.name,
            words(self.step.value, "s"),
            _steps(self.exact_steps) + (" (copied)" if self.learns_as else ""),
            f"{words(self.seconds, 's')}{wait}",
            words(self.peak_bytes, "B"),
            against,
        )

    @property
    def sure_ratio(self) -> Estimate | None:
        """The ratio if its interval is known."""
        return self.ratio if self.ratio and self.ratio.low > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        plain = (str, int, float, type(None))  # others, such as classes, are not for JSON
        known = {name: v for name, v in self.setup.options.items() if isinstance(v, plain)}
        return {
            "name": self.name,
            "options": {**known, "threads": self.setup.threads},
            "step_s": None if math.isnan(self.step.value) else self.step.to_dict(),
            "steps_to_loss": self.steps,
            "steps_by_seed": list(self.steps_by_seed),
            "learns_as": self.learns_as,
            "compile_s": self.compile_s,
            "seconds_to_loss": self.seconds,
            "peak_bytes": self.peak_bytes,
            "peak_share": self.share,
            "against": self.baseline,
            "ratio": self.sure_ratio and self.sure_ratio.to_dict(),
            "steps_by_rate": {f"{rate:g}": steps for rate, steps in self.tried.items()},
            "noise_floor_share": self.noise_floor,
            "verdict": self.verdict,
        }


def mean_steps(by_seed: Sequence[float | None]) -> float | None:
    """The geometric mean of the steps by seed; None: a seed did not reach the loss."""
    steps = [each for each in by_seed if each is not None]
    if not steps or len(steps) < len(by_seed):
        return None
    return float(np.exp(np.mean(np.log(steps))))


def _steps(number: float | None) -> str:
    return "—" if number is None else f"{round(number):,}"


def time_ratio(
    step_ratio: Estimate,
    rung: TrainingRung,
    best: TrainingRung,
    comparisons: int = COMPARISONS,
) -> Estimate | None:
    """Time to the loss ÷ the best rung's, with a simultaneous interval.

    Both rungs train with the same seeds, which makes pairs. Student's interval of their log-ratios
    says how much another seed would change the result. Two rungs that learn the same need the
    same steps, so there the seed changes nothing. The error of the step times is independent of
    the seeds, so both add in squares. None if a seed of either rung did not reach the loss.
    """
    if not (rung.reached and best.reached):
        return None
    mine, theirs = (np.array(r.steps_by_seed, dtype=float) for r in (rung, best))
    times, ratio = (simultaneous(each, comparisons) for each in (best.step, step_ratio))
    if not (rung.compile_s or best.compile_s):  # then the seconds of a step cancel in the ratio
        times = Estimate(times.value, times.value, times.value, "s")

    def logs(step_s: float, r: float) -> np.ndarray:
        """The logarithm of the ratio, by seed."""
        return np.log(rung.compile_s + mine * step_s * r) - np.log(best.compile_s + theirs * step_s)

    same = (rung.learns_as or rung.name) == (best.learns_as or best.name)
    # With equal steps and without a compiler, the ratio is that of the step times alone.
    only_speed = same and not (rung.compile_s or best.compile_s)
    by_seed = logs(times.value, ratio.value)
    middle = float(by_seed.mean())
    if ratio.low <= 0 or times.low <= 0 or (len(by_seed) < 2 and not only_speed):
        return Estimate(math.exp(middle), 0.0, math.inf, "×")
    seeds = 0.0 if only_speed else student_half_width(by_seed, comparisons)
    # How far the mean moves when the ratio, or the time, is at an end of its interval.
    by_ratio = [logs(times.value, end).mean() - middle for end in (ratio.low, ratio.high)]
    by_time = [logs(end, ratio.value).mean() - middle for end in (times.low, times.high)]
    down = math.hypot(seeds, min(0.0, *by_ratio), min(0.0, *by_time))
    up = math.hypot(seeds, max(0.0, *by_ratio), max(0.0, *by_time))
    return Estimate(math.exp(middle), math.exp(middle - down), math.exp(middle + up), "×")
