"""What both ladders share: rungs, each one change, and ratios that all hold at the same time.

A rung's time is the first rung's time × the ratios in between. Each ratio has an error of its own.
Relative errors add in squares, so the interval of the last ratio alone would be too narrow.

There is a second trap. If each of twelve ratios may be wrong one time in twenty, nearly half of
all ladders contain a wrong one. So on a ladder each ratio may be wrong only a twelfth as often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import CONFIDENCE, Estimate
from kit.measurement import Peaks
from kit.plots import Table, with_doubts

COMPARISONS = 12  # ratios that hold at once, 19 times in 20: the longest ladders have as many
SAME_TIME = Estimate(1.0, 1.0, 1.0, "×")


class Rung(Result):
    """One change and what was measured of it: a row of the ladder's table."""

    name: str
    absent: str  # why it is not available here; "" if it is


R = TypeVar("R", bound=Rung)


@dataclass(frozen=True)
class Ladder(Result, Generic[R]):
    """Rungs in the order in which they were tried. A ladder never changes: `then` gives a new one.

    A child defines `then`, which measures the next rung, and how its rungs are shown.
    """

    peaks: Peaks | None = field(default=None, kw_only=True)
    rungs: tuple[R, ...] = field(default=(), kw_only=True)

    @property
    def first(self) -> R:
        """The rung at the bottom: where you start."""
        return self.rungs[0]

    @property
    def newest(self) -> R:
        """The rung that was tried last."""
        return self.rungs[-1]

    @property
    def present(self) -> list[R]:
        """The rungs that are available here."""
        return [rung for rung in self.rungs if not rung.absent]

    def __getitem__(self, name: str) -> R:
        """The rung of this name."""
        named = {rung.name: rung for rung in self.rungs}
        if name not in named:
            raise UnknownName("rung", name, named)
        return named[name]

    def table(self) -> Table:
        """One row per rung."""
        return self._table(self.rungs)

    def last(self, n: int) -> Table:
        """The last n rungs as a table, with the first one and those that they are compared with."""
        newest = self.rungs[1:][-n:]
        names = {self.first.name, *(each.name for each in newest)}
        names |= {self._compared_with(each) for each in newest}
        return self._table([rung for rung in self.rungs if rung.name in names])

    def _table(self, rungs: Sequence[R]) -> Table:
        caption = with_doubts(self._caption(), self._doubts(rungs), self._details())
        return Table(*self._rows(rungs), *caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each rung."""
        return {**self._conditions(), self._key: [rung.to_dict() for rung in self.rungs]}

    def _compared_with(self, rung: R) -> str:
        """The name of the rung that this one was compared with."""
        return self.first.name

    _key = "rungs"  # the name of the rungs in the record

    def _rows(self, rungs: Sequence[R]) -> tuple[Sequence[str], list[Sequence[str]]]:
        raise NotImplementedError

    def _caption(self) -> str:
        raise NotImplementedError

    def _details(self) -> str:
        raise NotImplementedError

    def _doubts(self, rungs: Sequence[R]) -> list[str]:
        """About the times of these rungs, the most important first."""
        return []

    def _conditions(self) -> dict[str, Any]:
        raise NotImplementedError

    def _check_new(self, name: str) -> None:
        if name in {rung.name for rung in self.rungs}:
            raise BadValue(
                f"name={name!r}: the ladder has a rung of this name; needs a new name for each."
            )

    def _with(self, rung: R) -> Self:
        return replace(self, rungs=(*self.rungs, rung))


def simultaneous(ratio: Estimate, comparisons: int = COMPARISONS) -> Estimate:
    """The ratio with a wider interval: this many of them all hold at once, 19 times in 20.

    Bonferroni's correction, for a ratio whose logarithm is about normal. With twelve, each
    interval may miss the truth in 0.4 % of cases instead of 5 %, so it is 1.46 times as wide.

    >>> simultaneous(Estimate(1.0, 1 / 1.02, 1.02, "×"))
    1.00 × [0.971 to 1.03 ×]
    """
    from scipy.special import ndtri  # imported here: it would double the time of `import kit`

    wider = float(ndtri(1 - error_rate(comparisons) / 2) / ndtri((1 + CONFIDENCE) / 2))
    if ratio.low <= 0 or not math.isfinite(ratio.high):
        return Estimate(ratio.value, 0.0, math.inf, ratio.unit)
    v = ratio.value
    return Estimate(v, v * (ratio.low / v) ** wider, v * (ratio.high / v) ** wider, ratio.unit)


def student_half_width(logs: np.ndarray, comparisons: int = COMPARISONS) -> float:
    """Half the width of Student's interval for the mean of (n,) logarithms, for several at once."""
    from scipy.special import stdtrit

    n = len(logs)
    if n < 2:
        return math.inf
    t = float(stdtrit(n - 1, 1 - error_rate(comparisons) / 2))
    return t * float(np.std(logs, ddof=1)) / math.sqrt(n)


def error_rate(comparisons: int) -> float:
    """How often each of several intervals may miss the truth (Bonferroni)."""
    return (1 - CONFIDENCE) / comparisons
