"""Exercises: each checks an answer for real and, if it is not right yet, names the likely mistake.

To add an exercise: a function in the lesson's file that takes the answer and returns a hint, or
None when the answer is right, and its id in that file's `EXERCISES`. Its docstring is the hint
for the empty stub. Its solution goes to `notebooks/solutions/`; the tests try stub and solution.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kit.core.errors import UnknownName
from kit.course.exercises import (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_10,
)

EXERCISES: dict[str, Callable[..., str | None]] = {
    **lesson_00.EXERCISES,
    **lesson_01.EXERCISES,
    **lesson_02.EXERCISES,
    **lesson_03.EXERCISES,
    **lesson_04.EXERCISES,
    **lesson_05.EXERCISES,
    **lesson_06.EXERCISES,
    **lesson_07.EXERCISES,
    **lesson_08.EXERCISES,
    **lesson_09.EXERCISES,
    **lesson_10.EXERCISES,
}


@dataclass(frozen=True)
class Checked:
    """Whether an answer is right, and a hint if it is not."""

    id: str
    right: bool
    hint: str = ""

    def __repr__(self) -> str:
        return f"{self.id}: right." if self.right else f"{self.id}: not yet. {self.hint}"

    def _repr_html_(self) -> str:
        colour, mark = ("#009E73", "✔ Right.") if self.right else ("#D55E00", "✎ Not yet.")
        return (
            f'<div style="border-left:4px solid {colour};padding:.3em .8em;max-width:46em">'
            f"<b>{mark}</b> {html.escape(self.hint)} <small>({self.id})</small></div>"
        )


def check(id: str, answer: Any, **measured: Any) -> Checked:
    """Whether the answer to an exercise is right; if not, a hint that names the likely mistake.

    Where the right answer depends on what was measured, that is given by name.

    >>> check("00-flops", 64 * 128 * 10)
    00-flops: not yet. That counts the multiplications. Each comes with an addition.
    """
    if id not in EXERCISES:
        raise UnknownName("exercise", id, EXERCISES)
    if answer is None or answer is ...:
        return Checked(id, False, (EXERCISES[id].__doc__ or "").strip())
    try:
        with torch.random.fork_rng():  # checking changes nothing that comes after it
            hint = EXERCISES[id](answer, **measured)
    except Exception as error:  # an answer may be any code at all
        return Checked(id, False, f"It raised {type(error).__name__}: {error}")
    return Checked(id, hint is None, hint or "")
