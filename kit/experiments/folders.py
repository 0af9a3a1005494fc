"""Folders of executed notebooks: those that one names, and those that came with the kit.

The kit brings two, so that a report can be read before anything has run:

eight      every workload with its defaults, one of them in other forms
class      one workload several times, under conditions that differ, as on a class's laptops
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue
from kit.core.files import COMMAND_FOLDER, atomic_write, user_path
from kit.core.results import RECORD
from kit.experiments.execution import NOTEBOOKS
from kit.experiments.records import DONE, executed

RECORDED = NOTEBOOKS / "experiments" / "recorded"
KEPT = ("Machine", "Peaks", "RunCost", "Verdict")  # kinds of record that reports read


def experiment_folder(folder: str, recorded: str = "eight") -> Path:
    """The folder of that name: where `kit run` was typed, here, or in the project's root.

    "recorded" is the kit's own.

    Raises
    ------
    BadValue
        There is no such folder: where it was looked for.
    """
    if folder == "recorded":
        return RECORDED / recorded
    for path in (user_path(folder), NOTEBOOKS.parent / folder):
        if path.is_dir():
            return path
    where = os.environ.get(COMMAND_FOLDER, os.getcwd())
    raise BadValue(f"folder={folder!r}: no such folder in {where}. Make one with kit sweep.")


def keep_runs(folder: Path, kept: Path) -> list[Path]:
    """Keep the records of a folder's runs in another one, without pictures, widgets and prose.

    What is kept is still an executed notebook each: code, parameters and the records. A run that
    failed stays out.
    """
    paths = [
        folder / f"{run.run}.ipynb"
        for run in executed(folder)
        if run.status == DONE and "/" not in run.run  # of this folder, not of one inside it
    ]
    if not paths:
        raise BadValue(f"{folder}: holds no executed notebook to keep.")
    thin = [_thin(json.loads(path.read_bytes())) for path in paths]
    new = [_write(each, kept / path.name) for each, path in zip(thin, paths, strict=True)]
    for old in set(kept.glob("*.ipynb")) - set(new):  # last: nothing is lost if the disk is full
        old.unlink()
    return new


def _thin(notebook: dict[str, Any]) -> dict[str, Any]:
    """The code cells of a notebook, each with no other output than the records that are read."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        records = [output.get("data", {}).get(RECORD, {}) for output in cell["outputs"]]
        cell["outputs"] = [
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"text/plain": record["kind"], RECORD: record},
            }
            for record in records
            if record.get("kind") in KEPT
        ]
    mill = dict(notebook["metadata"].get("papermill", {}))
    for name in {"input_path", "output_path"} & set(mill):  # folders tell whose computer it was
        mill[name] = Path(mill[name] or "").name
    return {**notebook, "cells": cells, "metadata": {**notebook["metadata"], "papermill": mill}}


def _write(notebook: dict[str, Any], path: Path) -> Path:
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path
