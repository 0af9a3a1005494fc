"""The short path gives what the long one gives: answers, errors, metrics, limits, gone clients."""

import asyncio
import gc
import json
import time
from functools import partial

import numpy as np
import pytest
import torch
import uvicorn
from serving_process import MODEL, answer, request, serving
from uvicorn.server import ServerState

from kit.serving.application import Application
from kit.serving.batch_queue import Waiting
from kit.serving.infer_call import InferCall
from kit.serving.limited_protocol import LimitedProtocol
from kit.serving.limits import uvicorn_settings
from kit.serving.served_model import served
from kit.serving.settings import Settings
from kit.serving.short_path import MOST_HEADS, Heads

SLEEP_S = 0.05


def infer(rows=((1, 2, 3, 4),), *, more="", raw=True, **parameters):
    """An infer request; `more` in its head makes this head a new one."""
    rows = np.array(rows, np.float32)
    part = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    tail = rows.tobytes() if raw else b""
    part |= {"parameters": {"binary_data_size": len(tail)}} if raw else {"data": rows.tolist()}
    text = json.dumps({"inputs": [part], "parameters": parameters}).encode()
    lines = [f"inference-header-content-length: {len(text)}"] if raw else []
    return request(
        "POST", f"{MODEL}/infer", text + tail, [*lines, *([f"x: {more}"] if more else [])]
    )


@pytest.fixture(scope="module")
def server():
    with serving({"max_batch": 4, "max_waiting": 8, "deadline_s": 0.5}, sleep_s=SLEEP_S) as (one,):
        yield one


def ask_twice(server, asked):
    """The replies to the same request on one connection: the long way, then the short one."""
    with server.connect() as connection:
        got = []
        for _ in range(2):
            connection.sendall(asked)
            got.append(answer(connection))
    return got


