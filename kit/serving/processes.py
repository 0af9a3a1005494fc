"""What the server's processes share: the socket, reports to the parent, and how it is watched.

A parent writes one byte to a child after it has changed the settings in their folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from kit.serving.forking import Forked
from kit.serving.settings import Settings

BACKLOG = 2048  # connections that wait to be accepted
LOOK_S = 0.25  # how often the parent's life is checked
WAIT_S = 0.1  # how often a process that waits for a report looks whether it is to stop
EXTRA_S = 5.0  # after the time for draining; what hangs by then is ended

Process = subprocess.Popen[bytes] | Forked
Tell = Callable[[dict[str, Any]], None]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of the server's processes: their libraries use the threads asked for."""
    return {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}


def bind(settings: Settings, tell: Tell) -> socket.socket:
    """The listening socket; a port that is in use is reported, and ends the process."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a port that was just used can be used again
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
        made.listen(BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        tell({"failed": f"{where}: {error.strerror or error}. Give another port, or port=0."})
        sys.exit(2)
    return made


# --- The log -------------------------------------------------------------------------------------


def start_log(level: int) -> None:
    """Write what happens to standard error, which the parent keeps in a file."""
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", force=True)
    logging.getLogger().handlers[0].addFilter(Seldom())


class Seldom(logging.Filter):
    """Lets a few messages per minute pass: a client that provokes errors cannot fill the disk."""

    most, each_s = 50, 60.0

    def __init__(self) -> None:
        super().__init__()
        self.passed, self.since_s = 0, 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is written."""
        if record.created - self.since_s > self.each_s:
            self.passed, self.since_s = 0, record.created
        self.passed += 1
        return self.passed <= self.most


# --- Reports, from child to parent ---------------------------------------------------------------


def reports() -> Tell:
    """A function that tells the parent; what libraries print goes to the log from now on."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def tell(what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent has gone
            os.write(channel, json.dumps(what).encode() + b"\n")

    return tell


def first_report(
    pipe: IO[bytes] | None, timeout_s: float, stopping: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """What a process tells first; empty if it ends, takes too long, or we are to stop."""
    assert pipe is not None
    line = _line_on_posix if os.name == "posix" else _line_anywhere
    report: dict[str, Any] = json.loads(line(pipe, timeout_s, stopping) or b"{}")
    return report


def _line_on_posix(pipe: IO[bytes], timeout_s: float, stopping: Callable[[], bool]) -> bytes:
    """Without a thread: a process that forks must have none."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not stopping():
        if select.select([pipe], [], [], WAIT_S)[0]:
            return _line(pipe)
    return b""


def _line_anywhere(pipe: IO[bytes], timeout_s: float, stopping: Callable[[], bool]) -> bytes:
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: lines.put(_line(pipe)), daemon=True).start()
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not stopping():
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=WAIT_S)
    return b""


def report_change(process: Process, timeout_s: float) -> bool:
    """Tell a child that its settings have changed; whether it says that it obeys them."""
    assert process.stdin
    with contextlib.suppress(OSError, ValueError):  # it has ended
        process.stdin.write(b"\n")
        process.stdin.flush()
        while report := first_report(process.stdout, timeout_s):
            if "changed" in report:
                return True
    return False


def _line(pipe: IO[bytes]) -> bytes:
    try:
        return pipe.readline()
    except (OSError, ValueError):  # closed meanwhile
        return b""


# --- The parent's end ----------------------------------------------------------------------------


class Parent:
    """The process that started us: whether it has gone, however it ended, and what it sends.

    It holds the other end of our standard input, which closes with it, unless another child has
    inherited that end: so our parent's number is looked at, too.
    """

    def __init__(self) -> None:
        self._number = os.getppid()
        self.gone = False

    def sent(self, wait_s: float) -> bool:
        """Whether it sends a byte, or goes, within this time."""
        if os.name == "posix":
            if os.getppid() != self._number:
                self.gone = True
                return False
            if not select.select([0], [], [], wait_s)[0]:
                return False
        self.gone = not os.read(0, 1)
        return not self.gone

    def remove_if_gone(self, folder: Path) -> None:
        """Remove the server's private folder, with its token, if it cannot do that any more."""
        if os.name == "posix" and (self.gone or os.getppid() != self._number):
            shutil.rmtree(folder, ignore_errors=True)


def watch_parent(
    parent: Parent, gone: Callable[[], object], drain_s: float, changed: Callable[[], object]
) -> None:
    """Call `gone` when the parent has gone; `changed` for each byte it sends; in a thread.

    What has not drained in time then is ended.
    """

    def watch() -> None:
        while not parent.gone:
            if parent.sent(LOOK_S):
                changed()
        with contextlib.suppress(RuntimeError):  # the event loop has ended already
            gone()
        time.sleep(drain_s + EXTRA_S)
        os._exit(1)

    threading.Thread(target=watch, name="kit-parent", daemon=True).start()
