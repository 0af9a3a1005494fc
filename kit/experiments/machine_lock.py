"""A lock that gives the machine to one run at a time: two timed runs would disturb each other.

The lock is a file in the kit's cache folder, with this machine's name in its own, because many
machines may share that folder. The system releases the lock when its holder ends, however it ends.
A killed holder may leave kernels and their sockets behind; the next holder removes them.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir

from filelock import BaseFileLock, FileLock, Timeout

from kit.core.files import cache_folder, make_folder, open_without_links

Say = Callable[[str], object]
LOCK_HELD = "KIT_MACHINE_LOCKED"  # in a kernel's environment: its run holds the lock already
POLL_S = 0.05


@contextmanager
def machine_lock(
    say: Say | None = None, parallel: int = 1, shared: bool = False
) -> Iterator[dict[str, str]]:
    """Hold the machine for one run, or for several; yields variables for the kernels' environment.

    Parameters
    ----------
    say
        Called with a line if the lock is not free yet.
    parallel
        How many runs will go at the same time. More than one makes each timing say so.
    shared
        Whether to take one of `parallel` slots, as the workers of a cluster do. Otherwise the
        whole machine is taken.
    """
    kernel_env = {LOCK_HELD: "1"}
    if parallel > 1:
        from kit.devices.interference import PARALLEL  # imported here: it needs PyTorch

        kernel_env[PARALLEL] = str(parallel)
    if LOCK_HELD in os.environ:  # this is a notebook whose run holds the lock
        yield kernel_env
        return
    slots = [f"-{i}-of-{parallel}" for i in range(parallel)] if shared and parallel > 1 else [""]
    paths = [cache_folder() / f"lock-{platform.node()}{slot}" for slot in slots]
    lock = _acquire_any(paths, say or (lambda _: None))
    try:
        yield kernel_env
    finally:
        if lock:
            _pid_file(lock).unlink(missing_ok=True)
            lock.release()


def _acquire_any(paths: Sequence[Path], say: Say) -> BaseFileLock | None:
    """Wait for the first of these locks that gets free; None where no lock file can be written."""
    try:
        make_folder(cache_folder())
        locks = [FileLock(path) for path in paths]
        lock = _try_acquire(locks)
        if lock is None:
            say("waiting for another run on this machine to end; Ctrl-C stops waiting")
        while lock is None:
            time.sleep(POLL_S)
            lock = _try_acquire(locks)
        _remove_what_is_left(_pid_file(lock))
        with open(_pid_file(lock), "w", opener=open_without_links) as file:
            file.write(str(os.getpid()))
    except OSError as error:
        say(f"the machine cannot be locked ({error}): other runs may disturb the timings")
        return None
    return lock


def _try_acquire(locks: Sequence[BaseFileLock]) -> BaseFileLock | None:
    for lock in locks:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return lock
    return None


def _pid_file(lock: BaseFileLock) -> Path:
    """The file with the process number of the lock's holder; a holder deletes it at its end."""
    return Path(f"{lock.lock_file}.holder")


def sockets_prefix(pid: int | str | None = None) -> str:
    """How the temporary folders begin through which a process, or this one, talks to kernels."""
    return f"kit-{pid or os.getpid()}-"


def _remove_what_is_left(pid_file: Path) -> None:
    """End the kernels of a holder that was killed, and remove the folders of their sockets.

    It could not delete its file.
    """
    import psutil

    if not pid_file.exists():
        return
    pid = pid_file.read_text()
    if not pid.isdigit() or _is_alive(int(pid)):  # alive: the number belongs to a new process
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # Jupyter tells each kernel its parent's number, and the kernel's children inherit it.
            if process.environ().get("JPY_PARENT_PID") == pid:
                process.kill()
                process.wait(timeout=10)
    for folder in Path(gettempdir()).glob(f"{sockets_prefix(pid)}*"):
        rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
