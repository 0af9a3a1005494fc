"""Keep a lesson's outputs: a reader on the web sees tables and pictures without running it.

The stamp in the notebook's metadata holds a hash of the code cells that ran, the machine and the
date. A test compares it with the cells, so that no output outlives the code that made it.
"""

from __future__ import annotations

import hashlib
import os
from datetime import date
from pathlib import Path
from typing import Any

from kit.devices import machine
from kit.errors import LessonFailed
from kit.runs.execution import CELL_TIMEOUT_S, KERNEL, strip_widgets

STAMP = "kit_recording"


def cells_hash(notebook: Any) -> str:
    """SHA-256 of the sources of the code cells, in their order."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def is_current(path: Path) -> bool:
    """Whether the outputs of a notebook were made by the cells that it has now."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get(STAMP, {}).get("cells_sha256") == cells_hash(notebook)


def record(path: Path) -> None:
    """Run a lesson with its defaults and write its outputs into it, whole or not at all."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNEL,
        resources=resources,
        store_widget_state=False,
        record_timing=False,
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise LessonFailed(f"{path.name} is not recorded: {error}") from error
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
    draft = path.with_suffix(".part")
    nbformat.write(notebook, draft)
    os.replace(draft, path)
