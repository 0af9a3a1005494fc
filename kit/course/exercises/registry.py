"""What an exercise is, and the checks that exercises share.

An exercise is a function that takes the answer. It returns a hint, or None if the answer is right.
Its docstring says where to begin; it is shown, folded away, after a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from kit.core.checks import is_number, is_whole
from kit.core.statistics import Estimate

Exercise = Callable[..., str | None]
EXERCISES: dict[str, Exercise] = {}  # by id, in the order of the lessons


# What an exercise may need: the test for it, and the hint for an answer that fails the test.
NEEDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "function": (callable, "Give the function itself, without calling it."),
    "number": (is_number, "Give a number; yours is {answer!r}."),
    "whole number": (is_whole, "Give a whole number; yours is {answer!r}."),
    "share": (
        lambda answer: isinstance(answer, float),
        "Give a share from 0 to 1, as a float; yours is {answer!r}.",
    ),
}


def exercise(id: str, needs: str = "") -> Callable[[Exercise], Exercise]:
    """Register a function as the exercise with this id.

    Parameters
    ----------
    needs
        A key of `NEEDS`: an answer of another type gets that hint, and the function is not called.
    """

    def register(check: Exercise) -> Exercise:
        @wraps(check)
        def check_type_first(answer: Any, **measured: Any) -> str | None:
            if isinstance(answer, Estimate):
                answer = answer.value
            fits, hint = NEEDS[needs] if needs else (lambda _: True, "")
            return check(answer, **measured) if fits(answer) else hint.format(answer=answer)

        EXERCISES[id] = check_type_first
        return check

    return register


def near(given: float, wanted: float, within: float = 0.02) -> bool:
    """Whether a number differs from the wanted one by at most this share of it."""
    return abs(given - wanted) <= within * abs(wanted)


def hint_for_number(
    given: float,
    right: float,
    mistakes: Mapping[int, str] | Mapping[float, str],
    hint: str,
    within: float = 0.02,
) -> str | None:
    """None for the right number, the hint of a known mistake, or else the general hint."""
    if near(given, right, within):
        return None
    return next((said for value, said in mistakes.items() if near(given, value, within)), hint)
