"""What a result depends on: one assumption at a time goes to its two ends (a tornado diagram)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.core.results import Result
from kit.core.units import UNKNOWN
from kit.costs.lifetime_assumptions import KINDS, Assumption, label
from kit.costs.lifetime_bills import Values
from kit.costs.published import amount
from kit.plots import Picture, Table, dots

FACTOR = 2.0  # an assumption without a range goes to its half and to its double
GREATEST = 1e6  # what a result that is infinite at an end counts as: many times


@dataclass(frozen=True)
class Move:
    """How far one assumption moves the result."""

    assumption: Assumption
    ends: tuple[float, float]  # to which it went
    results: tuple[float, float]

    def size(self, value: float) -> float:
        """The largest factor by which it moves the result."""
        if not math.isfinite(value) or value <= 0:
            return GREATEST if any(map(math.isfinite, self.results)) else 1.0
        ratios = [r / value if r > 0 else 1 / GREATEST for r in self.results]
        return max(min(GREATEST, max(r, 1 / r)) for r in ratios)


@dataclass(frozen=True)
class Tornado(Result):
    """The moves of a result, the largest first."""

    of: str
    unit: str
    value: float
    moves: dict[str, Move]

    @property
    def ranked(self) -> list[str]:
        """The assumptions that move the result, the one that moves it most first."""
        return list(self.moves)

    @property
    def most(self) -> str:
        """The assumption that moves the result most; "" if none does."""
        return label(self.ranked[0]) if self.moves else "nothing"

    def __repr__(self) -> str:
        named = ", ".join(label(name) for name in self.ranked)
        return f"The {self.of} depends on, in this order: {named or 'nothing'}"

    def table(self) -> Table:
        """A row per assumption: its two ends, and the result at each."""
        rows = [
            (
                label(name),
                *(amount(end, move.assumption.unit) for end in move.ends),
                *(_shown(result, self.unit) for result in move.results),
                "its range" if move.assumption.varies else "half and double",
            )
            for name, move in self.moves.items()
        ]
        header = ("", "from", "to", "result there", "and there", "ends")
        caption = (
            f"The {self.of} is {_shown(self.value, self.unit)}. One assumption moves at a time."
        )
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The value, and the result at both ends of each assumption; None: never."""
        return {
            "of": self.of,
            "value": self.value if math.isfinite(self.value) else None,
            "moves": {
                name: [r if math.isfinite(r) else None for r in move.results]
                for name, move in self.moves.items()
            },
        }

    def plot(self) -> Picture:
        """A row per assumption, from the result at one end to the result at the other."""
        finite = {
            label(name): sorted(move.results)
            for name, move in self.moves.items()
            if all(map(math.isfinite, move.results)) and min(move.results) > 0
        }
        rows = {name: (self.value, low, high) for name, (low, high) in list(finite.items())[:8]}
        level = (f"now: {_shown(self.value, self.unit)}", self.value)
        ends = "; ".join(
            f"{name}: {_shown(low, self.unit)} to {_shown(high, self.unit)}"
            for name, (_, low, high) in rows.items()
        )
        caption = f"{self!r}. {level[0].capitalize()}. {ends}."
        quantity = f"{self.of} ({self.unit})"
        return dots(rows, quantity, caption=caption, log=True, level=level)


def tornado(
    inputs: Mapping[str, Assumption],
    function: Callable[[Values], float],
    of: str,
    unit: str = "days",
) -> Tornado:
    """One assumption at a time to its ends: its range, or half and double of its value."""
    values = {name: each.value for name, each in inputs.items()}
    value, moves = function(values), {}
    for name, each in inputs.items():
        ends = _ends(each)
        if ends is None:
            continue
        low, high = (function({**values, name: end}) for end in ends)
        if low != value or high != value:
            moves[name] = Move(each, ends, (low, high))
    ranked = sorted(moves.items(), key=lambda move: -move[1].size(value))
    return Tornado(of, unit, value, dict(ranked))


def _ends(each: Assumption) -> tuple[float, float] | None:
    """Where it goes; None for what is unknown or zero and has no range."""
    if each.varies and not each.unknown and each.low is not None and each.high is not None:
        return each.low, each.high
    if not each.value:
        return None
    kind = KINDS[each.name]
    low, high = sorted((each.value / FACTOR, each.value * FACTOR))  # of what shrinks, upside down
    return max(kind.least, low), min(kind.most, high)


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return UNKNOWN
    return "never" if math.isinf(value) else amount(value, unit)
