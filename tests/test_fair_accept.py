"""How a replica takes connections from a socket that it shares: real sockets, on this machine."""

import asyncio
import os
import socket

import pytest

from kit.serving import fair_accept
from kit.serving.fair_accept import FairServer

PATIENCE_S = 20.0
NEVER_S = 1_000.0  # longer than any test


class Opened(asyncio.Protocol):
    """A connection that is open: it is in the set from then on."""

    def __init__(self, opened, news):
        self.opened, self.news = opened, news

    def connection_made(self, transport):
        self.transport = transport
        self.opened.add(self)
        self.news.set()

    def connection_lost(self, error):
        self.opened.discard(self)


class Replica:
    """A FairServer in the running loop, and clients that connect to it."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.opened, self.news, self.clients = set(), asyncio.Event(), []

    def serve(self):
        self.server = FairServer(
            self.listening, lambda: Opened(self.opened, self.news), self.opened
        )

    def connect(self, n):
        self.clients += [socket.create_connection(self.listening.getsockname()) for _ in range(n)]

    async def until(self, n):
        """Wait until so many connections are open; then some turns of the loop."""
        while len(self.opened) < n:
            await asyncio.wait_for(self.news.wait(), PATIENCE_S)
            self.news.clear()
        for _ in range(20):
            await asyncio.sleep(0)

    def end(self):
        self.server.close()
        for each in [*(protocol.transport for protocol in self.opened), *self.clients]:
            each.close()
        self.listening.close()


def played(scene):
    """Run a scene with a replica; its sockets are closed at the end."""

    async def run():
        replica = Replica()
        try:
            await scene(replica)
        finally:
            replica.end()

    asyncio.run(run())


def test_a_replica_with_a_connection_leaves_the_next_to_others(monkeypatch):
    """Also if its first one was taken at this moment and is not open yet."""
    monkeypatch.setattr(fair_accept, "REST_S", NEVER_S)

    async def scene(replica):
        replica.connect(3)  # all wait when the replica begins
        replica.serve()
        await replica.until(2)
        assert len(replica.opened) == 2
        another, _ = replica.listening.accept()  # as another process does
        another.close()

    played(scene)


def test_after_its_rest_a_replica_takes_the_next():
    async def scene(replica):
        replica.connect(4)
        replica.serve()
        await replica.until(4)

    played(scene)


def test_a_replica_with_many_connections_does_not_rest(monkeypatch):
    monkeypatch.setattr(fair_accept, "REST_S", NEVER_S)
    monkeypatch.setattr(fair_accept, "ENOUGH", 1)

    async def scene(replica):
        replica.connect(4)
        replica.serve()
        await replica.until(4)

    played(scene)


def test_a_closed_replica_takes_no_more_and_keeps_what_is_open():
    async def scene(replica):
        replica.serve()
        replica.connect(2)
        await replica.until(2)
        replica.server.close()  # within a rest, too, which ends later
        await asyncio.sleep(5 * fair_accept.REST_S)
        replica.connect(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(replica.opened) == 2
        for protocol in replica.opened:
            protocol.transport.write(b"still here")
        for client in replica.clients[:2]:
            client.settimeout(PATIENCE_S)
            assert await asyncio.to_thread(client.recv, 10) == b"still here"
        another, _ = replica.listening.accept()  # the third is there for others
        another.close()

    played(scene)


def test_a_process_that_may_open_no_more_files_tries_again_later(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(fair_accept, "FULL_S", 0.02)
    refused = asyncio.Event()

    class Watched(FairServer):
        def _rest(self, seconds):
            if seconds == fair_accept.FULL_S:
                refused.set()
            super()._rest(seconds)

    monkeypatch.setitem(globals(), "FairServer", Watched)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scene(replica):
        replica.serve()
        replica.connect(1)
        next_one = os.dup(0)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))  # none is free below it
        try:
            await asyncio.wait_for(refused.wait(), PATIENCE_S)
            assert not replica.opened
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await replica.until(1)

    played(scene)
