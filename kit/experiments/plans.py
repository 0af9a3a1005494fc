"""A sweep's plan: its runs, all checked before the first one starts, and which of them are done.

The id of a run is a hash of the notebook's code cells and of all its parameters, including the
defaults. The name of the run's file ends with the id, so the files in a folder say what is done.
Nothing else is stored. If a cell changes, the runs are new ones.
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
from kit.core.units import plural
from kit.experiments.grids import read_grid
from kit.experiments.parameter_combinations import own_file
from kit.experiments.parameters import check_parameters, declared
from kit.experiments.recording import cells_hash
from kit.experiments.records import DONE, FAILED, ExecutedRun, executed_runs

DIGITS = 12  # of an id
LONGEST = 100  # characters before it in a file's name


@dataclass(frozen=True)
class PlannedRun:
    """One run of a notebook, with its parameters."""

    given: dict[str, Any]  # the parameters in the grid file
    parameters: dict[str, Any]  # all, including the notebook's defaults
    id: str
    name: str  # of its file, without the ending: readable parameters, then the id


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, and the text of their notebook."""

    notebook: Path
    source: str  # without outputs
    runs: tuple[PlannedRun, ...]
    impossible: tuple[str, ...] = ()  # the combinations that were left out, and why


def make_plan(notebook: Path, grid: Path, here: bool = True) -> Plan:
    """Plan the runs that a grid file describes, in its order.

    Parameters
    ----------
    notebook, grid
        The notebook, and the YAML file; see `kit.experiments.grids`.
    here
        Whether they will run on this computer; see `check_parameters`.

    Raises
    ------
    BadValue
        The file cannot be read, or a value in it is not possible: where, and what is needed.
    """
    import nbformat

    known = declared(notebook)
    grid_values = read_grid(grid, notebook.name, known)
    bare = nbformat.read(notebook, as_version=4)
    for cell in bare.cells:
        cell.update({"outputs": []} if cell.cell_type == "code" else {})
    code = cells_hash(bare)
    defaults = {name: parameter.default for name, parameter in known.items()}
    runs: dict[str, PlannedRun] = {}
    impossible = []
    for row in grid_values.rows:
        given = {**grid_values.fixed, **row}
        try:
            check_parameters(notebook, given, here)
        except KitError as error:  # the values do not go together; each alone is possible
            impossible.append(f"{_shown(given, ', ')}: {error}")
            continue
        run = _run(notebook.stem, row, given, {**defaults, **given}, code)
        if run.id in runs:
            raise BadValue(
                f"{grid.name}: {grid_values.form}: {_shown(given, ', ')} stands there twice; "
                f"remove one of the two."
            )
        runs[run.id] = run
    if impossible and not (grid_values.skip_impossible and runs):
        raise BadValue(
            f"{grid.name}: {len(impossible)} of {len(grid_values.rows)} runs are impossible "
            f"(`skip_impossible: true` leaves them out). The first: {impossible[0]}"
        )
    return Plan(notebook, nbformat.writes(bare), tuple(runs.values()), tuple(impossible))


def _run(
    stem: str, row: dict[str, Any], given: dict[str, Any], parameters: dict[str, Any], code: str
) -> PlannedRun:
    identity = f"{code} {json.dumps(parameters, sort_keys=True)}"
    if file := own_file(parameters):  # a changed file makes a new run
        from kit.workloads.user_files import file_digest  # imported here: it needs PyTorch

        identity += f" {file_digest(file)}"
    id = hashlib.sha256(identity.encode()).hexdigest()[:DIGITS]
    readable = re.sub(r"[^A-Za-z0-9._+=-]+", "_", f"{stem}-{_shown(row, '-')}")
    return PlannedRun(given, parameters, id, f"{readable[:LONGEST]}-{id}")


def _shown(row: dict[str, Any], between: str) -> str:
    return between.join(f"{name}={value}" for name, value in row.items())


# --- What is done, and how long the rest takes ---------------------------------------------------


@dataclass(frozen=True)
class SweepStatus:
    """Which runs of a plan are done in a folder."""

    done: tuple[PlannedRun, ...]
    failed: tuple[PlannedRun, ...]
    left: tuple[PlannedRun, ...]
    others: int  # executed notebooks in the folder that do not belong to the plan
    past: tuple[ExecutedRun, ...]  # all known runs of the same notebook, for their durations


def sweep_status(plan: Plan, folder: Path, elsewhere: Path | None = None) -> SweepStatus:
    """Which runs of a plan are done, according to the files in a folder.

    A file that cannot be read, as after a power cut, is not done. The folder `elsewhere` may
    contain other runs of the notebook, from which we know how long a run takes.
    """
    found = executed_runs(folder) if folder.is_dir() else []
    status: dict[str, str] = {}
    for run in found:
        id = run.name.rpartition("-")[2]
        if "/" not in run.name and status.get(id) != DONE:
            status[id] = run.status
    ids = {run.id for run in plan.runs}
    past = [*found, *(executed_runs(elsewhere) if elsewhere and elsewhere.is_dir() else [])]
    return SweepStatus(
        done=tuple(run for run in plan.runs if status.get(run.id) == DONE),
        failed=tuple(run for run in plan.runs if status.get(run.id) == FAILED),
        left=tuple(run for run in plan.runs if status.get(run.id) not in (DONE, FAILED)),
        others=sum(id not in ids for id in status),
        past=tuple(run for run in past if run.notebook == plan.notebook.name),
    )


def pending_runs(plan: Plan, status: SweepStatus, retry: bool = False) -> list[PlannedRun]:
    """The runs that are left, in the order of the plan; with `retry` also those that failed."""
    wanted = {run.id for run in (*status.left, *(status.failed if retry else ()))}
    return [run for run in plan.runs if run.id in wanted]


def describe_plan(
    plan: Plan, status: SweepStatus, runs: list[PlannedRun], parallel: int = 1
) -> str:
    """The plan in a few lines, to show before it runs."""
    many = plural(len(plan.runs), "run")
    count = f"{plan.notebook.name}: {many}, {len(status.done)} of them done"
    if status.failed:
        count += f", {len(status.failed)} failed before (--retry runs them again)"
    lines = [f"{count}; {len(runs)} to run."]
    if plan.impossible:
        n = len(plan.impossible)
        left_out = f"{n} impossible combination{' is' if n == 1 else 's are'} left out"
        lines.append(f"{left_out}; the first: {plan.impossible[0]}")
    if status.others:
        many = "notebooks" if status.others > 1 else "notebook"
        lines.append(
            f"The folder also has {status.others} executed {many} with other cells or "
            f"parameters; {'they stay' if status.others > 1 else 'it stays'}."
        )
    if runs:
        seconds = expected_s(runs, status.past)
        shared = "" if parallel == 1 else f" of runs, {parallel} at a time"
        unknown = "unknown, because none has run yet"
        expected = unknown if seconds is None else f"{duration_text(seconds)}{shared}"
        lines.append(f"Expected time, from past runs of this notebook: {expected}.")
    return "\n".join(lines)


def duration_text(seconds: float) -> str:
    """A waiting time in words.

    >>> duration_text(12.3), duration_text(1000), duration_text(10_000)
    ('12 s', '17 min', '2 h 47 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def expected_s(runs: Iterable[PlannedRun], past: Iterable[ExecutedRun]) -> float | None:
    """Expected seconds of the runs, one after the other; None without past runs.

    Each run counts as the median of the past runs that share most parameters with it.
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
