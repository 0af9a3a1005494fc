"""Records from many machines beside each other, without anybody's name.

A class sends in what `train-versus-infer` left on each laptop. File names, folders and dates may
tell whose it was, so none of them gets through: a machine is a letter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.core.errors import BadValue
from kit.experiments.records import collect

if TYPE_CHECKING:
    import pandas as pd

SAME = ("workload", "model", "batch_size", "precision", "technique")  # equal work, or no comparison
TELLING = ("run", "notebook", "date", "error", "status", "seconds")  # these may hold a name
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def class_results(folder: Path | str, workload: str) -> pd.DataFrame:
    """The two bills of a workload from many machines: a row per record, the quickest first.

    Parameters
    ----------
    folder
        With executed `train-versus-infer` notebooks, however named.
    workload
        Which of the workloads; among its records those that did the commonest work are kept,
        since others could not be compared.

    Returns
    -------
    pandas.DataFrame
        Indexed by letters; the record's values, `machine.*`, and in `.attrs["left_out"]` how many
        records did other work.

    Raises
    ------
    BadValue
        There is no record of that workload.
    """
    bills = collect(folder, "RunCost")
    if bills.empty or not (bills["workload"] == workload).any():
        there = sorted(set(bills["workload"])) if len(bills) else []
        told = f"there are {', '.join(there)}" if there else "there is none of any workload"
        raise BadValue(f"no record of {workload!r} in {Path(folder).name}/: {told}.")
    bills = bills[bills["workload"] == workload]
    work = bills[list(SAME)].astype(str).agg(" | ".join, axis=1)
    same = bills[work == work.mode()[0]].sort_values("training.step_s", ignore_index=True)
    same = same.drop(columns=[c for c in same if c in TELLING or c.startswith("parameter.")])
    same.index = [letter(i) for i in range(len(same))]
    same.attrs["left_out"] = len(bills) - len(same)
    return same


def letter(i: int) -> str:
    """A, B, … Z, AA, AB, …: the name of the i-th machine.

    >>> letter(0), letter(25), letter(26), letter(52)
    ('A', 'Z', 'AA', 'BA')
    """
    rest, last = divmod(i, len(LETTERS))
    return (letter(rest - 1) if rest else "") + LETTERS[last]


def spread(values: pd.Series) -> float:
    """The largest ÷ the smallest."""
    return float(values.max() / values.min())
