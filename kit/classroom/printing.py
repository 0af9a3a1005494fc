"""`kit release --pages`: a lesson as one page, to print or to project, with what was measured."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kit.classroom.cells import read_notebook
from kit.core.errors import BadValue, NotInstalled
from kit.course.earlier_lessons import STAMP
from kit.experiments.course_pages import write_page
from kit.experiments.execution import find_notebook
from kit.experiments.outputs import write_text

STYLE = Path(__file__).with_name("printing.css")
PICTURES = "pictures"  # beside the lessons


def write_pages(names: Sequence[str], out: Path) -> list[Path]:
    """Write each lesson as a page with the outputs that are stored in it; their paths.

    A page is one file. It loads nothing and runs no script. Headings, tables and pictures stay in
    one piece on paper.

    Raises
    ------
    UnknownName
        No lesson has that name: the message lists similar ones.
    BadValue
        No lesson is named, or it has no stored outputs.
    NotInstalled
        nbconvert is missing, which the extra `lab` brings.
    """
    if not names:
        raise BadValue("kit release --pages: needs the number of a lesson, such as 02.")
    if not find_spec("nbconvert"):
        raise NotInstalled("a page of a lesson", ["nbconvert"], "lab")
    return [_write(find_notebook(name), out) for name in names]


def _write(lesson: Path, out: Path) -> Path:
    notebook = read_notebook(lesson)
    if not any(cell.get("outputs") for cell in notebook["cells"]):
        raise BadValue(f"{lesson}: it has no outputs. Run it first: kit run {lesson.name}.")
    notebook["cells"].insert(1, _measured_on(notebook))
    with tempfile.TemporaryDirectory(prefix="kit-page-") as folder:
        copy = Path(folder) / lesson.name
        copy.write_text(json.dumps(notebook), encoding="utf-8")
        page = write_page(copy, index="", pictures=lesson.parent / PICTURES)
        text = page.read_text(encoding="utf-8")
    style = STYLE.read_text(encoding="utf-8")
    text = text.replace("</head>", f"<style>\n{style}</style>\n</head>", 1)
    return write_text(out / f"{lesson.stem}.html", text)


def _measured_on(notebook: dict[str, Any]) -> dict[str, Any]:
    """Which computer measured the numbers on the page, and when."""
    stamp = notebook["metadata"].get(STAMP, {})
    where = f"on {stamp['machine']}, on {stamp['date']}" if stamp else "by the one who ran it"
    text = f"*All numbers on this page were measured {where}. Another computer measures others.*"
    return {"cell_type": "markdown", "metadata": {}, "source": text, "id": "measured-on"}
