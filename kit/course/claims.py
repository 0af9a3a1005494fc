"""Claims that articles make, the rule that decides each claim, and the verdict here."""

from __future__ import annotations

import html
import math
import operator
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

from kit.core.checks import is_whole
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import span, words
from kit.course.earlier_lessons import measured_earlier
from kit.plots import Table

HOLDS, ONLY_IF = "holds here", "holds only if"
DOES_NOT, CANNOT_TELL = "does not hold here", "cannot tell"
COLOURS = {HOLDS: "#009E73", ONLY_IF: "#E69F00", DOES_NOT: "#D55E00", CANNOT_TELL: "#888888"}
MARKS = {True: "yes", False: "no", None: "cannot tell"}
INTERVAL = re.compile(r"\bwith (its|an) interval\b")
SIGNS = {"==": "=", ">=": "≥", "<=": "≤"}  # as people write them
LEAST_SHARE = 1e-5  # a smaller one is shown as "under 0.001 %"
OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Claim:
    """One claim, the articles that make it, and the rule that decides it."""

    id: str
    claim: str
    said_by: list[str]
    lessons: list[str]
    holds: dict[str, str]
    measures: dict[str, str]
    stops: str
    everywhere: dict[str, str] = field(default_factory=dict)
    only_if: str = ""
    later: list[str] = field(default_factory=list)  # lessons to come that decide it too: not shown
    parts: dict[str, str] = field(default_factory=dict)  # lesson -> the question that it decides
    equal: dict[str, float] = field(default_factory=dict)  # quantity -> what counts as none

    @property
    def conditions(self) -> dict[str, str]:
        """All conditions of the rule, as quantity -> "<operator> <number>"."""
        return {**self.holds, **self.everywhere}

    def label(self, name: str) -> str:
        """A quantity of the rule in a few words."""
        return labels().get(name, (name.replace("_", " "), ""))[0]

    def rule(self, name: str) -> str:
        """The condition on a quantity, as people read it: "< 250 MB"."""
        sign, limit = self.conditions[name].split()
        number, _, unit = words(float(limit), self.unit(name)).partition(" ")
        number = number.rstrip("0").rstrip(".") if "." in number else number
        unit = "point" if (number, unit) == ("1", "points") else unit
        return f"{SIGNS.get(sign, sign)} {number} {unit}".strip()

    def unit(self, name: str) -> str:
        """The unit in which a reader sees a quantity."""
        return labels().get(name, ("", ""))[1]

    def needs_interval(self, name: str) -> bool:
        """Whether the quantity varies between measurements, as its description says."""
        return INTERVAL.search(self.measures[name]) is not None


@cache
def ledger() -> dict[str, Claim]:
    """All claims by id.

    >>> ledger()["01"].lessons
    ['01']
    """
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    claims: dict[str, dict[str, Any]] = tomllib.loads(text)["claims"]
    return {id: Claim(id, **entry) for id, entry in claims.items()}


@cache
def labels() -> dict[str, tuple[str, str]]:
    """Each quantity of the rules -> its name in a few words, and its unit.

    >>> labels()["edge_peak_bytes"]
    ('peak memory of the small process', 'B')
    """
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = tomllib.loads(text)["labels"]
    return {name: (label, unit) for name, (label, unit) in found.items()}


def documents() -> dict[str, str]:
    """The articles that make the claims, by their letters.

    >>> list(documents())
    ['A', 'B', 'C', 'D']
    """
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["documents"])


