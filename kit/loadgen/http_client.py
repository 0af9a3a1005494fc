"""A client of HTTP/1.1 with as little of its own as possible between a request and its answer.

A load generator must not be slower than the server that it tests. General clients are: httpx
reached 142 requests/s where `wrk` saw 882. This one writes bytes that were made before the run to
connections that stay open, and reads answers in callbacks: no task, no object of headers, no lock.

Everything is bounded: connections, the time for an answer, the bytes of an answer.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections import deque
from collections.abc import Callable

from kit.loadgen.http_answers import (
    BROKEN,
    CONNECTION_FAILED,
    NOT_SENT,
    TIMED_OUT,
    Answer,
    BrokenAnswer,
)

IDLE_S = 3.0  # a connection that was idle for longer may be closed by the server just now
Done = Callable[[Answer, float], None]  # gets the answer and the moment of its last byte


class HTTPClient:
    """Sends ready-made requests to one server, at most `connections` of them at once.

    Parameters
    ----------
    host, port
        The server's address.
    connections
        The most open connections. HTTP/1.1 answers one request per connection at a time, so this
        is also the most requests in flight; one more is not sent (`NOT_SENT`).
    timeout_s
        For one answer. The connection is then closed: the server can see that nobody waits.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connections: int = 1_000,
        timeout_s: float = 10.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ):
        self.host, self.port = host, port
        self.connections, self.timeout_s = connections, timeout_s
        self.loop = loop or asyncio.get_running_loop()
        self.opened = 0  # connections that are open, or being opened
        self._idle: list[_Connection] = []  # the last one used is the first to be used again
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[float, _Exchange]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, request: bytes, done: Done, *, streamed: bool = False) -> None:
        """Send the bytes now; `done` is called once, with the answer or a failure."""
        exchange = _Exchange(request, done, Answer(streamed))
        now = self.loop.time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < IDLE_S:
                connection.start(exchange)
                break
            connection.transport.abort()
        else:
            if self.opened >= self.connections:
                exchange.finish(NOT_SENT, now)
                return
            self._open(exchange)
        while self._waiting and self._waiting[0][1].done is None:  # answered: forget its bytes
            self._waiting.popleft()
        self._waiting.append((now + self.timeout_s, exchange))
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._expire)

    def close(self) -> None:
        """Close all connections."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._all):
            connection.transport.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _open(self, exchange: _Exchange) -> None:
        self.opened += 1
        task = self.loop.create_task(self._connect(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            _, connection = await self.loop.create_connection(
                lambda: _Connection(self), self.host, self.port
            )
        except OSError:
            self.opened -= 1
            exchange.finish(CONNECTION_FAILED, self.loop.time())
            return
        self._all.add(connection)
        if exchange.done is None:  # it timed out meanwhile
            self.put_back(connection)
        else:
            connection.start(exchange)

    def put_back(self, connection: _Connection) -> None:
        """The connection is free for another request."""
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        """The connection is closed."""
        self.opened -= 1
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _expire(self) -> None:
        """Give up the requests whose time is over; all have the same time, so they are in order."""
        now, self._timer = self.loop.time(), None
        while self._waiting and (self._waiting[0][1].done is None or self._waiting[0][0] <= now):
            exchange = self._waiting.popleft()[1]
            if exchange.done is not None:
                exchange.finish(TIMED_OUT, now)
                if exchange.connection is not None:
                    exchange.connection.transport.abort()
        if self._waiting:
            self._timer = self.loop.call_at(self._waiting[0][0], self._expire)


class _Exchange:
    """One request and its answer."""

    __slots__ = ("answer", "connection", "done", "request")

    def __init__(self, request: bytes, done: Done, answer: Answer):
        self.request, self.answer = request, answer
        self.done: Done | None = done
        self.connection: _Connection | None = None

    def finish(self, failure: int, now: float) -> None:
        """Report the answer once; a failure replaces its status."""
        done, self.done = self.done, None
        if done is not None:
            self.answer.status = failure or self.answer.status
            done(self.answer, now)


class _Connection(asyncio.Protocol):
    """One connection, with at most one request in flight."""

    transport: asyncio.Transport

    def __init__(self, client: HTTPClient):
        self.client = client
        self.exchange: _Exchange | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def start(self, exchange: _Exchange) -> None:
        exchange.connection, self.exchange = self, exchange
        self.transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        now, exchange = self.client.loop.time(), self.exchange
        if exchange is None:  # bytes that nobody asked for
            self.transport.abort()
            return
        try:
            exchange.answer.feed(data, now)
        except BrokenAnswer:
            self._end(BROKEN, now, reusable=False)
            return
        if exchange.answer.complete:
            self._end(0, now, exchange.answer.reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.gone(self)
        if self.exchange is not None:
            self.exchange.answer.close()
            whole = self.exchange.answer.complete and exc is None
            self._end(0 if whole else CONNECTION_FAILED, self.client.loop.time(), reusable=False)

    def _end(self, failure: int, now: float, reusable: bool) -> None:
        exchange, self.exchange = self.exchange, None
        if reusable:
            self.client.put_back(self)
        else:
            self.transport.abort()
        if exchange is not None:
            failure = failure or (BROKEN if exchange.answer.failed else 0)
            exchange.finish(failure, now)


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """epoll rounds a wait up to whole milliseconds; select, on epoll's own file, does not."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are precise to some 0.1 ms, where the system allows it."""
    if sys.platform == "linux":
        return asyncio.SelectorEventLoop(_PreciseSelector())
    return asyncio.new_event_loop()
