"""What an exercise is, and the checks that exercises share.

An exercise is a function that takes the answer. It returns a hint, or None if the answer is right.
Its docstring says where to begin; it is shown, folded away, after the second wrong answer. A hint
that gives the formula away is a `LastHint`, which is shown after the third one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
from torch import Tensor

from kit.core.checks import is_number, is_whole
from kit.core.statistics import Estimate


class LastHint(str):
    """A hint that says how the answer is computed: `check` shows it after several wrong answers."""

    __slots__ = ()


class WrongForm(str):
    """A hint about the form of an answer, such as its type. Such an answer is not counted."""

    __slots__ = ()


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
            answer = plain(answer)
            fits, hint = NEEDS[needs] if needs else (lambda _: True, "")
            if not fits(answer):
                return WrongForm(hint.format(answer=answer))
            return check(answer, **measured)

        EXERCISES[id] = check_type_first
        return check

    return register


def plain(answer: Any) -> Any:
    """The answer with Python's own numbers, for what PyTorch, NumPy or the kit give as one number.

    A lesson's values are tensors, arrays and estimates: an answer made of them is not refused. It
    is also done for what a dictionary or a tuple holds, and for what a function returns.

    >>> plain(Tensor([0.5]).sum()), plain({"a": np.float32(0.5)}), plain(lambda: np.int64(2))()
    (0.5, {'a': 0.5}, 2)
    """
    if isinstance(answer, Estimate):
        return answer.value
    if isinstance(answer, (Tensor, np.ndarray, np.generic)):
        return answer.item() if answer.ndim == 0 else answer
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    if type(answer) is tuple:
        return tuple(map(plain, answer))
    if inspect.isfunction(answer):
        return wraps(answer)(lambda *given, **named: plain(answer(*given, **named)))
    return answer


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
    """None for the right number, the hint of a known mistake, or else the general hint, last."""
    if near(given, right, within):
        return None
    known = (said for value, said in mistakes.items() if near(given, value, within))
    return next(known, LastHint(hint))
