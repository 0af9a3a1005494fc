"""One notebook of a student becomes one row: what its answers are, and which of them are right.

The judge reads the notebook as data, lets its code run in a process of its own, and checks the
values that come back with the exercise's checker, here. Nothing that the notebook says about itself
(its outputs, its own `kit.check`) decides anything.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kit.classroom.answers import Code, asks, find_code, ids_in
from kit.classroom.cells import Cell, Unreadable, code_cells, read_notebook
from kit.classroom.handout import read_handout
from kit.classroom.messages import Ended
from kit.classroom.student_process import ENDED_ITSELF, Room, StudentProcess
from kit.core.results import RECORD
from kit.course.exercises import checked_answer
from kit.experiments.untrusted_notebooks import safe_line

RIGHT, WRONG, NO_ANSWER, FAILED, LOOK = "right", "wrong", "no answer", "failed", "look"
HINT_STEP = 2  # feedback says where to begin, and never gives the formula
TIMES = 300  # measured times that are compared with those of others
DIGITS = 6  # significant digits from which two machines do not agree by chance
FOREIGN = "it has none of the lesson's exercises: another notebook?"


@dataclass(frozen=True)
class Judged:
    """What was found about one exercise."""

    id: str
    state: str
    reason: str = ""  # a hint, or why it could not be judged
    first_step: str = ""
    answer: str = ""  # shown to its author
    same: str = ""  # the same for the same wrong answer


@dataclass(frozen=True)
class Notebook:
    """What was found in one file."""

    exercises: list[Judged] = field(default_factory=list)
    problem: str = ""  # why nothing could be judged
    handout: dict[str, str] = field(default_factory=dict)
    cells: int = 0
    ran: int = 0  # cells with an execution count
    times: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Need:
    """What the lesson's own code has to make first."""

    id: str
    names: frozenset[str]


class LessonNames:
    """What the grader's own run of the lesson made: filled by `warm_process`, read here."""

    def __init__(self, lesson: str, cells: Sequence[Cell]) -> None:
        self.lesson, self.cells = lesson, list(cells)
        self.ids = ids_in(cells, lesson)
        self.made: dict[Need, dict[str, Any] | str] = {}  # names, or why there are none
        # Named values of a check, from the same run as the names: a second run measures others.
        self.measured: dict[Need, dict[str, Any] | str] = {}

    def asks_for_values(self, id: str) -> bool:
        """Whether the right answer depends on what the lesson measured."""
        trees = [cell.tree for cell in self.cells if cell.tree and asks(id, cell)]
        calls = (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call))
        return any(call.keywords for call in calls if _first(call) == id)


def _first(call: ast.Call) -> Any:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) else None


def judge(path: Path, lesson: LessonNames, room: Room) -> Notebook | list[Need]:
    """Judge the notebook in a file; or what the lesson has to make before it can be judged."""
    try:
        notebook = read_notebook(path)
        cells = code_cells(notebook)
    except Unreadable as error:
        return Notebook(problem=safe_line(str(error), "reason"))
    found = dict(
        handout=read_handout(cells), cells=len(cells), ran=_ran(notebook), times=_times(notebook)
    )
    plans = {id: find_code(id, cells, lesson.cells) for id in lesson.ids}
    if not any(plans.values()):
        seemed = next((cell.error for cell in cells if cell.tree is None), "")
        reason = f"no exercise can be found; {seemed}" if seemed else FOREIGN
        return Notebook(problem="it has no code" if not cells else reason, **found)  # type: ignore[arg-type]
    if needs := list(_needs(plans, lesson)):
        return needs
    judged = [_judge_exercise(id, plans[id], cells, lesson, room) for id in lesson.ids]
    return Notebook(judged, **found)  # type: ignore[arg-type]


def _needs(plans: dict[str, list[Code]], lesson: LessonNames) -> Iterator[Need]:
    """What the lesson has not made yet: names, with the values for the check, or these alone."""
    for id, codes in plans.items():
        for code in codes:
            need = Need(id, code.from_lesson)
            if code.from_lesson and not code.untouched and need not in lesson.made:
                yield need
        alone = any(not code.untouched and not code.from_lesson for code in codes)
        need = Need(id, frozenset())
        if alone and lesson.asks_for_values(id) and need not in lesson.measured:
            yield need


def _judge_exercise(
    id: str, codes: list[Code], cells: Sequence[Cell], lesson: LessonNames, room: Room
) -> Judged:
    """The last call for the exercise that has an answer counts."""
    if not codes:
        return Judged(id, NO_ANSWER, _missing(id, cells))
    first: Judged | None = None
    for code in codes:
        judged = Judged(id, NO_ANSWER) if code.untouched else _judge_code(id, code, lesson, room)
        if judged.state in (RIGHT, WRONG, LOOK):
            return judged
        first = first if first and first.state == FAILED else judged
    assert first is not None
    return first


