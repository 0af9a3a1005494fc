"""How much samples say that follow each other: as much as a smaller number of independent ones.

Timings are rarely independent: a slow one comes after slow ones, and queries in one queue wait
together. An interval that ignores this is too narrow. So the kit asks how many independent samples
would say as much, and makes the interval that wide:

from correlations    how far each sample resembles the ones before it    `effective_samples`
from batch means     how much the means of batches scatter               `inflation`
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

LEAST_INDEPENDENT = 10  # of samples that follow each other; how many there are is a guess below
BATCHES = (5, 10, 20)  # few batches see a long memory, many see a short one more precisely
SHOWS_ORDER = 30  # this many samples can show whether they follow each other

Samples = Sequence[float] | np.ndarray


def effective_samples(samples: Samples) -> int:
    """How many independent samples say as much as these, which were taken one after another.

    It is the smallest of three counts, or 0 (unknown) if that is below ten: with so few, the
    count itself is a guess. Samples that do not resemble the one before them all count.

    A run cannot show what did not happen in it. If the machine has a slow moment less often than
    once per run, no interval made from the run knows of it.

    >>> effective_samples([3.0, 1.0, 5.0, 2.0, 6.0, 4.0]), effective_samples(range(100))
    (6, 0)

    Notes
    -----
    The three counts are n divided by

    - 1 + 2 Σ ρ, where ρ is the correlation of the samples' ranks at each distance, summed while
      two in a row are positive (Geyer, "Practical Markov chain Monte Carlo", Statistical Science
      7, 1992);
    - what ρ at distance 1 says alone, corrected for its bias in short series (Kendall, "Note on
      bias in the estimation of autocorrelation", Biometrika 41, 1954);
    - the `inflation` of batch means.
    """
    return effective_values(ranks(samples))


def effective_values(values: np.ndarray) -> int:
    """`effective_samples` of the values themselves instead of their ranks."""
    n = len(values)
    r = correlation(values)
    if n < 3 or r[1] <= 1.645 / math.sqrt(n):  # independent ones stay below it 19 times in 20
        return n
    pairs = r[: n // 2 * 2 : 2] + r[1::2]
    until = int(np.argmin(pairs > 0)) or len(pairs)  # later correlations are mostly noise
    neighbours = min(float(r[1]) + (1 + 3 * float(r[1])) / n, 0.999)
    m = int(
        n
        / max(
            2 * float(pairs[:until].sum()) - 1,
            (1 + neighbours) / (1 - neighbours),  # exact if only the last sample matters: AR(1)
            inflation(values),
        )
    )
    return m if m >= LEAST_INDEPENDENT else 0


def inflation(values: Samples, batches: Collection[int] = BATCHES) -> float:
    """How many of the values say as much as one independent one; at least 1.

    If samples are independent, the mean of a batch of b varies b times less than one sample. If
    they follow each other it varies more, and by how much more is the inflation: the variance of
    the batch means × b ÷ the variance of the samples, the most of several numbers of batches
    (Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30,
    1982).
    """
    values = np.asarray(values, dtype=float)
    found, variance = [1.0], float(values.var()) if len(values) else 0.0
    for count in batches if variance else ():
        if (length := len(values) // count) > 1:
            means = values[: count * length].reshape(count, length).mean(axis=1)
            found.append(length * float(means.var(ddof=1)) / variance)
    return max(found)


def ranks(samples: Samples) -> np.ndarray:
    """(n,) the rank of each sample, the same for equal ones.

    Ranks instead of values, because one huge sample would hide what all others do.
    """
    given = np.asarray(samples, dtype=float)
    typical = float(np.median(np.abs(given)))
    scale = typical if 0 < typical < math.inf else 1.0  # a query without an answer takes forever
    # Nine digits: what differs by less is a rounding error, which would look like a trend.
    _, position, count = np.unique(
        np.round(given / scale, 9), return_inverse=True, return_counts=True
    )
    return (np.cumsum(count) - count / 2)[position]


def correlation(values: np.ndarray) -> np.ndarray:
    """How far values resemble those 0, 1, 2 … before them: (n,) from -1 to 1."""
    n, centred = len(values), values - values.mean()
    # All n sums of products at once: they are the inverse transform of the power spectrum. The
    # zeros that fill it up to 2n keep the end of the series from meeting its beginning.
    power = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    products = np.fft.irfft(power)[:n]
    return products / products[0] if products[0] > 0 else np.zeros(n)


def most_below(n: float, share: float, risk: float, inflation: float = 1.0) -> int:
    """The largest k for which k or fewer of n samples lie in a `share` of all at most `risk` often.

    -1 where even none of them do more often than that. Of dependent samples the count is that of
    n ÷ inflation independent ones, scaled back; the incomplete beta function extends the binomial
    sum to fractions.
    """
    from scipy.special import bdtrik  # here: it would double the time of `import kit`

    independent = n / inflation
    if independent <= 0 or independent * math.log1p(-share) > math.log(risk):
        return -1
    return math.floor(inflation * float(bdtrik(risk, independent, share)) + 1e-9)
