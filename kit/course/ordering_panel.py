"""The ordering panel of lesson 08: guess an order, measure, and hold the two side by side.

order           the panel: a list to put in order with buttons, keys or the pointer
GuessedOrder    the guess beside the measured order, and how many pairs it has right
"""

from __future__ import annotations

import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.course.panels import shown_with
from kit.plots import Table

LARGEST, SMALLEST = "largest", "smallest"


@dataclass(frozen=True)
class GuessedOrder(Result):
    """A guessed order beside the measured one, both from the top."""

    guess: tuple[str, ...] | None  # of what was measured; None: nobody guessed
    measured: dict[str, Estimate]  # in the measured order
    first: str | None  # which value is at the top; None: there are no values, only an order
    unmeasured: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that the measurement tells apart: no overlap of intervals; upper one first."""
        up = self.first == LARGEST
        values = self.measured.items()
        return [
            (a, b)
            for a, x in values
            for b, y in values
            if (x.low > y.high if up else x.high < y.low)
        ]

    @property
    def pairs_right(self) -> int | None:
        """How many of those pairs the guess has in the right order; None without a guess."""
        if self.guess is None:
            return None
        return sum(self.guess.index(a) < self.guess.index(b) for a, b in self.pairs)

    def places(self, name: str) -> tuple[int, int]:
        """The first and the last place that may truly be its own."""
        above = sum(b == name for _, b in self.pairs)
        below = sum(a == name for a, _ in self.pairs)
        return above + 1, len(self.measured) - below

    def __repr__(self) -> str:
        n, close = len(self.pairs), math.comb(len(self.measured), 2) - len(self.pairs)
        sentence = f"{self.pairs_right} of {n} pairs in the right order (by chance: half)."
        if not n:
            sentence = f"Nothing to tell apart: all {close} pairs are too close."
        elif self.guess is None:
            sentence = "No guess was made."
        if n and close:
            sentence += f" Pairs too close to tell, and not counted: {close}."
        if self.unmeasured:
            sentence += f" Not measured, so left out: {', '.join(self.unmeasured)}."
        return sentence

    def table(self) -> Table:
        """The measured order, and where the guess had each name."""
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
            columns["your guess"] = [str(place) for place in guessed.values()]
            columns["which is"] = [_off(guessed[name], *places[name]) for name in places]
        return Table(list(columns), list(zip(*columns.values(), strict=True)), repr(self))

    def to_dict(self) -> dict[str, Any]:
        """Both orders, and the pairs; right ÷ distinguishable · 2 − 1 is Kendall's tau."""
        values = {name: value.to_dict() for name, value in self.measured.items()}
        return {
            "guess": None if self.guess is None else list(self.guess),
            "measured": list(self.measured),
            "values": values if self.first else None,
            "first": self.first,
            "unmeasured": list(self.unmeasured),
            "pairs_right": self.pairs_right,
            "pairs_told_apart": len(self.pairs),
        }


def _off(place: int, low: int, high: int) -> str:
    """How far a guessed place lies from those that are right, in words."""
    if low <= place <= high:
        return "right"
    return f"{low - place} too high" if place < low else f"{place - high} too low"


