"""One call: every time that was taken of it, and what they allow one to say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from kit.errors import BadValue, NotEnoughSamples
from kit.estimates import Estimate, bootstrap
from kit.figures import Picture, Table, lines
from kit.measurement.stopwatch import (
    LEAST_REPEATS,
    Call,
    Stopwatch,
    check_budget,
    conditions_of,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.results import Result
from kit.units import words


@dataclass(frozen=True)
class Measurement(Result):
    """Every time that was taken of one call, and under which conditions."""

    label: str
    times_s: tuple[float, ...] = field(repr=False)  # per call; a block's mean if block > 1
    block: int  # calls per timing
    first_s: float  # the very first call: allocation, compilation, caches
    warmup_s: float
    steady: bool  # whether warm-up ended because times had settled
    device: str
    threads: int
    load: float | None  # programs that wanted a core in the minute before it began
    cores: float | None = None  # that it was allowed

    @property
    def n(self) -> int:
        """How many timings there are."""
        return len(self.times_s)

    @property
    def median(self) -> Estimate:
        """Median seconds per call, with its bootstrap interval."""
        return bootstrap(np.array(self.times_s), unit="s")

    @property
    def median_s(self) -> float:
        """Median seconds per call."""
        return float(np.median(self.times_s))

    @property
    def spread(self) -> float:
        """Half of the timings lie in a range this wide, as a share of the median."""
        low, high = np.percentile(self.times_s, [25, 75])
        return float((high - low) / self.median_s)

    def percentile(self, p: float) -> float:
        """The time that p % of the calls stay below.

        Raises
        ------
        NotEnoughSamples
            A tail needs samples in it, see `samples_needed`; or single calls were not timed.
        """
        if not 0 < p < 100:
            raise BadValue(f"percentile {p!r}: needs a number between 0 and 100.")
        needed = samples_needed(p)
        if self.block > 1:
            raise NotEnoughSamples(
                f"p{p:g} of {self.label!r}: each timing is the mean of {self.block} calls, "
                f"single calls are shorter than the clock can tell."
            )
        if self.n < needed:
            raise NotEnoughSamples(
                f"p{p:g} of {self.label!r}: {self.n} timings, needs {needed}; raise budget_s."
            )
        return float(np.percentile(self.times_s, p))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the number."""
        found = []
        if not self.steady:
            found.append("times had not settled when the warm-up ended")
        if self.n < LEAST_REPEATS:
            found.append(f"only {self.n} timings")
        if self.spread > 0.2:
            found.append(f"half of the timings spread over {words(self.spread, '%')} of the median")
        if self.load and self.cores and self.load + self.threads > self.cores + 0.5:
            found.append("other programs were busy on this machine")
        return tuple(found)

    def __repr__(self) -> str:
        return f"{self.label}: {self.median}, n = {self.n:,}"

    def table(self) -> Table:
        """What people see."""
        return measurements_table([self])

    def to_dict(self) -> dict[str, Any]:
        """The raw times and their conditions."""
        raw = {"times_s": [round(t, 10) for t in self.times_s]}  # no clock tells more
        derived = {"median_s": self.median.to_dict(), "doubts": list(self.doubts)}
        return {**asdict(self), **raw, **derived}

    def plot(self) -> Picture:
        """Each timing in the order it was taken: drift and outliers show."""
        xs = list(range(1, self.n + 1))
        low, high = min(self.times_s), max(self.times_s)
        caption = (
            f"{self.label}: {self.n:,} timings from {words(low, 's')} to {words(high, 's')}, "
            f"median {words(self.median_s, 's')}."
        )
        median = ("median", self.median_s)
        return lines(
            {"timings": (xs, self.times_s)},
            "timing",
            "time per call",
            caption=caption,
            level=median,
            unit="s",
        )


def samples_needed(p: float) -> int:
    """How many calls a statement about the p-th percentile needs: 64 for p90, 662 for p99.

    The fewest n of which, with 99 % confidence, at least two lie beyond it: MLPerf's rule for
    stopping early (Inference Rules, "early stopping").

    >>> samples_needed(90), samples_needed(99)
    (64, 662)
    """
    inside = max(p, 100 - p) / 100
    n = 2
    while inside**n + n * (1 - inside) * inside ** (n - 1) > 0.01:
        n += 1
    return n


def measurements_table(measured: list[Measurement]) -> Table:
    """Several measurements as one table; conditions and doubts in the caption."""
    rows = [
        (
            m.label,
            words(m.median.value, "s"),
            m.median.interval,
            words(m.spread, "%"),
            f"{m.n:,}" + (f" × {m.block:,}" if m.block > 1 else ""),
            words(m.first_s, "s"),
        )
        for m in measured
    ]
    one = measured[0]
    caption = f"95 % interval of the median. {one.device}, {one.threads} thread"
    caption += f"{'s' * (one.threads > 1)}."
    doubts = [f"{m.label}: {doubt}" for m in measured for doubt in m.doubts]
    if doubts:
        caption += f" Doubts: {'; '.join(doubts)}."
    return Table(("", "median", "interval", "spread", "timings", "first call"), rows, caption)


def measure(
    call: Call,
    *,
    label: str = "call",
    budget_s: float = 1.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Measurement:
    """How long a call takes, from warmed-up, synchronised, repeated timings.

    Parameters
    ----------
    call
        Takes nothing; does the same work each time.
    label
        Its name in tables.
    budget_s
        Seconds for the timings; warm-up may take as much again, a slow call more.
    device
        Where the call computes: that device is waited for.

    Raises
    ------
    CallFailed
        The call raised; the original error is the cause.

    Explained in lesson 02, and taken apart in lesson 03.
    """
    check_budget(budget_s)
    watch = stopwatch or Stopwatch(device)
    conditions = conditions_of(watch)
    with labelled(label), no_collection():
        first = watch.time(call)
        block, warmup_s, steady = warm_up(call, watch, budget_s)
        times = [watch.time(call, block) / block for _ in rounds(budget_s, watch)]
    return Measurement(label, tuple(times), block, first, warmup_s, steady, **conditions)
