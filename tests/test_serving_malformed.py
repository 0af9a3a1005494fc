"""A thousand malformed requests: each gets a 4xx and its reason, and the server stays as it was."""

import json
import random
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from serving_process import MODEL, answer, infer, request, serving

SMALL = {"max_body_bytes": 20_000, "header_time_s": 1.2, "body_time_s": 1.2, "max_connections": 150}
SLOW_CLIENTS = 50


@pytest.fixture(scope="module")
def server():
    with serving({"deadline_s": 30}, limits=SMALL) as servers:
        yield servers[0]


def text(string):
    """An infer request with this body."""
    return infer(string.encode() if isinstance(string, str) else string)


def tensor(data):
    """An infer request whose data are this text, which need not be JSON."""
    x = f'{{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": {data}}}'
    return text(f'{{"inputs": [{x}]}}')


def infer_head(*headers):
    """The head of an infer request with these headers alone."""
    return "\r\n".join(
        [f"POST {MODEL}/infer HTTP/1.1", "host: localhost", *headers, "", ""]
    ).encode()


GOOD = infer()
BODY = GOOD.partition(b"\r\n\r\n")[2]
CHUNKED = infer_head("transfer-encoding: chunked")

# Name -> bytes, which the client sends at once; it then waits for the answer.
MALFORMED = {
    "no body": text(""),
    "half a JSON": text('{"inputs": [{"name": "x", '),
    "not JSON": text("x=1&y=2"),
    "not UTF-8": text(b'{"inputs": "\xff\xfe"}'),
    "a list": text("[]"),
    "a number": text("1"),
    "null": text("null"),
    "no inputs": text("{}"),
    "inputs are a text": text('{"inputs": "x"}'),
    "an input is null": text('{"inputs": [null]}'),
    "the same input twice": text(json.dumps({"inputs": [{"name": "x"}] * 2})),
    "deep lists": text("[" * 15_000),
    "deep data": tensor("[" * 9_000 + "]" * 9_000),
    "deep objects": text('{"a":' * 3_000 + "1" + "}" * 3_000),
    "NaN": tensor("[1, 2, 3, NaN]"),
    "infinite": tensor("[1, 2, 3, -Infinity]"),
    "infinite as a number": tensor("[1, 2, 3, 1e999]"),
    "too large for the dtype": tensor("[1, 2, 3, 1e300]"),
    "a number of 5000 digits": tensor(f"[1, 2, 3, {'9' * 5000}]"),
    "a text among numbers": tensor('[1, 2, 3, "4"]'),
    "null among numbers": tensor("[1, 2, 3, null]"),
    "ragged": tensor("[[1, 2], [3]]"),
    "data are an object": tensor('{"0": 1}'),
    "data are a text": tensor('"1234"'),
    "too few": tensor("[1, 2, 3]"),
    "too many": tensor("[1, 2, 3, 4, 5]"),
    "wrong shape": infer(shape=[2, 2]),
    "no rows": infer(shape=[0, 4], data=[]),
    "negative shape": infer(shape=[-1, 4]),
    "one dimension": infer(shape=[4]),
    "huge shape": infer(shape=[10**12, 4]),
    "shape beyond 64 bits": infer(shape=[10**30, 4]),
    "shape of fractions": infer(shape=[1.0, 4]),
    "shape of truths": infer(shape=[True, 4]),
    "shape is a text": infer(shape="1,4"),
    "too many dimensions": infer(shape=[1] * 200 + [4]),
    "too many rows": infer(shape=[100, 4], data=[0] * 400),
    "wrong name": infer(name="y"),
    "name is a list": infer(name=["x"]),
    "wrong dtype": infer(datatype="FP64"),
    "no such dtype": infer(datatype="__class__"),
    "dtype is a number": infer(datatype=32),
    "binary size without bytes": infer(parameters={"binary_data_size": 16}),
    "a header that is longer than the body": request(
        "POST", f"{MODEL}/infer", BODY, ["inference-header-content-length: 99999"]
    ),
    "a header length that is no number": request(
        "POST", f"{MODEL}/infer", BODY, ["inference-header-content-length: -1"]
    ),
    "timeout of zero": text(BODY.replace(b"{", b'{"parameters": {"timeout": 0}, ', 1)),
    "timeout is a text": text(BODY.replace(b"{", b'{"parameters": {"timeout": "1"}, ', 1)),
    "no such model": request("POST", "/v2/models/other/infer", BODY),
    "no such path": request("GET", "/../../etc/passwd"),
    "a path as a name": request("GET", "/v2/models/..%2f..%2fetc%2fpasswd"),
    "no such method": request("DELETE", f"{MODEL}/infer"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "not a method": b"HELLO / HTTP/1.1\r\n\r\n",
    "not a version": b"GET / HTTP/9.9\r\n\r\n",
    "no colon in a header": b"GET / HTTP/1.1\r\nhost localhost\r\n\r\n",
    "a null byte in a header": b"GET / HTTP/1.1\r\nhost: a\x00b\r\n\r\n",
    "a space in the path": b"GET /v2 /health HTTP/1.1\r\n\r\n",
    "a path that is not ASCII": "GET /v2/ü HTTP/1.1\r\n\r\n".encode(),
    "a huge header": request("GET", "/v2", headers=["x: " + "y" * 30_000]),
    "a huge header without an end": b"GET /v2 HTTP/1.1\r\nx: " + b"y" * 300_000,
    "many headers": request("GET", "/v2", headers=[f"x{i}: y" for i in range(3_000)]),
    "a huge path": request("GET", "/v2/" + "x" * 30_000),
    "a body that is too large": text("[" + "1," * 20_000 + "1]"),
    "a body said to be too large": infer_head("content-length: 1000000000000"),
    "a length beyond 64 bits": infer_head("content-length: " + "9" * 30),
    "a negative length": infer_head("content-length: -1"),
    "a length that is no number": infer_head("content-length: ten"),
    "two lengths": infer_head("content-length: 5", "content-length: 6") + b"12345",
    "a length that is too short": request("POST", f"{MODEL}/infer", BODY, length=10),
    "two ways to say the length": infer_head("content-length: 5", "transfer-encoding: chunked"),
    "a chunk without a size": CHUNKED + b"xyz\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nhello\r\n",
    "a chunk beyond 64 bits": CHUNKED + b"f" * 20 + b"\r\n",
    "chunks that are too large": CHUNKED
    + b"1000\r\n" * 1
    + b"x" * 4096
    + b"\r\nffff\r\n"
    + b"x" * 65535,
    "a coding that is unknown": infer_head("transfer-encoding: quite") + b"0\r\n\r\n",
}
# What ends before its end: the client sends this, and says that no more will come.
HALF = {
    "half a body": request("POST", f"{MODEL}/infer", BODY[:20], length=len(BODY)),
    "no body at all": request("POST", f"{MODEL}/infer", b"", length=len(BODY)),
    "half a head": GOOD[:30],
    "half a chunk": CHUNKED + b"ff\r\nhello",
    "half a health request": request("POST", "/v2/health/ready", b"x", length=100),
}


def check_refused(got):
    """A 4xx with a reason in JSON, and nothing about the server's inside."""
    assert got is not None
    status, headers, body = got
    assert 400 <= status < 500, (status, body)
    assert headers["content-type"] == "application/json"
    assert len(body) < 1000
    reason = json.loads(body)["error"]
    assert reason.isprintable()
    assert "Traceback" not in reason and ".py" not in reason


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_with_a_reason(name, server):
    check_refused(server.ask(MALFORMED[name]))
    assert server.ask(GOOD)[0] == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a huge header", 431),
        ("a huge header without an end", 431),
        ("many headers", 431),
        ("a huge path", 431),
        ("a body that is too large", 413),
        ("a body said to be too large", 413),
        ("chunks that are too large", 413),
        ("no such model", 404),
        ("no such method", 405),
    ],
)
def test_the_status_says_what_was_wrong(name, status, server):
    assert server.ask(MALFORMED[name])[0] == status


