"""`kit grade`: read a folder, judge what is new, write the gradebook and the feedback."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from kit.classroom.answers import ids_in
from kit.classroom.batch import judge_all
from kit.classroom.cells import code_cells, read_notebook
from kit.classroom.grade_pages import write
from kit.classroom.gradebook import GradeBook, rows_of
from kit.classroom.hand_ins import find_hand_ins, unpack
from kit.classroom.limits import Limits
from kit.core.checks import check_positive
from kit.core.errors import BadValue, UnknownName
from kit.experiments.execution import find_notebook


def grade(
    folder: Path,
    lesson: str,
    out: Path,
    *,
    due: str = "",
    points: Mapping[str, float] | None = None,
    unsafe: bool = False,
    jobs: int | None = None,
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> GradeBook:
    """Grade all hand-ins of a folder or zip, and write the gradebook into the folder `out`.

    Parameters
    ----------
    lesson
        Its number, such as "02", or the path of the notebook that was handed out.
    due
        The deadline as an ISO date, such as "2026-12-04 23:59", in this computer's time zone.
    points
        Exercise -> its points; an exercise that is not named has one. None: answers are counted.
    unsafe
        Run the code also where the system cannot isolate it.
    jobs
        How many hand-ins are graded at a time; None: one for each core.

    Raises
    ------
    BadValue
        The folder does not exist or is empty, the deadline is not a date, or points are not
        numbers above 0.
    UnknownName
        Points were given for an exercise that the lesson does not have.
    NotSupported
        The system cannot isolate other people's code, and `unsafe` is not set.
    """
    notebook = find_notebook(lesson)
    deadline = _moment(due)
    ids = ids_in(code_cells(read_notebook(notebook)), notebook.name[:2])
    worth = _worth(points, ids)
    settings = {"unsafe": unsafe, "jobs": jobs or _cores(), "limits": limits, "say": say}
    with tempfile.TemporaryDirectory(prefix="kit-zip-") as unpacked:
        packed = folder.suffix.lower() == ".zip" and folder.is_file()
        inside = unpack(folder, Path(unpacked)) if packed else folder
        hand_ins = find_hand_ins(inside)
        hidden = (inside.resolve(), out.resolve())
        found = judge_all(hand_ins, notebook, out / ".judged", hidden=hidden, **settings)  # type: ignore[arg-type]
        digests = [each.digest() for each in hand_ins]
    rows = rows_of(hand_ins, found, digests, ids, deadline, notebook.stem)
    rows = [replace(row, worth=worth) for row in rows]
    book = GradeBook(notebook.name[:2], _title(notebook), tuple(rows))
    return write(book, out, notebook)


def _worth(points: Mapping[str, float] | None, ids: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The points of each exercise; nothing if none are given."""
    if not points:
        return ()
    for id, value in points.items():
        if id not in ids:
            raise UnknownName("exercise of this lesson", id, ids)
        check_positive(f"points of {id}", value)
    return tuple((id, float(points.get(id, 1))) for id in ids)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _title(notebook: Path) -> str:
    """The first heading of the lesson, or else its name."""
    for cell in read_notebook(notebook)["cells"]:
        lines = "".join(cell["source"]).splitlines()
        if cell["cell_type"] == "markdown" and lines and lines[0].startswith("# "):
            return lines[0][2:].strip()
    return notebook.stem[3:].replace("-", " ")


def _moment(due: str) -> datetime | None:
    try:
        return datetime.fromisoformat(due) if due else None
    except ValueError:
        raise BadValue(f"--due {due}: needs a date such as 2026-12-04 23:59.") from None
