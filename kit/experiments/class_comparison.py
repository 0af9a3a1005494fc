"""Records of many machines side by side, without names.

Each student of a class hands in the executed `train-versus-infer` notebook of their laptop. File
names, folders and dates may name the student, so they are left out: each machine gets a letter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS
from kit.experiments.records import DONE, ExecutedRun, executed_runs, table_of
from kit.experiments.untrusted_notebooks import find_notebooks, safe_line

if TYPE_CHECKING:
    import pandas as pd

# Only records in which these are equal are compared.
SAME = ("workload", "model", "batch_size", "precision", "technique")
PRIVATE = ("run", "notebook", "date", "error", "status", "seconds")  # these may contain a name
NEVER_RUN = "no cell of it has run"
UNTOUCHED = "as it came with the kit: nobody has run it"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def class_results(folder: Path | str, workload: str) -> pd.DataFrame:
    """The training and inference bills of a workload on many machines, the fastest first.

    Parameters
    ----------
    folder
        A folder with executed `train-versus-infer` notebooks, with any names.
    workload
        The workload. Only the records with the most common conditions are used, because the others
        did different work and could not be compared.

    Returns
    -------
    pandas.DataFrame
        A row per record, indexed by letters: its values and `machine.*`. The number of records
        that did different work is in `.attrs["left_out"]`.

    Raises
    ------
    BadValue
        The folder has no record of that workload.
    """
    return bills_of(own_runs(folder)[0], workload, Path(folder).name)


def bills_of(
    runs: list[ExecutedRun],
    workload: str,
    folder: str = "this folder",
    letters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """The bills among these runs; see `class_results`. `letters` are those of the runs, by name."""
    bills = table_of(runs, "RunCost")
    if bills.empty or not (bills["workload"] == workload).any():
        known = sorted(set(bills["workload"])) if len(bills) else []
        found = f"It has {', '.join(known)}." if known else "Put executed notebooks there."
        raise BadValue(f"no record of {workload!r} in {folder}/. {found}")
    bills = bills[bills["workload"] == workload]
    work = bills[list(SAME)].astype(str).agg(" | ".join, axis=1)
    same = bills[work == work.mode()[0]].sort_values("training.step_s", ignore_index=True)
    known = [letter(i) if letters is None else letters[run] for i, run in enumerate(same["run"])]
    again = [known[:i].count(each) + 1 for i, each in enumerate(known)]  # A, and A2 of the same
    same.index = [f"{at}{n}" if n > 1 else at for at, n in zip(known, again, strict=True)]
    same = same.drop(columns=[c for c in same if c in PRIVATE or c.startswith("parameter.")])
    same.attrs["left_out"] = len(bills) - len(same)
    return same


def own_runs(folder: Path | str) -> tuple[list[ExecutedRun], list[tuple[str, str]]]:
    """The notebooks that somebody ran, and the others: the name of each file, and the reason.

    A notebook that still has the outputs with which it came was not run by the student. A notebook
    that failed half-way counts with what it measured.
    """
    own, runs = [], executed_runs(folder)
    ran = {run.name for run in runs}
    names = [path.relative_to(folder).as_posix() for path in find_notebooks(Path(folder))]
    plain = (safe_line(name.removesuffix(".ipynb"), "name") for name in names)
    others = [(name, NEVER_RUN) for name in plain if name.removesuffix(".failed") not in ran]
    for run in runs:
        if run.status != DONE and not run.records:
            others.append((run.name, run.error))
        elif records_digest(run) in stored_digests():
            others.append((run.name, UNTOUCHED))
        else:
            own.append(run)
    return own, others


def records_digest(run: ExecutedRun) -> str:
    """A digest of all that a run measured; no two runs have the same."""
    records = [r for r in run.records if r["kind"] != "Machine"]
    return sha256(json.dumps(records, sort_keys=True).encode()).hexdigest() if records else ""


@cache
def stored_digests() -> frozenset[str]:
    """Of the notebooks that come with the kit, as they were recorded."""
    return frozenset(map(records_digest, stored_runs())) - {""}


@cache
def stored_runs() -> tuple[ExecutedRun, ...]:
    """The notebooks that come with the kit, as they were recorded."""
    found = [*NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS / "experiments").glob("*.ipynb")]
    return tuple(run for path in sorted(found) for run in executed_runs(path))


def letter(i: int) -> str:
    """The name of the i-th machine: A, B, … Z, AA, AB, …

    >>> letter(0), letter(25), letter(26), letter(52)
    ('A', 'Z', 'AA', 'BA')
    """
    rest, last = divmod(i, len(LETTERS))
    return (letter(rest - 1) if rest else "") + LETTERS[last]


def spread(values: pd.Series) -> float:
    """The largest value ÷ the smallest."""
    return float(values.max() / values.min())
