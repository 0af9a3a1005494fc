"""One run at a time on a machine, since two that are timed at once disturb each other.

A turn is a lock in the kit's cache folder, under this machine's name, as that folder may be
shared by many. The system frees it when its holder ends, however it ends. What a killed holder
may leave is a kernel, for a second or as long as its cell computes: whoever comes next ends it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from kit.core.files import cache_folder, make_folder, open_without_links

Say = Callable[[str], object]
WITHIN = "KIT_TURN"  # set for a notebook that runs in a turn: what it starts belongs to it
LOOK_AGAIN_S = 0.05


@contextmanager
def turn(
    say: Say | None = None, at_once: int = 1, shared: bool = False
) -> Iterator[dict[str, str]]:
    """The machine for one run, or for so many at once; gives what their kernels must be told.

    What they are told goes into their environment.

    Parameters
    ----------
    say
        Is told if there is something to wait for.
    at_once
        How many runs will go within; more than one makes each timing say so.
    shared
        Whether to take one of `at_once` places that others may take, too, as the workers of a
        cluster do; else the machine is taken as a whole.
    """
    told = {WITHIN: "1"}
    if at_once > 1:
        from kit.devices.interference import PARALLEL  # here: it comes with PyTorch

        told[PARALLEL] = str(at_once)
    if WITHIN in os.environ:  # this is a notebook that was given the machine
        yield told
        return
    places = [f"-{i}-of-{at_once}" for i in range(at_once)] if shared and at_once > 1 else [""]
    paths = [cache_folder() / f"turn-{platform.node()}{place}" for place in places]
    lock = _first_free(paths, say or _nobody)
    try:
        yield told
    finally:
        if lock:
            _holder(lock).unlink(missing_ok=True)
            lock.release()


def _nobody(_: str) -> None:
    """Nobody listens."""


def _first_free(paths: Sequence[Path], say: Say) -> BaseFileLock | None:
    """The first of the locks that can be had; it is held then. None where no file can be."""
    try:
        make_folder(cache_folder())
        locks = [FileLock(path) for path in paths]
        lock = _taken(locks)
        if lock is None:
            say("waiting for another run on this machine to end; Ctrl-C stops waiting")
        while lock is None:
            time.sleep(LOOK_AGAIN_S)
            lock = _taken(locks)
        _end_what_was_left(_holder(lock))
        with open(_holder(lock), "w", opener=open_without_links) as file:
            file.write(str(os.getpid()))
    except OSError as error:
        say(f"nothing keeps other runs from this machine meanwhile: {error}")
        return None
    return lock


def _taken(locks: Sequence[BaseFileLock]) -> BaseFileLock | None:
    for lock in locks:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return lock
    return None


def _holder(lock: BaseFileLock) -> Path:
    """The file with the number of the process that holds it, as long as it does."""
    return Path(f"{lock.lock_file}.holder")


def _end_what_was_left(holder: Path) -> None:
    """End the kernels of a holder that was killed: it could not strike out its name."""
    import psutil

    if not holder.exists():
        return
    pid = holder.read_text()
    if not pid.isdigit() or _lives(int(pid)):  # the number belongs to somebody new
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # Each kernel is told who its parent is, and so are its own children.
            if process.environ().get("JPY_PARENT_PID") == pid:
                process.kill()
                process.wait(timeout=10)


def _lives(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
