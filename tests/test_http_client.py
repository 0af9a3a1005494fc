"""The client of HTTP/1.1: answers in any pieces, within bounds; connections that are used again."""

import asyncio

import pytest
from http_servers import serving

from kit.loadgen import http_answers, http_client
from kit.loadgen.http_answers import (
    BROKEN,
    CONNECTION_FAILED,
    MOST_BODY_BYTES,
    MOST_HEADER_BYTES,
    NOT_SENT,
    TIMED_OUT,
    Answer,
    BrokenAnswer,
)
from kit.loadgen.http_client import HTTPClient, new_loop

COUNTED = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED


def fed(raw, step=10_000, streamed=False):
    answer = Answer(streamed)
    for i in range(0, len(raw), step):
        assert not answer.complete, "complete before its last byte"
        answer.feed(raw[i : i + step], float(i))
    return answer


# --- Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 10_000])
@pytest.mark.parametrize("raw", [COUNTED, CHUNKED, CONTINUED], ids=["counted", "chunked", "100"])
def test_an_answer_is_the_same_in_pieces_of_any_size(raw, step):
    answer = fed(raw, step)
    assert (answer.status, bytes(answer.body)) == (200, b"hello world")
    assert answer.complete and answer.reusable


def test_headers_are_found_whatever_their_case():
    answer = fed(COUNTED)
    assert answer.header("x-a") == "b" == answer.header("X-A") and answer.header("a") is None


def test_a_body_may_end_with_the_connection():
    answer = fed(b"HTTP/1.1 200 OK\r\n\r\nhi")
    assert not answer.complete
    answer.close()
    assert answer.complete and not answer.reusable and bytes(answer.body) == b"hi"


def test_half_an_answer_is_none():
    for raw in (COUNTED[:-1], CHUNKED[:-1], b"HTTP/1.1 200 OK\r\n"):
        answer = fed(raw)
        answer.close()
        assert not answer.complete


def test_no_body_where_http_says_so():
    assert fed(b"HTTP/1.1 204 No Content\r\n\r\n").complete
    assert not fed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").reusable


HEAD = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * MOST_HEADER_BYTES,
    "a length below 0": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length that is huge": HEAD + b"Content-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1),
    "more than its length": HEAD + b"Content-Length: 1\r\n\r\nab",
    "a piece of no length": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a piece below 0": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-3\r\n",
    "a piece longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_what_is_no_answer_is_refused(raw):
    with pytest.raises(BrokenAnswer):
        fed(raw)


def test_a_body_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(http_answers, "MOST_BODY_BYTES", 1_000)
    with pytest.raises(BrokenAnswer, match="too long"):
        fed(HEAD + b"\r\n" + b"a" * 1_001)


EVENTS = (
    b'data: {"choices": [{"index": 0, "text": ""}]}\n\n',  # no token yet
    b'data: {"choices": [{"index": 0, "text": "a"}]}\r\n\r\n',
    b": a comment\n\n",
    b'data: {"choices": [{"index": 0, "text": "b"}]}\n\n',
    b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n',
    b"data: [DONE]\n\n",
)


def streamed(*events, step=1):
    body = b"".join(events)
    return fed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, step, streamed=True)


@pytest.mark.parametrize("step", [1, 4, 10_000])
def test_events_with_text_are_counted_and_the_first_one_is_timed(step):
    answer = streamed(*EVENTS, step=step)
    assert (answer.events, answer.told_tokens, answer.failed) == (2, 7, False)
    if step == 1:  # one byte per second: it ends at the line's end
        first = len(HEAD + b"Content-Length: 000\r\n\r\n" + EVENTS[0]) + EVENTS[1].index(b"\n")
        assert answer.first_event_s == first


@pytest.mark.parametrize("wrong", [b'{"error": {"message": "no"}}', b"{half", b"[1]", b"7"])
def test_an_error_or_nonsense_inside_a_stream_is_a_failure(wrong):
    assert streamed(EVENTS[1], b"data: " + wrong + b"\n\n").failed


# --- Connections ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with serving() as state:
        yield state


def asked(server, *paths, at_once=False, port=None, **given):
    """The answers to requests, one after another or all at once."""

    async def run():
        client = HTTPClient("127.0.0.1", port or server.port, **given)
        waiting = []
        for path in paths:
            done = client.loop.create_future()
            request = b"POST %s HTTP/1.1\r\nContent-Length: 2\r\n\r\nab" % path.encode()
            client.send(request, lambda answer, now, done=done: done.set_result(answer))
            waiting.append(done)
            if not at_once:
                await done
        answers = await asyncio.gather(*waiting)
        client.close()
        await asyncio.sleep(0.02)  # the server sees that the connections have gone
        return answers

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run())


def test_a_connection_is_used_again(server):
    before = server.connections
    answers = asked(server, *["/quick", "/pieces", "/quick"] * 3)
    assert [each.status for each in answers] == [200] * 9
    assert {bytes(each.body) for each in answers} == {b"hi"}
    assert server.connections == before + 1


def test_requests_at_once_get_a_connection_each_up_to_a_bound(server):
    before = server.connections
    answers = asked(server, *["/slow"] * 5, at_once=True, connections=3)
    assert sorted(each.status for each in answers) == [NOT_SENT, NOT_SENT, 200, 200, 200]
    assert server.connections == before + 3


def test_a_connection_that_was_idle_for_long_is_not_trusted(server, monkeypatch):
    monkeypatch.setattr(http_client, "IDLE_S", 0.0)
    before = server.connections
    assert [each.status for each in asked(server, "/quick", "/quick")] == [200, 200]
    assert server.connections == before + 2


def test_what_fails_says_how(server):
    paths = ["/never", "/drops", "/closes", "/nonsense", "/full"]
    answers = asked(server, *paths, timeout_s=0.1)
    statuses = [each.status for each in answers]
    assert statuses == [TIMED_OUT, CONNECTION_FAILED, 200, BROKEN, 503]


def test_a_request_that_is_given_up_closes_its_connection(server):
    before, seen = server.lost, []

    async def run():
        client = HTTPClient("127.0.0.1", server.port, timeout_s=0.05)
        done = client.loop.create_future()
        request = b"POST /never HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        client.send(request, lambda answer, now: done.set_result(answer.status))
        seen.append(await done)
        for _ in range(100):
            if server.lost == before:
                await asyncio.sleep(0.005)
        seen.extend([server.lost - before, client.opened])  # while the client is still open
        client.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    assert seen == [TIMED_OUT, 1, 0]


def test_no_server(server):
    with serving() as gone:
        port = gone.port
    answers = asked(server, "/quick", "/quick", at_once=True, port=port)
    assert [each.status for each in answers] == [CONNECTION_FAILED] * 2
