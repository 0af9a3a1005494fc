"""Run a notebook from top to bottom in a kernel of this very Python."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import uuid4

from kit.core.errors import BadValue, LessonFailed, UnknownName
from kit.core.files import COMMAND_FOLDER
from kit.experiments.machine_lock import Say, turn
from kit.experiments.outputs import check_place, keep, strip_folders
from kit.experiments.parameters import check_parameters

_PACKAGE = Path(__file__).resolve().parents[1]
# The lessons travel with an installed package, inside it; in a checkout they stand beside it.
NOTEBOOKS = (_PACKAGE if (_PACKAGE / "notebooks").is_dir() else _PACKAGE.parent) / "notebooks"
KERNEL = "python3"
SWEEP = "KIT_SWEEP"  # in a kernel's environment: which sweep has started it
START_S = 120  # how long a kernel may take to start, and its last output to arrive
UNWIND_S = 1  # how long an interrupted cell gets before its kernel is ended
LONG_S = 60  # a cell that takes longer is worth a line, and twice as long another one


def lessons(folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons in their order: notebooks whose names begin with a number."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def find_notebook(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook at that path, the lesson with that number, or either by its name.

    A path may leave out `.ipynb`; a number, its first zero.

    Raises
    ------
    UnknownName
        There is none: the near names, and all that came with the kit.
    BadValue
        It is a folder.

    >>> find_notebook("1").name[:3]
    '01-'
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    own = path.with_name(f"{path.name}.ipynb") if path.name else path
    if own.is_file():
        return own
    kits = [*lessons(folder), *sorted((folder / "experiments").glob("*.ipynb"))]
    known = {p.stem: p for p in kits}
    numbers = {p.name[:2]: p for p in lessons(folder)}
    found = known.get(name.removesuffix(".ipynb")) or numbers.get(name.zfill(2))
    if found:
        return found
    if path.is_dir():
        raise BadValue(f"{name} is a folder; needs a notebook, by its path or its name.")
    raise UnknownName("notebook", name, [*known, *map(str, sorted(path.parent.glob("*.ipynb")))])


def run(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    bar: bool = False,
    say: Say | None = None,
    limit_s: float | None = None,
) -> Path:
    """Run a notebook with papermill and write the executed one; returns its path.

    It waits until no other run of the kit computes on this machine, and tells `say` if it must.
    The output holds no state of widgets: where a panel was, its picture stays.

    Parameters
    ----------
    notebook, output, parameters
        What to run, where to write, and values by name for the notebook's parameters.
    bar
        Whether to show a progress bar. Without one, `say` is told of each cell that takes long.
    limit_s
        The most seconds for a cell; None: as long as it needs, since its parameters decide that.

    Raises
    ------
    BadValue
        The output could not be written, or a parameter is not possible. Nothing has run.
    LessonFailed
        A cell raised: which error, and where the notebook up to there was kept.
    """
    values = check_parameters(notebook, parameters or {})
    check_place(output)
    failed = output.with_suffix(".failed.ipynb")
    with turn(say) as told:
        executed = prepared(notebook.read_text(encoding="utf-8"), str(notebook), values)
        try:
            error = perform_apart(executed, notebook.parent, told, notebook.stem, limit_s, say, bar)
        except KeyboardInterrupt:
            if say:
                say(f"The notebook up to there is in {keep(executed, failed)}.")
            raise
    if error:
        kept = keep(executed, failed)
        raise LessonFailed(f"{notebook.name}: {error} The notebook up to there is in {kept}.")
    return keep(executed, output)


def execute(
    source: str,
    name: str,
    values: Mapping[str, Any],
    folder: Path,
    told: Mapping[str, str],
    limit_s: float | None = None,
    label: str = "",
    say: Say | None = None,
) -> tuple[Any, str]:
    """The executed notebook, and which cell raised what; "" if none did.

    Parameters
    ----------
    source, name
        The notebook's text, and the path to remember as its origin.
    values
        Of its parameters, checked before.
    folder, told, limit_s, label, say
        See `perform`; the label is the notebook's name if there is none.
    """
    notebook = prepared(source, name, values)
    return notebook, perform(notebook, folder, told, label or Path(name).stem, limit_s, say)


def perform(
    notebook: Any,
    folder: Path,
    told: Mapping[str, str],
    label: str,
    limit_s: float | None = None,
    say: Say | None = None,
    bar: bool = False,
) -> str:
    """Run a prepared notebook's cells and fill in their outputs; which cell raised what, or "".

    Parameters
    ----------
    folder
        Where its kernel works.
    told
        What its kernel finds in its environment beside what is there already.
    label
        What it is called in progress lines.
    limit_s
        The most seconds for a cell; None: no limit.
    say
        Is told of each cell that has run for a minute, two minutes, four …
    bar
        Whether to show a progress bar instead.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NotebookExecutionManager

    progress = {"desc": label, "leave": True} if bar else False
    manager = NotebookExecutionManager(notebook, progress_bar=progress)
    client = _client(manager, folder, limit_s)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel before the user's
    here = os.environ.get(COMMAND_FOLDER, os.getcwd())  # another notebook may start it
    manager.notebook_start()
    try:
        with _watched(manager, label, say):
            client.execute(env={**os.environ, COMMAND_FOLDER: here, **told})
    except CellTimeoutError:
        note_error(notebook, CellTimeoutError(f"took longer than the limit of {limit_s:g} s"))
    except (DeadKernelError, RuntimeError) as error:  # the latter: the kernel did not start
        note_error(notebook, error)
    finally:
        manager.cleanup_pbar()  # before it is told that all is complete, which may not be so
        manager.notebook_complete()
        strip_folders(notebook, [NOTEBOOKS.parent, folder, Path(here)])
    return _raised(notebook)


