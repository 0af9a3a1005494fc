"""What to do, where, and why: the recommendation of lesson 15, and the rules behind it as a table.

Recommendation   the chosen road, each other road with its cost or the rule that excludes it
rules_table      the rules in the order in which they are applied
assumptions      the prices, hours, limits and paces that nobody measured
"""

from __future__ import annotations

import html
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN, words
from kit.costs.lifetime_result import Lifetime
from kit.course.claims import ledger
from kit.course.earlier_lessons import measured_earlier
from kit.plots import Table

PUBLISHED = "published"  # the road that uses a model which others trained for the same question
# What the rules compare: in words, and its unit.
COMPARED = {
    "score": ("right", "%"),
    "target": ("the target is", "%"),
    "labels_needed": ("labels of each class that it needs:", ""),
    "labels_to_get": ("there are", ""),
    "keep_bytes": ("the model has", "B"),
    "memory_bytes": ("the memory", "B"),
    "answer_there_s": ("an answer takes", "s"),
    "deadline_s": ("it may take", "s"),
    "machines": ("machines that it needs:", ""),
    "most_machines": ("there are", ""),
}


@cache
def approaches() -> dict[str, Any]:
    """The questions, rules, places and cases, as they stand in `approaches.toml`.

    >>> list(approaches()["questions"])
    ['purpose', 'resources', 'scalability', 'data', 'expertise']
    """
    text = Path(__file__).with_name("approaches.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)
    return table


@dataclass(frozen=True)
class Recommendation(Result):
    """What to do, where, and why; every road with its cost or with the rule that excludes it."""

    answers: dict[str, str]
    chosen: str | None  # a road, or None if the rules exclude all
    lives: dict[str, Lifetime]  # of the roads that are left
    excluded: dict[str, str]  # road -> the rule
    numbers: dict[str, dict[str, Any]]  # road -> what the rules compare
    unsure: tuple[str, ...] = ()  # roads whose interval contains the target
    flips: tuple[tuple[str, str, str], ...] = field(default=())  # question, other answer, then

    @property
    def approach(self) -> str:
        """Train, fine-tune, prompt or retrieve, only deploy, or "none"."""
        return approaches()["approaches"][self.chosen] if self.chosen else "none"

    @property
    def place(self) -> str:
        """Where it runs."""
        return approaches()["places"][self.answers["resources"]]

    @property
    def cost(self) -> str:
        """What the chosen road costs in the first year, as text."""
        life = self.lives.get(self.chosen or "")
        return _dollars(life.total("money")) if life else UNKNOWN

    def __repr__(self) -> str:
        if self.chosen is None:
            rules = approaches()["rules"]
            whys = dict.fromkeys(rules[rule]["because"] for rule in self.excluded.values())
            return f"No road is left. Why each is excluded: {'; '.join(whys)}."
        way = f" ({_shown(self.chosen)})" if self.chosen != PUBLISHED else ""
        return f"{self.approach.capitalize()}{way}, {self.place}: {self.cost} in the first year."

    @property
    def why(self) -> str:
        """Why this road, or why none, in a few words."""
        if self.chosen:
            left = len(self.lives)
            why = f"the cheapest of {left} that are left" if left > 1 else "it alone is left"
            return f"{why}; not sure: {', '.join(map(_shown, self._asked))}" if self._asked else why
        rules = approaches()["rules"]
        numbers = [
            f"{_shown(road)}: {_numbers(rule, self.numbers[road])}"
            for road, rule in self.excluded.items()
            if "needs" in rules[rule]
        ]
        return "; ".join(numbers) or "a rule excludes each road"

    @property
    def doubt(self) -> str:
        """For which roads the target lies within the interval; "" if for none that matters."""
        if not self._asked:
            return ""
        roads = ", ".join(map(_shown, self._asked))
        return f"Not sure: {roads}. The target lies within the interval of what it gets right."

    @property
    def _asked(self) -> list[str]:
        """The roads that are not sure, of those that no other rule excludes."""
        return [r for r in self.unsure if self.excluded.get(r, "score") in ("score", "labels")]

    @property
    def questions(self) -> str:
        """The questions of which another answer alone would change the approach."""
        return ", ".join(dict.fromkeys(question for question, _, _ in self.flips)) or "none"

    @property
    def changes(self) -> str:
        """The single answers that would change it, in sentences."""
        if not self.flips:
            return "No other answer to a single question changes this."
        return f"It changes with another answer to one question. {'. '.join(self._changes)}."

    @property
    def _changes(self) -> list[str]:
        """For each question, the other answers after which the approach is another one."""
        found: dict[str, list[str]] = {}
        for question, says, then in self.flips:
            then = "no road is left" if then == "none" else then
            found.setdefault(question, []).append(f"{says} → {then}")
        asked = approaches()["questions"]
        return [f"{asked[q]['question']} {'; '.join(each)}" for q, each in found.items()]

    def table(self) -> Table:
        """A row per road: cost of a year, or the rule that excludes it, and its numbers."""
        rows = [self._row(road) for road in approaches()["approaches"]]
        header = ("", "labels of each class", "first year", "because", "the numbers")
        caption = " ".join(filter(None, (repr(self), self.doubt, self.changes)))
        return Table(header, rows, caption)

    def _row(self, road: str) -> tuple[str, ...]:
        rules, n = approaches()["rules"], self.numbers[road]["labels_needed"]
        name = f"{approaches()['approaches'][road]}: {_shown(road)}"
        labels = "not reached" if n is None else str(n)
        if road in self.excluded:
            rule = self.excluded[road]
            because, numbers = rules[rule]["because"], _numbers(rule, self.numbers[road])
            return name, labels, UNKNOWN, because, numbers
        life = self.lives[road]
        because = rules["cheapest"]["because"] if road == self.chosen else "it costs more"
        begin, answers = (
            _dollars(bill) for bill in (life.training("money"), life.inference("money"))
        )
        numbers = f"{begin} before the first answer, {answers} for the answers"
        return name, labels, _dollars(life.total("money")), because, numbers

    def _repr_html_(self) -> str:
        """What to do stands first, then the table, then the answers that would change it."""
        note = approaches()["questions"]["purpose"]["answers"][self.answers["purpose"]].get("note")
        said = [f"<b>{html.escape(repr(self))}</b>", *filter(None, (self.doubt, note))]
        items = "".join(f"<li>{html.escape(each)}</li>" for each in self._changes)
        begin = "Another answer to one question changes it:" if items else self.changes
        return (
            f"<p>{' '.join(said)}</p>{replace(self.table(), caption='')._repr_html_()}"
            f"<p>{begin}</p>{f'<ul>{items}</ul>' if items else ''}"
            f"<details><summary>The rules</summary>{rules_table()._repr_html_()}</details>"
            "<details><summary>What is assumed: prices, hours, limits, paces</summary>"
            f"{assumptions()._repr_html_()}</details>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Answers, recommendation, costs and what would change it."""
        costs = {road: life.total("money").to_dict() for road, life in self.lives.items()}
        labels = {road: each["labels_needed"] for road, each in self.numbers.items()}
        return {
            **{"answers": self.answers, "approach": self.approach, "road": self.chosen},
            **{"place": self.place, "cost_usd": costs, "excluded": self.excluded},
            **{"labels_per_class": labels, "unsure": list(self.unsure)},
            "flips": [list(flip) for flip in self.flips],
        }


def rules_table() -> Table:
    """A row per rule, in their order: what it excludes, why, and the measurement behind it."""
    rows = []
    for name, rule in approaches()["rules"].items():
        out = ", ".join(rule.get("rules_out", ())) or _condition(rule.get("needs", ""))
        rows.append((name.replace("-", " "), out, rule["because"], _evidence(name)))
    header = ("rule", "excludes", "because", "measured")
    caption = "The first rule that fits a road excludes it. Of those left, the cheapest is taken."
    return Table(header, rows, caption)


def assumptions() -> Table:
    """A row per answer with numbers that were assumed, not measured: change them in the file."""
    rows = [
        (question, answer["says"], assumed)
        for question, entry in approaches()["questions"].items()
        for answer in entry["answers"].values()
        if (assumed := _assumed(answer))
    ]
    caption = "Nobody measured these numbers. They stand in kit/course/approaches.toml."
    return Table(("question", "answer", "assumed"), rows, caption)


def _assumed(answer: Mapping[str, Any]) -> str:
    """The numbers of an answer, with their units."""
    texts = {
        "target": lambda x: f"at least {words(x, '%')} right" if x else "",
        "times": lambda x: f"{x:g} × as fast as the computer of lesson 15",
        "price_per_hour": lambda x: f"{x:g} USD per machine and hour",
        "minutes_per_label": lambda x: f"{x:g} minutes per label" if x else "",
        "labels_to_get": lambda x: f"at most {x:,} labels of each class",
        "answers_per_day": lambda x: f"{x:,.0f} answers a day",
        "deadline_s": lambda x: f"each within {words(x, 's')}",
        "price_of_work": lambda x: f"{x:g} USD per hour of work",
        "hours": lambda x: "hours: " + ", ".join(f"{way} {h}" for way, h in x.items()),
    }
    return "; ".join(filter(None, (text(answer[n]) for n, text in texts.items() if n in answer)))


def _condition(needs: str) -> str:
    """When a rule that compares two quantities excludes a road."""
    if not needs:
        return "nothing: it chooses"
    left, sign, right = (part.removesuffix("_s").replace("_", " ") for part in needs.split())
    return f"a road if its {left} {'<' if sign == '>=' else '>'} {right}"


def _numbers(rule: str, numbers: Mapping[str, Any]) -> str:
    """What a rule compared for a road; of a rule about the answers, an earlier measurement."""
    if "needs" not in approaches()["rules"][rule]:
        return _evidence(rule)
    left, _, right = approaches()["rules"][rule]["needs"].split()
    return ", ".join(
        f"{COMPARED[n][0]} {_value(numbers[n], COMPARED[n][1])}" for n in (left, right)
    )


def _value(value: float, unit: str) -> str:
    return words(value, unit) if unit else f"{value:,}"


def _evidence(rule: str) -> str:
    """The lesson and the measurement that speak for a rule, with the machine that measured it."""
    entry = approaches()["rules"][rule]["evidence"]
    found = measured_earlier(entry["lesson"], entry["claim"], entry["quantity"])
    claim, value = ledger()[entry["claim"]], found.value
    unit = claim.unit(entry["quantity"])
    text = UNKNOWN if value is None else f"{value}"
    if isinstance(value, Estimate):
        text = repr(value.with_unit(unit))
    elif unit and value is not None:
        text = words(value, unit)
    label = claim.label(entry["quantity"])
    return f"{label}: {text}, {found.source}"


def _shown(road: str) -> str:
    """The name of a road as the lesson writes it."""
    return road.replace("-", " ")


def _dollars(cost: Estimate) -> str:
    """A sum, with its interval if that is wider than the digits."""
    text = f"{cost.value:,.0f} USD"
    if not cost.known or cost.high - cost.low < 0.01 * cost.value:
        return text
    return f"{text} [{cost.low:,.0f} to {cost.high:,.0f}]"
