"""Server processes as copies of a process that has imported PyTorch: they start at once.

notebook ──> fork server (imports, loads no model, computes nothing) ──> worker, or supervisor
                                                                         supervisor ──> workers

Importing PyTorch takes seconds, and as many times that as there are replicas, if each of them does
it. A copy ("fork") of a process that has done it takes milliseconds, and shares its memory. A copy
has only the thread that made it, so forking is safe only where no other thread exists: the fork
server and the supervisor have a single thread, and no library has started any (`OMP_NUM_THREADS`).

There is a fork server for each number of threads, because libraries read that number when they are
imported. It ends with the notebook. Where forking is not safe (macOS) or does not exist (Windows),
`server` and `supervisor` start each process by itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FORKS = sys.platform == "linux"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
HEAD = 8  # bytes that say how long an order is
LOOK_S = 0.005  # how often a process that waits for another one looks


class Forked:
    """A process that was forked; it has what is used of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: int, stdout: int, ended: Callable[[], int | None]):
        self.pid, self._ended = pid, ended
        self.stdin: IO[bytes] = open(stdin, "wb", buffering=0)  # noqa: SIM115
        self.stdout: IO[bytes] = open(stdout, "rb", buffering=0)  # noqa: SIM115
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._ended()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended; `subprocess.TimeoutExpired` if that takes too long."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


# --- Forking -------------------------------------------------------------------------------------


