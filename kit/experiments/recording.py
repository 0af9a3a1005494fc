"""Keep what a lesson showed: all outputs, for a reader on the web; or a few, for other machines.

The stamp in the notebook's metadata holds a hash of the code cells that ran, the machine and the
date. A test compares it with the cells, so that no output outlives the code that made it.
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

from kit.core.errors import KitError, LessonFailed
from kit.core.files import atomic_write
from kit.core.results import RECORD
from kit.course import recordings
from kit.experiments.execution import KERNEL, perform_apart, prepared
from kit.experiments.machine_lock import Say, turn
from kit.experiments.outputs import check_place, strip_widgets
from kit.experiments.parameters import declared

STAMP = "kit_recording"
NAMED = "record:"  # how the tag begins of a cell whose measurement may be kept for other machines


def cells_hash(notebook: Any) -> str:
    """SHA-256 of the sources of the code cells, in their order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def is_current(path: Path) -> bool:
    """Whether the outputs of a notebook were made by the cells that it has now."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get(STAMP, {}).get("cells_sha256") == cells_hash(notebook)


def record(path: Path, say: Say | None = None, limit_s: float | None = None) -> None:
    """Run a lesson with its defaults and write its outputs into it, whole or not at all.

    Parameters
    ----------
    say, limit_s
        As for `kit.experiments.run`.

    Raises
    ------
    LessonFailed
        A cell raised; the lesson is as it was.
    """
    import nbformat

    from kit.devices import machine  # here: reading a stamp needs no PyTorch

    check_place(path)
    source = path.read_text(encoding="utf-8")
    executed = prepared(source, str(path), {})
    with turn(say) as told:
        error = perform_apart(executed, path.parent, told, path.stem, limit_s, say)
    if error:
        raise LessonFailed(f"{path.name} is not recorded: {error}")
    notebook = nbformat.reads(source, as_version=4)
    for cell, ran in zip(notebook.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    strip_widgets(notebook)
    notebook.metadata["kernelspec"] = {
        "name": KERNEL,
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
    }
    notebook.metadata["language_info"] = {"name": "python"}  # no version: it would only differ
    notebook.metadata[STAMP] = {
        "cells_sha256": cells_hash(notebook),
        "machine": repr(machine()),
        "date": date.today().isoformat(),
    }
    with atomic_write(path) as draft:
        nbformat.write(notebook, draft)


def recorded_cells(path: Path) -> dict[str, Any]:
    """The cells of a notebook whose measurements may be kept for other machines, by name."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    tagged = ((tag, cell) for cell in cells for tag in cell.metadata.get("tags", []))
    return {tag.removeprefix(NAMED): cell for tag, cell in tagged if tag.startswith(NAMED)}


def keep_for_others(executed: Path, lesson: str, folder: Path = recordings.FOLDER) -> Path:
    """Keep what the cells tagged `record:NAME` of an executed lesson measured on this machine.

    Raises
    ------
    KitError
        They measured nothing here, as on a computer without an accelerator.
    """
    from kit.devices import machine

    kept = {
        name: output["data"][RECORD]
        for name, cell in recorded_cells(executed).items()
        for output in cell.outputs
        if RECORD in output.get("data", {})
    }
    if not kept:
        raise KitError(
            f"nothing to keep: the cells tagged {NAMED}… of {executed.name} measured nothing on "
            f"this machine ({machine()!r}); recordings are made where there is an accelerator."
        )
    here, today = machine().to_dict(), date.today().isoformat()
    return recordings.keep(lesson, here, today, kept, _parameters(executed), folder)


def _parameters(executed: Path) -> dict[str, Any]:
    """What the parameters of an executed notebook were: its defaults, and what it was given."""
    import nbformat

    defaults = {name: parameter.default for name, parameter in declared(executed).items()}
    metadata = nbformat.read(executed, as_version=4).metadata
    return {**defaults, **metadata.get("papermill", {}).get("parameters", {})}
