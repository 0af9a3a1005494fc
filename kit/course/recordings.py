"""Recordings: what a lesson measured on other machines, with the machine and the date.

Run `kit record 05 --measurements` on the other machine. It runs the lesson and stores the results
of the cells tagged `record:NAME`, without the raw times, in a small file in `recordings/`. A lesson
shows the recordings beside its own measurements and always names their machines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue, UnknownName
from kit.core.files import atomic_write
from kit.core.results import Result
from kit.core.units import words
from kit.plots import Table

FOLDER = Path(__file__).parent / "recordings"
LESSONS = sorted(
    path.stem[-2:] for path in (FOLDER.parent / "exercises").glob("lesson_[0-9][0-9].py")
)
RAW = {"times_s", "conditions", "latencies_s"}  # fields left out to keep the file small
MOST_BYTES = 50_000  # per recording, because recordings are part of the package


@dataclass(frozen=True)
class Recording:
    """What one machine measured in one lesson."""

    lesson: str
    machine: dict[str, Any]  # from `kit.machine().to_dict()` on that machine
    date: str
    records: dict[str, dict[str, Any]]  # by the name in the cell's tag
    parameters: dict[str, Any]  # of the notebook, on that machine

    @property
    def label(self) -> str:
        """The machine and the date, for legends."""
        return f"{self.machine['accelerator'] or self.machine['cpu']}, recorded on {self.date}"

    def curve(self, name: str) -> tuple[list[float], list[float]] | None:
        """Values and median seconds of the sweep with that name; None if it was not recorded."""
        if name not in self.records:
            return None
        sweep = self.records[name]
        return sweep["values"], [m["median_s"]["value"] for m in sweep["measurements"]]


@dataclass(frozen=True)
class Recordings(Result):
    """All recordings of one lesson."""

    lesson: str
    recordings: tuple[Recording, ...]

    def curves(self, name: str, **same: Any) -> dict[str, tuple[list[float], list[float]]]:
        """Label -> (values, median seconds) of each recorded sweep with that name.

        Parameters
        ----------
        name
            The name in the cell's tag, without `record:`.
        same
            Notebook parameters that must have the same value in the recording. Curves of different
            work do not belong in one picture.
        """
        found = {
            each.label: each.curve(name)
            for each in self.recordings
            if all(each.parameters.get(key) == value for key, value in same.items())
        }
        return {label: curve for label, curve in found.items() if curve}

    def __repr__(self) -> str:
        if not self.recordings:
            return f"Lesson {self.lesson}: no recording from another machine yet."
        return "; ".join(each.label for each in self.recordings)

    def table(self) -> Table:
        """One row per recording; one sentence if nothing was recorded."""
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
            return Table(("recordings",), [(repr(self),)])
        header = ("accelerator", "processor", "software", "recorded on", "measurements")
        return Table(header, rows, "This notebook measured these on other machines, not here.")

    def to_dict(self) -> dict[str, Any]:
        """The labels of the recordings."""
        return {"lesson": self.lesson, "recordings": [each.label for each in self.recordings]}


def recordings(lesson: str, folder: Path = FOLDER) -> Recordings:
    """What other machines measured in that lesson.

    Parameters
    ----------
    lesson
        The lesson's number, for example "05".
    folder
        The folder with the recordings.

    Explained in lesson 05.
    """
    if not re.fullmatch(r"\d\d", str(lesson)):
        raise BadValue(f"lesson={lesson!r}: needs its number, two digits in quotes, such as '05'.")
    if folder == FOLDER and lesson not in LESSONS:
        raise UnknownName("lesson", lesson, LESSONS)
    files = sorted(folder.glob(f"{lesson}-*.json"))
    return Recordings(lesson, tuple(_read(file) for file in files))


def _read(file: Path) -> Recording:
    try:
        return Recording(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"{file} is not a recording ({error}). It needs to come from kit record "
            f"--measurements. Delete it, or record again."
        ) from error


def save_recording(
    lesson: str,
    machine: Mapping[str, Any],
    date: str,
    records: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    folder: Path = FOLDER,
) -> Path:
    """Write a recording atomically and return its path; replaces an older one of the machine.

    Raises
    ------
    BadValue
        The recording is too large for the package, even without the raw times.
    """
    small = {name: _without_raw(record) for name, record in records.items()}
    recording = Recording(lesson, dict(machine), date, small, dict(parameters))
    text = json.dumps(asdict(recording), indent=1) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise BadValue(
            f"the recording of lesson {lesson} would take {words(len(text), 'B')}; it may take at "
            f"most {words(MOST_BYTES, 'B')}. Tag fewer cells, or measure fewer values."
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
