"""Executed notebooks as rows of a table: parameters, status, measurements.

A notebook is JSON, and its measurements are in its outputs, under the kit's own MIME type. So it is
read as JSON, not with nbformat: a thousand notebooks take seconds. A file that cannot be read is a
row, too, and cannot stop the reading of the others (see `kit.experiments.untrusted_notebooks`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kit.core.errors import BadValue
from kit.core.results import records_in
from kit.course.earlier_lessons import STAMP
from kit.experiments.parameters import parameters_in
from kit.experiments.untrusted_notebooks import (
    checked_records,
    find_notebooks,
    plain_object,
    read_json,
    safe_line,
    values_in,
)

if TYPE_CHECKING:
    import pandas as pd

DONE, FAILED, UNREADABLE = "done", "failed", "unreadable"
FAILED_END, DRAFT_END = ".failed.ipynb", ".part.ipynb"
RUN_COLUMNS = ("run", "notebook", "status", "error", "seconds", "date")  # of every run
COLUMNS = 500  # the most for one run: a lesson has 50
ALL_COLUMNS, ALL_VALUES = 2_000, 5_000_000  # the most for a folder: about 1 GB
SOURCE = 10_000  # characters of a parameters cell: papermill's pattern takes quadratic time
DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
RESERVED = (*RUN_COLUMNS, "parameter", "machine")  # first parts of column names, not for records
AUXILIARY = ("GuessedOrder", "Machine", "Peaks", "Verdict")  # never a notebook's main record


@dataclass(frozen=True)
class ExecutedRun:
    """One executed notebook: its parameters, how it ended, its records."""

    name: str  # of its file in the folder, without the ending
    notebook: str  # the file that was executed; "" if unknown
    status: str
    error: str = ""
    seconds: float | None = None
    date: str = ""  # when it started, UTC: 2026-11-22 10:00:00
    parameters: dict[str, Any] = field(default_factory=dict)  # its defaults, and those given
    units: dict[str, str] = field(default_factory=dict)  # of the parameters that have one
    records: tuple[dict[str, Any], ...] = ()
    link: str = ""  # relative URL of its file; "" if it cannot be read

    @property
    def main(self) -> dict[str, Any]:
        """The record that the notebook is about: the last one that is not auxiliary."""
        rest = [record for record in self.records if record["kind"] not in AUXILIARY]
        return rest[-1] if rest else {}

    def conditions(self) -> dict[str, Any]:
        """The run, its parameters and its machine: one value per column."""
        machine = next((r for r in self.records if r["kind"] == "Machine"), {})
        return {
            "run": self.name,
            **{name: getattr(self, name) for name in RUN_COLUMNS[1:]},
            **{f"parameter.{name}": value for name, value in self.parameters.items()},
            **{f"machine.{name}": value for name, value in scalars(machine) if name != "kind"},
        }

    def row(self) -> dict[str, Any]:
        """The conditions, and the single values of the main record."""
        return {**self.conditions(), **_renamed(dict(scalars(self.main)))}


def flatten(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a record with its name, `a.b` if nested; lists are not split."""
    if {"value", "low", "high"} <= record.keys():  # notebook files sort all names
        record = {key: record[key] for key in ("value", "low", "high")} | record
    for key, value in record.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def scalars(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each single value of a record with its name; lists of texts are joined, others left out."""
    for name, value in flatten(record):
        if not isinstance(value, list):
            yield name, value
        elif value and all(isinstance(item, str) for item in value):
            yield name, "; ".join(value)


def collect(folder: Path | str, kind: str | None = None) -> pd.DataFrame:
    """The executed notebooks of a folder as a table: one row each, or one row per record of a kind.

    Parameters
    ----------
    folder
        A folder with executed notebooks, also in folders inside it, but not in hidden ones such as
        .venv; drafts are left out.
    kind
        The kind of record, such as "Verdict" or "RunCost". None: a row per notebook, with the
        single values of its main record.

    Returns
    -------
    pandas.DataFrame
        Columns `run`, `notebook`, `status` (done, failed, unreadable), `error`, `seconds`,
        `date` (UTC), `parameter.*`, then the record's `kind` and values (nested ones as `a.b`,
        numbers in base units), then `machine.*`.

    Raises
    ------
    BadValue
        The folder does not exist.
    """
    return table_of(executed_runs(folder), kind)


def table_of(runs: Iterable[ExecutedRun], kind: str | None = None) -> pd.DataFrame:
    """These runs as a table; see `collect`."""
    if kind is None:
        return _table([run.row() for run in runs])
    found = ((run, record) for run in runs for record in run.records if record["kind"] == kind)
    return _table(
        [{**run.conditions(), **_renamed(dict(flatten(record)))} for run, record in found]
    )


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table, its columns in the order of `ordered`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=ordered(rows))


def ordered(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The columns of these rows in order: run, parameters, measurements, machine."""
    rank = {**dict.fromkeys(RUN_COLUMNS, 0), "parameter": 1, "kind": 2, "machine": 4}
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=lambda name: rank.get(name.split(".")[0], 3))


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    """The record's values; a name that is reserved gets the kind of record in front."""
    kind = record.get("kind", "")
    return {f"{kind}.{k}" if k.split(".")[0] in RESERVED else k: v for k, v in record.items()}


