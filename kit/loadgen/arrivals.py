"""When requests arrive: moments in seconds from the start, in order, without any clock.

poisson     users act independently of each other, so the gaps are exponential
constant    a metronome: no two requests ever meet by chance
bursts      groups that arrive together, at random moments: a page with many pictures
trace       moments that were recorded, or made by hand; a rate stretches them

The same seed gives the same pattern, so two servers are compared under the same luck. The same
number of requests at another rate has the same pattern, too, stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kit.core.checks import check_positive, check_whole
from kit.core.errors import BadValue, UnknownName

BURST = 10  # requests that arrive together
# Of one run: their raw times stay in memory, some 60 bytes of each request. So a minute at three
# times the capacity of a fast server fits, and the client takes about as much memory as PyTorch.
MOST_ARRIVALS = 2_000_000
KINDS = ("poisson", "constant", "bursts")


def poisson(rate: float, queries: int, seed: int) -> np.ndarray:
    """(queries,) arrival times in seconds: users act independently, so gaps are exponential.

    >>> poisson(100.0, 3, seed=0).round(4)
    array([0.0068, 0.017 , 0.0172])
    """
    return np.random.default_rng(seed).exponential(1 / rate, queries).cumsum()


def constant(rate: float, queries: int) -> np.ndarray:
    """(queries,) arrival times in seconds with equal gaps, the first at 0.

    >>> constant(100.0, 3)
    array([0.  , 0.01, 0.02])
    """
    return np.arange(queries) / rate


def bursts(rate: float, queries: int, seed: int, size: int = BURST) -> np.ndarray:
    """(queries,) arrival times in seconds: groups of `size` at Poisson moments, same mean rate.

    >>> bursts(100.0, 6, seed=0, size=3).round(4)
    array([0.0204, 0.0204, 0.0204, 0.051 , 0.051 , 0.051 ])
    """
    return np.repeat(poisson(rate / size, math.ceil(queries / size), seed), size)[:queries]


def trace(moments_s: Sequence[float] | np.ndarray, rate: float | None = None) -> np.ndarray:
    """Recorded moments from their first one on; a rate stretches them until that is their mean.

    >>> trace([10.0, 10.1, 10.4]), trace([10.0, 10.1, 10.4], rate=20.0)
    (array([0. , 0.1, 0.4]), array([0.   , 0.025, 0.1  ]))

    Raises
    ------
    BadValue
        The moments are not numbers in order, or all of them are the same and a rate is given.
    """
    try:
        moments = np.asarray(moments_s, dtype=float)
    except (TypeError, ValueError):
        raise BadValue(f"arrivals={moments_s!r}: needs numbers, the moments in seconds.") from None
    ordered = moments.ndim == 1 and moments.size and np.isfinite(moments).all()
    if not ordered or (np.diff(moments) < 0).any():
        raise BadValue(
            f"arrivals of shape {moments.shape}: needs at least one moment in seconds, in order. "
            f"Sort them with np.sort."
        )
    moments = moments - moments[0]
    if rate is None:
        return moments
    if not moments[-1]:
        raise BadValue("arrivals at one moment: cannot be stretched to a rate. Leave out rate.")
    return moments * ((len(moments) - 1) / moments[-1] / rate)


def phases(parts: Sequence[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Poisson arrivals whose rate changes: `parts` are (requests per second, seconds) in order.

    A flood between two calm phases shows whether a server recovers. Give the result to
    `kit.traffic(url, arrivals=…)`.

    >>> times_s = phases([(100, 1), (1_000, 1), (100, 1)])
    >>> [int(((times_s >= s) & (times_s < s + 1)).sum()) for s in (0, 1, 2)]
    [100, 1000, 100]
    """
    if not len(parts):
        raise BadValue("no phases: needs at least one (requests per second, seconds).")
    pieces, began = [], 0.0
    for i, (rate, duration_s) in enumerate(parts):
        check_positive("a phase's duration_s", duration_s)
        if rate:  # a pause has the rate 0
            pieces.append(began + within("poisson", rate, duration_s, seed + i))
        began += duration_s
    return np.concatenate(pieces) if pieces else np.zeros(0)


def within(kind: str, rate: float, duration_s: float, seed: int, burst: int = BURST) -> np.ndarray:
    """All arrivals of this kind in the seconds from 0 to `duration_s`, as many as expected.

    The number of Poisson arrivals in a time is random itself: 100 ± 10 for 100 expected. Here it
    is the expected one, and given their number, Poisson arrivals are independent and uniform in
    that time (Kingman, *Poisson Processes*, 1993, section 2.4). So a short run has the load that
    was asked for, and its requests still meet by chance.

    >>> within("poisson", 2.0, 2.0, seed=0).round(2)
    array([0.03, 0.08, 0.54, 1.27])
    >>> len(within("constant", 50.0, 2.0, seed=0)), len(within("bursts", 50.0, 2.0, seed=0))
    (100, 100)

    Raises
    ------
    BadValue
        More than two million would arrive.
    UnknownName
        There is no such kind.
    """
    if kind not in KINDS:
        raise UnknownName("kind of arrivals", kind, KINDS)
    check_positive("rate", rate)
    check_positive("duration_s", duration_s)
    check_whole("burst", burst)
    expected = rate * duration_s
    if round(expected) < 1:
        raise BadValue(
            f"no request arrives in {duration_s} s at rate={rate}: needs at least one. Raise "
            f"duration_s or rate."
        )
    if expected > MOST_ARRIVALS:
        raise BadValue(
            f"{expected:,.0f} arrivals: needs {MOST_ARRIVALS:,} or fewer. Lower rate or duration_s."
        )
    if kind == "constant":
        return constant(rate, round(expected))
    size = min(burst, round(expected)) if kind == "bursts" else 1
    groups = round(expected / size)
    moments = np.sort(np.random.default_rng(seed).uniform(0, duration_s, groups))
    return np.repeat(moments, size)
