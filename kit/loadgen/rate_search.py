"""How many queries per second a system can answer in time: the server scenario, rate by rate.

The system is a callable in this process, or a server over HTTP: the search is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_budget, check_positive, check_whole, is_number
from kit.core.errors import BadValue, CallFailed
from kit.core.results import Result
from kit.core.statistics import Estimate, average, samples_needed
from kit.core.units import digits, words
from kit.loadgen.client import WARM_UP, Serve, Wait, warmed_up
from kit.loadgen.latency_result import LEAST_TARGETS, InTime, finite
from kit.loadgen.latency_statistics import independent_needed, queue_inflation
from kit.loadgen.server_scenario import MOST_QUERIES, server
from kit.loadgen.traffic import traffic
from kit.measurement import Stopwatch
from kit.plots import Picture, Table, lines, with_doubts

CLOSE = 1.05  # the search ends when a valid rate and one that is too high are this close
SPARE = 1.5  # × the queries that theory needs: the latencies may depend on each other more
CAPACITY_USERS = 32  # who do not think: enough to fill a server's batches
TIMEOUT_TARGETS = 5  # a request is given up after so many targets
LOWEST = 1 / 20  # of the capacity without batches: below this rate the search gives up


@dataclass(frozen=True)
class HighestRate(Result):
    """Each rate that was tried, and the highest valid one."""

    trials: tuple[InTime, ...]  # in the order in which they ran

    @property
    def best(self) -> InTime | None:
        """The valid trial with the highest rate below all invalid ones; None if there is none."""
        valid = (t for t in self.trials if t.valid and t.rate < self.too_high)
        return max(valid, key=lambda t: t.rate, default=None)

    @property
    def rate(self) -> float | None:
        """The highest valid rate, in queries per second; None if there is none."""
        return self.best.rate if self.best else None

    @property
    def too_high(self) -> float:
        """The lowest rate that is not valid (95 % confidence); infinite if none was found.

        The capacity for this target lies between `rate` and this one: the trials there cannot
        tell.
        """
        return min((t.rate for t in self.trials if t.verdict == "no"), default=math.inf)

    @property
    def bracket(self) -> Estimate:
        """The highest rate with its interval: from the highest valid one to one that is too high.

        The value is the highest valid rate, or 0; an infinite end: no rate was too high.
        """
        rate = self.rate or 0.0
        return Estimate(rate, rate, self.too_high, f"{self.trials[0].counted}/s")

    @property
    def by_rate(self) -> list[InTime]:
        """The trials, from the lowest rate to the highest."""
        return sorted(self.trials, key=lambda t: t.rate)

    def __repr__(self) -> str:
        low = self.by_rate[0]
        target = f"{low.percentile:g} % within {words(low.target_s, 's')}"
        if self.rate is None:
            why = "are too many" if low.verdict == "no" else "in a run too short to tell"
            return f"highest rate: none, {digits(low.rate)} {low.counted}/s {why} for {target}"
        more = f"; {digits(self.too_high)} are too many"
        if self.too_high == math.inf:
            more = ", or more: no rate was too high"
        return f"highest rate: {digits(self.rate)} {low.counted}/s with {target}{more}"

    def table(self) -> Table:
        """A row per rate; the caption gives the highest."""
        rows = [tuple(t.cells().values()) for t in self.by_rate]
        one = self.best or self.by_rate[0]
        caption = (
            f"{self!r}. {one.definition} {one.n:,} {one.counted} at that rate; {one.conditions}."
        )
        caption = caption[0].upper() + caption[1:]
        return Table(tuple(one.cells()), rows, *with_doubts(caption, one.doubts))

    def to_dict(self) -> dict[str, Any]:
        """The summary of each trial, without its latencies."""
        return {
            f"rate_{self.trials[0].counted}_per_s": self.rate,
            f"too_high_{self.trials[0].counted}_per_s": finite(self.too_high),
            "trials": [t.summary() for t in self.trials],
            "conditions": asdict(self.trials[0].conditions),
        }

    def plot(self) -> Picture:
        """The share of late queries over the rate."""
        runs = self.by_rate
        late = ([t.rate for t in runs], [t.late_share for t in runs])
        return lines(
            {"late": late},
            f"{runs[0].counted} per second",
            f"later than {words(runs[0].target_s, 's')}",
            caption=f"{self!r}. Late: "
            + "; ".join(f"{words(t.late_share, '%')} at {digits(t.rate)}/s" for t in runs)
            + ".",
            level=(f"{100 - runs[0].percentile:g} %", 1 - runs[0].percentile / 100),
            unit="%",
        )


def highest_rate(
    serve: Serve | str,
    *,
    target_s: float,
    percentile: float = 99,
    max_batch: int = 1,
    budget_s: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
    wait_until: Wait | None = None,
    close: float = CLOSE,
    capacity: float | Estimate | None = None,
    **sent: Any,
) -> HighestRate:
    """The highest rate of queries at which enough of them are answered in time.

    The search starts at half the capacity without batches. It doubles the rate until one is too
    high, or halves it until one is valid, down to a sixteenth. Then it tries the geometric mean
    of two neighbours, until the highest valid rate lies within 5 % of the next one above, and the
    lowest rate that is too high within 5 % of the next one below (`close`). In between, no trial
    can tell.

    Parameters
    ----------
    budget_s
        Seconds of arrivals for each rate. A trial takes up to ten times as long, or as long as
        half load needs, if a verdict at that load needs more queries. It always lasts at least
        20 targets, because a queue needs time to grow.
    serve, target_s, percentile, max_batch, seed, device
        As in `server`; or the URL of a server, as in `kit.traffic`.
    close
        How near the ends of the bracket shall come to their neighbours, as a ratio. A larger one
        ends the search sooner.
    capacity
        With a URL: requests per second of the server, from which the search starts. It is measured
        first if it is not given, with 32 users who do not think.
    sent
        With a URL: what else `kit.traffic` takes, such as inputs, headers, connections.

    Notes
    -----
    The nearer a system works to its capacity, the longer its queue remembers, and the more
    queries a verdict needs (`queries_needed`). So a larger `budget_s` finds higher
    rates. For p99 a trial may last as long as 10,000 single answers.

    Examples
    --------
    >>> serve = lambda n: sum(range(20_000))
    >>> found = highest_rate(serve, target_s=0.005, percentile=50, budget_s=0.05)
    >>> found.rate is None or found.rate < found.too_high
    True
    """
    check_positive("target_s", target_s)
    samples_needed(percentile)  # refuses a percentile out of range
    check_whole("max_batch", max_batch)
    check_budget(budget_s)
    if not is_number(close) or not close > 1:
        raise BadValue(f"close={close!r}: needs a ratio above 1, such as 1.05 for 5 %.")
    if isinstance(serve, str):
        asked = {"target_s": target_s, "percentile": percentile, "seed": seed, **sent}
        return highest_http_rate(
            serve, budget_s=budget_s, close=close, capacity=capacity, asked=asked
        )
    if sent or capacity is not None:
        given = ", ".join([*sent, *(["capacity"] if capacity is not None else [])])
        raise BadValue(
            f"{given}: only for a server over HTTP. Give its URL first, or leave it out."
        )
    watch = stopwatch or Stopwatch(device)
    with warmed_up("highest rate", serve, sorted({1, max_batch}), watch):
        single_s = max(watch.time(lambda: serve(1), WARM_UP) / WARM_UP, 1e-6)
        full_s = max(watch.time(lambda: serve(max_batch), WARM_UP) / WARM_UP, 1e-6)
    one_by_one = 1 / single_s
    most = max(one_by_one, max_batch / full_s)

    def trial(rate: float) -> InTime:
        least_s = max(budget_s, 1.01 * LEAST_TARGETS * target_s)
        return server(
            serve,
            rate=rate,
            target_s=target_s,
            percentile=percentile,
            max_batch=max_batch,
            queries=queries_of_a_trial(rate, least_s, percentile, rate / most),
            seed=seed,
            stopwatch=watch,
            wait_until=wait_until,
        )

    return search(trial, one_by_one / 2, LOWEST * one_by_one, 4 * most, close)


def search(
    trial: Callable[[float], InTime],
    start: float,
    lowest: float,
    highest: float,
    close: float = CLOSE,
) -> HighestRate:
    """Try rates between two ends, from `start` on, until the bracket is narrow."""
    found = HighestRate(())
    rate: float | None = start
    while rate and lowest < rate < highest:
        found = HighestRate((*found.trials, trial(float(f"{rate:.3g}"))))
        rate = _next_rate(found, close)
    return found


def queries_of_a_trial(rate: float, least_s: float, percentile: float, load: float) -> int:
    """Queries of a trial: as many as a verdict at this load needs, if there is time for them."""
    least = independent_needed(percentile)
    most = max(10 * least_s * rate, SPARE * least * queue_inflation(0.5))
    needed = SPARE * least * queue_inflation(load)
    wanted = max(least_s * rate, least, needed if needed <= most else 0)
    return min(math.ceil(wanted), MOST_QUERIES)


def _next_rate(found: HighestRate, close: float) -> float | None:
    """The rate to try next; None if the bracket is as narrow as it should be."""
    rates = [t.rate for t in found.by_rate]
    valid, too_high = found.rate or 0.0, found.too_high
    if not valid:
        return rates[0] / 2
    if too_high == math.inf:
        return 2 * rates[-1]
    between = [valid, *(r for r in rates if valid < r < too_high), too_high]
    for below, above in (between[:2], between[-2:]):
        if above > close * below:
            return math.sqrt(below * above)
    return None


def highest_http_rate(
    url: str,
    *,
    asked: dict[str, Any],
    budget_s: float,
    close: float = CLOSE,
    capacity: float | Estimate | None = None,
) -> HighestRate:
    """The search over HTTP: a trial is a run of `traffic`, with what was `asked` for."""
    if capacity is None:
        capacity = http_capacity(url, budget_s, asked)
    known, target_s = Estimate.of(capacity), asked["target_s"]
    least_s = max(budget_s, 1.01 * LEAST_TARGETS * target_s)
    # What takes longer is late in any case; a client that waits longer only lengthens the search.
    asked = {"timeout_s": max(1.0, TIMEOUT_TARGETS * target_s), **asked, "capacity": known}

    def trial(rate: float) -> InTime:
        load = min(rate / known.value, 1.0)
        queries = queries_of_a_trial(rate, least_s, asked["percentile"], load)
        return traffic(url, rate=rate, duration_s=queries / rate, **asked)

    return search(trial, known.value / 2, LOWEST * known.value, 4 * known.value, close)


def http_capacity(url: str, budget_s: float, asked: dict[str, Any]) -> Estimate:
    """Answers per second to users who do not think, with the 95 % interval of ten parts of a run.

    So many users keep a server busy, and each of them waits: no queue grows without end.
    """
    given = {name: value for name, value in asked.items() if name != "target_s"}
    run = traffic(url, users=CAPACITY_USERS, duration_s=budget_s, **given)
    if not run.answered:
        raise CallFailed(f"{url}: no good answer to {run.n:,} requests: {run.status_counts}.")
    rates = np.array(run.over_time(budget_s / 10).goodput[1:])  # the first part begins empty
    spread = average(float(rates.sum()), float(np.square(rates).sum()), len(rates))
    low, high = max(0.5 * run.throughput, spread.low), max(spread.high, run.throughput)
    return Estimate(run.throughput, min(low, run.throughput), high, "requests/s")
