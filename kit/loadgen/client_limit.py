"""How many requests per second the client itself can send: measured before it tests a server.

If the client is the limit, its number says nothing about the server. Then it raises an
error, `ClientTooSlow`. Such numbers have been published: one client with a semaphore of 1 sent a
sixth of what it should, and reversed a comparison of servers.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from kit.core.errors import KitError
from kit.core.units import digits, words
from kit.loadgen.sender_process import sender_process

USERS, WARM_UP, TIMED_S = 16, 16, 0.2
USABLE = 0.8  # of the limit: nearer to it, the client's own queue would be measured
BUSY = 0.95  # of the run: a client that works all the time was the limit
LATE_SHARE, LATE_S = 0.5, 5e-3  # of the median latency: a client that sends so late measures itself


class ClientTooSlow(KitError, RuntimeError):
    """The client, not the server, was the limit: a number would say nothing about the server."""


def client_limit(request_bytes: int, answer_bytes: int, streamed: bool) -> float:
    """Requests per second that one client process can send and read, if the server takes no time.

    The client talks to a server that does nothing, and its processor time per request is counted:
    so it does not matter whether that server keeps up. Sizes are rounded up to powers of two; each
    is measured once per session, in about half a second.
    """
    return _measured(_power(request_bytes), _power(answer_bytes), streamed)


def _power(size: int) -> int:
    return 1 << max(8, math.ceil(math.log2(max(size, 1))))


@lru_cache(maxsize=64)
def _measured(request_bytes: int, answer_bytes: int, streamed: bool) -> float:
    event = b'data: {"choices": [{"index": 0, "text": " word", "finish_reason": null}]}\n\n'
    body = event * (answer_bytes // len(event) + 1) if streamed else b"x" * answer_bytes
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    request = b"POST / HTTP/1.1\r\nHost: null\r\nContent-Length: %d\r\n\r\n" % request_bytes
    plan = {"duration_s": TIMED_S, "users": USERS, "warm_up": WARM_UP, "streamed": streamed}
    with sender_process() as server, sender_process() as client:
        port = server.ask("null", [answer])[0]["port"]
        pieces = [b"", request + b"x" * request_bytes]
        reply, arrays = client.ask("run", pieces, port=port, plan=plan)
        server.ask("null", [], port=port)
    ended_s = np.frombuffer(arrays[2])
    return len(ended_s) / (reply["busy_share"] * float(ended_s.max()))


def check_rate(rate: float, limit: float) -> None:
    """Refuse a rate that this client cannot send."""
    if rate > USABLE * limit:
        raise ClientTooSlow(
            f"rate={digits(rate)} requests/s: this client can send {digits(USABLE * limit)} "
            f"(80 % of its limit), so it would measure itself. Lower rate, or send from more "
            f"machines."
        )


def check_run(busy_share: float, lag_s: np.ndarray | None, latencies_s: np.ndarray) -> None:
    """Refuse a run in which the client had no time left, or sent much too late.

    `lag_s`: how late it sent each request of a schedule; None in a closed loop, where it can only
    be busy.
    """
    if busy_share > BUSY:
        raise ClientTooSlow(
            f"the client was busy {words(busy_share, '%')} of the time: it, not the server, was "
            f"the limit. Send smaller requests, or from more machines."
        )
    if lag_s is None:
        return
    lag = float(np.median(lag_s))
    latency = float(np.percentile(latencies_s, 50, method="lower"))
    if lag > max(LATE_S, LATE_SHARE * latency):
        raise ClientTooSlow(
            f"the client was {words(lag, 's')} late half of the time or more, next to a median "
            f"latency of {words(latency, 's')}: it got too little of the processor. Leave it a "
            f"core, or lower rate."
        )
