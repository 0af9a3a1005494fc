"""What executed notebooks say: which claims they decide, and all runs as tables.

write_report     the tables and the page of a folder of runs
write_card       all claims on one page that prints
ledger_table     all claims, with the verdicts of these notebooks
claims_table     the same of runs that are read already
result_sentence  what one executed notebook found, in one sentence
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.errors import BadValue
from kit.core.files import atomic_write, read_file
from kit.core.results import records_in
from kit.core.units import SHARES, plural
from kit.course.claims import CANNOT_TELL, COLOURS, ledger
from kit.experiments.deciding_runs import decides, deciding_verdicts, part_of
from kit.experiments.outputs import write_text
from kit.experiments.records import AUXILIARY, ExecutedRun, executed_runs, ordered
from kit.experiments.report_card import card_page
from kit.experiments.report_page import OPEN, count_runs, page
from kit.experiments.untrusted_notebooks import safe_line
from kit.plots import Table

if TYPE_CHECKING:
    import pandas as pd

MOST_VERDICTS = 4  # different verdicts on one claim, in a table
SUMMARIES = ("InferenceLadder", "TrainingLadder", "RunCost")  # each sums up its notebook
FILES = ("runs.csv", "runs.parquet", "index.html")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs text that begins with one of these


@dataclass(frozen=True)
class Report:
    """The report on a folder, and its files."""

    ledger: Table
    summary: str  # how many runs, in one line
    paths: tuple[Path, ...]


def write_report(folder: Path) -> Report:
    """Read a folder of executed notebooks; write its table and a page into `report/` inside it.

    The table is written as runs.csv, for a spreadsheet, and as runs.parquet, with column types. The
    page, index.html, needs no other file and no network. In runs.csv, text that a spreadsheet would
    run as a formula has a ' before it.

    Raises
    ------
    BadValue
        The folder does not exist or has no executed notebook, or its `report` is a link.
    """
    runs = executed_runs(folder)
    if (folder / "report").is_symlink():
        raise BadValue(f"{folder / 'report'} is a link, and links are not followed; remove it.")
    if not runs:
        advice = f"make some with kit run NOTEBOOK --out {folder / 'NAME.ipynb'}"
        raise BadValue(f"{folder}: no executed notebooks in it; {advice}.")
    table, decided = with_units(runs), claims_table(runs, folder)
    name = safe_line(folder.resolve().name, "name")
    csv, parquet, html = (folder / "report" / file for file in FILES)
    with atomic_write(csv) as draft:
        # utf-8-sig begins with a mark; without it, spreadsheets misread × and µ.
        without_formulas(table).to_csv(draft, index=False, encoding="utf-8-sig")
    with atomic_write(parquet) as draft:
        table.to_parquet(draft, index=False)
    write_text(html, page(name, runs, decided))
    return Report(decided, count_runs(runs), (csv, parquet, html))


def write_card(notebooks: Path, path: Path) -> Path:
    """Write the report card of a folder of executed notebooks, or of one, to a page.

    Raises
    ------
    BadValue
        There is no executed notebook, or the page would replace one.
    """
    runs = executed_runs(notebooks)
    if not runs:
        raise BadValue(f"{notebooks}: no executed notebooks in it; run some with kit run.")
    if path.suffix != ".html":
        raise BadValue(f"--html {path}: needs a name that ends in .html, as card.html.")
    name = safe_line(notebooks.resolve().name, "name")
    return write_text(path, card_page(runs, f"{name}/" if notebooks.is_dir() else name))


def with_units(runs: Sequence[ExecutedRun]) -> pd.DataFrame:
    """One row per run, with the unit in the name of each column that has one: `a.value [s]`.

    If the rows of an estimate have different units, they stay in a column, `a.unit`. A share is a
    number from 0 to 1, so its unit is "share", not "%" or "points".
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
    renamed = {n: f"{n} [{'share' if u in SHARES else u}]" for n, u in agreed.items() if u}
    columns = {n: _typed([row.get(n) for row in rows]) for n in names}
    renamed = {n: new for n, new in renamed.items() if new not in columns}  # no duplicates
    return pd.DataFrame({renamed.get(name, name): column for name, column in columns.items()})


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a ' before each text that a spreadsheet would run as a formula."""
    table = table.copy()
    for name in [name for name in table if table[name].dtype == "string"]:
        table[name] = table[name].map(_quoted, na_action="ignore")
    return table.rename(columns=_quoted)


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _typed(values: list[Any]) -> pd.Series[Any]:
    """A column of one type: whole numbers stay whole beside missing values; a mixture is text."""
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
    """All claims, with the verdicts of the executed notebooks in a folder, or in one file."""
    return claims_table(executed_runs(folder), folder)


