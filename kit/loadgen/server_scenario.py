"""The server scenario: queries arrive at random moments, whether or not the system is ready."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_budget, check_positive, check_whole
from kit.core.errors import BadValue
from kit.core.statistics import Estimate, samples_needed
from kit.core.units import digits, words
from kit.loadgen.arrivals import poisson
from kit.loadgen.client import Serve, Wait, open_loop, warmed_up
from kit.loadgen.latency_result import VERDICTS, InTime, thinned
from kit.loadgen.latency_statistics import mean_estimate, queue_inflation, value_inflation
from kit.loadgen.scenario_result import ScenarioResult
from kit.measurement import Observer, Stopwatch
from kit.plots import Picture, lines

MOST_QUERIES = 1_000_000  # in one run: raw times stay in memory
SEEN_FULL = 0.05  # of the calls: if fewer were full, that was chance and no queue had formed


@dataclass(frozen=True, kw_only=True)
class ServerResult(InTime, ScenarioResult):
    """Queries at random moments: were enough of them answered in time?"""

    rate: float  # scheduled queries per second
    target_s: float
    percentile: float
    max_batch: int
    min_batch: int = 1
    seed: int

    @property
    def unanswered(self) -> int:
        """Queries that were still waiting when the run ended."""
        return self.n - self.answered

    @cached_property
    def load(self) -> Estimate | None:
        """The arrival rate ÷ the capacity in full batches; above 1 the queue grows without end.

        None if few batches were full: then there is capacity left, and it is unknown how much.
        """
        full = self._full_calls_s
        if len(full) < SEEN_FULL * len(self.batch_sizes):
            return None
        call_s = mean_estimate(full, value_inflation(full))
        return (call_s / (self.max_batch / self.rate)).with_unit("%")

    @cached_property
    def inflation(self) -> float:
        """As for any scenario, and at least what theory says of a queue at this load."""
        sizes = np.array(self.batch_sizes)
        together = float(np.square(sizes).sum() / sizes.sum())  # a batch is late or in time as one
        found = max(super().inflation, together)
        if self.load is None:
            return found
        full = self._full_calls_s
        spread = float(np.std(full) / max(np.mean(full), 1e-12))  # a clock may show no time at all
        dispersion = value_inflation(full) * spread**2
        return max(found, queue_inflation(self.load.high, dispersion, self.max_batch))

    @property
    def _full_calls_s(self) -> np.ndarray:
        return np.array(self.service_s)[np.array(self.batch_sizes) == self.max_batch]

    @property
    def naive_latencies_s(self) -> tuple[float, ...]:
        """What a clock that starts at the call would measure: it leaves out the waiting."""
        return tuple(np.repeat(self.service_s, self.batch_sizes).tolist())

    @property
    def mean_batch(self) -> float:
        """Queries that a call answered, on average."""
        return self.answered / len(self.batch_sizes)

    def __repr__(self) -> str:
        lost = f", {self.unanswered:,} never answered" if self.unanswered else ""
        return (
            f"{self.scenario}: {digits(self.rate)} queries/s {VERDICTS[self.verdict]}, "
            f"{self.late:,} of {self.n:,} later than {words(self.target_s, 's')}{lost}"
        )

    @property
    def definition(self) -> str:
        """How the queries arrived and what counts."""
        lost = f" {self.unanswered:,} were never answered." if self.unanswered else ""
        waiting = f" Queries wait for each other{self._worth}." if self._worth else ""
        return (
            f"Poisson arrivals, {self._at_once} answered at once; valid if, with 95 % confidence, "
            f"{self.percentile:g} % are answered within {words(self.target_s, 's')} of their "
            f"scheduled arrival.{waiting}{lost}"
        )

    @property
    def _at_once(self) -> str:
        if self.min_batch == 1:
            return f"at most {self.max_batch:,}"
        if self.min_batch == self.max_batch:
            return f"always {self.max_batch:,}"
        return f"{self.min_batch:,} to {self.max_batch:,}"

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        allowed = self._allowed
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
            "valid": self.verdict,
        }

    def to_dict(self) -> dict[str, Any]:
        """The raw latencies and the `summary`."""
        return {**super().to_dict(), **self.summary()}

    def summary(self) -> dict[str, Any]:
        """The settings and the verdict, without the latencies."""
        return {
            "rate_queries_per_s": self.rate,
            "target_s": self.target_s,
            "percentile": self.percentile,
            "max_batch": self.max_batch,
            "min_batch": self.min_batch,
            "seed": self.seed,
            "queries": self.n,
            "late_queries": self.late,
            "late_allowed_queries": self._allowed,
            "unanswered_queries": self.unanswered,
            "load": self.load.value if self.load else None,
            "independent_queries": self.n / self.inflation,
            "queries_needed": self.queries_needed,
            "verdict": self.verdict,
            "valid": self.valid,
        }

    def plot(self) -> Picture:
        """Latency over arrival: an overloaded system falls further and further behind."""
        arrivals = thinned(self.arrivals_s[: self.answered])
        latencies = thinned(self.latencies_s[: self.answered])
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
) -> ServerResult:
    """Whether many users, whose queries arrive at random, are answered in time.

    A query's latency counts from its *scheduled* arrival, also while the system is busy with
    others. A load generator that waits for an answer before it sends the next query sends fewer
    queries just when answers are slow, and never sees the queue. Gil Tene calls this "coordinated
    omission" ("How NOT to Measure Latency", 2013); see `naive_latencies_s`.

    Each call answers the oldest waiting queries. If the system is overloaded, the run ends one
    schedule's length (or one target, if that is longer) after the last arrival. Queries that
    still wait then count as late, with an infinite latency.

    Parameters
    ----------
    serve
        Answers that many samples at once, e.g. `lambda n: kit.predict(model, inputs[:n])`.
    rate
        Queries per second, on average; the gaps between them are exponential (Poisson arrivals).
    target_s
        The latency within which `percentile` % of the queries shall be answered.
    max_batch
        The most queries that a call is given; others wait for the next call.
    min_batch
        The fewest: a call waits until this many have arrived. Only the last call may be smaller.
    queries
        How many arrive. The default is what fits into `budget_s`, and at least the independent
        queries that the percentile needs. A high load needs more (`queries_needed`): 5 times as
        many at 50 %, 41 times at 80 %, 761 times at 95 %, where each call takes equally long.
    budget_s
        Seconds of arrivals, with 1,000,000 queries at most.
    seed
        Of the arrivals: the same seed at another rate gives the same pattern, stretched.
    device
        Where `serve` computes: the answer counts when that device has finished.
    stopwatch, wait_until
        For tests with a time of their own.

    Raises
    ------
    CallFailed
        `serve` raised; the original error is the cause.

    Examples
    --------
    >>> result = server(lambda n: None, rate=2_000, target_s=0.5, percentile=90, queries=100)
    >>> result.n, result.unanswered
    (100, 0)

    Explained in lesson 10.
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
    arrivals_s = poisson(rate, queries, seed)
    end_s = arrivals_s[-1] + max(arrivals_s[-1], target_s)
    watch = stopwatch or Stopwatch(device)
    observer = Observer(watch)
    with warmed_up("server", serve, sorted({min_batch, max_batch}), watch):
        times = open_loop(
            serve,
            arrivals_s,
            max_batch,
            watch,
            min_batch=min_batch,
            until_s=end_s,
            wait_until=wait_until,
        )
    return ServerResult(
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
