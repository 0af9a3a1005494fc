"""Card payments, a few of them fraudulent: made up, so that the best possible detector is known.

Shapes: N payments, F = 7 numbers of one payment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kit.core.errors import ShapeMismatch
from kit.data.dataset import Dataset, Split

SEEDS = {"train": 0, "validation": 1, "test": 2}
SIZES = {"train": 100_000, "validation": 60_000, "test": 100_000}
FRAUDS = 0.005  # one payment in 200, in every split; real rates are lower still
FEATURES = (
    "euros",
    "kilometres from home",
    "seconds since the last payment",
    "disputes per 1,000 payments at that merchant",
    "cosine of the hour",  # on a circle, midnight is next to midnight
    "sine of the hour",
    "abroad",
)


@dataclass(frozen=True)
class Kind:
    """How payments of one kind are drawn, each number apart from the others.

    The first four are log-normal: (the median, the factor that one standard deviation is).
    """

    euros: tuple[float, float]
    km: tuple[float, float]
    pause_s: tuple[float, float]
    disputes: tuple[float, float]
    hour: tuple[float, float]  # von Mises: the most frequent hour of the day, the concentration
    abroad: float  # a share

    @property
    def amounts(self) -> tuple[tuple[float, float], ...]:
        """What is log-normal, in the order of `FEATURES`."""
        return self.euros, self.km, self.pause_s, self.disputes

    @property
    def peak(self) -> float:
        """The most frequent hour as an angle."""
        return 2 * math.pi * self.hour[0] / 24


GENUINE = Kind((25, 2.8), (3, 4.0), (28_800, 5.0), (1, 2.5), (14, 1.5), 0.04)
# Half of the frauds are of each kind. The one is for large amounts, the other for small ones, so
# that no straight line through the numbers tells fraud from the rest as well as can be.
STOLEN_CARD = Kind((150, 2.5), (10, 4.0), (1_800, 4.0), (2, 2.5), (20, 1.0), 0.15)
COPIED_NUMBER = Kind((3, 2.0), (60, 8.0), (600, 5.0), (4, 2.5), (3, 0.7), 0.40)
KINDS_OF_FRAUD = (STOLEN_CARD, COPIED_NUMBER)


def load_payments() -> Dataset:
    """260,000 card payments, of which one in 200 is a fraud: targets 0 genuine, 1 fraud.

    Inputs are (N, 7) float32 in the order of `FEATURES`: logarithms of the first four, counted in
    standard deviations from the median of genuine payments; the hour as a point on a circle; 1 or
    0. Targets are (N,) int64.

    Notes
    -----
    Generated: seeded draws from the distributions in this file, which overlap. What is best to be
    had from them is `evidence`. Real payments have more to tell, and frauds that change.

    Seen first in the experiments.
    """
    return Dataset(
        name="payments",
        splits={name: drawn(SIZES[name], SEEDS[name]) for name in SIZES},
        classes=("genuine", "fraud"),
        origin="generated: draws from known distributions, documented in kit/data/payments.py",
        licence="none needed: no one's data",
    )


def evidence(inputs: Tensor) -> Tensor:
    """How much more likely each payment (N, 7) is as a fraud than as a genuine one: (N,), nats.

    The logarithm of the ratio of the two densities that `payments` draws from. To stop the
    payments with the most evidence finds the most frauds for any number of false alarms: nothing
    that is trained can do better, but by luck (Neyman & Pearson, "On the Problem of the Most
    Efficient Tests of Statistical Hypotheses", 1933).

    Raises
    ------
    ShapeMismatch
        Payments have seven numbers each.
    """
    if inputs.ndim != 2 or inputs.shape[1] != len(FEATURES):
        raise ShapeMismatch(
            f"given payments of shape {tuple(inputs.shape)}; needed (N, {len(FEATURES)})."
        )
    of_kinds = torch.stack([log_density(inputs, kind) for kind in KINDS_OF_FRAUD])
    fraud = of_kinds.logsumexp(0) - math.log(len(KINDS_OF_FRAUD))
    return fraud - log_density(inputs, GENUINE)


def log_density(inputs: Tensor, kind: Kind) -> Tensor:
    """The logarithm of the density of one kind of payment at each of (N, 7): (N,)."""
    x = inputs.double()
    mean, spread = (torch.from_numpy(each) for each in _standard(kind))
    normal = -((x[:, :4] - mean) / spread).square() / 2 - (spread * math.sqrt(2 * math.pi)).log()
    concentration = torch.tensor(kind.hour[1], dtype=torch.float64)
    towards_peak = x[:, 4] * math.cos(kind.peak) + x[:, 5] * math.sin(kind.peak)
    on_circle = concentration * towards_peak - (2 * math.pi * torch.special.i0(concentration)).log()
    abroad = torch.where(x[:, 6] > 0.5, math.log(kind.abroad), math.log(1 - kind.abroad))
    return normal.sum(1) + on_circle + abroad


def _standard(kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of its log-normal numbers on the scale of the inputs: (4,)."""
    medians, factors = np.log(np.array(kind.amounts)).T
    centre, unit = np.log(np.array(GENUINE.amounts)).T
    return (medians - centre) / unit, factors / unit


def drawn(n: int, seed: int) -> Split:
    """So many payments, with exactly the share of frauds, shuffled."""
    random = np.random.default_rng(seed)
    frauds = round(n * FRAUDS)
    first = frauds // len(KINDS_OF_FRAUD)
    counts = {GENUINE: n - frauds, STOLEN_CARD: first, COPIED_NUMBER: frauds - first}
    rows = np.concatenate([_of_kind(kind, many, random) for kind, many in counts.items()])
    order = random.permutation(n)
    inputs = torch.from_numpy(rows[order].astype(np.float32))
    return Split(inputs, torch.from_numpy((order >= n - frauds).astype(np.int64)))


def _of_kind(kind: Kind, n: int, random: np.random.Generator) -> np.ndarray:
    """Payments of one kind, (n, F)."""
    mean, spread = _standard(kind)
    amounts = mean + spread * random.standard_normal((n, len(mean)))
    angle = random.vonmises(kind.peak, kind.hour[1], n)
    abroad = random.random(n) < kind.abroad
    return np.column_stack([amounts, np.cos(angle), np.sin(angle), abroad])
