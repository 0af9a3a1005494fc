"""What a scenario leaves behind: when each query came and was answered, and what that tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from kit.core.errors import NotEnoughSamples
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.loadgen.dependence import (
    independent_needed,
    inflation,
    mean_of,
    of_a_percentile,
    of_a_share,
    percentile_of,
    ranks,
    tolerated,
)
from kit.measurement import Conditions, doubts_told
from kit.plots import Table

KEPT = 2_000  # raw values in a record or a picture


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

    @cached_property
    def inflation(self) -> float:
        """How many of the queries, one after the other, say as much as one independent query."""
        return inflation(ranks(self.latencies_s))

    def inflation_beyond(self, latency_s: float) -> float:
        """The same for the share of queries that take longer."""
        return max(self.inflation, of_a_share(self.latencies_s, latency_s))

    @property
    def mean_latency(self) -> Estimate:
        """`mean_latency_s` with its 95 % interval, which holds for queries that wait, too."""
        return mean_of(self.latencies_s, self.inflation)

    def latency_estimate(self, percentile: float) -> Estimate:
        """The latency that p % of these queries stay below, with its 95 % interval.

        The interval goes to infinity where the run is too short for an end.
        """
        beyond = max(self.inflation, of_a_percentile(self.latencies_s, percentile))
        return percentile_of(self.latencies_s, percentile, beyond)

    def latency_at(self, percentile: float) -> float:
        """The latency that p % of all such queries surely (95 % confidence) stay below.

        MLPerf's rule for as many queries as are independent: of n, t may be `tolerated` above it;
        the t − 1 slowest are set aside and the slowest of the rest is named. With few queries that
        is well above the plain percentile: the price of being sure.

        Raises
        ------
        NotEnoughSamples
            The queries are worth fewer independent ones than such a statement needs: 64 for p90,
            662 for p99.
        """
        if (needed := self.needed(percentile)) is None or self.n < needed:
            at_least = "more than any run has" if needed is None else f"{needed:,}"
            raise NotEnoughSamples(
                f"p{percentile:g} of {self.scenario!r}: {self.n:,} queries{self.in_truth}, "
                f"needs {at_least}; raise budget_s."
            )
        beyond = max(self.inflation, of_a_percentile(self.latencies_s, percentile))
        return sorted(self.latencies_s)[self.n - tolerated(self.n, percentile, beyond)]

    def needed(self, percentile: float) -> int | None:
        """Queries that `latency_at` needs, dependent as these are; None: no run is enough."""
        needed = independent_needed(percentile)  # refuses what is no percentile
        beyond = max(self.inflation, of_a_percentile(self.latencies_s, percentile))
        return math.ceil(needed * beyond - 1e-3) if math.isfinite(beyond) else None

    @property
    def in_truth(self) -> str:
        """What dependent queries are worth, in words; nothing where they are independent."""
        worth = f"{self.n / self.inflation:,.0f}"
        return "" if worth == f"{self.n:,}" else f", worth {worth} independent ones"

    def latency_in_words(self, percentile: float) -> str:
        """`latency_at` for people: a dash where there are too few queries."""
        if float(np.percentile(self.latencies_s, percentile, method="lower")) == math.inf:
            return in_words(math.inf)
        few = (needed := self.needed(percentile)) is None or self.n < needed
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
            "independent_queries": self.n / self.inflation,
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
