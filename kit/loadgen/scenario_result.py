"""What every scenario records: when each query arrived, when it was answered, what follows."""

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
from kit.loadgen.latency_statistics import (
    late_allowed,
    latency_inflation,
    mean_estimate,
    percentile_estimate,
    percentile_inflation,
    queries_needed,
    share_inflation,
)
from kit.measurement import Conditions
from kit.plots import Table, with_doubts

MOST_SAVED = 2_000  # raw values in a record or a picture


@dataclass(frozen=True, kw_only=True)
class ScenarioResult(Result):
    """One run of a scenario: seconds from its start, queries in order of arrival."""

    scenario: str
    arrivals_s: tuple[float, ...] = field(repr=False)  # when each query was scheduled
    starts_s: tuple[float, ...] = field(repr=False)  # when each call of `serve` began …
    ends_s: tuple[float, ...] = field(repr=False)  # … and when the device had finished it
    batch_sizes: tuple[int, ...] = field(repr=False)  # queries that each call answered
    samples_per_query: int = 1
    conditions: Conditions
    counted: ClassVar[str] = "queries"

    @property
    def n(self) -> int:
        """How many queries arrived."""
        return len(self.arrivals_s)

    @property
    def answered(self) -> int:
        """How many of them were answered before the run ended."""
        return sum(self.batch_sizes)

    @property
    def duration_s(self) -> float:
        """From the start of the run to the last answer."""
        return self.ends_s[-1]

    @cached_property
    def latencies_s(self) -> tuple[float, ...]:
        """From each query's arrival to its answer; infinite if there was none."""
        ends = np.full(self.n, math.inf)
        ends[: self.answered] = np.repeat(self.ends_s, self.batch_sizes)
        return tuple((ends - self.arrivals_s).tolist())

    @property
    def service_s(self) -> tuple[float, ...]:
        """The time that each call of `serve` took."""
        return tuple((np.array(self.ends_s) - self.starts_s).tolist())

    @property
    def busy_share(self) -> float:
        """The utilisation ρ: the share of the run during which `serve` was working."""
        return sum(self.service_s) / self.duration_s

    @property
    def throughput(self) -> float:
        """Samples answered per second."""
        return self.answered * self.samples_per_query / self.duration_s

    @property
    def arrival_rate(self) -> float:
        """The arrival rate λ: queries per second."""
        return self.n / self.duration_s

    @property
    def mean_latency_s(self) -> float:
        """The average time W that a query spends in the system."""
        return float(np.mean(self.latencies_s))

    @property
    def mean_in_system(self) -> float:
        """The average number L of queries in the system, over the time of the run.

        It is counted along the run: one more at each arrival, one fewer at each answer. Once all
        queries are answered it equals λ·W, which is Little's law (1961).
        """
        answers = np.repeat(self.ends_s, self.batch_sizes)
        moments = np.concatenate([self.arrivals_s, answers])
        order = np.argsort(moments, kind="stable")
        in_system = np.repeat([1, -1], [self.n, len(answers)])[order].cumsum()
        lasting = np.diff(moments[order], append=self.duration_s)
        return float(in_system @ lasting / self.duration_s)

    @cached_property
    def inflation(self) -> float:
        """How many queries in a row say as much as one independent query."""
        return latency_inflation(self.latencies_s)

    def inflation_beyond(self, latency_s: float) -> float:
        """The inflation of the share of queries that take longer than this latency."""
        return max(self.inflation, share_inflation(self.latencies_s, latency_s))

    def _percentile_inflation(self, percentile: float) -> float:
        return max(self.inflation, percentile_inflation(self.latencies_s, percentile))

    @property
    def mean_latency(self) -> Estimate:
        """`mean_latency_s` with its 95 % interval, which also holds for queries that wait."""
        return mean_estimate(self.latencies_s, self.inflation)

    def latency_estimate(self, percentile: float) -> Estimate:
        """The latency that p % of these queries stay below, with its 95 % interval.

        An end is infinite where the run is too short for it.
        """
        beyond = self._percentile_inflation(percentile)
        return percentile_estimate(self.latencies_s, percentile, beyond)

    def latency_at(self, percentile: float) -> float:
        """An upper limit (95 % confidence) of the latency that p % of all such queries stay below.

        By MLPerf's rule, t of the n queries may be above it (`late_allowed`): the t − 1 slowest
        are set aside, and the slowest of the others is the limit. With few queries it is well
        above the plain percentile, because so few queries could have been lucky.

        Raises
        ------
        NotEnoughSamples
            The queries say less than such a statement needs: 64 independent ones for p90, 662
            for p99.
        """
        if not self.enough_for(percentile):
            needed = self.needed(percentile)
            at_least = "more than any run has" if needed is None else f"{needed:,}"
            raise NotEnoughSamples(
                f"p{percentile:g} of {self.scenario!r}: given {self.n:,} queries{self._worth}; "
                f"needs {at_least}. Raise budget_s."
            )
        late = late_allowed(self.n, percentile, self._percentile_inflation(percentile))
        return sorted(self.latencies_s)[self.n - late]

    def needed(self, percentile: float) -> int | None:
        """Queries that `latency_at` needs, dependent as these are; None: no run is enough."""
        return queries_needed(percentile, self._percentile_inflation(percentile))

    def enough_for(self, percentile: float) -> bool:
        """Whether there are as many queries as `latency_at` needs."""
        needed = self.needed(percentile)
        return needed is not None and self.n >= needed

    @property
    def _worth(self) -> str:
        """How many independent queries say as much, in words; empty if all are independent."""
        worth = f"{self.n / self.inflation:,.0f}"
        return "" if worth == f"{self.n:,}" else f" (worth {worth} independent ones)"

    def latency_in_words(self, percentile: float) -> str:
        """`latency_at` as text; a dash where there are too few queries, ∞ where answers lack."""
        if float(np.percentile(self.latencies_s, percentile, method="lower")) == math.inf:
            return "∞"
        latency_s = self.latency_at(percentile) if self.enough_for(percentile) else None
        return "∞" if latency_s == math.inf else words(latency_s, "s")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the numbers."""
        return self.conditions.doubts

    @property
    def definition(self) -> str:
        """How the queries arrived and what counts, in a sentence."""
        raise NotImplementedError

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        raise NotImplementedError

    def table(self) -> Table:
        """One row; the caption says how the queries arrived and what counts."""
        cells = {"scenario": self.scenario, **self.cells()}
        caption = f"{self.definition} {self.n:,} {self.counted}; {self.conditions}."
        return Table(tuple(cells), [tuple(cells.values())], *with_doubts(caption, self.doubts))

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
            "latencies_s": [finite(round(s, 9)) for s in thinned(self.latencies_s)],
            "conditions": asdict(self.conditions),
            "doubts": list(self.doubts),
        }


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most 2,000 of the values, evenly spaced, the first and the last among them."""
    positions = np.linspace(0, len(values) - 1, min(len(values), MOST_SAVED)).round().astype(int)
    return [values[i] for i in positions]


def finite(value: float) -> float | None:
    """The value, or None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
