"""Tests of two samples: how far apart they are, and how often chance alone brings that.

Each test takes the numbers of N examples from then and M examples from now, and returns a
`Finding`. Its p-value is corrected for the columns that the test looked at.

largest_ks     the column whose distribution moved furthest (Kolmogorov–Smirnov)
mmd            all columns together, by their distances (maximum mean discrepancy)
old_or_new     can a classifier tell then from now? (area under the ROC curve)
mean_shift     the mean of a single column

Shapes: N, M examples then and now, F columns, P permutations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]

PERMUTATIONS = 200  # the smallest p-value is then 1/201
MOST_PAIRED = 1_000  # examples per side of `mmd`: its memory grows with their square
RIDGE = 0.1  # added to variances of 1, so that columns that repeat each other do no harm


@dataclass(frozen=True)
class Finding:
    """How far apart two samples are, and the probability of at least that without drift."""

    effect: float
    p: float


def moving_columns(then: Numbers, now: Numbers) -> tuple[Numbers, Numbers]:
    """The columns that are not constant over both samples: a constant cannot drift."""
    pooled = np.concatenate([then, now])
    moves = pooled.max(axis=0) > pooled.min(axis=0)
    return then[:, moves], now[:, moves]


def largest_ks(then: Numbers, now: Numbers, generator: np.random.Generator) -> Finding:
    """The largest Kolmogorov–Smirnov distance of any column, 0 to 1.

    The distance of a column is the largest gap between its two cumulative distributions. Looking at
    F columns gives chance F tries, so the smallest p-value is multiplied by F (Bonferroni).

    Notes
    -----
    On a classifier's outputs this is *black box shift detection*: Lipton, Wang & Smola, "Detecting
    and Correcting for Label Shift with Black Box Predictors", ICML 2018; Rabanser, Günnemann &
    Lipton, "Failing Loudly", NeurIPS 2019.
    """
    from scipy.stats import ks_2samp

    then, now = moving_columns(then, now)
    # The exact p-value takes long for many examples, and is then that of the limit.
    method = "exact" if max(len(then), len(now)) <= 50 else "asymp"
    tests = [ks_2samp(a, b, method=method) for a, b in zip(then.T, now.T, strict=True)]
    p = min(float(test.pvalue) for test in tests)
    return Finding(max(float(test.statistic) for test in tests), min(1.0, p * len(tests)))


def mmd(
    then: Numbers,
    now: Numbers,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Finding:
    """The maximum mean discrepancy of two samples, with a p-value by permutation.

    A kernel says how similar two examples are, 1 for equal ones. Without drift, an example is as
    similar to those of the other sample as to those of its own. The effect is the square root of
    the difference: 0 without drift, √2 at most.

    For the p-value, the labels "then" and "now" are shuffled P times. Of P + 1 orders, the given
    one is among the k most extreme with probability k ÷ (P + 1).

    Notes
    -----
    Gretton et al., "A Kernel Two-Sample Test", Journal of Machine Learning Research 13 (2012):
    the unbiased estimate, with a Gaussian kernel as wide as the median distance.
    """
    then, now = (_at_most(MOST_PAIRED, each, generator) for each in (then, now))
    n, m = len(then), len(now)
    is_now = np.zeros((permutations + 1, n + m))  # (P + 1, N + M): the given order, then shuffled
    is_now[:, n:] = 1
    generator.permuted(is_now[1:], axis=1, out=is_now[1:])
    # PyTorch multiplies: NumPy would take every core, whatever the number of threads is.
    kernel = gaussian_kernel(torch.from_numpy(standardised(then, now)).float())
    chosen = torch.from_numpy(is_now).float()
    to_now = chosen @ kernel  # (P + 1, N + M): the similarity to all that is called "now"
    within_now = (chosen * to_now).sum(dim=1)
    across = to_now.sum(dim=1) - within_now
    within_then = kernel.sum() - within_now - 2 * across
    squared = within_then / (n * (n - 1)) + within_now / (m * (m - 1)) - 2 * across / (n * m)
    # Rounding must not make the given order lose against one that is equal to it.
    extreme = int((squared[1:] >= squared[0] - 1e-7).sum())
    return Finding(float(squared[0].clamp_min(0).sqrt()), (1 + extreme) / (1 + permutations))


def gaussian_kernel(rows: Tensor) -> Tensor:
    """How similar each two rows are, 0 to 1; 0 for a row and itself, which is never compared."""
    squares = rows.square().sum(dim=1)
    distance = (squares[:, None] + squares - 2 * rows @ rows.T).clamp_min(0)  # squared
    typical = distance[:: 1 + len(rows) // 200].median()  # some rows are enough for a median
    kernel = distance.div_(-2 * typical.clamp_min(1e-6)).exp_()  # (N + M, N + M)
    return kernel.fill_diagonal_(0)


def old_or_new(then: Numbers, now: Numbers, generator: np.random.Generator) -> Finding:
    """The area under the ROC curve (AUC) of a classifier that tells then from now.

    Fisher's linear classifier learns from half of each sample and is tried on the rest. It ranks
    a random example from now above one from then with a probability that is the AUC: 0.5 without
    drift, 1 if it is always right. The p-value is that of the rank-sum test on the same ranks.

    Notes
    -----
    Lopez-Paz & Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017.
    """
    from scipy.stats import mannwhitneyu

    rows, n = torch.from_numpy(standardised(then, now)), len(then)
    halves = [generator.permutation(n), n + generator.permutation(len(now))]
    (learn_then, try_then), (learn_now, try_now) = (rows[h].tensor_split(2) for h in halves)
    centred = torch.cat([learn_then - learn_then.mean(0), learn_now - learn_now.mean(0)])
    spread = centred.T @ centred / len(centred) + RIDGE * torch.eye(rows.shape[1])  # (F, F)
    weights = torch.linalg.solve(spread, learn_now.mean(0) - learn_then.mean(0))  # (F,)
    old, new = ((part @ weights).numpy() for part in (try_then, try_now))
    ranked = mannwhitneyu(new, old, alternative="greater")
    return Finding(float(ranked.statistic) / (len(try_now) * len(try_then)), float(ranked.pvalue))


def mean_shift(then: Numbers, now: Numbers, generator: np.random.Generator) -> Finding:
    """The mean of a single column now − then, with the p-value of Welch's test."""
    from scipy.stats import ttest_ind

    found = ttest_ind(now[:, 0], then[:, 0], equal_var=False)
    return Finding(float(now.mean() - then.mean()), float(found.pvalue))


def standardised(then: Numbers, now: Numbers) -> Numbers:
    """Both samples below each other, (N + M, F): each column with mean 0 and deviation 1."""
    pooled = np.concatenate(moving_columns(then, now))
    return (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)


def _at_most(most: int, rows: Numbers, generator: np.random.Generator) -> Numbers:
    if len(rows) <= most:
        return rows
    return rows[generator.choice(len(rows), most, replace=False)]


def least_examples(then: int, tests: int, alpha: float) -> int:
    """How few examples from now can give a p-value below alpha at all, with that many from then.

    If all of now lie beyond all of then, that is one of all the ways to choose them. With fewer
    examples, even this is not rare enough for `tests` columns.

    >>> [least_examples(then, tests=10, alpha=0.05) for then in (300, 10)]
    [2, 4]
    """
    from math import comb

    sizes = range(2, max(then, 2) + 1)
    return next((m for m in sizes if 2 * tests / comb(then + m, m) < alpha), then + 1)