def test_what_the_connection_refuses_is_counted_by_its_status(server):
    def counts():
        codes = (400, 408, 413, 431)
        return [server.metric("kit_requests_total", f'code="{code}"') for code in codes]

    before = counts()
    server.ask(b"SSH-2.0-OpenSSH_9\r\n\r\n")
    with server.connect() as slow:
        slow.sendall(GOOD[:-5])
        assert answer(slow)[0] == 408
    server.ask(MALFORMED["a body said to be too large"])
    server.ask(MALFORMED["a huge header"])
    assert [new - old for new, old in zip(counts(), before, strict=True)] == [1, 1, 1, 1]


def test_a_refused_client_may_finish_sending_so_that_it_reads_why(server):
    with server.connect() as connection:
        connection.sendall(request("POST", f"{MODEL}/infer", b"x" * 3_000_000))  # no reset
        assert answer(connection)[0] == 413


@pytest.mark.parametrize("name", HALF)
def test_a_request_that_ends_before_its_end_is_refused(name, server):
    check_refused(server.ask(HALF[name], finish=True))


@pytest.mark.parametrize("sent", [b"", b"GET /v2 HTT", GOOD[:-5], CHUNKED + b"5\r\nhel"])
def test_a_slow_client_is_told_to_hurry(sent, server):
    with server.connect() as connection:
        connection.sendall(sent)
        if sent:
            got = answer(connection)
            check_refused(got)
            assert got[0] == 408
        assert connection.recv(1) == b""  # the server has closed it


