"""An answer of HTTP/1.1, read piece by piece as it arrives, within bounds.

The body's end is known in one of three ways (RFC 9112, section 6.3):

Content-Length                the bytes are counted
Transfer-Encoding: chunked    pieces, each after its length; a piece of length 0 is the last
neither                       the server closes the connection

A streamed completion is a body of events (`data: {…}` and a blank line): the time of the first
event with text is the time to first token.
"""

from __future__ import annotations

import json
import re

MOST_HEADER_BYTES = 64 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024
# What is recorded in place of HTTP's status when there is no whole answer.
TIMED_OUT, CONNECTION_FAILED, NOT_SENT, BROKEN = -1, -2, -3, -4
FAILURES = {
    TIMED_OUT: "timed out",
    CONNECTION_FAILED: "connection failed",
    NOT_SENT: "not sent: too many open",
    BROKEN: "broken answer",
}


class BrokenAnswer(Exception):
    """The bytes are not an answer of HTTP/1.1, or they are too many."""


class Answer:
    r"""One answer: feed it bytes until `complete`.

    >>> answer = Answer()
    >>> answer.feed(b"HTTP/1.1 200 OK\r\nContent-Le", 0.0)
    >>> answer.feed(b"ngth: 2\r\n\r\nhi", 0.1)
    >>> answer.status, bytes(answer.body), answer.complete
    (200, b'hi', True)
    """

    __slots__ = (
        *("status", "head", "body", "complete", "reusable", "events", "first_event_s", "failed"),
        *("told_tokens", "_received", "_left", "_chunked", "_streamed", "_lines", "_size"),
    )

    def __init__(self, streamed: bool = False):
        self.status = 0
        self.head = b""  # in lower case
        self.body = bytearray()
        self.complete = False
        self.reusable = True  # whether the connection stays open for another request
        self.events = 0  # of a stream, with text in them
        self.first_event_s = float("inf")
        self.failed = False  # an error inside the stream, after the status 200
        self.told_tokens = 0  # as the server counts them, in `usage`
        self._received = bytearray()
        self._left = -1  # bytes of the body or the piece that are still to come; -1: unknown
        self._chunked = False
        self._streamed = streamed
        self._lines = b""
        self._size = 0

    def feed(self, data: bytes, now_s: float) -> None:
        """Read more bytes, which arrived now."""
        self._received += data
        while not self.head:
            if not self._read_head():
                return
        if self._chunked:
            self._read_chunks(now_s)
        else:
            self._take(len(self._received), now_s)
            self.complete = self._left == 0

    def close(self) -> None:
        """The server has closed the connection; that may be how the body ends."""
        if self.head and not self._chunked and self._left < 0:
            self.complete, self.reusable = True, False

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        found = self.head.find(b"\r\n" + name.lower().encode() + b":")
        if found < 0:
            return None
        value = self.head[found + len(name) + 3 :].split(b"\r\n", 1)[0]
        return value.decode("latin-1").strip()

    def _read_head(self) -> bool:
        """Whether the head is there; it is then taken off what was received."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or end > MOST_HEADER_BYTES:
            if len(self._received) > MOST_HEADER_BYTES:
                raise BrokenAnswer("the head is too long")
            return False
        head = bytes(self._received[: end + 2]).lower()
        del self._received[: end + 4]
        if not head.startswith(b"http/1.") or not head[9:12].isdigit():
            raise BrokenAnswer(f"no answer of HTTP/1.1: {head[:20]!r}")
        self.status = int(head[9:12])
        if self.status < 200:  # "100 Continue" and the like: the answer comes after it
            return bool(self._received)
        self.head = head
        self._read_framing()
        return True

    def _read_framing(self) -> None:
        length = self.header("content-length")
        self._chunked = "chunked" in (self.header("transfer-encoding") or "")
        self.reusable = "close" not in (self.header("connection") or "")
        if self.status in (204, 304):
            self._left, self._chunked = 0, False
        elif length is not None:
            if not length.isdigit() or int(length) > MOST_BODY_BYTES:
                raise BrokenAnswer(f"a body of {length} bytes")
            self._left = int(length)

    def _read_chunks(self, now_s: float) -> None:
        """Pieces, each after a line with its length; after the last one, lines until an empty one.

        `_left` is the rest of a piece, or -1: a length is next; -2: the line's end after a piece;
        -3: the lines after the last piece.
        """
        while not self.complete:
            if self._left > 0:
                self._take(min(self._left, len(self._received)), now_s)
                if self._left:
                    return
                self._left = -2
            end = self._received.find(b"\r\n")
            if end < 0:
                if len(self._received) > MOST_HEADER_BYTES:
                    raise BrokenAnswer("the length of a piece is too long")
                return
            line = bytes(self._received[:end])
            del self._received[: end + 2]
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        """A line between pieces."""
        if self._left == -3:
            self.complete = not line
        elif self._left == -2:
            if line:
                raise BrokenAnswer("a piece is longer than it says")
            self._left = -1
        else:
            size = line.split(b";", 1)[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
                raise BrokenAnswer(f"a piece of length {size[:20]!r}")
            self._left = int(size, 16) or -3

    def _take(self, size: int, now_s: float) -> None:
        if 0 <= self._left < size:
            raise BrokenAnswer("more bytes than the answer has")
        piece = bytes(self._received[:size])
        del self._received[:size]
        if self._left > 0:
            self._left -= size
        self._size += size
        if self._size > MOST_BODY_BYTES:
            raise BrokenAnswer("the body is too long")
        if self._streamed and self.status == 200:
            self._read_events(piece, now_s)
        else:
            self.body += piece

    def _read_events(self, piece: bytes, now_s: float) -> None:
        """Count the events that carry text; each is a line that starts with `data:`."""
        *lines, self._lines = (self._lines + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and not line[5:].strip().startswith(b"[DONE]"):
                self._read_event(line[5:], now_s)

    def _read_event(self, text: bytes, now_s: float) -> None:
        try:
            event = json.loads(text)
            choices, usage = event.get("choices") or (), event.get("usage") or {}
            texts = [bool(choice.get("text")) for choice in choices]
            self.failed = self.failed or bool(event.get("error"))
            self.told_tokens = int(usage.get("completion_tokens", self.told_tokens))
        except (ValueError, TypeError, AttributeError):
            self.failed = True
            return
        if any(texts):
            self.events += 1
            self.first_event_s = min(self.first_event_s, now_s)
