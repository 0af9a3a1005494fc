"""Write a gradebook: tables for other programs, a page for the teacher, a page for each student."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from kit.classroom.cells import read_notebook
from kit.classroom.gradebook import GRADED, REPLACED, GradeBook, Row
from kit.classroom.handout import ID
from kit.core.files import atomic_write
from kit.core.units import words
from kit.experiments.page_templates import document
from kit.experiments.report import without_formulas

MARKS = {"right": "✔", "wrong": "✎", "no answer": "–", "failed": "✕", "look": "?"}
SAID = {
    "right": "right",
    "wrong": "not right yet",
    "no answer": "no answer",
    "failed": "could not be run",
    "look": "your teacher will look at it",
}


def write(book: GradeBook, out: Path, notebook: Path) -> GradeBook:
    """Write all files into the folder; the book with their paths."""
    import pandas as pd

    table = pd.DataFrame([row.to_dict() for row in book.rows])
    table = table.astype({"right": "Int64", "share": "Float64", "late_h": "Float64"})
    csv, parquet, page = (out / f"gradebook.{kind}" for kind in ("csv", "parquet", "html"))
    with atomic_write(csv) as draft:
        # With the mark at its beginning, spreadsheets read ü and é.
        without_formulas(table.convert_dtypes()).to_csv(draft, index=False, encoding="utf-8-sig")
    with atomic_write(parquet) as draft:
        table.to_parquet(draft, index=False)
    counting = [row for row in book.rows if row.status != REPLACED]
    links = _links(counting)
    questions = _questions(notebook)
    for row in counting:
        feedback = document("feedback", row=row, book=book, **_feedback(row, book, questions))
        _write_if_new(out / links[row.student], feedback)
    _write_if_new(page, document("gradebook", book=book, **_overview(book, links)))
    return replace(book, paths=(csv, parquet, page, out / "feedback"))


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_write(path) as draft:
            draft.write_text(text, encoding="utf-8")


def _links(rows: list[Row]) -> dict[str, str]:
    """Student -> the page of feedback, below the folder: a name that any system can store."""
    found = {}
    for row in rows:
        plain = re.sub(r"[^\w-]+", "-", row.student, flags=re.ASCII).strip("-")[:60]
        unique = plain == row.student or sha256(row.student.encode()).hexdigest()[:8]
        name = plain if unique is True else f"{plain}-{unique}".strip("-")
        found[row.student] = f"feedback/{name}.html"
    return found


def _overview(book: GradeBook, links: dict[str, str]) -> dict[str, Any]:
    """What the teacher's page shows beside the rows."""
    graded = [row for row in book.rows if row.status == GRADED]
    ids = list(dict.fromkeys(each["id"] for row in graded for each in row.exercises))
    counts = [
        (id, Counter(e["state"] for row in graded for e in row.exercises if e["id"] == id))
        for id in ids
    ]
    hints = Counter(
        (each["id"], each["reason"])
        for row in graded
        for each in row.exercises
        if each["state"] == "wrong"
    )
    shares = [row.share for row in graded if row.share is not None]
    return {
        "title": f"Gradebook of lesson {book.lesson}",
        "ids": ids,
        "counts": [(id, count, len(graded)) for id, count in counts],
        "hints": hints.most_common(10),
        "median": words(statistics.median(shares), "%") if shares else "",
        "links": links,
        "marks": MARKS,
        "states": list(MARKS),
        "replaced": REPLACED,
        "late": sum(bool(row.late_h) for row in graded),
        "looks": sum(bool(row.look) for row in book.rows),
    }


def _questions(notebook: Path) -> dict[str, str]:
    """Exercise -> its question, as plain text."""
    cells = read_notebook(notebook)["cells"]
    found, text = {}, ""
    for cell in cells:
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = source
        elif match := ID.search(source):
            asked = re.split(r"^(?:## Exercises?\n+|(?=\*\*))", text, flags=re.MULTILINE)[-1]
            found[match[1]] = _plain(asked)
    return found


def _plain(markdown: str) -> str:
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    text = re.sub(r'\[([^\]]+)\]\([^")]*(?:"[^"]*")?\)', r"\1", text)
    return re.sub(r"\*\*|`", "", text).strip()


def _feedback(row: Row, book: GradeBook, questions: dict[str, str]) -> dict[str, Any]:
    exercises = [
        {**each, "mark": MARKS[each["state"]], "said": SAID[each["state"]]}
        for each in row.exercises
    ]
    return {
        "title": f"Feedback on lesson {book.lesson}: {row.student}",
        "exercises": exercises,
        "questions": questions,
        "graded": row.status == GRADED,
    }
