"""Records of many machines side by side, without names.

Each student of a class hands in the executed `train-versus-infer` notebook of their laptop. File
names, folders and dates may name the student, so they are left out: each machine gets a letter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.core.errors import BadValue
from kit.experiments.records import collect

if TYPE_CHECKING:
    import pandas as pd

# Only records in which these are equal are compared.
SAME = ("workload", "model", "batch_size", "precision", "technique")
PRIVATE = ("run", "notebook", "date", "error", "status", "seconds")  # these may contain a name
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
    bills = collect(folder, "RunCost")
    if bills.empty or not (bills["workload"] == workload).any():
        known = sorted(set(bills["workload"])) if len(bills) else []
        found = f"It has {', '.join(known)}." if known else "Put executed notebooks there."
        raise BadValue(f"no record of {workload!r} in {Path(folder).name}/. {found}")
    bills = bills[bills["workload"] == workload]
    work = bills[list(SAME)].astype(str).agg(" | ".join, axis=1)
    same = bills[work == work.mode()[0]].sort_values("training.step_s", ignore_index=True)
    same = same.drop(columns=[c for c in same if c in PRIVATE or c.startswith("parameter.")])
    same.index = [letter(i) for i in range(len(same))]
    same.attrs["left_out"] = len(bills) - len(same)
    return same


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
