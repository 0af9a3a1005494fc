"""The ordering panel of lesson 08: guess an order, measure it, and compare the two.

guess_order     makes the panel
Order           the panel: a list to put in order with buttons, keys or the pointer
GuessedOrder    the guess beside the measured order, and how many of its pairs are right
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import traitlets

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.course.panels import FOR_READERS, YOURS, CoursePanel, is_recording, shown_with, tell
from kit.plots import Table

LARGEST, SMALLEST = "largest", "smallest"


@dataclass(frozen=True)
class GuessedOrder(Result):
    """A guessed order beside the measured one, both from top to bottom."""

    guess: tuple[str, ...] | None  # measured names only; None: no guess was made
    measured: dict[str, Estimate]  # in the measured order
    first: str | None  # which value is at the top; None: only an order, no values
    unmeasured: tuple[str, ...] = ()
    whose: str = YOURS
    # Measured against each other, ÷: more exact than two intervals, where there is such a ratio.
    ratios: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs whose order is measured beyond doubt: (the upper one, the lower one)."""
        found = []
        for a, b in combinations(self.measured, 2):
            ratio, x, y = self.ratios.get((a, b)), self.measured[a], self.measured[b]
            a_lower = ratio.high < 1 if ratio else x.high < y.low
            b_lower = ratio.low > 1 if ratio else y.high < x.low
            if a_lower or b_lower:
                a_first = b_lower if self.first == LARGEST else a_lower
                found.append((a, b) if a_first else (b, a))
        return found

    @property
    def pairs_right(self) -> int | None:
        """How many of those pairs the guess has in the right order; None without a guess."""
        if self.guess is None:
            return None
        return sum(self.guess.index(a) < self.guess.index(b) for a, b in self.pairs)

    def places(self, name: str) -> tuple[int, int]:
        """The first and the last place that the intervals allow for a name."""
        above = sum(b == name for _, b in self.pairs)
        below = sum(a == name for a, _ in self.pairs)
        return above + 1, len(self.measured) - below

    def __repr__(self) -> str:
        n, close = len(self.pairs), math.comb(len(self.measured), 2) - len(self.pairs)
        sentence = f"{self.pairs_right} of {n} pairs in the right order (by chance: half)."
        if not n:
            sentence = f"Nothing to compare: all {close} pairs are too close to distinguish."
        elif self.guess is None:
            sentence = "No guess was made."
        if n and close:
            sentence += f" Pairs too close to distinguish, and not counted: {close}."
        if self.unmeasured:
            sentence += f" Not measured, so left out: {', '.join(self.unmeasured)}."
        return sentence

    def table(self) -> Table:
        """The measured order, and the place of each name in the guess."""
        places = {name: self.places(name) for name in self.measured}
        columns = {
            "place": [f"{a}" if a == b else f"{a} to {b}" for a, b in places.values()],
            "": list(places),
        }
        if self.first:
            columns[f"measured, {self.first} first"] = [
                repr(v) if v.low < v.high else words(v.value, v.unit)
                for v in self.measured.values()
            ]
        if self.guess:
            guessed = {name: self.guess.index(name) + 1 for name in places}
            columns[self.whose] = [str(place) for place in guessed.values()]
            columns["which is"] = [_off(guessed[name], *places[name]) for name in places]
        return Table(list(columns), list(zip(*columns.values(), strict=True)), repr(self))

    def to_dict(self) -> dict[str, Any]:
        """Both orders and the pairs. Kendall's tau is 2 · right ÷ distinguished − 1."""
        values = {name: value.to_dict() for name, value in self.measured.items()}
        return {
            "guess": None if self.guess is None else list(self.guess),
            "measured": list(self.measured),
            "values": values if self.first else None,
            "first": self.first,
            "unmeasured": list(self.unmeasured),
            "pairs_right": self.pairs_right,
            "pairs_distinguished": len(self.pairs),
        }


def _off(place: int, low: int, high: int) -> str:
    """How far a guessed place is from those that the intervals allow, in words."""
    if low <= place <= high:
        return "right" if low == high else "possible"
    return f"{low - place} too high" if place < low else f"{place - high} too low"


