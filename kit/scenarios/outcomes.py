"""What a scenario leaves behind: when each query came and was answered, and what that tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from kit.errors import NotEnoughSamples
from kit.figures import Table
from kit.measurement import Conditions, doubts_told, samples_needed
from kit.results import Result
from kit.units import words

RISK = 0.01  # of being wrong about a percentile: MLPerf's confidence is 99 %
KEPT = 2_000  # raw values in a record or a picture


def tolerated(n: int, percentile: float) -> int:
    """How many of n queries may be late if p % are to be in time for certain; -1: n is too few.

    Suppose the system can do p % and no more. Then t or fewer of n queries are late with the
    probability Σ (n choose k)·(1 − p)^k·p^(n − k), k = 0 … t. The answer is the largest t for which
    that is at most 1 %: so few would be late so seldom that the system must be better.

    >>> tolerated(64, 90), tolerated(662, 99), tolerated(10_000, 99), tolerated(100, 99)
    (1, 1, 77, -1)

    Notes
    -----
    MLPerf Inference Rules, appendix "Early stopping", with their confidence and no tolerance.
    """
    from scipy.special import bdtr  # that sum; scipy takes too long to come with the kit

    odds = bdtr(np.arange(n + 1), n, 1 - percentile / 100)
    return int(np.searchsorted(odds, RISK, side="right")) - 1


@dataclass(frozen=True, kw_only=True)
class Run(Result):
    """One run of a scenario: seconds from its start, queries in the order in which they came."""

    scenario: str
    arrivals_s: tuple[float, ...] = field(repr=False)  # when each query was due
    starts_s: tuple[float, ...] = field(repr=False)  # when each call of `serve` began …
    ends_s: tuple[float, ...] = field(repr=False)  # … and when the device had done it
    batch_sizes: tuple[int, ...] = field(repr=False)  # queries that each call answered
    samples_per_query: int = 1
    conditions: Conditions
    things: ClassVar[str] = "queries"  # what is counted

    @property
    def n(self) -> int:
        """How many queries came."""
        return len(self.arrivals_s)

    @property
    def answered(self) -> int:
        """How many of them were answered before the run was ended."""
        return sum(self.batch_sizes)

    @property
    def duration_s(self) -> float:
        """From the start of the run to the last answer."""
        return self.ends_s[-1]

    @cached_property
    def latencies_s(self) -> tuple[float, ...]:
        """From each query's arrival to its answer; infinite if it got none."""
        ends = np.full(self.n, math.inf)
        ends[: self.answered] = np.repeat(self.ends_s, self.batch_sizes)
        return tuple((ends - self.arrivals_s).tolist())

    @property
    def service_s(self) -> tuple[float, ...]:
        """The time that each call of `serve` took."""
        return tuple((np.array(self.ends_s) - self.starts_s).tolist())

    @property
    def busy_share(self) -> float:
        """The part of the run in which `serve` was at work: ρ."""
        return sum(self.service_s) / self.duration_s

    @property
    def throughput(self) -> float:
        """Samples answered per second."""
        return self.answered * self.samples_per_query / self.duration_s

    @property
    def arrival_rate(self) -> float:
        """Queries that came per second: λ."""
        return self.n / self.duration_s

    @property
    def mean_latency_s(self) -> float:
        """The time that a query spent in the system, on average: W."""
        return float(np.mean(self.latencies_s))

    @property
    def mean_in_system(self) -> float:
        """The number of queries in the system, averaged over the time of the run: L.

        It is counted along the run, one up at each arrival and one down at each answer, waiting
        or not. That it equals λ·W once all are answered is Little's law (1961).
        """
        answers = np.repeat(self.ends_s, self.batch_sizes)
        moments = np.concatenate([self.arrivals_s, answers])
        order = np.argsort(moments, kind="stable")
        in_system = np.repeat([1, -1], [self.n, len(answers)])[order].cumsum()
        lasting = np.diff(moments[order], append=self.duration_s)
        return float(in_system @ lasting / self.duration_s)

    def latency_at(self, percentile: float) -> float:
        """The latency that p % of the queries stay below, with 99 % confidence.

        MLPerf's rule: of the n queries, t may be `tolerated` above it; the t − 1 slowest are set
        aside and the slowest of the rest is named. With few queries that is well above the plain
        percentile: the price of being sure.

        Raises
        ------
        NotEnoughSamples
            There are fewer queries than such a statement needs: 64 for p90, 662 for p99.
        """
        if self.n < (needed := samples_needed(percentile)):
            raise NotEnoughSamples(
                f"p{percentile:g} of {self.scenario!r}: {self.n:,} queries, needs {needed:,}; "
                f"raise budget_s."
            )
        return sorted(self.latencies_s)[self.n - tolerated(self.n, percentile)]

    def latency_in_words(self, percentile: float) -> str:
        """`latency_at` for people: a dash where there are too few queries."""
        few = self.n < samples_needed(percentile)
        return in_words(None if few else self.latency_at(percentile))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the numbers."""
        return self.conditions.doubts

    @property
    def definition(self) -> str:
        """How the queries came and what counts, in a sentence."""
        raise NotImplementedError

    def cells(self) -> dict[str, str]:
        """Heading -> what stands below it in the table."""
        raise NotImplementedError

    def table(self) -> Table:
        """What people see."""
        cells = {"scenario": self.scenario, **self.cells()}
        caption = f"{self.definition} {self.n:,} {self.things}; {self.conditions}."
        caption += doubts_told({self.scenario: self.doubts})
        return Table(tuple(cells), [tuple(cells.values())], caption)

    def to_dict(self) -> dict[str, Any]:
        """What counts, the conditions, and at most 2,000 latencies (null: never answered)."""
        return {
            "scenario": self.scenario,
            "queries": self.n,
            "answered_queries": self.answered,
            "samples_per_query": self.samples_per_query,
            "duration_s": self.duration_s,
            "throughput_samples_per_s": self.throughput,
            "arrival_rate_queries_per_s": self.arrival_rate,
            "mean_latency_s": finite(self.mean_latency_s),
            "mean_in_system_queries": self.mean_in_system,
            "busy_share": self.busy_share,
            "latencies_s": [finite(round(s, 9)) for s in evenly(self.latencies_s)],
            "conditions": asdict(self.conditions),
            "doubts": list(self.doubts),
        }


def in_words(latency_s: float | None) -> str:
    """A latency for people: a dash where it is unknown, ∞ where the answer never came."""
    return "∞" if latency_s == math.inf else words(latency_s, "s")


def evenly(values: Sequence[Any]) -> list[Any]:
    """At most 2,000 of the values, the first and the last among them, at even distances."""
    places = np.linspace(0, len(values) - 1, min(len(values), KEPT)).round().astype(int)
    return [values[i] for i in places]


def finite(value: float) -> float | None:
    """The value, or None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
