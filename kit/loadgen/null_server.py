"""A server that does nothing: it answers every request with the same bytes, at once.

What a client reaches against it is the client's own limit.
"""

from __future__ import annotations

import asyncio
import re

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class NullServer(asyncio.Protocol):
    """One connection: reads whole requests and gives the answer to each.

    Servers for tests and benchmarks answer otherwise, in `requested`.
    """

    def __init__(self, answer: bytes = b""):
        self.answer = answer
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take each request whose last byte is here."""
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.received, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < size:
                return
            head, body = bytes(self.received[:end]), bytes(self.received[end + 4 : size])
            del self.received[:size]
            self.requested(head, body)

    def requested(self, head: bytes, body: bytes) -> None:
        """Answer a request."""
        self.transport.write(self.answer)


async def start(answer: bytes) -> asyncio.Server:
    """A null server on a free port of this computer."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: NullServer(answer), "127.0.0.1", 0)