CASES = {
    "raw": infer(),
    "raw both ways": infer(binary_data_output=True),
    "JSON": infer(raw=False),
    "an id and three rows": infer([[1, 2, 3, 4]] * 3),
    "too many rows": infer([[1, 2, 3, 4]] * 5),
    "a wrong width": infer([[1, 2, 3]]),
    "NaN": infer([[1, 2, 3, float("nan")]]),
    "a deadline that is over": infer(timeout=1),
    "no timeout": infer(timeout=-1),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_the_same_reply(server, case):
    asked = CASES[case].replace(b"\r\n\r\n", f"\r\nX: {case}\r\n\r\n".encode(), 1)
    long, short = ask_twice(server, asked)
    assert long[0] == short[0]
    # The text of a 504 has the time that the request waited.
    differ = {"date"} | ({"content-length"} if long[0] == 504 else set())
    same = [{k: v for k, v in got[1].items() if k not in differ} for got in (long, short)]
    assert same[0] == same[1]
    if long[0] != 504:
        assert long[2] == short[2]


def test_metrics_count_both_ways(server):
    names = ("kit_requests_total", "kit_request_seconds_count", "kit_queue_seconds_count")
    for _ in range(2):  # the metrics are asked by a GET, which counts nowhere
        before = [server.metric(name) for name in names]
        assert server.ask(infer(more="metrics"))[0] == 200
        assert [server.metric(name) for name in names] == [n + 1 for n in before]
    assert server.metric("kit_requests_waiting") == server.metric("kit_requests_running") == 0


def test_a_full_house_refuses_on_the_short_way(server):
    asked = infer(more="full")
    connections = [server.connect() for _ in range(16)]
    try:
        connections[0].sendall(asked)
        assert answer(connections[0])[0] == 200  # now its head is known
        for connection in connections:
            connection.sendall(asked)
        got = [answer(connection) for connection in connections]
    finally:
        for connection in connections:
            connection.close()
    statuses = [status for status, *_ in got]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 8
    refused = next(headers for status, headers, _ in got if status == 503)
    assert "retry-after" in refused


def test_a_client_that_has_gone_is_not_computed_on_the_short_way(server):
    asked = infer(more="gone")
    assert [status for status, *_ in ask_twice(server, asked)] == [200, 200]
    before = server.metric("kit_shed_total", 'reason="gone"')
    with server.connect() as busy:
        busy.sendall(infer([[1, 2, 3, 4]] * 4))
        time.sleep(SLEEP_S / 5)
        for _ in range(3):  # these wait behind it
            with server.connect() as connection:
                connection.sendall(asked)
                time.sleep(SLEEP_S / 20)
        assert answer(busy)[0] == 200
    until = time.monotonic() + 10
    while server.metric("kit_shed_total", 'reason="gone"') < before + 1:
        assert time.monotonic() < until
        time.sleep(0.02)
    while server.metric("kit_requests_waiting") + server.metric("kit_requests_running"):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_follows_a_request_on_the_short_way_waits_for_it(server):
    asked = infer(more="order")
    with server.connect() as connection:
        connection.sendall(asked)
        assert answer(connection)[0] == 200
        connection.sendall(asked)  # the short way
        time.sleep(SLEEP_S / 5)
        connection.sendall(request("GET", "/v2/health/live") + asked)
        bodies = b""
        while bodies.count(b"HTTP/1.1 200") < 3 or not bodies.endswith(b"}"):
            bodies += connection.recv(65536)
            assert bodies
    assert bodies.index(b"outputs") < bodies.index(b"live") < bodies.rindex(b"outputs")


def test_a_wrong_token_or_host_is_never_remembered():
    token = "0123456789abcdef"
    with serving({"token": token}, {}) as (guarded, open_one):
        wrong, right = (
            infer().replace(b"\r\n\r\n", f"\r\nauthorization: Bearer {t}\r\n\r\n".encode(), 1)
            for t in ("f" * 16, token)
        )
        assert [status for status, *_ in ask_twice(guarded, wrong)] == [401, 401]
        assert [status for status, *_ in ask_twice(guarded, right)] == [200, 200]
        assert [status for status, *_ in ask_twice(guarded, wrong)] == [401, 401]
        other = infer().replace(b"host: localhost", b"host: example.org", 1)
        assert [status for status, *_ in ask_twice(open_one, other)] == [421, 421]


# --- What is left behind -------------------------------------------------------------------------


async def connections_that_close(asked, connections, answers):
    """Each is answered some times, sends another request, and closes before that answer."""
    application = Application(Settings(max_wait_s=0.0))
    application.open(served(torch.nn.Linear(4, 2), {"x": np.zeros((1, 4), np.float32)}))
    given = uvicorn_settings(application.door, infer=application)
    config = uvicorn.Config(application, lifespan="off", log_config=None, **given)
    config.load()
    make = partial(config.http_protocol_class, config, ServerState(), {})
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    for _ in range(connections):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(answers):
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        writer.write(asked)
        writer.close()
        await writer.wait_closed()
    await application.drain(10.0)
    server.close()


@pytest.mark.parametrize("case", ["raw", "a wrong width", "a deadline that is over"])
def test_a_closed_connection_leaves_nothing_behind(case):
    """Nothing that only Python's collector could find: after a flood, that are many megabytes."""
    kinds = LimitedProtocol, InferCall, Waiting
    gc.collect()
    gc.disable()
    try:
        asyncio.run(connections_that_close(CASES[case], connections=20, answers=5))
        left = [type(each).__name__ for each in gc.get_objects() if issubclass(type(each), kinds)]
    finally:
        gc.enable()
    assert len(left) < 10, left  # the model's thread still knows its last batch


# --- What is remembered --------------------------------------------------------------------------

LINE = b"POST /infer HTTP/1.1\r\n"


def scope(**headers):
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return {"http_version": "1.1", "path": "/infer", "headers": pairs}


def test_a_head_is_known_with_a_body_of_its_length_only():
    heads, head = Heads(), LINE + b"Content-Length: 3\r\n\r\n"
    heads.learn(head + b"abc", scope(content_length=b"3"))
    found, body = heads.find(head + b"xyz")
    assert (found.path, body) == ("/infer", b"xyz")
    for data in (head + b"ab", head + b"abcd", head, b"", LINE + b"\r\nabc"):
        assert heads.find(data) is None


@pytest.mark.parametrize("special", ["transfer_encoding", "expect", "upgrade", "connection"])
def test_a_head_that_says_more_is_not_remembered(special):
    heads, data = Heads(), LINE + b"\r\nabc"
    heads.learn(data, scope(content_length=b"3", **{special: b"x"}))
    heads.learn(data, scope(content_length=b"4"))  # two requests, or a part of one
    heads.learn(data, {**scope(content_length=b"3"), "http_version": "1.0"})
    assert heads.find(data) is None


def test_few_heads_are_remembered_and_none_that_is_long():
    heads = Heads()
    for i in range(2 * MOST_HEADS):
        heads.learn(LINE + b"A: %d\r\n\r\nabc" % i, scope(content_length=b"3"))
        assert len(heads._known) <= MOST_HEADS
    heads.learn(long := LINE + b"A: " + b"a" * 3000 + b"\r\n\r\nabc", scope(content_length=b"3"))
    assert heads.find(long) is None
    large = LINE + b"\r\n" + b"a" * 100_000
    heads.learn(large, scope(content_length=b"100000"))
    assert heads.find(large) is None
