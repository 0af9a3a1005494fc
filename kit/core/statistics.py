"""A number with its interval: what a finite number of observations allows one to say."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.units import span, words

CONFIDENCE = 0.95
RESAMPLES = 2_000  # the ends of a 95 % interval then wander by about 3 % of its width
LEAST_INDEPENDENT = 10  # of samples that follow each other; how many there are is a guess below
BATCHES = (5, 10, 20)  # few see a long memory, many see a short one more precisely
LEAST_RESAMPLED = 10  # of skewed samples; fewer do not show how skewed they are
SHOWS_ORDER = 30  # samples that can show whether they follow each other


@dataclass(frozen=True)
class Estimate:
    """A value with a 95 % confidence interval from `low` to `high`, all in the same unit.

    An end that nobody knows is infinite (or 0 for what cannot be negative); records keep None.

    >>> Estimate(3.1, 2.9, 3.3, "×"), Estimate(3.1, 0.0, math.inf, "×")
    (3.10 × [2.90 to 3.30 ×], 3.10 × [unknown])
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
        return f"{words(self.value, self.unit)} [{self.interval}]"

    @property
    def interval(self) -> str:
        """From `low` to `high`, in words."""
        if self.high == math.inf:
            return (
                "unknown"
                if self.low in (0, -math.inf)
                else f"at least {words(self.low, self.unit)}"
            )
        if self.low == -math.inf:
            return f"at most {words(self.high, self.unit)}"
        return span(self.low, self.high, self.unit)

    def __truediv__(self, number: float) -> Estimate:
        """The estimate in units of an exactly known number."""
        return Estimate(self.value / number, self.low / number, self.high / number)

    def __mul__(self, number: float) -> Estimate:
        """So many times the estimate, in its unit; the number is known exactly and not below 0."""
        return Estimate(self.value * number, self.low * number, self.high * number, self.unit)

    __rmul__ = __mul__

    def __rtruediv__(self, number: float) -> Estimate:
        """An exactly known number above zero ÷ an estimate above zero: seconds become a rate."""
        return Estimate(
            number / self.value,
            number / self.high,
            number / self.low if self.low > 0 else math.inf,
        )

    def to_dict(self) -> dict[str, float | str | None]:
        """The value and its interval, with the unit; an infinite end, which JSON lacks, is None."""
        low, high = (None if math.isinf(end) else end for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "unit": self.unit}


def median(
    samples: Sequence[float] | np.ndarray, unit: str = "", *, confidence: float = CONFIDENCE
) -> Estimate:
    """The median of samples in the order in which they were taken, with its 95 % interval.

    Half of what one draws lies below the true median, so how many of n samples do is a matter of
    n coin tosses. The interval goes from one sample to another, so far apart that the tosses put
    the truth between them at least 19 times in 20, whatever the distribution.

    Timings often follow each other: a slow one comes after slow ones. Then n say as much as a
    smaller number of independent ones (`independent`), and the interval is that of so few. Fewer
    than 30 cannot show whether they follow each other; the interval takes them for independent.

    >>> median([3.0, 1.0, 5.0, 2.0, 6.0, 4.0], "s")
    3.50 s [1.00 to 6.00 s]

    Notes
    -----
    Thompson, "On confidence ranges for the median", Annals of Mathematical Statistics 7 (1936).
    With fewer than six samples not even all of them are sure enough, and with fewer than ten
    independent ones among samples that follow each other nobody knows how many there are: the
    interval is then unknown.
    """
    if not len(samples):
        raise NotEnoughSamples("the median of no samples: needs at least one.")
    given = np.asarray(samples, dtype=float)
    return _between(given, 50, unit, confidence, independent(given))


def samples_of_a_median(confidence: float = CONFIDENCE) -> int:
    """How many samples the interval of a median needs: both ends are off half of the time.

    >>> samples_of_a_median()
    6
    """
    return math.ceil(1 - math.log2(1 - confidence))


def percentile(samples: Sequence[float] | np.ndarray, p: float, unit: str = "") -> Estimate:
    """The value that p % of what one draws lies below, with its 95 % interval.

    As for `median`, the order of the samples counts, and so does the order of those above that
    value. An end is unknown where too few independent samples lie beyond it.

    Raises
    ------
    NotEnoughSamples
        A tail needs samples in it: fewer than `samples_needed(p)` say nothing of it.
    """
    needed = samples_needed(p)
    if len(samples) < needed:
        raise NotEnoughSamples(f"p{p:g} of {len(samples):,} samples: needs {needed:,}.")
    given = np.asarray(samples, dtype=float)
    beyond = given > np.percentile(given, p)
    return _between(given, p, unit, CONFIDENCE, min(independent(given), independent(beyond)))


