"""Carrying out a plan on this machine: run by run, or several at once if asked.

A run is done when its executed notebook stands in the folder under its own name, to which it is
moved in one step. Whatever ends a sweep, also a power cut, loses at most the runs in progress;
the same command goes on with what is left.
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
from kit.experiments.execution import SWEEP, end_kernels, execute
from kit.experiments.machine_lock import Say, turn
from kit.experiments.outputs import check_place, keep
from kit.experiments.plans import Plan, Run
from kit.experiments.records import FAILED_END


@dataclass(frozen=True)
class Outcome:
    """A run that has ended, and the file that tells how."""

    run: Run
    path: Path
    seconds: float | None
    error: str = ""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A folder in which no other sweep writes meanwhile, without the drafts of a killed one.

    Raises
    ------
    BadValue
        Another sweep writes there, or nothing can be written.
    """
    check_place(folder / "a run.ipynb")
    try:
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        told = "wait for its end, or give another folder"
        raise BadValue(f"{folder}: another sweep is writing there; {told}.") from error
    except OSError as error:
        raise BadValue(f"{folder}: needs a folder that can be written to ({error}).") from error
    try:
        for draft in folder.glob("*.ipynb.*.part"):  # see `kit.core.files.atomic_write`
            draft.unlink()
        yield
    finally:
        lock.release()


def carry_out(
    plan: Plan,
    runs: Sequence[Run],
    folder: Path,
    at_once: int = 1,
    say: Say | None = None,
    limit_s: float | None = None,
) -> Generator[Outcome, None, None]:
    """Run each of these runs of a plan on this machine; yields each as it ends.

    Parameters
    ----------
    at_once
        How many go at the same time. One: each waits until no other run of the kit computes on
        this machine. More: the sweep waits once, and each timing tells that it was not alone.
    say
        Is told if there is something to wait for, and of each cell that takes long.
    limit_s
        The most seconds for a cell; None: as long as it needs.
    """
    groups = [[run] for run in runs] if at_once == 1 else [runs]
    for group in groups:
        with turn(say, at_once) as told:
            yield from _together(plan, group, folder, at_once, told, limit_s, say)


def _together(
    plan: Plan,
    runs: Sequence[Run],
    folder: Path,
    at_once: int,
    told: dict[str, str],
    limit_s: float | None,
    say: Say | None,
) -> Generator[Outcome, None, None]:
    """Run these at once, in a kernel each. If something stops us, the kernels end, too."""
    told = {**told, SWEEP: (mark := uuid4().hex)}
    origin, work = str(plan.notebook), plan.notebook.parent

    def one(run: Run) -> tuple[Any, str]:
        return execute(plan.source, origin, run.given, work, told, limit_s, run.name, say)

    pool = ThreadPoolExecutor(at_once)  # threads suffice: the kernels are processes
    begun = {pool.submit(one, run): run for run in runs}
    try:
        for future in as_completed(begun):
            yield keep_outcome(begun.pop(future), *future.result(), folder)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in begun):
            end_kernels(mark)
            time.sleep(0.1)


def keep_outcome(run: Run, executed: Any, error: str, folder: Path) -> Outcome:
    """Write an executed notebook into the folder, in the place of an earlier failure."""
    seconds = executed.metadata.papermill.get("duration")
    failed = folder / f"{run.name}{FAILED_END}"
    if error:
        return Outcome(run, keep(executed, failed), seconds, error)
    path = keep(executed, folder / f"{run.name}.ipynb")
    for old in folder.glob(f"*-{run.id}{FAILED_END}"):
        old.unlink()
    return Outcome(run, path, seconds)
