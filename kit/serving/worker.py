"""One process that serves: `python -m kit.serving.worker FOLDER [SOCKET]`.

It reads settings and model from its private folder, answers health at once, is ready after the
warm-up, and drains when it is told to stop or when the process that started it is gone.

It tells its parent one line of JSON on its standard output: {"port"} when ready, or {"failed"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from kit.core.errors import KitError
from kit.serving.settings import Settings

if TYPE_CHECKING:
    from kit.serving.application import Application
    from kit.serving.served_model import ServedModel

LEAST_DRAIN_S = 0.2  # of answering "not ready", so that a load balancer sees it
LOOK_S = 0.5  # how often the parent's life is checked
BACKLOG = 2048
WARM_UPS = 3
log = logging.getLogger("kit.serving")


def main() -> None:
    """Serve until told to stop; the exit code is 0 then."""
    folder = Path(sys.argv[1])
    settings = Settings.read(folder)
    told = reports()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    listening = (
        socket.socket(fileno=int(sys.argv[2])) if len(sys.argv) > 2 else bind(settings, told)
    )
    worker = Worker(folder, settings, listening, told)
    worker.server.run([listening])
    sys.exit(worker.code)


def reports() -> Callable[[dict[str, Any]], None]:
    """A function that tells the parent; what libraries print goes to the log from now on."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def tell(what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent has gone
            os.write(channel, json.dumps(what).encode() + b"\n")

    return tell


def bind(settings: Settings, tell: Callable[[dict[str, Any]], None]) -> socket.socket:
    """The listening socket; a port that is in use is told, and ends the process."""
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


class Worker:
    """A server process: the application in uvicorn, its start and its end."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        listening: socket.socket,
        tell: Callable[[dict[str, Any]], None],
    ):
        from kit.serving.application import Application

        self.folder, self.settings, self.tell = folder, settings, tell
        self.port = listening.getsockname()[1]
        self.application: Application = Application(settings)
        self.code = 0
        self.server = Stoppable(uvicorn_config(self.application, settings), self)
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the model and warm it up, while health is answered; then be ready."""
        try:
            model, vocabulary = await asyncio.to_thread(load, self.folder, self.settings)
            self.application.open(model, vocabulary)
        except Exception as error:
            log.exception("the model could not be loaded")
            self.code = 1
            known = isinstance(error, KitError)
            first = next(iter(str(error).strip().splitlines()), "")
            self.tell({"failed": str(error) if known else f"{type(error).__name__}: {first}"})
            self.server.should_exit = True
            return
        self.tell({"port": self.port})

    def stop(self) -> None:
        """Be not ready at once, finish what is inside, then end. A second call changes nothing."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        least = asyncio.sleep(LEAST_DRAIN_S)
        finished, _ = await asyncio.gather(self.application.drain(self.settings.drain_s), least)
        if not finished:
            log.warning("requests were left after %g s of draining", self.settings.drain_s)
        self.server.should_exit = True


class Stoppable(uvicorn.Server):
    """uvicorn that drains on a signal, and then ends with code 0 instead of by the signal."""

    def __init__(self, config: uvicorn.Config, worker: Worker):
        super().__init__(config)
        self.worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then load."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self._loading = loop.create_task(self.worker.start())
        watch_parent(lambda: loop.call_soon_threadsafe(self.worker.stop))

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and Ctrl-C drain."""
        loop = asyncio.get_running_loop()

        def stop(*_: object) -> None:
            loop.call_soon_threadsafe(self.worker.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        yield


def watch_parent(gone: Callable[[], object]) -> None:
    """Call the function when the parent has gone, however it ended.

    The parent holds the other end of our standard input. Its end closes it, unless another child
    has inherited it: so our parent's number is looked at, too.
    """
    parent = os.getppid()

    def watch() -> None:
        import select

        while True:
            if os.name == "posix":
                if os.getppid() != parent:
                    break
                if not select.select([0], [], [], LOOK_S)[0]:
                    continue
            if not os.read(0, 1):
                break
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            gone()
        time.sleep(60)  # whatever hangs by then
        os._exit(1)

    threading.Thread(target=watch, name="kit-parent", daemon=True).start()


def uvicorn_config(application: Application, settings: Settings) -> uvicorn.Config:
    """uvicorn without access log, server header and websockets."""
    return uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        limit_concurrency=None,
        timeout_graceful_shutdown=1,
    )


def load(folder: Path, settings: Settings) -> tuple[ServedModel, Any]:
    """The model from the folder, warmed up: small and full batches were predicted."""
    import torch

    from kit.serving.packing import unpack

    torch.set_num_threads(settings.threads)
    torch.get_num_threads()
    model = unpack(folder, settings.name)
    for _ in range(WARM_UPS):
        for rows in sorted({1, 2, settings.max_batch}):
            model.predict(model.rows(rows))
    return model, None


if __name__ == "__main__":
    main()
