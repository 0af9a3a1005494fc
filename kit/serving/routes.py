"""The addresses apart from infer: health, metadata and metrics, which are never refused.

Source: the Open Inference Protocol, version 2. Kubernetes' probes ask the same addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.serving import inference_protocol as protocol
from kit.serving.metrics import CONTENT_TYPE
from kit.serving.refusals import RequestRefused
from kit.serving.replies import on_failure, on_http_error, on_refused

if TYPE_CHECKING:
    from kit.serving.application import Application

MODEL = "/v2/models/{name}"


def routes(application: Application, more: Sequence[Route] = ()) -> Starlette:
    """An application with all addresses apart from this model's infer."""
    found = _Routes(application)
    versions = (f"{MODEL}/versions/{{version}}{end}" for end in ("", "/ready", "/infer"))
    own = [
        Route("/v2", found.server),
        Route("/v2/health/live", found.live),
        Route("/v2/health/ready", found.ready),
        Route("/metrics", found.metrics),
        Route(MODEL, found.metadata),
        Route(f"{MODEL}/ready", found.model_ready),
        Route(f"{MODEL}/infer", found.metadata, methods=["POST"]),  # of a model that is not here
        *(Route(path, found.versions, methods=["GET", "POST"]) for path in versions),
    ]
    handlers: Any = {
        RequestRefused: on_refused,
        HTTPException: on_http_error,
        Exception: on_failure,
    }
    return Starlette(routes=[*own, *more], exception_handlers=handlers)


def loading() -> RequestRefused:
    """The refusal of a request that comes before the model."""
    return RequestRefused(503, "the model is still loading.", retry_after_s=1.0, reason="failed")


def kit_version() -> str:
    """The version of the kit; "unknown" if it runs from a folder without being installed."""
    try:
        return metadata.version("train-infer-kit")
    except metadata.PackageNotFoundError:
        return "unknown"


class _Routes:
    """What each address answers."""

    def __init__(self, application: Application):
        self.application = application
        self.name = application.settings.name

    async def server(self, request: Request) -> Response:
        extensions = protocol.EXTENSIONS
        return JSONResponse({"name": "kit", "version": kit_version(), "extensions": extensions})

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """The model is loaded and warm, and the server does not stop."""
        ready = self.application.ready
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        self.application.gauge()
        return Response(self.application.metrics.text(), media_type=CONTENT_TYPE)

    async def metadata(self, request: Request) -> Response:
        self._check_name(request)
        if self.application.model is None:
            raise loading()
        return JSONResponse(protocol.metadata(self.application.model))

    async def model_ready(self, request: Request) -> Response:
        self._check_name(request)
        ready = self.application.ready
        body = {"name": self.name, "ready": ready}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def versions(self, request: Request) -> Response:
        self._check_name(request)
        raise RequestRefused(404, f"no versions here: use /v2/models/{self.name}.")

    def _check_name(self, request: Request) -> None:
        """An address names a model, never a file."""
        if request.path_params["name"] != self.name:
            raise RequestRefused(404, f"no such model here; there is {self.name!r}.")
