"""What every scenario records: when each query arrived, when it was answered, what follows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kit.core.results import Result
from kit.loadgen.latency_result import Latencies, finite, thinned
from kit.measurement import Conditions
from kit.plots import Table, with_doubts


@dataclass(frozen=True, kw_only=True)
class ScenarioResult(Latencies, Result):
    """One run of a scenario: seconds from its start, queries in order of arrival."""

    scenario: str
    arrivals_s: tuple[float, ...] = field(repr=False)  # when each query was scheduled
    starts_s: tuple[float, ...] = field(repr=False)  # when each call of `serve` began …
    ends_s: tuple[float, ...] = field(repr=False)  # … and when the device had finished it
    batch_sizes: tuple[int, ...] = field(repr=False)  # queries that each call answered
    samples_per_query: int = 1
    conditions: Conditions

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
        ends = np.full(len(self.arrivals_s), math.inf)
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
