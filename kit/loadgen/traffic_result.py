"""A run of traffic for people and programs: a line, a table, pictures, a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.units import digits, words
from kit.loadgen.latency_result import finite, thinned
from kit.loadgen.traffic_over_time import OverTime, over_time
from kit.loadgen.traffic_times import TrafficTimes
from kit.plots import Picture, Table, lines, with_doubts

ARRIVALS = {  # how they are distributed, in words
    "poisson": "arrivals at random",
    "constant": "arrivals at even gaps",
    "bursts": "arrivals in bursts",
    "trace": "arrivals as given",
}


@dataclass(frozen=True, kw_only=True)
class TrafficResult(TrafficTimes, Result):
    """One run of traffic; its raw times are those of `TrafficTimes`."""

    def over_time(self, interval_s: float | None = None) -> OverTime:
        """Offered requests, goodput, failures and latency in each interval of the run."""
        return over_time(self, interval_s)

    def __repr__(self) -> str:
        lost = f", {self.failed:,} of {self.n:,} without a good answer" if self.failed else ""
        return (
            f"traffic, {self._loop_in_words}: {digits(self.goodput.value)} requests/s "
            f"{self._targets or 'answered'} of {digits(self.offered)} offered{lost}"
        )

    @property
    def _loop_in_words(self) -> str:
        several = f"{self.users} users" if self.users != 1 else "1 user"
        if self.loop == "open":
            return f"open loop, {ARRIVALS.get(self.arrivals, self.arrivals)}"
        return f"{several} (closed loop{', with a schedule' if self.rate else ''})"

    @property
    def _targets(self) -> str:
        targets = {"": self.target_s, "TTFT ": self.ttft_target_s, "TPOT ": self.tpot_target_s}
        named = [f"{name}{words(t, 's')}" for name, t in targets.items() if t is not None]
        return f"within {' and '.join(named)}" if named else ""

    @property
    def definition(self) -> str:
        """How the requests arrived and what counts."""
        ready = "the moment when a user was ready to send"
        since = ready if self.loop == "closed" else "its scheduled arrival"
        verdict = ""
        if self.target_s is not None and self.rate is not None:
            verdict = (
                f"; valid if, with 95 % confidence, {self.percentile:g} % are answered within "
                f"{words(self.target_s, 's')}"
            )
        again = f"up to {self.retries} retries, which count as traffic" if self.retries else ""
        return (
            f"{self._loop_in_words[0].upper()}{self._loop_in_words[1:]}; latency counts from "
            f"{since}{verdict}; answered/s leaves out answers that came after the last arrival; "
            f"{again or 'no retries'}."
        )

    def cells(self) -> dict[str, str]:
        """Column heading -> cell of the table."""
        cells = {
            **({} if self.rate is None else {"rate": digits(self.rate)}),
            "offered/s": digits(self.offered),
            "answered/s": digits(self.throughput),
            "goodput/s": digits(self.goodput.value),
            "median latency": self._median(self.latencies_s),
            f"p{self.percentile:g} latency": self._percentile(),
        }
        if self.loop == "closed with a schedule":
            cells["median since sending"] = self._median(self.uncorrected.latencies_s)
        if self.streamed:
            cells |= {"TTFT": self._median(self.ttft_s), "TPOT": self._median(self.tpot_s)}
        if self.failed:
            cells["without answer"] = words(self.failed / self.n, "%")
        if self.retried:
            cells["retries"] = f"{self.retried:,}"
        if self.target_s is not None and self.rate is not None:
            cells["valid"] = self.verdict
        return cells

    def _percentile(self) -> str:
        """The percentile of this run, with its interval; ∞ where too many answers lack."""
        found = self.latency_estimate(self.percentile)
        return "∞" if math.isinf(found.value) else repr(found)

    @staticmethod
    def _median(times_s: Sequence[float]) -> str:
        middle = float(np.percentile(times_s, 50, method="lower"))
        return "∞" if math.isinf(middle) else words(middle, "s")

    def table(self) -> Table:
        """One row; the caption says how the requests arrived and what counts."""
        cells = self.cells()
        counts = ", ".join(
            f"{count:,} with status {status}" for status, count in self.status_counts.items()
        )
        caption = (
            f"{self.definition} {self.n:,} requests in {words(self.duration_s, 's')}: {counts}."
        )
        details = (
            f"The client alone can send {digits(self.client_limit)} requests/s; it was busy "
            f"{words(self.client_busy_share, '%')} of the time. {self.conditions}."
        )
        return Table(
            tuple(cells), [tuple(cells.values())], *with_doubts(caption, self.doubts, details)
        )

    def summary(self) -> dict[str, Any]:
        """The settings and what counts, without the raw times."""
        names = ("url", "model", "loop", "arrivals", "users", "think_s", "duration_s", "target_s")
        more = ("ttft_target_s", "tpot_target_s", "percentile", "timeout_s", "retries", "seed")
        targeted = self.target_s is not None and self.rate is not None
        return {
            **{name: getattr(self, name) for name in (*names, *more, "batch_size")},
            "rate_requests_per_s": self.rate,
            "requests": self.n,
            "offered_requests_per_s": self.offered,
            "throughput_requests_per_s": self.throughput,
            "goodput": self.goodput.to_dict(),
            "late_requests": self.late if self.target_s is not None else None,
            "failed_requests": self.failed,
            "refused_requests": self.refused,
            "retried_requests": self.retried,
            "statuses": self.status_counts,
            "median_latency_s": finite(float(np.percentile(self.latencies_s, 50, method="lower"))),
            "load": self.load.value if self.load else None,
            "independent_requests": self.n / self.inflation,
            "verdict": self.verdict if targeted else None,
            "client_limit_requests_per_s": self.client_limit,
            "client_busy_share": self.client_busy_share,
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary, the conditions, and at most 2,000 latencies (null: no good answer)."""
        raw = {"latencies_s": self.latencies_s, "uncorrected_s": self.uncorrected.latencies_s}
        streams = {"ttft_s": self.ttft_s, "tpot_s": self.tpot_s} if self.streamed else {}
        saved = {
            name: [finite(round(s, 9)) for s in thinned(values)]
            for name, values in {**raw, **streams}.items()
        }
        about = {"conditions": asdict(self.conditions), "doubts": list(self.doubts)}
        return {**self.summary(), **saved, **about}

    def plot(self) -> Picture:
        """Latency over the scheduled arrival: a queue shows as a slope."""
        if not self.answered:
            raise BadValue(f"{self!r}: nothing to draw. See status_counts.")
        moments = thinned(np.array(self.scheduled_s)[self._ok].tolist())
        latencies = thinned(self.answered_latencies_s)
        return lines(
            {"latency": (moments, latencies)},
            "scheduled arrival (s)",
            "latency",
            caption=f"{self!r}. Good answers took from {words(min(latencies), 's')} to "
            f"{words(max(latencies), 's')}.",
            marks=len(moments) < 100,
            level=None if self.target_s is None else ("target", self.target_s),
            unit="s",
        )

    def plot_over_time(self, interval_s: float | None = None) -> Picture:
        """Offered requests and goodput over time."""
        return self.over_time(interval_s).plot(repr(self))
