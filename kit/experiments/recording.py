"""Record what notebooks show, so that others see it without running them.

record_lesson        the outputs of a lesson or an experiment, stored in it, with machine and date
record_measurements  what the cells tagged `record:NAME` measured, for readers on other machines
record_runs          the records of a folder of executed experiments, for the reports of the course

A recorded lesson is stamped with a hash of the code cells that ran. A test compares the stamp with
the cells, so that no output outlives the code that made it.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue, KitError, LessonFailed
from kit.core.files import COMMAND_FOLDER, NOTEBOOKS, atomic_write, user_path
from kit.core.results import RECORD, RECORDING, records_in
from kit.course import recordings
from kit.course.earlier_lessons import STAMP
from kit.course.sentences import unmarked_sentences
from kit.experiments.execution import KERNEL, execute_in_thread, prepare_notebook
from kit.experiments.machine_lock import Say, machine_lock
from kit.experiments.outputs import check_writable, strip_widgets, write_text
from kit.experiments.records import DONE, executed_runs

TAG = "record:"  # a cell tagged `record:NAME` measures something that other machines may show
RECORDED_RUNS = NOTEBOOKS / "experiments" / "recorded"
REPORTED = ("Machine", "Peaks", "RunCost", "Verdict")  # the kinds of record that reports read


def cells_hash(notebook: Any) -> str:
    """SHA-256 of the sources of the code cells, in their order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def record_lesson(path: Path, say: Say | None = None, limit_s: float | None = None) -> None:
    """Run a lesson or an experiment with its defaults and store its outputs in it.

    Parameters
    ----------
    say, limit_s
        As for `kit.experiments.run`.

    Raises
    ------
    BadValue
        Sentences of direction or cause have no mark; the message lists them.
    LessonFailed
        A cell raised; the lesson is unchanged.
    """
    import nbformat

    from kit.devices import machine  # imported here: reading a stamp needs no PyTorch

    check_writable(path)
    source = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(source, as_version=4)
    if path.name[:2].isdigit() and (found := unmarked_sentences(notebook)):
        raise BadValue("\n  ".join([f"{path.name}: not recorded; see CONTRIBUTING.md.", *found]))
    executed = prepare_notebook(source, str(path), {})
    with machine_lock(say) as kernel_env:
        kernel_env[RECORDING] = "1"
        error = execute_in_thread(executed, path.parent, kernel_env, path.stem, limit_s, say)
    if error:
        raise LessonFailed(f"{path.name} is not recorded: {error}")
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


# --- Measurements, for other machines ------------------------------------------------------------


def tagged_cells(path: Path) -> dict[str, Any]:
    """The cells tagged `record:NAME` of a notebook, by that name."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    tagged = ((tag, cell) for cell in cells for tag in cell.metadata.get("tags", []))
    return {tag.removeprefix(TAG): cell for tag, cell in tagged if tag.startswith(TAG)}


def record_measurements(executed: Path, lesson: str, folder: Path = recordings.FOLDER) -> Path:
    """Store what the cells tagged `record:NAME` of an executed lesson measured on this machine.

    Raises
    ------
    KitError
        They measured nothing here, as on a computer without an accelerator.
    """
    from kit.devices import machine

    measured = {
        name: output["data"][RECORD]
        for name, cell in tagged_cells(executed).items()
        for output in cell.outputs
        if RECORD in output.get("data", {})
    }
    if not measured:
        raise KitError(
            f"nothing to record: the cells tagged {TAG}… of {executed.name} measured nothing on "
            f"this machine ({machine()!r}). Record on a machine with an accelerator."
        )
    (run,) = executed_runs(executed)
    here, today = machine().to_dict(), date.today().isoformat()
    return recordings.save_recording(lesson, here, today, measured, run.parameters, folder)


# --- Folders of runs, for reports ----------------------------------------------------------------


def experiment_folder(folder: str, recorded: str = "eight") -> Path:
    """A folder of executed notebooks: from where `kit run` was typed, or in the project's root.

    The name "recorded" means the folder of this name that comes with the kit: "eight" has every
    workload with its defaults, one of them in other forms; "class" has one workload several times,
    under different conditions, as on the laptops of a class.

    Raises
    ------
    BadValue
        The folder does not exist. The message lists the places that were searched.
    """
    if folder == "recorded":
        return RECORDED_RUNS / recorded
    for path in (user_path(folder), NOTEBOOKS.parent / folder):
        if path.is_dir():
            return path
    where = os.environ.get(COMMAND_FOLDER, os.getcwd())
    advice = "Give one that contains executed notebooks; kit sweep makes one"
    raise BadValue(f"folder={folder!r}: no such folder in {where}. {advice}.")


def record_runs(folder: Path, target: Path) -> list[Path]:
    """Copy the runs of a folder to another one, without pictures, widgets and prose.

    Each copy is still an executed notebook: code, parameters and records. Failed runs are left
    out, and so are notebooks in folders inside it.
    """
    paths = [
        folder / f"{run.name}.ipynb"
        for run in executed_runs(folder)
        if run.status == DONE and "/" not in run.name
    ]
    if not paths:
        raise BadValue(
            f"{folder}: contains no executed notebook without an error. Make some with kit sweep."
        )
    copies = [_records_only(json.loads(path.read_bytes())) for path in paths]
    new = [
        write_text(target / path.name, json.dumps(copy, indent=1, ensure_ascii=False) + "\n")
        for copy, path in zip(copies, paths, strict=True)
    ]
    for old in set(target.glob("*.ipynb")) - set(new):  # last: a full disk loses nothing
        old.unlink()
    return new


def _records_only(notebook: dict[str, Any]) -> dict[str, Any]:
    """The code cells of a notebook; of their outputs, only the records that reports read."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        records = [record for output in cell["outputs"] for record in records_in(output)]
        cell["outputs"] = [
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"text/plain": record["kind"], RECORD: record},
            }
            for record in records
            if record.get("kind") in REPORTED
        ]
    papermill = dict(notebook["metadata"].get("papermill", {}))
    for name in {"input_path", "output_path"} & set(papermill):  # a folder may name the user
        papermill[name] = Path(papermill[name] or "").name
    metadata = {**notebook["metadata"], "papermill": papermill}
    return {**notebook, "cells": cells, "metadata": metadata}
