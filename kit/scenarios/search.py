"""How many users a system can bear: the server scenario, at one rate after another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.figures import Picture, Table, lines
from kit.measurement import Stopwatch, check_budget, doubts_told, samples_needed
from kit.results import Result
from kit.scenarios.arrivals import LEAST_TARGETS, ServerRun, server
from kit.scenarios.traffic import (
    WARM_UP,
    Serve,
    Wait,
    check_above_zero,
    check_count,
    warmed_up,
)
from kit.units import digits, words

CLOSE = 1.05  # the search ends when the rates that are and are not valid lie this close
LOWEST = 1 / 20  # of what answering one at a time could bear: below it, the search gives up


@dataclass(frozen=True)
class HighestRate(Result):
    """Each rate that was tried, and the highest that was valid."""

    trials: tuple[ServerRun, ...]  # in the order in which they ran

    @property
    def best(self) -> ServerRun | None:
        """The valid run with the highest rate; None if no run was valid."""
        return max((t for t in self.trials if t.valid), key=lambda t: t.rate, default=None)

    @property
    def rate(self) -> float | None:
        """The highest valid rate in queries per second; None if not even the lowest was valid."""
        return self.best.rate if self.best else None

    @property
    def in_order(self) -> list[ServerRun]:
        """The trials from the lowest rate to the highest."""
        return sorted(self.trials, key=lambda t: t.rate)

    def __repr__(self) -> str:
        low, high = self.in_order[0], self.in_order[-1]
        asked = f"{low.percentile:g} % within {words(low.target_s, 's')}"
        if self.rate is None:
            return f"highest rate: none, {digits(low.rate)} queries/s are too many for {asked}"
        more = ", or more: no rate was too high" if high.valid else ""
        return f"highest rate: {digits(self.rate)} queries/s with {asked}{more}"

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

    It begins at half the rate that answering one at a time could bear, doubles while valid (or
    halves while not, down to a sixteenth), then tries the geometric middle between the highest
    valid rate and the lowest other one until they lie within 5 %.

    Parameters
    ----------
    budget_s
        Seconds of arrivals for each rate; it takes longer where the percentile needs more queries
        or the target is long: at least 20 targets, since a queue needs time to show.
    serve, target_s, percentile, max_batch, seed, device
        As in `server`.

    Notes
    -----
    A rate is tried once, so luck has its part: with the fewest queries (662 for p99) other seeds
    moved the result by some 15 % either way; ten times as many, by a larger `budget_s`, narrow it.
    The search lasts as long as 5,000 to 10,000 single answers.

    Explained in lesson 04.
    """
    check_above_zero(target_s=target_s)
    samples_needed(percentile)  # refuses what is no percentile
    check_count(max_batch=max_batch)
    check_budget(budget_s)
    watch = stopwatch or Stopwatch(device)
    with warmed_up("highest rate", serve, [1], watch):
        single_s = max(watch.time(lambda: serve(1), WARM_UP) / WARM_UP, 1e-6)

    trials: list[ServerRun] = []
    low, high = 0.0, math.inf
    capacity = 1 / single_s
    rate = capacity / 2
    # One call answers at most `max_batch`: twice what that allows is too much in any case.
    while LOWEST * capacity < rate < 2 * max_batch * capacity and high > CLOSE * low:
        rate = float(f"{rate:.3g}")
        trials.append(
            server(
                serve,
                rate=rate,
                target_s=target_s,
                percentile=percentile,
                max_batch=max_batch,
                budget_s=max(budget_s, 1.01 * LEAST_TARGETS * target_s),
                seed=seed,
                stopwatch=watch,
                wait_until=wait_until,
            )
        )
        low, high = (rate, high) if trials[-1].valid else (low, rate)
        rate = 2 * low if high == math.inf else high / 2 if low == 0 else math.sqrt(low * high)
    return HighestRate(tuple(trials))
