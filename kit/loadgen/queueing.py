"""Queueing theory for one server: how long requests wait that arrive at random moments.

Kendall's notation for the queue of this file is M/D/1: random (Poisson) arrivals, a fixed time for
each answer, one server. ρ, the load, is the arrival rate ÷ the capacity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, difference
from kit.core.units import digits, words
from kit.loadgen.latency_result import InTime, finite
from kit.loadgen.latency_statistics import mean_estimate
from kit.plots import Picture, Table, lines, with_doubts

NEVER = Estimate(math.inf, 0.0, math.inf, "s")  # no request was answered
LOADS = [*(i / 20 for i in range(1, 20)), 0.96, 0.97, 0.98]  # of the theory's curve


def mean_wait(load: float, dispersion: float = 0.0) -> float:
    """How long a request waits on average, counted in service times; infinite from load 1 on.

    Parameters
    ----------
    load
        The arrival rate ÷ the capacity.
    dispersion
        The variance of the times of an answer ÷ their mean squared: 0 if all take equally long.

    Notes
    -----
    Pollaczek and Khinchine: a request meets an answer that is under way with probability ρ, and
    half of it is left; and it waits for the requests before it, which waited as well. So
    W = ρ/2 + ρ·W, and W = ρ / (2·(1 − ρ)).

    >>> [round(mean_wait(load), 2) for load in (0.5, 0.8, 0.95, 1.0)]
    [0.5, 2.0, 9.5, inf]
    """
    if load < 0:
        raise BadValue(f"load={load:g}: needs the arrival rate ÷ the capacity, at least 0.")
    return load * (1 + dispersion) / (2 * (1 - load)) if load < 1 else math.inf


@dataclass(frozen=True)
class Waits(Result):
    """How long requests waited at several rates, beside the theory of M/D/1."""

    runs: tuple[InTime, ...]  # open loops, in the given order
    alone: Estimate  # seconds from a request to its answer if no other is there
    capacities: tuple[Estimate, ...]  # answers per second if requests never stop, for each run

    def load(self, i: int) -> float:
        """The load that came in a run: arrivals per second ÷ answers per second, at most."""
        return self.runs[i].n / self.runs[i].arrivals_duration_s / self.capacities[i].value

    def __getitem__(self, i: int) -> Estimate:
        """The mean wait in a run, counted in service times: the latency beyond that of one alone.

        Without an upper end if some requests got no answer.
        """
        run = self.runs[i]
        answered = [s for s in run.latencies_s if s < math.inf]
        latency = mean_estimate(answered, run.inflation) if answered else NEVER
        if len(answered) < run.n:  # those without an answer would have waited longer
            latency = Estimate(latency.value, latency.low, math.inf, "s")
        wait = difference(latency, self.alone)
        wait = Estimate(wait.value, max(0.0, wait.low), wait.high)  # no wait is below 0
        return (wait * self.capacities[i].value).with_unit("×")

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        rows = (f"{words(self.load(i), '%')} load: {self[i]}" for i in range(len(self)))
        return "mean wait, counted in service times, at " + "; at ".join(rows)

    def table(self) -> Table:
        """A row per rate: the load, the latency, the wait in service times, and the theory's."""
        rows = [
            (
                words(self.load(i), "%"),
                f"{run.n:,}",
                words(1 / self.capacities[i].value, "s"),
                repr(run.mean_latency),
                repr(self[i]),
                f"{digits(mean_wait(self.load(i)))} ×" if self.load(i) < 1 else "no end",
            )
            for i, run in enumerate(self.runs)
        ]
        head = ("load", "requests", "service time", "mean latency", "mean wait", "theory")
        caption = (
            f"1 × is one service time: that of an answer if requests never stop. The wait is the "
            f"latency beyond that of a request alone, {self.alone}. Theory: M/D/1 at this load."
        )
        doubts = tuple(dict.fromkeys(doubt for run in self.runs for doubt in run.doubts))
        return Table(head, rows, *with_doubts(caption, doubts))

    def plot(self) -> Picture:
        """The measured waits as points on the curve of the theory."""
        came = [self.load(i) for i in range(len(self))]
        measured = [self[i].value for i in range(len(self))]
        top = 2 * max(10.0, *measured)
        drawn = [load for load in LOADS if mean_wait(load) <= top]
        return lines(
            {"theory (M/D/1)": (drawn, list(map(mean_wait, drawn))), "measured": (came, measured)},
            "load: arrival rate ÷ capacity",
            "mean wait ÷ service time",
            caption=f"Mean wait, counted in service times. Measured: {self!r}.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Each run's capacity, load and waits."""
        runs = [
            {
                "capacity": self.capacities[i].to_dict(),
                "load": self.load(i),
                "requests": run.n,
                "mean_latency_s": finite(run.mean_latency_s),
                "mean_wait_service_times": finite(self[i].value),
                "theory_service_times": finite(mean_wait(self.load(i))),
            }
            for i, run in enumerate(self.runs)
        ]
        return {"alone_latency": self.alone.to_dict(), "runs": runs}


def waits(
    runs: Sequence[InTime],
    alone: InTime,
    capacity: float | Estimate | Sequence[float | Estimate],
) -> Waits:
    """How long requests waited at several rates, beside the theory of M/D/1.

    Parameters
    ----------
    runs
        Open loops at several rates.
    alone
        A run in which no request met another: a closed loop with one user.
    capacity
        Answers per second if requests never stop, such as the throughput of many users: one for
        all runs, or one for each, measured beside it.

    Explained in lesson 11.
    """
    if not runs:
        raise BadValue("waits: no runs; needs at least one open loop.")
    each = list(capacity) if isinstance(capacity, Sequence) else [capacity] * len(runs)
    if len(each) != len(runs):
        raise BadValue(f"waits: {len(each)} capacities for {len(runs)} runs; needs one for each.")
    most = [Estimate.of(value).with_unit("requests/s") for value in each]
    return Waits(tuple(runs), alone.mean_latency, tuple(most))
