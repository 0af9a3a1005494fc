"""Exercises of lesson 15: what labels cost, an answer that flips the advice, a defended verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kit.core.errors import KitError
from kit.course.approaches import Road, case_answers, recommend
from kit.course.claims import Claim, ledger
from kit.course.earlier_lessons import recorded_verdict
from kit.course.exercises.registry import LastHint, WrongForm, exercise, hint_for_number, near

MORE, MODULES, MINUTES, PRICE = 16 - 4, 10, 2, 60.0
LABELS_USD = MORE * MODULES * MINUTES / 60 * PRICE

FIELDS = ("claim", "verdict", "quantity", "value", "unit", "text")
# What a quantity's description says -> the units that fit it.
UNITS = {
    "(seconds": ("s", "second", "ms"),
    "(bytes": ("b", "byte", "mb", "gb"),
    "(0 to 1)": ("share", "0 to 1", "%", "percent"),
    "(count": ("count", "number"),
    "requests/s": ("requests/s", "requests per second"),
    "÷": ("×", "ratio", "times", "x"),
    "accuracy": ("share", "points", "0 to 1", "%"),
}
NUMBER = re.compile(r"\d[\d,]*\.?\d*(?:e-?\d+)?")
LIMITING = re.compile(r"\b(on|with|for|only|if|when|of this|here|at)\b", re.IGNORECASE)


@exercise("15-labels", needs="number")
def labels(answer: float) -> str | None:
    """How many more labels are they, in all ten modules? How many hours is that?"""
    mistakes = {
        LABELS_USD * 16 / 12: "That is the price of all 16 labels. How much more than with 4?",
        LABELS_USD / MODULES: "That is for one module. There are ten.",
        LABELS_USD * 60: "Two minutes are not two hours.",
        LABELS_USD * 4 / 12: "That is the price of the 4 labels. How much do the others cost?",
        MORE * MODULES: "That is the number of labels. What does a person's time for them cost?",
    }
    hint = "(16 − 4) labels × 10 modules × 2 minutes ÷ 60 × 60 USD."
    return hint_for_number(answer, LABELS_USD, mistakes, hint)


@exercise("15-flip")
def flip(answer: Any, roads: Mapping[str, Road]) -> str | None:
    """Which roads need the pre-trained model? Which answer takes these away?"""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return WrongForm("Give a question and one of its answers: ('data', 'plenty').")
    question, other = answer
    case = case_answers("chatbot")
    if case.get(question) == other:
        return f"{other!r} is the chatbot's own answer to {question!r}. Give another one."
    try:
        made = recommend(roads, {**case, question: other}, flips=False)
    except KitError as error:
        return f"{error} The keys are in questions[…]['answers']."
    if made.approach != "train":
        return f"With {other!r}, the recommendation is: {made.approach}. Which rule decides it?"
    return None


@exercise("15-defend")
def defend(answer: Any) -> str | None:
    """Run `kit report`, choose a claim, and open the table of verdicts of its lesson."""
    if not isinstance(answer, dict) or set(answer) != set(FIELDS):
        return WrongForm(f"Give a dictionary with {', '.join(FIELDS)}, and nothing else.")
    claim = ledger().get(str(answer["claim"]))
    if claim is None:
        return f"claim={answer['claim']!r}: give a number from the ledger, as '05'."
    if answer["quantity"] not in claim.conditions:
        names = ", ".join(claim.conditions)
        return f"The rule of claim {claim.id} has no {answer['quantity']!r}. It has: {names}."
    records = [recorded_verdict(lesson, claim.id) for lesson in claim.lessons if lesson.isdigit()]
    return _hint_for_record(answer, claim, [record for record in records if record])


def _hint_for_record(answer: dict[str, Any], claim: Claim, records: list[dict[str, Any]]) -> Any:
    """Compare the verdict, the number and the text with what the lessons have recorded."""
    if not records:
        return f"No lesson has recorded claim {claim.id}. Choose another one."
    words = {record["verdict"] for record in records}
    if not any(str(answer["verdict"]).strip() and w.startswith(answer["verdict"]) for w in words):
        return f"The ledger says of claim {claim.id}: {' / '.join(sorted(words))}."
    measured = [(record, _number(record, answer["quantity"])) for record in records]
    known = [(record, value) for record, value in measured if value is not None]
    if not known:
        return f"No lesson has measured {answer['quantity']}. Choose another quantity."
    value = answer["value"]
    fits = [r for r, v in known if isinstance(value, int | float) and near(value, v, 0.03)]
    if not fits:
        return LastHint(f"It was measured as {' or '.join(f'{v:.3g}' for _, v in known)}.")
    return _hint_for_unit(answer, claim) or _hint_for_text(answer, fits[0])


def _number(record: dict[str, Any], quantity: str) -> float | None:
    value = record["measured"].get(quantity)
    found = value.get("value") if isinstance(value, dict) else value
    return float(found) if isinstance(found, int | float) else None


def _hint_for_unit(answer: dict[str, Any], claim: Claim) -> str | None:
    """None if the unit fits what the rule says of the quantity."""
    says, unit = claim.measures[answer["quantity"]], str(answer["unit"]).strip().lower()
    allowed = [u for part, units in UNITS.items() if part in says for u in units]
    if not unit:
        return "Give the unit, such as 's', 'share' or 'ratio'."
    if allowed and not any(unit == u or unit == f"{u}s" for u in allowed):
        return f"The unit does not fit. The rule measures: {says}."
    return None


def _hint_for_text(answer: dict[str, Any], record: dict[str, Any]) -> str | None:
    """None if the text contains the number and a condition of the measurement."""
    text, value = str(answer["text"]), float(answer["value"])
    numbers = [float(n.replace(",", "")) for n in NUMBER.findall(text)]
    forms = (value, 100 * value, 1000 * value, abs(value), abs(100 * value))
    if not any(near(n, form, 0.06) for n in numbers for form in forms):
        return f"Your sentences do not contain the number {value:.3g}."
    where = f"{record['on']} {record['cpu']} {record['lesson']}"
    known = {word.lower() for word in re.findall(r"[A-Za-z]{3,}", where)}
    said = {word.lower() for word in re.findall(r"[A-Za-z]{3,}", text)}
    if not known & said or not LIMITING.search(text):
        return f"Say under which condition it was measured. The record says: {where.strip()}."
    return None
