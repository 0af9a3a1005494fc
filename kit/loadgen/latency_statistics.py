"""How many queries a statement needs, and how many of them may be late: MLPerf's early stopping.

A long queue makes many queries late together, and so does a slow moment of the machine. Such
queries say less than independent ones: n of them say as much as n ÷ `inflation` (see
`kit.core.correlated_samples`). Every statement about a scenario uses that number. It comes from

the latencies     variance of batch means ÷ what independence would give     `latency_inflation`
the load          how long a queue remembers, by theory                      `queue_inflation`

The larger of the two counts, because a short run does not show how long its queue remembers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kit.core.correlated_samples import inflation, most_below, ranks
from kit.core.statistics import CONFIDENCE, Estimate, average, samples_needed

RISK = 0.01  # of a wrong statement about a percentile: MLPerf's confidence is 99 %
LEAST_INDEPENDENT = 32  # queries: with fewer, batches are too short to show the correlation
BATCHES = (10, 20)  # of queries, whose means show the inflation

Values = Sequence[float] | np.ndarray


def value_inflation(values: Values) -> float:
    """How many values, in the order in which they came, say as much as one independent one."""
    return inflation(values, BATCHES) if len(values) >= 2 * max(BATCHES) else 1.0


def latency_inflation(times_s: Values) -> float:
    """The inflation of times by their ranks; differences below 1 ns are rounding of the clock."""
    return value_inflation(ranks(np.round(times_s, 9)))


def share_inflation(times_s: Values, limit_s: float) -> float:
    """The inflation of the share of times beyond a limit: slow ones may come in bursts."""
    beyond = np.round(times_s, 9) > np.round(limit_s, 9)
    return max(latency_inflation(times_s), value_inflation(beyond))


def percentile_inflation(times_s: Values, percentile: float) -> float:
    """The inflation of the share of times beyond one of their percentiles."""
    return share_inflation(times_s, float(np.percentile(times_s, percentile, method="lower")))


def queue_inflation(load: float, dispersion: float = 0.0, batch: float = 1.0) -> float:
    """The inflation that a queue with Poisson arrivals causes at a load.

    Parameters
    ----------
    load
        Arrival rate ÷ capacity; at 1 no run is long enough.
    dispersion
        Of the service times: their squared coefficient of variation × their own inflation.
    batch
        Queries that are answered at once.

    Notes
    -----
    In heavy traffic the waiting time is a reflected Brownian motion with the time scale
    (1 + dispersion) ÷ (1 − load)² queries, and a mean over it has an inflation of twice that:
    Whitt, "Planning queueing simulations", Management Science 35 (1989). The factor `load` and
    the first term make it 1 where no query waits. Simulated M/D/1 queues had 5.2, 43, 166 and 729
    at loads of 50, 80, 90 and 95 %; this gives 5, 41, 181 and 761.
    """
    if not load < 1:
        return math.inf
    return batch + 2 * load * (1 + batch * dispersion) / (1 - load) ** 2


def late_allowed(n: int, percentile: float, inflation: float = 1.0) -> int:
    """How many of n queries may be late if p % are in time for certain; -1: n is too few.

    Suppose the system answers exactly p % in time and no more. Then t or fewer of n independent
    queries are late with the probability Σ (n choose k)·(1 − p)^k·p^(n − k), k = 0 … t. The answer
    is the largest t for which this is at most 1 %. If no more than t are late, the system must be
    better than p %: otherwise so few late queries would be too unlikely.

    >>> late_allowed(64, 90), late_allowed(662, 99), late_allowed(10_000, 99), late_allowed(100, 99)
    (1, 1, 77, -1)

    Queries that wait for each other count as n ÷ inflation independent ones:

    >>> late_allowed(10_000, 99, inflation=5.0), late_allowed(10_000, 99, inflation=41.0)
    (49, -1)

    Notes
    -----
    With `inflation=1` it is MLPerf's rule (MLPerf Inference Rules, appendix "Early stopping", with
    their confidence and no tolerance), which takes queries for independent. At 95 % load and a
    target at the true percentile, that rule calls half of the runs valid.
    """
    return most_below(n, 1 - percentile / 100, RISK, inflation)


def independent_needed(percentile: float) -> int:
    """Independent queries that a statement about the percentile needs: 64 for p90, 662 for p99."""
    return max(LEAST_INDEPENDENT, samples_needed(percentile))


def queries_needed(percentile: float, inflation: float) -> int | None:
    """Dependent queries that say as much as those; None: no number is enough."""
    needed = independent_needed(percentile) * inflation
    return math.ceil(needed - 1e-3) if math.isfinite(needed) else None


def mean_estimate(times_s: Values, inflation: float) -> Estimate:
    """The mean of dependent times, with Student's 95 % interval for n ÷ inflation of them."""
    times = np.asarray(times_s, dtype=float)
    mean, worth = float(times.mean()), len(times) / inflation
    if not math.isfinite(mean) or worth <= 1:
        return Estimate(mean, 0.0, math.inf, "s")
    found = average(mean * worth, float(np.square(times).mean()) * worth, worth, "s")
    return Estimate(mean, max(0.0, found.low), found.high, "s")


def percentile_estimate(times_s: Values, percentile: float, inflation: float) -> Estimate:
    """A percentile of dependent times, with the 95 % interval of n ÷ inflation of them.

    The interval goes from one of the ordered values to another. An end is 0 or infinity where
    too few values lie beyond it.
    """
    ordered, tail = np.sort(np.asarray(times_s, dtype=float)), (1 - CONFIDENCE) / 2
    n, share = len(ordered), percentile / 100
    below, above = (most_below(n, each, tail, inflation) for each in (share, 1 - share))
    return Estimate(
        float(np.percentile(ordered, percentile, method="higher")),
        float(ordered[below]) if below >= 0 else 0.0,
        float(ordered[n - 1 - above]) if above >= 0 else math.inf,
        "s",
    )
