"""Scenarios in which the system sets the pace: single stream, multi stream, offline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from kit.core.checks import check_budget, check_whole
from kit.core.statistics import Estimate, samples_needed
from kit.core.units import digits, words
from kit.loadgen.client import Serve, as_they_come, one_after_another, warmed_up
from kit.loadgen.dependence import inflation, mean_of
from kit.loadgen.outcomes import Run, evenly, finite
from kit.measurement import Observer, Stopwatch
from kit.plots import Picture, lines


@dataclass(frozen=True, kw_only=True)
class StreamRun(Run):
    """One query after another."""

    percentile: float

    @property
    def tail_latency_s(self) -> float:
        """What counts in this scenario: `latency_at` its percentile."""
        return self.latency_at(self.percentile)

    @property
    def enough(self) -> bool:
        """Whether there are queries enough for the percentile."""
        needed = self.needed(self.percentile)
        return needed is not None and self.n >= needed

    @property
    def tail_in_words(self) -> str:
        """The percentile and its value."""
        return f"p{self.percentile:g} latency {self.latency_in_words(self.percentile)}"

    def __repr__(self) -> str:
        return f"{self.scenario}: {self.tail_in_words}, n = {self.n:,}"

    @property
    def definition(self) -> str:
        """How the queries came and what counts."""
        size = (
            f"Queries of {self.samples_per_query}, each" if self.samples_per_query > 1 else "Each"
        )
        needed = f"; needs {self.needed(self.percentile):,} queries, raise budget_s"
        return (
            f"{size} sent when the last one is answered; p{self.percentile:g} as an upper limit "
            f"(95 % confidence in this run{'' if self.enough else needed})."
        )

    def cells(self) -> dict[str, str]:
        """Heading -> what stands below it."""
        return {
            f"p{self.percentile:g} latency": self.latency_in_words(self.percentile),
            "mean latency": str(self.mean_latency),
            "samples/s": digits(self.throughput),
        }

    def to_dict(self) -> dict[str, Any]:
        """With the percentile and its value."""
        tail = self.tail_latency_s if self.enough else None
        return {**super().to_dict(), "percentile": self.percentile, "tail_latency_s": tail}

    def plot(self) -> Picture:
        """The latency that each share of the queries stayed below."""
        ordered = evenly(sorted(self.latencies_s))
        shares = (100 * np.arange(1, len(ordered) + 1) / len(ordered)).tolist()
        return lines(
            {"latency": (shares, ordered)},
            "share of the queries (%)",
            "latency below",
            caption=f"{self.scenario}: latencies of {self.n:,} queries from "
            f"{words(ordered[0], 's')} to {words(ordered[-1], 's')}; {self.tail_in_words}.",
            marks=False,
            level=(f"p{self.percentile:g}, sure", self.tail_latency_s) if self.enough else None,
            unit="s",
        )


@dataclass(frozen=True, kw_only=True)
class OfflineRun(Run):
    """All the work at hand; each sample counts as a query that arrived at the start."""

    batch_size: int
    things: ClassVar[str] = "samples"

    @property
    def throughput_estimate(self) -> Estimate:
        """Samples per second, with the 95 % interval that the times of the full batches give it."""
        times = [
            s for s, n in zip(self.service_s, self.batch_sizes, strict=True) if n == self._full
        ]
        each, rate = mean_of(times, inflation(times)), self.throughput
        fastest = rate * each.value / each.low if each.low else math.inf
        return Estimate(rate, rate * each.value / each.high, fastest, "samples/s")

    @property
    def _full(self) -> int:
        return max(self.batch_sizes)

    def __repr__(self) -> str:
        return (
            f"{self.scenario}: {digits(self.throughput)} samples/s, {self.n:,} samples in batches "
            f"of {self.batch_size:,}"
        )

    @property
    def definition(self) -> str:
        """How the samples came and what counts."""
        return (
            f"All samples are there at the start, taken {self.batch_size:,} at a time; samples per "
            f"second, 95 % interval in this run over {len(self.batch_sizes):,} batches."
        )

    def cells(self) -> dict[str, str]:
        """Heading -> what stands below it."""
        rate = self.throughput_estimate
        return {
            "samples/s": digits(self.throughput),
            "interval": f"{digits(rate.low)} to {digits(rate.high)}",
            "median batch": words(float(np.median(self.service_s)), "s"),
            "all done in": words(self.duration_s, "s"),
        }

    def to_dict(self) -> dict[str, Any]:
        """With the times of the batches."""
        return {
            **super().to_dict(),
            "batch_size": self.batch_size,
            "batches": len(self.batch_sizes),
            "batch_times_s": [round(s, 9) for s in evenly(self.service_s)],
            "throughput": {
                name: finite(value) if isinstance(value, float) else value
                for name, value in self.throughput_estimate.to_dict().items()
            },
        }

    def plot(self) -> Picture:
        """The time of each batch, in order."""
        times, places = evenly(self.service_s), evenly(range(1, len(self.batch_sizes) + 1))
        return lines(
            {"batches": (places, times)},
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
) -> StreamRun:
    """How long one user waits: queries of one sample, each sent when the last one is answered.

    Parameters
    ----------
    serve
        Answers that many samples, e.g. `lambda n: kit.predict(model, inputs[:n])`.
    budget_s
        Seconds for the queries; up to ten times as long where the percentile needs more of them:
        64 independent ones for p90, 662 for p99, more where slow ones come together.
    percentile
        Which percentile of the latency counts; MLPerf's is 90.
    device
        Where it computes: that device is waited for before an answer counts.

    Raises
    ------
    CallFailed
        `serve` raised; the original error is the cause.

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
) -> StreamRun:
    """How long a car with eight cameras waits: queries of eight samples, one after another.

    Parameters
    ----------
    samples_per_query
        Samples that come together and are answered together; MLPerf's are 8.
    percentile
        Which percentile of a whole query's latency counts; MLPerf's is 99.
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
) -> StreamRun:
    check_budget(budget_s)
    check_whole("samples_per_query", samples)
    samples_needed(percentile)  # refuses what is no percentile
    observer = Observer(watch)
    with warmed_up(scenario, serve, [samples], watch):
        times = one_after_another(serve, samples, percentile, budget_s, watch)
    return StreamRun(
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
) -> OfflineRun:
    """How much gets done: all samples are there at the start, and nobody waits for a single one.

    Parameters
    ----------
    samples
        How many there are; MLPerf has 24,576 or more.
    batch_size
        How many `serve` is given at once; the last batch takes what is left.
    serve, device
        As in `single_stream`.

    Explained in lesson 04.
    """
    check_whole("samples", samples)
    check_whole("batch_size", batch_size)
    watch = stopwatch or Stopwatch(device)
    observer = Observer(watch)
    with warmed_up("offline", serve, [min(batch_size, samples)], watch):
        times = as_they_come(serve, np.zeros(samples), batch_size, watch)
    return OfflineRun(
        scenario="offline", batch_size=batch_size, conditions=observer.conditions(), **times
    )
