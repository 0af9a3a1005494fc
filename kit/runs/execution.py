"""Run a notebook from top to bottom in a kernel of this very Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import LessonFailed, UnknownName
from kit.runs.parameters import check_parameters

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
KERNEL = "python3"
CELL_TIMEOUT_S = 600  # a cell that takes longer hangs: whole lessons take a minute


def lessons(folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons in their order: notebooks whose names begin with a number."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def find_notebook(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook of that path, or the lesson of that number.

    >>> find_notebook("01").name[:3]
    '01-'
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {p.name[:2]: p for p in lessons(folder)}
    known |= {p.name: p for p in known.values()}
    if name in known:
        return known[name]
    raise UnknownName("notebook", name, known)


def run(
    notebook: Path, output: Path, parameters: Mapping[str, Any] | None = None, bar: bool = False
) -> Path:
    """Run a notebook with papermill and write the executed one; returns its path.

    The output holds no state of widgets: where a panel was, its picture stays.

    Raises
    ------
    LessonFailed
        A cell raised: which error, and where the notebook up to there was kept.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    values = check_parameters(notebook, parameters or {})
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_suffix(".part.ipynb")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel before the user's
    try:
        papermill.execute_notebook(
            str(notebook),
            str(draft),
            parameters=values,
            kernel_name=KERNEL,
            cwd=str(notebook.parent),
            progress_bar={"desc": notebook.stem, "leave": True} if bar else False,
            execution_timeout=CELL_TIMEOUT_S,
            request_save_on_cell_execute=False,
        )
    except (papermill.PapermillExecutionError, DeadKernelError, CellTimeoutError) as error:
        told = f"{notebook.name}: the kernel gave up: {error}"
        if isinstance(error, papermill.PapermillExecutionError):
            told = f"{notebook.name}: cell {error.exec_count} raised {error.ename}: {error.evalue}"
        if draft.exists():
            failed = _move(draft, output.with_suffix(".failed.ipynb"))
            told += f" The notebook up to there is in {failed}."
        raise LessonFailed(told) from error
    return _move(draft, output)


def _move(draft: Path, output: Path) -> Path:
    """The executed notebook, without widgets, at its place in one move."""
    import nbformat

    notebook = nbformat.read(draft, as_version=4)
    strip_widgets(notebook)
    nbformat.write(notebook, draft)
    os.replace(draft, output)
    return output


def strip_widgets(notebook: Any) -> None:
    """Take the widgets' state and views out; the HTML that stands in for each stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if "jupyter.widget" in k]:
                del output["data"][kind]
