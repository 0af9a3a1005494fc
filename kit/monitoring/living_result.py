"""What a life under a policy was like: right answers, trainings, and what both cost.

Shapes: S models, T periods, n examples per period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.core.checks import is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, average, average_of_trainings, paired_difference
from kit.core.units import words
from kit.plots import Picture, Table, lines


@dataclass(frozen=True)
class Life(Result):
    """One model under one policy."""

    policy: str
    right: np.ndarray = field(repr=False)  # (T, n): the score of each answer
    trained_at: tuple[int, ...]  # the periods at whose end it was trained
    train_s: tuple[float, ...]  # seconds of each training
    degrees: tuple[float, ...] = field(repr=False)  # of the drift, per period

    @property
    def predictions(self) -> int:
        """The answers in the whole life."""
        return int(self.right.size)

    @property
    def errors(self) -> float:
        """The answers that were wrong."""
        return float(self.right.size - self.right.sum())

    @property
    def accuracy(self) -> np.ndarray:
        """The share of right answers per period, (T,)."""
        return self.right.mean(axis=1)

    def predictions_until(self, target: float) -> int | None:
        """The predictions before the accuracy of a period falls below the target; None: never."""
        below = np.flatnonzero(self.accuracy < target)
        return int(below[0]) * self.right.shape[1] if len(below) else None

    def cost(self, per_training: float, per_error: float) -> float:
        """The cost of all trainings and all errors, in the unit of the two prices."""
        for name, price in {"per_training": per_training, "per_error": per_error}.items():
            if not is_number(price) or not 0 <= price < float("inf"):
                raise BadValue(f"{name}={price!r}: needs a price of at least 0.")
        return per_training * len(self.trained_at) + per_error * self.errors

    def __repr__(self) -> str:
        share = words(float(self.right.mean()), "%")
        return f"Life {self.policy!r}: {share} right, {len(self.trained_at)} trainings"

    def table(self) -> Table:
        """A single row."""
        row = (
            self.policy,
            f"{len(self.trained_at):,}",
            words(float(self.right.mean()), "%"),
            words(sum(self.train_s), "s"),
        )
        return Table(("policy", "trainings", "right", "time of training"), [row])

    def to_dict(self) -> dict[str, Any]:
        """Accuracy per period, trainings, seconds."""
        return {
            "policy": self.policy,
            "accuracy_share": self.accuracy.tolist(),
            "trained_at_period": list(self.trained_at),
            "train_s": list(self.train_s),
            "degree": list(self.degrees),
            "predictions_per_period": self.right.shape[1],
        }


@dataclass(frozen=True)
class Lives(Result):
    """Several models under several policies, on the same streams."""

    lives: Mapping[str, tuple[Life, ...]]

    def __getitem__(self, policy: str) -> tuple[Life, ...]:
        """The lives under that policy, one per model."""
        if policy not in self.lives:
            raise UnknownName("policy of this result", policy, self.lives)
        return self.lives[policy]

    def right(self, policy: str) -> np.ndarray:
        """The score of each answer, (S, T · n)."""
        return np.stack([life.right.ravel() for life in self[policy]])

    def accuracy(self, policy: str) -> Estimate:
        """The mean share of right answers over the life."""
        return average_of_trainings(self.right(policy))

    def gain(self, policy: str, over: str) -> Estimate:
        """The share of right answers under a policy − under another, on the same streams."""
        return paired_difference(self.right(policy), self.right(over))

    def trainings(self, policy: str) -> Estimate:
        """The number of trainings in a life."""
        return _mean([float(len(life.trained_at)) for life in self[policy]])

    def train_s(self, policy: str) -> Estimate:
        """The seconds of all trainings in a life."""
        return _mean([sum(life.train_s) for life in self[policy]]).with_unit("s")

    def cost(self, policy: str, per_training: float, per_error: float) -> Estimate:
        """Trainings and errors together, at these prices."""
        return _mean([life.cost(per_training, per_error) for life in self[policy]])

    def costs(self, per_training: float, per_error: float) -> dict[str, Estimate]:
        """Policy -> its cost."""
        return {name: self.cost(name, per_training, per_error) for name in self.lives}

    def extra_cost(self, policy: str, over: str, per_training: float, per_error: float) -> Estimate:
        """The cost of a policy − that of another, model by model on the same streams."""
        pairs = zip(self[policy], self[over], strict=True)
        prices = per_training, per_error
        return _mean([each.cost(*prices) - other.cost(*prices) for each, other in pairs])

    def within(self, per_training: float, per_error: float, share: float = 0.1) -> list[str]:
        """The policies that cost at most this share more than the cheapest."""
        costs = {name: cost.value for name, cost in self.costs(per_training, per_error).items()}
        return [n for n, cost in costs.items() if cost <= (1 + share) * min(costs.values())]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {self.accuracy(name)} right" for name in self.lives)

    def table(self) -> Table:
        """A row per policy: trainings, right answers, wrong ones, time of training."""
        rows = [
            (
                name,
                repr(self.trainings(name)),
                repr(self.accuracy(name)),
                f"{np.mean([life.errors for life in lives]):,.0f}",
                repr(self.train_s(name)),
            )
            for name, lives in self.lives.items()
        ]
        first = next(iter(self.lives.values()))
        periods, each = first[0].right.shape
        caption = f"{len(first)} models, each {periods:,} periods of {each:,} predictions."
        return Table(("policy", "trainings", "right", "errors", "time of training"), rows, caption)

    def plot(self) -> Picture:
        """The share of right answers over time, one line per policy."""
        periods = range(len(next(iter(self.lives.values()))[0].degrees))
        shares = {
            name: (list(periods), np.mean([life.accuracy for life in lives], axis=0).tolist())
            for name, lives in self.lives.items()
        }
        means = ", ".join(f"{name} {words(np.mean(y), '%')}" for name, (_, y) in shares.items())
        caption = f"Right answers over the life, mean: {means}."
        return lines(shares, "period", "right", unit="%", marks=False, caption=caption)

    def to_dict(self) -> dict[str, Any]:
        """The record of each life."""
        return {
            "lives": {n: [life.to_dict() for life in lives] for n, lives in self.lives.items()},
            "accuracy_share": {n: self.accuracy(n).to_dict() for n in self.lives},
        }


def _mean(values: list[float]) -> Estimate:
    """The mean over models, with Student's interval; a single model has an unknown one."""
    total, squares = sum(values), sum(value * value for value in values)
    return average(total, squares, len(values))
