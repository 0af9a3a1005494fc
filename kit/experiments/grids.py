"""Grid files: the values that a notebook's parameters take in the runs of a sweep.

A grid file is YAML in one of three forms:

    grid: {workload: [vision, fraud], seed: {range: [0, 3]}}      # every combination

    list:                                                         # these rows
      - {workload: vision, seed: 1}
      - {workload: fraud, batch_size: 64}

    random:                                                       # random draws
      count: 20
      seed: 0
      from: {lr: {log: [1e-4, 1e-1]}, batch_size: [16, 32, 64], width: {range: [8, 64]}}

The file may also have `fixed: {precision: bf16}`, values that all runs share, and
`skip_impossible: true`, which leaves out impossible combinations instead of refusing the file.

A range includes both its ends, as in a `parameters` cell; `range: [0, 100, 10]` has a step. In
random draws, `range` is uniform, `log` is uniform between the logarithms, and floats have four
digits. A larger count begins with the same draws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from kit.core.checks import check_whole
from kit.core.errors import BadValue, KitError, UnknownName
from kit.experiments.parameters import Parameter

MOST = 10_000  # runs of a sweep: more are probably a typing mistake
Row = dict[str, Any]
Ask = Callable[[str], Parameter]


@dataclass(frozen=True)
class Grid:
    """The rows of a grid file; each value alone is possible for the notebook."""

    form: str
    rows: tuple[Row, ...]  # without the fixed values
    fixed: Row
    skip_impossible: bool


def read_grid(path: Path, notebook: str, known: Mapping[str, Parameter]) -> Grid:
    """The rows of a grid file for a notebook with these parameters.

    Raises
    ------
    BadValue
        The file cannot be read, or a value in it is not possible: where, and what is needed.
    """

    def ask(name: str) -> Parameter:
        if name not in known:
            raise UnknownName(f"parameter of {notebook}", name, known)
        return known[name]

    with _at(path.name):
        table = _loaded(path)
        form, skip = _form(table), table.get("skip_impossible", False)
        if not isinstance(skip, bool):
            raise BadValue(f"skip_impossible is {skip!r}; needs true or false.")
        with _at("fixed"):
            fixed = _row(table["fixed"], ask) if "fixed" in table else {}
        with _at(form):
            rows = tuple(FORMS[form](table[form], ask))
        for name in fixed:
            if any(name in row for row in rows):
                raise BadValue(f"{name} is in {form} and in fixed; remove one of the two.")
    return Grid(form, rows, fixed, skip)


@contextmanager
def _at(part: str) -> Iterator[None]:
    """Adds the part of the file to the message of an error."""
    try:
        yield
    except KitError as error:
        raise BadValue(f"{part}: {error}") from error


def _loaded(path: Path) -> Row:
    import yaml

    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadValue("no such file; give the path of a grid file.") from error
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (see line {mark.line + 1})" if mark else ""
        raise BadValue(
            f"not YAML{where}; needs {' or '.join(FORMS)}: see kit sweep --help."
        ) from error
    return _mapping(table)


def _mapping(given: object) -> Row:
    if not isinstance(given, dict) or not given:
        raise BadValue(f"{given!r}: needs names with values, NAME: …")
    return {str(name): value for name, value in given.items()}


def _form(table: Row) -> str:
    """Which of the three forms the file has."""
    known = (*FORMS, "fixed", "skip_impossible")
    for key in table:
        if key not in known:
            raise UnknownName("key of a grid file", key, known)
    forms = [form for form in FORMS if form in table]
    if len(forms) != 1:
        present = " and ".join(forms) or "none of them"
        raise BadValue(f"the file has {present}; needs one of {', '.join(FORMS)}.")
    return forms[0]


# --- The forms -----------------------------------------------------------------------------------


def _row(given: object, ask: Ask) -> Row:
    """Parameter names with one value each, of the right type."""
    return {name: ask(name).value(value) for name, value in _mapping(given).items()}


def _rows_of_list(given: object, ask: Ask) -> Iterator[Row]:
    """The rows of a list."""
    if not isinstance(given, list) or not given:
        raise BadValue(f"{given!r}: needs rows of the form - {{NAME: VALUE, …}}")
    _check_count(len(given))
    for number, row in enumerate(given, 1):
        with _at(f"row {number}"):
            checked = _row(row, ask)
        yield checked


def _combinations(given: object, ask: Ask) -> Iterator[Row]:
    """Every combination; the values of the last name change fastest."""
    axes = {name: _values(ask(name), values) for name, values in _mapping(given).items()}
    _check_count(math.prod(len(values) for values in axes.values()))
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _values(parameter: Parameter, given: Any) -> list[Any] | range:
    """The values of one parameter, from a list or a range."""
    whole = parameter.type is int
    match given:
        case [_, *_]:
            return [parameter.value(value) for value in given]
        case {"range": [low, high, *step]} if whole and len(given) == 1 and len(step) < 2:
            low, high = parameter.value(low), parameter.value(high)
            if low <= high and all(type(by) is int and by > 0 for by in step):
                return range(low, high + 1, *step)
    ranges = " or {range: [LOW, HIGH]} or {range: [LOW, HIGH, STEP]}" if whole else ""
    raise BadValue(
        f"{parameter.name}: {given!r}: needs a list of values{ranges}. Put a value that all runs "
        f"share under `fixed`."
    )


def _drawn(given: object, ask: Ask) -> Iterator[Row]:
    """Random rows, all different, drawn one after the other."""
    table = _mapping(given)
    if not {"count", "from"} <= set(table) <= {"count", "from", "seed"}:
        raise BadValue(f"{', '.join(table)}: needs count, from and, if it is not 0, seed.")
    count, seed = table["count"], table.get("seed", 0)
    check_whole("count", count, high=MOST)
    check_whole("seed", seed, low=-math.inf)
    draws = {name: _draw(ask(name), values) for name, values in _mapping(table["from"]).items()}
    generator, seen = random.Random(seed), set()
    for _ in range(1000 + 100 * count):
        row = {name: draw(generator) for name, draw in draws.items()}
        if (drawn := tuple(row.values())) not in seen:
            seen.add(drawn)
            yield row
        if len(seen) == count:
            return
    raise BadValue(f"count: {count}: only {len(seen)} different rows were found; lower the count.")


def _draw(parameter: Parameter, given: Any) -> Callable[[random.Random], Any]:
    """How to draw one value of a parameter."""
    number = parameter.type in (int, float)
    match given:
        case [_, *_]:
            values = _values(parameter, given)
            return lambda generator: generator.choice(values)
        case {"range": [low, high]} | {"log": [low, high]} if number and len(given) == 1:
            # value() also reads 1e-4, which is a string in YAML.
            low, high, log = parameter.value(low), parameter.value(high), "log" in given
            if low < high and not (log and low <= 0):
                return lambda generator: _between(low, high, log, generator)
    ranges = " or {range: [LOW, HIGH]} or {log: [LOW, HIGH]}, above 0," if number else ""
    raise BadValue(f"{parameter.name}: {given!r}: needs a list of values{ranges} to draw from.")


def _between(low: Any, high: Any, log: bool, generator: random.Random) -> Any:
    """A random number of the same type; whole numbers are rounded, so all are equally likely."""
    whole = isinstance(low, int)
    ends = (low - 0.5, high + 0.5) if whole else (low, high)
    drawn = generator.uniform(*map(math.log, ends)) if log else generator.uniform(*ends)
    drawn = math.exp(drawn) if log else drawn
    return min(max(round(drawn) if whole else float(f"{drawn:.4g}"), low), high)


def _check_count(count: int) -> None:
    if count > MOST:
        raise BadValue(f"{count:,} runs: needs at most {MOST:,}.")


FORMS: dict[str, Callable[[object, Ask], Iterator[Row]]] = {
    "grid": _combinations,
    "list": _rows_of_list,
    "random": _drawn,
}
