"""Run a notebook from top to bottom in a kernel of this very Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from kit.errors import LessonFailed, UnknownName
from kit.places import FOLDER
from kit.runs.parameters import check_parameters
from kit.runs.turns import Say, turn

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
KERNEL = "python3"
SWEEP = "KIT_SWEEP"  # in a kernel's environment: which sweep has started it
CELL_TIMEOUT_S = 600  # a cell that takes longer hangs: whole lessons take a minute


def lessons(folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons in their order: notebooks whose names begin with a number."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def find_notebook(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook of that path, the lesson of that number, or the experiment of that name.

    >>> find_notebook("01").name[:3]
    '01-'
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {p.name[:2]: p for p in lessons(folder)}
    known |= {p.name: p for p in known.values()}
    known |= {p.stem: p for p in sorted((folder / "experiments").glob("*.ipynb"))}
    if name in known:
        return known[name]
    raise UnknownName("notebook", name, known)


def run(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    bar: bool = False,
    say: Say | None = None,
) -> Path:
    """Run a notebook with papermill and write the executed one; returns its path.

    It waits until no other run of the kit computes on this machine, and tells `say` if it must.
    The output holds no state of widgets: where a panel was, its picture stays.

    Raises
    ------
    LessonFailed
        A cell raised: which error, and where the notebook up to there was kept.
    """
    values = check_parameters(notebook, parameters or {})
    output.parent.mkdir(parents=True, exist_ok=True)
    with turn(say) as told:
        source = notebook.read_text(encoding="utf-8")
        executed, error = execute(source, str(notebook), values, notebook.parent, told, bar)
    if error:
        failed = keep(executed, output.with_suffix(".failed.ipynb"))
        raise LessonFailed(f"{notebook.name}: {error} The notebook up to there is in {failed}.")
    return keep(executed, output)


def execute(
    source: str,
    name: str,
    values: Mapping[str, Any],
    folder: Path,
    told: Mapping[str, str],
    bar: bool = False,
) -> tuple[Any, str]:
    """The executed notebook, and which cell raised what; "" if none did.

    Parameters
    ----------
    source, name
        The notebook's text, and the path to remember as its origin.
    values
        Of its parameters, checked before.
    folder
        Where its kernel works.
    told
        What its kernel finds in its environment beside what is there already.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NotebookExecutionManager

    notebook = prepared(source, name, values)
    progress = {"desc": Path(name).stem, "leave": True} if bar else False
    manager = NotebookExecutionManager(notebook, progress_bar=progress)
    resources = {"metadata": {"path": str(folder)}}
    client = PapermillNotebookClient(
        manager,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNEL,
        resources=resources,
        config=kernel_settings(),
    )
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel before the user's
    manager.notebook_start()
    gave_up: Exception | None = None
    try:
        client.execute(env={**os.environ, FOLDER: os.getcwd(), **told})
    except (CellTimeoutError, DeadKernelError, RuntimeError) as error:  # the last: no start
        gave_up = error
    finally:
        manager.cleanup_pbar()  # before it is told that all is complete, which may not be so
        manager.notebook_complete()
    if gave_up:
        note_error(notebook, gave_up)
    return notebook, _raised(notebook)


def kernel_settings() -> Any:
    """For nbclient: a kernel that listens in plain text warns of it above what a notebook says."""
    from traitlets.config import Config
    from zmq import has

    policy = "auto" if has("curve") else "disabled"
    return Config({"KernelManager": {"transport_encryption": policy}})


def prepared(source: str, name: str, values: Mapping[str, Any]) -> Any:
    """A notebook from its text, as papermill runs it: with a cell of these values."""
    import nbformat
    from papermill.execute import remove_error_markers
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = load_notebook_node(nbformat.reads(source, as_version=4))
    if values:
        kernel = {"kernel_name": KERNEL, "language": "python"}
        notebook = parameterize_notebook(notebook, dict(values), **kernel)
    notebook.metadata.papermill["input_path"] = name
    return remove_error_markers(notebook)


def note_error(notebook: Any, error: BaseException) -> None:
    """Write an error that is no cell's own, such as a dead kernel, where the notebook ended."""
    import nbformat

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    cell = (begun or cells[:1])[-1]
    name = type(error).__name__
    noted = nbformat.v4.new_output("error", ename=name, evalue=str(error), traceback=[])
    # That a kernel was interrupted in order to end it is not why it was ended.
    cell.outputs = [*(out for out in cell.outputs if out.output_type != "error"), noted]


def _raised(notebook: Any) -> str:
    """Which cell raised what, marked in the notebook as papermill does; "" if none did."""
    from papermill import PapermillExecutionError
    from papermill.execute import raise_for_execution_errors

    try:
        raise_for_execution_errors(notebook, None)
    except PapermillExecutionError as error:
        return " ".join(f"cell {error.exec_count} raised {error.ename}: {error.evalue}".split())
    return ""


def keep(notebook: Any, output: Path) -> Path:
    """Write the executed notebook, without widgets, whole or not at all; returns its path."""
    import nbformat

    strip_widgets(notebook)
    draft = output.with_name(f".{output.stem}.{uuid4().hex}.part.ipynb")  # nobody can guess it
    try:
        with draft.open("x", encoding="utf-8") as file:  # never through a link
            nbformat.write(notebook, file)
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)
    return output


def strip_widgets(notebook: Any) -> None:
    """Take the widgets' state and views out; the HTML that stands in for each stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if "jupyter.widget" in k]:
                del output["data"][kind]


def end_kernels(mark: str) -> None:
    """End the kernels that this process has started for the sweep of that mark."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.environ().get(SWEEP) == mark:
                child.kill()
