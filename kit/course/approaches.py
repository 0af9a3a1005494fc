"""Train, fine-tune, prompt or only deploy? Five answers, measured roads, and rules in a table.

recommend    the road that no rule excludes and that costs least in a year
influence    which of the five questions change the approach, in which of the cases
options      what reaches a target, with one number of labels or another

`approaches.toml` has the questions, the rules and six cases.
"""

from __future__ import annotations

import html
import operator
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN
from kit.costs.lifetime import lifetime
from kit.costs.lifetime_result import Lifetime
from kit.course.claims import ledger
from kit.course.earlier_lessons import measured_earlier
from kit.course.roads import Road as Road
from kit.course.roads import roads_table as roads_table
from kit.course.roads import train_all as train_all
from kit.plots import Table

PUBLISHED = "published"  # the road that uses a model which others trained for the same question
CLASSES = 10  # of the task that was measured: labels are counted for each of them
PEAK, BUSY = 3.0, 0.7  # busiest hour ÷ average; share of the time in which a server may be busy
COMPARE = {">=": operator.ge, "<=": operator.le}
DEVICES = ("chip", "phone")  # each answers for one person, who has bought it


@cache
def approaches() -> dict[str, Any]:
    """The questions, rules, places and cases, as they stand in `approaches.toml`.

    >>> list(approaches()["questions"])
    ['purpose', 'resources', 'scalability', 'data', 'expertise']
    """
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)
    return table


@dataclass(frozen=True)
class Recommendation(Result):
    """What to do, where, and why; every road with its cost or with the rule that excludes it."""

    answers: dict[str, str]
    chosen: str | None  # a road, or None if the rules exclude all
    lives: dict[str, Lifetime]  # of the roads that are left
    excluded: dict[str, str]  # road -> the rule
    labels: dict[str, int | None]
    flips: tuple[tuple[str, str, str], ...] = field(default=())  # question, other answer, then

    @property
    def approach(self) -> str:
        """Train, fine-tune, prompt or retrieve, only deploy, or "none"."""
        return approaches()["approaches"][self.chosen] if self.chosen else "none"

    @property
    def place(self) -> str:
        """Where it runs."""
        return approaches()["places"][self.answers["resources"]]

    def __repr__(self) -> str:
        if self.chosen is None:
            rules = approaches()["rules"]
            whys = dict.fromkeys(rules[rule]["because"] for rule in self.excluded.values())
            return f"No road is left. Why each is excluded: {'; '.join(whys)}."
        way = f" ({_shown(self.chosen)})" if self.chosen != PUBLISHED else ""
        return f"{self.approach.capitalize()}{way}, {self.place}: {self.cost} in the first year."

    def table(self) -> Table:
        """A row per road: cost of a year, or the rule that excludes it, and who measured that."""
        rows = []
        for road, approach in approaches()["approaches"].items():
            if road in self.lives:
                rule = "cheapest" if road == self.chosen else ""
                cost = _dollars(self.lives[road])
            else:
                rule, cost = self.excluded[road], UNKNOWN
            n = self.labels[road]
            labels = "not reached" if n is None else str(n)
            said = approaches()["rules"][rule]["because"] if rule else "it costs more"
            rows.append((f"{approach}: {_shown(road)}", labels, cost, said, _evidence(rule)))
        header = ("", "labels of each class", "first year", "because", "measured")
        return Table(header, rows, f"{self!r} {self.changes}")

    def _repr_html_(self) -> str:
        """What to do stands first, then the table, then the answers that would change it."""
        items = "".join(f"<li>{html.escape(each)}</li>" for each in self._changes)
        begin = "Another answer to one question changes it:" if items else self.changes
        return (
            f"<p><b>{html.escape(repr(self))}</b></p>"
            f"{replace(self.table(), caption='')._repr_html_()}"
            f"<p>{begin}</p><ul>{items}</ul>"
        )

    @property
    def cost(self) -> str:
        """What the chosen road costs in the first year, as text."""
        life = self.lives.get(self.chosen or "")
        return _dollars(life) if life else UNKNOWN

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

    def to_dict(self) -> dict[str, Any]:
        """Answers, recommendation, costs and what would change it."""
        costs = {road: life.total("money").to_dict() for road, life in self.lives.items()}
        return {
            **{"answers": self.answers, "approach": self.approach, "road": self.chosen},
            **{"place": self.place, "cost_usd": costs, "excluded": self.excluded},
            **{"labels_per_class": self.labels, "flips": [list(flip) for flip in self.flips]},
        }


def recommend(
    roads: Mapping[str, Road], answers: Mapping[str, str], *, flips: bool = True
) -> Recommendation:
    """The road that no rule excludes and that costs least in the first year.

    Parameters
    ----------
    roads
        As measured: "words", "head", "last-block", "as-is". The road "published" is added: it takes
        the time and bytes of "as-is", and is assumed to reach the target.
    answers
        To each of the five questions, one of its answers in `approaches.toml`.
    flips
        Whether to try every other answer to each question, one at a time.

    Raises
    ------
    UnknownName, BadValue
        A question or answer does not exist; a question or a road is missing.

    Explained in lesson 15.
    """
    case = _quantities(answers)
    ways = {**roads, PUBLISHED: _published(roads)}
    lives, excluded, labels = {}, {}, {}
    for name in approaches()["approaches"]:
        if name not in ways:
            raise BadValue(f"the road {name!r} is missing; given {', '.join(roads) or 'none'}.")
        life, numbers = _costs(name, ways[name], case)
        labels[name] = numbers["labels_needed"]
        rule = _excluding(name, answers, {**case, **numbers})
        if rule:
            excluded[name] = rule
        else:
            lives[name] = life
    chosen = min(lives, key=lambda n: lives[n].total("money").value) if lives else None
    made = Recommendation(dict(answers), chosen, lives, excluded, labels)
    return Recommendation(**{**vars(made), "flips": _flips(roads, made)}) if flips else made