def _between(samples: np.ndarray, p: float, unit: str, confidence: float, m: int) -> Estimate:
    """The p-th percentile of samples that say as much as m independent ones.

    It lies between two of the ordered samples, as far from both ends as of m they would be.
    """
    ordered, n, tail = np.sort(samples), len(samples), (1 - confidence) / 2
    ends = (_rank(m, share, tail) if m else -1 for share in (p / 100, 1 - p / 100))
    low, high = (int((k + 0.5) * n / m - 0.5) if k >= 0 else None for k in ends)
    unknown = 0.0 if ordered[0] >= 0 else -math.inf
    return Estimate(
        float(np.percentile(ordered, p)),
        unknown if low is None else float(ordered[low]),
        math.inf if high is None else float(ordered[n - 1 - high]),
        unit,
    )


def independent(samples: Sequence[float] | np.ndarray) -> int:
    """How many independent samples say as much as these, which were taken one after another.

    All n of them, unless each resembles the one before it. Then it is n ÷ (1 + 2 Σ ρ), ρ the
    correlation of the samples' ranks at each distance, summed while two in a row are positive
    (Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7, 1992), or less where
    ρ at distance 1 alone says so, corrected for its bias in short series (Kendall, "Note on bias
    in the estimation of autocorrelation", Biometrika 41, 1954), or where the means of 5, 10 or 20
    batches scatter more than that (Schmeiser, "Batch size effects in the analysis of simulation
    output", Operations Research 30, 1982). Below ten nobody knows: 0.

    What a run does not show cannot be counted: of slow moments that come less often than once in
    the run, no interval made from it knows.

    >>> independent([3.0, 1.0, 5.0, 2.0, 6.0, 4.0]), independent(range(100))
    (6, 0)
    """
    return _independent(ranks(samples))


