"""Which claims are decided: read from the records in executed notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.course.claims import ledger
from kit.errors import BadValue
from kit.figures import Table
from kit.results import RECORD

if TYPE_CHECKING:
    import pandas as pd


def records(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The records of one kind in the executed notebooks of a folder, each with its notebook."""
    import nbformat

    if not folder.is_dir():
        raise BadValue(f"{folder}: no such folder; needs one with executed notebooks.")
    for path in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                record = output.get("data", {}).get(RECORD)
                if record and record["kind"] == kind:
                    yield {"notebook": path.name, **record}


def collect(folder: Path | str, kind: str = "Verdict") -> pd.DataFrame:
    """The records of one kind as a table, one row each, nested numbers in columns `a.b`."""
    import pandas as pd

    return pd.json_normalize(list(records(Path(folder), kind)))


def ledger_table(folder: Path) -> Table:
    """All claims: those decided by the notebooks of the folder, and those that are still open."""
    decided: dict[str, list[str]] = {}
    for record in records(folder, "Verdict"):
        told = decided.setdefault(record["claim_id"], [])
        if record["verdict"] not in told:
            told.append(record["verdict"])
    rows = [
        (
            claim.id,
            claim.claim,
            ", ".join(claim.said_by),
            "; ".join(decided.get(id, [])) or f"not decided yet: {_where(claim.lessons)}",
        )
        for id, claim in ledger().items()
    ]
    where = folder.resolve().name
    caption = f"{len(decided)} of {len(rows)} claims decided by the notebooks in {where}/."
    return Table(("id", "claim", "said by", "verdict"), rows, caption)


def _where(lessons: tuple[str, ...]) -> str:
    numbers = [name for name in lessons if name.isdigit()]
    places = [f"lesson{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] if numbers else []
    return " and ".join(places + [name for name in lessons if not name.isdigit()])
