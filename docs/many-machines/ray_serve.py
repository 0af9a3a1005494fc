"""The kit's server as replicas of Ray Serve, on one machine or on many. In this folder:

    serve run --working-dir . ray_serve:build path=/models/digits.kit name=digits replicas=4

Ray starts the replicas, spreads the requests over them and replaces a replica that dies. Inside
each replica is the application that `kit.serve` runs, with its batching, its bounded queue and
its deadlines. Needs `pip install "ray[serve]"` beside the kit, on every machine, and the
checkpoint at the same path on every machine.
"""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from ray import serve

if TYPE_CHECKING:
    from kit.serving.settings import Settings

MOST_REQUESTS = 1024  # per replica; the kit's own queue refuses long before that many


class Options(BaseModel):
    """What can be written after `serve run ray_serve:build`, as name=value."""

    path: str
    name: str = "model"
    replicas: int = 2
    cpus: float = 1.0  # that Ray sets aside for a replica; 0.5: two replicas share a core
    max_batch: int = 32
    deadline_s: float = 1.0
    drain_s: float = 20.0


def build(options: Options) -> serve.Application:
    """Ray Serve's description of the deployment.

    Ray makes `Options` from name=value, because of the annotation. It must be the class itself:
    `from __future__ import annotations` would make a string of it.
    """
    path = str(Path(options.path).resolve())
    token = os.environ.get("KIT_SERVE_TOKEN")

    def application() -> "Replica":
        """Called in each replica, so that only replicas import PyTorch."""
        from kit.serving.settings import Settings

        chosen = options.model_dump(include={"name", "max_batch", "deadline_s", "drain_s"})
        return Replica(path, Settings(**chosen, token=token))

    deployment = serve.deployment(
        serve.ingress(application)(),
        name=options.name,
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus},
        # Ray holds back what is more than this, in a queue without deadlines. Ray's default of 5
        # would keep batches small, and hide from the kit how many requests wait.
        max_ongoing_requests=MOST_REQUESTS,
        graceful_shutdown_timeout_s=options.drain_s + 5,
    )
    return deployment.bind()


class Replica:
    """ASGI: the kit's application, whose model is loaded before Ray sends the first request."""

    def __init__(self, path: str, settings: "Settings"):
        from kit.serving.application import Application

        self.path, self.settings = path, settings
        self.application = Application(settings)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; Ray asks once for the lifespan, from the start to the end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.application(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()  # lifespan.startup
        try:
            self.application.open(*await asyncio.to_thread(self._load))
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self.application.drain(self.settings.drain_s)
        await send({"type": "lifespan.shutdown.complete"})

    def _load(self) -> Any:
        """The model, warmed up, as `kit serve` loads it."""
        from kit.serving.packing import pack
        from kit.serving.worker import load

        folder = Path(tempfile.mkdtemp(prefix="kit-ray-"))
        try:
            pack(self.path, None, folder)
            return load(folder, self.settings, self.application.metrics)
        finally:
            shutil.rmtree(folder)
