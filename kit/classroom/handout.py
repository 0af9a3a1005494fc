"""What a student gets: a lesson without outputs, with a deadline and marked exercises.

Everything that grading needs stands in the code and the text of the cells. So the notebook may be
opened and saved by any front end, renamed, and put in another order.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kit import __version__
from kit.classroom.answers import ids_in
from kit.classroom.cells import Cell, code_cells
from kit.core.units import plural

HANDOUT = "handout"  # the variable in the first code cell of a student's version
FIELDS = ("course", "lesson", "due", "kit", "student")
ID = re.compile(r"""check\(\s*["']([\w-]+)["']""")
LINK = re.compile(r"\[([^\]]+)\]\(((?:experiments/|\d\d-)[^)\s]*)\)")


@dataclass(frozen=True)
class Handout:
    """What a teacher says about a hand-out."""

    lesson: str
    course: str = ""
    due: str = ""  # as people read it
    released: tuple[str, ...] = ()  # numbers of the lessons that are handed out together


def student_version(notebook: dict[str, Any], handout: Handout) -> dict[str, Any]:
    """The notebook as it is handed out; the given one stays as it is."""
    found = deepcopy(notebook)
    for key in ("kit_recording", "widgets", "papermill"):
        found["metadata"].pop(key, None)
    ids = ids_in(code_cells(found), handout.lesson)
    cells = found["cells"]
    for at, cell in enumerate(cells):
        cell["source"] = _text(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = _without_dead_links(_text(cell), handout.released)
        else:
            cell["outputs"], cell["execution_count"] = [], None
            if match := ID.search(_text(cell)):
                _mark(cells[at - 1], cell, ids.index(match[1]), ids)
    first = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    cells[first:first] = _opening(handout, len(ids), "id" in cells[0])
    return found


def _text(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return "".join(source) if isinstance(source, list) else source


def _without_dead_links(text: str, released: Iterable[str]) -> str:
    """Links to notebooks that are not handed out become their words."""
    return LINK.sub(lambda m: m[0] if m[2][:2] in set(released) else m[1], text)


def _mark(before: dict[str, Any], cell: dict[str, Any], i: int, ids: list[str]) -> None:
    """A heading above the question, and a line in the cell: they stay in every front end."""
    if before["cell_type"] == "markdown":
        text, heading = _text(before), f"### Exercise {i + 1} of {len(ids)}: `{ids[i]}`"
        at = max([0, *(m.end() for m in re.finditer(r"^## Exercises?\n+", text, re.MULTILINE))])
        at = max([at, *(m.start() for m in re.finditer(r"^\*\*", text, re.MULTILINE))])
        before["source"] = f"{text[:at]}{heading}\n\n{text[at:]}"
    note = f"# Your answer to {ids[i]}. The line with kit.check stays."
    cell["source"] = f"{note}\n{_text(cell)}"


def _opening(handout: Handout, n: int, with_ids: bool) -> list[dict[str, Any]]:
    """Who hands in what, and when: a text for people, and a cell of code for the grader."""
    of = f" of **{handout.course}**" if handout.course else ""
    due = f" by **{handout.due}**" if handout.due else ""
    exercises = plural(n, "exercise")
    text = (
        f"## To hand in\n\nThis notebook{of} has {exercises} at its end. Hand it in{due}:\n\n"
        "1. Write your name into the next cell.\n"
        "2. Choose *Restart Kernel and Run All Cells*, and save.\n"
        "3. In a terminal, run `kit validate` with the name of this file. It says what is missing."
        "\n4. Hand in this file, nothing else.\n\n"
        "You may add cells, and try as often as you like. Your answers are run again when they are "
        "graded. Measured times are not graded."
    )
    values = dict(
        course=handout.course, lesson=handout.lesson, due=handout.due, kit=__version__, student=""
    )
    lines = "".join(
        f"    {name}={json.dumps(value, ensure_ascii=False)},\n" for name, value in values.items()
    )
    code = f"{HANDOUT} = dict(  # your name goes between the quotes of the last line\n{lines})"
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": text},
        {
            "cell_type": "code",
            "metadata": {},
            "source": code,
            "outputs": [],
            "execution_count": None,
        },
    ]
    for i, cell in enumerate(cells if with_ids else ()):
        cell["id"] = f"handout-{i}"
    return cells


def read_handout(cells: Sequence[Cell]) -> dict[str, str]:
    """The texts of the cell that the hand-out began with, as the student left them.

    >>> from kit.classroom.cells import parsed
    >>> read_handout([parsed(0, 'handout = dict(course="ML", student="Ada")')])
    {'course': 'ML', 'student': 'Ada'}
    """
    for cell in cells:
        for node in cell.tree.body if cell.tree else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if names == [HANDOUT]:
                    return _texts(node.value.keywords)
    return {}


def _texts(keywords: Sequence[ast.keyword]) -> dict[str, str]:
    found = {}
    for word in keywords:
        if word.arg in FIELDS and isinstance(word.value, ast.Constant):
            found[word.arg] = " ".join(str(word.value.value).split())[:200]
    return found
