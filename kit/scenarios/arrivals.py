"""Scenarios in which the users set the pace: queries at random moments, and how many are borne."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kit.errors import BadValue
from kit.figures import Picture, lines
from kit.measurement import Observer, Stopwatch, check_budget, samples_needed
from kit.scenarios.outcomes import Run, evenly, in_words, tolerated
from kit.scenarios.traffic import (
    Serve,
    Wait,
    as_they_come,
    check_above_zero,
    check_count,
    warmed_up,
)
from kit.units import digits, words

LEAST_TARGETS = 20  # in a run of 20 targets, 5 % too many queries pile up to more than one target
MOST_QUERIES = 200_000  # in one run: raw times stay in memory


@dataclass(frozen=True, kw_only=True)
class ServerRun(Run):
    """Queries at random moments: were enough of them answered in time?"""

    rate: float  # queries per second that were asked for
    target_s: float
    percentile: float
    max_batch: int
    min_batch: int = 1
    seed: int

    @property
    def unanswered(self) -> int:
        """Queries that still waited when the run was ended."""
        return self.n - self.answered

    @property
    def late(self) -> int:
        """Queries answered after the target, or not at all."""
        return int(np.sum(np.array(self.latencies_s) > self.target_s))

    @property
    def late_share(self) -> float:
        """The late ones among all."""
        return self.late / self.n

    @property
    def valid(self) -> bool:
        """Whether surely (99 % confidence) p % are answered within the target.

        As many may be late as are `tolerated`. MLPerf's `latency_at` sets one fewer aside, so that
        of a run that is only just valid it can lie above the target.
        """
        return self.late <= tolerated(self.n, self.percentile)

    @property
    def naive_latencies_s(self) -> tuple[float, ...]:
        """What a clock started at the call would say of those answered: it forgets the waiting."""
        return tuple(np.repeat(self.service_s, self.batch_sizes).tolist())

    @property
    def mean_batch(self) -> float:
        """Queries that a call answered, on average."""
        return self.answered / len(self.batch_sizes)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know: also whether there were queries enough, for long enough."""
        found, targets = list(super().doubts), self.n / self.rate / self.target_s
        if tolerated(self.n, self.percentile) < 1:
            found.append(f"{self.n:,} queries are few: needs {samples_needed(self.percentile):,}")
        if targets < LEAST_TARGETS:
            found.append(f"a run of {digits(targets)} targets leaves a queue no time to grow")
        return tuple(found)

    def __repr__(self) -> str:
        lost = f", {self.unanswered:,} never answered" if self.unanswered else ""
        return (
            f"{self.scenario}: {digits(self.rate)} queries/s {'' if self.valid else 'not '}valid, "
            f"{self.late:,} of {self.n:,} later than {words(self.target_s, 's')}{lost}"
        )

    @property
    def definition(self) -> str:
        """How the queries came and what counts."""
        lost = f" {self.unanswered:,} were never answered." if self.unanswered else ""
        return (
            f"Poisson arrivals, {self._at_once} answered at once; valid if surely (99 % "
            f"confidence) {self.percentile:g} % are answered within {words(self.target_s, 's')} of "
            f"their scheduled arrival.{lost}"
        )

    @property
    def _at_once(self) -> str:
        if self.min_batch == 1:
            return f"at most {self.max_batch:,}"
        if self.min_batch == self.max_batch:
            return f"always {self.max_batch:,}"
        return f"{self.min_batch:,} to {self.max_batch:,}"

    def cells(self) -> dict[str, str]:
        """Heading -> what stands below it."""
        allowed = tolerated(self.n, self.percentile)
        return {
            "queries/s": digits(self.rate),
            "queries": f"{self.n:,}",
            "late": words(self.late_share, "%"),
            "allowed": words(allowed / self.n if allowed >= 0 else None, "%"),
            "median latency": in_words(float(np.median(self.latencies_s))),
            f"p{self.percentile:g} latency": self.latency_in_words(self.percentile),
            "busy": words(self.busy_share, "%"),
            "at once": digits(self.mean_batch),
            "valid": "yes" if self.valid else "no",
        }

    def to_dict(self) -> dict[str, Any]:
        """With the verdict and what it was asked."""
        return {**super().to_dict(), **self.verdict()}

    def verdict(self) -> dict[str, Any]:
        """What was asked and how it went, without the latencies."""
        return {
            "rate_queries_per_s": self.rate,
            "target_s": self.target_s,
            "percentile": self.percentile,
            "max_batch": self.max_batch,
            "min_batch": self.min_batch,
            "seed": self.seed,
            "queries": self.n,
            "late_queries": self.late,
            "tolerated_queries": tolerated(self.n, self.percentile),
            "unanswered_queries": self.unanswered,
            "valid": self.valid,
        }

    def plot(self) -> Picture:
        """Latency over arrival: an overloaded system falls further and further behind."""
        arrivals = evenly(self.arrivals_s[: self.answered])
        latencies = evenly(self.latencies_s[: self.answered])
        return lines(
            {"latency": (arrivals, latencies)},
            "scheduled arrival (s)",
            "latency",
            caption=f"{self!r}. Answers took from {words(min(latencies), 's')} to "
            f"{words(max(latencies), 's')}.",
            marks=False,
            level=("target", self.target_s),
            unit="s",
        )


