"""Find a notebook, and run it from top to bottom in a kernel of this Python."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from kit.core.errors import BadValue, LessonFailed, UnknownName
from kit.core.files import COMMAND_FOLDER, NOTEBOOKS
from kit.experiments.machine_lock import Say, machine_lock, sockets_prefix
from kit.experiments.outputs import check_writable, save_notebook, strip_folders
from kit.experiments.parameters import check_parameters

KERNEL = "python3"
STARTED_BY = "KIT_STARTED_BY"  # in a kernel's environment: a mark of the sweep that started it
START_S = 120  # the most seconds for a kernel to start, and for its last output to arrive
PARENT_DEATH = 1  # prctl(2): the signal that a process gets when its parent ends
UNWIND_S = 1  # seconds that an interrupted cell gets before its kernel is ended
LONG_S = 60  # a cell that takes longer is reported, and again after twice the time


def lessons(folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons in their order: notebooks whose names begin with a number."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def experiments(folder: Path = NOTEBOOKS) -> list[Path]:
    """The experiments that come with the kit, by name."""
    return sorted((folder / "experiments").glob("*.ipynb"))


def find_notebook(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook with that path or name, or the lesson with that number.

    You may leave out `.ipynb` and the first zero of a number.

    Raises
    ------
    UnknownName
        There is none: the message lists similar names, and all that came with the kit.
    BadValue
        It is a folder.

    >>> find_notebook("1").name[:3]
    '01-'
    """
    path = Path(name).expanduser()
    for own in (path, Path(f"{path}.ipynb")):
        if own.is_file():
            return own
    kits = [*lessons(folder), *experiments(folder)]
    known = {p.stem: p for p in kits}
    numbers = {p.name[:2]: p for p in lessons(folder)}
    found = known.get(name.removesuffix(".ipynb")) or numbers.get(name.zfill(2))
    if found:
        return found
    if path.is_dir():
        raise BadValue(f"{name} is a folder; give the path or the name of a notebook.")
    raise UnknownName("notebook", name, [*known, *map(str, sorted(path.parent.glob("*.ipynb")))])


def run(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    bar: bool = False,
    say: Say | None = None,
    limit_s: float | None = None,
) -> Path:
    """Run a notebook with papermill and write the executed notebook; returns its path.

    It first waits until no other run of the kit computes on this machine. The output contains no
    widgets: each panel is replaced by its picture.

    Parameters
    ----------
    notebook, output, parameters
        What to run, where to write, and values by name for the notebook's parameters.
    bar
        Whether to show a progress bar.
    say
        Called with a line if the run has to wait, and, without a bar, for each cell that takes
        long.
    limit_s
        The most seconds for a cell; None: no limit, since the parameters decide how long it takes.

    Raises
    ------
    BadValue
        The output cannot be written, or a parameter is not possible. Nothing has run.
    LessonFailed
        A cell raised: the message has the error, and says where the notebook up to there is.
    """
    values = check_parameters(notebook, parameters or {})
    check_writable(output)
    failed = output.with_suffix(".failed.ipynb")
    with machine_lock(say) as kernel_env:
        executed = prepare_notebook(notebook.read_text(encoding="utf-8"), str(notebook), values)
        try:
            error = execute_in_thread(
                executed, notebook.parent, kernel_env, notebook.stem, limit_s, say, bar
            )
        except KeyboardInterrupt:
            if say:
                say(f"The notebook up to there is in {save_notebook(executed, failed)}.")
            raise
    if error:
        saved = save_notebook(executed, failed)
        raise LessonFailed(
            f"{notebook.name}: {error.rstrip('.')}. The notebook up to there is in {saved}."
        )
    return save_notebook(executed, output)