def claims_table(runs: Iterable[ExecutedRun], folder: Path) -> Table:
    """All claims, the measured ones first, each verdict with its number of runs of the folder."""
    # Claim -> part, verdict -> runs: of runs on other cases, then of the lessons that decide the
    # claim; of each first those that measured only a part of the rule. A later one replaces.
    ranks: list[dict[str, Counter[tuple[str, str]]]] = [{}, {}, {}, {}]
    for run, record in deciding_verdicts(runs):
        claim = ledger()[record["claim_id"]]
        counts = ranks[2 * decides(run, claim) + (not _lacks_a_part(record))]
        about = part_of(run, claim, record), record["verdict"]
        counts.setdefault(claim.id, Counter())[about] += 1
    given = ranks[0] | ranks[1] | ranks[2] | ranks[3]
    rows = [
        (
            claim.id,
            claim.claim,
            ", ".join(claim.said_by),
            _verdicts(given[id]) + _elsewhere(given[id], ranks[1].get(id))
            if id in given
            else _open(claim.lessons),
        )
        for id, claim in sorted(ledger().items(), key=lambda item: item[0] not in given)
    ]
    name = safe_line(folder.resolve().name, "name")
    where = f"the notebooks in {name}/" if folder.is_dir() else name
    unclear = sum({word for _, word in found} == {CANNOT_TELL} for found in given.values())
    mixed = sum(map(_runs_differ, given.values()))
    caption = f"{len(given) - unclear - mixed} of {len(rows)} claims decided by {where}; "
    caption += f"{mixed} differ between runs, " if mixed else ""
    caption += f"{unclear} cannot tell, {len(rows) - len(given)} not measured."
    return Table(("id", "claim", "said by", "verdict"), rows, caption)


def _lacks_a_part(record: dict[str, Any]) -> bool:
    """Whether the verdict cannot tell, and a quantity of its rule was not measured."""
    return None in record["measured"].values() and record["verdict"] == CANNOT_TELL


def _verdicts(given: Counter[tuple[str, str]]) -> str:
    """The verdicts on one claim, for each of its parts; if they differ, each with its count."""
    parts = sorted({part for part, _ in given})
    texts = {part: _of_part({v: n for (p, v), n in given.items() if p == part}) for part in parts}
    return "; ".join(f"{part}: {text}" if part else text for part, text in texts.items())


def _elsewhere(given: Counter[tuple[str, str]], others: Counter[tuple[str, str]] | None) -> str:
    """Verdicts of runs on other cases, if they decide otherwise than the claim's own lessons."""
    if others is None or given is others:
        return ""
    own = {verdict for _, verdict in given}
    found = {v: n for (_, v), n in others.items() if v not in own and v != CANNOT_TELL}
    counts = [f"{verdict} (in {plural(n, 'run')})" for verdict, n in _by_number(found)]
    return f"; on other cases: {', '.join(counts)}" if counts else ""


def _runs_differ(given: Counter[tuple[str, str]]) -> bool:
    """Whether runs decided the same question differently; one that cannot tell contradicts none."""
    decided: dict[str, set[str]] = {}
    for part, verdict in given:
        decided.setdefault(part, set()).add(next(w for w in COLOURS if verdict.startswith(w)))
    return any(len(words - {CANNOT_TELL}) > 1 for words in decided.values())


def _of_part(given: dict[str, int]) -> str:
    if len(given) == 1:
        return next(iter(given))
    counts = [f"{verdict} (in {plural(n, 'run')})" for verdict, n in _by_number(given)]
    return "; ".join(counts[:MOST_VERDICTS] + ["…"] * (len(counts) > MOST_VERDICTS))


def _by_number(given: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(given.items(), key=lambda pair: -pair[1])


def _open(lessons: list[str]) -> str:
    """Not decided yet, and which lessons decide it, or that experiments do."""
    numbers = [name for name in lessons if name.isdigit()]
    places = [f"lesson{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] if numbers else []
    places += ["run the experiments"] if set(lessons) - set(numbers) else []
    return f"{OPEN}: {' or '.join(places)}" if places else OPEN


# --- One notebook --------------------------------------------------------------------------------


def result_sentence(path: Path) -> str:
    """The result that sums up an executed notebook; else its verdicts; else its last result.

    >>> from kit.experiments import find_notebook
    >>> result_sentence(find_notebook("01"))[:10]
    'claims 01,'
    """
    # Read as JSON, because nbformat prints warnings about what it reads.
    results = list(_results(json.loads(read_file(path))["cells"]))
    verdicts = [record for record, _ in results if record["kind"] == "Verdict"]
    measured = [text for record, text in results if record["kind"] not in AUXILIARY]
    summaries = [text for record, text in results if record["kind"] in SUMMARIES]
    if verdicts and not summaries:
        return safe_line(_decided(verdicts), "its verdicts")
    nothing = ["it ran to its end; what it found is in the notebook"]
    return safe_line((summaries or measured or nothing)[-1], "its result")


def _results(cells: Sequence[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each record that a notebook shows, and its line of text."""
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        for record in records_in(output):
            yield record, "".join(output["data"].get("text/plain", ""))


def _decided(verdicts: Sequence[dict[str, Any]]) -> str:
    """Claims with the same verdict together: 'claims 01, 02: holds here; claim 34: …'."""
    claims: dict[str, list[str]] = {}
    for verdict in verdicts:
        claims.setdefault(verdict["verdict"], []).append(verdict["claim_id"])
    return "; ".join(
        f"{'claims' if ids[1:] else 'claim'} {', '.join(ids)}: {verdict}"
        for verdict, ids in claims.items()
    )
