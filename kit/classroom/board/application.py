"""The board behind HTTP: messages of laptops come in, pages for the projector go out.

    POST /api/join      {code, nickname, before} -> a token, and the questions
    POST /api/guess     {question, guess}                                  with the token
    POST /api/measured  {question, guess, value, low, high, machine}       with the token
    GET  /api/board     server-sent events: what the page draws            with code or secret
    POST /api/teacher   {do: next, back, show, hide or close}              with the secret

All pages get the same event, at most a few times a second, however many laptops send.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kit.classroom.board.board import CLOSED, GUESS, MEASURED, Board, Refused
from kit.classroom.board.rates import OF_A_STUDENT, WRONG_OF_ALL, WRONG_OF_AN_ADDRESS, Rates
from kit.classroom.board.view import view
from kit.core.errors import KitError

PAGE = Path(__file__).with_name("page")
KINDS = {"board.html": "text/html", "board.js": "text/javascript", "board.css": "text/css"}
EVERY_S = 0.3  # pages are not updated more often
ALIVE_S = 10.0  # a comment after this silence shows both ends that the other is there
MOST_PAGES = 200
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class BoardApplication:
    """ASGI: the addresses around one board."""

    def __init__(self, board: Board, code: str, secret: str, where: str):
        self.board, self.code, self.secret, self.where = board, code, secret, where
        self.ended = asyncio.Event()
        self._pages = 0
        self._event = b""
        self._changed = asyncio.Condition()
        self._messages = Rates(*OF_A_STUDENT)
        self._wrong, self._all_wrong = Rates(*WRONG_OF_AN_ADDRESS), Rates(*WRONG_OF_ALL)
        self.asgi = Starlette(
            routes=[
                Route("/", self._file),
                *(Route(f"/{name}", self._file) for name in KINDS if name != "board.html"),
                Route("/api/join", self._join, methods=["POST"]),
                Route("/api/guess", self._message, methods=["POST"]),
                Route("/api/measured", self._message, methods=["POST"]),
                Route("/api/teacher", self._teacher, methods=["POST"]),
                Route("/api/board", self._stream),
            ],
            exception_handlers={Refused: _refused, KitError: _failed},
        )

    # --- Laptops ---

    async def _join(self, request: Request) -> Response:
        message = await _json(request)
        self._check_code(request, str(message.get("code", "")))
        student, token = self.board.join(message.get("nickname"), message.get("before"))
        questions = [each.for_students() for each in self.board.questions.values()]
        found = {"token": token, "name": student.name, "questions": questions}
        return JSONResponse(found, headers=HEADERS)

    async def _message(self, request: Request) -> Response:
        student = self.board.student(_bearer(request))
        if not self._messages.take(student.number):
            raise Refused(429, "too many messages. Send fewer in a second.")
        message = await _json(request)
        act = self.board.guess if request.url.path.endswith("guess") else self.board.measured
        act(student, message)
        return JSONResponse({}, headers=HEADERS)

    # --- The teacher ---

    async def _teacher(self, request: Request) -> Response:
        self._check_secret(request)
        do = (await _json(request)).get("do")
        board = self.board
        shows = {
            "next": (GUESS, board.beside(1)),
            "back": (GUESS, board.beside(-1)),
            "show": (MEASURED, board.current),
            "hide": (GUESS, board.current),
            "close": (CLOSED, board.current),
        }
        if do not in shows:
            raise Refused(400, f"do: needs one of {', '.join(shows)}.")
        board.show(*shows[do])
        return JSONResponse({}, headers=HEADERS)

    # --- Pages ---

    async def _file(self, request: Request) -> Response:
        name = request.url.path.strip("/") or "board.html"
        text = (PAGE / name).read_text(encoding="utf-8")
        return Response(text, media_type=KINDS[name], headers=HEADERS)

    async def _stream(self, request: Request) -> Response:
        given = _bearer(request)
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            self._check_code(request, given)
        if self._pages >= MOST_PAGES:
            raise Refused(503, f"{MOST_PAGES} pages are open already.")
        headers = {**HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(self._events(), media_type="text/event-stream", headers=headers)

    async def _events(self) -> AsyncIterator[bytes]:
        """What one page gets: the newest state, then each change."""
        self._pages += 1
        try:
            sent = b""
            while not self.ended.is_set():
                if self._event is not sent:
                    sent = self._event
                    yield sent
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_S), self._changed:
                        await self._changed.wait()
                    continue
                yield b": still here\n\n"
        finally:
            self._pages -= 1

    async def publish(self) -> None:
        """Give all pages the newest state, a few times a second, until the end."""
        version = -1
        while not self.ended.is_set():
            if version != self.board.version:
                version = self.board.version
                shown = {"code": self.code, "where": self.where, **view(self.board)}
                self._event = b"data: " + json.dumps(shown).encode() + b"\n\n"
                async with self._changed:
                    self._changed.notify_all()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), EVERY_S)
        async with self._changed:
            self._changed.notify_all()

    # --- Who may ---

    def _check_code(self, request: Request, given: str) -> None:
        self._check(
            request, given, self.code, "This code is wrong. The right one is on the projector."
        )

    def _check_secret(self, request: Request) -> None:
        self._check(request, _bearer(request), self.secret, "Only the teacher may do this.")

    def _check(self, request: Request, given: str, needed: str, message: str) -> None:
        """Compare; who was wrong too often gets no more tries for a while."""
        right = hmac.compare_digest(given.encode(errors="replace"), needed.encode())
        address = request.client.host if request.client else ""
        if right:
            return
        if not (self._wrong.take(address) and self._all_wrong.take("all")):
            raise Refused(429, "Too many wrong codes came from here. Wait a minute.")
        raise Refused(403, message)


async def _json(request: Request) -> dict[str, Any]:
    """The object in the body; the connection has limited its size already."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, "needs content-type application/json.")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON.") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body is not a JSON object.")
    return found


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.message}, error.status, headers=HEADERS)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 507, headers=HEADERS)
