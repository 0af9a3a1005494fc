"""Scenarios in which the users set the pace: queries at random moments, and how many are borne."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_budget, check_positive, check_whole
from kit.core.errors import BadValue
from kit.core.statistics import Estimate, proportion, samples_needed
from kit.core.units import digits, words
from kit.loadgen.client import Serve, Wait, as_they_come, warmed_up
from kit.loadgen.dependence import (
    LEAST,
    independent_needed,
    inflation,
    mean_of,
    of_a_queue,
    tolerated,
)
from kit.loadgen.outcomes import Run, evenly
from kit.measurement import Observer, Stopwatch
from kit.plots import Picture, lines

LEAST_TARGETS = 20  # in a run of 20 targets, 5 % too many queries pile up to more than one target
MOST_QUERIES = 200_000  # in one run: raw times stay in memory
SEEN_FULL = 0.05  # of the calls: fewer full ones are chance, and no queue stood behind them
VERDICTS = {"yes": "valid", "no": "not valid", "cannot tell": "may be valid or not"}


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
    def late_estimate(self) -> Estimate:
        """Their share with Wilson's 95 % interval, for as many as are independent."""
        beyond = self.inflation_beyond(self.target_s)
        if beyond == math.inf:
            return Estimate(self.late_share, 0.0, 1.0, "%")
        return proportion(self.late / beyond, self.n / beyond)  # type: ignore[arg-type]  # fractions

    @cached_property
    def load(self) -> Estimate | None:
        """The rate ÷ what calls with `max_batch` queries answer per second; above 1 nothing helps.

        None where hardly a call was so full: then there is room, and nobody knows how much.
        """
        full = self._full_calls_s
        if len(full) < SEEN_FULL * len(self.batch_sizes):
            return None
        call_s, each_s = mean_of(full, inflation(full)), self.max_batch / self.rate
        return Estimate(call_s.value / each_s, call_s.low / each_s, call_s.high / each_s, "%")

    @cached_property
    def inflation(self) -> float:
        """As in `Run`, and at least what theory says of a queue at this load (`of_a_queue`)."""
        sizes = np.array(self.batch_sizes)
        together = float(np.square(sizes).sum() / sizes.sum())  # those of a call share their fate
        found = max(super().inflation, together)
        if self.load is None:
            return found
        full = self._full_calls_s
        spread = float(np.std(full) / max(np.mean(full), 1e-12))  # a clock may show no time at all
        dispersion = inflation(full) * spread**2
        return max(found, of_a_queue(self.load.high, dispersion, self.max_batch))

    @property
    def _full_calls_s(self) -> np.ndarray:
        return np.array(self.service_s)[np.array(self.batch_sizes) == self.max_batch]

    @cached_property
    def says(self) -> str:
        """Whether p % are answered within the target in the long run: "yes", "no", "cannot tell".

        "yes" and "no" are sure to 95 %: the share of late queries is held against what is allowed
        by MLPerf's rule (`tolerated`), for as many queries as these are worth if they were
        independent. More queries than can be answered are a "no" whatever the run shows: their
        queue grows without end.
        """
        if self.load and self.load.low >= 1:
            return "no"
        beyond, in_time = self.inflation_beyond(self.target_s), self.n - self.late
        few_late = self.late <= tolerated(self.n, self.percentile, beyond)
        if few_late and self.n / beyond >= LEAST:
            return "yes"
        return (
            "no" if in_time <= tolerated(self.n, 100 - self.percentile, beyond) else "cannot tell"
        )

    @property
    def valid(self) -> bool:
        """Whether it `says` yes; False also where it cannot tell."""
        return self.says == "yes"

    @property
    def queries_needed(self) -> int | None:
        """The fewest queries that can be valid at this load; None: no run is long enough."""
        beyond = self.inflation_beyond(self.target_s)
        needed = independent_needed(self.percentile) * beyond
        return math.ceil(needed - 1e-3) if math.isfinite(needed) else None

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
        if self.says == "cannot tell":
            found.append(self._why)
        if targets < LEAST_TARGETS:
            found.append(f"a run of {digits(targets)} targets leaves a queue no time to grow")
        return tuple(found)

    @property
    def _why(self) -> str:
        """Why it cannot tell, and what would help."""
        needed, told = self.queries_needed, f"{self.n:,} queries{self.in_truth}"
        if needed is None:
            return "about as many come as can be answered: no run is long enough to tell"
        if self.n < needed:
            return f"{told}, are few: needs {needed:,}, {words(needed / self.rate, 's')}"
        return f"{told}, have about as many late ones as allowed: only a longer run can tell"

    def __repr__(self) -> str:
        lost = f", {self.unanswered:,} never answered" if self.unanswered else ""
        return (
            f"{self.scenario}: {digits(self.rate)} queries/s {VERDICTS[self.says]}, "
            f"{self.late:,} of {self.n:,} later than {words(self.target_s, 's')}{lost}"
        )

    @property
    def definition(self) -> str:
        """How the queries came and what counts."""
        lost = f" {self.unanswered:,} were never answered." if self.unanswered else ""
        return (
            f"Poisson arrivals, {self._at_once} answered at once; valid if surely (95 % "
            f"confidence) {self.percentile:g} % are answered within {words(self.target_s, 's')} of "
            f"their scheduled arrival{self.in_truth and ': the queries wait for each other'}"
            f"{self.in_truth}.{lost}"
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
        allowed = self._tolerated
        return {
            "queries/s": digits(self.rate),
            "load": words(self.load.value if self.load else None, "%"),
            "queries": f"{self.n:,}",
            "worth": f"{self.n / self.inflation:,.0f}",
            "late": words(self.late_share, "%"),
            "allowed": words(allowed / self.n if allowed >= 0 else None, "%"),
            f"p{self.percentile:g} latency": self.latency_in_words(self.percentile),
            "busy": words(self.busy_share, "%"),
            "at once": digits(self.mean_batch),
            "valid": self.says,
        }

    @property
    def _tolerated(self) -> int:
        return tolerated(self.n, self.percentile, self.inflation_beyond(self.target_s))

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
            "tolerated_queries": self._tolerated,
            "unanswered_queries": self.unanswered,
            "load": self.load.value if self.load else None,
            "independent_queries": self.n / self.inflation,
            "queries_needed": self.queries_needed,
            "says": self.says,
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
        How many come; else as many as fit in `budget_s`, and at least what the percentile needs of
        independent ones. A high load needs more (`queries_needed`): 5 times as many at 50 %, 41
        times at 80 %, 761 times at 95 %, where each call takes equally long.
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
    check_positive("rate", rate)
    check_positive("target_s", target_s)
    needed = samples_needed(percentile)
    check_whole("max_batch", max_batch)
    check_whole("min_batch", min_batch)
    if min_batch > max_batch:
        raise BadValue(f"min_batch={min_batch:,}: needs {max_batch:,} or fewer, max_batch.")
    check_budget(budget_s)
    if queries is None:
        queries = max(needed, min(math.ceil(rate * budget_s), MOST_QUERIES))
    check_whole("queries", queries)
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
