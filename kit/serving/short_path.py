"""The short path of an infer request: from the connection to the queue and back, without ASGI.

Clients repeat themselves: each request of a connection has the same head, byte for byte, and only
the body differs. A head that uvicorn's parser has read once, and that the application has accepted,
means the same when it comes again. So it is looked up instead of parsed: no header is split, no
scope is built, no task is started. Everything else goes the long way: a head that is new, a body
that comes in pieces or chunks, a second request before the first is answered.

The body takes the same steps on both ways, in `InferCall`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from kit.serving.admission import Ticket
from kit.serving.infer_call import InferCall, Write
from kit.serving.inference_protocol import LENGTH_HEADER
from kit.serving.replies import Header

MOST_HEADS, MOST_HEAD_BYTES = 256, 2048  # what a process remembers: half a MB at most
MOST_BODY_BYTES = 65_536  # a larger one comes in pieces, and takes longer than its head
END = b"\r\n\r\n"  # of a head
# Heads with these say more about the body, or about the connection, than its length.
SPECIAL = {b"transfer-encoding", b"expect", b"upgrade", b"connection"}


class Infer(Protocol):
    """The application, as the short path needs it."""

    def accepts(self, scope: Any) -> bool:
        """Whether this is an infer request whose client may ask."""

    def call(self, ticket: Ticket, write: Write) -> InferCall:
        """A request to the model, which is loaded."""

    def left(self, call: InferCall) -> None:
        """The client of this call has gone."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head that was read before."""

    path: str
    body_bytes: int
    json_length: bytes | None


class Heads:
    """The heads of infer requests that came before, of all connections."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body, if the data are one request with a known head."""
        start = data.find(END) + len(END)
        head = self._known.get(data[:start])
        if head is None or len(data) - start != head.body_bytes:
            return None
        return head, data[start:]

    def learn(self, data: bytes, scope: Any) -> None:
        """Remember the head of these data, which were one accepted request with this scope."""
        headers = dict(scope["headers"])
        start = data.find(END) + len(END)
        length = int(headers.get(b"content-length", -1))
        plain = scope["http_version"] == "1.1" and not SPECIAL & headers.keys()
        if not plain or length != len(data) - start:
            return
        if start > MOST_HEAD_BYTES or length > MOST_BODY_BYTES:
            return
        if len(self._known) >= MOST_HEADS:
            self._known.clear()  # those that still come are known again after one request
        self._known[data[:start]] = Head(scope["path"], length, headers.get(LENGTH_HEADER))


class ShortCycle:
    """A request on the short path, as uvicorn's connection knows its requests.

    The connection asks whether the reply is complete, says when the client has gone, and lets
    requests that come meanwhile wait.
    """

    __slots__ = ("call", "disconnected", "keep_alive", "response_complete", "response_started")
    call: InferCall | None  # None: over, so that call and cycle do not hold each other

    def __init__(self) -> None:
        self.call = None
        self.keep_alive = True
        self.disconnected = self.response_started = self.response_complete = False

    @property
    def message_event(self) -> ShortCycle:
        """What uvicorn sets to wake a task; no task waits here."""
        return self

    def set(self) -> None:
        """Nothing."""


def reply_bytes(
    status: int, headers: list[Header], body: bytes, always: list[Header], keep_alive: bool
) -> bytes:
    r"""A response in one piece; `always` are the headers that uvicorn gives to each.

    >>> reply_bytes(200, [(b"a", b"1")], b"yes", [], True)
    b'HTTP/1.1 200 OK\r\na: 1\r\ncontent-length: 3\r\n\r\nyes'
    """
    parts = [STATUS_LINE[status]]
    for name, value in (*always, *headers):
        parts += (name, b": ", value, b"\r\n")
    close = b"" if keep_alive else b"connection: close\r\n"
    parts.append(b"content-length: %d\r\n%b\r\n" % (len(body), close))
    parts.append(body)
    return b"".join(parts)