class Order(anywidget.AnyWidget):
    """A list to put in order; `.value` is None until somebody moves a thing, or confirms."""

    _esm = pathlib.Path(__file__).with_suffix(".js")
    _css = pathlib.Path(__file__).with_suffix(".css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    value = traitlets.Tuple(default_value=None, allow_none=True).tag(sync=True)

    @traitlets.validate("value")
    def _complete(self, proposal: Any) -> tuple[str, ...] | None:
        given = proposal["value"]
        if given is not None and sorted(map(str, given)) != sorted(self.names):
            raise BadValue(f"the order {given!r}: needs each of {', '.join(self.names)} once.")
        return given

    def against(
        self,
        measured: Mapping[str, float | Estimate | None] | Sequence[str],
        first: str = LARGEST,
    ) -> GuessedOrder:
        """The guess beside the measured order, and how many pairs it has right.

        Parameters
        ----------
        measured
            Name -> value, None if it could not be measured; or the names alone, from the top.
            Values that are equal, or whose intervals overlap, make a pair that does not count.
        first
            Which value belongs at the top: the "largest" or the "smallest".

        Raises
        ------
        UnknownName
            Something was measured that is not in the list.
        BadValue
            Fewer than two were measured, one twice, or not as a number.

        Notes
        -----
        The share of pairs in the right order is Kendall's tau on a scale from 0 to 1, where
        chance gets ½ (Kendall, "A new measure of rank correlation", Biometrika 30, 1938).
        Seen first in lesson 08.
        """
        if first not in (LARGEST, SMALLEST):
            raise BadValue(f"first={first!r}: needs {LARGEST!r} or {SMALLEST!r}.")
        named = isinstance(measured, Mapping)
        given = measured if isinstance(measured, Mapping) else _placed(measured)
        for name in given:
            if name not in self.names:
                raise UnknownName("thing in the list", name, self.names)
        known = {n: _estimate(n, given[n]) for n in self.names if given.get(n) is not None}
        if len(known) < 2:
            raise BadValue(f"{len(known)} of {len(self.names)} measured: an order needs two.")
        down = named and first == LARGEST
        return GuessedOrder(
            guess=self.value and tuple(name for name in self.value if name in known),
            measured=dict(sorted(known.items(), key=lambda item: item[1].value, reverse=down)),
            first=first if named else None,
            unmeasured=tuple(name for name in self.names if name not in known),
        )

    def __repr__(self) -> str:
        return f"{self.question} Your guess: {', '.join(self.value or ['no guess yet'])}."

    def _repr_mimebundle_(self, **options: Any) -> Any:
        tag, hint = ("ol", "your guess") if self.value else ("ul", "a list to sort, in JupyterLab")
        items = "".join(f"<li>{html.escape(name)}</li>" for name in self.value or self.names)
        question = f"<p><b>{html.escape(self.question)}</b> <i>({hint})</i></p>"
        return shown_with(self, f"{question}<{tag}>{items}</{tag}>", repr(self))


def guess_order(names: Sequence[str], question: str = "In which order?") -> Order:
    """A panel to put the names in order, before anything is measured.

    Parameters
    ----------
    names
        At least two, as they stand at the start: in an order that gives no hint.
    question
        It says what belongs at the top.

    Raises
    ------
    BadValue
        Fewer than two names, one of them twice, or one that is not a text.

    Seen first in lesson 08.
    """
    if len(checked := _checked(names)) < 2:
        raise BadValue(f"{len(checked)} to put in order: needs at least two names.")
    return Order(names=checked, question=question)


def _checked(names: Sequence[str]) -> list[str]:
    """The names, if each is a text and there once."""
    if isinstance(names, str) or not all(isinstance(n, str) and n.strip() for n in names):
        raise BadValue(f"names {names!r}: needs a list of names, each in quotes and not empty.")
    twice = {repr(name) for name in names if list(names).count(name) > 1}
    if twice:
        raise BadValue(f"{', '.join(sorted(twice))} twice in {list(names)}: needs each name once.")
    return list(names)


def _placed(names: Sequence[str]) -> dict[str, float]:
    """Name -> its place, for an order that has no values."""
    return {name: place for place, name in enumerate(_checked(names), start=1)}


def _estimate(name: str, value: Any) -> Estimate:
    """A measured value with its interval; a plain number has none."""
    found = value if isinstance(value, Estimate) else Estimate(value, value, value)
    ends = (found.low, found.value, found.high)
    if not all(isinstance(end, (int, float)) and not math.isnan(end) for end in ends):
        raise BadValue(f"{name!r} measured as {value!r}: needs a number, an Estimate or None.")
    return found
