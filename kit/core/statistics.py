"""A number with its interval: what a limited number of observations can tell.

Estimate             a value, a 95 % interval and a unit; arithmetic with exact numbers
├── of one side      at_least, at_most
├── of samples       median, percentile, bootstrap, average, proportion
├── of trainings     average_of_trainings: several models, scored on the same examples
├── of two           difference, paired_difference, quotient, product
└── of several       smallest, share_above
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.core.checks import is_number
from kit.core.correlated_samples import effective_samples, effective_values, most_below
from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.units import span, words

CONFIDENCE = 0.95
RESAMPLES = 2_000  # the ends of a 95 % interval then vary by about 3 % of its width
LEAST_RESAMPLED = 10  # samples: fewer do not show how skewed they are


@dataclass(frozen=True)
class Estimate:
    """A value with a 95 % confidence interval from `low` to `high`, all in the same unit.

    An unknown end is infinite, or 0 for what cannot be negative; in records it is None.

    >>> Estimate(3.1, 2.9, 3.3, "×"), Estimate(3.1, 0.0, math.inf, "×")
    (3.10 × [2.90 to 3.30 ×], 3.10 × [interval unknown])
    """

    value: float
    low: float
    high: float
    unit: str = ""

    def __post_init__(self) -> None:
        for end, unknown in (("low", -math.inf), ("high", math.inf)):
            if getattr(self, end) is None:  # as `to_dict` writes it
                object.__setattr__(self, end, unknown)

    def __repr__(self) -> str:
        # A bound is all that is known: the value is that end.
        if self.interval.startswith("at ") and self.value in (self.low, self.high):
            return self.interval
        interval = "interval unknown" if self.interval == "unknown" else self.interval
        return f"{words(self.value, self.unit)} [{interval}]"

    @classmethod
    def of(cls, measured: float | Estimate) -> Estimate:
        """The estimate itself; a number that was counted gets an interval of width zero.

        >>> Estimate.of(3)
        3 [3 to 3]
        """
        return measured if isinstance(measured, Estimate) else cls(measured, measured, measured)

    @property
    def known(self) -> bool:
        """Whether the interval excludes anything; a share (%) always lies between 0 and 1."""
        if math.isnan(self.low) or math.isnan(self.high) or self.interval == "unknown":
            return False
        return self.unit != "%" or self.low > 0 or self.high < 1

    @property
    def interval(self) -> str:
        """The interval in words: "2.90 to 3.30 ×", or "unknown"."""
        if self.high == math.inf:
            open_below = self.low in (0, -math.inf)
            return "unknown" if open_below else f"at least {words(self.low, self.unit)}"
        if self.low == -math.inf:
            return f"at most {words(self.high, self.unit)}"
        return span(self.low, self.high, self.unit)

    # Arithmetic with numbers that are known exactly and not below 0, such as a count of examples.
    # For two estimates there are functions below, because it matters how they were measured:
    # `quotient` and `product` (independently), `paired_difference` (on the same examples).

    def __mul__(self, number: float) -> Estimate:
        """The estimate times a number, in the same unit."""
        return Estimate(self.value * number, self.low * number, self.high * number, self.unit)

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> Estimate:
        """The estimate ÷ a number. The result has no unit: seconds ÷ seconds are a ratio.

        >>> Estimate(3.0, 2.0, 4.0, "s") / 2
        1.50 [1 to 2]
        """
        return Estimate(self.value / number, self.low / number, self.high / number)

    def __rtruediv__(self, number: float) -> Estimate:
        """A number ÷ the estimate, which is above 0: seconds per call become calls per second.

        >>> (32 / Estimate(0.1, 0.08, 0.16, "s")).with_unit("examples/s")
        320 examples/s [200 to 400 examples/s]
        """
        return Estimate(
            number / self.value,
            number / self.high,
            number / self.low if self.low > 0 else math.inf,
        )

    def with_unit(self, unit: str) -> Estimate:
        """The same numbers with another unit; nothing is converted."""
        return Estimate(self.value, self.low, self.high, unit)

    def to_dict(self) -> dict[str, float | str | None]:
        """The value and its interval, with the unit; an infinite end, which JSON lacks, is None."""
        low, high = (None if math.isinf(end) else end for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "unit": self.unit}


def at_least(value: float, unit: str = "") -> Estimate:
    """A value of which only the lower end is known: the largest that was tried was met.

    >>> at_least(1000, "requests/s")
    at least 1,000 requests/s
    """
    return Estimate(value, value, math.inf, unit)


def at_most(value: float, unit: str = "") -> Estimate:
    """A value of which only the upper end is known: the smallest that was tried was enough.

    >>> at_most(10, "examples")
    at most 10 examples
    """
    return Estimate(value, -math.inf, value, unit)


def median(
    samples: Sequence[float] | np.ndarray, unit: str = "", *, confidence: float = CONFIDENCE
) -> Estimate:
    """The median of samples in the order in which they were taken, with its 95 % interval.

    Each sample lies below the true median with probability 1/2, like the toss of a coin. So the
    number of samples below it is binomial, whatever the distribution. The interval goes from one
    of the ordered samples to another, far enough apart to hold the true median 19 times in 20.

    Timings often follow each other: a slow one comes after slow ones. Then they say as much as
    fewer independent ones (`effective_samples`), and the interval is as wide as for those. Fewer
    than 30 samples cannot show this; the interval treats them as independent.

    >>> median([3.0, 1.0, 5.0, 2.0, 6.0, 4.0], "s")
    3.50 s [1.00 to 6.00 s]

    Notes
    -----
    Thompson, "On confidence ranges for the median", Annals of Mathematical Statistics 7 (1936).
    The interval is unknown with fewer than six samples, because even the whole range then misses
    the true median too often. It is also unknown if dependent samples say less than ten
    independent ones, because that count is then a guess.
    """
    if not len(samples):
        raise NotEnoughSamples("the median of no samples: needs at least one sample.")
    given = np.asarray(samples, dtype=float)
    return _between(given, 50, unit, confidence, effective_samples(given))


def samples_of_a_median(confidence: float = CONFIDENCE) -> int:
    """How many samples the interval of a median needs.

    All n samples lie on the same side of the true median with probability 2 · (1/2)ⁿ.

    >>> samples_of_a_median()
    6
    """
    return math.ceil(1 - math.log2(1 - confidence))


def percentile(samples: Sequence[float] | np.ndarray, p: float, unit: str = "") -> Estimate:
    """The value that p % of all samples lie below, with its 95 % interval.

    As for `median`, samples that follow each other count as fewer, and so do bursts of samples
    above that value. An end is unknown where too few independent samples lie beyond it.

    >>> percentile(np.random.default_rng(0).permutation(1000), 90)
    899 [880 to 918]

    Raises
    ------
    NotEnoughSamples
        Fewer samples than `samples_needed(p)`: the tail would hold too few of them.
    """
    needed = samples_needed(p)
    if len(samples) < needed:
        raise NotEnoughSamples(f"p{p:g} of {len(samples):,} samples: needs {needed:,} samples.")
    given = np.asarray(samples, dtype=float)
    beyond = given > np.percentile(given, p)
    m = min(effective_samples(given), effective_samples(beyond))
    return _between(given, p, unit, CONFIDENCE, m)


def _between(samples: np.ndarray, p: float, unit: str, confidence: float, m: int) -> Estimate:
    """The p-th percentile of samples that say as much as m independent ones.

    Of m samples, k could be left out at an end. Of these n it is the same share: k ÷ m.
    """
    ordered, n, tail = np.sort(samples), len(samples), (1 - confidence) / 2
    ends = (most_below(m, share, tail) if m else -1 for share in (p / 100, 1 - p / 100))
    low, high = (int((k + 0.5) * n / m - 0.5) if k >= 0 else None for k in ends)
    unknown = 0.0 if ordered[0] >= 0 else -math.inf
    return Estimate(
        float(np.percentile(ordered, p)),
        unknown if low is None else float(ordered[low]),
        math.inf if high is None else float(ordered[n - 1 - high]),
        unit,
    )


def samples_needed(p: float) -> int:
    """How many samples a statement about the p-th percentile needs: 64 for p90, 662 for p99.

    With 99 % confidence at least two of them lie beyond it: MLPerf's rule for stopping early
    (MLPerf Inference Rules, "early stopping").

    >>> samples_needed(90), samples_needed(99)
    (64, 662)
    """
    if not is_number(p) or not 0 < p < 100:
        raise BadValue(f"percentile {p!r}: needs a number between 0 and 100.")
    beyond = float(min(p, 100 - p)) / 100

    def sure(n: int) -> bool:
        return (1 - beyond) ** (n - 1) * (1 + (n - 1) * beyond) <= 0.01

    enough = 2
    while not sure(enough) and enough < 2**60:
        enough *= 2
    return bisect_left(range(enough), True, lo=2, key=sure)


def bootstrap(
    samples: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, unit: str = ""
) -> Estimate:
    """A smooth statistic of samples in the order in which they were taken, with its interval.

    The bootstrap draws n of the n samples with replacement, again and again. The spread of the
    statistic over these draws, in its own standard errors, gives the interval (bootstrap-t). For
    samples that follow each other it is as wide as for fewer (`effective_samples`). The median is
    not smooth: use `median`.

    Parameters
    ----------
    samples
        (n,) observations, or (n, k) rows of k values observed together: rows stay together.
        With fewer than ten the interval is unknown. To show what one sample in ten does, take
        forty: fewer may not contain it.
    statistic
        Takes an array and `axis`, e.g. `np.mean`; for rows it gets (draws, n, k).
    unit
        Of the estimate.

    Examples
    --------
    >>> bootstrap(np.array([1.0, 2.0, 3.0, 4.0, 5.0] * 4))
    3 [2.26 to 3.75]

    Notes
    -----
    Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapters 11 and 12. The draws
    are seeded: the same samples always give the same interval.
    """
    from scipy.special import stdtrit

    samples = np.asarray(samples, dtype=float)
    n, value = len(samples), float(statistic(samples, axis=0))
    if n < LEAST_RESAMPLED:
        return Estimate(value, -math.inf, math.inf, unit)
    # The jackknife: the statistic without each sample shows how far that sample pulls on it.
    without = [float(statistic(np.delete(samples, i, axis=0), axis=0)) for i in range(n)]
    pull = (n - 1) * (np.mean(without) - np.array(without))
    error = float(np.std(pull, ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(value):  # only rounding errors
        return Estimate(value, value, value, unit)
    # The values count here as well as their ranks, because one huge value hides the others.
    if not (m := min(effective_samples(pull), effective_values(pull))):
        return Estimate(value, -math.inf, math.inf, unit)
    drawn = np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))
    moved = statistic(samples[drawn], axis=1) - value
    errors = np.std(pull[drawn], axis=1, ddof=1) / math.sqrt(n)
    # A small sample lacks the rare large values, so its draws spread too little: widen the tails.
    tail = 100 * (1 - CONFIDENCE) / 2 * n / (n + 10)
    down, up = np.percentile(moved[errors > 0] / errors[errors > 0], [100 - tail, tail])
    # With fewer samples the error is larger and known less well: Student's factor.
    widest = error * math.sqrt(n / m) * float(stdtrit(m - 1, 0.975) / stdtrit(n - 1, 0.975))
    return Estimate(value, value - float(down) * widest, value - float(up) * widest, unit)


def average(
    total: float,
    squares: float,
    n: float,
    unit: str = "",
    *,
    limits: tuple[float, float] | None = None,
) -> Estimate:
    """The mean of n numbers, from their sum and the sum of their squares, with Student's interval.

    The interval is right for numbers that are about normal. Shares are not: if nearly all are 1,
    a small sample may miss the few that are not. So give the `limits` between which each number
    lies. The interval is then as if one more number had been at each limit, and stays within them
    (Agresti & Coull do this for right and wrong, The American Statistician 52, 1998).

    >>> average(total=9.0, squares=29.0, n=3)
    3 [0.516 to 5.48]
    >>> average(total=3.0, squares=3.0, n=3, limits=(0, 1))
    1 [0.245 to 1]
    """
    from scipy.special import stdtrit

    mean = total / n
    if limits:
        low, high = limits
        more = average(total + low + high, squares + low**2 + high**2, n + 2)
        return Estimate(mean, min(mean, max(low, more.low)), max(mean, min(high, more.high)), unit)
    if n < 2:
        return Estimate(mean, -math.inf, math.inf, unit)
    variance = max(0.0, (squares - total * mean) / (n - 1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / n)
    return Estimate(mean, mean - half, mean + half, unit)


def proportion(successes: float, n: float) -> Estimate:
    """The share of successes among n trials, with Wilson's interval (1927).

    Unlike the textbook's p ± 1.96·√(p(1−p)/n) it stays between 0 and 1, and it is still right
    when nearly all trials succeed, as for a well-trained classifier.

    >>> proportion(297, 300)
    99.0 % [97.1 to 99.7 %]
    """
    z = 1.959964
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = max(0.0, centre - half) if successes else 0.0  # rounding would leave 1e-17 of it
    return Estimate(share, low, min(1.0, centre + half), "%")


STRETCHES = 5  # long enough to be nearly independent, as many as Student's interval needs


def mean_of_stretches(
    totals: Sequence[float] | np.ndarray,
    counts: Sequence[float] | np.ndarray | None = None,
    unit: str = "",
) -> Estimate:
    """The mean of what was measured one after another, with an interval from five stretches.

    Things that follow each other are alike: the pace of a machine wanders. So the interval comes
    from the means of five stretches of the run, as if these were independent numbers. A bill needs
    the mean and not the median: slow calls are paid, too.

    Parameters
    ----------
    totals, counts
        Totals in the order in which they were taken, and of how many things each is; None: of one.
        For a ratio of two times that were taken in turns, the counts are the other times.

    >>> mean_of_stretches([2.0, 2.0, 3.0, 2.0, 1.0, 2.0, 2.0, 1.0, 3.0, 2.0], unit="s")
    2.00 s [1.38 to 2.62 s]

    Notes
    -----
    Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30
    (1982). Fewer than five totals have no interval. Slow moments make the stretches differ, so the
    interval is wide and not unknown. If they last about as long as a stretch, it is too narrow:
    it then holds the mean of a longer run in 75 to 85 of 100 cases, else in 91 or more.
    """
    given = np.asarray(totals, dtype=float)
    of = np.ones(len(given)) if counts is None else np.asarray(counts, dtype=float)
    mean = float(given.sum() / of.sum())
    if len(given) < STRETCHES:
        return Estimate(mean, 0.0 if given.min() >= 0 else -math.inf, math.inf, unit)
    parts = zip(np.array_split(given, STRETCHES), np.array_split(of, STRETCHES), strict=True)
    each = np.array([total.sum() / count.sum() for total, count in parts])
    found = average(each.sum(), np.square(each).sum(), STRETCHES, unit)
    half = found.high - found.value
    low = mean - half if given.min() < 0 else max(0.0, mean - half)
    return Estimate(mean, low, mean + half, unit)


def average_of_trainings(
    scores: np.ndarray | Sequence[Any], *, limits: tuple[float, float] = (0, 1)
) -> Estimate:
    """The mean of the scores (S, N) of S trainings, each on the same N examples, as a share.

    Of one number per training, (S,), it is the mean with Student's interval.

    Two things are chance: which weights a training ends with, and which examples test it. The
    interval covers both: it says where the mean of other trainings on other examples would lie.
    With a single training the first part is unknown, and so is the interval.

    >>> average_of_trainings([[1, 1, 0, 1] * 50, [1, 1, 1, 1] * 50, [1, 0, 0, 1] * 50])
    75.0 % [14.2 to 100 %]

    Notes
    -----
    Crossed random effects (Searle, Casella & McCulloch, *Variance Components*, 1992) with
    Satterthwaite's degrees of freedom. As in `average`, one more example at each limit keeps the
    interval from vanishing where all scores are equal.
    """
    from scipy.special import stdtrit

    given = np.asarray(scores, dtype=float)
    if given.ndim == 1 and given.size:
        return average(float(given.sum()), float(np.square(given).sum()), len(given))
    if given.ndim != 2 or not given.size:
        raise BadValue(f"given scores {given.shape}: needs (trainings, examples).")
    value, (trainings, _), (low, high) = float(given.mean()), given.shape, limits
    if trainings < 2:
        return Estimate(value, low, high, "%")
    ends = np.broadcast_to([low, high], (trainings, 2))
    x = np.hstack([given, ends])  # (S, N + 2)
    n, mean, of_training, of_example = x.shape[1], x.mean(), x.mean(1), x.mean(0)
    # Each variance of means contains the part that belongs to neither alone: count it once.
    rest = np.square(x - of_training[:, None] - of_example + mean).sum()
    rest /= (trainings - 1) * (n - 1) * trainings * n
    between, within = of_training.var(ddof=1) / trainings, of_example.var(ddof=1) / n
    variance = max(between, within, between + within - rest)
    freedom = variance**2 / (between**2 / (trainings - 1) + within**2 / (n - 1))
    half = float(stdtrit(min(freedom, n - 1), (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return Estimate(
        value, min(value, max(low, mean - half)), max(value, min(high, mean + half)), "%"
    )


def difference(after: Estimate, before: Estimate) -> Estimate:
    """The difference of two shares that were measured independently, in percentage points.

    The interval is Newcombe's (Statistics in Medicine 17, 1998, method 10). For two models on the
    same examples, `paired_difference` is far narrower.

    >>> difference(proportion(297, 300), proportion(30, 300))
    89.0 points [84.6 to 92.0 points]
    """
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, value - down, value + up, "points")


def paired_difference(
    after: Sequence[Any] | np.ndarray, before: Sequence[Any] | np.ndarray
) -> Estimate:
    """The mean difference of two scores on the same examples, in percentage points.

    Two models that answer the same examples mostly fail on the same ones, so their difference is
    known far better than either score. If each example is right or wrong, the interval is Agresti
    & Min's: as if half an example more had been won and lost in each way. Otherwise a sample
    without any change would have an interval without any width. For shares it is Student's.

    To compare two ways of training, give the scores of several trainings of each, (S, N): the
    interval then also covers how far one training differs from another.

    >>> paired_difference(after=[1, 1, 0, 1] * 75, before=[1, 1, 1, 1] * 75)
    -25.0 points [-29.8 to -19.9 points]

    Notes
    -----
    Agresti & Min, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24 (2005).
    """
    x, y = np.asarray(after, dtype=float), np.asarray(before, dtype=float)
    if x.shape != y.shape or x.ndim not in (1, 2) or not x.size:
        raise BadValue(
            f"given {x.shape} and {y.shape}: needs two values for each example, in the same order."
        )
    n, gain = len(x), x - y
    if x.ndim == 2:
        return average_of_trainings(gain, limits=(-1, 1)).with_unit("points")
    if not np.isin(x, (0, 1)).all() or not np.isin(y, (0, 1)).all():
        total, squares = float(gain.sum()), float(np.square(gain).sum())
        return average(total, squares, n, "points", limits=(-1, 1))
    won, lost = float(np.sum(gain > 0)), float(np.sum(gain < 0))
    value, centre = (won - lost) / n, (won - lost) / (n + 2)
    half = 1.959964 * math.sqrt(won + lost + 1 - (won - lost) ** 2 / (n + 2)) / (n + 2)
    return Estimate(value, min(value, centre - half), max(value, centre + half), "points")


def quotient(above: Estimate, below: Estimate, unit: str = "×") -> Estimate:
    """The ratio of two independent estimates above zero; their relative errors add in squares.

    Calls that were timed in turns have a ratio of their own (`kit.compare`): its interval is far
    narrower, because slow moments of the machine cancel.

    >>> quotient(Estimate(8.0, 7.0, 9.0, "s"), Estimate(2.0, 1.9, 2.1, "s"))
    4.00 × [3.47 to 4.55 ×]
    """
    if not below.value:  # nothing was counted, such as no answer in time: the ratio has no limit
        return Estimate(math.inf, 0.0, math.inf, unit)
    value = above.value / below.value
    if min(above.low, below.low) <= 0:
        return Estimate(value, 0.0, math.inf, unit)
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), unit)


def product(a: Estimate, b: Estimate, unit: str = "×") -> Estimate:
    """Two independent estimates above zero, multiplied: a time × a ratio is a time.

    >>> product(Estimate(2.0, 1.8, 2.2, "s"), Estimate(0.5, 0.5, 0.5, "×"), "s")
    1.00 s [900 ms to 1.10 s]
    """
    return quotient(a, 1 / b, unit)


def smallest(estimates: Iterable[Estimate]) -> Estimate:
    """The smallest of several estimates, with the lowest of all ends.

    Noise decides in part which one is the smallest, so that one's own interval would be too high.

    >>> smallest([Estimate(2.0, 1.2, 2.8), Estimate(1.8, 1.7, 1.9)])
    1.80 [1.20 to 1.90]
    """
    several = list(estimates)
    low, value, high = (
        min(ends) for ends in zip(*((e.low, e.value, e.high) for e in several), strict=True)
    )
    return Estimate(value, low, high, several[0].unit)


def share_above(estimates: Iterable[Estimate], limit: float) -> float | Estimate:
    """The share of several estimates that lie above a limit (0 to 1).

    Its interval goes from the share that surely lie above it to the share that may. Where no
    interval contains the limit, the share is a count, and the result is a plain number.

    >>> share_above([Estimate(3.0, 2.0, 4.0), Estimate(2.0, 0.5, 3.5), Estimate(0.0, -1.0, 1.0)], 1)
    0.667 [0.333 to 0.667]
    >>> share_above([Estimate(3.0, 2.0, 4.0), Estimate(0.0, -0.5, 0.5)], 1)
    0.5
    """
    several = list(estimates)
    low, value, high = (
        sum(end > limit for end in ends) / len(several)
        for ends in zip(*((e.low, e.value, e.high) for e in several), strict=True)
    )
    return low if low == high else Estimate(value, low, high)
