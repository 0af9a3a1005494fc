"""When a training ends, and what it may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from kit.core.checks import check_positive, check_share, check_whole
from kit.core.errors import BadValue
from kit.inference import Score


@dataclass(frozen=True)
class Ends:
    """What ends a training before its last step."""

    budget_s: float | None = None
    target: float | None = None
    target_loss: float | None = None

    def __post_init__(self) -> None:
        if self.budget_s is not None:
            check_positive("budget_s", self.budget_s)
        if self.target is not None:
            check_share("target", self.target, "a score", hint="Give 0.97 for 97 %.")
        if self.target_loss is not None:
            check_positive("target_loss", self.target_loss)

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
        return check_whole("steps", steps)
    return max(1, round(check_positive("epochs", epochs) * per_epoch))
