"""How much queries that wait for each other say: as much as fewer independent ones.

A long queue makes many queries late together, and a slow moment of the machine does the same. The
share of late ones, a mean or a percentile of n such queries is known no better than from
n ÷ `inflation` independent ones. Everything that a scenario says with a confidence is judged with
that number:

from the latencies     variance of batch means ÷ what independence would give them    `inflation`
from the load          how long a queue remembers, by theory                          `of_a_queue`

The larger of the two counts: short runs see too little of the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kit.core.statistics import CONFIDENCE, Estimate, average, samples_needed

RISK = 0.01  # of the rule about a percentile: MLPerf's confidence is 99 %
LEAST = 32  # independent queries: with fewer, batches are too short to show the correlation
BATCHES = (10, 20)  # few see a long memory, many see a short one more precisely


def inflation(values: Sequence[float] | np.ndarray) -> float:
    """How many of the values, in the order in which they came, say as much as one independent one.

    The variance of the means of 10 or 20 batches, times a batch's length, ÷ the variance of the
    values (Schmeiser, "Batch size effects in the analysis of simulation output", 1982). At least 1.
    """
    values = np.asarray(values, dtype=float)
    variance = values.var()
    if len(values) < 2 * max(BATCHES) or not variance:
        return 1.0
    found = [1.0]
    for batches in BATCHES:
        length = len(values) // batches
        means = values[: batches * length].reshape(batches, length).mean(axis=1)
        found.append(length * means.var(ddof=1) / variance)
    return float(max(found))


def ranks(times_s: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) the rank of each time, equal ones alike: a single enormous one is only the last.

    Differences below a nanosecond are a clock's rounding.
    """
    _, place, count = np.unique(np.round(times_s, 9), return_inverse=True, return_counts=True)
    return (count.cumsum() - count / 2)[place]


def of_a_share(times_s: Sequence[float] | np.ndarray, limit_s: float) -> float:
    """The inflation of the share of times beyond a limit: slow ones may come in bursts."""
    beyond = np.round(times_s, 9) > np.round(limit_s, 9)
    return max(inflation(ranks(times_s)), inflation(beyond))


def of_a_percentile(times_s: Sequence[float] | np.ndarray, percentile: float) -> float:
    """The inflation of the share of times beyond a percentile of theirs."""
    return of_a_share(times_s, float(np.percentile(times_s, percentile, method="lower")))


def of_a_queue(load: float, dispersion: float = 0.0, size: float = 1.0) -> float:
    """The inflation that a queue with Poisson arrivals brings about at a load.

    Parameters
    ----------
    load
        What comes ÷ what can be answered; at 1 no run is long enough.
    dispersion
        Of the service times: their squared coefficient of variation × their own inflation.
    size
        Queries that are answered at once.

    Notes
    -----
    In heavy traffic the wait is a reflected Brownian motion with the time scale
    (1 + dispersion) ÷ (1 − load)² queries, and a mean over it has an inflation of twice that:
    Whitt, "Planning queueing simulations", Management Science 35 (1989). The factor `load` and
    the first term make it 1 where nobody waits. Simulated M/D/1 queues had 5.2, 43, 166 and 729 at
    loads of 50, 80, 90 and 95 %; this gives 5, 41, 181 and 761.
    """
    if not load < 1:
        return math.inf
    return size + 2 * load * (1 + size * dispersion) / (1 - load) ** 2


def fewest(n: float, share: float, risk: float, inflation: float = 1.0) -> int:
    """The largest t for which t or fewer of n queries are a `share` of all at most `risk` often.

    -1 where even none at all are so more often. Of dependent queries, t ÷ inflation of
    n ÷ inflation: the binomial sum, between whole numbers by the incomplete beta function.
    """
    from scipy.special import bdtrik  # scipy takes too long to come with the kit

    worth = n / inflation
    if worth <= 0 or worth * math.log1p(-share) > math.log(risk):
        return -1
    return math.floor(inflation * float(bdtrik(risk, worth, share)) + 1e-9)


def tolerated(n: int, percentile: float, inflation: float = 1.0) -> int:
    """How many of n queries may be late if p % are to be in time for certain; -1: n is too few.

    Suppose the system can do p % and no more. Then t or fewer of n independent queries are late
    with the probability Σ (n choose k)·(1 − p)^k·p^(n − k), k = 0 … t. The answer is the largest t
    for which that is at most 1 %: so few would be late so seldom that the system must be better.

    >>> tolerated(64, 90), tolerated(662, 99), tolerated(10_000, 99), tolerated(100, 99)
    (1, 1, 77, -1)

    Queries that wait for each other count as n ÷ inflation independent ones:

    >>> tolerated(10_000, 99, inflation=5.0), tolerated(10_000, 99, inflation=41.0)
    (49, -1)

    Notes
    -----
    With `inflation=1` it is MLPerf's rule (MLPerf Inference Rules, appendix "Early stopping", with
    their confidence and no tolerance), which takes queries for independent. At 95 % load and a
    target at the true percentile that calls half of the runs valid.
    """
    return fewest(n, 1 - percentile / 100, RISK, inflation)


def independent_needed(percentile: float) -> int:
    """Independent queries that a statement about the percentile needs: 64 for p90, 662 for p99."""
    return max(LEAST, samples_needed(percentile))


def mean_of(values: Sequence[float] | np.ndarray, inflation: float, unit: str = "s") -> Estimate:
    """The mean of dependent times, with Student's 95 % interval for n ÷ inflation of them."""
    values = np.asarray(values, dtype=float)
    mean, worth = float(values.mean()), len(values) / inflation
    if not math.isfinite(mean) or worth <= 1:
        return Estimate(mean, 0.0, math.inf, unit)
    found = average(mean * worth, float(np.square(values).mean()) * worth, worth, unit)  # type: ignore[arg-type]  # a count with fractions
    return Estimate(mean, max(0.0, found.low), found.high, unit)


def percentile_of(
    values: Sequence[float] | np.ndarray, percentile: float, inflation: float, unit: str = "s"
) -> Estimate:
    """A percentile of dependent times, with the 95 % interval of n ÷ inflation of them.

    From one of the ordered values to another; to infinity where there are too few for an end.
    """
    ordered, tail = np.sort(np.asarray(values, dtype=float)), (1 - CONFIDENCE) / 2
    n, share = len(ordered), percentile / 100
    below, above = fewest(n, share, tail, inflation), fewest(n, 1 - share, tail, inflation)
    middle = float(np.percentile(ordered, percentile, method="higher"))
    low = float(ordered[below]) if below >= 0 else 0.0
    high = float(ordered[n - 1 - above]) if above >= 0 else math.inf
    return Estimate(middle, low, high, unit)
