"""When a training ends, and what it may be asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kit.core.errors import BadValue
from kit.core.units import is_number, is_whole
from kit.inference import Score


@dataclass(frozen=True)
class Ends:
    """What ends a training before its last step."""

    budget_s: float | None = None
    target: float | None = None
    target_loss: float | None = None

    def __post_init__(self) -> None:
        if self.budget_s is not None:
            positive("budget_s", self.budget_s)
        if self.target is not None and not (is_number(self.target) and 0 <= self.target <= 1):
            raise BadValue(f"target={self.target!r}: needs a score from 0 to 1, such as 0.97.")
        if self.target_loss is not None:
            positive("target_loss", self.target_loss)

    def reached(self, train_s: float, score: Score | None) -> str:
        """Why to stop now; nothing if there is no reason to."""
        if self.target is not None and score and score.mean.value >= self.target:
            return "target reached"
        if self.target_loss is not None and score and score.loss <= self.target_loss:
            return "target loss reached"
        return "budget spent" if self.budget_s is not None and train_s >= self.budget_s else ""


def total_steps(steps: int | None, epochs: float | None, per_epoch: int) -> int:
    """Whichever of steps and epochs is given, in steps."""
    if (steps is None) == (epochs is None):
        raise BadValue(f"given steps={steps!r} and epochs={epochs!r}: give one of them.")
    if steps is not None:
        return whole("steps", steps)
    return max(1, round(positive("epochs", epochs) * per_epoch))


def whole(name: str, value: Any, most: float = math.inf, least: int = 1) -> int:
    """The value, if it is a whole number between the two."""
    if not is_whole(value) or not least <= value <= most:
        limit = f"of at least {least}" if most == math.inf else f"from {least} to {most:,}"
        raise BadValue(f"{name}={value!r}: needs a whole number {limit}.")
    return int(value)  # NumPy's numbers cannot be kept as JSON


def positive(name: str, value: Any) -> float:
    """The value, if it is a number above 0."""
    if not (is_number(value) and 0 < value < math.inf):
        raise BadValue(f"{name}={value!r}: needs a number above 0.")
    return float(value)
