"""How much a student's code may use: seconds, memory, processes, files.

The system keeps the limits of one process. What several processes use together is watched by the
process that started them, because a limit on each would be no limit on all.
"""

from __future__ import annotations

import math
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 0.2  # how often a waiting process looks around
LONGEST_TICK_S = 1.0  # if a tick took longer, this process or its machine stood still


@dataclass(frozen=True)
class Limits:
    """What the code for one exercise may use."""

    seconds_s: float = 20.0  # of the clock, and of a processor
    memory_bytes: int = 2_000_000_000  # beyond what it begins with
    processes: int = 32  # at one moment, threads included
    file_bytes: int = 64_000_000  # of a file, and of all its files together
    files: int = 256  # open at one moment
    message_bytes: int = 8_000_000  # of an answer


def set_limits(limits: Limits) -> None:
    """Limit this process and those that it starts; it cannot raise the limits again."""
    import resource

    begun_bytes = _status("VmSize")
    allowed = {
        # A second more than by the clock, which says why it ends a process; this limit does not.
        "RLIMIT_CPU": math.ceil(limits.seconds_s) + 1,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": limits.processes + _threads_of_this_user(),
        **({"RLIMIT_AS": begun_bytes + limits.memory_bytes} if begun_bytes else {}),
    }
    for name, most in allowed.items():
        with suppress(ValueError, OSError):  # macOS refuses some; a stricter limit may be set
            resource.setrlimit(getattr(resource, name), (most, most))


def wait_a_tick(reading: list[int], writing: list[int], left_s: float) -> tuple[bool, float]:
    """Wait for pipes, one tick at most: whether one is ready, and how much time is left then.

    The time for which this process was stopped, or its virtual machine paused, does not count.
    """
    begun_s = time.monotonic()
    ready = any(select.select(reading, writing, [], max(0.0, min(TICK_S, left_s))))
    return ready, left_s - min(time.monotonic() - begun_s, LONGEST_TICK_S)


def read_in_time(pipe: int, left_s: float) -> tuple[bytes | None, float]:
    """The next bytes of a pipe, b"" at its end, None if the time is over; and the time left."""
    while left_s > 0:
        ready, left_s = wait_a_tick([pipe], [], left_s)
        if ready and left_s > 0:
            return os.read(pipe, 65_536), left_s
    return None, left_s


def _status(field: str, process: int | str = "self") -> int:
    """Bytes of a field of /proc/…/status; 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    return 0


def _threads_of_this_user() -> int:
    """The system counts the processes of a user, so those that run already are added."""
    import psutil

    n, own = 0, os.geteuid()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            n += process.num_threads() if process.uids().effective == own else 0
    return n


def own_bytes(process: int, shared_bytes: int) -> int:
    """The memory of a process and all that it started (Linux; elsewhere 0).

    Each began as a copy and has `shared_bytes` in common with the process that it was copied from.
    """
    import psutil

    with suppress(psutil.Error, OSError):
        begun = psutil.Process(process)
        numbers = [each.pid for each in (begun, *begun.children(recursive=True))]
        return sum(max(0, resident_bytes(number) - shared_bytes) for number in numbers)
    return 0


def resident_bytes(process: int | str = "self") -> int:
    """The memory of a process that is in use, without files; 0 where the system does not say."""
    return _status("RssAnon", process) + _status("RssShmem", process)


def end_all_children() -> None:
    """Kill every process that this one started, and theirs, until there is none."""
    import psutil

    for _ in range(1_000):
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        alive = False
        for child in children:
            with suppress(psutil.Error, ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
                alive = alive or child.status() != psutil.STATUS_ZOMBIE
        if not alive:
            return
        time.sleep(0.005)
