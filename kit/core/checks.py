"""Checks of arguments: each returns the value, or an error that says what is needed instead.

NumPy's numbers are accepted, because people read sizes and rates out of arrays. They are returned
as Python's numbers, which can be written as JSON. True and False are not numbers here.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, TypeGuard

from kit.core.errors import BadValue


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether the value is a whole number, Python's or NumPy's, and not True or False."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a real number, Python's or NumPy's, and not True or False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_whole(
    name: str, value: Any, low: float = 1, high: float = math.inf, hint: str = ""
) -> int:
    """The value, if it is a whole number from `low` to `high`.

    >>> check_whole("steps", 0)
    Traceback (most recent call last):
    kit.core.errors.BadValue: steps=0: needs a whole number of at least 1.
    """
    if is_whole(value) and low <= value <= high:
        return int(value)
    limits = f" from {low} to {_limit(high)}" if high < math.inf else f" of at least {low}"
    raise _refused(name, value, f"a whole number{limits if low > -math.inf else ''}", hint)


def check_positive(name: str, value: Any, what: str = "a number", hint: str = "") -> float:
    """The value, if it is a finite number above 0; the message calls it `what`."""
    if is_number(value) and 0 < value < math.inf:
        return float(value)
    raise _refused(name, value, f"{what} above 0", hint)


def check_budget(budget_s: Any) -> float:
    """The seconds, if something can be timed in them."""
    return check_positive("budget_s", budget_s, "seconds, a number")


def check_share(
    name: str, value: Any, what: str = "a number", *, strict: bool = False, hint: str = ""
) -> float:
    """The value, if it is a number from 0 to 1; `strict` excludes both ends.

    >>> check_share("target", 97, "a score", hint="Give 0.97 for 97 %.")
    Traceback (most recent call last):
    kit.core.errors.BadValue: target=97: needs a score from 0 to 1. Give 0.97 for 97 %.
    """
    if is_number(value) and (0 < value < 1 if strict else 0 <= value <= 1):
        return float(value)
    raise _refused(name, value, f"{what} {'between 0 and 1' if strict else 'from 0 to 1'}", hint)


def _limit(high: float) -> str:
    """The limit in words: 2**64 - 1 says more than its twenty digits."""
    power = int(high + 1).bit_length() - 1
    return f"2**{power} - 1" if power > 30 and high + 1 == 2**power else f"{high:,}"


def _refused(name: str, value: Any, needed: str, hint: str) -> BadValue:
    return BadValue(f"{name}={value!r}: needs {needed}.{hint and f' {hint}'}")
