"""Scenarios in which the system sets the pace: single stream, multi stream, offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from kit.core.checks import check_budget, check_whole
from kit.core.statistics import Estimate, samples_needed
from kit.core.units import digits, words
from kit.loadgen.client import Serve, closed_loop, open_loop, warmed_up
from kit.loadgen.latency_result import thinned
from kit.loadgen.latency_statistics import mean_estimate, value_inflation
from kit.loadgen.scenario_result import ScenarioResult
from kit.measurement import Observer, Stopwatch
from kit.plots import Picture, lines


@dataclass(frozen=True, kw_only=True)
class StreamResult(ScenarioResult):
    """One query after another (closed loop)."""

    percentile: float

    @property
    def tail_latency_s(self) -> float:
        """What counts in this scenario: `latency_at` of its percentile."""
        return self.latency_at(self.percentile)

    @property
    def enough(self) -> bool:
        """Whether there are enough queries for the percentile."""
        return self.enough_for(self.percentile)

    @property
    def tail_in_words(self) -> str:
        """The percentile and its value."""
        return f"p{self.percentile:g} latency {self.latency_in_words(self.percentile)}"

    def __repr__(self) -> str:
        return f"{self.scenario}: {self.tail_in_words}, n = {self.n:,}"

    @property
    def definition(self) -> str:
        """How the queries arrived and what counts."""
        size = (
            f"Queries of {self.samples_per_query}, each" if self.samples_per_query > 1 else "Each"
        )
        needed = f"; needs {self.needed(self.percentile):,} queries, raise budget_s"
        return (
            f"{size} sent when the last one is answered; p{self.percentile:g} as an upper limit "
            f"(95 % confidence in this run{'' if self.enough else needed})."
        )

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        return {
            f"p{self.percentile:g} latency": self.latency_in_words(self.percentile),
            "mean latency": str(self.mean_latency),
            "samples/s": digits(self.throughput),
        }

    def to_dict(self) -> dict[str, Any]:
        """The raw latencies, the percentile and its value."""
        tail = self.tail_latency_s if self.enough else None
        return {**super().to_dict(), "percentile": self.percentile, "tail_latency_s": tail}

    def plot(self) -> Picture:
        """The latency that each share of the queries stayed below."""
        ordered = thinned(sorted(self.latencies_s))
        sure = f"p{self.percentile:g}, sure"  # the upper end of what the percentile may be
        tail = (
            f"{sure}: {self.latency_in_words(self.percentile)}"
            if self.enough
            else self.tail_in_words
        )
        shares = (100 * np.arange(1, len(ordered) + 1) / len(ordered)).tolist()
        return lines(
            {"latency": (shares, ordered)},
            "share of the queries (%)",
            "latency below",
            caption=f"{self.scenario}: latencies of {self.n:,} queries from "
            f"{words(ordered[0], 's')} to {words(ordered[-1], 's')}; {tail}.",
            marks=False,
            level=(sure, self.tail_latency_s) if self.enough else None,
            unit="s",
        )


@dataclass(frozen=True, kw_only=True)
class OfflineResult(ScenarioResult):
    """All the work at once; each sample counts as a query that arrived at the start."""

    batch_size: int
    counted: ClassVar[str] = "samples"

    @property
    def throughput_estimate(self) -> Estimate:
        """Samples per second, with the 95 % interval from the times of full batches."""
        sizes = np.array(self.batch_sizes)
        times = np.array(self.service_s)[sizes == sizes.max()]
        each_s = mean_estimate(times, value_inflation(times))
        return (self.throughput * each_s.value / each_s).with_unit("samples/s")

    def __repr__(self) -> str:
        return (
            f"{self.scenario}: {digits(self.throughput)} samples/s, {self.n:,} samples in batches "
            f"of {self.batch_size:,}"
        )

    @property
    def definition(self) -> str:
        """How the samples arrived and what counts."""
        return (
            f"All samples are there at the start, in batches of {self.batch_size:,}; samples per "
            f"second, 95 % interval in this run over {len(self.batch_sizes):,} batches."
        )

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        rate = self.throughput_estimate
        return {
            "samples/s": digits(self.throughput),
            "interval": rate.interval,
            "median batch": words(float(np.median(self.service_s)), "s"),
            "duration": words(self.duration_s, "s"),
        }

    def to_dict(self) -> dict[str, Any]:
        """The raw latencies and the times of the batches."""
        return {
            **super().to_dict(),
            "batch_size": self.batch_size,
            "batches": len(self.batch_sizes),
            "batch_times_s": [round(s, 9) for s in thinned(self.service_s)],
            "throughput": self.throughput_estimate.to_dict(),
        }

    def plot(self) -> Picture:
        """The time of each batch, in order."""
        times, numbers = thinned(self.service_s), thinned(range(1, len(self.batch_sizes) + 1))
        return lines(
            {"batches": (numbers, times)},
            "batch",
            "time per batch",
            caption=f"{self!r}: from {words(min(times), 's')} to {words(max(times), 's')} each.",
            marks=len(times) < 100,
            unit="s",
        )


def single_stream(
    serve: Serve,
    *,
    budget_s: float = 1.0,
    percentile: float = 90,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> StreamResult:
    """How long one user waits: queries of one sample, each sent when the last one is answered.

    Parameters
    ----------
    serve
        Answers that many samples at once, e.g. `lambda n: kit.predict(model, inputs[:n])`.
    budget_s
        Seconds for the queries; up to ten times as long if the percentile needs more of them: 64
        independent ones for p90, 662 for p99, and more where slow queries come together.
    percentile
        Which percentile of the latency counts; MLPerf's is 90.
    device
        Where `serve` computes: the answer counts when that device has finished.

    Raises
    ------
    CallFailed
        `serve` raised; the original error is the cause.

    Examples
    --------
    >>> result = single_stream(lambda n: None, budget_s=0.01)
    >>> result.n == len(result.latencies_s), result.samples_per_query
    (True, 1)

    Explained in lesson 04.
    """
    return _stream("single stream", serve, 1, percentile, budget_s, stopwatch or Stopwatch(device))


def multi_stream(
    serve: Serve,
    *,
    samples_per_query: int = 8,
    budget_s: float = 1.0,
    percentile: float = 99,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> StreamResult:
    """How long a car with eight cameras waits: queries of eight samples, one after another.

    Parameters
    ----------
    samples_per_query
        Samples that arrive together and are answered together; MLPerf has 8.
    percentile
        Which percentile of the latency of a query counts; MLPerf's is 99.
    serve, budget_s, device
        As in `single_stream`.

    Explained in lesson 04.
    """
    watch = stopwatch or Stopwatch(device)
    return _stream("multi stream", serve, samples_per_query, percentile, budget_s, watch)


def _stream(
    scenario: str,
    serve: Serve,
    samples: int,
    percentile: float,
    budget_s: float,
    watch: Stopwatch,
) -> StreamResult:
    check_budget(budget_s)
    check_whole("samples_per_query", samples)
    samples_needed(percentile)  # refuses a percentile out of range
    observer = Observer(watch)
    with warmed_up(scenario, serve, [samples], watch):
        times = closed_loop(serve, samples, percentile, budget_s, watch)
    return StreamResult(
        scenario=scenario,
        samples_per_query=samples,
        percentile=percentile,
        conditions=observer.conditions(),
        **times,
    )


def offline(
    serve: Serve,
    *,
    samples: int,
    batch_size: int,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> OfflineResult:
    """How many samples per second are answered if all of them are there at the start.

    Parameters
    ----------
    samples
        How many there are; MLPerf has 24,576 or more.
    batch_size
        How many samples `serve` is given at once; the last batch may be smaller.
    serve, device
        As in `single_stream`.
    """
    check_whole("samples", samples)
    check_whole("batch_size", batch_size)
    watch = stopwatch or Stopwatch(device)
    observer = Observer(watch)
    with warmed_up("offline", serve, [min(batch_size, samples)], watch):
        times = open_loop(serve, np.zeros(samples), batch_size, watch)
    return OfflineResult(
        scenario="offline", batch_size=batch_size, conditions=observer.conditions(), **times
    )
