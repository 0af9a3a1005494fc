"""How replicas share a listening socket: each takes a connection, and leaves the next to others.

The system wakes all of them. The first to run would take every connection that is there, and a
connection stays with its process. So after each connection a replica rests for a moment, if it has
others open: meanwhile the processor is free for the one that was woken, too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection

REST_S = 0.001  # uvloop counts in milliseconds
FULL_S = 1.0  # until the next try, if the process may open no more files
ENOUGH = 16  # connections: with this many, no replica is idle


class FairServer:
    """Accepts the connections of one of several processes that share a listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Collection[object],
    ):
        self._loop = asyncio.get_running_loop()
        self._listening, self._protocol = listening, protocol
        self._connections = connections  # that are open now
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False
        listening.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Take one connection."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was first
        except OSError:
            self._rest(FULL_S)
            return
        connection.setblocking(False)
        others = len(self._connections) + len(self._tasks)  # open, or about to be
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if 0 < others < ENOUGH:
            self._rest(REST_S)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has gone
            connection.close()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(seconds, self._listen)

    def close(self) -> None:
        """Accept no more; the open connections go on."""
        self._closed = True
        self._loop.remove_reader(self._listening)

    async def wait_closed(self) -> None:
        """Nothing to wait for: uvicorn itself closes the connections."""
