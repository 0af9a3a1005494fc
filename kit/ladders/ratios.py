"""Ratios along a ladder: multiplied, and several that must hold at once.

A rung's time is the first rung's × the ratios in between. Each ratio has an error of its own, so
their relative errors add in squares: an interval that kept the last ratio's error alone would be
too narrow. And who looks at a dozen ratios finds one that is wrong by chance, if each may be wrong
one time in twenty: on a ladder each may be wrong only a twelfth as often.
"""

from __future__ import annotations

import math

import numpy as np

from kit.core.statistics import CONFIDENCE, Estimate, quotient

SEVERAL = 12  # ratios that hold at once, 19 times in 20: as many as the longest ladders here have


def product(a: Estimate, b: Estimate, unit: str = "×") -> Estimate:
    """Two independent estimates above zero, multiplied.

    >>> product(Estimate(2.0, 1.8, 2.2, "s"), Estimate(0.5, 0.5, 0.5, "×"), "s")
    1.00 s [900 ms to 1.10 s]
    """
    found = quotient(a, 1 / b)
    return Estimate(found.value, found.low, found.high, unit)


def at_once(ratio: Estimate, several: int = SEVERAL) -> Estimate:
    """The ratio with an interval so wide that as many of its kind hold at once, 19 times in 20.

    Bonferroni's correction, for a ratio whose logarithm is about normal: each may miss the truth
    on 0.4 % of occasions instead of 5 %, and so reaches 1.46 times as far.

    >>> at_once(Estimate(1.0, 1 / 1.02, 1.02, "×"))
    1.00 × [0.971 to 1.03 ×]
    """
    from scipy.special import ndtri  # here: it would double the time of `import kit`

    wider = float(ndtri(1 - miss(several) / 2) / ndtri((1 + CONFIDENCE) / 2))
    if ratio.low <= 0 or not math.isfinite(ratio.high):
        return Estimate(ratio.value, 0.0, math.inf, ratio.unit)
    v = ratio.value
    return Estimate(v, v * (ratio.low / v) ** wider, v * (ratio.high / v) ** wider, ratio.unit)


def reach(logs: np.ndarray, several: int = SEVERAL) -> float:
    """How far the mean of (n,) logarithms may be from the truth: Student's, for several at once."""
    from scipy.special import stdtrit

    n = len(logs)
    if n < 2:
        return math.inf
    t = float(stdtrit(n - 1, 1 - miss(several) / 2))
    return t * float(np.std(logs, ddof=1)) / math.sqrt(n)


def miss(several: int) -> float:
    """How often each of them may miss the truth."""
    return (1 - CONFIDENCE) / several
