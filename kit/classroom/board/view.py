"""What the projector shows, as numbers and texts: the page only draws it.

One axis holds both the guesses (a histogram) and the measurements (a dot with an interval for each
laptop, grouped by processor), so that the class sees how far off it was.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from kit.classroom.board.board import MEASURED, Answer, Board
from kit.classroom.board.questions import Question
from kit.core.statistics import Estimate
from kit.core.units import SHARES, words
from kit.experiments.class_differences import FACTS, differences

STEPS = (1, 2, 5)  # the edges of bins on a logarithmic axis: 1, 2, 5, 10, 20 …
SHARE_BINS, DIGIT_BINS = 10, 40  # bins of shares; the most bins in all
GROUPS = 12  # processors shown; the others are one group
EXPLAINED = 3  # rows of the table of differences


def view(board: Board) -> dict[str, Any]:
    """The current question of a class as the page draws it."""
    question = board.questions[board.current]
    answers = board.answers[board.current]
    ids = [id for id, each in board.questions.items() if each.lesson == question.lesson]
    shown: dict[str, Any] = {
        "version": board.version,
        "shows": board.shows,
        "lesson": question.lesson,
        "question": question.text,
        "number": ids.index(question.id) + 1,
        "of": len(ids),
        "first": board.beside(-1) == board.current,
        "last": board.beside(1) == board.current,
        "students": len(board.students),
        "guessed": sum(each.guess is not None for each in answers.values()),
        "measured": sum(each.value is not None for each in answers.values()),
    }
    draw = _choices if question.choices else _numbers
    return {**shown, **draw(question, board, answers)}


# --- A question whose answer is a name ---


def _choices(question: Question, board: Board, answers: dict[int, Answer]) -> dict[str, Any]:
    """How many guessed, and measured, each name as the first one."""
    guesses = Counter(each.guess for each in answers.values())
    measured = Counter(each.value for each in answers.values())
    bars = [
        {"text": name, "guesses": guesses[i], "measured": measured[i]}
        for i, name in enumerate(question.choices)
    ]
    if board.shows != MEASURED:
        bars = [{**bar, "measured": 0} for bar in bars]
    return {"kind": "choices", "bars": bars, "said": ""}


# --- A question whose answer is a number ---


def _numbers(question: Question, board: Board, answers: dict[int, Answer]) -> dict[str, Any]:
    guesses = [each.guess for each in answers.values() if each.guess is not None]
    measured = {n: each for n, each in answers.items() if each.value is not None}
    shows = measured if board.shows == MEASURED else {}
    ends = [v for each in shows.values() for v in (each.value, each.low, each.high)]
    edges = _edges([*guesses, *(v for v in ends if v is not None)], question.unit)
    return {
        "kind": "numbers",
        "log": question.unit not in SHARES,
        "axis": [{"at": edge, "text": _short(edge, question.unit)} for edge in edges],
        "bins": _bins(guesses, edges, question.unit),
        "groups": _groups(question, board, shows),
        "differences": _differences(question, shows),
        "said": _said(question, guesses, shows),
    }


def _edges(values: Sequence[float], unit: str) -> list[float]:
    """The edges of the bins: tenths for shares, else 1, 2, 5, 10 … around all values."""
    if unit in SHARES:
        return [i / SHARE_BINS for i in range(SHARE_BINS + 1)]
    above = [v for v in values if v > 0] or [1.0]
    first, last = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)) + 1e-9)
    first = max(first, last - DIGIT_BINS // len(STEPS))
    edges = [step * 10.0**power for power in range(first, last) for step in STEPS]
    edges.append(10.0**last)
    low = max((i for i, edge in enumerate(edges) if edge <= min(above)), default=0)
    high = min((i for i, edge in enumerate(edges) if edge >= max(above)), default=len(edges) - 1)
    # One empty bin at each side, so that no mark stands on the border.
    return edges[max(0, low - 1) : high + 2]


def _short(edge: float, unit: str) -> str:
    """The edge of a bin without the zeros at its end.

    >>> _short(0.5, "×"), _short(20, "×"), _short(1_000_000, "answers")
    ('0.5 ×', '20 ×', '1,000,000 answers')
    """
    number, _, rest = words(edge, unit).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {rest}".strip()


def _bins(guesses: Iterable[float], edges: Sequence[float], unit: str) -> list[dict[str, Any]]:
    counts = [0] * (len(edges) - 1)
    for guess in guesses:
        inside = sum(edge <= guess for edge in edges[1:-1])
        counts[inside] += 1
    return [
        {"count": n, "text": f"{_short(low, unit)} to {_short(high, unit)}"}
        for n, low, high in zip(counts, edges, edges[1:], strict=False)
    ]


def estimate(answer: Answer, unit: str) -> Estimate:
    """What a laptop measured, as the kit's estimate; an end that is not known is infinite."""
    assert answer.value is not None
    return Estimate(answer.value, answer.low, answer.high, unit)  # type: ignore[arg-type]