def execute_cells(
    notebook: Any,
    folder: Path,
    kernel_env: Mapping[str, str],
    label: str,
    limit_s: float | None = None,
    say: Say | None = None,
    bar: bool = False,
) -> str:
    """Run a prepared notebook's cells and fill in their outputs; returns a cell's error, or "".

    Parameters
    ----------
    folder
        The kernel's working folder.
    kernel_env
        Variables to add to the kernel's environment.
    label
        Its name in progress lines.
    limit_s
        The most seconds for a cell; None: no limit.
    say
        Called with a line when a cell has run for a minute, two minutes, four …
    bar
        Whether to show a progress bar instead.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NotebookExecutionManager

    progress = {"desc": label, "leave": True} if bar else False
    manager = NotebookExecutionManager(notebook, progress_bar=progress)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel before the user's
    here = os.environ.get(COMMAND_FOLDER, os.getcwd())  # another notebook may start it
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(manager, label, say, ended), daemon=True)
    manager.notebook_start()
    began = time.monotonic()
    watch.start()
    try:
        with TemporaryDirectory(prefix=sockets_prefix(), ignore_cleanup_errors=True) as own:
            client, words = _client(manager, folder, own, limit_s), Path(own) / "stderr"
            variables = {**os.environ, COMMAND_FOLDER: here, **kernel_env}
            died = ""
            try:
                with words.open("wb") as stderr:
                    client.execute(env=variables, stderr=stderr, preexec_fn=_end_with_this_thread())
            except (DeadKernelError, RuntimeError) as error:  # the latter: it did not start
                died = str(error)
                if client.process:  # else this process ended it, since it did not start in time
                    died += _how_it_ended(client.process) + _last_error(words)
                add_error(notebook, type(error)(died))
            finally:
                if not died:  # a traceback would hide the line that says why it died
                    sys.stderr.write(words.read_text(errors="replace"))
    except CellTimeoutError as error:
        # nbclient raises it without a limit, too: a computer that was suspended loses outputs.
        why = f"its last output did not arrive within {START_S} s"
        if limit_s is not None and "IOPub" not in str(error):
            why = f"took longer than the limit of {limit_s:g} s"
        add_error(notebook, CellTimeoutError(why))
    finally:
        ended.set()
        watch.join()
        manager.cleanup_pbar()  # first: notebook_complete() would fill the bar
        manager.notebook_complete()
        # Papermill subtracts two times of day. A clock that was set back would give less than 0 s.
        notebook.metadata.papermill["duration"] = round(time.monotonic() - began, 6)
        strip_folders(notebook, [NOTEBOOKS.parent, folder, Path(here)])
    return _raised(notebook)


def _end_with_this_thread() -> Callable[[], None] | None:
    """What a kernel calls before it begins, so that Linux ends it when its parent is killed.

    It looks for its parent itself, too, once a second. But it may have no memory left to do so, or
    not look yet.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def begin() -> None:
        prctl(PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was killed before that
            os._exit(1)

    return begin


def _how_it_ended(process: Any) -> str:
    """The signal that ended the kernel's process, in brackets; "" if none did."""
    code = process.poll()
    if sys.platform == "win32" or code is None or code >= 0:
        return ""
    known = {each.value: each.name for each in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    return f" ({name}{', perhaps because memory ran out' if name == 'SIGKILL' else ''})"


def _last_error(words: Path) -> str:
    """The last error among a kernel's last words, else the last line, behind a colon.

    Python reads what a kernel's own code writes and passes it on, so a kernel may die too soon.
    """
    lines = [line.strip() for line in words.read_text(errors="replace").splitlines()]
    said = [line for line in lines if line]
    errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b|Fatal|FATAL", line)]
    return f": {(errors or said)[-1]}" if said else ""


def execute_in_thread(
    notebook: Any, folder: Path, kernel_env: Mapping[str, str], *rest: Any, **options: Any
) -> str:
    """Like `execute_cells`, in its own thread, so that Ctrl-C does not break an event loop.

    Raises
    ------
    KeyboardInterrupt
        The kernel has ended, and the notebook holds what ran until then.
    """
    from papermill.execute import remove_error_markers

    kernel_env = {**kernel_env, STARTED_BY: (mark := uuid4().hex)}
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(execute_cells, notebook, folder, kernel_env, *rest, **options)
        try:
            while not run.done():  # on Windows, Ctrl-C takes effect only between two waits
                wait([run], timeout=1)
        except KeyboardInterrupt:
            while not run.done():
                end_kernels(mark)
                wait([run], timeout=0.1)
            remove_error_markers(notebook)
            add_error(notebook, KeyboardInterrupt("stopped by hand"))
            _raised(notebook)
            raise
    return run.result()


def _client(manager: Any, folder: Path, sockets: str, limit_s: float | None) -> Any:
    """A client that runs the cells in a kernel, and ends the kernel without log messages."""
    from jupyter_client.manager import AsyncKernelManager
    from papermill.clientwrap import PapermillNotebookClient

    class Kernel(AsyncKernelManager):
        """A kernel that is interrupted only while a cell runs; an idle one would log an error.

        So would a busy one that has no time to report how its cell ended.
        """

        async def _async_interrupt_kernel(self) -> None:
            if not (self.shutting_down and runner.all_ran):
                await super()._async_interrupt_kernel()
                await asyncio.sleep(UNWIND_S)

        interrupt_kernel = _async_interrupt_kernel

        def client(self, **options: Any) -> Any:
            """A client that waits for the start by a clock that does not jump.

            Its own limit is by the time of day.
            """
            found: Any = super().client(**options)
            runner.process = getattr(self.provisioner, "process", None)
            ready = found.wait_for_ready

            async def wait_for_ready(timeout: float | None = None) -> None:
                try:
                    await asyncio.wait_for(ready(timeout=None), timeout)
                except TimeoutError:
                    runner.process = None
                    raise RuntimeError(f"the kernel did not start within {timeout} s") from None

            found.wait_for_ready = wait_for_ready
            return found

    class Client(PapermillNotebookClient):
        all_ran = False
        process: Any = None  # the kernel's

        def papermill_execute_cells(self) -> None:
            super().papermill_execute_cells()
            self.all_ran = True

    runner = Client(
        manager,
        timeout=limit_s,
        startup_timeout=START_S,
        iopub_timeout=START_S,
        kernel_name=KERNEL,
        kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(folder)}},
        config=kernel_settings(sockets),
    )
    return runner


