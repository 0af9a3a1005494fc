"""Twice as many requests as the server can answer, then half as many: who comes back to life?

The model sleeps for a known time, so the capacity is known: two rows in 0.2 s are ten per second.
Five servers share a process; each has other protections, and all get the same traffic at once.
"""

import asyncio
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
import torch
from serving_process import MODEL, answer, infer, request, serving

from kit.serving.application import Application
from kit.serving.refusals import RequestRefused
from kit.serving.served_model import served
from kit.serving.settings import Settings

SLEEP_S, BATCH = 0.2, 2
CAPACITY = BATCH / SLEEP_S  # requests/s
DEADLINE_S = 1.2
PATIENCE_S = 1.5  # how long the clients wait: an answer has to travel, too
FLOOD_S, AFTER_S = 4.0, 4.0
CALM_S = 1.5  # after the flood, before the recovery is judged
PROTECTIONS = ("queue bound", "deadlines", "gone clients")
SERVERS = {"none": (), "all": PROTECTIONS, **{name: (name,) for name in PROTECTIONS}}


@dataclass
class Sent:
    """A request as its client saw it."""

    at_s: float  # since the start
    status: int | None  # None: the client gave up
    headers: dict

    @property
    def good(self):
        return self.status == 200


async def send(port, at_s, began_s):
    """One request at its time, on a connection of its own; the client gives up after a while."""
    await asyncio.sleep(began_s + at_s - time.monotonic())
    status, headers, writer = None, {}, None
    try:
        async with asyncio.timeout(began_s + at_s + PATIENCE_S - time.monotonic()):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(infer())
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            status = int(first.split()[1])
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
    except TimeoutError:
        pass
    finally:
        if writer is not None:
            writer.close()
    return Sent(at_s, status, headers)


async def traffic(ports):
    """The same open loop for every port: constant arrivals, which wait for no answer."""
    flood = np.arange(0, FLOOD_S, 1 / (2 * CAPACITY))
    after = FLOOD_S + np.arange(0, AFTER_S, 2 / CAPACITY)
    began_s = time.monotonic() + 0.2
    asked = [
        asyncio.gather(*(send(port, at_s, began_s) for at_s in [*flood, *after])) for port in ports
    ]
    health = asyncio.create_task(ask_health(ports[1], began_s + FLOOD_S - 0.5))
    return await asyncio.gather(*asked), await health


async def ask_health(port, when_s):
    """Statuses of what is never refused, in the middle of the flood."""
    await asyncio.sleep(when_s - time.monotonic())
    statuses = []
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", path))
        statuses.append(int((await reader.readline()).split()[1]))
        writer.close()
    return statuses


@pytest.fixture(scope="module")
def flood():
    """Server -> what each request got; and what health answered meanwhile."""
    settings = [
        {"protect": protect, "deadline_s": DEADLINE_S, "max_batch": BATCH}
        for protect in SERVERS.values()
    ]
    with serving(*settings, sleep_s=SLEEP_S) as servers:
        sent, health = asyncio.run(traffic([server.port for server in servers]))
        waiting = [server.metric("kit_requests_waiting") for server in servers]
        shed = servers[1].metric("kit_shed_total")
        yield (
            dict(zip(SERVERS, sent, strict=True)),
            dict(zip(SERVERS, waiting, strict=True)),
            (
                health,
                shed,
            ),
        )


def good_share(sent, start_s, end_s=1e9):
    """Share of the requests in this time that were answered while the client waited."""
    return np.mean([each.good for each in sent if start_s <= each.at_s < end_s])


def test_without_protection_goodput_stays_dead_after_the_flood(flood):
    sent, waiting, _ = flood
    assert good_share(sent["none"], 0, 1.0) > 0.3  # it was alive
    assert good_share(sent["none"], FLOOD_S - 1, FLOOD_S) == 0
    assert good_share(sent["none"], FLOOD_S + CALM_S) == 0  # half the load, and nobody is served
    assert waiting["none"] > 2  # all clients have gone, and it still works for them


@pytest.mark.parametrize("protection", ["all", *PROTECTIONS])
def test_with_a_protection_goodput_comes_back(protection, flood):
    sent, waiting, _ = flood
    assert good_share(sent[protection], FLOOD_S + CALM_S) > 0.8
    assert waiting[protection] <= 2


@pytest.mark.parametrize("protection", ["all", "queue bound", "deadlines"])
def test_during_the_flood_the_server_keeps_most_of_its_capacity(protection, flood):
    """Half of the flood could be answered at best."""
    assert good_share(flood[0][protection], 1.5, FLOOD_S) > 0.25


def test_what_is_refused_is_refused_at_once_with_a_time_to_come_back(flood):
    full = [each for each in flood[0]["all"] if each.status == 503]
    assert len(full) > 5
    for each in full:
        assert 1 <= int(each.headers["retry-after"]) <= 10
        assert 0 < int(each.headers["retry-after-ms"]) <= 10_000
    statuses = {each.status for each in flood[0]["all"]}
    assert statuses <= {200, 503, 504, None}


def test_deadlines_alone_answer_504(flood):
    assert {each.status for each in flood[0]["deadlines"]} >= {200, 504}


def test_health_and_metrics_are_never_refused(flood):
    health, shed = flood[2]
    assert health == [200, 200, 200]
    assert shed > 0


def test_a_flood_leaves_no_memory_behind():
    """Bodies of 100 kB on fifty connections, as fast as they are refused."""
    body = infer(data=[0.123456789] * 8_000)  # refused when it is parsed, if it gets that far
    with serving({"max_batch": BATCH, "deadline_s": 0.2}, sleep_s=0.01) as (server,):
        load(server, body, rounds=2)
        before_bytes = server.resident_bytes()
        assert load(server, body, rounds=40) == {400, 503}
        assert server.resident_bytes() < 1.2 * before_bytes
        assert server.ask(infer())[0] == 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep it or not")
def test_after_a_flood_the_free_memory_goes_back_to_the_system():
    """What it has left free lies between blocks in use, so the C library would not return it."""
    blocks = [np.ones(2_500) for _ in range(5_000)]  # of 20 kB
    blocks = blocks[::50]  # a megabyte is free between two of them
    before_bytes = psutil.Process().memory_info().rss
    asyncio.run(refuse_once())
    assert before_bytes - psutil.Process().memory_info().rss > 50e6


async def refuse_once():
    """An application that refuses a request, and then has time to see that no more are refused."""
    application = Application(Settings(max_waiting=1))
    application.open(served(torch.nn.Linear(4, 2), {"x": np.zeros((1, 4), np.float32)}))
    door = application.door("POST", f"{MODEL}/infer")
    with door.admit(), pytest.raises(RequestRefused):
        door.admit()
    await asyncio.sleep(CALM_S + 0.5)
    await application.drain(1.0)


def load(server, body, rounds, together=50):
    """The statuses of requests that come together, again and again."""
    statuses = set()
    for _ in range(rounds):
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect()) for _ in range(together)]
            for connection in connections:
                connection.sendall(body)
            statuses |= {answer(connection)[0] for connection in connections}
    return statuses
