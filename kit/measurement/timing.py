"""One call, timed again and again: all its times, and what they can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_budget
from kit.core.correlated_samples import SHOWS_ORDER, effective_samples
from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.results import Result
from kit.core.statistics import (
    Estimate,
    mean_of_stretches,
    median,
    percentile,
    samples_needed,
)
from kit.core.units import words
from kit.measurement.conditions import Conditions, Observer, compile_time
from kit.measurement.memory import Flush, peak_bytes
from kit.measurement.roofline import Peaks
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    check_call,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.plots import Picture, Table, lines, with_doubts

MOST_SAVED = 1_000  # times in a record, which a notebook has to hold
# A normal distribution has 0.7 % of its values beyond the first fence and hardly any beyond
# the second; timings have more, because interrupts only ever make a call slower.
MILD, SEVERE = 1.5, 3.0  # Tukey's fences, in interquartile ranges beyond the quartiles


@dataclass(frozen=True)
class Measurement(Result):
    """All times of one call, with the conditions under which they were measured."""

    label: str
    times_s: tuple[float, ...] = field(repr=False)  # per call; a block's mean if block > 1
    block: int  # calls per timing
    first_s: float  # the very first call: allocation, compilation, caches
    warmup_s: float
    steady: bool  # whether the times had settled when the warm-up ended
    conditions: Conditions
    compile_s: float = 0.0  # that PyTorch's compiler took in the first call and the warm-up
    flushed_bytes: int = 0  # overwritten before each timing, which makes the caches cold
    pages: float | None = None  # of memory that a call took from the system (page faults), median
    peak_bytes: int | None = None  # that one call had allocated at once, beyond earlier memory
    share: float | None = None  # the least time that the machine's peaks allow ÷ the median

    @property
    def n(self) -> int:
        """How many timings there are."""
        return len(self.times_s)

    @cached_property
    def median(self) -> Estimate:
        """Median seconds per call, with its interval.

        The interval is about this run: where the median would settle if the call were timed for
        longer on the machine as it is now. Another run may find another median.
        """
        # The median, not the mean: one slow moment can double a mean and hardly moves the median.
        # The minimum would be steadier still, but no user ever experiences it.
        return median(self.times_s, "s")

    @property
    def median_s(self) -> float:
        """Median seconds per call."""
        # Without the interval, which takes time to compute.
        return float(np.median(self.times_s))

    @property
    def median_within(self) -> Estimate:
        """The median; where its interval is unknown, from the fastest to the slowest timing.

        Timings in groups say little about where the median of a longer run would be. But as long
        as that run has no slower and no faster times than this one, it is between these two.
        """
        if math.isfinite(self.median.low) and math.isfinite(self.median.high):
            return self.median
        return Estimate(self.median_s, min(self.times_s), max(self.times_s), "s")

    @cached_property
    def mean(self) -> Estimate:
        """Mean seconds per call, with the interval from five stretches of the run.

        What a bill needs: it pays for slow calls, too. The interval is known where that of the
        median is not, because timings came in groups: groups make the stretches differ.
        """
        return mean_of_stretches(self.times_s, unit="s")

    @property
    def spread(self) -> float:
        """Half of the timings lie in a range this wide, as a share of the median."""
        # Quartiles, not a standard deviation: one interrupt of 10 ms would dominate that.
        low, high = np.percentile(self.times_s, [25, 75])
        return float((high - low) / self.median_s)

    @property
    def drift(self) -> float:
        """Median of the last third of the timings ÷ of the first third: 1 if nothing changed."""
        # Thirds, so that a slow start or a hot processor at the end shows and noise averages out.
        third = max(1, self.n // 3)
        return float(np.median(self.times_s[-third:]) / np.median(self.times_s[:third]))

    @property
    def _order(self) -> list[str]:
        """What the order of the timings shows: groups of slow and fast ones, and a drift."""
        found: list[str] = []
        if self.n < SHOWS_ORDER:
            return found
        # Dependent timings make the interval wider, and the reader should know why.
        if (m := effective_samples(self.times_s)) < self.n / 2:
            worth = f"as much as {m:,} independent ones" if m else "too little for an interval"
            found.append(f"slow and fast timings come in groups: {self.n:,} of them tell {worth}")
        # Then one number cannot describe the call: the machine changed, or is warming up.
        if abs(self.drift - 1) > 0.1:
            found.append(f"the last third took {words(self.drift, '×')} the time of the first")
        return found

    @property
    def outliers(self) -> dict[str, int]:
        """How many timings lie beyond Tukey's fences; none of them is dropped.

        *slow* and *fast* timings lie more than 1.5 interquartile ranges beyond the quartiles,
        *very slow* and *very fast* ones more than 3 (Tukey, *Exploratory Data Analysis*, 1977).
        A slow timing also happened to a user, so dropping it would make the number too good.
        """
        times = np.array(self.times_s)
        low, high = np.percentile(times, [25, 75])
        # If half of the timings are equal, the range is 0 and every other one would be an outlier.
        width = max(high - low, 1e-3 * self.median_s) or 1.0
        # In units of the interquartile range: the rule does not depend on how long the call takes.
        above, below = (times - high) / width, (low - times) / width
        return {
            "very fast": int(np.sum(below > SEVERE)),
            "fast": int(np.sum((below > MILD) & (below <= SEVERE))),
            "slow": int(np.sum((above > MILD) & (above <= SEVERE))),
            "very slow": int(np.sum(above > SEVERE)),
        }

    def percentile(self, p: float) -> Estimate:
        """The time that p % of the calls in this run stay below, with its interval.

        Raises
        ------
        NotEnoughSamples
            Too few timings for this tail (`samples_needed`), or single calls were not timed.
        """
        samples_needed(p)  # refuses a percentage out of range
        # A tail of block means says nothing about single calls: averaging removes the tail.
        if self.block > 1:
            raise NotEnoughSamples(
                f"p{p:g} of {self.label!r}: each timing is the mean of {self.block} calls, because "
                f"single calls are too short for the clock. Give it more work per call."
            )
        try:
            return percentile(self.times_s, p, "s")
        except NotEnoughSamples as error:
            raise NotEnoughSamples(f"{self.label!r}: {error} Raise budget_s.") from error

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the number."""
        found = []
        # Each doubt below is a reason why another run could give another median.
        if not self.steady:
            found.append("times had not settled when the warm-up ended")
        if self.n < SHOWS_ORDER:
            found.append(f"only {self.n} timings: too few to show whether they follow each other")
        found += self._order
        # A wide spread is not wrong, but then a single call may differ much from the median.
        if self.spread > 0.2:
            found.append(f"half of the timings spread over {words(self.spread, '%')} of the median")
        # Usually another program: each of its time slices delays one call by milliseconds.
        if self.outliers["very slow"] > 0.05 * self.n:
            found.append(f"{self.outliers['very slow']:,} of {self.n:,} timings very slow")
        # A clock that steps by 1 % of the call can round every timing to the same number.
        step = self.conditions.resolution_s
        if step > 0.01 * self.median_s * self.block:
            found.append(f"the clock's steps of {words(step, 's')} are coarse for this call")
        return (*found, *self.conditions.doubts)

    def __repr__(self) -> str:
        return f"{self.label}: {self.median}, n = {self.n:,}"

    def table(self) -> Table:
        """The median with its interval; conditions and doubts in the caption."""
        return measurements_table([self])

    def to_dict(self) -> dict[str, Any]:
        """The raw times and their conditions; at most 1,000 of the times, evenly spaced."""
        # Rounded up, so that at most `MOST_SAVED` remain.
        every = -(-self.n // MOST_SAVED)
        raw = {
            "times_s": [round(t, 12) for t in self.times_s[::every]],  # of a block, its mean
            "times_kept_every": every,
            "n": self.n,
        }
        # Stored although they could be derived: a reader of the record may not have the kit.
        derived = {
            "median_s": self.median.to_dict(),
            "outliers": self.outliers,
            "doubts": list(self.doubts),
        }
        return {**asdict(self), **raw, **derived}

    def plot(self) -> Picture:
        """The timings in the order in which they were taken, which shows drift and outliers."""
        # Over the order and not over time: gaps between timings carry no information here.
        xs = list(range(1, self.n + 1))
        low, high = min(self.times_s), max(self.times_s)
        caption = (
            f"{self.label}: {self.n:,} timings from {words(low, 's')} to {words(high, 's')}, "
            f"median {words(self.median_s, 's')}{self._outliers_caption()}."
        )
        caption += "".join(f" {each.capitalize()}." for each in self._order)
        middle = ("median", self.median_s)
        return lines(
            {"timings": (xs, self.times_s)},
            "timing",
            "time per call",
            caption=caption,
            marks=self.n <= 100,
            level=middle,
            unit="s",
        )

    def _outliers_caption(self) -> str:
        found = ", ".join(f"{count:,} {name}" for name, count in self.outliers.items() if count)
        return f"; outliers, all kept: {found}" if found else ""


def measurements_table(measured: list[Measurement]) -> Table:
    """Several measurements as one table; the caption has the first doubt, the details the rest."""
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
    caption = "95 % interval of the median in this run. Another run may differ by more."
    details = f"{measured[0].conditions}."
    for m in measured:
        of = f"{m.label}: " if len(measured) > 1 else ""
        if m.flushed_bytes:
            caption += f" {of}{words(m.flushed_bytes, 'B')} overwritten before each timing, "
            caption += "so that the caches are cold."
        if m.share is not None:
            caption += f" {of}{words(m.share, '%')} of what this machine's peaks allow."
        if m.compile_s:
            details += f" {of}compiling took {words(m.compile_s, 's')} before that."
        if m.peak_bytes is not None:
            details += f" {of}a call allocated at most {words(m.peak_bytes, 'B')} at once."
        details += f" {of}{outliers[2:]}." if (outliers := m._outliers_caption()) else ""
    header = ("", "median", "interval", "spread", "timings", "first call")
    doubts = all_doubts({m.label: m for m in measured})
    return Table(header, rows, *with_doubts(caption, doubts, details))


def all_doubts(measurements: Mapping[str, Measurement]) -> list[str]:
    """The doubts that all measurements share, each once, then the others with their names."""
    shared, own = split_doubts(measurements)
    return shared + [f"{name}: {doubt}" for name, each in own.items() for doubt in each]


def split_doubts(
    measurements: Mapping[Any, Measurement],
) -> tuple[list[str], dict[Any, list[str]]]:
    """The doubts that all measurements share, and by name the others of each."""
    doubts = {name: m.doubts for name, m in measurements.items()}
    shared = [d for d in next(iter(doubts.values())) if all(d in own for own in doubts.values())]
    return shared, {name: [d for d in each if d not in shared] for name, each in doubts.items()}


def measure(
    call: Call,
    *,
    label: str = "call",
    budget_s: float = 1.0,
    device: torch.device | str = "cpu",
    cache: str = "warm",
    work: tuple[float, float] | None = None,
    peaks: Peaks | None = None,
    dtype: str = "float32",
    stopwatch: Stopwatch | None = None,
) -> Measurement:
    """How long a call takes, from warmed-up, synchronised, repeated timings.

    Parameters
    ----------
    call
        Takes no arguments and does the same work each time.
    label
        Its name in tables.
    budget_s
        Seconds for the timings; the warm-up may take as long again. A slow call is warmed up
        twice and timed ten times if that fits into ten budgets; with fewer than six timings its
        interval is unknown. One more call measures memory, if a call takes less than the budget.
    device
        Where the call computes. An accelerator returns before it has finished, so the clock is
        read only after waiting for that device.
    cache
        "warm": the call finds the data of the call before it in the caches, as in a loop.
        "cold": the caches are overwritten before each timing, as for a call that is rare.
    work, peaks, dtype
        The call's (FLOPs, bytes that must move). With the peaks of this machine they give the
        share of the limit, which shows a wrong timing or count if it is over 100 %.

    Raises
    ------
    BadValue
        `call` is not a function, or it was faster than the peaks allow for its work.
    CallFailed
        The call raised; the original error is the cause.

    Examples
    --------
    >>> x = torch.rand(64, 64)
    >>> found = measure(lambda: x @ x, label="matmul", budget_s=0.02)
    >>> found.label, found.median.low <= found.median_s <= found.median.high
    ('matmul', True)

    Explained in lesson 02, and taken apart in lesson 03.
    """
    check_call("kit.measure", call)
    check_budget(budget_s)
    if cache not in ("warm", "cold"):
        raise BadValue(f"cache={cache!r}: needs 'warm' or 'cold'.")
    if work and not peaks:
        raise BadValue("work is given without peaks: needs both. Give peaks=kit.peaks(device).")
    watch = stopwatch or Stopwatch(device)
    # Made once: filling a new buffer before each timing would use up the budget of the timings.
    flush = Flush(watch.device) if cache == "cold" else None
    observer = Observer(watch)
    # The collector stays off inside: a collection of 10 ms would look like a slow call.
    with labelled(label), no_collection():
        # The first call is kept apart: it allocates, compiles and fills the caches.
        with compile_time(watch) as compiling:
            first = watch.time(call)
            # The warm-up also finds how many calls make a timing long enough for the clock.
            block, warmup_s, steady, _ = warm_up(call, watch, budget_s)
        times = []
        for _ in rounds(budget_s, watch):
            if flush:
                block = 1  # in a longer block, only the first call would be cold
                flush()
            times.append(watch.time(call, block) / block)
        # Before the memory is measured: the profiler slows the call down and raises the load.
        conditions = observer.conditions()
        peak = peak_bytes(call, watch.device) if np.median(times) < budget_s else None
    # Outside of the timings: it may measure the peaks again.
    share = peaks.limit_share(*work, float(np.median(times)), dtype) if work and peaks else None
    return Measurement(
        label,
        tuple(times),
        block,
        first,
        warmup_s,
        steady,
        conditions,
        compile_s=compiling.seconds,
        flushed_bytes=flush.bytes if flush else 0,
        peak_bytes=peak,
        share=share,
    )