def _missing(id: str, cells: Sequence[Cell]) -> str:
    for cell in cells:
        if cell.tree is None and id in cell.source:
            return f"its cell cannot be read: {safe_line(cell.error, 'error')}"
    return "its call of kit.check is missing"


def _judge_code(id: str, code: Code, lesson: LessonNames, room: Room) -> Judged:
    if code.problem:
        return Judged(id, FAILED, safe_line(code.problem, "problem"))
    names = lesson.made[Need(id, code.from_lesson)] if code.from_lesson else {}
    values = lesson.measured.get(Need(id, code.from_lesson), {})
    for made in (names, values):
        if isinstance(made, str):
            return Judged(id, LOOK, f"the lesson could not be run here: {made}")
    assert isinstance(names, dict) and isinstance(values, dict)
    judged = _run_and_check(id, code, names, values, room)
    if judged == Judged(id, FAILED, ENDED_ITSELF):  # or another program ended it, which is rare
        judged = _run_and_check(id, code, names, values, room)
    return judged


def _run_and_check(
    id: str, code: Code, names: dict[str, Any], values: dict[str, Any], room: Room
) -> Judged:
    process = StudentProcess(code.cells, names, room)
    try:
        kind, answer = process.peer.receive()
        if kind != "answer":
            return Judged(id, FAILED, safe_line(str(answer), "error"))
        judged = _checked(id, answer, values, code)
        process.peer.watch()
        return judged
    except Ended as error:
        return Judged(id, FAILED, process.why(error))
    finally:
        process.end()


def _checked(id: str, answer: Any, values: dict[str, Any], code: Code) -> Judged:
    """The verdict on an answer that has arrived; `Ended` if its code ends meanwhile."""
    ended: list[Ended] = []

    def guarded(*given: Any, **named: Any) -> Any:
        try:
            return answer(*given, **named)
        except Ended as error:  # the check takes every error for one of the answer
            ended.append(error)
            raise

    checked = checked_answer(id, guarded if callable(answer) else answer, HINT_STEP, **values)
    if ended:
        raise ended[0]
    if not checked.tried:
        return Judged(id, NO_ANSWER)
    shown = "a function" if callable(answer) else safe_line(f"{answer!r:.200}", "answer")
    if checked.right:
        return Judged(id, RIGHT, answer=shown)
    if values and not code.from_lesson:
        return Judged(id, LOOK, MEASURED_THERE, answer=shown)
    hint = safe_line(checked.hint, "hint")
    return Judged(id, WRONG, hint, checked.first_step, shown, _same(answer, code))


MEASURED_THERE = (
    "the right answer depends on what the student's machine measured, and this one measures "
    "something else: look at the notebook"
)


def _same(answer: Any, code: Code) -> str:
    """A digest of a wrong answer; empty for one that many people would give by themselves."""
    if callable(answer):
        return _digest("".join(ast.dump(tree) for _, tree in code.cells))
    text = repr(answer)
    plain = isinstance(answer, (int, float, str, bool)) or len(text) < 12
    rare = plain and len(re.sub(r"e[+-]\d+$|\D", "", text).strip("0")) >= DIGITS
    return _digest(text) if rare or not plain else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


# --- What the outputs say, for hints only --------------------------------------------------------


def _ran(notebook: dict[str, Any]) -> int:
    cells = [cell for cell in notebook["cells"] if isinstance(cell, dict)]
    return sum(bool(cell.get("execution_count") or cell.get("prompt_number")) for cell in cells)


def _times(notebook: dict[str, Any]) -> list[str]:
    """Digests of measured seconds in the stored records, those with many digits."""
    cells = (cell.get("outputs") for cell in notebook["cells"] if isinstance(cell, dict))
    outputs = (out for each in cells if isinstance(each, list) for out in each)
    datas = (out.get("data") for out in outputs if isinstance(out, dict))
    records = (data[RECORD] for data in datas if isinstance(data, dict) and RECORD in data)
    found: dict[str, None] = {}
    for record in records:
        for seconds in _seconds(record, False, 12):
            if len(found) == TIMES:
                return list(found)
            found[_digest(repr(seconds))] = None
    return list(found)


def _seconds(value: Any, timed: bool, depth: int) -> Iterator[float]:
    if isinstance(value, float) and timed and math.isfinite(value):
        if len(re.sub(r"e[+-]\d+$|\D", "", repr(value)).strip("0")) >= DIGITS:
            yield value
    elif isinstance(value, dict) and depth:
        for key, each in value.items():
            yield from _seconds(each, timed or str(key).endswith("_s"), depth - 1)
    elif isinstance(value, list) and depth:
        for each in value:
            yield from _seconds(each, timed, depth - 1)
