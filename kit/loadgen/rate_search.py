"""How many queries per second a system can answer in time: the server scenario, rate by rate.

The system is a callable in this process, or a server over HTTP: the search is the same.
"""

from __future__ import annotations

from typing import Any

import torch

from kit.core.checks import check_budget, check_positive, check_whole, is_number
from kit.core.errors import BadValue
from kit.core.statistics import Estimate, samples_needed
from kit.loadgen.client import WARM_UP, Serve, Wait, warmed_up
from kit.loadgen.http_rate_search import highest_http_rate
from kit.loadgen.latency_result import LEAST_TARGETS, InTime
from kit.loadgen.rate_bracket import CLOSE, LOWEST, HighestRate, queries_of_a_trial, search
from kit.loadgen.server_scenario import server
from kit.measurement import Stopwatch


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
    sure: bool = True,
    longest_s: float | None = None,
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
    sure
        False: a rate counts as its run was, in time or not; so does the `rate` of the result, and
        the interval of `seen` says how sure that is. Runs can then be short, and few. With a URL
        and a `close` of 1.4 or more, such a search starts at the capacity, in steps of `close`.
    longest_s
        Seconds of arrivals in one trial, instead of ten times the least. Shorter trials leave more
        rates of which no trial can tell.
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
    if longest_s is not None:
        check_positive("longest_s", longest_s)
    if isinstance(serve, str):
        asked = {"target_s": target_s, "percentile": percentile, "seed": seed, **sent}
        return highest_http_rate(
            serve,
            asked=asked,
            budget_s=budget_s,
            close=close,
            sure=sure,
            longest_s=longest_s,
            capacity=capacity,
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
            queries=queries_of_a_trial(rate, least_s, percentile, rate / most, longest_s),
            seed=seed,
            stopwatch=watch,
            wait_until=wait_until,
        )

    return search(trial, one_by_one / 2, LOWEST * one_by_one, 4 * most, close, sure)
