"""The questions of the lessons: what a class guesses before it measures.

They are read from the lessons' own cells, `kit.guess(…)` and `kit.guess_order(…)`, and from the
text that each cell shows. Numbers in a question differ from computer to computer ("16,000
examples"), so a laptop finds the same question by its other words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.classroom.cells import read_notebook
from kit.course.joining import wording
from kit.course.panels import FOR_READERS

SHOWN = re.compile(rf"(.+?[?.]) {re.escape(FOR_READERS.capitalize())}: ", re.DOTALL)
GUESSES = {"guess": 3, "guess_order": -1}  # function -> which argument is the unit


@dataclass(frozen=True)
class Question:
    """A question that a class answers, by guess and by measurement."""

    id: str  # "02-1": the first one of lesson 02
    text: str
    unit: str = ""
    choices: tuple[str, ...] = ()  # of an order: the answer is which of them comes first

    @property
    def lesson(self) -> str:
        """The number of its lesson."""
        return self.id[:2]

    def for_students(self) -> dict[str, Any]:
        """What a laptop needs to find its own question again."""
        return {"id": self.id, "wording": wording(self.text), "choices": len(self.choices)}

    def to_dict(self) -> dict[str, Any]:
        """For the records."""
        return {**asdict(self), "choices": list(self.choices)}


def questions_of(notebooks: Sequence[Path]) -> list[Question]:
    """All questions of these lessons, in their order.

    >>> from kit.experiments import find_notebook
    >>> [(each.id, each.unit) for each in questions_of([find_notebook("02")])]
    [('02-1', '×'), ('02-2', '×')]
    """
    return [each for path in notebooks for each in _of_lesson(path)]


def _of_lesson(path: Path) -> Iterator[Question]:
    number = 0
    for cell in read_notebook(path)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "kit.guess" not in source:
            continue
        for call in _calls(source):
            if text := _text(cell.get("outputs", [])):
                number += 1
                yield Question(f"{path.name[:2]}-{number}", text, *_unit_and_choices(call))


def _calls(source: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in GUESSES]


def _text(outputs: Iterable[dict[str, Any]]) -> str:
    """The question as the lesson shows it, with the numbers of the computer that recorded it."""
    shown = ("".join(out.get("data", {}).get("text/plain", "")) for out in outputs)
    return next((match[1] for text in shown if (match := SHOWN.match(text))), "")


def _unit_and_choices(call: ast.Call) -> tuple[str, tuple[str, ...]]:
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "guess_order":
        return "", tuple(ast.literal_eval(call.args[0]))
    named = [word.value for word in call.keywords if word.arg == "unit"]
    given = named or call.args[GUESSES["guess"] :][:1]
    return (str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""), ()
