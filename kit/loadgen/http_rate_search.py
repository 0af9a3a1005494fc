"""The highest rate of a server over HTTP: its capacity first, then run after run of `traffic`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kit.core.errors import CallFailed
from kit.core.statistics import Estimate
from kit.loadgen.latency_result import LEAST_TARGETS, InTime
from kit.loadgen.rate_bracket import (
    CLOSE,
    LOWEST,
    HighestRate,
    queries_of_a_trial,
    search,
    takes_small_steps,
)
from kit.loadgen.traffic import traffic

CAPACITY_USERS = 32  # who do not think: enough to fill a server's batches
NEARLY = 0.9  # of the capacity: a server that answers so much, and in time, may have more
MOST = 16  # × the capacity: above this rate the search gives up
TIMEOUT_TARGETS = 5  # a request is given up after this many targets


def highest_http_rate(
    url: str,
    *,
    asked: dict[str, Any],
    budget_s: float,
    close: float = CLOSE,
    sure: bool = True,
    longest_s: float | None = None,
    capacity: float | Estimate | None = None,
) -> HighestRate:
    """The search over HTTP: a trial is a run of `traffic`, with what was `asked` for.

    Rates above the capacity are too high, unless a run shows that the server answers more.
    """
    if capacity is None:
        capacity = http_capacity(url, budget_s, asked)
    known, target_s = Estimate.of(capacity), asked["target_s"]
    least_s = max(budget_s, 1.01 * LEAST_TARGETS * target_s)
    # What takes longer is late in any case; a client that waits longer only lengthens the search.
    asked = {"timeout_s": max(1.0, TIMEOUT_TARGETS * target_s), **asked, "capacity": known}

    def trial(rate: float) -> InTime:
        load = min(rate / known.value, 1.0)
        queries = queries_of_a_trial(rate, least_s, asked["percentile"], load, longest_s)
        run = traffic(url, rate=rate, duration_s=queries / rate, **asked)
        # A capacity that was measured in a bad moment would call each higher rate too high.
        least = known.high if sure else NEARLY * known.value
        return replace(run, capacity=None) if run.throughput > least else run

    lowest, highest = LOWEST * known.value, MOST * known.value
    # Small steps begin where the answer is expected.
    start = known.value / (1 if takes_small_steps(close, sure) else 2)
    return search(trial, start, lowest, highest, close, sure)


def http_capacity(url: str, budget_s: float, asked: dict[str, Any]) -> Estimate:
    """Answers per second to users who do not think.

    This many users keep a server busy, and each of them waits: no queue grows without end.
    """
    given = {name: value for name, value in asked.items() if name != "target_s"}
    run = traffic(url, users=CAPACITY_USERS, duration_s=budget_s, **given)
    if not run.answered:
        raise CallFailed(f"{url}: no good answer to {run.n:,} requests: {run.status_counts}.")
    return run.throughput_estimate
