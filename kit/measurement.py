"""How long a call takes: any call. Nothing here knows what a model is.

Five things make a stopwatch right, and each is in this file once:

wait        an accelerator's queue is empty before the clock is read       Stopwatch.time
warm up     first calls allocate and compile: they are kept apart          warm_up
repeat      one number says nothing about the next                         rounds
interleave  a machine drifts: things to compare take turns                 measure_parts, compare
interval    what the repeats allow one to say, and what they do not        Measurement
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from kit import devices
from kit.errors import BadValue, CallFailed, NotEnoughSamples
from kit.estimates import Estimate, bootstrap
from kit.figures import Picture, Table, lines
from kit.results import Result
from kit.units import words

LEAST_TIMING_S = 50e-6  # shorter calls are timed in blocks: reading the clock costs about 0.1 µs
LEAST_REPEATS = 10
WINDOW = 5  # timings whose medians decide whether it is still getting faster
Call = Callable[[], Any]


class Stopwatch:
    """Times calls on a device, waiting for the device at both edges.

    Parameters
    ----------
    device
        Where the calls compute.
    clock, synchronise
        Other ones for a test with a device or a time of its own.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[torch.device], None] = devices.synchronise,
    ):
        self.device, self.clock, self._synchronise = torch.device(device), clock, synchronise

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        self._synchronise(self.device)

    def time(self, call: Call, repeats: int = 1) -> float:
        """Seconds for `repeats` calls in a row."""
        self.wait()
        started = self.clock()
        for _ in range(repeats):
            call()
        self.wait()
        return self.clock() - started


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


def warm_up(call: Call, watch: Stopwatch, budget_s: float) -> tuple[int, float, bool]:
    """Call until it is no longer getting faster.

    Returns the calls per timing that outlast the clock, the seconds spent, and whether times had
    settled before the budget was gone.
    """
    block, spent, before = 1, 0.0, math.inf
    while True:
        times = [watch.time(call, block) for _ in range(WINDOW)]
        spent += sum(times)
        now = float(np.median(times))
        if now < LEAST_TIMING_S:
            block = max(2 * block, math.ceil(block * LEAST_TIMING_S / max(now, 1e-9)))
            continue
        if now > 0.95 * before:
            return block, spent, True
        if spent > budget_s:
            return block, spent, False
        before = now


def rounds(budget_s: float, watch: Stopwatch) -> Iterator[int]:
    """Numbers of rounds until the budget is spent: at least ten, unless those take ten budgets."""
    began, n, spent = watch.clock(), 0, 0.0
    while spent < (budget_s if n >= LEAST_REPEATS else LEAST_REPEATS * budget_s):
        yield n
        n, spent = n + 1, watch.clock() - began


def check_budget(budget_s: float) -> None:
    """Refuse a budget in which nothing can be timed."""
    if not isinstance(budget_s, (int, float)) or not 0 < budget_s < math.inf:
        raise BadValue(f"budget_s={budget_s!r}: needs seconds, a number above 0.")


def conditions_of(watch: Stopwatch) -> dict[str, Any]:
    """Device, threads, and how busy the machine is before the timing makes it busy."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": str(watch.device),
        "threads": torch.get_num_threads(),
        "load": load,
        "cores": devices.cores_allowed(),
    }


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Say which call raised; the original error stays as the cause."""
    try:
        yield
    except Exception as error:
        raise CallFailed(f"{label!r} raised {type(error).__name__}: {error}") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Hold Python's garbage collector, which would stop a call now and then, and let it go on."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class Parts(Result):
    """Times of the parts of one job, taken together in each round."""

    measurements: dict[str, Measurement]

    def __getitem__(self, name: str) -> Measurement:
        return self.measurements[name]

    def ratio(self, parts: str | list[str], to: str) -> Estimate:
        """Median over the rounds of (the sum of the parts ÷ the other part)."""
        names = [parts] if isinstance(parts, str) else parts
        above = np.sum([self[name].times_s for name in names], axis=0)
        return bootstrap(above / np.array(self[to].times_s), unit="×")

    def share(self, part: str, of: list[str]) -> Estimate:
        """Median over the rounds of (the part ÷ the sum of the others)."""
        below = np.sum([self[name].times_s for name in of], axis=0)
        return bootstrap(np.array(self[part].times_s) / below, unit="%")

    def __repr__(self) -> str:
        return "; ".join(repr(m) for m in self.measurements.values())

    def table(self) -> Table:
        """What people see."""
        return measurements_table(list(self.measurements.values()))

    def to_dict(self) -> dict[str, Any]:
        """The raw times of each part."""
        return {"parts": {name: m.to_dict() for name, m in self.measurements.items()}}


def measure_parts(
    parts: Mapping[str, Callable[[Any], Any]],
    *,
    budget_s: float = 1.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Parts:
    """How long each part of a job takes, part after part, round after round.

    Some parts cannot be timed alone: a backward pass needs the forward pass before it. So the
    whole job runs in each round, and the device is waited for after each part. Since a round's
    parts are taken within moments, a slow moment of the machine touches them alike, and a ratio
    within a round hardly feels it.

    Parameters
    ----------
    parts
        Name -> callable; each is given what the part before it returned (the first gets None).
    budget_s
        Seconds for the rounds.
    device
        Where the parts compute.

    Explained in lesson 02.
    """
    check_budget(budget_s)
    watch = stopwatch or Stopwatch(device)
    conditions = conditions_of(watch)
    with no_collection():
        first = _round(parts, watch)
        warm: list[np.ndarray] = [_round(parts, watch) for _ in range(WINDOW)]
        while not (steady := _settled(warm)) and np.sum(warm) < budget_s:
            warm += [_round(parts, watch) for _ in range(WINDOW)]
        taken = np.array([_round(parts, watch) for _ in rounds(budget_s, watch)])
    spent = np.sum(warm, axis=0)
    return Parts(
        {
            name: Measurement(name, tuple(taken[:, i]), 1, first[i], spent[i], steady, **conditions)
            for i, name in enumerate(parts)
        }
    )


def _round(parts: Mapping[str, Callable[[Any], Any]], watch: Stopwatch) -> np.ndarray:
    """Seconds of each part of one job."""
    times, made = [], None
    for name, part in parts.items():
        with labelled(name):
            watch.wait()
            started = watch.clock()
            made = part(made)
            watch.wait()
            times.append(watch.clock() - started)
    return np.array(times)


def _settled(warm: list[np.ndarray]) -> bool:
    """Whether the last window of rounds was no faster than the one before it."""
    if len(warm) < 2 * WINDOW:
        return False
    totals = np.sum(warm, axis=1)
    before, now = totals[-2 * WINDOW : -WINDOW], totals[-WINDOW:]
    return bool(np.median(now) > 0.95 * np.median(before))