@dataclass(frozen=True)
class Verdict(Result):
    """A claim, what was measured, and what its rule concludes from that."""

    claim: Claim
    measured: dict[str, float | Estimate | None]
    on: str = ""  # what was measured: model, batch, device
    measured_in: Mapping[str, str] = field(default_factory=dict)  # quantity -> another lesson
    part: str = ""  # of a claim with parts: the lesson whose question this is

    @property
    def met(self) -> dict[str, bool | None]:
        """Which conditions are met; None if the interval contains the limit."""
        return {
            name: _met(self.measured[name], rule, self.claim.equal.get(name, 0.0))
            for name, rule in self.claim.conditions.items()
        }

    @property
    def word(self) -> str:
        """*holds here*, *holds only if …*, *does not hold here* or *cannot tell*."""
        core = [self.met[name] for name in self.claim.holds]
        beyond = [self.met[name] for name in self.claim.everywhere]
        if False in core:
            return DOES_NOT
        if None in core:
            return CANNOT_TELL
        if False in beyond:
            return f"{ONLY_IF} {self.claim.only_if}"
        return CANNOT_TELL if None in beyond else HOLDS

    @property
    def question(self) -> str:
        """Of a claim with parts, the one that this verdict is about; else ""."""
        return self.claim.parts.get(self.part, "")

    @property
    def colour(self) -> str:
        """The colour of its word."""
        return next(colour for word, colour in COLOURS.items() if self.word.startswith(word))

    def __repr__(self) -> str:
        about = f" ({self.question})" if self.question else ""
        return f"Claim {self.claim.id}, “{self.claim.claim}”{about}: {self.word}"

    def shown(self, name: str) -> str:
        """A quantity with its interval, and the lesson if another one measured it."""
        lesson = f" (lesson {self.measured_in[name]})" if name in self.measured_in else ""
        return _shown(self.measured[name], self.claim.unit(name)) + lesson

    @property
    def lines(self) -> list[tuple[str, str, str, str]]:
        """A line per condition: the quantity, what was measured, the rule, whether it is met."""
        claim = self.claim
        return [
            (claim.label(n), self.shown(n), claim.rule(n), MARKS[self.met[n]])
            for n in claim.conditions
        ]

    def table(self) -> Table:
        """The measured value, the rule and the result of each condition; where the claim stops."""
        meanings = (self.claim.measures[name] for name in self.claim.conditions)
        rows = [(each, *line[1:]) for each, line in zip(meanings, self.lines, strict=True)]
        caption = f"Measured on {self.on}. " if self.on else ""
        caption = f"For the question: {self.question}. {caption}" if self.question else caption
        caption += f"Where it stops holding: {self.claim.stops}"
        return Table(("measured", "here", "rule", "met"), rows, caption)

    def _repr_html_(self) -> str:
        said = html.escape(f"“{self.claim.claim}” ({', '.join(self.claim.said_by)})")
        return (
            f'<div style="border-left:4px solid {self.colour};padding-left:.8em">'
            f"<div>Claim {self.claim.id}: {said}</div>"
            f"<div><b>→ {html.escape(self.word)}</b></div>{super()._repr_html_()}</div>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Claim, measured values, rule and verdict."""
        measured = {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in self.measured.items()
        }
        return {
            "claim_id": self.claim.id,
            "claim": self.claim.claim,
            "measured": measured,
            "on": self.on,
            **({"part": self.part} if self.part else {}),
            "measured_in": dict(self.measured_in),
            "rule": self.claim.conditions,
            "verdict": self.word,
        }


def verdict(
    id: str,
    *,
    on: str = "",
    part: str = "",
    measured_in: Mapping[str, str] | str = "",
    **measured: float | Estimate | None,
) -> Verdict:
    """The verdict on a claim, from the quantities that its rule needs.

    Parameters
    ----------
    id
        The claim's number, such as "01".
    on
        What was measured: model, batch, device. The verdict applies to that only.
    part
        Of a claim with `parts`, the number of the lesson whose question is decided.
    measured_in
        Quantities of the rule that another lesson measured, each with that lesson's number; a
        number alone is the lesson of all that are not given. They are read from the reader's copy
        of it, or from the one that came with the kit.
    measured
        Each quantity of the rule: an `Estimate` with its interval, a plain number if it is a
        count, or None if it could not be measured; the verdict is then "cannot tell". An interval
        of width zero, for example from a single sample, decides nothing.

    Raises
    ------
    UnknownName
        No claim has that number; similar ones are listed.
    BadValue
        The quantities differ from those in the rule, which the message explains; or a quantity
        that varies came without an interval.
    """
    if id not in ledger():
        raise UnknownName("claim", id, ledger())
    claim = ledger()[id]
    if part and part not in claim.parts:
        raise UnknownName(f"part of claim {id}", part, claim.parts)
    if isinstance(measured_in, str):
        missing = [name for name in claim.conditions if name not in measured]
        measured_in = dict.fromkeys(missing, measured_in) if measured_in else {}
    earlier = {name: measured_earlier(n, id, name) for name, n in measured_in.items()}
    measured |= {name: found.value for name, found in earlier.items()}
    if set(measured) != set(claim.conditions):
        needed = "; ".join(f"{name} ({claim.measures[name]})" for name in claim.conditions)
        raise BadValue(f"claim {id} was given {sorted(measured)}; its rule needs {needed}.")
    for name, value in measured.items():
        if isinstance(value, bool) or not isinstance(value, (Real, Estimate, type(None))):
            raise BadValue(f"{name}={value!r}: needs a number, an Estimate, or None if unknown.")
        if claim.needs_interval(name) and isinstance(value, Real) and not math.isnan(value):
            raise BadValue(
                f"claim {id}: {name}={value:g} is a single number, which may be chance. The rule "
                f"needs an Estimate with its interval. Measure several times, or more examples."
            )
    where = "; ".join(
        [*filter(None, [on]), *dict.fromkeys(found.source for found in earlier.values())]
    )
    return Verdict(claim, measured, where, measured_in or {}, part)


def _met(value: float | Estimate | None, rule: str, equal: float = 0.0) -> bool | None:
    """Whether a condition is met; not met by a difference that is surely within `equal`."""
    sign, limit = rule.split()
    holds = OPERATORS[sign]
    if value is None or _unknown(value):
        return None
    if not isinstance(value, Estimate):
        return bool(holds(value, float(limit)))
    if value.low == value.high:  # one sample: the next one may differ by any amount
        return None
    ends = {bool(holds(value.low, float(limit))), bool(holds(value.high, float(limit)))}
    # "==" is false at both ends, but may be true between them.
    inside = value.low < float(limit) < value.high
    if len(ends) == 1 and not inside:
        return ends.pop()
    farthest = max(abs(value.low - float(limit)), abs(value.high - float(limit)))
    return False if farthest < equal else None


def _unknown(value: float | Estimate | None) -> bool:
    """Whether the value was not measured, or is NaN."""
    if isinstance(value, Estimate):
        return any(math.isnan(end) for end in (value.value, value.low, value.high))
    return value is None or math.isnan(value)


def _shown(value: float | Estimate | None, unit: str) -> str:
    """A value with its interval, in the unit and magnitude that people read."""
    if value is None or _unknown(value):
        return "not measured here"
    if not isinstance(value, Estimate):
        counted = is_whole(value) and unit not in ("%", "points", "×", "B")
        return f"{value:,} {unit}".strip() if counted else words(value, unit)
    if unit == "%" and value.value > 0 and value.high < LEAST_SHARE:
        return "under 0.001 %"
    shown = value.with_unit(unit)
    if not shown.known:
        return f"{words(value.value, unit)} [interval unknown]"
    if math.isinf(shown.low) or math.isinf(shown.high):
        return repr(shown)
    return f"{words(value.value, unit)} [{span(value.low, value.high, unit)}]"
