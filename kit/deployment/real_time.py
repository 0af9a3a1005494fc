"""Real-time factors: how long an answer takes ÷ how long it may take, kind of work by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.core.checks import is_number
from kit.core.correlated_samples import effective_values
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, median, proportion
from kit.core.units import words
from kit.plots import Table

Kind = tuple[Sequence[float], float]  # the seconds of each answer, and the seconds allowed


@dataclass(frozen=True)
class RealTime(Result):
    """For each kind of work: the times of its answers, and the time allowed."""

    kinds: Mapping[str, Kind] = field(repr=False)

    @property
    def factors(self) -> dict[str, Estimate]:
        """Median time ÷ time allowed, with its interval: below 1 is faster than real time."""
        return {name: median(times, "s") / allowed for name, (times, allowed) in self.kinds.items()}

    @property
    def late(self) -> dict[str, Estimate]:
        """The share of the answers that took longer than allowed, with its interval.

        Late answers that come in bursts say less than as many single ones (`effective_values`).
        """
        return {name: _share_late(times, allowed) for name, (times, allowed) in self.kinds.items()}

    @property
    def most_late(self) -> Estimate:
        """The share of late answers of the kind for which it may be largest."""
        return max(self.late.values(), key=lambda share: share.high)

    @property
    def least_in_time(self) -> Estimate:
        """The same kind's share of answers in time: above a half, its median keeps up."""
        late = self.most_late
        return Estimate(1 - late.value, 1 - late.high, 1 - late.low, "%")

    def __repr__(self) -> str:
        return "; ".join(f"{name}: {factor} of real time" for name, factor in self.factors.items())

    def table(self) -> Table:
        """A row per kind; the factor is also the share of a core, if answers never stop."""
        late = self.late
        rows = [
            (
                name,
                words(float(np.median(self.kinds[name][0])), "s"),
                words(self.kinds[name][1], "s"),
                repr(factor),
                repr(late[name]),
                words(1 / factor.value, "×"),
                words(min(1.0, factor.value), "%"),
            )
            for name, factor in self.factors.items()
        ]
        header = (
            "",
            "an answer takes",
            "allowed",
            "real-time factor",
            "too late",
            "per second",
            "of a core",
        )
        caption = (
            "Real-time factor: median time ÷ time allowed, below 1 is faster than real time. Too "
            "late: the share of the answers that took longer than allowed. Per second: seconds of "
            "sound, video or control per second of computing. Of a core: the share that the "
            "answers take if they never stop. One thread of this computer."
        )
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The factors and the time allowed, by kind."""
        late = self.late
        return {
            "kinds": {
                name: {
                    "allowed_s": self.kinds[name][1],
                    "answers": len(self.kinds[name][0]),
                    "factor": factor.to_dict(),
                    "late_share": late[name].to_dict(),
                }
                for name, factor in self.factors.items()
            }
        }


def _share_late(times: Sequence[float], allowed: float) -> Estimate:
    late = (np.asarray(times, dtype=float) > allowed).astype(float)
    independent = effective_values(late)
    if not independent:  # the bursts are too few to say how long they are
        return Estimate(float(late.mean()), 0.0, 1.0, "%")
    return proportion(float(late.mean()) * independent, independent)


def real_time_factors(kinds: Mapping[str, Kind]) -> RealTime:
    """Real-time factors of several kinds of work.

    Parameters
    ----------
    kinds
        Name -> (the seconds of each answer, the seconds that an answer may take).

    Raises
    ------
    BadValue
        No kind was given, a kind has no answers, or its allowed time is not above 0.

    Examples
    --------
    >>> found = real_time_factors({"camera": ([0.011, 0.010, 0.012, 0.010, 0.011, 0.013], 1 / 30)})
    >>> found.factors["camera"].value < 1, found.most_late
    (True, 0 % [0 to 39.0 %])

    Explained in lesson 12.
    """
    if not kinds:
        raise BadValue("no kinds: needs name -> (seconds of each answer, seconds allowed).")
    for name, (times, allowed) in kinds.items():
        if not len(times) or not is_number(allowed) or not allowed > 0:
            raise BadValue(
                f"{name!r}: {len(times)} answers and allowed={allowed!r} s: needs at least one "
                f"answer, and an allowed time above 0."
            )
    return RealTime(dict(kinds))
