"""Exercises of lesson 15: what labels cost, an answer that flips the advice, a defended verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kit.core.checks import is_number
from kit.core.errors import KitError
from kit.core.units import words
from kit.course.approaches import Road, case_answers, recommend
from kit.course.claims import COLOURS, Claim, ledger
from kit.course.earlier_lessons import recorded_verdicts
from kit.course.exercises.registry import LastHint, WrongForm, exercise, hint_for_number, near
from kit.course.recommendation import Recommendation

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
# A value in such a unit × this is the recorded value.
SCALES = {"ms": 1e-3, "mb": 1e6, "gb": 1e9, "%": 0.01, "percent": 0.01, "point": 0.01}
FORMS = (1, 100, 1e3, 1e6, 1e-3, 1e-6, 1e-9, 1 / 60, 1 / 3600)  # in which a text may give it
SHOWN = (1, 100, 1e3)  # as a table shows it
CLOSE, ROUNDED = 0.03, 0.06  # relative: of the value, and of a number in a sentence
FEWEST_WORDS = 6
# 12,852 and 12.852 and 0,35 and 1.2e-4; after it, perhaps a unit.
NUMBER = re.compile(
    r"(\d{1,3}(?:[,.\u202f\u00a0]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)?(?:e[-+]?\d+)?)"
    r"\s?(%|×|points\b|ms\b|s\b|[kMG]?B\b)?"
)
WORD = re.compile(r"[^\W\d_]{3,}")
# Words that tie a sentence to a condition, and names of the machine, in four languages.
LIMITING = re.compile(
    r"\b(on|with|for|only|if|when|of this|here|at|in|auf|mit|nur|bei|für|wenn|dies\w*|sur|avec|"
    r"pour|seulement|dans|ce|cet|cette|con|solo|sólo|en|este|esta|para)\b",
    re.IGNORECASE,
)
MACHINE = re.compile(
    r"\b(computer|laptop|machine|cpu|gpu|processor|cores|rechner|prozessor|kernen?|ordinateur|"
    r"processeur|c(œ|oe)urs|ordenador|computadora|procesador|máquina|núcleos)\b",
    re.IGNORECASE,
)
# Words in a record's description that name no condition.
EMPTY = {"and", "answers", "both", "equal", "for", "gone", "kinds", "lesson", "models", "run"} | {
    *("parameters", "the", "their", "weights", "with"),
}


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
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
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
        return f"With {other!r}, the recommendation is: {made.approach}. {_why_not_train(made)}"
    return None


def _why_not_train(made: Recommendation) -> str:
    """What the table says of the road `words`, and what an answer would have to change."""
    row = next(row for row in made.table().rows if row[0].startswith("train"))
    if "words" in made.excluded:
        return f"The road words is excluded: {row[3]} ({row[4]}). Which question is that about?"
    return (
        f"The road words is left, but {row[3]}: {row[2]}. Which answer takes away the roads with "
        "the pre-trained model, or lets words alone get enough right?"
    )


@exercise("15-defend")
def defend(answer: Any) -> str | None:
    """Run `kit report`, choose a claim, and open the table of verdicts of its lesson."""
    if not isinstance(answer, dict) or set(answer) != set(FIELDS):
        return WrongForm(f"Give a dictionary with {', '.join(FIELDS)}, and nothing else.")
    claim = ledger().get(str(answer["claim"]).zfill(2))
    if claim is None:
        return f"claim={answer['claim']!r}: give a number from the ledger, as '05'."
    if answer["quantity"] not in claim.conditions:
        names = ", ".join(claim.conditions)
        return f"The rule of claim {claim.id} has no {answer['quantity']!r}. It has: {names}."
    if not is_number(answer["value"]):
        return WrongForm(f"value={answer['value']!r}: give the number alone, without its unit.")
    lessons = filter(str.isdigit, claim.lessons)
    found = [record for lesson in lessons for record in recorded_verdicts(lesson, claim.id)]
    # As in the ledger, a lesson that measured a part of the rule counts if no other measured all.
    full = [record for record in found if None not in record["measured"].values()]
    return _hint_for_record(answer, claim, full or found)


def _hint_for_record(answer: dict[str, Any], claim: Claim, records: list[dict[str, Any]]) -> Any:
    """Compare the verdict, the number and the text with what one lesson has recorded."""
    if not records:
        return f"No lesson has recorded claim {claim.id}. Choose another one."
    said = str(answer["verdict"]).strip().lower().rstrip(" .…")
    same = [record for record in records if said in _names(record["verdict"])]
    if not same:
        all_said = dict.fromkeys(f"{r['verdict']} ({r['lesson']})" for r in records)
        return f"The ledger says of claim {claim.id}: {' / '.join(all_said)}."
    measured = [(record, _number(record, answer["quantity"])) for record in same]
    known = [(record, value) for record, value in measured if value is not None]
    if not known:
        return f"No lesson with that verdict has measured {answer['quantity']}. Choose another."
    unit = str(answer["unit"]).strip().lower().replace("points", "point")
    given = answer["value"] * SCALES.get(unit, 1)
    fits = [r for r, v in known if near(given, v, CLOSE)]
    if not fits:
        shown = claim.unit(answer["quantity"])
        return LastHint(f"It was measured as {' or '.join(words(v, shown) for _, v in known)}.")
    return _hint_for_unit(answer, claim) or _hint_for_text(answer, claim, fits[0])


def _names(verdict: str) -> set[str]:
    """A verdict as a reader may write it: in full, or without its condition."""
    return {verdict.lower(), *(word for word in COLOURS if verdict.startswith(word))}


def _number(record: dict[str, Any], quantity: str) -> float | None:
    value = record["measured"].get(quantity)
    found = value.get("value") if isinstance(value, dict) else value
    return float(found) if is_number(found) else None


def _hint_for_unit(answer: dict[str, Any], claim: Claim) -> str | None:
    """None if the unit fits what the rule says of the quantity."""
    says, unit = claim.measures[answer["quantity"]], str(answer["unit"]).strip().lower()
    allowed = [u for part, units in UNITS.items() if part in says for u in units]
    if not unit:
        return "Give the unit, such as 's', 'share' or 'ratio'."
    if allowed and not any(unit == u or unit == f"{u}s" for u in allowed):
        return f"The unit does not fit. The rule measures: {says}."
    return None


def _hint_for_text(answer: dict[str, Any], claim: Claim, record: dict[str, Any]) -> str | None:
    """None if it has the number, no figure from elsewhere, and a condition of the measurement."""
    text, value = str(answer["text"]), _number(record, answer["quantity"])
    if len(re.findall(r"\w+", text)) < FEWEST_WORDS:
        return "Write a sentence: what was measured, and under which condition."
    found = _numbers(text)
    if not any(_is_form_of(values, value) for _, _, values in found):
        return f"Your sentences do not contain the number {value:.3g}."
    where = " ".join(str(record[name]) for name in ("on", "cpu", "lesson")).strip()
    table = [*_table(record, claim), *(v for _, _, values in _numbers(where) for v in values)]
    for shown, is_figure, values in found:
        own = _is_form_of(values, value)
        if is_figure and not own and not any(_is_form_of(values, t, SHOWN, CLOSE) for t in table):
            has = ", ".join(f"{each:.3g}" for each in dict.fromkeys(_table(record, claim)))
            return f"{shown} is not in the table of this verdict. It has: {has}."
    said = {word.lower() for word in WORD.findall(text)}
    conditions = {word.lower() for word in WORD.findall(where)} - EMPTY
    if not (conditions & said or MACHINE.search(text)) or not LIMITING.search(text):
        return (
            "Say under which condition it was measured: which model, data or machine. A word such "
            f"as noise is not a condition. The record says: {where}."
        )
    return None


def _numbers(text: str) -> list[tuple[str, bool, set[float]]]:
    """Each number of a text, whether it is a figure, and what it may mean: 12,852 or 0,35."""
    found = []
    for hit in NUMBER.finditer(text):
        bare = re.sub("[\u202f\u00a0]", "", hit[1])
        # A comma or a point before three digits may be either; before others it is a decimal one.
        grouped = re.fullmatch(r"\d{1,3}(?:[,.]\d{3})+", bare)
        readings = {bare.replace(",", ""), bare.replace(".", "").replace(",", ".")}
        readings = {*readings, bare.replace(".", "")} if grouped else {_decimal(bare)}
        values = {float(each) for each in readings if each.count(".") < 2 and "," not in each}
        found.append((hit[0].strip(), bool(hit[2]) or "." in bare or "," in bare, values))
    return found


def _decimal(text: str) -> str:
    """12,852.7 and 12.852,7 and 0,35 with one point: the last mark is the decimal one."""
    whole, mark, rest = text.rpartition(max(",.", key=text.rfind))
    return re.sub("[,.]", "", whole) + "." + rest if mark else text


def _table(record: dict[str, Any], claim: Claim) -> list[float]:
    """All numbers of a verdict's table: values, ends of intervals, limits; and 95 %."""
    cells: list[Any] = []
    for measured in record["measured"].values():
        ends = ("value", "low", "high")
        cells += [measured.get(e) for e in ends] if isinstance(measured, dict) else [measured]
    limits = [float(rule.split()[1]) for rule in claim.conditions.values()]
    return [float(cell) for cell in cells if is_number(cell)] + limits + [0.95]


def _is_form_of(
    values: set[float],
    recorded: float | None,
    forms: Sequence[float] = FORMS,
    within: float = ROUNDED,
) -> bool:
    """Whether a number of a text is a recorded one, in another unit or without its sign."""
    if recorded is None:
        return False
    return any(near(v, abs(recorded) * form, within) for v in values for form in forms)
