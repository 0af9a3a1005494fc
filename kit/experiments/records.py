"""Executed notebooks, read as rows: what was asked, how it ended, what was measured.

A notebook is JSON, and what it measured lies in its outputs under the kit's own kind. So it is
read as JSON, not as a notebook: a thousand of them in seconds. What cannot be read is a row, too,
and nothing that a file holds stops the reading of the others (see `strangers`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kit.core.errors import BadValue
from kit.core.results import RECORD
from kit.experiments.parameters import parameters_in
from kit.experiments.recording import STAMP
from kit.experiments.untrusted import checked, notebooks, plain, plain_object, read, values_in

if TYPE_CHECKING:
    import pandas as pd

DONE, FAILED, UNREADABLE = "done", "failed", "unreadable"
FAILED_END, DRAFT_END = ".failed.ipynb", ".part.ipynb"
RUN = ("run", "notebook", "status", "error", "seconds", "date")  # what is known of every run
COLUMNS = 500  # of one run: a lesson has 50
ALL_COLUMNS, ALL_VALUES = 2_000, 5_000_000  # of a folder: about 1 GB
SOURCE = 10_000  # characters of a cell of parameters: papermill's pattern is quadratic in them
DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
TAKEN = (*RUN, "parameter", "machine")  # first parts of names that a record may not use
BESIDE = ("GuessedOrder", "Machine", "Peaks", "Verdict")  # records never what a notebook is about


@dataclass(frozen=True)
class Executed:
    """What one executed notebook tells of itself."""

    run: str  # its name in the folder, without the ending
    notebook: str  # the file that was executed; "" if that cannot be read
    status: str
    error: str = ""
    seconds: float | None = None
    date: str = ""  # when it began, UTC: 2026-11-22 10:00:00
    parameters: dict[str, Any] = field(default_factory=dict)  # its defaults, and what it was given
    units: dict[str, str] = field(default_factory=dict)  # of those parameters that have one
    records: tuple[dict[str, Any], ...] = ()
    link: str = ""  # the address of its file, seen from the folder; "" if that cannot be read

    @property
    def main(self) -> dict[str, Any]:
        """The record that it is about: the last that is no machine and no verdict."""
        rest = [record for record in self.records if record["kind"] not in BESIDE]
        return rest[-1] if rest else {}

    def conditions(self) -> dict[str, Any]:
        """Which run it was, what it was asked, and on which machine: one value per column."""
        machine = next((r for r in self.records if r["kind"] == "Machine"), {})
        return {
            **{name: getattr(self, name) for name in RUN},
            **{f"parameter.{name}": value for name, value in self.parameters.items()},
            **{f"machine.{name}": value for name, value in scalars(machine) if name != "kind"},
        }

    def row(self) -> dict[str, Any]:
        """The conditions, and the single values of the main record."""
        return {**self.conditions(), **_beside(dict(scalars(self.main)))}


def flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a record with its name, `a.b` if nested; lists stay lists."""
    if {"value", "low", "high"} <= record.keys():  # a notebook's file sorts all names
        record = {key: record[key] for key in ("value", "low", "high")} | record
    for key, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def scalars(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each single value of a record with its name; words in a list as one, other lists left."""
    for name, value in flat(record):
        if not isinstance(value, list):
            yield name, value
        elif value and all(isinstance(item, str) for item in value):
            yield name, "; ".join(value)


def collect(folder: Path | str, kind: str | None = None) -> pd.DataFrame:
    """The executed notebooks of a folder as a table: one row each, or one per record of a kind.

    Parameters
    ----------
    folder
        With executed notebooks, also in folders inside it; drafts are left out.
    kind
        Of the records, such as "Verdict" or "RunCost". None: a row per notebook, with the
        single values of its main record.

    Returns
    -------
    pandas.DataFrame
        Columns `run`, `notebook`, `status` (done, failed, unreadable), `error`, `seconds`,
        `date` (UTC), `parameter.*`, then the record's `kind` and values (nested ones as `a.b`,
        numbers as they were measured), then `machine.*`.

    Raises
    ------
    BadValue
        There is no such folder.
    """
    runs = executed(folder)
    if kind is None:
        return _table([run.row() for run in runs])
    found = ((run, record) for run in runs for record in run.records if record["kind"] == kind)
    return _table([{**run.conditions(), **_beside(dict(flat(record)))} for run, record in found])


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table, its columns in the order of `ordered`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=ordered(rows))


def ordered(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The columns of these rows: the run, what it was asked, what it measured, the machine."""
    rank = {**dict.fromkeys(RUN, 0), "parameter": 1, "kind": 2, "machine": 4}
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=lambda name: rank.get(name.split(".")[0], 3))


def _beside(record: dict[str, Any]) -> dict[str, Any]:
    """The record's values; those whose names the run has taken, with their kind before them."""
    kind = record.get("kind", "")
    return {f"{kind}.{k}" if k.split(".")[0] in TAKEN else k: v for k, v in record.items()}