def fork(run: Callable[[], int], standard: Sequence[int], close: Callable[[], Any]) -> int:
    """The number of a new process that runs this, and ends with the code that it returns.

    Parameters
    ----------
    standard
        Files that become its standard input, output and, if three are given, error.
    close
        Closes what it has inherited and must not hold.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # our handlers are not the child's
    pid = os.fork()
    if not pid:
        os._exit(_in_child(run, standard, close))  # not up the stack, which belongs to the parent
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return pid


def _in_child(run: Callable[[], int], standard: Sequence[int], close: Callable[[], Any]) -> int:
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        close()
        for target, file in enumerate(standard):
            os.dup2(file, target)
            os.close(file)
        return run()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()  # such as removing the folders of a compiler
            sys.stderr.flush()


def forked(run: Callable[[], int], close: Callable[[], Any]) -> Forked:
    """A child of this process, with pipes to it as `subprocess.Popen` makes them."""
    (stdin, to_it), (from_it, stdout) = os.pipe(), os.pipe()

    def close_all() -> None:
        close()
        os.close(to_it)
        os.close(from_it)

    pid = fork(run, (stdin, stdout), close_all)
    os.close(stdin)
    os.close(stdout)

    def ended() -> int | None:
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    return Forked(pid, to_it, from_it, ended)


# --- The notebook's end --------------------------------------------------------------------------


class ForkServer:
    """The process that forks servers, as the notebook sees it."""

    def __init__(self, environment: dict[str, str], log: IO[bytes]):
        self._link, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from kit.serving.forking import main; main()"],
                stdin=theirs.fileno(),  # our end closes when we are gone: then it ends
                stdout=subprocess.DEVNULL,
                stderr=log,
                # NumPy would start threads at once, which nothing here uses.
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C in a notebook does not reach the servers
            )
        self.owner = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether it runs, and belongs to this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def start(self, folder: Path, environment: dict[str, str], log: IO[bytes]) -> Forked:
        """A server for the model in this folder."""
        (stdin, to_it), (from_it, stdout), (code, end) = os.pipe(), os.pipe(), os.pipe()
        theirs = [stdin, stdout, log.fileno(), end]
        try:
            pid = self._order({"folder": str(folder), "environment": environment}, theirs)
        except BaseException:
            for file in (to_it, from_it, code):
                os.close(file)
            raise
        finally:
            for file in (stdin, stdout, end):
                os.close(file)
        return Forked(pid, to_it, from_it, _code_from(code))

    def _order(self, order: dict[str, Any], files: list[int]) -> int:
        """Have it done; the number of the new process."""
        said = json.dumps(order).encode()
        with suppress(OSError):
            socket.send_fds(self._link, [len(said).to_bytes(HEAD, "big")], files)
            self._link.sendall(said)
            if pid := _read(self._link, HEAD):
                return int.from_bytes(pid, "big")
        raise ChildProcessError("the process that starts servers has ended")

    def close(self) -> None:
        """End it."""
        self._link.close()
        self.process.kill()
        self.process.wait()


def _code_from(pipe: int) -> Callable[[], int | None]:
    """The exit code that comes through the pipe; -9 if the fork server ends before it comes."""

    def ended() -> int | None:
        if not select.select([pipe], [], [], 0)[0]:
            return None
        said = os.read(pipe, HEAD)
        os.close(pipe)
        return int.from_bytes(said, "big", signed=True) if said else -signal.SIGKILL

    return ended


def _read(link: socket.socket, size: int) -> bytes:
    """Bytes from the other end: as many as asked for, or fewer if it has gone."""
    found = b""
    while len(found) < size and (more := link.recv(size - len(found))):
        found += more
    return found


_fork_servers: dict[str, ForkServer] = {}  # by the number of threads


def end_fork_servers() -> None:
    """End those of this process, and with them their servers: the next one starts cold."""
    while _fork_servers:
        _fork_servers.popitem()[1].close()


def fork_server(environment: dict[str, str], log: IO[bytes]) -> ForkServer:
    """The fork server for this number of threads, started if there is none."""
    threads = environment["OMP_NUM_THREADS"]
    found = _fork_servers.get(threads)
    if found is None or not found.usable:
        found = _fork_servers[threads] = ForkServer(environment, log)
    return found


# --- The fork server's own side ------------------------------------------------------------------


def main() -> None:
    """Fork a server for each order, and say how each of them ended, until the notebook has gone."""
    link = socket.socket(fileno=os.dup(0))
    _import_all()
    gc.collect()
    gc.freeze()  # a collection in a child would write to memory that all of them share
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    ends: dict[int, int] = {}  # process -> where its exit code is awaited

    def inherited() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (link, woken, wake):
            each.close()
        for end in ends.values():
            os.close(end)

    while True:
        ready = select.select([link, woken], [], [])[0]
        if woken in ready:
            woken.recv(4096)
            _tell_ends(ends)
        if link in ready and not _obey(link, ends, inherited):
            os._exit(0)  # the servers see that, and end


def _import_all() -> None:
    """Everything that a server needs, and nothing that starts a thread or reads its settings."""
    import kit.models
    import kit.serving.application
    import kit.serving.continuous_batching
    import kit.serving.supervisor
    import kit.serving.unpacking
    import kit.serving.worker  # noqa: F401


def _obey(link: socket.socket, ends: dict[int, int], close: Callable[[], Any]) -> bool:
    """Fork what the notebook asks for; whether it is still there."""
    head, files, _, _ = socket.recv_fds(link, HEAD, 4)
    said = _read(link, int.from_bytes(head, "big")) if len(head) == HEAD else b""
    if not said:
        return False
    order = json.loads(said)
    *standard, end = files

    def run() -> int:
        os.close(end)
        os.setsid()
        os.environ.clear()
        os.environ.update(order["environment"])
        from kit.serving.supervisor import run_server

        return run_server(Path(order["folder"]))

    pid = fork(run, standard, close)
    for file in standard:
        os.close(file)
    ends[pid] = end
    link.sendall(pid.to_bytes(HEAD, "big"))
    return True


def _tell_ends(ends: dict[int, int]) -> None:
    """Pass on the exit codes of those that have ended."""
    for pid, end in list(ends.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):
                os.write(end, code.to_bytes(HEAD, "big", signed=True))
            os.close(ends.pop(pid))
