"""A sweep's plan: its runs, each with an identity and checked before any starts; what is done.

The identity of a run is a hash of the notebook's code cells and of all its parameters, those with
defaults, too. It ends the name of the run's file, so a folder itself says what is done: nothing
else is kept. Another cell makes other runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kit.core.errors import BadValue, KitError
from kit.experiments.grids import read_grid
from kit.experiments.parameter_rules import own_file
from kit.experiments.parameters import check_parameters, declared
from kit.experiments.recording import cells_hash
from kit.experiments.records import DONE, FAILED, Executed, executed

DIGITS = 12  # of an identity
LONGEST = 100  # characters before it in a file's name


@dataclass(frozen=True)
class Run:
    """One notebook to be run."""

    given: dict[str, Any]  # parameters, as the grid file gives them
    parameters: dict[str, Any]  # and the notebook's defaults
    id: str
    name: str  # of its file, without the ending: for people, then the id


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, and the text of the notebook that they are runs of."""

    notebook: Path
    source: str  # without outputs
    runs: tuple[Run, ...]
    impossible: tuple[str, ...] = ()  # what was left out, and why


def make_plan(notebook: Path, grid: Path, here: bool = True) -> Plan:
    """The runs that a grid file asks for, in its order.

    Parameters
    ----------
    notebook, grid
        The notebook, and the YAML file; see `kit.experiments.grids`.
    here
        Whether they will run on this computer; see `check_parameters`.

    Raises
    ------
    BadValue
        The file, or something in it, cannot be: where, and what is needed.
    """
    import nbformat

    known = declared(notebook)
    asked = read_grid(grid, notebook.name, known)
    bare = nbformat.read(notebook, as_version=4)
    for cell in bare.cells:
        cell.update({"outputs": []} if cell.cell_type == "code" else {})
    code = cells_hash(bare)
    defaults = {name: parameter.default for name, parameter in known.items()}
    runs: dict[str, Run] = {}
    impossible = []
    for row in asked.rows:
        given = {**asked.fixed, **row}
        try:
            check_parameters(notebook, given, here)
        except KitError as error:  # each value alone was checked before
            impossible.append(f"{_shown(given, ', ')}: {error}")
            continue
        run = _run(notebook.stem, row, given, {**defaults, **given}, code)
        if run.id in runs:
            raise BadValue(f"{grid.name}: {asked.form}: twice the same run: {_shown(given, ', ')}.")
        runs[run.id] = run
    if impossible and not (asked.skip_impossible and runs):
        raise BadValue(
            f"{grid.name}: {len(impossible)} of {len(asked.rows)} runs are impossible "
            f"(`skip_impossible: true` leaves such out). The first: {impossible[0]}"
        )
    return Plan(notebook, nbformat.writes(bare), tuple(runs.values()), tuple(impossible))


def _run(
    stem: str, row: dict[str, Any], given: dict[str, Any], parameters: dict[str, Any], code: str
) -> Run:
    identity = f"{code} {json.dumps(parameters, sort_keys=True)}"
    if file := own_file(parameters):  # another content makes another run
        identity += f" {file.digest}"
    id = hashlib.sha256(identity.encode()).hexdigest()[:DIGITS]
    readable = re.sub(r"[^A-Za-z0-9._+=-]+", "_", f"{stem}-{_shown(row, '-')}")
    return Run(given, parameters, id, f"{readable[:LONGEST]}-{id}")


def _shown(row: dict[str, Any], between: str) -> str:
    return between.join(f"{name}={value}" for name, value in row.items())


# --- What is done, and how long the rest may take ------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """How far a plan has come in a folder."""

    done: tuple[Run, ...]
    failed: tuple[Run, ...]
    left: tuple[Run, ...]
    others: int  # executed notebooks there that are none of the plan's runs
    past: tuple[Executed, ...]  # what is known of runs of the same notebook, in this folder or not


def standing(plan: Plan, folder: Path, elsewhere: Path | None = None) -> Standing:
    """What of a plan is done in a folder: its files are its only memory.

    A file that cannot be read, as after a power cut, is not done. `elsewhere` may hold other runs
    of the notebook, which tell how long one takes.
    """
    found = executed(folder) if folder.is_dir() else []
    status: dict[str, str] = {}
    for run in found:
        id = run.run.rpartition("-")[2]
        if "/" not in run.run and status.get(id) != DONE:
            status[id] = run.status
    ids = {run.id for run in plan.runs}
    past = [*found, *(executed(elsewhere) if elsewhere and elsewhere.is_dir() else [])]
    return Standing(
        done=tuple(run for run in plan.runs if status.get(run.id) == DONE),
        failed=tuple(run for run in plan.runs if status.get(run.id) == FAILED),
        left=tuple(run for run in plan.runs if status.get(run.id) not in (DONE, FAILED)),
        others=sum(id not in ids for id in status),
        past=tuple(run for run in past if run.notebook == plan.notebook.name),
    )


def chosen(plan: Plan, found: Standing, retry: bool = False) -> list[Run]:
    """The runs to be run now, in the order of the plan: those left, and the failed if asked."""
    wanted = {run.id for run in (*found.left, *(found.failed if retry else ()))}
    return [run for run in plan.runs if run.id in wanted]


def described(plan: Plan, found: Standing, runs: list[Run], at_once: int = 1) -> str:
    """The plan in a few lines, before it is carried out."""
    told = f"{plan.notebook.name}: {len(plan.runs)} runs, {len(found.done)} of them done"
    if found.failed:
        told += f", {len(found.failed)} failed before (--retry runs them again)"
    lines = [f"{told}; {len(runs)} to run."]
    if plan.impossible:
        told = f"{len(plan.impossible)} impossible ones are left out"
        lines.append(f"{told}; the first: {plan.impossible[0]}")
    if found.others:
        told = "of other cells or parameters; they stay"
        lines.append(f"{found.others} executed notebooks are there already {told}.")
    if runs:
        seconds = expected_s(runs, found.past)
        by = "" if at_once == 1 else f" of runs, {at_once} at once"
        told = "unknown, as none is known yet" if seconds is None else f"{long(seconds)}{by}"
        lines.append(f"Expected time, by past runs of this notebook: {told}.")
    return "\n".join(lines)


def long(seconds: float) -> str:
    """A time that people wait for.

    >>> long(12.3), long(1000), long(10_000)
    ('12 s', '17 min', '2 h 47 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def expected_s(runs: Iterable[Run], past: Iterable[Executed]) -> float | None:
    """Seconds that the runs may take one after the other, by past ones; None if there are none.

    For each the median of those that share most of its parameters.
    """
    known = [(run.parameters, run.seconds) for run in past if run.status == DONE and run.seconds]
    if not known:
        return None
    total = 0.0
    for run in runs:
        alike = [(_shared(run.parameters, parameters), seconds) for parameters, seconds in known]
        most = max(shared for shared, _ in alike)
        total += median(seconds for shared, seconds in alike if shared == most)
    return total


def _shared(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many parameters have the same value in both."""
    return sum(name in other and other[name] == value for name, value in one.items())
