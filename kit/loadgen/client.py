"""The two ways to send queries and to record when each was answered: closed loop and open loop.

In a closed loop the next query waits for the last answer, so a slow system is asked less often.
In an open loop queries arrive when they are scheduled, however slow the system is: only an open
loop shows a queue (Schroeder, Wierman & Harchol-Balter, "Open versus closed: a cautionary tale",
NSDI 2006).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kit.loadgen.latency_statistics import independent_needed, percentile_inflation
from kit.measurement import Stopwatch, labelled, no_collection

Serve = Callable[[int], Any]
Wait = Callable[[Callable[[], float], float], None]
WARM_UP = 3  # calls before the first query: MLPerf lets a system warm up untimed
SPIN_S = 1e-3  # a sleep may overrun by this much, so the rest of a wait reads the clock in a loop


@contextmanager
def warmed_up(
    scenario: str, serve: Serve, sizes: Collection[int], watch: Stopwatch
) -> Iterator[None]:
    """Call with each size that will come, then hold the garbage collector; name what raises."""
    with labelled(scenario), no_collection():
        for size in [*sizes] * WARM_UP:
            serve(size)
        watch.wait()
        yield


def closed_loop(
    serve: Serve, samples: int, percentile: float, budget_s: float, watch: Stopwatch
) -> dict[str, Any]:
    """Send the next query when the last one is answered, until the budget is spent.

    It continues up to ten budgets if the percentile needs more queries: at first as many as
    independent ones would be, then more if the latencies turn out to depend on each other.
    """
    starts: list[float] = []
    ends: list[float] = []
    now, needed = 0.0, (least := independent_needed(percentile))
    began = watch.clock()
    while now < (budget_s if len(ends) >= needed else 10 * budget_s):
        starts.append(now)
        serve(samples)
        watch.wait()
        now = watch.clock() - began
        ends.append(now)
        if len(ends) == needed:
            if needed < least * percentile_inflation(np.subtract(ends, starts), percentile):
                needed = math.ceil(1.5 * needed)
            now = watch.clock() - began  # the time of this check is not charged to a query
    return _times(starts, starts, ends, [1] * len(ends))


def open_loop(
    serve: Serve,
    arrivals_s: np.ndarray,
    max_batch: int,
    watch: Stopwatch,
    *,
    min_batch: int = 1,
    until_s: float = math.inf,
    wait_until: Wait | None = None,
) -> dict[str, Any]:
    """Answer queries that arrive at given moments, oldest first, as many at once as allowed.

    Parameters
    ----------
    arrivals_s
        When each query arrives, in order, in seconds from the start.
    min_batch
        A call waits for this many queries, or for the last one.
    until_s
        No call begins later: queries that still wait are never answered.
    wait_until
        Takes a clock and the time to wait for; tests pass one with a time of its own.
    """
    starts: list[float] = []
    ends: list[float] = []
    sizes: list[int] = []
    answered, now = 0, 0.0
    began = watch.clock()
    while answered < len(arrivals_s) and now < until_s:
        fewest = min(min_batch, len(arrivals_s) - answered)
        awaited = arrivals_s[answered + fewest - 1]
        if awaited > now:
            (wait_until or sleep_until)(watch.clock, began + awaited)
            now = watch.clock() - began
        waiting = int(np.searchsorted(arrivals_s, now, side="right")) - answered
        size = min(max(waiting, fewest), max_batch)  # they have arrived, however the clock rounds
        starts.append(now)
        serve(size)
        watch.wait()
        now = watch.clock() - began
        ends.append(now)
        sizes.append(size)
        answered += size
    return _times(arrivals_s.tolist(), starts, ends, sizes)


def _times(
    arrivals: list[float], starts: list[float], ends: list[float], sizes: list[int]
) -> dict[str, Any]:
    times = {"arrivals_s": tuple(arrivals), "starts_s": tuple(starts), "ends_s": tuple(ends)}
    return {**times, "batch_sizes": tuple(sizes)}


def sleep_until(clock: Callable[[], float], moment: float) -> None:
    """Sleep for most of the wait, then read the clock in a loop for the last millisecond."""
    if (left := moment - clock()) > SPIN_S:
        time.sleep(left - SPIN_S)
    while clock() < moment:
        pass
