"""Replies and errors, in the form of the protocol that the address belongs to."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kit.serving.refusals import RequestRefused, error_body

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

log = logging.getLogger("kit.serving")
JSON: Header = (b"content-type", b"application/json")


async def send_reply(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    """Send a whole reply by ASGI."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(scope: Scope, send: Send, refused: RequestRefused) -> None:
    """Send the error of a refused request by ASGI."""
    headers = [(name.encode(), value.encode()) for name, value in refused.headers.items()]
    body = json.dumps(error_body(scope["path"], refused.status, refused.message)).encode()
    await send_reply(send, refused.status, body, [*headers, JSON])


def failed() -> RequestRefused:
    """What a client learns about a fault of the server."""
    return RequestRefused(500, "the server failed; its log says why.", reason="failed")


# --- Starlette's handlers ------------------------------------------------------------------------


async def on_refused(request: Request, refused: Any) -> Response:
    """A request that a check refused."""
    body = error_body(request.url.path, refused.status, refused.message)
    return JSONResponse(body, refused.status, headers=refused.headers)


async def on_http_error(request: Request, error: Any) -> Response:
    """An address or a method that does not exist."""
    refused = RequestRefused(error.status_code, f"{request.method} here: {error.detail}.")
    body = error_body(request.url.path, refused.status, refused.message)
    return JSONResponse(body, error.status_code, headers=error.headers)


async def on_failure(request: Request, error: Exception) -> Response:
    """A fault of the server: the log has the traceback, the client gets a sentence."""
    log.error("the server failed on a request", exc_info=error)
    return JSONResponse(error_body(request.url.path, 500, failed().message), 500)
