"""What a folder of executed notebooks says: which claims are decided, and all its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.errors import BadValue
from kit.core.files import atomic_write
from kit.course.claims import COLOURS, ledger
from kit.experiments.records import Executed, executed, ordered
from kit.experiments.report_page import OPEN, counted, page
from kit.experiments.untrusted import plain
from kit.plots import Table

if TYPE_CHECKING:
    import pandas as pd

MOST_VERDICTS = 4  # unlike ones about a claim, in a table
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes what begins like that


@dataclass(frozen=True)
class Report:
    """What was found in a folder, and the files that hold it."""

    ledger: Table
    told: str  # how many runs, in one line
    paths: tuple[Path, ...]


def write_report(folder: Path) -> Report:
    """Read a folder of executed notebooks; write its table and a page in `report/` inside it.

    The same table as runs.csv, for a spreadsheet, and as runs.parquet, with the types of its
    columns; index.html needs nothing else and no network. Each is written whole or not at all.
    In runs.csv, text that a spreadsheet would take for a formula has a ' before it.

    Raises
    ------
    BadValue
        There is no such folder, it holds no executed notebook, or `report` in it is a link.
    """
    runs = executed(folder)
    if (folder / "report").is_symlink():
        raise BadValue(f"{folder / 'report'} is a link, which is not followed: remove it.")
    if not runs:
        told = f"needs some: kit run NOTEBOOK --out {folder / 'NAME.ipynb'}"
        raise BadValue(f"{folder}: no executed notebooks in it; {told}.")
    table, decided = with_units(runs), _ledger(runs, folder)
    name = plain(folder.resolve().name, "name")
    files: dict[str, Callable[[Path], object]] = {
        # With the mark that tells a spreadsheet that × and µ are UTF-8.
        "runs.csv": lambda path: _harmless(table).to_csv(path, index=False, encoding="utf-8-sig"),
        "runs.parquet": lambda path: table.to_parquet(path, index=False),
        "index.html": lambda path: path.write_text(page(name, runs, decided), encoding="utf-8"),
    }
    paths = tuple(folder / "report" / name for name in files)
    for path in paths:
        with atomic_write(path) as draft:
            files[path.name](draft)
    return Report(decided, counted(runs), paths)


def with_units(runs: Sequence[Executed]) -> pd.DataFrame:
    """One row per run, with the unit in the name of each column that has one: `a.value [s]`.

    Where the rows of an estimate have unlike units, these stay in a column, `a.unit`. A share
    is a number from 0 to 1, so its unit is called "share", not "%".
    """
    import pandas as pd

    rows = [run.row() for run in runs]
    units: dict[str, set[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        for name in run.parameters:
            units.setdefault(f"parameter.{name}", set()).add(run.units.get(name, ""))
        for name in [name for name in row if name.endswith(".unit")]:
            for end in ("unit", "value", "low", "high"):
                units.setdefault(name.removesuffix("unit") + end, set()).add(row[name])
    agreed = {name: found.pop() for name, found in units.items() if len(found) == 1}
    names = [n for n in ordered(rows) if not (n.endswith(".unit") and n in agreed)]
    called = {n: f"{n} [{'share' if u == '%' else u}]" for n, u in agreed.items() if u}
    columns = {n: _typed([row.get(n) for row in rows]) for n in names}
    called = {n: new for n, new in called.items() if new not in columns}  # no two alike
    return pd.DataFrame({called.get(name, name): column for name, column in columns.items()})


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    """The table without formulas: a spreadsheet would run them."""
    told = table.copy()
    for name in [name for name in told if told[name].dtype == "string"]:
        told[name] = told[name].map(_quoted, na_action="ignore")
    return told.rename(columns=_quoted)


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _typed(values: list[Any]) -> pd.Series[Any]:
    """A column of one type: whole numbers stay whole beside missing ones; a mixture is words."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pd.Series(values, dtype=object)
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="Float64")
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    return pd.Series([None if v is None else str(v) for v in values], dtype="string")


def ledger_table(folder: Path) -> Table:
    """All claims: those decided by the notebooks of the folder, and those that are still open.

    It may be one notebook, too.
    """
    return _ledger(executed(folder), folder)


def _ledger(runs: Iterable[Executed], folder: Path) -> Table:
    """The decided claims first; each verdict with the number of runs that came to it."""
    decided: dict[str, Counter[str]] = {}
    for record in (record for run in runs for record in run.records if record["kind"] == "Verdict"):
        id, word = record["claim_id"], record["verdict"]
        if id in ledger() and word.startswith(tuple(COLOURS)):
            decided.setdefault(id, Counter())[word] += 1
    rows = [
        (
            claim.id,
            claim.claim,
            ", ".join(claim.said_by),
            _verdicts(decided[id]) if id in decided else f"{OPEN}: {_where(claim.lessons)}",
        )
        for id, claim in sorted(ledger().items(), key=lambda item: item[0] not in decided)
    ]
    name = plain(folder.resolve().name, "name")
    where = f"the notebooks in {name}/" if folder.is_dir() else name
    caption = f"{len(decided)} of {len(rows)} claims decided by {where}."
    return Table(("id", "claim", "said by", "verdict"), rows, caption)


def _verdicts(given: Counter[str]) -> str:
    """Each verdict once, with how often it was given if there are several."""
    if len(given) == 1:
        return next(iter(given))
    told = [f"{word} ({n:,} ×)" for word, n in given.items()]
    return "; ".join(told[:MOST_VERDICTS] + ["…"] * (len(told) > MOST_VERDICTS))


def _where(lessons: tuple[str, ...]) -> str:
    numbers = [name for name in lessons if name.isdigit()]
    places = [f"lesson{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] if numbers else []
    return " and ".join(places + [name for name in lessons if not name.isdigit()])
