"""What a notebook can be asked: read from its `parameters` cell, checked before a kernel starts.

A parameter is one line, which papermill's own inspection reads as well:

    steps: int = 600  # 10..20000; updates of the weights
    budget_s: float = 30.0  # 0.1..600 s; of training
    model: str = "cnn"  # cnn | mlp; which model learns

A type, a default, then a range or the choices (or neither) with a unit (or none), a semicolon,
and the meaning.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue, UnknownName
from kit.experiments.parameter_rules import check_together

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
# Each digit fits at one place only: a pattern with a choice would take quadratic time.
NUMBER = r"(-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)"
RANGE = re.compile(rf"{NUMBER}\s*\.\.\s*{NUMBER}(?:\s+(\S+))?")
OWN = re.compile(r".+\.py:[^\W\d]\w*")  # a workload of the user's own: FILE.py:NAME
FORMS = '"LOW..HIGH UNIT; MEANING" or "A | B | C UNIT; MEANING", the unit (one word) if it has one'


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
    unit: str = ""

    def __str__(self) -> str:
        limits = " | ".join((*self.choices, "FILE.py:NAME") if self._may_be_own else self.choices)
        if self.low is not None and self.high is not None:
            limits = f"{_plain(self.low)} to {_plain(self.high)}"
        told = f" ({limits}{f' {self.unit}' if self.unit else ''})" if limits else ""
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
        if self._may_be_own and OWN.fullmatch(value):
            return value
        outside = (
            self.low is not None and self.high is not None and not (self.low <= value <= self.high)
        )
        if outside or (self.choices and value not in map(self._choice, self.choices)):
            raise BadValue(f"{self.name}={given!r}: not possible. {self}")
        return value

    @property
    def _may_be_own(self) -> bool:
        """Whether it can also be a workload in a file of the user's own."""
        return self.name == "workload" and bool(self.choices)

    def _choice(self, choice: str) -> Any:
        """A choice as a value: 4, not "4", where whole numbers are chosen from."""
        return _typed(choice, self.type)


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else f"{number:g}"


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
    """The parameters of a notebook, by name, from its cell tagged `parameters`.

    Raises
    ------
    BadValue
        It is no notebook, or a line of that cell cannot be read: which, and what it needs.
    """
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    except Exception as error:  # whatever a file can be that is no notebook
        raise BadValue(f"{notebook}: cannot be read as a notebook ({error}).") from error
    if not tagged:
        return {}
    try:
        return dict(parameters_in(tagged[0].source))
    except BadValue as error:
        raise BadValue(f"{notebook.name}: {error}") from error


@lru_cache(maxsize=256)
def parameters_in(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares, read line by line as papermill reads them.

    Raises
    ------
    BadValue
        A line that papermill, or the kit, cannot read.
    """
    from papermill.translators import PythonTranslator

    lines = {line.name: line for line in PythonTranslator.inspect({"source": source})}
    for name in _assigned(source):
        if name not in lines:  # papermill leaves it out, with a warning at most
            told = (
                "needs a line NAME: TYPE = VALUE, without another '=' in the value or the comment"
            )
            raise BadValue(f"the parameter {name!r} is lost on papermill: it {told}.")
    return {
        name: _parameter(name, line.inferred_type_name, line.default, line.help or "")
        for name, line in lines.items()
    }


def _assigned(source: str) -> list[str]:
    """The names to which Python would assign something in that cell."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        raise BadValue(f"the cell tagged `parameters` is no Python ({error}).") from error
    return [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _parameter(name: str, type_name: str, value: str, comment: str) -> Parameter:
    kind = TYPES.get(type_name)
    if kind is None:
        raise BadValue(
            f"the parameter {name!r} is declared as {type_name!r}; "
            f"give it one of the types {', '.join(TYPES)}."
        )
    try:
        default = ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        told = "needs a plain value, without arithmetic and without '#'"
        raise BadValue(f"{name} = {value}: {told}.") from error
    limits = _limits(comment, kind)
    if limits is None:
        raise BadValue(f"{name}: the limits in “{comment}” cannot be read; needs {FORMS}.")
    parameter = Parameter(name=name, type=kind, default=default, **limits)
    parameter.value(default)
    return parameter


def _limits(comment: str, kind: type) -> dict[str, Any] | None:
    """Range or choices, unit and meaning, from a comment; None if they are not well formed."""
    limits, _, meaning = (part.strip() for part in comment.partition(";"))
    number = kind in (int, float)
    if span := RANGE.fullmatch(limits):
        low, high, unit = span.groups(default="")
        fields = {"low": float(low), "high": float(high), "unit": unit, "meaning": meaning}
        return fields if number else None
    if "|" in limits:
        *choices, last = (choice.strip() for choice in limits.split("|"))
        last, unit = (*last.split(maxsplit=1), "", "")[:2] if number else (last, "")
        choices.append(last)
        possible = all(not re.search(r"\s", c) and _typed(c, kind) is not None for c in choices)
        fields = {"choices": tuple(choices), "unit": unit, "meaning": meaning}
        return fields if possible and not re.search(r"\s", unit) else None
    return None if re.match(rf"{NUMBER}\s*\.\.", limits) else {"meaning": comment.strip()}


def check_parameters(notebook: Path, given: Mapping[str, Any], here: bool = True) -> dict[str, Any]:
    """The values given for a notebook, each of the right type and in range, and possible together.

    Parameters
    ----------
    notebook
        The one that is to run with them.
    given
        Name -> value; where nothing is given, the notebook's default counts.
    here
        Whether it will run on this computer. If not, what depends on the computer (its devices,
        what is installed) is left to the one that runs it.

    Raises
    ------
    UnknownName
        The notebook has no such parameter; those it has are listed.
    BadValue
        A value of the wrong type or out of range.
    KitError
        Values that cannot go together, or not here; see `kit.experiments.parameter_rules`.
    """
    known = declared(notebook)
    for name in given:
        if name not in known:
            raise UnknownName(f"parameter of {notebook.name}", name, known)
    values = {name: known[name].value(value) for name, value in given.items()}
    defaults = {name: parameter.default for name, parameter in known.items()}
    check_together({**defaults, **values}, here)
    return values
