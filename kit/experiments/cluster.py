"""Carrying out a plan on a Dask cluster: the same runs and files, other machines.

A worker gets the notebook's text and its parameters and gives back the executed notebook's text;
we write the files, so the machines need no common disk. Dask runs again elsewhere what a lost
worker was running.
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
from kit.experiments.execution import SWEEP, end_kernels, execute, note_error, prepared
from kit.experiments.machine_lock import Say, turn
from kit.experiments.parameter_rules import own_file
from kit.experiments.plans import Plan, Run
from kit.experiments.sweeping import Outcome, keep_outcome

ANSWER_S = 5  # how long a scheduler may take to answer


def connect(scheduler: str, say: Say | None = None) -> Any:
    """A client of the scheduler at that address, all of whose workers have this very kit.

    Raises
    ------
    NotInstalled
        Dask is not here.
    BadValue
        That is no address.
    KitError
        Nobody answers there, or workers have no kit or another version.
    """
    if find_spec("distributed") is None:
        raise NotInstalled("--scheduler", ["distributed"], "cluster")
    from distributed import Client

    _reach(scheduler)
    try:
        _ask(scheduler)
        client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except OSError as error:
        raise KitError(f"--scheduler {scheduler}: no Dask scheduler answers: {error}.") from error
    try:
        _check_workers(client, say)
    except BaseException:
        client.close()
        raise
    return client


def _reach(scheduler: str) -> None:
    """Refuse quickly what is no address, or where nobody listens."""
    try:
        address = urlsplit(scheduler)
        known = address.scheme in ("tcp", "tls") and address.hostname and address.port
    except ValueError:
        known = None
    if not known:
        raise BadValue(f"--scheduler {scheduler}: needs an address, tcp://HOST:PORT.")
    try:
        socket.create_connection((address.hostname, address.port), timeout=ANSWER_S).close()
    except OSError as error:
        raise KitError(
            f"--scheduler {scheduler}: nobody listens there ({error}); start one: dask scheduler"
        ) from error


def _ask(scheduler: str) -> None:
    """Refuse what answers otherwise than a scheduler, or not at all, within a time limit.

    A `Client` would wait without end for a program that takes the connection and says nothing.
    """
    from distributed.comm.core import connect as reach
    from distributed.security import Security

    async def identity() -> Any:
        secure = Security().get_connection_args("client")
        comm = await reach(scheduler, timeout=ANSWER_S, **secure)
        try:
            await comm.write({"op": "identity", "reply": True})
            return await comm.read()
        finally:
            comm.abort()

    async def within() -> None:
        told.append(await asyncio.wait_for(identity(), ANSWER_S))

    def in_its_own_loop() -> None:
        with suppress(Exception):
            asyncio.run(within())

    told: list[Any] = []
    asking = threading.Thread(target=in_its_own_loop, daemon=True)  # it may not end by itself
    asking.start()
    asking.join(2 * ANSWER_S)
    if not told or not isinstance(told[0], dict) or told[0].get("type") != "Scheduler":
        raise KitError(
            f"--scheduler {scheduler}: something listens there, but no Dask scheduler answered "
            f"within {ANSWER_S} s; look for the port in the scheduler's first lines (often 8786)."
        )


def _check_workers(client: Any, say: Say | None) -> None:
    """Refuse workers whose kit is not ours: their runs would be something else."""

    def version() -> str:  # sent as it stands, as a worker without the kit could not look it up
        try:
            import kit
        except Exception as error:
            return f"no kit: {error}"
        return f"kit {kit.__version__}"

    answers = client.run(version, on_error="return")
    found = {worker: has for worker, has in answers.items() if isinstance(has, str)}  # not lost
    wrong = {worker: has for worker, has in found.items() if has != f"kit {kit.__version__}"}
    if wrong:
        worker, has = next(iter(wrong.items()))
        raise KitError(
            f"{len(wrong)} of {len(found)} workers cannot run this sweep: {worker} has {has}; "
            f"here is kit {kit.__version__}. Install the same there."
        )
    if not found and say:
        say("the scheduler has no workers yet; start some: dask worker ADDRESS")


def carry_out_there(
    client: Any,
    plan: Plan,
    runs: Sequence[Run],
    folder: Path,
    at_once: int = 1,
    limit_s: float | None = None,
) -> Generator[Outcome, None, None]:
    """Run each of these runs of a plan on the cluster; yields each as it ends.

    Parameters
    ----------
    client
        From `connect`.
    at_once
        How many may go at the same time on each machine. One: its workers take turns, also with
        other runs of the kit there. More: each timing tells that it may not have been alone.
    limit_s
        The most seconds for a cell; None: as long as it needs.

    Raises
    ------
    KitError
        The scheduler was lost; what had ended is in the folder.
    """
    from distributed import as_completed

    _check_files(client, runs)
    mark, origin = uuid4().hex, str(plan.notebook)
    asked = (at_once, mark, kit.__version__, limit_s)
    begun = {
        client.submit(_there, plan.source, origin, run.given, *asked, key=f"{run.name}-{mark}"): run
        for run in runs
    }
    try:
        for future in as_completed(begun, loop=client.loop):
            run = begun.pop(future)
            yield keep_outcome(run, *_answer(future, plan, run), folder)
            future.release()  # or Dask would run it again if the worker that holds it is lost
    finally:
        _stop(client, [future for future in begun if not future.done()], mark)


def _check_files(client: Any, runs: Sequence[Run]) -> None:
    """Refuse runs of a workload file of the user's own that the workers lack, or have otherwise."""
    from kit.workloads.user_files import file_digest

    for file in dict.fromkeys(filter(None, (own_file(run.parameters) for run in runs))):
        answers = client.run(file_digest, file.given, on_error="return")
        for worker, has in answers.items():
            if has != file.digest:
                told = "has another content" if isinstance(has, str) else str(has)
                raise KitError(
                    f"workload={file.given!r}: {worker}: {told}. Each worker needs the same file "
                    f"there: copy it, or give a path that all machines share."
                )


def _there(
    source: str,
    name: str,
    given: dict[str, Any],
    at_once: int,
    mark: str,
    version: str,
    limit_s: float | None,
) -> tuple[str, str]:
    """On a worker: the executed notebook's text, and which cell raised what."""
    import nbformat
    from distributed import Event

    if kit.__version__ != version:  # a worker that came after the others were asked
        raise KitError(f"this worker has kit {kit.__version__}; needs {version}.")
    with turn(at_once=at_once, shared=True) as told, TemporaryDirectory() as folder:
        if Event(mark).is_set():
            raise KitError("the sweep was stopped")
        told = {**told, SWEEP: mark}
        executed, error = execute(source, name, given, Path(folder), told, limit_s)
    return nbformat.writes(executed), error


def _answer(future: Any, plan: Plan, run: Run) -> tuple[Any, str]:
    """What came back; for a run that Dask gave up, the notebook with the reason in it."""
    import nbformat

    if future.status == "finished":
        text, error = future.result()
        return nbformat.reads(text, as_version=4), error
    if future.status != "error":
        raise KitError("the scheduler was lost; the same command goes on with what is left.")
    reason = future.exception()
    executed = prepared(plan.source, str(plan.notebook), run.given)
    note_error(executed, reason)
    return executed, f"{type(reason).__name__}: {reason}"


def _stop(client: Any, futures: list[Any], mark: str) -> None:
    """End what still runs or waits on the workers, if the cluster can be reached."""
    from distributed import Event

    if futures and client.status == "running":
        Event(mark, client).set()  # for those that wait for their turn
        client.cancel(futures)
        client.run(end_kernels, mark)
