"""Run a plan on this machine, one run after the other or several at a time.

A run is done when its executed notebook is in the folder under its own name. The file gets there in
one step. If a sweep is stopped, even by a power cut, only the runs in progress are lost, and the
same command continues with the runs that are left.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from kit.core.errors import BadValue
from kit.experiments.execution import STARTED_BY, end_kernels, execute_cells, prepare_notebook
from kit.experiments.machine_lock import Say, machine_lock
from kit.experiments.outputs import check_writable, save_notebook
from kit.experiments.plans import Plan, PlannedRun
from kit.experiments.records import FAILED_END


@dataclass(frozen=True)
class Outcome:
    """A run that has ended, and its file."""

    run: PlannedRun
    path: Path
    seconds: float | None
    error: str = ""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other sweeps, and remove the drafts of a killed one.

    Raises
    ------
    BadValue
        Another sweep writes there, or the folder is not writable.
    """
    check_writable(folder / "a run.ipynb")
    try:
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        advice = "wait until it ends, or give another folder"
        raise BadValue(f"{folder}: another sweep is writing there; {advice}.") from error
    except OSError as error:
        raise BadValue(f"{folder} cannot be written to ({error}); give another folder.") from error
    try:
        for draft in folder.glob("*.ipynb.*.part"):  # see `kit.core.files.atomic_write`
            draft.unlink()
        yield
    finally:
        lock.release()


def run_plan(
    plan: Plan,
    runs: Sequence[PlannedRun],
    folder: Path,
    parallel: int = 1,
    say: Say | None = None,
    limit_s: float | None = None,
) -> Generator[Outcome, None, None]:
    """Run these runs of a plan on this machine; yields the outcome of each as it ends.

    Parameters
    ----------
    parallel
        How many runs go at the same time. One: each waits until no other run of the kit computes
        on this machine. More: the sweep waits once, and each timing notes that others ran.
    say
        Called with a line if the sweep has to wait, and for each cell that takes long.
    limit_s
        The most seconds for a cell; None: no limit.
    """
    mark = uuid4().hex

    def execute(run: PlannedRun, locked: dict[str, str]) -> tuple[Any, str]:
        notebook = prepare_notebook(plan.source, str(plan.notebook), run.given)
        env = {**locked, STARTED_BY: mark}
        return notebook, execute_cells(notebook, plan.notebook.parent, env, run.name, limit_s, say)

    for group in [[run] for run in runs] if parallel == 1 else [runs]:
        with machine_lock(say, parallel) as locked:
            pool = ThreadPoolExecutor(parallel)  # threads suffice: the kernels are processes
            futures = {pool.submit(execute, run, locked): run for run in group}
            try:
                for future in as_completed(futures):
                    yield save_outcome(futures.pop(future), *future.result(), folder)
            finally:  # if the sweep is stopped, its kernels end
                pool.shutdown(wait=False, cancel_futures=True)
                while not all(future.done() for future in futures):
                    end_kernels(mark)
                    time.sleep(0.1)


def save_outcome(run: PlannedRun, executed: Any, error: str, folder: Path) -> Outcome:
    """Write an executed notebook into the folder; it replaces an earlier failure."""
    seconds = executed.metadata.papermill.get("duration")
    failed = folder / f"{run.name}{FAILED_END}"
    if error:
        return Outcome(run, save_notebook(executed, failed), seconds, error)
    path = save_notebook(executed, folder / f"{run.name}.ipynb")
    for old in folder.glob(f"*-{run.id}{FAILED_END}"):
        old.unlink()
    return Outcome(run, path, seconds)
