"""The process that sends: its own side (`python -m`), and the side that gives it work.

Both sides speak in frames over pipes: a line of JSON, then the bytes that it announces. There is
no pickle. The process ends when its input ends, so none outlives the notebook.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from kit.core.errors import CallFailed
from kit.loadgen import null_server
from kit.loadgen.http_answers import Answer
from kit.loadgen.http_client import HTTPClient, new_loop
from kit.loadgen.sender import Plan, Run

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds `kit`
DOUBLES = ("scheduled_s", "sent_s", "ended_s", "first_s")
COUNTS = ("statuses", "attempts", "tokens")
SPARE_FILES = 64  # open files that are not connections
MOST_FILES = 65_536
Frame = tuple[dict[str, Any], list[bytes]]


class SenderProcess:
    r"""A process to send from; a context manager that ends it.

    >>> with SenderProcess() as sender:
    ...     port = sender.ask("null", [b"HTTP/1.1 204 No Content\r\n\r\n"])[0]["port"]
    ...     answer, _ = sender.ask("probe", [b"GET / HTTP/1.1\r\n\r\n"], port=port)
    >>> answer["status"]
    204
    """

    def __init__(self) -> None:
        inherited = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kit.loadgen.sender_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl+C is for the parent, which ends it if it sends
        )

    def ask(self, do: str, pieces: list[bytes], **settings: Any) -> Frame:
        """The process's answer to a frame.

        Raises
        ------
        CallFailed
            The process could not do it, or has ended.
        """
        assert self._process.stdin and self._process.stdout
        try:
            _write(self._process.stdin, {"do": do, **settings}, pieces)
            frame = _read(self._process.stdout)
        except BrokenPipeError:
            frame = None
        except BaseException:  # Ctrl+C while it sends: it must not go on
            self.close()
            raise
        if frame is None:
            raise CallFailed("the process that sends requests has ended before it was done.")
        if "error" in frame[0]:
            raise CallFailed(f"the process that sends requests failed: {frame[0]['error']}")
        return frame

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def __enter__(self) -> SenderProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def sender_process() -> Iterator[SenderProcess]:
    """A process to send from, which stays for the next run: to start one takes longer than some.

    After an error it is ended, because it may still be sending.
    """
    process = _taken()
    try:
        yield process
    except BaseException:
        process.close()
        raise
    _idle.append(process)


_idle: list[SenderProcess] = []


def _taken() -> SenderProcess:
    while _idle:
        process = _idle.pop()  # in one step: two threads never get the same
        if process.alive:
            return process
        process.close()
    return SenderProcess()


@atexit.register
def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


if hasattr(os, "register_at_fork"):  # the pipes are the parent's
    os.register_at_fork(after_in_child=lambda: _idle.clear())


def _write(pipe: BinaryIO | Any, message: dict[str, Any], pieces: list[bytes]) -> None:
    line = json.dumps({**message, "sizes": [len(piece) for piece in pieces]})
    pipe.write(line.encode() + b"\n")
    for piece in pieces:
        pipe.write(piece)
    pipe.flush()


def _read(pipe: BinaryIO | Any) -> Frame | None:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    sizes = message.pop("sizes")
    pieces = [pipe.read(size) for size in sizes]
    return (message, pieces) if [len(piece) for piece in pieces] == sizes else None


# --- The process's own side ----------------------------------------------------------------------


def main() -> None:
    """Do what each frame asks, until the input ends."""
    # A kernel that is interrupted or ended interrupts its whole group of processes.
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_work())


async def _work() -> None:
    frames: asyncio.Queue[Frame] = asyncio.Queue()
    loop, files = asyncio.get_running_loop(), _allow_files()
    threading.Thread(target=_listen, args=(loop, frames), daemon=True).start()
    while True:
        message, pieces = await frames.get()
        do = TASKS[message.pop("do")]
        try:
            answer, found = await do(pieces, files, **message)
        except Exception as error:
            answer, found = {"error": f"{type(error).__name__}: {error}"}, []
        _write(sys.stdout.buffer, answer, found)


def _listen(loop: asyncio.AbstractEventLoop, frames: asyncio.Queue[Frame]) -> None:
    """Read frames in a thread of its own: when the parent has gone, stop at once."""
    while (frame := _read(sys.stdin.buffer)) is not None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)
    os._exit(0)


def _allow_files() -> int:
    """How many files may be open, which is as many as the system allows: connections are files."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return max(soft, most)


async def _null(pieces: list[bytes], files: int, port: int = 0) -> Frame:
    """Start a null server with this answer; without one, stop the server at this port."""
    if not pieces:
        _null_servers.pop(port).close()
        return {}, []
    server = await null_server.start(pieces[0])
    port = server.sockets[0].getsockname()[1]
    _null_servers[port] = server
    return {"port": port}, []


async def _probe(
    pieces: list[bytes], files: int, port: int, host: str = "127.0.0.1", timeout_s: float = 10.0
) -> Frame:
    """One request: the status, and the answer's head and body."""
    client = HTTPClient(host, port, timeout_s=timeout_s)
    done: asyncio.Future[Answer] = client.loop.create_future()
    client.send(pieces[0], lambda answer, _: done.set_result(answer))
    answer = await done
    client.close()
    return {"status": answer.status}, [answer.head, bytes(answer.body)]


async def _run(
    pieces: list[bytes],
    files: int,
    port: int,
    plan: dict[str, Any],
    host: str = "127.0.0.1",
    connections: int = 1_000,
    timeout_s: float = 10.0,
) -> Frame:
    """A whole run; the first piece is the schedule, the others are the requests."""
    open_at_once = min(connections, files - SPARE_FILES)
    client = HTTPClient(host, port, connections=open_at_once, timeout_s=timeout_s)
    run = Run(client, pieces[1:], array("d", pieces[0]), Plan(**plan))
    try:
        await run.go()
    finally:
        client.close()
    message = {"busy_share": run.busy_share, "connections": open_at_once}
    return message, [getattr(run, name).tobytes() for name in (*DOUBLES, *COUNTS)]


_null_servers: dict[int, asyncio.Server] = {}
TASKS: dict[str, Callable[..., Awaitable[Frame]]] = {"null": _null, "probe": _probe, "run": _run}

if __name__ == "__main__":
    main()