def case_answers(name: str) -> dict[str, str]:
    """The five answers of one of the six cases."""
    cases = approaches()["cases"]
    if name not in cases:
        raise UnknownName("case", name, cases)
    return dict(cases[name]["answers"])


def influence(
    roads: Mapping[str, Road], cases: Sequence[str] | None = None
) -> dict[str, dict[str, bool]]:
    """Question -> case -> whether another answer to it alone changes the approach (claim 38)."""
    names = list(approaches()["cases"]) if cases is None else list(cases)
    found: dict[str, dict[str, bool]] = {question: {} for question in approaches()["questions"]}
    for name in names:
        flips = {q for q, _, _ in recommend(roads, case_answers(name)).flips}
        for question in found:
            found[question][name] = question in flips
    return found


def options(roads: Mapping[str, Road], case: str) -> dict[str, Lifetime]:
    """The lives of all that reach the target of a case: each road with each number of labels.

    Rules about the score and the kind of question apply; which machines there are does not.
    """
    answers = case_answers(case)
    numbers, lives = _quantities(answers), {}
    for name, road in {**roads, PUBLISHED: _published(roads)}.items():
        for n, score in road.scores.items():
            kind = _excluding(name, answers, {}, only="when")
            if kind is None and score.value >= numbers["target"]:
                lives[f"{name}, {n} labels"] = _costs(name, road, numbers, n)[0]
    return lives


def _quantities(answers: Mapping[str, str]) -> dict[str, Any]:
    """What the five answers stand for: their numbers in one dictionary."""
    questions, case = approaches()["questions"], dict[str, Any]()
    for name in answers:
        if name not in questions:
            raise UnknownName("question", name, questions)
    for name, question in questions.items():
        if name not in answers:
            raise BadValue(f"the question {name!r} has no answer: {question['question']}")
        if answers[name] not in question["answers"]:
            raise UnknownName(f"answer to {name!r}", answers[name], question["answers"])
        case |= question["answers"][answers[name]]
    return {**case, "device": answers["resources"] in DEVICES}


def _published(roads: Mapping[str, Road]) -> Road:
    """A ready-made model: time and bytes of the pre-trained one stand in for its own."""
    if "as-is" not in roads:
        raise BadValue("the road 'as-is' is missing: a published model takes its time and bytes.")
    right = Estimate(1.0, 1.0, 1.0, "%")
    return Road({0: right}, {0: 0.0}, roads["as-is"].answer_s, roads["as-is"].keep_bytes)


def _costs(
    name: str, road: Road, case: dict[str, Any], labels: int | None = None
) -> tuple[Lifetime, dict[str, Any]]:
    """The first year of a road, and the numbers that the rules compare."""
    n = road.labels_for(case["target"]) if labels is None else labels
    most = max(road.scores)
    answer = road.answer_s * (1 / case["times"])
    busy = 0.0 if case["device"] else case["answers_per_day"] / 86_400 * answer.value
    machines = 1 if case["device"] else max(1, int(np.ceil(busy * PEAK / BUSY)))
    bought = max(0, (most if n is None else n) - case["labels"])
    hours = case["hours"][approaches()["approaches"][name]]
    hours += bought * CLASSES * case["minutes_per_label"] / 60
    life = lifetime(
        max(road.training_s[most if n is None else n], 1e-6),
        answer,
        currency="USD",
        answers_per_day=case["answers_per_day"],
        utilisation=min(1.0, max(busy / machines, 1e-9)),
        price_per_hour=case["price_per_hour"],
        people_hours_per_run=hours,
        people_price=case["price_of_work"],
    )
    best = max(score.value for score in road.scores.values())
    numbers = {"score": best, "labels_needed": n, "keep_bytes": road.keep_bytes}
    return life, numbers | {"answer_there_s": answer.value, "machines": machines}


def _excluding(
    road: str, answers: Mapping[str, str], numbers: dict[str, Any], only: str = ""
) -> str | None:
    """The first rule that excludes the road, of all or of one kind; None if it may be taken."""
    approach = approaches()["approaches"][road]
    for name, rule in approaches()["rules"].items():
        if "when" in rule:
            asked = all(answers[q] in given for q, given in rule["when"].items())
            if asked and approach in rule["rules_out"]:
                return str(name)
        elif "needs" in rule and not only:
            left, sign, right = rule["needs"].split()
            if numbers[left] is not None and not COMPARE[sign](numbers[left], numbers[right]):
                return str(name)
    return None


def _flips(roads: Mapping[str, Road], made: Recommendation) -> tuple[tuple[str, str, str], ...]:
    """Each question and other answer that alone changes the approach, and what it becomes."""
    found = []
    for question, options in approaches()["questions"].items():
        for other, answer in options["answers"].items():
            changed = recommend(roads, {**made.answers, question: other}, flips=False)
            if changed.approach != made.approach:
                found.append((question, answer["says"], changed.approach))
    return tuple(found)


def _evidence(rule: str) -> str:
    """The lesson and the measurement that speak for a rule, with the machine that measured it."""
    if not rule:
        return ""
    entry = approaches()["rules"][rule]["evidence"]
    found = measured_earlier(entry["lesson"], entry["claim"], entry["quantity"])
    name = ledger()[entry["claim"]].label(entry["quantity"])
    return f"{name}: {UNKNOWN if found.value is None else found.value}, {found.source}"


def _shown(road: str) -> str:
    """The name of a road as the lesson writes it."""
    return road.replace("-", " ")


def _dollars(life: Lifetime) -> str:
    return f"{life.total('money').value:,.0f} USD"