def server(
    serve: Serve,
    *,
    rate: float,
    target_s: float,
    percentile: float = 99,
    max_batch: int = 1,
    min_batch: int = 1,
    queries: int | None = None,
    budget_s: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
    wait_until: Wait | None = None,
) -> ServerRun:
    """Whether many users, who come when they like, are answered in time.

    A query's latency counts from the moment at which it was *due*, also while the system is
    still busy with others. A load generator that waits for an answer before it looks at the clock
    again stops asking just when answers are slow, and never sees the queue: Gil Tene's
    "coordinated omission" ("How NOT to Measure Latency", 2013); see `naive_latencies_s`.

    Whoever waits is answered at the next call, oldest first. An overloaded system is left when the
    schedule's length (or one target, if that is longer) has passed once more after the last
    arrival: who still waits then counts as late, with an infinite latency.

    Parameters
    ----------
    serve
        Answers that many samples at once, e.g. `lambda n: kit.predict(model, inputs[:n])`.
    rate
        Queries per second, on average; the gaps between them are exponential (Poisson arrivals).
    target_s
        The latency within which `percentile` % of the queries shall be answered.
    max_batch
        The most queries that one call is given; more of them wait for the next call.
    min_batch
        The fewest: a call waits until so many have come; only the last one takes what is left.
    queries
        How many come; else as many as fit in `budget_s`, and at least what the percentile needs.
    budget_s
        Seconds of arrivals, with 200,000 queries at most.
    seed
        Of the arrivals: the same seed at another rate gives the same pattern, stretched.
    device
        Where it computes: that device is waited for before an answer counts.
    stopwatch, wait_until
        Other ones for a test with a time of its own.

    Raises
    ------
    CallFailed
        `serve` raised; the original error is the cause.

    Explained in lesson 04.
    """
    check_above_zero(rate=rate, target_s=target_s)
    needed = samples_needed(percentile)
    check_count(max_batch=max_batch, min_batch=min_batch)
    if min_batch > max_batch:
        raise BadValue(f"min_batch={min_batch:,}: needs {max_batch:,} or fewer, max_batch.")
    check_budget(budget_s)
    if queries is None:
        queries = max(needed, min(math.ceil(rate * budget_s), MOST_QUERIES))
    check_count(queries=queries)
    due = poisson(rate, queries, seed)
    end_s = due[-1] + max(due[-1], target_s)
    watch = stopwatch or Stopwatch(device)
    observer = Observer(watch)
    with warmed_up("server", serve, sorted({min_batch, max_batch}), watch):
        times = as_they_come(
            serve,
            due,
            max_batch,
            watch,
            min_batch=min_batch,
            until_s=end_s,
            wait_until=wait_until,
        )
    return ServerRun(
        scenario="server",
        rate=rate,
        target_s=target_s,
        percentile=percentile,
        max_batch=max_batch,
        min_batch=min_batch,
        seed=seed,
        conditions=observer.conditions(),
        **times,
    )


def poisson(rate: float, queries: int, seed: int) -> np.ndarray:
    """(queries,) moments in seconds: nobody knows of the others, so the gaps are exponential."""
    return np.random.default_rng(seed).exponential(1 / rate, queries).cumsum()