def executed_runs(folder: Path | str) -> list[ExecutedRun]:
    """The executed notebooks of a folder, sorted by name; or the one in a file.

    A file that cannot be read, or is too large for the table, is a run with the reason.

    Raises
    ------
    BadValue
        The folder or file does not exist, or it has too many notebooks.
    """
    folder, columns, values = Path(folder), set(RUN_COLUMNS), 0
    if folder.is_file():
        run = _read_run(folder, folder.parent)
        return [run] if run else []
    found = []
    for path in find_notebooks(folder):
        if path.name.endswith(DRAFT_END) or (run := _read_run(path, folder)) is None:
            continue
        own = set(run.row())
        size = len(own) + values_in(list(run.records))
        if len(own) > COLUMNS or len(columns | own) > ALL_COLUMNS or values + size > ALL_VALUES:
            run = _unreadable(run.name, "it has more values than the table can hold")
        else:
            columns |= own
            values += size
        found.append(run)
    return found


def _unreadable(name: str, reason: str) -> ExecutedRun:
    return ExecutedRun(name, "", UNREADABLE, safe_line(reason, "reason"))


def _read_run(path: Path, folder: Path) -> ExecutedRun | None:
    """The run in a notebook; None if it was never executed."""
    file = path.relative_to(folder).as_posix()
    name = safe_line(file.removesuffix(FAILED_END).removesuffix(".ipynb"), "name")
    if path.is_symlink():
        return _unreadable(name, "cannot be read: it is a link, and links are not followed")
    try:
        return _parse(path, name, quote(os.fsencode(file)), read_json(path))
    except (OSError, ValueError) as error:  # without the path, which may name the user
        reason = getattr(error, "strerror", None) or str(error).replace(str(path), "it")
        return _unreadable(name, f"cannot be read: {reason}")
    except Exception as error:  # a file can contain anything
        return _unreadable(name, f"not a notebook of format 4: {error!r}")


def _parse(path: Path, name: str, link: str, notebook: dict[str, Any]) -> ExecutedRun | None:
    metadata, cells = notebook["metadata"], notebook["cells"]
    papermill = metadata.get("papermill", {})
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    if not outputs and not papermill.get("start_time") and STAMP not in metadata:
        return None
    error = safe_line(_error(path, papermill, cells), "error")
    tagged = next((c for c in cells if "parameters" in c["metadata"].get("tags", [])), None)
    declared = _declared("".join(tagged["source"])) if tagged else {}
    given = plain_object(papermill.get("parameters", {}), "the parameters")
    origin = safe_line(papermill.get("input_path") or path.name, "input_path")
    return ExecutedRun(
        name=name,
        notebook=origin.rpartition("/")[2],
        status=FAILED if error else DONE,
        error=error,
        seconds=_seconds(papermill.get("duration")),
        date=_date(papermill.get("start_time") or metadata.get(STAMP, {}).get("date", "")),
        parameters={n: p.default for n, p in declared.items()} | given,
        units={name: safe_line(p.unit, "unit", 40) for name, p in declared.items() if p.unit},
        records=checked_records([record for out in outputs for record in records_in(out)]),
        link=link,
    )


def _seconds(given: Any) -> float | None:
    """The seconds that a run took, according to papermill; None if the clock was set back."""
    fits = given is None or (type(given) in (int, float) and abs(given) < 1e9)
    if not fits:
        raise ValueError("its duration is not a number of seconds")
    return None if given is None or given < 0 else float(given)


def _date(given: Any) -> str:
    """A date as papermill writes it, 2026-11-22T10:00:00.123+00:00, cut to the second."""
    if given and not (isinstance(given, str) and DATE.fullmatch(given)):
        raise ValueError("its date is not of the form 2026-11-22T10:00:00")
    return given[:19].replace("T", " ") if given else ""


def _declared(source: str) -> dict[str, Any]:
    """The parameters of a cell; none if it is not in the kit's format."""
    if len(source) > SOURCE:
        return {}
    try:
        return parameters_in(source)
    except (BadValue, ValueError, SyntaxError, MemoryError, RecursionError):
        return {}


def _error(path: Path, papermill: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """Why the notebook ended before its last cell; "" if it did not."""
    for cell in cells:
        expected = "raises-exception" in cell["metadata"].get("tags", [])
        for output in cell.get("outputs", []):
            if output["output_type"] == "error" and not (expected or _is_exit(output)):
                return " ".join(f"{output['ename']}: {output['evalue']}".split())
    if papermill.get("start_time") and not papermill.get("end_time"):
        return "unfinished: it stopped before its last cell, or is still running"
    if left := _never_ran(cells):
        return f"unfinished: {left} of its cells never ran"
    failed = papermill.get("exception") or path.name.endswith(FAILED_END)
    return "it did not reach its end" if failed else ""


def _never_ran(cells: list[dict[str, Any]]) -> int:
    """How many code cells never ran, up to a cell that ended the notebook by `exit()`."""
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip():
            count += cell.get("execution_count") is None and not cell.get("outputs")
        if any(o["output_type"] == "error" and _is_exit(o) for o in cell.get("outputs", [])):
            break
    return count


def _is_exit(output: dict[str, Any]) -> bool:
    """Whether the cell ended the notebook by `exit()`, which is not a failure."""
    return output["ename"] == "SystemExit" and output["evalue"] in ("", "0")
