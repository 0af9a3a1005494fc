"""Train, fine-tune, prompt or only deploy? Five answers, measured roads, and rules in a table.

recommend    the road that no rule excludes and that costs least in a year
influence    which of the five questions change the approach, in which of the cases
options      what reaches a target, with one number of labels or another

`approaches.toml` has the questions, the rules and six cases.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate
from kit.costs.lifetime import lifetime
from kit.costs.lifetime_result import Lifetime
from kit.course.recommendation import PUBLISHED, Recommendation
from kit.course.recommendation import approaches as approaches
from kit.course.recommendation import rules_table as rules_table
from kit.course.roads import Road as Road
from kit.course.roads import roads_table as roads_table
from kit.course.roads import train_all as train_all

CLASSES = 10  # of the task that was measured: labels are counted for each of them
PEAK, BUSY = 3.0, 0.7  # busiest hour ÷ average; share of the time in which a server may be busy
COMPARE = {">=": operator.ge, "<=": operator.le}
DEVICES = ("chip", "phone")  # each answers for one person, who has bought it


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
    lives, excluded, numbers = {}, {}, {}
    for name in approaches()["approaches"]:
        if name not in ways:
            raise BadValue(f"the road {name!r} is missing; given {', '.join(roads) or 'none'}.")
        life, own = _costs(name, ways[name], case)
        numbers[name] = {**case, **own}
        rule = _excluding(name, answers, numbers[name])
        if rule:
            excluded[name] = rule
        else:
            lives[name] = life
    chosen = min(lives, key=lambda n: lives[n].total("money").value) if lives else None
    unsure = tuple(name for name in numbers if _is_unsure(ways[name], case["target"]))
    made = Recommendation(dict(answers), chosen, lives, excluded, numbers, unsure)
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
    per_s = 0.0 if case["device"] else case["answers_per_day"] / 86_400
    busy = per_s * answer.value
    few, machines, many = (
        max(1, int(np.ceil(per_s * s * PEAK / BUSY)))
        for s in (answer.low, answer.value, answer.high)
    )
    bought = max(0, (most if n is None else n) - case["labels"])
    hours = case["hours"][approaches()["approaches"][name]]
    hours += bought * CLASSES * case["minutes_per_label"] / 60
    life = lifetime(
        max(road.training_s[most if n is None else n], 1e-6),
        answer.value,  # machines are paid all year: its interval matters for their number alone
        currency="USD",
        answers_per_day=case["answers_per_day"],
        utilisation=tuple(min(1.0, max(busy / m, 1e-9)) for m in (many, machines, few)),
        price_per_hour=case["price_per_hour"],
        people_hours_per_run=hours,
        people_price=case["price_of_work"],
    )
    best = max(score.value for score in road.scores.values())
    numbers = {"score": best, "labels_needed": n, "keep_bytes": road.keep_bytes}
    return life, numbers | {"answer_there_s": answer.value, "machines": machines}


def _is_unsure(road: Road, target: float) -> bool:
    """Whether the interval of the score that decides contains the target."""
    n = road.labels_for(target)
    score = road.scores[n] if n is not None else max(road.scores.values(), key=lambda s: s.high)
    return score.low < target <= score.high


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
