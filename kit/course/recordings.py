"""What a lesson measured on other machines: recordings, each labelled with its machine and day.

A recording is made where the machine is, by the very notebook, with `kit run 05 --record`: what
the cells tagged `record:NAME` displayed is kept, without the raw times, in `recordings/`. A lesson
shows it beside what it measures here, and never as if it had been measured here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue
from kit.core.files import atomic_write
from kit.core.results import Result
from kit.core.units import words
from kit.plots import Table

FOLDER = Path(__file__).parent / "recordings"
RAW = {"times_s", "conditions", "latencies_s"}  # what a small file has no room for
MOST_BYTES = 50_000  # of a recording: it travels with the package


@dataclass(frozen=True)
class Recording:
    """What one machine measured in one lesson."""

    lesson: str
    machine: dict[str, Any]  # as `kit.machine().to_dict()` gave it there
    date: str
    records: dict[str, dict[str, Any]]  # by the name in the cell's tag
    parameters: dict[str, Any]  # of the notebook, there

    @property
    def label(self) -> str:
        """The machine and the day, for legends."""
        return f"{self.machine['accelerator'] or self.machine['cpu']}, recorded on {self.date}"

    def curve(self, name: str) -> tuple[list[float], list[float]] | None:
        """Values and median seconds of a sweep of that name; None if there is none."""
        if name not in self.records:
            return None
        sweep = self.records[name]
        return sweep["values"], [m["median_s"]["value"] for m in sweep["measurements"]]


@dataclass(frozen=True)
class Recorded(Result):
    """The recordings of one lesson."""

    lesson: str
    recordings: tuple[Recording, ...]

    def curves(self, name: str, **same: Any) -> dict[str, tuple[list[float], list[float]]]:
        """Label -> (values, median seconds) of each recorded sweep of that name.

        Parameters
        ----------
        name
            In the cell's tag, without `record:`.
        same
            Parameters of the notebook that must have been the same there: unequal work is not
            laid over one's own.
        """
        found = {
            each.label: each.curve(name)
            for each in self.recordings
            if all(each.parameters.get(key) == value for key, value in same.items())
        }
        return {label: curve for label, curve in found.items() if curve}

    def __repr__(self) -> str:
        if not self.recordings:
            return f"Lesson {self.lesson}: not measured elsewhere, there is no recording yet."
        return "; ".join(each.label for each in self.recordings)

    def table(self) -> Table:
        """Who recorded what; a sentence if nobody has."""
        rows = [
            (
                each.machine["accelerator"] or "none",
                each.machine["cpu"],
                f"PyTorch {each.machine['torch']}",
                each.date,
                ", ".join(each.records),
            )
            for each in self.recordings
        ]
        if not rows:
            return Table(("recorded elsewhere",), [(repr(self),)])
        header = ("accelerator", "processor", "software", "recorded on", "what")
        return Table(header, rows, "Measured by this very notebook on those machines, not here.")

    def to_dict(self) -> dict[str, Any]:
        """Which recordings there are."""
        return {"lesson": self.lesson, "recordings": [each.label for each in self.recordings]}


def recorded(lesson: str, folder: Path = FOLDER) -> Recorded:
    """What other machines measured in that lesson.

    Parameters
    ----------
    lesson
        Its number, e.g. "05".
    folder
        Where the recordings are.

    Explained in lesson 05.
    """
    if not re.fullmatch(r"\d\d", str(lesson)):
        raise BadValue(f"lesson {lesson!r}: needs its number, two digits in quotes, such as '05'.")
    return Recorded(lesson, tuple(_read(file) for file in sorted(folder.glob(f"{lesson}-*.json"))))


def _read(file: Path) -> Recording:
    try:
        return Recording(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"{file} is no recording ({error}): needs a file as `kit run --record` writes it; "
            f"delete it, or record again."
        ) from error


def keep(
    lesson: str,
    machine: Mapping[str, Any],
    date: str,
    records: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    folder: Path = FOLDER,
) -> Path:
    """Write a recording, whole or not at all; a newer one of the same machine takes its place.

    Raises
    ------
    BadValue
        It would be too large to travel with the package, even without the raw times.
    """
    small = {name: _without_raw(record) for name, record in records.items()}
    recording = Recording(lesson, dict(machine), date, small, dict(parameters))
    text = json.dumps(asdict(recording), indent=1) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise BadValue(
            f"the recording of lesson {lesson} would have {words(len(text), 'B')}: needs at most "
            f"{words(MOST_BYTES, 'B')}. Tag fewer cells, or measure fewer values."
        )
    name = re.sub(r"[^a-z0-9]+", "-", (machine["accelerator"] or machine["cpu"]).lower()).strip("-")
    path = folder / f"{lesson}-{name}.json"
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _without_raw(record: Any) -> Any:
    if isinstance(record, Mapping):
        return {key: _without_raw(value) for key, value in record.items() if key not in RAW}
    if isinstance(record, list):
        return [_without_raw(value) for value in record]
    return record
