"""`kit release --nbgrader`: lessons in the source format of nbgrader, for those who use it.

nbgrader finds cells by their metadata, so students need a front end that keeps it. An exercise
becomes two cells: the answer, whose solution nbgrader takes out, and a test that gives a point.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.classroom.cells import read_notebook
from kit.classroom.handout import ID
from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS, atomic_write
from kit.experiments.execution import find_notebook

SCHEMA = 3  # of nbgrader's metadata
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader takes out what is between them


def release_nbgrader(names: Sequence[str], out: Path) -> list[Path]:
    """Write lessons as assignments: OUT/source/NAME/NAME.ipynb, and nbgrader's configuration.

    Raises
    ------
    UnknownName
        There is no such lesson.
    BadValue
        A lesson has no exercise, or no solution.
    """
    written = []
    for path in map(find_notebook, names):
        notebook = source_version(read_notebook(path), solutions(path.name[:2]))
        target = out / "source" / path.stem / path.name
        with atomic_write(target) as draft:
            draft.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
        written.append(target)
    configuration = out / "nbgrader_config.py"
    if not configuration.exists():
        with atomic_write(configuration) as draft:
            draft.write_text(CONFIGURATION, encoding="utf-8")
    return written


CONFIGURATION = """c = get_config()  # noqa: F821  (nbgrader reads this file)
c.CourseDirectory.course_id = "course"
c.ExecutePreprocessor.timeout = 300  # seconds for a cell: lessons measure
c.ClearSolutions.code_stub = {"python": "# Write your answer here."}
"""


def solutions(number: str, folder: Path = NOTEBOOKS / "solutions") -> dict[str, str]:
    """The solution of each exercise of a lesson, by id, as code.

    >>> list(solutions("02"))
    ['02-account', '02-mlp-flops']
    """
    path = folder / f"{number}.py"
    if not path.is_file():
        raise BadValue(f"lesson {number}: has no solutions in {folder}; nbgrader needs them.")
    text = path.read_text(encoding="utf-8")
    parts = re.split(r"^# %% (\S+)\n", text, flags=re.MULTILINE)[1:]
    return {id: code.strip() for id, code in zip(parts[::2], parts[1::2], strict=True)}


def source_version(notebook: dict[str, Any], solved: dict[str, str]) -> dict[str, Any]:
    """The notebook with nbgrader's cells in place of its exercises.

    Raises
    ------
    BadValue
        It has no exercise, or one without a solution.
    """
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        match = ID.search(source) if cell["cell_type"] == "code" else None
        if match and match[1] not in solved:
            raise BadValue(f"{match[1]}: has no solution, and nbgrader needs one.")
        cells += _exercise(match[1], solved[match[1]], source) if match else [_plain(cell)]
    if len(cells) == len(notebook["cells"]):
        raise BadValue("the notebook has no kit.check, so nothing in it can be graded.")
    given = notebook["metadata"]
    metadata = {key: given[key] for key in ("kernelspec", "language_info") if given.get(key)}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _plain(cell: dict[str, Any]) -> dict[str, Any]:
    return _code(cell["source"], cell["metadata"], cell) if cell["cell_type"] == "code" else cell


def _code(source: Any, metadata: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    given = {"cell_type": "code", "source": source, "metadata": metadata}
    return {**more, **given, "outputs": [], "execution_count": None}


def _exercise(id: str, solution: str, source: str) -> list[dict[str, Any]]:
    """The cell for the answer, and the cell with its test."""
    answer, call = _without_check(solution)
    stub = _without_check(source)[0]
    name = call.split(",")[1].strip(" )")
    first = f"# Your answer to {id}, under the name {name}"
    hidden = "\n".join([first, stub, BEGIN, answer, END])
    test = f"checked = {call}\nassert checked, checked.hint"
    marks = {"grade": True, "locked": True, "points": 1}
    both: list[tuple[str, dict[str, Any]]] = [(hidden, {"solution": True}), (test, marks)]
    return [
        _code(text, {"nbgrader": _metadata(f"{id}-{kind}", **given)}, {"id": f"{id}-{kind}"})
        for kind, (text, given) in zip(("answer", "test"), both, strict=True)
    ]


def _metadata(grade_id: str, **marks: Any) -> dict[str, Any]:
    plain = {"grade": False, "locked": False, "solution": False, "task": False}
    return {"grade_id": grade_id, "schema_version": SCHEMA, **plain, **marks}


def _without_check(code: str) -> tuple[str, str]:
    """The code without its call of `kit.check`, and that call."""
    last = ast.parse(code).body[-1]
    call = ast.get_source_segment(code, last) or ""
    lines = code.splitlines()
    del lines[last.lineno - 1 : last.end_lineno]
    return "\n".join(lines).strip(), " ".join(call.split())
