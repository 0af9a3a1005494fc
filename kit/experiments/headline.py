"""What an executed notebook found, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kit.core.files import read_file
from kit.core.results import RECORD
from kit.experiments.records import BESIDE
from kit.experiments.untrusted import plain

WHOLE = ("InferenceLadder", "TrainingLadder", "RunCost")  # each sums up the notebook it is in


def headline(path: Path) -> str:
    """The result that a notebook is about; else the claims it decides; else its last result.

    >>> from kit.experiments import find_notebook
    >>> headline(find_notebook("01"))[:10]
    'claims 01,'
    """
    results = list(_results(json.loads(read_file(path))["cells"]))  # nbformat prints its complaints
    verdicts = [record for record, _ in results if record["kind"] == "Verdict"]
    measured = [told for record, told in results if record["kind"] not in BESIDE]
    whole = [told for record, told in results if record["kind"] in WHOLE]
    if verdicts and not whole:
        return plain(_decided(verdicts), "its verdicts")
    return plain(
        (whole or measured or ["it ran to its end and measured nothing"])[-1], "its result"
    )


def _results(cells: Sequence[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each record that a notebook shows, and the line beside it."""
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        record = output.get("data", {}).get(RECORD)
        if isinstance(record, dict) and "kind" in record:
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
