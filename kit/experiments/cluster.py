"""Run a plan on a Dask cluster: the same runs and files as on this machine.

A worker gets the notebook's text and its parameters and returns the executed notebook's text. This
process writes the files, so the machines need no shared disk. If a worker is lost, Dask repeats
its run on another one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import kit
from kit.core.errors import BadValue, KitError, NotInstalled
from kit.experiments.execution import (
    STARTED_BY,
    add_error,
    end_kernels,
    execute_cells,
    prepare_notebook,
)
from kit.experiments.machine_lock import Say, machine_lock
from kit.experiments.parameter_combinations import own_file
from kit.experiments.plans import Plan, PlannedRun
from kit.experiments.sweeping import Outcome, save_outcome

ANSWER_S = 5  # the most seconds for a scheduler to answer


def connect(scheduler: str, say: Say | None = None) -> Any:
    """Connect to the scheduler at this address; all its workers must have the same kit.

    Raises
    ------
    NotInstalled
        Dask is not installed.
    BadValue
        That is not an address.
    KitError
        No scheduler answers there, or workers have no kit or another version.
    """
    if find_spec("distributed") is None:
        raise NotInstalled("--scheduler", ["distributed"], "cluster")
    from distributed import Client

    _check_address(scheduler)
    try:
        _check_scheduler(scheduler)
        client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except OSError as error:
        raise KitError(
            f"--scheduler {scheduler}: no Dask scheduler answers ({error}). "
            f"Start one: dask scheduler"
        ) from error
    try:
        _check_workers(client, say)
    except BaseException:
        client.close()
        raise
    return client


def _check_address(scheduler: str) -> None:
    """Refuse a malformed address, or one where no program listens, within seconds."""
    try:
        address = urlsplit(scheduler)
        known = address.scheme in ("tcp", "tls") and address.hostname and address.port
    except ValueError:
        known = None
    if not known:
        raise BadValue(f"--scheduler {scheduler}: give an address of the form tcp://HOST:PORT.")
    try:
        socket.create_connection((address.hostname, address.port), timeout=ANSWER_S).close()
    except OSError as error:
        raise KitError(
            f"--scheduler {scheduler}: no program listens there ({error}). "
            f"Start one: dask scheduler"
        ) from error


def _check_scheduler(scheduler: str) -> None:
    """Refuse a program that does not answer like a scheduler within the time limit.

    A `Client` would wait forever for a program that accepts the connection and sends nothing.
    """
    from distributed.comm.core import connect as open_comm
    from distributed.security import Security

    async def ask() -> None:
        secure = Security().get_connection_args("client")
        comm = await open_comm(scheduler, timeout=ANSWER_S, **secure)
        try:
            await comm.write({"op": "identity", "reply": True})
            answers.append(await comm.read())
        finally:
            comm.abort()

    def ask_in_own_loop() -> None:
        with suppress(Exception):
            asyncio.run(asyncio.wait_for(ask(), ANSWER_S))

    answers: list[Any] = []
    thread = threading.Thread(target=ask_in_own_loop, daemon=True)  # it may never end by itself
    thread.start()
    thread.join(2 * ANSWER_S)
    if not answers or not isinstance(answers[0], dict) or answers[0].get("type") != "Scheduler":
        raise KitError(
            f"--scheduler {scheduler}: a program listens there, but no Dask scheduler answered "
            f"within {ANSWER_S} s; its first lines of output name its port (often 8786)."
        )


def _check_workers(client: Any, say: Say | None) -> None:
    """Refuse workers with another version of the kit: their results would differ."""

    def version() -> str:  # sent as code: a worker without the kit could not import it
        try:
            import kit
        except Exception as error:
            return f"no kit: {error}"
        return f"kit {kit.__version__}"

    answers = client.run(version, on_error="return")
    found = {worker: has for worker, has in answers.items() if isinstance(has, str)}  # no lost ones
    wrong = {worker: has for worker, has in found.items() if has != f"kit {kit.__version__}"}
    if wrong:
        worker, has = next(iter(wrong.items()))
        raise KitError(
            f"{len(wrong)} of {len(found)} workers cannot run this sweep: {worker} has {has}; "
            f"this is kit {kit.__version__}. Install the same version on all of them."
        )
    if not found and say:
        say("the scheduler has no workers yet; start one: dask worker ADDRESS")


def run_plan_on_cluster(
    client: Any,
    plan: Plan,
    runs: Sequence[PlannedRun],
    folder: Path,
    parallel: int = 1,
    limit_s: float | None = None,
) -> Generator[Outcome, None, None]:
    """Run these runs of a plan on the cluster; yields the outcome of each as it ends.

    Parameters
    ----------
    client
        From `connect`.
    parallel
        How many runs may go at the same time on each machine. One: its workers wait for each
        other, and for other runs of the kit there. More: each timing notes that others ran.
    limit_s
        The most seconds for a cell; None: no limit.

    Raises
    ------
    KitError
        The scheduler was lost; the runs that had ended are in the folder.
    """
    from distributed import as_completed

    _check_files(client, runs)
    mark, notebook = uuid4().hex, (plan.source, str(plan.notebook))
    options = (parallel, mark, kit.__version__, limit_s)
    running = {
        client.submit(_run_on_worker, *notebook, run.given, *options, key=f"{run.name}-{mark}"): run
        for run in runs
    }
    try:
        for future in as_completed(running, loop=client.loop):
            run = running.pop(future)
            yield save_outcome(run, *_result_of(future, plan, run), folder)
            future.release()  # or Dask would repeat it if its worker is lost
    finally:
        _stop(client, [future for future in running if not future.done()], mark)


def _check_files(client: Any, runs: Sequence[PlannedRun]) -> None:
    """Refuse runs of a user's workload file that is missing or different on a worker."""
    from kit.workloads.user_files import file_digest

    for file in dict.fromkeys(filter(None, (own_file(run.parameters) for run in runs))):
        digest, answers = file_digest(file), client.run(file_digest, file, on_error="return")
        for worker, has in answers.items():
            if has != digest:
                problem = "has another content" if isinstance(has, str) else str(has)
                raise KitError(
                    f"workload={file!r}: {worker}: {problem}. Each worker needs the same "
                    f"file: copy it there, or give a path that all machines share."
                )


