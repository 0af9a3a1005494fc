"""Hold a process to a share of a core, as a container's quota does: by signals, from outside."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PERIOD_S = 0.1  # Linux's own period of a quota
LOOK_S = 0.001  # how often the process's time is read: it can exceed its quota by as much


@contextmanager
def core_share(pid: int, share: float | None) -> Iterator[None]:
    """Within, the process gets at most this share of one core in each period of 100 ms.

    When its processor time of a period is used up, it is stopped until the next period begins.
    None: no limit.
    """
    if share is None:
        yield
        return
    ended = threading.Event()
    holder = threading.Thread(target=_hold, args=(pid, share * PERIOD_S, ended), daemon=True)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join()


def _hold(pid: int, quota_s: float, ended: threading.Event) -> None:
    """Stop and continue the process, until it or the run has ended."""
    try:
        while not ended.is_set():
            limit_s, left_s = used_s(pid) + quota_s, PERIOD_S
            while left_s > 0 and used_s(pid) < limit_s:
                if ended.wait(LOOK_S):
                    return
                left_s -= LOOK_S
            if left_s > 0:
                os.kill(pid, signal.SIGSTOP)
                ended.wait(left_s)
                os.kill(pid, signal.SIGCONT)
    except OSError:  # the process has ended
        pass
    finally:
        with suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def used_s(pid: int) -> float:
    """Processor time of all threads of a process so far, in seconds (Linux)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9
