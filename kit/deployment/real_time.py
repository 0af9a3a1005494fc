"""Real-time factors: how long an answer takes ÷ how long it may take, kind of work by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.core.checks import is_number
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, median, percentile, samples_needed
from kit.core.units import words
from kit.plots import Table

Kind = tuple[Sequence[float], float]  # the seconds of each answer, and the seconds allowed
TAIL = 99  # per cent of the answers


@dataclass(frozen=True)
class RealTime(Result):
    """For each kind of work: the times of its answers, and the time allowed."""

    kinds: Mapping[str, Kind] = field(repr=False)

    @property
    def factors(self) -> dict[str, Estimate]:
        """Median time ÷ time allowed, with its interval: below 1 is faster than real time."""
        return {name: median(times, "s") / allowed for name, (times, allowed) in self.kinds.items()}

    @property
    def tails(self) -> dict[str, Estimate | None]:
        """The same of the 99th percentile; None where there are too few answers for it."""
        return {
            name: percentile(times, TAIL, "s") / allowed
            if len(times) >= samples_needed(TAIL)
            else None
            for name, (times, allowed) in self.kinds.items()
        }

    @property
    def slowest(self) -> Estimate:
        """The largest of the factors."""
        return max(self.factors.values(), key=lambda factor: factor.value)

    @property
    def slowest_tail(self) -> Estimate | None:
        """The largest of the factors of the 99th percentile; None if one of them is unknown."""
        known = [tail for tail in self.tails.values() if tail is not None]
        if len(known) < len(self.kinds):
            return None
        return max(known, key=lambda tail: tail.value)

    def __repr__(self) -> str:
        return "; ".join(f"{name}: {factor} of real time" for name, factor in self.factors.items())

    def table(self) -> Table:
        """A row per kind; the factor is also the share of a core, if answers never stop."""
        tails = self.tails
        rows = [
            (
                name,
                words(float(np.median(self.kinds[name][0])), "s"),
                words(self.kinds[name][1], "s"),
                repr(factor),
                "—" if (tail := tails[name]) is None else repr(tail),
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
            "of p99",
            "per second",
            "of a core",
        )
        caption = (
            "Real-time factor: median time ÷ time allowed, below 1 is faster than real time. Per "
            "second: seconds of sound, video or control per second of computing. Of a core: the "
            "share that the answers take if they never stop. One thread of this computer."
        )
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The factors and the time allowed, by kind."""
        tails = self.tails
        return {
            "kinds": {
                name: {
                    "allowed_s": self.kinds[name][1],
                    "answers": len(self.kinds[name][0]),
                    "factor": factor.to_dict(),
                    "p99_factor": tail.to_dict() if (tail := tails[name]) else None,
                }
                for name, factor in self.factors.items()
            }
        }


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
    >>> found.slowest.value < 1
    True

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
