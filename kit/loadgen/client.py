"""Sending queries to a system and noting when each was answered: the loops of all scenarios."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kit.loadgen.dependence import independent_needed, of_a_percentile
from kit.measurement import Stopwatch, labelled, no_collection

Serve = Callable[[int], Any]
Wait = Callable[[Callable[[], float], float], None]
WARM_UP = 3  # calls before the first query: MLPerf lets a system warm up untimed
SPIN_S = 1e-3  # a sleep may overrun by this much: the rest is waited for awake


@contextmanager
def warmed_up(
    scenario: str, serve: Serve, sizes: Collection[int], watch: Stopwatch
) -> Iterator[None]:
    """Call with the sizes that will come, then hold the garbage collector; name what raises."""
    with labelled(scenario), no_collection():
        for size in [*sizes] * WARM_UP:
            serve(size)
        watch.wait()
        yield


def one_after_another(
    serve: Serve, samples: int, percentile: float, budget_s: float, watch: Stopwatch
) -> dict[str, Any]:
    """Send the next query when the last one is answered, until the budget is spent.

    It goes on to the queries that the percentile needs, more of them if they depend on each other,
    unless those would take ten budgets.
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
            if needed < least * of_a_percentile(np.subtract(ends, starts), percentile):
                needed = math.ceil(1.5 * needed)
            now = watch.clock() - began  # nobody waits for our sums
    return _noted(starts, starts, ends, [1] * len(ends))


def as_they_come(
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
        When each query is due, in order, in seconds from the start.
    min_batch
        A call waits for so many, or for the last that comes.
    until_s
        No call begins later: what then waits is never answered.
    wait_until
        Takes a clock and what it shall show; another one for a test with a time of its own.
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
        size = min(max(waiting, fewest), max_batch)  # they have come, however the clock rounds
        starts.append(now)
        serve(size)
        watch.wait()
        now = watch.clock() - began
        ends.append(now)
        sizes.append(size)
        answered += size
    return _noted(arrivals_s.tolist(), starts, ends, sizes)


def _noted(
    arrivals: list[float], starts: list[float], ends: list[float], sizes: list[int]
) -> dict[str, Any]:
    times = {"arrivals_s": tuple(arrivals), "starts_s": tuple(starts), "ends_s": tuple(ends)}
    return {**times, "batch_sizes": tuple(sizes)}


def sleep_until(clock: Callable[[], float], moment: float) -> None:
    """Sleep for most of the wait and watch the clock for the last millisecond of it."""
    if (left := moment - clock()) > SPIN_S:
        time.sleep(left - SPIN_S)
    while clock() < moment:
        pass
