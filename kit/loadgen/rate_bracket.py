"""The search for the highest valid rate, whatever is tried: a callable, or a server over HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import digits, words
from kit.loadgen.client_limit import ClientTooSlow
from kit.loadgen.latency_result import InTime, finite
from kit.loadgen.latency_statistics import independent_needed, queue_inflation
from kit.plots import Picture, Table, lines, with_doubts

CLOSE = 1.05  # the search ends when a valid rate and one that is too high are this close
MOST_QUERIES = 200_000  # of a trial: a search makes several
SPARE = 1.5  # × the queries that theory needs: the latencies may depend on each other more
COARSE = 1.4  # a search that may end with ends so far apart takes steps of that size, not doubles
ROUNDED = 1.01  # rates are tried with three digits
LOWEST = 1 / 20  # of the capacity without batches: below this rate the search gives up


@dataclass(frozen=True)
class HighestRate(Result):
    """Each rate that was tried, and the highest valid one."""

    trials: tuple[InTime, ...]  # in the order in which they ran
    sure: bool = True  # False: a rate counts as its own run was, in time or not
    # At which the search ended, because the client was the limit: the server may do more.
    client_limited_rate: float | None = None

    @property
    def best(self) -> InTime | None:
        """The valid trial with the highest rate below all invalid ones; None if there is none."""
        valid = (t for t in self.trials if t.valid and t.rate < self.too_high)
        return max(valid, key=lambda t: t.rate, default=None)

    @property
    def rate(self) -> float | None:
        """The highest valid rate, in queries per second; None if there is none.

        Without `sure`: the highest rate whose own run was in time.
        """
        if not self.sure:
            return self.seen.value or None
        return self.best.rate if self.best else None

    @property
    def too_high(self) -> float:
        """The lowest rate that is not valid (95 % confidence); infinite if none was found.

        The capacity for this target lies between `rate` and this one: the trials there cannot
        tell.
        """
        return min((t.rate for t in self.trials if t.verdict == "no"), default=math.inf)

    @property
    def missed(self) -> float:
        """The lowest rate of which no run was in time, be it by chance; infinite if none was."""
        good = {t.rate for t in self.trials if t.seen_in_time}
        return min((t.rate for t in self.trials if t.rate not in good), default=math.inf)

    @property
    def seen(self) -> Estimate:
        """The highest rate whose own run was in time, below all that were not.

        Its interval is from the highest rate that is surely in time, or 0, to the lowest that is
        surely too high, or infinity.
        """
        in_time = (t.rate for t in self.trials if t.seen_in_time and t.rate < self.missed)
        low = self.best.rate if self.best else 0.0
        best = max(low, max(in_time, default=0.0))
        return Estimate(best, low, self.too_high, f"{self.trials[0].counted}/s")

    @property
    def by_rate(self) -> list[InTime]:
        """The trials, from the lowest rate to the highest."""
        return sorted(self.trials, key=lambda t: t.rate)

    def __repr__(self) -> str:
        if self.client_limited_rate is None:
            return self._in_words()
        limit = f"At {digits(self.client_limited_rate)}/s, the client was the limit"
        return f"{self._in_words()}. {limit}"

    def _in_words(self) -> str:
        low = self.by_rate[0]
        target = f"{low.percentile:g} % within {words(low.target_s, 's')}"
        if not self.sure:
            return f"highest rate: {self.seen} with {target} in its own run; in brackets: surely"
        if self.rate is None:
            why = "are too many" if low.verdict == "no" else "in a run too short to tell"
            return f"highest rate: none, {digits(low.rate)} {low.counted}/s {why} for {target}"
        more = f"; {digits(self.too_high)} are too many"
        if self.too_high == math.inf:
            more = ", or more: no rate was too high"
        return f"highest rate: {digits(self.rate)} {low.counted}/s with {target}{more}"

    def table(self) -> Table:
        """A row per rate; the caption gives the highest."""
        cells = [t.cells() for t in self.by_rate]
        # Only a trial in which requests failed has a column for them; the longest row has most.
        names = tuple(dict.fromkeys(n for row in sorted(cells, key=len, reverse=True) for n in row))
        rows = [tuple(row.get(name, "—") for name in names) for row in cells]
        shown = [t for t in self.by_rate if t.rate == self.rate]
        one = shown[-1] if shown else self.by_rate[0]
        caption = (
            f"{self!r}. {one.definition} {one.n:,} {one.counted} at that rate; {one.conditions}."
        )
        caption = caption[0].upper() + caption[1:]
        return Table(names, rows, *with_doubts(caption, one.doubts))

    def to_dict(self) -> dict[str, Any]:
        """The summary of each trial, without its latencies."""
        return {
            f"rate_{self.trials[0].counted}_per_s": self.rate,
            "sure": self.sure,
            f"too_high_{self.trials[0].counted}_per_s": finite(self.too_high),
            f"client_limited_{self.trials[0].counted}_per_s": self.client_limited_rate,
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


def search(
    trial: Callable[[float], InTime],
    start: float,
    lowest: float,
    highest: float,
    close: float = CLOSE,
    sure: bool = True,
) -> HighestRate:
    """Try rates between two ends, from `start` on, until the bracket is narrow.

    It also ends at a rate that the client cannot send: what was found below it stays. If that is
    the first rate, the search begins lower.

    Raises
    ------
    ClientTooSlow
        The client can send none of the rates that were tried, down to the lowest.
    """
    found = HighestRate((), sure)
    rate: float | None = start
    while rate and lowest < rate < highest:
        tried = float(f"{rate:.3g}")
        try:
            run = trial(tried)
        except ClientTooSlow:
            if found.trials:
                return replace(found, client_limited_rate=tried)
            if (rate := rate / 2) <= lowest:
                raise
            continue
        found = HighestRate((*found.trials, run), sure)
        rate = _next_rate(found, close) if sure else _next_by_sight(found, close)
    return found


def queries_of_a_trial(
    rate: float, least_s: float, percentile: float, load: float, longest_s: float | None = None
) -> int:
    """Queries of a trial: as many as a verdict at this load needs, if there is time for them."""
    least = independent_needed(percentile)
    most = max((longest_s or 10 * least_s) * rate, SPARE * least * queue_inflation(0.5))
    needed = SPARE * least * queue_inflation(load)
    wanted = max(least_s * rate, least, needed if needed <= most else 0)
    return min(math.ceil(wanted), MOST_QUERIES)


def takes_small_steps(close: float, sure: bool = False) -> bool:
    """Whether a search goes on from rate to rate in steps of `close`, and not by doubling."""
    return not sure and close >= COARSE


def _next_by_sight(found: HighestRate, close: float) -> float | None:
    """The same if a run counts as it was. A rate gets a second run before it counts as missed."""
    last = found.trials[-1]
    tries = sum(t.rate == last.rate for t in found.trials)
    if last.verdict != "no" and not last.seen_in_time and tries < 2:
        return last.rate
    best, missed = found.seen.value, found.missed
    step = min(2.0, close) if takes_small_steps(close) else 2.0
    if not best:
        return missed / step
    if missed == math.inf:
        return step * best
    return math.sqrt(best * missed) if missed > ROUNDED * close * best else None


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
