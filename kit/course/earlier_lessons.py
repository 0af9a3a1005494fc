"""What another lesson measured for a claim: some rules need the measurements of two lessons.

A reader's own copy of that lesson counts first, in the folder where the notebook runs. If it was
never executed, or is still as the kit recorded it, the kit's longer run of the lesson is read, if
there is one, and else the copy that came with the kit. All are stored notebooks: nothing runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.core.checks import is_number
from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS, read_file
from kit.core.results import records_in
from kit.core.statistics import Estimate

STAMP = "kit_recording"  # in the metadata of a recorded lesson: hash of its cells, machine, date
LONGER = NOTEBOOKS / "experiments" / "recorded" / "longer"  # 08.ipynb: a longer run of lesson 08
MOST_BYTES = 50_000_000  # of a notebook; a recorded lesson has a few hundred kilobytes


@dataclass(frozen=True)
class EarlierMeasurement:
    """A quantity as another lesson measured it, and where; None if no lesson did."""

    value: float | Estimate | None
    source: str  # "lesson 10 on Intel(R) Xeon(R) Processor"


def measured_earlier(
    lesson: str, claim: str, quantity: str, folder: Path | None = None
) -> EarlierMeasurement:
    """The quantity that lesson `lesson` measured for the verdict on a claim.

    Parameters
    ----------
    lesson
        The lesson's number, for example "10".
    claim, quantity
        The claim's number, and a quantity of its rule in `claims.toml`.
    folder
        With the reader's own lessons. None: the folder in which the notebook runs.

    Raises
    ------
    BadValue
        The kit has no lesson with that number.
    """
    stored = next(NOTEBOOKS.glob(f"{lesson}-*.ipynb"), None)
    if stored is None:
        raise BadValue(f"lesson {lesson!r}: not found in {NOTEBOOKS}; give two digits, as '05'.")
    for record, cpu in _verdicts(stored, claim, folder):
        value = stored_value(record["measured"].get(quantity))
        if value is not None:
            return EarlierMeasurement(value, f"lesson {lesson} on {cpu or 'this computer'}")
    return EarlierMeasurement(None, f"lesson {lesson}")


def recorded_verdict(lesson: str, claim: str, folder: Path | None = None) -> dict[str, Any] | None:
    """The record of the verdict that a lesson gave on a claim, with its lesson and CPU; or None.

    As for `measured_earlier`, the reader's own copy of the lesson counts first.
    """
    return next(iter(recorded_verdicts(lesson, claim, folder)), None)


def recorded_verdicts(lesson: str, claim: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """All of them: the reader's own, that of the kit's longer run, that of the stored lesson."""
    stored = next(NOTEBOOKS.glob(f"{lesson}-*.ipynb"), None)
    found = _verdicts(stored, claim, folder) if stored else ()
    return [{**record, "lesson": f"lesson {lesson}", "cpu": cpu} for record, cpu in found]


def recorded_result(experiment: str, kind: str) -> dict[str, Any]:
    """The last record of a kind of result in an experiment, with the CPU that measured it.

    As for `measured_earlier`, the reader's own copy counts first, in the folder `experiments` of
    the folder in which the notebook runs.

    Raises
    ------
    BadValue
        No copy of the experiment has such a result.
    """
    own = Path.cwd() / "experiments"
    for folder in (own, NOTEBOOKS / "experiments"):
        records = _records(folder / f"{experiment}.ipynb")
        found = [record for record in records if record["kind"] == kind]
        if found:
            cpu = next((r["cpu"] for r in records if r["kind"] == "Machine" and "cpu" in r), None)
            return {**found[-1], "cpu": cpu or "a computer that it does not name"}
    raise BadValue(
        f"no copy of the experiment {experiment!r} in {own} or in the kit has a {kind}. "
        f"Run it: kit run {experiment}."
    )


def _verdicts(
    stored: Path, claim: str, folder: Path | None
) -> Iterator[tuple[dict[str, Any], str]]:
    """The latest verdict on a claim, and the CPU: the reader's, the longer run's, the kit's."""
    own = (folder or Path.cwd()) / stored.name
    first = [] if _as_recorded(own) else [own]
    for path in (*first, LONGER / f"{stored.name[:2]}.ipynb", stored):
        records = _records(path)
        found = [record for record in records if record.get("claim_id") == claim]
        if found and isinstance(found[-1].get("measured"), dict):
            yield found[-1], next((r.get("cpu", "") for r in records if r["kind"] == "Machine"), "")


def _as_recorded(path: Path) -> bool:
    """Whether a copy still has the outputs that the kit recorded: of the machine of its stamp."""
    notebook = _notebook(path)
    try:
        machine = notebook["metadata"][STAMP]["machine"]
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        return any(
            "".join(o["data"].get("text/plain", "")) == machine for o in outputs if "data" in o
        )
    except (KeyError, AttributeError, TypeError):
        return False


def _records(path: Path) -> list[dict[str, Any]]:
    """The records in a stored notebook; none if it cannot be read."""
    try:
        cells = _notebook(path)["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return [record for output in outputs for record in records_in(output)]
    except (KeyError, AttributeError, TypeError):
        return []  # a reader's file can contain anything, and then the kit's own copy counts


def _notebook(path: Path) -> Any:
    """What a file contains, as JSON; nothing if it cannot be read."""
    try:
        return json.loads(read_file(path, MOST_BYTES))
    except (OSError, ValueError):
        return {}


def stored_value(stored: Any) -> float | Estimate | None:
    """The number or estimate in a record; None if it is something else."""
    if not isinstance(stored, dict):
        return stored if is_number(stored) else None
    value, low, high = (stored.get(name) for name in ("value", "low", "high"))
    if not is_number(value) or not all(end is None or is_number(end) for end in (low, high)):
        return None
    return Estimate(value, low, high, str(stored.get("unit", "")))  # type: ignore[arg-type]
