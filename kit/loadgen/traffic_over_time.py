"""Traffic over time: whether a server recovers after a flood is a question of each moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kit.core.checks import check_positive
from kit.core.units import digits
from kit.plots import Picture, lines

if TYPE_CHECKING:
    from kit.loadgen.traffic_times import TrafficTimes

INTERVALS = 40  # of a run, unless told otherwise


@dataclass(frozen=True)
class OverTime:
    """(intervals,) values, each for the interval that begins at `starts_s`.

    A request counts as offered when it was due, and as good or failed when it ended. So what an
    overloaded server answers late does not hide in the interval in which it was asked.
    """

    interval_s: float
    starts_s: tuple[float, ...]
    offered: tuple[float, ...]  # requests per second that were due
    goodput: tuple[float, ...]  # answers per second that met all targets
    late: tuple[float, ...]  # good answers per second that missed a target
    refused: tuple[float, ...]  # 429 or 503 per second
    median_latency_s: tuple[float | None, ...]  # of the good answers; None without one

    def mean_goodput(self, from_s: float, until_s: float) -> float:
        """The average goodput of the intervals that lie between two moments."""
        inside = [
            good
            for start, good in zip(self.starts_s, self.goodput, strict=True)
            if from_s <= start and start + self.interval_s <= until_s + 1e-9
        ]
        return float(np.mean(inside)) if inside else 0.0

    def plot(self, what: str = "traffic") -> Picture:
        """Offered requests and goodput over time."""
        middles = [start + self.interval_s / 2 for start in self.starts_s]
        series = {
            "offered": (middles, list(self.offered)),
            "goodput": (middles, list(self.goodput)),
        }
        if any(self.refused):
            series["refused"] = (middles, list(self.refused))
        return lines(
            series,
            "time (s)",
            "requests per second",
            caption=f"{what}. Per {digits(self.interval_s)} s: goodput from "
            f"{digits(min(self.goodput))} to {digits(max(self.goodput))} requests/s, offered "
            f"from {digits(min(self.offered))} to {digits(max(self.offered))}.",
            marks=len(middles) <= INTERVALS,
        )


def over_time(result: TrafficTimes, interval_s: float | None = None) -> OverTime:
    """Counts per interval, until the arrivals end; later answers are not shown."""
    width = check_positive("interval_s", interval_s or result.duration_s / INTERVALS)
    count = max(1, round(result.duration_s / width))
    edges = width * np.arange(count + 1)
    ended, met = np.array(result.ended_s), result.met
    statuses, latencies = np.array(result.statuses), np.array(result.latencies_s)
    good = np.isfinite(latencies)

    def per_s(moments: np.ndarray) -> tuple[float, ...]:
        return tuple((np.histogram(moments, edges)[0] / width).tolist())

    place = np.searchsorted(edges, ended, side="right") - 1
    medians = (latencies[good & (place == i)] for i in range(count))
    return OverTime(
        width,
        tuple(edges[:-1].tolist()),
        per_s(np.array(result.scheduled_s)),
        per_s(ended[met]),
        per_s(ended[good & ~met]),
        per_s(ended[np.isin(statuses, (429, 503))]),
        tuple(float(np.median(each)) if len(each) else None for each in medians),
    )
