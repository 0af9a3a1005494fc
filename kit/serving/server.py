"""`kit.serve`: a model behind HTTP, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.request import ProxyHandler, Request, build_opener

from kit.core.errors import BadValue, KitError, NotInstalled, UnknownName
from kit.core.files import open_without_links
from kit.serving.admission import PROTECTIONS
from kit.serving.forking import FORKS, fork_server
from kit.serving.processes import Process, environment, first_report, report_change
from kit.serving.settings import CHANGEABLE, Settings, check_platform

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from kit.measurement import Parts

NEEDS = ("starlette", "uvicorn", "prometheus_client")
START_S = 300.0  # loading and compiling may take minutes
CHANGE_S = 10.0
ASK_S = 10.0
PREFIX, LOG = "kit-serve-", "log.txt"
LOG_CHARACTERS = 2000
NO_PROXY = build_opener(ProxyHandler({}))  # the server runs on this computer


def serve(
    model: Any,
    *,
    example: Any = None,
    text: Any = None,
    watch: str | Path | None = None,
    name: str = "model",
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    workers: int = 1,
    threads: int = 1,
    max_batch: int = 32,
    max_wait_s: float = 0.002,
    wait_if_idle: bool = False,
    deadline_s: float = 1.0,
    max_waiting: int | str = "auto",
    protect: tuple[str, ...] = PROTECTIONS,
    max_body_bytes: int = 16 * 2**20,
    max_connections: int = 1024,
    drain_s: float = 20.0,
    slots: int = 16,
    trusted: bool = False,
) -> Server:
    """A server that answers requests with the model's outputs; it is ready when this returns.

    It runs in processes of its own, so that it does not compete with the notebook for Python.

    Parameters
    ----------
    model
        A model, any technique's form of one, or the path of a file: a checkpoint, or an exported
        model. A GPT also serves completions.
    example
        Inputs of at least one row: a tensor, a tuple of arguments or a dict of keyword arguments.
        None: the kit knows what its own models and ONNX files take.
    text
        For a GPT: the data with its vocabulary.
    watch
        A file of `kit.monitoring.save_reference`: the server compares its latest outputs with it,
        and shows how far they have moved in its metrics.
    name
        The model's name in addresses.
    host, port
        Where to listen; port 0: any free one. Other computers can reach only an address that is
        not loopback, and that needs a token.
    token
        Clients send it as `Authorization: Bearer TOKEN`. Health needs none.
    workers
        Processes that share the socket, each with its own copy of the model and its own queue.
    threads
        PyTorch's threads in each of them.
    max_batch, max_wait_s
        Rows that are computed together, and how long the first of them waits for others.
    wait_if_idle
        False: a model that has nothing to do takes a request at once. True: it waits, too.
    deadline_s
        A request that waits longer is dropped with status 504; a request can ask for less.
    max_waiting
        Requests inside, at most; more are refused with 503. "auto": deadline × measured rate.
    protect
        The protections that are on; leave one out to see what it is for.
    max_body_bytes, max_connections
        A larger body is refused with 413; a connection too many is closed.
    drain_s
        How long requests inside may take after `stop`.
    slots
        Texts that a GPT writes at the same time.
    trusted
        True allows a .pt2 or .pte file, which can run code when it is opened.

    Raises
    ------
    NotInstalled
        The extra `serve` is missing.
    BadValue
        A setting is wrong; the port is in use; an example is missing.
    CheckpointRefused, NotSupported
        The file or the model cannot be served: why, and what can.

    Examples
    --------
    >>> import kit
    >>> with serve(kit.models.MLP()) as server:  # doctest: +SKIP
    ...     server.url
    'http://127.0.0.1:40215'
    """
    missing = [module for module in NEEDS if find_spec(module) is None]
    if missing:
        raise NotInstalled("kit.serve", missing, "serve")
    settings = Settings(
        name=name,
        host=host,
        port=port,
        token=token,
        workers=workers,
        threads=threads,
        max_batch=max_batch,
        max_wait_s=max_wait_s,
        wait_if_idle=wait_if_idle,
        deadline_s=deadline_s,
        max_waiting=max_waiting,
        protect=protect,
        max_body_bytes=max_body_bytes,
        max_connections=max_connections,
        drain_s=drain_s,
        slots=slots,
    )
    check_platform(workers)
    _remove_abandoned_folders()
    folder, log = _new_folder()
    try:
        with log:  # it locks the folder, until the server's own log does
            if FORKS:  # its imports take longer than the model's way to a file
                fork_server(environment(settings), log)
            from kit.serving.packing import pack

            pack(model, example, folder, text=text, trusted=trusted)
            if watch is not None:
                _copy_reference(Path(watch), folder)
            settings.write(folder)
            return Server(settings, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _new_folder() -> tuple[Path, IO[bytes]]:
    """A folder that only this user can read, and its log."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        log = _locked_log(folder)
        if folder.exists():  # else somebody has taken it for abandoned before it was locked
            return folder, log
        log.close()


def _locked_log(folder: Path) -> IO[bytes]:
    """The log, which locks its folder as long as a process has it open: also the server's own."""
    log = (folder / LOG).open("ab")
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(log, fcntl.LOCK_SH)
    return log