def _run_on_worker(
    source: str,
    name: str,
    given: dict[str, Any],
    parallel: int,
    mark: str,
    version: str,
    limit_s: float | None,
) -> tuple[str, str]:
    """On a worker: returns the executed notebook's text, and the error of a cell or ""."""
    import nbformat
    from distributed import Event

    if kit.__version__ != version:  # this worker joined after the check
        raise KitError(f"this worker has kit {kit.__version__}; install kit {version} there.")
    with machine_lock(parallel=parallel, shared=True) as locked, TemporaryDirectory() as folder:
        if Event(mark).is_set():
            raise KitError("the sweep was stopped")
        kernel_env = {**locked, STARTED_BY: mark}
        executed = prepare_notebook(source, name, given)
        error = execute_cells(executed, Path(folder), kernel_env, Path(name).stem, limit_s)
    return nbformat.writes(executed), error


def _result_of(future: Any, plan: Plan, run: PlannedRun) -> tuple[Any, str]:
    """The executed notebook and its error; if Dask gave up, the notebook contains the reason."""
    import nbformat

    if future.status == "finished":
        text, error = future.result()
        return nbformat.reads(text, as_version=4), error
    if future.status != "error":
        raise KitError("the scheduler was lost; the same command continues with the runs left.")
    reason = future.exception()
    executed = prepare_notebook(plan.source, str(plan.notebook), run.given)
    add_error(executed, reason)
    return executed, f"{type(reason).__name__}: {reason}"


def _stop(client: Any, futures: list[Any], mark: str) -> None:
    """End the runs that still go or wait on the workers, if the cluster can be reached."""
    from distributed import Event

    if futures and client.status == "running":
        Event(mark, client).set()  # for those that wait for the machine lock
        client.cancel(futures)
        client.run(end_kernels, mark)
