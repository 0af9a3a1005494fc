"""Check a notebook before it is handed in, as the grader will: `kit validate`."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.classroom.batch import WarmProcess
from kit.classroom.cells import Unreadable, code_cells, read_notebook
from kit.classroom.handout import ID, read_handout
from kit.classroom.limits import Limits
from kit.core.errors import BadValue, NotSupported
from kit.experiments.execution import lessons

SAID = {
    "right": "right.",
    "wrong": "not yet.",
    "no answer": "no answer yet.",
    "failed": "cannot be run:",
    "look": "an answer, which your teacher will look at:",
}


@dataclass(frozen=True)
class Validation:
    """What a grader will find in a notebook."""

    lesson: str
    exercises: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]  # what to do before it is handed in

    @property
    def ready(self) -> bool:
        """Whether each exercise has an answer that can be run."""
        states = [each["state"] for each in self.exercises]
        return bool(states) and not {"no answer", "failed"} & set(states)

    def __repr__(self) -> str:
        lines = [f"{e['id']}: {SAID[e['state']]} {e['reason']}".strip() for e in self.exercises]
        end = "Ready to hand in." if self.ready else "Not ready to hand in."
        return "\n".join([*lines, *(f"To do: {each}" for each in self.problems), end])


def validate(path: Path) -> Validation:
    """What a grader will find in a student's notebook.

    Raises
    ------
    BadValue
        The file is not a notebook, or it has no exercise of the course.
    NotSupported
        This system has no processes that can be copied: grading there needs another computer.
    """
    try:
        cells = code_cells(read_notebook(path))
    except Unreadable as error:
        raise BadValue(f"{path}: {error}. Hand in a saved notebook, a file .ipynb.") from error
    handout = read_handout(cells)
    numbers = [id[:2] for cell in cells for id in ID.findall(cell.source)]
    lesson = handout.get("lesson") or max(sorted(set(numbers)), key=numbers.count, default="")
    own = [each for each in lessons() if each.name[:2] == lesson]
    if not own or not re.fullmatch(r"\d\d", lesson):
        raise BadValue(f"{path}: no kit.check of a lesson is in it. Hand in the lesson's notebook.")
    found = _judged(path, own[0])
    if found["problem"]:
        raise BadValue(f"{path} cannot be graded: {found['problem']}.")
    return Validation(lesson, tuple(found["exercises"]), tuple(_problems(handout, found)))


def _judged(path: Path, lesson: Path) -> dict[str, Any]:
    """It is the student's own code, on the student's own computer: limits are enough."""
    if not hasattr(os, "fork"):
        raise NotSupported("This system cannot copy a process: use Linux, macOS or WSL.")
    settings = {"lesson": lesson.name[:2], "notebook": str(lesson), "unsafe": True, "hidden": []}
    process = WarmProcess({**settings, "limits": asdict(Limits())})
    try:
        return process.grade(path)
    finally:
        process.close()


def _problems(handout: dict[str, str], found: dict[str, Any]) -> list[str]:
    problems = []
    if handout and not handout.get("student"):
        problems.append("write your name into the cell that begins with handout = dict(…).")
    if not found["ran"]:
        problems.append("run all cells and save: no cell of the file has run.")
    return problems
