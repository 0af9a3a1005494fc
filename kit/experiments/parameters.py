"""A notebook's parameters: read from its `parameters` cell, checked before a kernel starts.

A parameter is one line, which papermill's own inspection can read, too:

    steps: int = 600  # 10..20000; updates of the weights
    budget_s: float = 30.0  # 0.1..600 s; of training
    model: str = "cnn"  # cnn | mlp; which model learns

It has a type and a default; then, optionally, a range or the choices, and a unit; then a semicolon
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
from kit.experiments.parameter_combinations import check_together

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
TYPE_TEXTS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
# Each digit matches only one part: a pattern with alternatives would take quadratic time.
NUMBER = r"(-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)"
RANGE = re.compile(rf"{NUMBER}\s*\.\.\s*{NUMBER}(?:\s+(\S+))?")
# Values beside the choices: parameter -> what it takes, and how that is shown.
Further = tuple[re.Pattern[str] | None, tuple[str, ...]]
FURTHER: dict[str, Further] = {
    "workload": (re.compile(r".+\.py:[^\W\d]\w*"), ("FILE.py:NAME",)),  # a user's own
    # A TPU, or one of several accelerators.
    "device": (re.compile(r"(?:tpu|xla)(?::\d+)?|(?:cuda|xpu):\d+"), ("tpu", "cuda:N")),
}
NO_FURTHER: Further = (None, ())
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
        limits = " | ".join((*self.choices, *self._further[1]))
        if self.low is not None and self.high is not None:
            limits = f"{_plain(self.low)} to {_plain(self.high)}"
        unit = f" {self.unit}" if self.unit else ""
        limits = f" ({limits}{unit})" if limits else ""
        line = f"{self.name}: {self.type.__name__} = {self.default!r}{limits}  {self.meaning}"
        return line.rstrip()

    def value(self, given: Any) -> Any:
        """Convert a given value, which may be a string from a command line, to the right type.

        Raises
        ------
        BadValue
            It has another type, is out of range, or is not one of the choices: what is needed.
        """
        value = _typed(given, self.type)
        if value is None:
            raise BadValue(f"{self.name}={given!r}: needs {TYPE_TEXTS[self.type]}. {self}")
        pattern, _ = self._further
        if pattern and pattern.fullmatch(value):
            return value
        outside = (
            self.low is not None and self.high is not None and not (self.low <= value <= self.high)
        )
        if outside or (self.choices and value not in map(self._choice, self.choices)):
            hint = UnknownName(self.name, given, self.choices).hint
            raise BadValue(f"{self.name}={given!r}: not possible{hint} {self}")
        return value

    @property
    def _further(self) -> Further:
        """Which values it takes beside its choices, and how they are shown."""
        named = self.choices and self.type is str
        return FURTHER.get(self.name, NO_FURTHER) if named else NO_FURTHER

    def _choice(self, choice: str) -> Any:
        """A choice as a value of the right type: 4, not "4"."""
        return _typed(choice, self.type)


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else f"{number:g}"


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
        It is not a notebook, or a line of that cell cannot be read: which, and what is needed.
    """
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    except Exception as error:  # a file can be anything
        raise BadValue(
            f"{notebook} cannot be read as a notebook ({error}); give an .ipynb file."
        ) from error
    if not tagged:
        return {}
    try:
        return dict(parameters_in(tagged[0].source))
    except BadValue as error:
        raise BadValue(f"{notebook.name}: {error}") from error


@lru_cache(maxsize=256)
def parameters_in(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares, read line by line like papermill does.

    Raises
    ------
    BadValue
        A line that papermill, or the kit, cannot read.
    """
    from papermill.translators import PythonTranslator

    lines = {line.name: line for line in PythonTranslator.inspect({"source": source})}
    for name in _assigned(source):
        if name not in lines:  # papermill drops it, at most with a warning
            raise BadValue(
                f"papermill cannot read the parameter {name!r}: write it as a line NAME: TYPE = "
                f"VALUE, without another '=' in the value or the comment."
            )
    return {
        name: _parameter(name, line.inferred_type_name, line.default, line.help or "")
        for name, line in lines.items()
    }


def _assigned(source: str) -> list[str]:
    """The names that the cell assigns."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        raise BadValue(f"the cell tagged `parameters` is not valid Python ({error}).") from error
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
        raise BadValue(
            f"{name} = {value}: needs a plain value such as 400 or 'adamw', without arithmetic "
            f"and '#'."
        ) from error
    limits = _limits(comment, kind)
    if limits is None:
        raise BadValue(f"{name}: the limits in “{comment}” cannot be read; needs {FORMS}.")
    parameter = Parameter(name=name, type=kind, default=default, **limits)
    parameter.value(default)
    return parameter


def _limits(comment: str, kind: type) -> dict[str, Any] | None:
    """Range or choices, unit and meaning from a comment; None if it is malformed."""
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
    """Check the values given for a notebook; returns them with the right types.

    Parameters
    ----------
    notebook
        The notebook that will run with these values.
    given
        Name -> value; the others have the notebook's defaults.
    here
        Whether it will run on this computer. If not, rules about the computer (its devices, its
        installed packages) are checked by the computer that runs it.

    Raises
    ------
    UnknownName
        The notebook has no such parameter; the message lists those that it has.
    BadValue
        A value has the wrong type or is out of range.
    KitError
        The values do not go together, or not here; see `kit.experiments.parameter_combinations`.
    """
    known = declared(notebook)
    for name in given:
        if name not in known:
            raise UnknownName(f"parameter of {notebook.name}", name, known)
    values = {name: known[name].value(value) for name, value in given.items()}
    defaults = {name: parameter.default for name, parameter in known.items()}
    check_together({**defaults, **values}, here)
    return values
