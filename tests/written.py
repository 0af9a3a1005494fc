"""Notebooks made in tests: real files that a kernel can run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

# For papermill, which else writes the file twice for each cell, whatever its size. In the end it
# writes the same file.
WITHOUT_DRAFTS = {"request_save_on_cell_execute": False, "progress_bar": False}


def written(path: Path, cells: Sequence[Any]) -> Path:
    """A notebook of these cells at that path, which asks for this Python's kernel."""
    made = nbformat.v4.new_notebook(cells=list(cells))
    made.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


def asking(path: Path, cell: str, tags: Sequence[str] = ("parameters",)) -> Path:
    """A notebook with that parameters cell, and a cell that would show if a kernel ran."""
    first = nbformat.v4.new_code_cell(cell.strip(), metadata={"tags": list(tags)})
    marker = nbformat.v4.new_code_cell(f"open({str(path.with_suffix('.ran'))!r}, 'w')")
    return written(path, [first, marker])
