"""Queueing theory for one server: how long requests wait that arrive at random moments.

Kendall's notation for the queue of this file is M/D/1: random (Poisson) arrivals, a fixed time for
each answer, one server. ρ, the load, is the arrival rate ÷ the capacity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    """How long a request waits on average, counted in answers; infinite from load 1 on.

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

    runs: tuple[InTime, ...]  # open loops, in order of their rates
    alone: Estimate  # seconds from a request to its answer if no other is there
    capacity: Estimate  # answers per second if requests never stop

    def load(self, run: InTime) -> float:
        """The load that came: the requests that arrived ÷ those that the server can answer.

        It can differ from the load that was asked for, because requests are counted whole.
        """
        return run.n / run.arrivals_duration_s / self.capacity.value

    def waited(self, run: InTime) -> Estimate:
        """The mean wait of the answered requests, counted in answers: beyond the latency alone.

        Without an upper end if some requests got no answer.
        """
        answered = [s for s in run.latencies_s if s < math.inf]
        latency = mean_estimate(answered, run.inflation) if answered else NEVER
        if len(answered) < run.n:  # those without an answer would have waited longer
            latency = Estimate(latency.value, latency.low, math.inf, "s")
        beyond = difference(latency, self.alone)
        return (beyond * self.capacity.value).with_unit("×")

    def __getitem__(self, i: int) -> Estimate:
        """The mean wait of the run with this index, counted in answers."""
        return self.waited(self.runs[i])

    def __repr__(self) -> str:
        rows = (f"{words(self.load(run), '%')} load: {self.waited(run)}" for run in self.runs)
        return "mean wait, counted in answers, at " + "; at ".join(rows)

    def table(self) -> Table:
        """A row per rate: the load, the wait in seconds and in answers, and the theory's."""
        head = ("load asked for", "load that came", "requests", "mean latency")
        rows = [
            (
                words(run.rate / self.capacity.value, "%"),
                words(self.load(run), "%"),
                f"{run.n:,}",
                repr(run.mean_latency),
                repr(self.waited(run)),
                f"{digits(mean_wait(self.load(run)))} ×" if self.load(run) < 1 else "no end",
            )
            for run in self.runs
        ]
        caption = (
            f"1 × is the time of an answer, {words(1 / self.capacity.value, 's')}: the server "
            f"answers {words(self.capacity.value, 'requests/s')} if requests never stop. The wait "
            f"is the latency beyond that of a request alone, {self.alone}. Theory: M/D/1 at the "
            f"load that came."
        )
        doubts = tuple(dict.fromkeys(doubt for run in self.runs for doubt in run.doubts))
        return Table((*head, "mean wait", "theory"), rows, *with_doubts(caption, doubts))

    def plot(self) -> Picture:
        """The measured waits as points on the curve of the theory."""
        came = [self.load(run) for run in self.runs]
        measured = [self.waited(run).value for run in self.runs]
        top = 2 * max(10.0, *measured)
        drawn = [load for load in LOADS if mean_wait(load) <= top]
        return lines(
            {"theory (M/D/1)": (drawn, list(map(mean_wait, drawn))), "measured": (came, measured)},
            "load: arrival rate ÷ capacity",
            "mean wait ÷ time of an answer",
            caption=f"Mean wait, counted in answers. Measured: {self!r}.",
        )

    def to_dict(self) -> dict[str, Any]:
        """The capacity, and each run's load and waits."""
        runs = [
            {
                "load": self.load(run),
                "requests": run.n,
                "mean_latency_s": finite(run.mean_latency_s),
                "mean_wait_answers": finite(self.waited(run).value),
                "theory_answers": finite(mean_wait(self.load(run))),
            }
            for run in self.runs
        ]
        alone, capacity = self.alone.to_dict(), self.capacity.to_dict()
        return {"alone_latency": alone, "capacity": capacity, "runs": runs}


def waits(
    runs: Mapping[Any, InTime] | list[InTime], alone: InTime, capacity: float | Estimate
) -> Waits:
    """How long requests waited at several rates, beside the theory of M/D/1.

    Parameters
    ----------
    runs
        Open loops at several rates; of a dictionary, its values.
    alone
        A run in which no request met another: a closed loop with one user.
    capacity
        Answers per second if requests never stop, such as the throughput of many users.

    Explained in lesson 11.
    """
    given = list(runs.values()) if isinstance(runs, Mapping) else list(runs)
    if not given:
        raise BadValue("waits: no runs; needs at least one open loop.")
    most = Estimate.of(capacity).with_unit("requests/s")
    return Waits(tuple(sorted(given, key=lambda run: run.rate)), alone.mean_latency, most)
