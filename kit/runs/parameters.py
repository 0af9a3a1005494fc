"""What a notebook can be asked: read from its `parameters` cell, checked before a kernel starts.

A parameter is one line, which papermill's own inspection reads as well:

    steps: int = 600  # 10..20000; updates of the weights
    model: str = "cnn"  # cnn | mlp; which model learns

A type, a default, then a range or the choices (or neither), a semicolon, and the meaning.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import BadValue, UnknownName

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's `parameters` cell."""

    name: str
    type: type
    default: Any
    meaning: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        limits = " | ".join(self.choices)
        if self.low is not None and self.high is not None:
            limits = f"{self.low:g} to {self.high:g}"
        told = f" ({limits})" if limits else ""
        line = f"{self.name}: {self.type.__name__} = {self.default!r}{told}  {self.meaning}"
        return line.rstrip()

    def value(self, given: Any) -> Any:
        """The value given (a string, if it comes from a command line), of the right type.

        Raises
        ------
        BadValue
            It is of another type, out of range, or none of the choices: what is needed.
        """
        value = _typed(given, self.type)
        if value is None:
            raise BadValue(f"{self.name}={given!r}: needs {_article(self.type)}. {self}")
        outside = (
            self.low is not None and self.high is not None and not (self.low <= value <= self.high)
        )
        if outside or (self.choices and str(value) not in self.choices):
            raise BadValue(f"{self.name}={given!r}: not possible. {self}")
        return value


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[kind]


def _typed(given: Any, kind: type) -> Any:
    """The value as that type, or None if it is not one."""
    if isinstance(given, str) and kind is not str:
        try:
            given = ast.literal_eval({"true": "True", "false": "False"}.get(given, given))
        except (ValueError, SyntaxError):
            return None
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    return given if type(given) is kind else None


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, by name, from its cell tagged `parameters`."""
    from papermill import inspect_notebook

    try:
        lines = inspect_notebook(str(notebook))
    except Exception as error:  # whatever a file can be that is no notebook
        raise BadValue(f"{notebook}: cannot be read as a notebook ({error}).") from error
    return {name: _parameter(notebook, name, line) for name, line in lines.items()}


def _parameter(notebook: Path, name: str, line: Mapping[str, str]) -> Parameter:
    kind = TYPES.get(line["inferred_type_name"])
    if kind is None:
        raise BadValue(
            f"{notebook.name}: the parameter {name!r} is declared as "
            f"{line['inferred_type_name']!r}; give it one of the types {', '.join(TYPES)}."
        )
    try:
        default = ast.literal_eval(line["default"])
    except ValueError as error:
        told = f"{name} = {line['default']}: needs a plain value, without arithmetic"
        raise BadValue(f"{notebook.name}: {told}.") from error
    limits, _, meaning = (line["help"] or "").partition(";")
    span = re.fullmatch(r"\s*(-?[\d.e-]+?)\s*\.\.\s*(-?[\d.e-]+)\s*", limits)
    choices = tuple(choice.strip() for choice in limits.split("|")) if "|" in limits else ()
    parameter = Parameter(
        name=name,
        type=kind,
        default=default,
        meaning=(meaning if span or choices else line["help"] or "").strip(),
        low=float(span[1]) if span else None,
        high=float(span[2]) if span else None,
        choices=choices,
    )
    parameter.value(default)
    return parameter


def check_parameters(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values given for a notebook, each of the right type and in range.

    Raises
    ------
    UnknownName
        The notebook has no such parameter; those it has are listed.
    BadValue
        A value of the wrong type or out of range.
    """
    known = declared(notebook)
    for name in given:
        if name not in known:
            raise UnknownName(f"parameter of {notebook.name}", name, known)
    return {name: known[name].value(value) for name, value in given.items()}