def perform_apart(
    notebook: Any, folder: Path, told: Mapping[str, str], *rest: Any, **options: Any
) -> str:
    """Like `perform`, in a thread of its own, so that Ctrl-C meets no loop of events halfway.

    Raises
    ------
    KeyboardInterrupt
        The kernel has ended, and the notebook holds what ran until then.
    """
    from papermill.execute import remove_error_markers

    mark = uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(perform, notebook, folder, {**told, SWEEP: mark}, *rest, **options)
        try:
            while not run.done():  # Windows sees Ctrl-C only between two waits
                wait([run], timeout=1)
        except KeyboardInterrupt:
            while not run.done():
                end_kernels(mark)
                wait([run], timeout=0.1)
            remove_error_markers(notebook)
            note_error(notebook, KeyboardInterrupt("stopped by hand"))
            _raised(notebook)
            raise
    return run.result()


def _client(manager: Any, folder: Path, limit_s: float | None) -> Any:
    """What runs the cells in a kernel, and ends the kernel without a complaint."""
    from jupyter_client.manager import AsyncKernelManager
    from papermill.clientwrap import PapermillNotebookClient

    class Kernel(AsyncKernelManager):
        """One that is interrupted only if a cell runs: an idle one would log an error.

        So would a busy one that is not given the time to say how its cell ended.
        """

        async def _async_interrupt_kernel(self) -> None:
            if not (self.shutting_down and client.all_ran):
                await super()._async_interrupt_kernel()
                await asyncio.sleep(UNWIND_S)

        interrupt_kernel = _async_interrupt_kernel

    class Client(PapermillNotebookClient):
        all_ran = False

        def papermill_execute_cells(self) -> None:
            super().papermill_execute_cells()
            self.all_ran = True

    client = Client(
        manager,
        timeout=limit_s,
        startup_timeout=START_S,
        iopub_timeout=START_S,
        kernel_name=KERNEL,
        kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(folder)}},
        config=kernel_settings(),
    )
    return client


def kernel_settings() -> Any:
    """For nbclient: a kernel that listens in plain text warns of it above what a notebook says."""
    from traitlets.config import Config
    from zmq import has

    policy = "auto" if has("curve") else "disabled"
    return Config({"KernelManager": {"transport_encryption": policy}})


@contextmanager
def _watched(manager: Any, label: str, say: Say | None) -> Iterator[None]:
    """Within, the bar moves on by itself; without a bar, `say` is told of cells that take long."""
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(manager, label, say, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(manager: Any, label: str, say: Say | None, ended: threading.Event) -> None:
    from kit.experiments.plans import long

    cells = [cell for cell in manager.nb.cells if cell.cell_type == "code"]
    running, began, due = None, 0.0, LONG_S
    while not ended.wait(min(1, LONG_S)):
        if manager.pbar:
            manager.pbar.refresh()
        states = [cell.metadata.get("papermill", {}).get("status") for cell in cells]
        now = states.index(manager.RUNNING) if manager.RUNNING in states else None
        if now != running:
            running, began, due = now, time.monotonic(), LONG_S
        elif now is not None and say and not manager.pbar and time.monotonic() - began >= due:
            say(f"{label}: cell {now + 1} of {len(cells)} has run for {long(due)}")
            due += min(due, 3600)


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
    notebook.metadata.papermill["input_path"] = Path(name).name  # a folder tells whose it is
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

    kinds = [cell.cell_type == "code" for cell in notebook.cells]
    codes = list(accumulate(kinds))  # its number among the code cells; a dead kernel counts none
    try:
        raise_for_execution_errors(notebook, None)
    except PapermillExecutionError as error:
        number = codes[error.cell_index]
        return " ".join(f"cell {number} raised {error.ename}: {error.evalue}".split())
    return ""


def end_kernels(mark: str) -> None:
    """End the kernels that this process has started for the sweep of that mark."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.environ().get(SWEEP) == mark:
                child.kill()