def _groups(question: Question, board: Board, shows: dict[int, Answer]) -> list[dict[str, Any]]:
    """The laptops by processor, the group with the smallest median first."""
    names = {student.number: student.name for student in board.students.values()}

    def processor(item: tuple[int, Answer]) -> str:
        return product(str(item[1].machine.get("processor") or "processor unknown"))

    grouped = [
        (name, sorted(items, key=lambda item: item[1].value or 0.0))
        for name, items in groupby(sorted(shows.items(), key=processor), key=processor)
    ]
    grouped.sort(key=lambda each: -len(each[1]))
    if len(grouped) > GROUPS:
        rest = [item for _, items in grouped[GROUPS - 1 :] for item in items]
        grouped = [*grouped[: GROUPS - 1], ("other processors", rest)]
    grouped.sort(key=lambda each: statistics.median(item[1].value or 0.0 for item in each[1]))
    return [
        {"text": name, "laptops": [_laptop(question, names.get(n, "?"), a) for n, a in items]}
        for name, items in grouped
    ]


def _laptop(question: Question, name: str, answer: Answer) -> dict[str, Any]:
    found = estimate(answer, question.unit)
    exact = answer.low == answer.high == answer.value
    return {
        "name": name,
        "value": answer.value,
        "low": answer.low,
        "high": answer.high,
        "text": words(answer.value, question.unit) if exact else repr(found),
    }


def _differences(question: Question, shows: dict[int, Answer]) -> dict[str, Any]:
    """What goes together with a difference, the largest first; what was tried and shows none."""
    values = [estimate(each, question.unit) for each in shows.values()]
    found = differences(values, [_shortened(each.machine) for each in shows.values()])
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    for each in found:  # the largest of each fact
        if each.carried and not seen & set(each.facts):
            rows.append(
                {"fact": ", ".join(each.facts), "groups": each.groups, "value": repr(each.value)}
            )
            seen |= set(each.facts)
    tried = {fact for each in found for fact in each.facts} - seen
    order = [label for label, _ in FACTS.values() if label in tried]
    return {"rows": rows[:EXPLAINED], "tried": ", ".join(order), "of": len(shows)}


def product(name: str) -> str:
    """The name of a processor without marks and without what all have.

    >>> product("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz")
    'Intel Core i7-8550U'
    """
    plain = re.sub(r"\((R|TM|C)\)|\b(CPU|Processor)\b|@.*|\bwith .*|\b\d+-Core\b", " ", name)
    return " ".join(plain.split()) or name


def _shortened(machine: dict[str, Any]) -> dict[str, Any]:
    named = {name: product(machine[name]) for name in ("processor",) if name in machine}
    return {**machine, **named}


def _said(question: Question, guesses: Sequence[float], shows: dict[int, Answer]) -> str:
    """A sentence: where the guesses lie, and how far apart the laptops are."""
    said = ""
    if guesses:
        said = f"The guess in the middle: {words(statistics.median(guesses), question.unit)}."
    values = sorted((estimate(each, question.unit) for each in shows.values()), key=_value)
    if len(values) == 1:
        said += f" Measured: {values[0]!r}."
    elif values:
        low, high = values[0], values[-1]
        said += (
            f" Measured: {words(low.value, question.unit)} to {words(high.value, question.unit)}."
        )
        said += " " + _ends(low, high)
    return said.strip()


def _ends(low: Estimate, high: Estimate) -> str:
    """What the intervals of the smallest and the largest value allow to say."""
    if not (low.known and high.known):
        return "An interval of the two ends is unknown."
    if low.high < high.low:
        return "The intervals of the two ends do not overlap."
    return "The intervals of the two ends overlap: these laptops may be equal."


def _value(each: Estimate) -> float:
    return each.value