def executed(folder: Path | str) -> list[Executed]:
    """What each executed notebook of a folder tells, in the order of their names; or one alone.

    Whatever a file holds, it is one run: one that cannot be read, or does not fit in, says why.

    Raises
    ------
    BadValue
        There is no such folder or file, or it holds too many notebooks.
    """
    folder, columns, values = Path(folder), set(RUN), 0
    if folder.is_file():
        run = _read(folder, folder.parent)
        return [run] if run else []
    found = []
    for path in notebooks(folder):
        if path.name.endswith(DRAFT_END) or (run := _read(path, folder)) is None:
            continue
        own = set(run.row())
        size = len(own) + values_in(list(run.records))
        if len(own) > COLUMNS or len(columns | own) > ALL_COLUMNS or values + size > ALL_VALUES:
            run = _unreadable(run.run, "it holds more values than a table has room for")
        else:
            columns |= own
            values += size
        found.append(run)
    return found


def _unreadable(run: str, why: str) -> Executed:
    return Executed(run, "", UNREADABLE, plain(why, "reason"))


def _read(path: Path, folder: Path) -> Executed | None:
    """What a notebook tells; None if it was never executed."""
    name = path.relative_to(folder).as_posix()
    run = plain(name.removesuffix(FAILED_END).removesuffix(".ipynb"), "name")
    if path.is_symlink():
        return _unreadable(run, "cannot be read: it is a link, which is not followed")
    try:
        found = _told(path, run, read(path))
        return found and replace(found, link=_link(path, folder))
    except (OSError, ValueError) as error:  # names only: a path may hold a user's
        told = getattr(error, "strerror", None) or str(error).replace(str(path), "it")
        return _unreadable(run, f"cannot be read: {told}")
    except Exception as error:  # whatever else a file can hold
        return _unreadable(run, f"no notebook of format 4: {error!r}")


def _link(path: Path, folder: Path) -> str:
    """The address of a run's file, seen from the folder."""
    return quote(os.fsencode(path.relative_to(folder).as_posix()))


def _told(path: Path, run: str, notebook: dict[str, Any]) -> Executed | None:
    metadata, cells = notebook["metadata"], notebook["cells"]
    mill = metadata.get("papermill", {})
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    if not outputs and not mill.get("start_time") and STAMP not in metadata:
        return None
    error = plain(_error(path, mill, cells), "error")
    asked = next((c for c in cells if "parameters" in c["metadata"].get("tags", [])), None)
    declared = _declared("".join(asked["source"])) if asked else {}
    given = plain_object(mill.get("parameters", {}), "the parameters")
    kept = (output["data"][RECORD] for output in outputs if RECORD in output.get("data", {}))
    return Executed(
        run=run,
        notebook=plain(mill.get("input_path") or path.name, "input_path").rpartition("/")[2],
        status=FAILED if error else DONE,
        error=error,
        seconds=_seconds(mill.get("duration")),
        date=_date(mill.get("start_time") or metadata.get(STAMP, {}).get("date", "")),
        parameters={n: p.default for n, p in declared.items()} | given,
        units={name: plain(p.unit, "unit", 40) for name, p in declared.items() if p.unit},
        records=checked([r for r in kept if isinstance(r, dict) and "kind" in r]),
    )


def _seconds(given: Any) -> float | None:
    """How long a run took, as papermill notes it."""
    fits = given is None or (type(given) in (int, float) and 0 <= given < 1e9)
    if not fits:
        raise ValueError("its duration is no number of seconds")
    return None if given is None else float(given)


def _date(given: Any) -> str:
    """2026-11-22T10:00:00.123+00:00, as papermill notes it, to the second; a day stays one."""
    if given and not (isinstance(given, str) and DATE.fullmatch(given)):
        raise ValueError("its date is none of the form 2026-11-22T10:00:00")
    return given[:19].replace("T", " ") if given else ""


def _declared(source: str) -> dict[str, Any]:
    """The parameters of a cell; none if it was not written for the kit."""
    if len(source) > SOURCE:
        return {}
    try:
        return parameters_in(source)
    except (BadValue, ValueError, SyntaxError, MemoryError, RecursionError):
        return {}


def _error(path: Path, mill: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """What ended the notebook before its last cell; nothing if nothing did."""
    for cell in cells:
        meant = "raises-exception" in cell["metadata"].get("tags", [])
        for output in cell.get("outputs", []):
            if output["output_type"] == "error" and not (meant or _left(output)):
                return " ".join(f"{output['ename']}: {output['evalue']}".split())
    if mill.get("start_time") and not mill.get("end_time"):
        return "unfinished: it ended, or is still running, before its last cell"
    if left := _never_ran(cells):
        return f"unfinished: {left} of its cells never ran"
    return "it did not come to its end" if mill.get("exception") or _is_failed(path) else ""


def _never_ran(cells: list[dict[str, Any]]) -> int:
    """How many code cells have neither a number nor outputs, up to one that ended by `exit()`."""
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip():
            count += cell.get("execution_count") is None and not cell.get("outputs")
        if any(o["output_type"] == "error" and _left(o) for o in cell.get("outputs", [])):
            break
    return count


def _left(output: dict[str, Any]) -> bool:
    """Whether the cell ended the notebook by `exit()`, which is no failure."""
    return output["ename"] == "SystemExit" and output["evalue"] in ("", "0")


def _is_failed(path: Path) -> bool:
    return path.name.endswith(FAILED_END)
