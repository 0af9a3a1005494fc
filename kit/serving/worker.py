"""One process that serves: `python -m kit.serving.worker FOLDER [SOCKET]`.

It reads settings and model from its private folder, answers health at once, is ready after the
warm-up, and drains at a signal to stop, or when the process that started it is gone.

It tells its parent one line of JSON on its standard output: {"port"} when ready, or {"failed"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from kit.core.errors import KitError
from kit.serving.fair_accept import FairServer
from kit.serving.limits import Limits, uvicorn_settings
from kit.serving.processes import Parent, Tell, bind, reports, start_log, watch_parent
from kit.serving.settings import Settings

if TYPE_CHECKING:
    from kit.serving.application import Application
    from kit.serving.continuous_batching import GenerationEngine
    from kit.serving.metrics import Metrics
    from kit.serving.served_model import ServedModel
    from kit.serving.vocabulary import Vocabulary

LEAST_DRAIN_S = 0.2  # of answering "not ready", so that a load balancer sees it
WARM_UPS, WARM_UP_S = 3, 0.5  # rounds, at most
# After its batch, the model's thread needs Python's lock, which the event loop gives up only after
# this time. Python's default of 5 ms is longer than a batch: the model would wait for half of it.
# PyTorch gives the lock up in each operation, so the model waits several times in a batch.
SWITCH_S = 0.0001
log = logging.getLogger("kit.serving")


def main() -> None:
    """Serve until a signal to stop; the exit code is 0 then."""
    shared = socket.socket(fileno=int(sys.argv[2])) if len(sys.argv) > 2 else None
    sys.exit(run(Path(sys.argv[1]), shared))


def run(folder: Path, shared: socket.socket | None = None) -> int:
    """Serve until a signal to stop; the exit code. Replicas listen on a shared socket."""
    settings, parent = Settings.read(folder), Parent()
    tell = reports()
    sys.setswitchinterval(SWITCH_S)
    start_log(logging.WARNING)
    listening = shared or bind(settings, tell)
    worker = Worker(folder, settings, listening, tell, parent)
    worker.server.run([listening])
    if settings.workers == 1:  # otherwise the supervisor does it
        parent.remove_if_gone(folder)
    return worker.code


class Worker:
    """A server process: the application in uvicorn, its start and its end."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        listening: socket.socket,
        tell: Tell,
        parent: Parent,
    ):
        from kit.serving.application import Application

        self.folder, self.settings, self.tell, self.parent = folder, settings, tell, parent
        self.port = listening.getsockname()[1]
        self.application: Application = Application(settings)
        self.code = 0
        self.server = Stoppable(uvicorn_config(self.application, settings), self)
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the model and warm it up, while health is answered; then be ready."""
        try:
            observe = self.application.metrics
            loaded = await asyncio.to_thread(load, self.folder, self.settings, observe)
            self.application.open(*loaded)
            # Everything that was imported stays. To look through it for garbage takes 0.1 s, in
            # which no request is answered.
            gc.collect()
            gc.freeze()
        except Exception as error:
            log.exception("the model could not be loaded")
            self.code = 1
            known = isinstance(error, KitError)
            first = next(iter(str(error).strip().splitlines()), "")
            self.tell({"failed": str(error) if known else f"{type(error).__name__}: {first}"})
            self.server.should_exit = True
            return
        self.tell({"port": self.port})

    def change(self) -> None:
        """Obey the settings that are in the folder now."""
        self.settings = Settings.read(self.folder)
        self.application.change(self.settings)
        self.tell({"changed": True})

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
        """Listen, and answer health while the model loads; a replica loads before it listens.

        Otherwise a replica that starts again would take requests from those that can answer.
        """
        loop = asyncio.get_running_loop()
        drain_s = self.worker.settings.drain_s
        watch_parent(
            self.worker.parent,
            lambda: loop.call_soon_threadsafe(self.worker.stop),
            drain_s,
            lambda: loop.call_soon_threadsafe(self.worker.change),
        )
        if self.worker.settings.workers > 1:
            await self.worker.start()
        if not self.should_exit:
            shared = sockets if self.worker.settings.workers > 1 else None
            await super().startup([] if shared else sockets)
            self.servers += [self._fair(each) for each in shared or []]
        if self.worker.settings.workers == 1:
            self._loading = loop.create_task(self.worker.start())

    def _fair(self, listening: socket.socket) -> Any:
        """One of several processes on this socket."""
        new: Any = self.config.http_protocol_class
        new = partial(new, self.config, self.server_state, self.lifespan.state)
        return FairServer(listening, new, self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and Ctrl-C drain."""
        loop = asyncio.get_running_loop()

        def stop(*_: object) -> None:
            loop.call_soon_threadsafe(self.worker.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        yield


def uvicorn_config(application: Application, settings: Settings) -> uvicorn.Config:
    """The settings of uvicorn: its limits, and nothing that is written per request."""
    limits = Limits(
        max_body_bytes=settings.max_body_bytes, max_connections=settings.max_connections
    )
    return uvicorn.Config(
        application,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,  # all requests were answered before, see `Worker.stop`
        **uvicorn_settings(application.door, limits, application.metrics.on_refused, application),
    )


def load(
    folder: Path, settings: Settings, observe: Metrics
) -> tuple[ServedModel, GenerationEngine | None, Vocabulary | None]:
    """The model from the folder, warmed up: small and full batches were predicted."""
    import torch

    from kit.devices import threads_here
    from kit.serving.output_watch import watched
    from kit.serving.unpacking import unpack, vocabulary_of

    torch.set_num_threads(settings.threads)
    threads_here()  # without it, a new thread would use all cores
    model = unpack(folder, settings.name)
    warm_up(model, settings.max_batch)
    model = watched(model, folder, observe)  # warm-up rows are not answers
    if not model.generates:
        return model, None, None
    from kit.serving.continuous_batching import GenerationEngine

    engine = GenerationEngine(model.module, slots=settings.slots, observe=observe)
    return model, engine, vocabulary_of(folder, model)


def warm_up(model: ServedModel, max_batch: int) -> None:
    """Predict small and full batches: first calls allocate, compile and choose their kernels."""
    ends = time.monotonic() + WARM_UP_S
    for _ in range(WARM_UPS):
        for rows in sorted({1, min(2, max_batch), max_batch}):
            model.predict(model.rows(rows))
        if time.monotonic() > ends:  # a slow model gains nothing from more
            break


if __name__ == "__main__":
    main()
