"""A number with its interval: what a finite number of observations allows one to say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kit.units import span, words

CONFIDENCE = 0.95
RESAMPLES = 2_000  # the ends of a 95 % interval then wander by about 3 % of its width


@dataclass(frozen=True)
class Estimate:
    """A value with a 95 % confidence interval from `low` to `high`, all in the same unit.

    >>> Estimate(3.1, 2.9, 3.3, "×")
    3.10 × [2.90 to 3.30 ×]
    """

    value: float
    low: float
    high: float
    unit: str = ""

    def __repr__(self) -> str:
        return f"{words(self.value, self.unit)} [{self.interval}]"

    @property
    def interval(self) -> str:
        """From `low` to `high`, in words."""
        return span(self.low, self.high, self.unit)

    def __truediv__(self, number: float) -> Estimate:
        """The estimate in units of an exactly known number."""
        return Estimate(self.value / number, self.low / number, self.high / number)

    def to_dict(self) -> dict[str, float | str]:
        """The value and its interval, with the unit."""
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit}


def bootstrap(
    samples: np.ndarray, statistic: Callable[..., np.ndarray] = np.median, unit: str = ""
) -> Estimate:
    """The statistic of the samples, with a percentile bootstrap interval.

    Resampling draws n of the n samples with replacement, again and again; how far the statistic
    moves between the draws is how far it can be trusted.

    Parameters
    ----------
    samples
        (n,) observations, or (n, k) rows of k things observed together: rows stay together.
    statistic
        Takes an array and `axis`, e.g. `np.median`; for rows it gets (draws, n, k).
    unit
        Of the estimate.

    Notes
    -----
    Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. The draws are
    seeded: the same samples always give the same interval.
    """
    samples = np.asarray(samples, dtype=float)
    n = len(samples)
    drawn = np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))
    spread = statistic(samples[drawn], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(spread, [tail, 100 - tail])
    return Estimate(float(statistic(samples, axis=0)), float(low), float(high), unit)


def proportion(successes: int, n: int) -> Estimate:
    """The share of successes among n trials, with Wilson's interval (1927).

    Unlike the textbook's p ± 1.96·√(p(1−p)/n) it stays inside 0 to 1 and is still right when
    nearly all trials succeed, as they do for a well-trained classifier.

    >>> proportion(297, 300)
    99.0 % [97.1 to 99.7 %]
    """
    z = 1.959964
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), "%")


def difference(after: Estimate, before: Estimate) -> Estimate:
    """How much larger one share is than another, with Newcombe's interval (1998, method 10).

    >>> difference(proportion(297, 300), proportion(30, 300))
    89.0 % [84.6 to 92.0 %]
    """
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, value - down, value + up, "%")