def _independent(values: np.ndarray) -> int:
    """The same for the values as they are."""
    n = len(values)
    r = correlation(values)
    if n < 3 or r[1] <= 1.645 / math.sqrt(n):  # independent ones stay below it 19 times in 20
        return n
    pairs = r[: n // 2 * 2 : 2] + r[1::2]
    until = int(np.argmin(pairs > 0)) or len(pairs)
    once = min(float(r[1]) + (1 + 3 * float(r[1])) / n, 0.999)
    memories = (2 * float(pairs[:until].sum()) - 1, (1 + once) / (1 - once), scatter(values), 1.0)
    m = int(n / max(memories))
    return m if m >= LEAST_INDEPENDENT else 0


def scatter(values: np.ndarray) -> float:
    """How much more the means of batches scatter than those of independent values would.

    The variance of the means × the batch's length ÷ the variance of the values, the most of
    several numbers of batches.
    """
    found = [0.0]
    for batches in BATCHES:
        if (length := len(values) // batches) > 1:
            means = values[: batches * length].reshape(batches, length).mean(axis=1)
            found.append(length * float(means.var(ddof=1) / values.var()))
    return max(found)


def ranks(samples: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) the rank of each sample: one huge sample does not hide what the others do."""
    given = np.asarray(samples, dtype=float)
    alike = np.round(given / (np.median(np.abs(given)) or 1.0), 9)  # rounding errors are no order
    _, place, often = np.unique(alike, return_inverse=True, return_counts=True)
    return (np.cumsum(often) - often / 2)[place]  # equal samples share a rank


def autocorrelation(samples: Sequence[float] | np.ndarray) -> np.ndarray:
    """How far samples resemble those 0, 1, 2 … before them: the correlation of their ranks."""
    return correlation(ranks(samples))


def correlation(values: np.ndarray) -> np.ndarray:
    """How far values resemble those 0, 1, 2 … before them. (n,) from -1 to 1."""
    n, apart = len(values), values - values.mean()
    power = np.abs(np.fft.rfft(apart, 2 * n)) ** 2
    products = np.fft.irfft(power)[:n]
    return products / products[0] if products[0] > 0 else np.zeros(n)


def _rank(n: int, share: float, tail: float) -> int:
    """How many of n samples can be left out below, if the truth may be there `tail` of the time.

    The largest k with P(at most k of n lie below the truth) ≤ tail; -1 if not even all will do.
    """
    from scipy.special import bdtr, bdtrik  # here: it would double the time of `import kit`

    k = int(np.ceil(bdtrik(tail, n, share)))
    while k >= 0 and bdtr(k, n, share) > tail:
        k -= 1
    return k


def samples_needed(p: float) -> int:
    """How many samples a statement about the p-th percentile needs: 64 for p90, 662 for p99.

    The fewest n of which, with 99 % confidence, at least two lie beyond it: MLPerf's rule for
    stopping early (MLPerf Inference Rules, "early stopping").

    >>> samples_needed(90), samples_needed(99)
    (64, 662)
    """
    if not isinstance(p, Real) or not 0 < p < 100:
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
    """Any smooth statistic of samples in the order they were taken; for medians see above.

    Resampling draws n of the n samples with replacement, again and again: how far the statistic
    moves, in its own standard errors, is how far it can be trusted (bootstrap-t). Where the
    samples follow each other the interval is as wide as for fewer (`independent`).

    Parameters
    ----------
    samples
        (n,) observations, or (n, k) rows of k things observed together: rows stay together.
        Fewer than ten leave the interval unknown. What one in ten samples does needs forty:
        it may be missing from fewer.
    statistic
        Takes an array and `axis`, e.g. `np.mean`; for rows it gets (draws, n, k).
    unit
        Of the estimate.

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
    without = [float(statistic(np.delete(samples, i, axis=0), axis=0)) for i in range(n)]
    pull = (n - 1) * (np.mean(without) - np.array(without))  # of each sample on the statistic
    error = float(np.std(pull, ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(value):  # nothing but rounding
        return Estimate(value, value, value, unit)
    # The values themselves count here, not only their ranks; but one huge one hides the others.
    if not (m := min(independent(pull), _independent(pull))):
        return Estimate(value, -math.inf, math.inf, unit)
    drawn = np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))
    moved = statistic(samples[drawn], axis=1) - value
    errors = np.std(pull[drawn], axis=1, ddof=1) / math.sqrt(n)
    # A small sample lacks the rare large ones: its draws scatter too little at their ends.
    tail = 100 * (1 - CONFIDENCE) / 2 * n / (n + 10)
    down, up = np.percentile(moved[errors > 0] / errors[errors > 0], [100 - tail, tail])
    # Of fewer samples the error is larger, and is itself known less well: Student's factor.
    widest = error * math.sqrt(n / m) * float(stdtrit(m - 1, 0.975) / stdtrit(n - 1, 0.975))
    return Estimate(value, value - float(down) * widest, value - float(up) * widest, unit)


def average(
    total: float,
    squares: float,
    n: int,
    unit: str = "",
    *,
    limits: tuple[float, float] | None = None,
) -> Estimate:
    """The mean of n numbers, from their sum and the sum of their squares, with Student's interval.

    It is right for numbers that are about normal. Shares are not: where nearly all are 1, the
    few that are not may be missing from a small sample. Give the `limits` between which each
    number lies, and the interval is as if one more number had been at each limit (as Agresti and
    Coull do for right and wrong, The American Statistician 52, 1998). It stays within them.

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
    low = max(0.0, centre - half) if successes else 0.0  # rounding would leave 1e-17 of it
    return Estimate(share, low, min(1.0, centre + half), "%")


def difference(after: Estimate, before: Estimate) -> Estimate:
    """How much larger one share is than another, with Newcombe's interval (1998, method 10).

    >>> difference(proportion(297, 300), proportion(30, 300))
    89.0 % [84.6 to 92.0 %]
    """
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, value - down, value + up, "%")


def paired_difference(
    after: Sequence[float] | np.ndarray, before: Sequence[float] | np.ndarray
) -> Estimate:
    """How much more the same examples are worth after than before, on average: a share.

    Two models that answer the same examples mostly err on the same ones, so their difference is
    known far better than either score. Where each example is right or wrong, the interval is
    Agresti & Min's: as if one more example had been lost and one more won (half of each counted),
    without which no change would seem to be no doubt. For shares it is Student's within limits.

    >>> paired_difference(after=[1, 1, 0, 1] * 75, before=[1, 1, 1, 1] * 75)
    -25.0 % [-29.8 to -19.9 %]

    Notes
    -----
    Agresti & Min, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24 (2005).
    """
    x, y = np.asarray(after, dtype=float), np.asarray(before, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise BadValue(f"given {x.shape} and {y.shape}: needs two values of each example.")
    n, gain = len(x), x - y
    if not np.isin(x, (0, 1)).all() or not np.isin(y, (0, 1)).all():
        return average(float(gain.sum()), float(np.square(gain).sum()), n, "%", limits=(-1, 1))
    won, lost = float(np.sum(gain > 0)), float(np.sum(gain < 0))
    value, centre = (won - lost) / n, (won - lost) / (n + 2)
    half = 1.959964 * math.sqrt(won + lost + 1 - (won - lost) ** 2 / (n + 2)) / (n + 2)
    return Estimate(value, min(value, centre - half), max(value, centre + half), "%")


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """The ratio of two independent estimates above zero; their relative errors add in squares.

    Timed in turns, two calls have a ratio of their own (`kit.compare`), which is far narrower.

    >>> quotient(Estimate(8.0, 7.0, 9.0, "s"), Estimate(2.0, 1.9, 2.1, "s"))
    4.00 × [3.47 to 4.55 ×]
    """
    value = above.value / below.value
    if min(above.low, below.low) <= 0:
        return Estimate(value, 0.0, math.inf, "×")
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), "×")


def smallest(estimates: Iterable[Estimate]) -> Estimate:
    """The smallest of several, with the lowest end of all: noise has a say in which one it is.

    >>> smallest([Estimate(2.0, 1.2, 2.8), Estimate(1.8, 1.7, 1.9)])
    1.80 [1.20 to 1.90]
    """
    several = list(estimates)
    low, value, high = (
        min(ends) for ends in zip(*((e.low, e.value, e.high) for e in several), strict=True)
    )
    return Estimate(value, low, high, several[0].unit)