class Order(CoursePanel):
    """A list to put in order; `.value` is None until you move an item or confirm."""

    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    value = traitlets.Tuple(default_value=None, allow_none=True).tag(sync=True)
    whose = YOURS

    @traitlets.validate("value")
    def _complete(self, proposal: Any) -> tuple[str, ...] | None:
        given = proposal["value"]
        if given is not None and sorted(map(str, given)) != sorted(self.names):
            raise BadValue(f"the order is {given!r}: needs each of {', '.join(self.names)} once.")
        return given

    def against(
        self,
        measured: Mapping[str, float | Estimate | None] | Sequence[str],
        first: str = LARGEST,
        ratio: Callable[[str, str], Estimate | None] | None = None,
    ) -> GuessedOrder:
        """The guess beside the measured order, and how many of its pairs are right.

        Parameters
        ----------
        measured
            Name -> value, or None if it could not be measured; or only the names, from the top.
            A pair with equal values or overlapping intervals does not count.
        first
            Which value is at the top: the "largest" or the "smallest".
        ratio
            Two names -> the value of the first ÷ that of the second, measured together, or None.
            It decides about the pair where it is known: 1 lies outside of its interval, or the
            pair does not count.

        Raises
        ------
        UnknownName
            A measured name is not in the list.
        BadValue
            Fewer than two names were measured, a name comes twice, or a value is not a number.

        Notes
        -----
        The share of pairs in the right order is Kendall's tau on a scale from 0 to 1. A random
        order gets ½ on average (Kendall, "A new measure of rank correlation", Biometrika 30, 1938).
        Explained in lesson 08.
        """
        if first not in (LARGEST, SMALLEST):
            raise BadValue(f"first={first!r}: needs {LARGEST!r} or {SMALLEST!r}.")
        named = isinstance(measured, Mapping)
        given = measured if isinstance(measured, Mapping) else _placed(measured)
        for name in given:
            if name not in self.names:
                raise UnknownName("name in the list", name, self.names)
        known = {n: _estimate(n, given[n]) for n in self.names if given.get(n) is not None}
        if len(known) < 2:
            raise BadValue(f"{len(known)} of {len(self.names)} names measured: needs at least two.")
        down = named and first == LARGEST
        order = dict(sorted(known.items(), key=lambda item: item[1].value, reverse=down))
        together = {pair: ratio(*pair) for pair in combinations(order, 2)} if ratio else {}
        tell(self, order)
        return GuessedOrder(
            guess=self.value and tuple(name for name in self.value if name in known),
            measured=order,
            first=first if named else None,
            unmeasured=tuple(name for name in self.names if name not in known),
            whose=self.whose,
            ratios={pair: found for pair, found in together.items() if found},
        )

    def __repr__(self) -> str:
        named = ", ".join(self.value or ["no guess yet"])
        return f"{self.question} {self.whose.capitalize()}: {named}."

    def _repr_mimebundle_(self, **options: Any) -> Any:
        tag, hint = ("ol", self.whose) if self.value else ("ul", "a list to sort, in JupyterLab")
        items = "".join(f"<li>{html.escape(name)}</li>" for name in self.value or self.names)
        question = f"<p><b>{html.escape(self.question)}</b> <i>({hint})</i></p>"
        return shown_with(self, f"{question}<{tag}>{items}</{tag}>", repr(self))


def guess_order(
    names: Sequence[str],
    question: str = "In which order?",
    plausible: Sequence[str] | None = None,
) -> Order:
    """A panel to put names in order before you measure anything.

    Parameters
    ----------
    names
        At least two names, in the order shown at the start; choose one that gives no hint.
    question
        Text above the list. It says what belongs at the top.
    plausible
        The order that a sensible newcomer would guess. A recorded lesson shows it beside the
        result; a reader's own list begins without a guess.

    Raises
    ------
    BadValue
        Fewer than two names, a name that comes twice, or one that is empty or not a string;
        or `plausible` does not have each name once.

    Explained in lesson 08.
    """
    if len(checked := _checked(names)) < 2:
        raise BadValue(f"{len(checked)} names to put in order: needs at least two.")
    if plausible is not None:
        made = Order(names=checked, question=question, value=tuple(plausible))  # checked either way
        if is_recording():
            made.whose = FOR_READERS
            return made
    order = Order(names=checked, question=question)
    order.observe(lambda _: tell(order), "value")
    return order


def _checked(names: Sequence[str]) -> list[str]:
    """The names, if each is a non-empty string and comes once."""
    if isinstance(names, str) or not all(isinstance(n, str) and n.strip() for n in names):
        raise BadValue(f"names={names!r}: needs a list of names, each in quotes and not empty.")
    twice = {repr(name) for name in names if list(names).count(name) > 1}
    if twice:
        raise BadValue(f"{', '.join(sorted(twice))} twice in {list(names)}: needs each name once.")
    return list(names)


def _placed(names: Sequence[str]) -> dict[str, float]:
    """Name -> place, for an order without values."""
    return {name: place for place, name in enumerate(_checked(names), start=1)}


def _estimate(name: str, value: Any) -> Estimate:
    """The value as an estimate; a plain number gets an interval of width zero."""
    found = Estimate.of(value)
    ends = (found.low, found.value, found.high)
    if not all(isinstance(end, (int, float)) and not math.isnan(end) for end in ends):
        raise BadValue(f"{name!r} was measured as {value!r}: needs a number, an Estimate or None.")
    return found
