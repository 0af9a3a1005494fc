"""Exercises: each one runs or tests the answer and, if it is wrong, names the likely mistake.

To add an exercise, write a function in the lesson's file and register it with `@exercise(id)`.
The function takes the answer and returns a hint, or None if the answer is right. Put its solution
into `notebooks/solutions/`; the tests try the stub and the solution.
"""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

from kit.core.errors import UnknownName
from kit.course.exercises.registry import EXERCISES, LastHint, WrongForm

for module in iter_modules(__path__):  # importing a lesson's file registers its exercises
    import_module(f"kit.course.exercises.{module.name}")

WRONG_ANSWERS: Counter[str] = Counter()  # by exercise, in this session, since it was right
BEGIN_AFTER, FORMULA_AFTER = 2, 3  # wrong answers until each of these is shown
NUDGE = "Check the units, and what is counted. The next hint says where to begin."
NO_ANSWER = "Replace None with your answer and run this cell again. If it is wrong, you get a hint."


@dataclass(frozen=True)
class Checked:
    """Whether an answer is right, and a hint if it is not. It is true if the answer is right."""

    id: str
    right: bool
    hint: str = ""
    tried: bool = True  # False: there is no answer yet
    first_step: str = ""  # where to begin; folded away
    counted: bool = True  # False: it had the wrong form, so the next hint stays the same

    def __bool__(self) -> bool:
        return self.right

    @property
    def _state(self) -> tuple[str, str, str]:
        if not self.tried:
            return "#888888", "…", "no answer yet."
        return ("#009E73", "✔", "right.") if self.right else ("#D55E00", "✎", "not yet.")

    def __repr__(self) -> str:
        return f"{self.id}: {self._state[2]} {self.hint}".rstrip()

    def _repr_html_(self) -> str:
        colour, mark, state = self._state
        more = f"<details><summary>Where to begin</summary>{html.escape(self.first_step)}</details>"
        return (
            f'<div style="border-left:4px solid {colour};padding:.3em .8em;max-width:46em">'
            f"<b>{mark} {state.capitalize()}</b> {html.escape(self.hint)} "
            f"<small>({self.id})</small>{more if self.first_step else ''}</div>"
        )


def check(id: str, answer: Any, **measured: Any) -> Checked:
    """Check the answer to an exercise; a wrong answer gets a hint, and a repeated one more.

    Before the first try (None) there is no hint. The first hint names the likely mistake; if the
    mistake is unknown, it says what to look at. The second one says where to begin, and the third
    one how the answer is computed. An answer of another type is not counted.

    If the right answer depends on what the lesson measured, pass those values by name.

    Returns
    -------
    Checked
        It is true if the answer is right: `assert kit.check(…)` fails for a wrong answer.

    >>> check("02-mlp-flops", 3)
    02-mlp-flops: not yet. Give the function itself, without calling it.
    """
    checked = checked_answer(id, answer, WRONG_ANSWERS[id] + 1, **measured)
    if checked.right:
        WRONG_ANSWERS.pop(id, None)
    elif checked.counted:
        WRONG_ANSWERS[id] += 1
    return checked


def checked_answer(id: str, answer: Any, tries: int, /, **measured: Any) -> Checked:
    """Check an answer as the one of this number, and count nothing.

    Raises
    ------
    UnknownName
        There is no such exercise: the message lists similar ids.
    """
    if id not in EXERCISES:
        raise UnknownName("exercise", id, EXERCISES)
    if answer is None or answer is ...:
        return Checked(id, False, NO_ANSWER, tried=False, counted=False)
    try:
        with torch.random.fork_rng():  # the check must not change the lesson's random numbers
            hint = EXERCISES[id](answer, **measured)
    except Exception as error:  # an answer can be any code
        hint = f"It raised {type(error).__name__}: {error}"
    if hint is None:
        return Checked(id, True)
    if isinstance(hint, WrongForm):
        return Checked(id, False, hint, counted=False)
    if isinstance(hint, LastHint) and tries < FORMULA_AFTER:
        hint = NUDGE if tries < BEGIN_AFTER else "Look below: where to begin."
    begin = (EXERCISES[id].__doc__ or "").strip() if tries >= BEGIN_AFTER else ""
    return Checked(id, False, hint, first_step=begin)