def kernel_settings(sockets: str) -> Any:
    """Settings for nbclient: how this process talks to the kernel, through sockets in a folder.

    On Windows through TCP: a port that is free when it is chosen may be another program's when the
    kernel opens it. Without encryption where it is not installed: a kernel would print a warning
    into the output.
    """
    from traitlets.config import Config
    from zmq import has

    settings = {"transport_encryption": "auto" if has("curve") else "disabled"}
    if sys.platform != "win32":
        settings |= {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
    return Config({"KernelManager": settings})


def _watch(manager: Any, label: str, say: Say | None, ended: threading.Event) -> None:
    """Refresh the bar until the notebook has ended; without a bar, report cells that take long."""
    from kit.experiments.plans import duration_text

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
            say(f"{label}: cell {now + 1} of {len(cells)} has run for {duration_text(due)}")
            due += min(due, 3600)


def prepare_notebook(source: str, name: str, values: Mapping[str, Any]) -> Any:
    """The notebook in this text, as papermill runs it: with a cell that sets these values."""
    import nbformat
    from papermill.execute import remove_error_markers
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = load_notebook_node(nbformat.reads(source, as_version=4))
    if values:
        kernel = {"kernel_name": KERNEL, "language": "python"}
        notebook = parameterize_notebook(notebook, dict(values), **kernel)
    notebook.metadata.papermill["input_path"] = Path(name).name  # a folder may name the user
    return remove_error_markers(notebook)


def add_error(notebook: Any, error: BaseException) -> None:
    """Add an error that no cell raised, such as a dead kernel, where the notebook ended."""
    import nbformat

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    cell = (begun or cells[:1])[-1]
    name = type(error).__name__
    noted = nbformat.v4.new_output("error", ename=name, evalue=str(error), traceback=[])
    # Drop the error of the interrupt that ended the kernel: it is not the cause.
    cell.outputs = [*(out for out in cell.outputs if out.output_type != "error"), noted]


def _raised(notebook: Any) -> str:
    """Which cell raised which error, marked in the notebook as papermill does; "" if none did."""
    from papermill import PapermillExecutionError
    from papermill.execute import raise_for_execution_errors

    cells = list(notebook.cells)  # papermill adds cells of its own to the notebook
    try:
        raise_for_execution_errors(notebook, None)
    except PapermillExecutionError as error:
        # Counted, because a dead kernel gives no number to the cell.
        number = sum(cell.cell_type == "code" for cell in cells[: error.cell_index + 1])
        return " ".join(f"cell {number} raised {error.ename}: {error.evalue}".split())
    return ""


def end_kernels(mark: str) -> None:
    """End the kernels that this process started with this mark in their environment."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.environ().get(STARTED_BY) == mark:
                child.kill()