def _remove_abandoned_folders() -> None:
    """Remove the folders of servers that were killed together with all that started them."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody has locked it, or it has just been removed
            if not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
                _remove_unlocked(folder)


def _remove_unlocked(folder: Path) -> None:
    with open(folder / LOG, "rb", opener=open_without_links) as log:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _copy_reference(path: Path, folder: Path) -> None:
    """A copy that was read once, so that a wrong file is noticed before a process starts."""
    from kit.monitoring.reference import read_reference
    from kit.serving.output_watch import REFERENCE

    read_reference(path)
    shutil.copyfile(path, folder / REFERENCE)


class Server:
    """A running server; `with kit.serve(model) as server:` stops it at the end.

    Attributes
    ----------
    url
        Its address, such as "http://127.0.0.1:40215".
    """

    def __init__(self, settings: Settings, folder: Path):
        self.settings = settings
        self._folder = folder
        self._log = _locked_log(folder)
        self.process = self._start()
        try:
            self.port = self._when_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._clean()
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self.port}"

    def _start(self) -> Process:
        given = environment(self.settings)
        if FORKS:
            try:
                return fork_server(given, self._log).start(self._folder, given, self._log)
            except ChildProcessError as error:
                raise self._ended() from error
        module = "kit.serving.worker" if self.settings.workers == 1 else "kit.serving.supervisor"
        return subprocess.Popen(
            [sys.executable, "-m", module, str(self._folder)],
            stdin=subprocess.PIPE,  # our end closes when we are gone: then the server stops
            stdout=subprocess.PIPE,
            bufsize=0,
            stderr=self._log,
            env=given,
            start_new_session=True,  # Ctrl-C in a notebook does not reach the server
        )

    def _when_ready(self) -> int:
        """The port, when the server said that it is ready."""
        report = first_report(self.process.stdout, START_S)
        if "port" in report:
            return int(report["port"])
        if failed := report.get("failed"):
            raise BadValue(f"kit.serve: {failed}")
        raise self._ended()

    def _ended(self) -> KitError:
        return KitError(f"the server ended before it was ready: {self.log()}")

    def log(self) -> str:
        """The end of what the server wrote about itself: its errors."""
        with suppress(OSError):
            text = (self._folder / LOG).read_text(encoding="utf-8", errors="replace")
            return text.strip()[-LOG_CHARACTERS:]
        return ""

    def metrics(self) -> dict[str, float]:
        """The server's counters now; see `kit.serving.metrics.Metrics` for their names."""
        from kit.serving.metrics import numbers

        return numbers(self._get("/metrics"))

    def _get(self, path: str) -> str:
        token = self.settings.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            request = Request(self.url + path, headers=headers)
            with NO_PROXY.open(request, timeout=ASK_S) as reply:
                text: str = reply.read().decode()
                return text
        except OSError as error:
            state = "does not answer" if self.process.poll() is None else "has ended"
            raise KitError(f"the server at {self.url} {state}: {error}. {self.log()}") from error

    def request_parts(self, inputs: Any = None, *, n: int = 100) -> Parts:
        """Where the time of one request goes, measured with `n` requests, one after the other.

        Parameters
        ----------
        inputs
            As for `kit.serve(example=…)`, with any number of rows; None: one row of ones.
        n
            Requests, each on a new connection.
        """
        from kit.serving.request_parts import request_parts
        from kit.serving.served_model import TensorSpec

        model = f"/v2/models/{self.settings.name}"
        described = json.loads(self._get(model))["inputs"]
        specs = [TensorSpec(i["name"], i["datatype"], tuple(i["shape"])) for i in described]
        address = (self.settings.host, self.port)
        token, threads = self.settings.token, self.settings.threads
        return request_parts(
            address, f"{model}/infer", inputs, specs, n=n, token=token, threads=threads
        )

    def change(self, **settings: Any) -> None:
        """Change settings while the server runs; requests that wait at this moment get 503.

        Parameters
        ----------
        settings
            `max_batch`, `max_wait_s`, `wait_if_idle`, `deadline_s`, `max_waiting` or `protect`, as
            in `kit.serve`.

        Raises
        ------
        UnknownName
            Another setting is fixed when the server starts.
        BadValue
            A value is wrong; nothing has changed.
        """
        for name in settings:
            if name not in CHANGEABLE:
                raise UnknownName("setting of a running server", name, CHANGEABLE)
        changed = replace(self.settings, **settings)
        changed.write(self._folder)
        if not report_change(self.process, CHANGE_S):
            raise KitError(f"the server did not take the change: {self.log() or 'it has ended'}")
        self.settings = changed

    def restart(self, **settings: Any) -> None:
        """Stop, and start again at the same address with other settings, such as `workers=2`.

        Raises
        ------
        UnknownName
            There is no such setting.
        BadValue
            A value is wrong; the server runs on as before.
        """
        for name in settings:
            if name not in Settings.__dataclass_fields__:
                raise UnknownName("setting of a server", name, Settings.__dataclass_fields__)
        changed = replace(self.settings, **{"port": self.port, **settings})
        check_platform(changed.workers)
        self._end()
        changed.write(self._folder)
        self.settings, self.process = changed, self._start()
        self.port = self._when_ready()

    def stop(self) -> int:
        """Stop: requests inside are finished, new ones are refused; returns the exit code."""
        code = self._end()
        self._clean()
        return code

    def _end(self) -> int:
        """Ask the process to end, and make sure that it does; its exit code."""
        if self.process.poll() is None:
            assert self.process.stdin
            if os.name == "posix":
                self.process.terminate()
            else:
                self.process.stdin.close()  # there are no signals
            try:
                self.process.wait(self.settings.drain_s + 10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        return self.process.wait()

    def _clean(self) -> None:
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "runs" if self.process.poll() is None else "has ended"
        return f"{self.settings.name!r} at {self.url}, which {state}"
