"""The process that grades one hand-in after the other; `kit grade` starts one for each core.

It imports PyTorch and the kit once. It runs the lesson's own cells once, if an answer needs them.
Then it forks itself for each hand-in: a fork takes milliseconds, an import takes seconds. A hand-in
that breaks its fork breaks nothing else.

    kit grade ── a line of JSON ──> this process ── fork ──> judge ── fork ──> the student's code
              <── a line of JSON ──                 <── row ──       <── value ──
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import kit.experiments.records
import kit.training
import kit.workloads  # noqa: F401
from kit.classroom.answers import HOOK, asks, hooked, lesson_code, needs
from kit.classroom.cells import code_cells, read_notebook
from kit.classroom.isolation import why_not
from kit.classroom.judging import LessonNames, Need, Notebook, judge
from kit.classroom.limits import Limits, end_all_children, read_in_time
from kit.classroom.student_process import Room
from kit.course.exercises import checked_answer

LESSON_S = 300  # for the lesson's own cells
CHECK_S = 60  # for the checks of one hand-in, beside its code
ROW_BYTES = 2_000_000
SUBREAPER = 36  # prctl(2): what a judge leaves behind becomes a child of this process


def main() -> None:
    """Read settings, then paths of hand-ins, a line each; write a line of JSON for each."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what cells print goes elsewhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    settings = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory(prefix="kit-grade-") as place:
        reason = "" if settings["unsafe"] else why_not(Path(place))
        answers.write(json.dumps({"not_isolated": reason}) + "\n")
        answers.flush()
        limits = Limits(**settings["limits"])
        hidden = tuple(map(Path, settings["hidden"]))
        room = Room(limits, Path(place), not settings["unsafe"], hidden)
        lesson = LessonNames(
            settings["lesson"], code_cells(read_notebook(Path(settings["notebook"])))
        )
        for id in lesson.ids:  # what a check imports, it imports here
            checked_answer(id, lambda *_, **__: None, 1)
        for line in sys.stdin:
            answers.write(json.dumps(grade_one(Path(json.loads(line)), lesson, room)) + "\n")
            answers.flush()


def grade_one(path: Path, lesson: LessonNames, room: Room) -> dict[str, Any]:
    """The row of one hand-in; runs the lesson's own code first, if an answer needs it."""
    most_s = CHECK_S + 2 * room.limits.seconds_s * max(1, len(lesson.ids))
    for _ in range(3):  # what is needed may need more
        found = _in_a_fork(lambda: _row(path, lesson, room), most_s)
        if "needs" not in found:
            return found
        for id, names in found["needs"]:
            _make(Need(id, frozenset(names)), lesson)
    return Notebook(problem="the lesson's own code could not be run for it").to_dict()


def _row(path: Path, lesson: LessonNames, room: Room) -> dict[str, Any]:
    found = judge(path, lesson, room)
    if isinstance(found, Notebook):
        return found.to_dict()
    return {"needs": [[need.id, sorted(need.names)] for need in found]}


def _in_a_fork(work: Callable[[], dict[str, Any]], most_s: float) -> dict[str, Any]:
    """What `work` returns in a fork of this process; a reason if the fork ends or is slow.

    A fork that ended early may have been killed by another program, so there is a second one.
    """
    for _ in range(2):
        if (found := _heard_from_a_fork(work, most_s)) is None:
            break
        with suppress(ValueError, TypeError):
            return dict(json.loads(found))
    late = "grading it took too long" if found is None else "grading it ended early"
    return Notebook(problem=f"{late}: its code, or its size, broke the process").to_dict()


def _heard_from_a_fork(work: Callable[[], dict[str, Any]], most_s: float) -> bytes | None:
    """The JSON of what `work` returns in a fork; less if it ends before; None if it is slow."""
    reading, writing = os.pipe()
    judge = os.fork()
    if judge == 0:
        try:
            os.close(reading)
            data = json.dumps(work()).encode()
            with os.fdopen(writing, "wb") as file:
                file.write(data)
        finally:
            os._exit(0)
    os.close(writing)
    found = _read_all(reading, most_s)
    os.close(reading)
    with suppress(ProcessLookupError):
        os.kill(judge, signal.SIGKILL)
    end_all_children()
    with suppress(ChildProcessError):
        os.waitpid(judge, 0)
    return found


def _read_all(reading: int, left_s: float) -> bytes | None:
    """All bytes of a pipe up to its end; None if it takes too long."""
    parts: list[bytes] = []
    while sum(map(len, parts)) < ROW_BYTES:
        part, left_s = read_in_time(reading, left_s)
        if part is None:
            return None
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


# --- The lesson's own code -----------------------------------------------------------------------


def _make(need: Need, lesson: LessonNames) -> None:
    """Run those of the lesson's cells that make the names, and the values of an exercise's check.

    Both are of one run: another run measures other values, and a right answer would be wrong.
    """
    cell = next(cell for cell in lesson.cells if asks(need.id, cell))
    made: dict[str, Any] | str
    values: dict[str, Any] | str
    try:
        check = hooked(need.id, cell) if lesson.asks_for_values(need.id) else ast.Module([], [])
        made, values = _run(need.names | frozenset(needs(check)), lesson, cell.index), {}
        own = {**made, HOOK: lambda answer, **named: values.update(named)}
        exec(compile(check, "<lesson>", "exec"), own)
    except Exception as error:
        made = values = f"{type(error).__name__}: {error}"[:300]
    if need.names:
        lesson.made[need] = made
    lesson.measured[need] = values


def _run(names: frozenset[str], lesson: LessonNames, end: int) -> dict[str, Any]:
    """All names after the lesson's cells before `end` that make these have run."""
    found: dict[str, Any] = {"__name__": "__main__", "display": lambda *_, **__: None}

    def too_long(*_: object) -> None:
        raise TimeoutError(f"the lesson's cells take longer than {LESSON_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LESSON_S)
    try:
        for cell in lesson_code(names, lesson.cells[:end]):
            assert cell.tree is not None
            exec(compile(cell.tree, f"<lesson, code cell {cell.index + 1}>", "exec"), found)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return found


if __name__ == "__main__":
    main()
