"""What the latencies of a run allow one to say: the same statements for every way to send.

Latencies     means, percentiles, and how many queries they need
└── InTime    is a percentile within a target? "yes", "no" or "cannot tell"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from kit.core.errors import NotEnoughSamples
from kit.core.statistics import Estimate, at_least, at_most, proportion
from kit.core.units import digits, words
from kit.loadgen.latency_statistics import (
    LEAST_INDEPENDENT,
    late_allowed,
    latency_inflation,
    mean_estimate,
    percentile_estimate,
    percentile_inflation,
    queries_needed,
    share_inflation,
)
from kit.measurement import Conditions

LEAST_TARGETS = 20  # in a run of 20 targets, 5 % too many queries pile up to more than one target
VERDICTS = {"yes": "valid", "no": "not valid", "cannot tell": "may be valid or not"}
MOST_SAVED = 2_000  # raw values in a record or a picture


class Latencies:
    """Of a run whose queries each have a latency, in order of arrival; infinite: no answer."""

    scenario: str
    conditions: Conditions
    counted: ClassVar[str] = "queries"
    longer: ClassVar[str] = "budget_s"  # the argument that makes a run longer

    @property
    def n(self) -> int:
        """How many queries arrived."""
        return len(self.latencies_s)

    @property
    def latencies_s(self) -> Sequence[float]:
        """From each query's arrival to its answer; infinite if there was none."""
        raise NotImplementedError

    @property
    def mean_latency_s(self) -> float:
        """The average time W that a query spends in the system."""
        return float(np.mean(self.latencies_s))

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
                f"p{percentile:g} of {self.scenario!r}: given {self.n:,} {self.counted}"
                f"{self._worth}; needs {at_least}. Raise {self.longer}."
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


class InTime(Latencies):
    """A run with a target: are `percentile` % of the queries answered within `target_s`?"""

    rate: Any  # scheduled queries per second
    target_s: Any
    percentile: float

    @property
    def load(self) -> Estimate | None:
        """The arrival rate ÷ the capacity; above 1 the queue grows without end. None: unknown."""
        return None

    @property
    def arrivals_duration_s(self) -> float:
        """How long queries arrived, by the schedule."""
        return float(self.n / self.rate)

    @property
    def late(self) -> int:
        """Queries answered after the target, or never."""
        return int(np.sum(np.array(self.latencies_s) > self.target_s))

    @property
    def late_share(self) -> float:
        """The share of late queries."""
        return self.late / self.n

    @property
    def late_estimate(self) -> Estimate:
        """`late_share` with Wilson's 95 % interval, for as many queries as are independent."""
        beyond = self.inflation_beyond(self.target_s)
        if beyond == math.inf:
            return Estimate(self.late_share, 0.0, 1.0, "%")
        return proportion(self.late / beyond, self.n / beyond)

    @cached_property
    def verdict(self) -> str:
        """Whether p % are answered within the target in the long run: "yes", "no", "cannot tell".

        "yes" and "no" have 95 % confidence. The late queries are compared with what MLPerf's rule
        allows (`late_allowed`), for as many queries as are independent. If more queries arrive
        than can be answered, the verdict stays "no", whatever the run shows: in a longer run their
        queue would grow without end.
        """
        if self.load and self.load.low >= 1:
            return "no"
        beyond, in_time = self.inflation_beyond(self.target_s), self.n - self.late
        few_late = self.late <= late_allowed(self.n, self.percentile, beyond)
        if few_late and self.n / beyond >= LEAST_INDEPENDENT:
            return "yes"
        few_in_time = in_time <= late_allowed(self.n, 100 - self.percentile, beyond)
        return "no" if few_in_time else "cannot tell"

    @property
    def valid(self) -> bool:
        """Whether the verdict is "yes"."""
        return self.verdict == "yes"

    @property
    def seen_in_time(self) -> bool:
        """Whether p % were answered in time in this run, be it by chance."""
        return self.verdict != "no" and self.late_share <= 1 - self.percentile / 100

    @property
    def sustained(self) -> Estimate | None:
        """What this run says of the highest rate in time: at least its rate, or less than that.

        None: it cannot tell.
        """
        unit, below = f"{self.counted}/s", math.nextafter(self.rate, 0.0)
        known = {"yes": at_least(self.rate, unit), "no": at_most(below, unit)}
        return known.get(self.verdict)

    @property
    def queries_needed(self) -> int | None:
        """The fewest queries that can be valid at this load; None: no run is long enough."""
        return queries_needed(self.percentile, self.inflation_beyond(self.target_s))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know, such as whether the run was long enough."""
        found, targets = list(super().doubts), self.arrivals_duration_s / self.target_s
        if self.verdict == "cannot tell":
            found.append(self._why)
        if targets < LEAST_TARGETS:
            found.append(f"a run of {digits(targets)} targets leaves a queue no time to grow")
        return tuple(found)

    @property
    def _why(self) -> str:
        """What prevents a verdict, and what would help."""
        needed, queries = self.queries_needed, f"{self.n:,} {self.counted}{self._worth}"
        if needed is None:
            return (
                f"about as many {self.counted} arrive as can be answered: no run is long enough "
                f"to tell"
            )
        if self.n < needed:
            return f"{queries} are few: needs {needed:,}, {words(needed / self.rate, 's')}"
        return f"{queries} have about as many late ones as allowed: only a longer run can tell"

    @property
    def _allowed(self) -> int:
        return late_allowed(self.n, self.percentile, self.inflation_beyond(self.target_s))

    def summary(self) -> dict[str, Any]:
        """The settings and the verdict, without the latencies."""
        raise NotImplementedError

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        raise NotImplementedError

    @property
    def definition(self) -> str:
        """How the queries arrived and what counts, in a sentence."""
        raise NotImplementedError


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most 2,000 of the values, evenly spaced, the first and the last among them."""
    positions = np.linspace(0, len(values) - 1, min(len(values), MOST_SAVED)).round().astype(int)
    return [values[i] for i in positions]


def finite(value: float) -> float | None:
    """The value, or None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