def test_a_client_that_sends_byte_by_byte_is_not_waited_for(server):
    with server.connect() as connection, pytest.raises(OSError):
        for byte in GOOD * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    assert server.ask(GOOD)[0] == 200


def test_slow_clients_do_not_take_the_places_of_others(server):
    """More than there are places in the queue: they wait outside until they have said all."""
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(100)]
        for connection in slow:
            connection.sendall(GOOD[:-5])
        assert server.ask(GOOD)[0] == 200
        for connection in slow[:10]:
            connection.sendall(GOOD[-5:])
            assert answer(connection)[0] == 200


def test_connections_are_counted(server):
    with ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(SMALL["max_connections"])]
        for connection in kept:
            connection.sendall(request("GET", "/v2/health/live"))
            assert answer(connection)[0] == 200
        got = server.ask(GOOD)
        assert got is None or got[0] == 503
        kept.pop().close()  # a place for the question
        until(lambda: server.metric("kit_shed_total", 'reason="connections"') >= 1)
    until(lambda: (server.ask(GOOD) or [None])[0] == 200)


def test_requests_in_one_packet_are_answered_in_order(server):
    with server.connect() as connection:
        connection.sendall(GOOD + request("GET", "/v2/health/live") + GOOD)
        bodies = b""
        while bodies.count(b"HTTP/1.1 200") < 3 or not bodies.endswith(b"}"):
            bodies += connection.recv(65536)
            assert bodies
    assert bodies.index(b"outputs") < bodies.index(b"live") < bodies.rindex(b"outputs")


def test_a_client_that_sends_thousands_and_reads_nothing_is_cut_off(server):
    """One read of a socket brings thousands of them, and each would hold some kilobytes."""
    before = server.metric("kit_requests_total", 'code="400"')
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(server.connect())
            with suppress(ConnectionError):
                connection.sendall(request("GET", "/v2/health/live") * 4_000)
        until(lambda: server.metric("kit_requests_total", 'code="400"') >= before + 20)
        with suppress(ConnectionError):  # a reset, or a few answers and the end
            while received := connection.recv(1 << 16):
                assert received
    assert server.ask(GOOD)[0] == 200


def test_a_client_may_ask_whether_to_send_its_body(server):
    with server.connect() as connection:
        head, _, body = GOOD.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert answer(connection)[0] == 200


def mutated(generator):
    """A good request with some of its bytes changed, left out or repeated."""
    data = bytearray(GOOD)
    for _ in range(generator.randint(1, 8)):
        place = generator.randrange(len(data))
        data[place : place + generator.randint(0, 3)] = generator.randbytes(generator.randint(0, 3))
    return bytes(data)


def test_a_thousand_malformed_requests_leave_the_server_as_it_was(server):
    """Those above again and again, mutated ones that may be anything, and slow ones beside them."""
    generator = random.Random(0)
    good_s = timed(server)
    bytes_before = server.resident_bytes()
    stop = threading.Event()
    beside = threading.Thread(target=be_slow, args=(server, stop))
    beside.start()
    try:
        for _ in range(600):
            check_refused(server.ask(generator.choice(list(MALFORMED.values()))))
        for _ in range(100):
            check_refused(server.ask(generator.choice(list(HALF.values())), finish=True))
        for _ in range(300):
            got = server.ask(mutated(generator), finish=True)
            assert got is None or got[0] == 200 or 400 <= got[0] < 500
    finally:
        stop.set()
        beside.join()
    assert server.process.poll() is None
    until(
        lambda: server.metric("kit_requests_waiting") == server.metric("kit_requests_running") == 0
    )
    assert server.resident_bytes() < 1.2 * bytes_before
    assert timed(server) < 5 * good_s
    assert "Traceback" not in server.log


def until(so):
    """Wait until it is so: what a client that went away had asked for takes a moment to end."""
    deadline_s = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def timed(server):
    """Seconds of the fastest good request of fifty."""
    with server.connect() as connection:
        times_s = []
        for _ in range(50):
            began_s = time.perf_counter()
            connection.sendall(GOOD)
            assert answer(connection)[0] == 200
            times_s.append(time.perf_counter() - began_s)
    return min(times_s)


def be_slow(server, stop):
    """Clients that begin a request and go, or leave it unfinished."""
    generator = random.Random(1)
    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            if stop.is_set():
                break
            connection = stack.enter_context(server.connect())
            connection.sendall(GOOD[: generator.randrange(1, len(GOOD))])
            if generator.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
                connection.close()  # with a reset
            time.sleep(0.01)
