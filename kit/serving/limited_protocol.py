"""uvicorn's connection with limits, and with a door that opens late.

- A request enters when it is complete. A slow client takes a connection, never a place in the
  queue, so that many slow clients cannot keep the others out.
- A request that finds the house full is answered here, in some microseconds: no task is started,
  nothing is parsed. Under overload most requests end so; what they cost decides what is left for
  the others.
- An infer request whose head came before takes the short path (`short_path`).

Refusals have the form that the Open Inference Protocol prescribes, or OpenAI's under `/v1`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from kit.serving.admission import TICKET, Admission, Ticket
from kit.serving.limits import Door, Limits
from kit.serving.refusals import RequestRefused, error_body
from kit.serving.replies import Header
from kit.serving.short_path import Heads, Infer, ShortCycle, reply_bytes

OF_DOOR = "door"  # who has counted this refusal
LINGER_S = 1.0  # a refused client may finish sending, so that it reads the answer, not a reset
LINGERING = 100  # connections above the limit that get this second
SMALL_BODY_BYTES = 65_536  # cheaper to read and to forget than to open a new connection


@dataclass(slots=True)
class Received:
    """Bytes of bodies that are not yet complete, over all connections of a process."""

    total_bytes: int = 0


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's connection, with limits; `uvicorn_settings` makes the class that is used."""

    door: Door
    limits: Limits
    on_refused: Callable[[int, str], None]
    received: Received
    infer: Infer | None
    heads: Heads

    _phase = "idle"  # idle -> headers -> body -> idle …, or closing
    _since_s = 0.0  # when the phase began
    _header_bytes = _body_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _held: tuple[RequestResponseCycle, Any, Admission] | None = None  # not yet complete
    _short: ShortCycle | None = None  # the request on the short path that is not yet answered

    # --- Connections ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        self._enter("headers")  # also a client that never says a word has to go
        excess = len(self.connections) - self.limits.max_connections
        if excess > 0:
            message = f"{self.limits.max_connections} connections are open already."
            self._close_with(503, message, reason="connections")
        if excess > LINGERING:
            self.transport.close()  # in a flood, a reset instead of the answer is good enough
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and give back what its requests held."""
        if self._timer is not None:
            self._timer.cancel()
        self._held = None
        self._count_body(-self._body_bytes)
        self._enter("closing")
        super().connection_lost(exc)
        self._leave()

    def eof_received(self) -> None:
        """The client will send no more; an incomplete request is answered, if it still listens."""
        if self._phase == "body" or (self._phase == "headers" and self._header_bytes):
            self._close_with(400, "the request ended before its end. Send as much as announced.")

    def timeout_keep_alive_handler(self) -> None:
        """A client that reads no answers loses them; waiting for it would hold their memory."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _watch(self) -> None:
        """Look several times per limit whether a phase lasts too long."""
        limits, now = self.limits, self.loop.time()
        allowed = {
            "headers": limits.header_time_s,
            "body": limits.body_time_s,
            "closing": LINGER_S,
        }
        if now - self._since_s > allowed.get(self._phase, float("inf")):
            self._overdue()
        if not self.transport.is_closing():
            often_s = min(allowed.values()) / 4
            self._timer = self.loop.call_later(often_s, self._watch)

    def _overdue(self) -> None:
        if self._phase == "closing" or not self._header_bytes:
            self.transport.abort()  # nobody has asked, or nobody listens
        else:
            self._close_with(408, f"the {self._phase} came too slowly. Send the request at once.")

    # --- Data, as they come ---

    def data_received(self, data: bytes) -> None:
        """Give the data to the parser; it calls the methods below."""
        if self._phase == "closing":
            return  # what a refused client still sends
        alone = self._is_alone()
        if alone and self._take_short_path(data):
            return
        if self._phase == "idle":
            self._enter("headers")
        self._header_bytes += len(data)  # until the parser says that the headers are complete
        before = self.cycle
        super().data_received(data)
        if self._phase == "headers" and self._header_bytes > self.limits.max_header_bytes:
            self._too_long()
        elif alone and self.cycle is not before and self._phase == "idle":
            self._learn(data)

    def on_message_begin(self) -> None:
        """A request begins; a client that sends many without waiting for answers is cut off."""
        super().on_message_begin()
        if self._phase == "closing":
            return
        self._enter("headers")
        if len(self.pipeline) >= self.limits.max_pipelined:
            # Each would hold some kilobytes, and one read of the socket can bring thousands.
            self.on_refused(400, "")
            self._enter("closing")
            self.transport.abort()  # an earlier answer may be half written: nothing fits behind it

    def on_headers_complete(self) -> None:
        """The request's head is known: refuse what is too large before anything is kept."""
        if self._phase == "closing":
            return
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.max_header_bytes:
            return self._too_long()
        announced = _content_length(self.headers)
        if announced > self.limits.max_body_bytes:
            return self._too_large()
        self._enter("body")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._phase == "closing":
            return
        self._count_body(len(body))
        if self._body_bytes > self.limits.max_body_bytes:
            return self._too_large()
        if self.received.total_bytes > self.limits.max_bodies_bytes:
            message = "too many large requests arrive. Send them one by one."
            return self._close_with(503, message, reason="bodies")
        if self._held is None:
            super().on_body(body)
        else:  # the application does not read yet, so nothing must stop the flow
            self._held[0].body += body

    def on_message_complete(self) -> None:
        """The request is complete: now it may enter."""
        if self._phase == "closing":
            return
        self._count_body(-self._body_bytes)
        self._enter("idle")
        super().on_message_complete()
        held, self._held = self._held, None
        if held is not None:
            self._admit(*held)

    def _enter(self, phase: str) -> None:
        self._phase, self._since_s = phase, self.loop.time()
        if phase == "idle":
            self._header_bytes = 0

    def _count_body(self, added: int) -> None:
        self._body_bytes += added
        self.received.total_bytes += added

    # --- The door ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start what needs no place; hold the others back until they are complete."""
        admission = self.door(cycle.scope["method"], cycle.scope["path"])
        if admission is None:
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self._admit(cycle, app, admission)
        else:
            self._hold(cycle, app, admission)

    def _hold(self, cycle: RequestResponseCycle, app: Any, admission: Admission) -> None:
        """Wait for the body; a large one is not even received if the house is full."""
        large = _content_length(cycle.scope["headers"]) > SMALL_BODY_BYTES
        if large or cycle.waiting_for_100_continue:
            try:
                admission.check()
            except RequestRefused as refused:
                status, message = refused.status, refused.message
                return self._close_with(status, message, refused.headers, reason=OF_DOOR)
        if cycle.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        self._held = (cycle, app, admission)

    def _admit(self, cycle: RequestResponseCycle, app: Any, admission: Admission) -> None:
        try:
            ticket = admission.admit()
        except RequestRefused as refused:
            return self._turn_away(cycle, refused, cycle.scope["path"])
        scope: Any = cycle.scope
        scope[TICKET] = ticket
        super()._start_asgi_task(cycle, _released(app, ticket))

    def _turn_away(
        self, cycle: RequestResponseCycle | ShortCycle, refused: RequestRefused, path: str
    ) -> None:
        """Answer without the application; the connection stays open for the next try."""
        cycle.keep_alive = cycle.keep_alive and refused.reason != "draining"
        self.transport.write(
            _reply(refused.status, refused.message, path, refused.headers, cycle.keep_alive)
        )
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # --- The short path ---

    def _is_alone(self) -> bool:
        """Whether the next byte begins a request, and no earlier one waits for its reply."""
        begins = self._phase == "idle" or (self._phase == "headers" and not self._header_bytes)
        free = self.cycle is None or self.cycle.response_complete
        return begins and free and self.infer is not None and not self.flow.write_paused

    def _learn(self, data: bytes) -> None:
        assert self.infer is not None
        if self.infer.accepts(self.cycle.scope):
            self.heads.learn(data, self.cycle.scope)

    def _take_short_path(self, data: bytes) -> bool:
        """Answer an infer request whose head is known; False if it is something else."""
        assert self.infer is not None
        found = self.heads.find(data)
        admission = found and self.door("POST", found[0].path)
        if not found or not admission:
            return False
        (head, body), cycle = found, ShortCycle()
        self._unset_keepalive_if_required()
        self._enter("idle")
        self.cycle = cycle  # type: ignore[assignment]
        try:
            ticket = admission.admit()
        except RequestRefused as refused:
            self._turn_away(cycle, refused, head.path)
            return True
        self._short = cycle
        call = cycle.call = self.infer.call(ticket, partial(self._reply_short, cycle, ticket))
        call.start(body, head.json_length)
        return True

    def _reply_short(
        self, cycle: ShortCycle, ticket: Ticket, status: int, headers: list[Header], body: bytes
    ) -> None:
        if self._short is cycle and not self.transport.is_closing():
            always = self.server_state.default_headers
            self.transport.write(reply_bytes(status, headers, body, always, cycle.keep_alive))
            if not cycle.keep_alive:
                self.transport.close()
        ticket.release(finished=status == 200)
        self._short = cycle.call = None
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()

    def _leave(self) -> None:
        """Tell the request on the short path that nobody waits for it."""
        cycle, self._short = self._short, None
        if cycle is not None and cycle.call is not None:
            assert self.infer is not None
            self.infer.left(cycle.call)
            cycle.call = None

    # --- Refusals that end the connection ---

    def _too_long(self) -> None:
        limit = self.limits.max_header_bytes
        self._close_with(431, f"the request's head is longer than {limit} bytes. Shorten it.")

    def _too_large(self) -> None:
        limit = self.limits.max_body_bytes
        self._close_with(413, f"the body is larger than {limit} bytes. Send fewer rows at once.")

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read."""
        self._close_with(400, "this is not an HTTP/1.1 request with a correct length.")

    def _close_with(
        self, status: int, message: str, headers: dict[str, str] | None = None, reason: str = ""
    ) -> None:
        """Answer, unless this request or an earlier one is being answered, and close."""
        if self._phase == "closing":
            return
        cycle, own = self.cycle, self._phase == "body"  # else the cycle is an earlier request's
        begun = cycle is not None and cycle.response_started
        answering = begun and (own or not cycle.response_complete)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # the application must not write behind this
            cycle.message_event.set()
        self._leave()
        self._held = None
        self._unset_keepalive_if_required()
        self._enter("closing")
        if answering:
            return self.transport.close()
        if reason != OF_DOOR:
            self.on_refused(status, reason)
        path = (getattr(self, "url", None) or b"").decode("latin-1")
        self.transport.write(_reply(status, message, path, headers or {}, False))
        if self.transport.can_write_eof():
            self.transport.write_eof()  # `_watch` closes what the client leaves open
        else:
            self.transport.close()


def _released(app: Any, ticket: Ticket) -> Any:
    """The application, after which the place is free, whatever happened."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        with ticket:
            await app(scope, receive, send)

    return run


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """What the request announces; the parser has refused what is not a number."""
    return int(next((value for name, value in headers if name == b"content-length"), 0))


def _reply(
    status: int, message: str, path: str, headers: dict[str, str], keep_alive: bool
) -> bytes:
    """A whole response with the error in JSON."""
    body = json.dumps(error_body(path, status, message)).encode()
    lines = ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name != "connection"]
    lines += [] if keep_alive else ["connection: close"]
    return STATUS_LINE[status] + "\r\n".join([*lines, "", ""]).encode() + body
