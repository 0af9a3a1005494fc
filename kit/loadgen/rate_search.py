"""How many users a system can bear: the server scenario, at one rate after another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.core.checks import check_budget, check_positive, check_whole
from kit.core.results import Result
from kit.core.statistics import samples_needed
from kit.core.units import digits, words
from kit.loadgen.arrivals import LEAST_TARGETS, MOST_QUERIES, ServerRun, server
from kit.loadgen.client import WARM_UP, Serve, Wait, warmed_up
from kit.loadgen.dependence import independent_needed, of_a_queue
from kit.loadgen.outcomes import finite
from kit.measurement import Stopwatch, doubts_told
from kit.plots import Picture, Table, lines

CLOSE = 1.05  # the search ends when the rates that are and are not valid lie this close
SPARE = 1.5  # times the queries that theory says are needed: the latencies may show more memory
LOWEST = 1 / 20  # of what answering one at a time could bear: below it, the search gives up


@dataclass(frozen=True)
class HighestRate(Result):
    """Each rate that was tried, and the highest that was valid."""

    trials: tuple[ServerRun, ...]  # in the order in which they ran

    @property
    def best(self) -> ServerRun | None:
        """The valid run with the highest rate below all that surely are not; None without one."""
        valid = (t for t in self.trials if t.valid and t.rate < self.too_high)
        return max(valid, key=lambda t: t.rate, default=None)

    @property
    def rate(self) -> float | None:
        """The highest rate that is surely valid, in queries per second; None without one."""
        return self.best.rate if self.best else None

    @property
    def too_high(self) -> float:
        """The lowest rate that surely is not valid; infinite if none was tried.

        Between `rate` and this one lies what the system can do; more precisely, the runs cannot
        tell.
        """
        return min((t.rate for t in self.trials if t.says == "no"), default=math.inf)

    @property
    def in_order(self) -> list[ServerRun]:
        """The trials from the lowest rate to the highest."""
        return sorted(self.trials, key=lambda t: t.rate)

    def __repr__(self) -> str:
        low = self.in_order[0]
        asked = f"{low.percentile:g} % within {words(low.target_s, 's')}"
        if self.rate is None:
            return f"highest rate: none, {digits(low.rate)} queries/s {self._none} for {asked}"
        more = f"; {digits(self.too_high)} are too many"
        if self.too_high == math.inf:
            more = ", or more: no rate was too high"
        return f"highest rate: {digits(self.rate)} queries/s with {asked}{more}"

    @property
    def _none(self) -> str:
        low = self.in_order[0]
        return "are too many" if low.says == "no" else "in a run too short to tell"

    def table(self) -> Table:
        """What people see."""
        rows = [tuple(t.cells().values()) for t in self.in_order]
        one = self.best or self.in_order[0]
        caption = f"{self!r}. {one.definition} {one.n:,} queries at that rate; {one.conditions}."
        caption += doubts_told({one.scenario: one.doubts})
        return Table(tuple(one.cells()), rows, caption[0].upper() + caption[1:])

    def to_dict(self) -> dict[str, Any]:
        """Each rate and how it went; the latencies stay with the trials."""
        return {
            "rate_queries_per_s": self.rate,
            "too_high_queries_per_s": finite(self.too_high),
            "trials": [t.verdict() for t in self.trials],
            "conditions": asdict(self.trials[0].conditions),
        }

    def plot(self) -> Picture:
        """The share of late queries over the rate."""
        runs = self.in_order
        late = ([t.rate for t in runs], [t.late_share for t in runs])
        return lines(
            {"late": late},
            "queries per second",
            f"later than {words(runs[0].target_s, 's')}",
            caption=f"{self!r}. Late: "
            + "; ".join(f"{words(t.late_share, '%')} at {digits(t.rate)}/s" for t in runs)
            + ".",
            level=(f"{100 - runs[0].percentile:g} %", 1 - runs[0].percentile / 100),
            unit="%",
        )


def highest_rate(
    serve: Serve,
    *,
    target_s: float,
    percentile: float = 99,
    max_batch: int = 1,
    budget_s: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
    wait_until: Wait | None = None,
) -> HighestRate:
    """The highest rate of queries at which enough of them are answered in time.

    It begins at half the rate that answering one at a time could bear and doubles until a rate is
    surely too high, or halves until one is surely valid, down to a sixteenth. Then it tries
    geometric middles, until the highest valid rate and the next one above lie within 5 %, and
    the lowest rate that is too high and the next one below, too. Between them it cannot tell.

    Parameters
    ----------
    budget_s
        Seconds of arrivals for each rate; up to ten times as long where a verdict at that load
        needs more queries, or what half load needs, if that is longer. Always 20 targets, since a
        queue needs time to show.
    serve, target_s, percentile, max_batch, seed, device
        As in `server`.

    Notes
    -----
    The nearer to its capacity a system works, the longer a queue remembers, and the more queries
    it takes to tell whether a rate is valid: see `ServerRun.queries_needed`. A larger `budget_s`
    therefore finds higher rates. For p99 a trial may last as long as 10,000 single answers.

    Explained in lesson 04.
    """
    check_positive("target_s", target_s)
    samples_needed(percentile)  # refuses what is no percentile
    check_whole("max_batch", max_batch)
    check_budget(budget_s)
    watch = stopwatch or Stopwatch(device)
    with warmed_up("highest rate", serve, sorted({1, max_batch}), watch):
        single_s = max(watch.time(lambda: serve(1), WARM_UP) / WARM_UP, 1e-6)
        full_s = max(watch.time(lambda: serve(max_batch), WARM_UP) / WARM_UP, 1e-6)
    one_by_one = 1 / single_s
    capacity = max(one_by_one, max_batch / full_s)

    def run(rate: float) -> ServerRun:
        asked_s = max(budget_s, 1.01 * LEAST_TARGETS * target_s)
        return server(
            serve,
            rate=rate,
            target_s=target_s,
            percentile=percentile,
            max_batch=max_batch,
            queries=_enough(rate, asked_s, percentile, rate / capacity),
            seed=seed,
            stopwatch=watch,
            wait_until=wait_until,
        )

    found = HighestRate(())
    rate: float | None = one_by_one / 2
    while rate and LOWEST * one_by_one < rate < 4 * capacity:
        found = HighestRate((*found.trials, run(float(f"{rate:.3g}"))))
        rate = _next(found)
    return found


def _enough(rate: float, asked_s: float, percentile: float, load: float) -> int:
    """Queries of a trial: what a verdict at this load needs, if there is time for it."""
    least = independent_needed(percentile)
    most = max(10 * asked_s * rate, SPARE * least * of_a_queue(0.5))
    needed = SPARE * least * of_a_queue(load)
    wanted = max(asked_s * rate, least, needed if needed <= most else 0)
    return min(math.ceil(wanted), MOST_QUERIES)


def _next(found: HighestRate) -> float | None:
    """The rate to try next; None if what was found is as close as it should be."""
    rates = [t.rate for t in found.in_order]
    valid, too_high = found.rate or 0.0, found.too_high
    if not valid:
        return rates[0] / 2
    if too_high == math.inf:
        return 2 * rates[-1]
    between = [valid, *(r for r in rates if valid < r < too_high), too_high]
    for below, above in (between[:2], between[-2:]):
        if above > CLOSE * below:
            return math.sqrt(below * above)
    return None
