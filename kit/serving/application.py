"""The server's application: a request comes in, is checked, waits, is computed, and answered.

One infer request, in this order: token → door (`admission`) → body → checks and arrays
(`inference_protocol`) → queue and model (`batching`) → reply. A refused request stops at the door,
before its body is read. Health and metrics do not pass the door.

Every error is JSON: `{"error": "…"}`, or OpenAI's form under /v1. What an error shows is written
here or by a check; an exception's own text and traceback stay in the log.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit import __version__
from kit.serving import inference_protocol as protocol
from kit.serving.admission import Admission
from kit.serving.batching import Answer, DynamicBatcher
from kit.serving.metrics import CONTENT_TYPE, Metrics
from kit.serving.refusals import RequestRefused
from kit.serving.served_model import ServedModel
from kit.serving.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

TICK_S = 0.02  # how often waiting requests are asked whether their client is still there
OPEN = {"/v2/health/live", "/v2/health/ready"}  # without the token: they tell nothing
log = logging.getLogger("kit.serving")


class Application:
    """ASGI: the routes of both protocols around one model, which comes when it is loaded."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics(settings.name)
        self.model: ServedModel | None = None
        self.draining = False
        self.infer_path = f"/v2/models/{settings.name}/infer"
        self.admissions: list[Admission] = []
        self._bearer = f"Bearer {settings.token}".encode() if settings.token else None
        self._waiting: dict[asyncio.Task[Any], Receive] = {}
        self._gone: set[asyncio.Task[Any]] = set()
        self._others = self._starlette([])

    # --- The model's life ---

    def open(self, model: ServedModel, vocabulary: Any = None) -> None:
        """The model is loaded and warm: from now on the server is ready."""
        self.admission = self._door()
        self.batcher = DynamicBatcher(
            model.predict,
            max_batch=self.settings.max_batch,
            max_wait_s=self.settings.max_wait_s,
            admission=self.admission,
            observe=self.metrics,
            threads=self.settings.threads,
        )
        self._others = self._starlette(self._generation(model, vocabulary))
        self.model = model
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    def _door(self) -> Admission:
        given = self.settings
        self.admissions.append(
            Admission(
                deadline_s=given.deadline_s,
                max_waiting=given.max_waiting,
                max_batch=given.max_batch,
                protect=given.protect,
                on_shed=self.metrics.on_shed,
            )
        )
        return self.admissions[-1]

    def _generation(self, model: ServedModel, vocabulary: Any) -> list[Route]:
        """OpenAI's routes, if the model can generate."""
        return []

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: loaded, warm, and not stopping."""
        return self.model is not None and not self.draining

    async def drain(self, timeout_s: float) -> bool:
        """Not ready from now on; whether all requests inside were answered in time."""
        self.draining = True
        for each in self.admissions:
            each.drain()
        left = await asyncio.gather(*(each.empty(timeout_s) for each in self.admissions))
        return all(left)

    # --- ASGI ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. The short way for infer saves a framework's routing and objects."""
        if scope["type"] != "http":
            return
        if self._bearer and scope["path"] not in OPEN and not self._knows_token(scope):
            await _send_error(scope, send, _unknown_client())
        elif scope["path"] == self.infer_path and scope["method"] == "POST":
            await self._infer(scope, receive, send)
        else:
            await self._others(scope, receive, send)

    def _knows_token(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return self._bearer is not None and hmac.compare_digest(given, self._bearer)

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        task = asyncio.current_task()
        assert task is not None
        try:
            if self.model is None:
                raise _loading()
            with self.admission.admit(scope=scope) as ticket:
                body, headers = await self._answer(scope, receive, ticket, task)
                await _send(send, 200, body, headers)
            self.metrics.on_request(200, time.perf_counter() - began)
        except RequestRefused as refused:
            self.metrics.on_request(refused.status, time.perf_counter() - began)
            await _send_error(scope, send, refused)
        except asyncio.CancelledError:
            if task not in self._gone:  # the server stops
                raise
            self._gone.discard(task)
            task.uncancel()
        finally:
            self._waiting.pop(task, None)

    async def _answer(
        self, scope: Scope, receive: Receive, ticket: Any, task: asyncio.Task[Any]
    ) -> tuple[bytes, list[Header]]:
        """The reply to a request that was admitted."""
        assert self.model is not None
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, self.settings.max_body_bytes)
        began = time.perf_counter()
        length = headers.get(protocol.LENGTH_HEADER.encode())
        request = protocol.parse(
            self.model, body, length and length.decode("latin-1"), self.settings.max_batch
        )
        if request.timeout_s is not None:
            ticket.shorten(request.timeout_s)
        parsed = time.perf_counter()
        self._waiting[task] = receive
        answer = await self.batcher.submit(request.arrays, request.rows, ticket)
        answered = time.perf_counter()
        reply, found = protocol.reply(self.model, request, answer.outputs)
        if request.timing:
            times = (parsed - began, time.perf_counter() - answered)
            found.append((b"server-timing", _timing(answer, *times)))
        return reply, found

    # --- Clients that have gone, and gauges ---

    async def _tick(self) -> None:
        """Again and again: cancel what nobody waits for, and show how long the queue is."""
        while True:
            await asyncio.sleep(TICK_S)
            if "gone clients" in self.settings.protect:
                for task, receive in list(self._waiting.items()):
                    if _has_gone(receive):
                        self._gone.add(task)
                        self._waiting.pop(task)
                        task.cancel()
            self._gauge()

    def _gauge(self) -> None:
        self.metrics.waiting.set(sum(each.waiting for each in self.admissions))
        self.metrics.running.set(sum(each.running for each in self.admissions))

    # --- Everything else ---

    def _starlette(self, more: list[Route]) -> Starlette:
        model = "/v2/models/{name}"
        version = model + "/versions/{version}"
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/metrics", self._metrics),
            Route(model, self._metadata),
            Route(model + "/ready", self._model_ready),
            Route(model + "/infer", self._unknown_model, methods=["POST"]),
            *(
                Route(version + end, self._versions, methods=["GET", "POST"])
                for end in ("", "/ready", "/infer")
            ),
            *more,
        ]
        handlers: Any = {
            RequestRefused: _refused,
            HTTPException: _http_error,
            Exception: _failed,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    async def _server(self, request: Request) -> Response:
        extensions = protocol.EXTENSIONS
        return JSONResponse({"name": "kit", "version": __version__, "extensions": extensions})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": self.ready}, status_code=200 if self.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        self._gauge()
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(protocol.metadata(self._known(request)))

    async def _model_ready(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self.settings.name:
            self._known(request)
        body = {"name": name, "ready": self.ready}
        return JSONResponse(body, status_code=200 if self.ready else 503)

    async def _unknown_model(self, request: Request) -> Response:
        self._known(request)
        raise _loading()

    async def _versions(self, request: Request) -> Response:
        name = request.path_params["name"]
        raise RequestRefused(404, f"models here have no versions: use /v2/models/{name:.64}.")

    def _known(self, request: Request) -> ServedModel:
        """The model that the address names; an address names models, never files."""
        if request.path_params["name"] != self.settings.name:
            raise RequestRefused(404, f"no such model here; there is {self.settings.name!r}.")
        if self.model is None:
            raise _loading()
        return self.model


async def read_body(headers: dict[bytes, bytes], receive: Receive, most_bytes: int) -> bytes:
    """The body of a request, if it is not too large: 413; nobody's claim is believed."""
    claimed = headers.get(b"content-length", b"0")
    if not claimed.isdigit() or int(claimed) > most_bytes:
        raise RequestRefused(413, f"the body is larger than {most_bytes:,} bytes.")
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestRefused(400, "the body ended before it was complete.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            raise RequestRefused(413, f"the body is larger than {most_bytes:,} bytes.")
        if not message.get("more_body"):
            return b"".join(parts) if len(parts) > 1 else parts[0]


def _has_gone(receive: Receive) -> bool:
    """Whether the client closed the connection: one look, without waiting.

    After the body, the next message can only be the client's departure. If it is there, `receive`
    returns at once; otherwise it would wait, and is closed.
    """
    asking: Any = receive()
    try:
        asking.send(None)
    except StopIteration as told:
        return bool(told.value["type"] == "http.disconnect")
    asking.close()
    return False


def _timing(answer: Answer, parse_s: float, reply_s: float) -> bytes:
    """The header Server-Timing: milliseconds of each part (W3C)."""
    parts = {
        "parse": parse_s,
        "queue": answer.wait_s,
        "predict": answer.predict_s,
        "reply": reply_s,
    }
    return ", ".join(f"{name};dur={1000 * s:.4f}" for name, s in parts.items()).encode()


# --- Replies and errors --------------------------------------------------------------------------


async def _send(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(scope: Scope, send: Send, refused: RequestRefused) -> None:
    headers = [(k.encode(), v.encode()) for k, v in refused.headers.items()]
    headers.append((b"content-type", b"application/json"))
    await _send(send, refused.status, json.dumps(_error(scope, refused)).encode(), headers)


def _error(scope: Scope, refused: RequestRefused) -> dict[str, Any]:
    """The error in the form of the protocol that the address belongs to."""
    if not scope["path"].startswith("/v1"):
        return {"error": refused.message}
    kind = "invalid_request_error" if refused.status < 500 else "server_error"
    told = {"message": refused.message, "type": kind, "param": None, "code": None}
    return {"error": told}


def _loading() -> RequestRefused:
    return RequestRefused(503, "the model is still loading.", retry_after_s=1.0, reason="failed")


def _unknown_client() -> RequestRefused:
    return RequestRefused(401, "needs the server's token: Authorization: Bearer TOKEN.")


async def _refused(request: Request, refused: Any) -> Response:
    body = _error(request.scope, refused)
    return JSONResponse(body, refused.status, headers=refused.headers)


async def _http_error(request: Request, error: Any) -> Response:
    refused = RequestRefused(error.status_code, f"{request.method}: {error.detail}.")
    return JSONResponse(_error(request.scope, refused), error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    refused = RequestRefused(500, "the server failed; its log says why.", reason="failed")
    return JSONResponse(_error(request.scope, refused), 500)
