"""One infer request after the door: checked, queued, computed, replied, all in callbacks.

The receiver of a request passes `write`. It is called once, in the event loop, unless the
client goes away first. So a request needs no task of its own, and both ways into the server (ASGI,
and the short path of `short_path.py`) give the same answers, errors and metrics.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kit.serving import inference_protocol as protocol
from kit.serving.admission import Ticket
from kit.serving.batch_queue import Answer, Waiting
from kit.serving.refusals import RequestRefused
from kit.serving.replies import JSON, Header, failed

if TYPE_CHECKING:
    from kit.serving.batching import DynamicBatcher
    from kit.serving.metrics import Metrics
    from kit.serving.served_model import ServedModel

Write = Callable[[int, list[Header], bytes], None]  # status, headers, body

COUNTED = ("full", "draining")  # by `Metrics.on_shed`, because most of them end at the door
GONE = 499  # nginx's number for a client that closed the connection; only metrics show it
log = logging.getLogger("kit.serving")


class InferCall:
    """A request on its way through one model's queue.

    Parameters
    ----------
    model, batcher, metrics
        Of the server, as they are when the request comes.
    ticket
        Of the request; the caller releases it when the reply is written.
    write
        Takes the reply.
    """

    __slots__ = (
        *("_batcher", "_began_s", "_claim", "_metrics", "_model", "_parse_s", "_parsed_s"),
        *("_ticket", "_waiting", "_write"),
    )
    _claim: protocol.Claim
    _waiting: Waiting | None

    def __init__(
        self,
        model: ServedModel,
        batcher: DynamicBatcher,
        metrics: Metrics,
        ticket: Ticket,
        write: Write,
    ):
        self._model, self._batcher, self._metrics = model, batcher, metrics
        self._ticket = ticket
        self._write: Write | None = write  # None: over
        self._began_s = time.perf_counter()
        self._waiting = None

    def start(self, body: bytes, json_length: bytes | None) -> None:
        """Check the body and put the request into the queue, or refuse it."""
        began = time.perf_counter()
        try:
            batcher = self._batcher
            request = protocol.parse(self._model, body, json_length, batcher.max_batch)
            claim = self._claim = request.claim
            if claim.timeout_s is not None:
                self._ticket.shorten(claim.timeout_s)
            self._parsed_s = time.perf_counter()
            self._parse_s = self._parsed_s - began
            self._waiting = batcher.add(request.arrays, claim.rows, self._ticket, self._answered)
        except Exception as error:
            self._fail(error)

    def leave(self) -> None:
        """The client has gone: nothing is computed for it, if it still waits."""
        if self._write is None:
            return
        waiting, _ = self._let_go()
        if waiting is None:
            self._metrics.on_shed("gone")
        else:
            self._batcher.give_up(waiting)
        self._ticket.release(finished=False)
        self._metrics.on_request(GONE, time.perf_counter() - self._began_s)

    def _answered(self, waiting: Waiting) -> None:
        """The model has computed, or the request was dropped."""
        if self._write is None:
            return
        if not isinstance(waiting.result, Answer):
            # Not raised: its traceback would hold the request, and the request holds the error.
            return self._fail(waiting.result or failed())
        try:
            body, headers = self._reply(waiting.result)
        except Exception as error:
            return self._fail(error)
        self._end(200, headers, body)

    def _reply(self, answer: Answer) -> tuple[bytes, list[Header]]:
        answered = time.perf_counter()
        body, headers = protocol.reply(self._model, self._claim, answer.outputs)
        if self._claim.timing:
            # What is neither parsed nor computed is the queue, and the way between two threads.
            waited_s = answered - self._parsed_s - answer.predict_s
            reply_s = time.perf_counter() - answered
            times = (self._parse_s, waited_s, answer.predict_s, reply_s)
            headers.append((b"server-timing", _timing(*times)))
        return body, headers

    def _fail(self, error: Exception) -> None:
        refused = error if isinstance(error, RequestRefused) else failed()
        if refused.reason == "failed":
            log.error("a request failed", exc_info=error)
        headers, body = error_reply(refused)
        self._end(refused.status, headers, body, refused.reason not in COUNTED)

    def _end(self, status: int, headers: list[Header], body: bytes, counted: bool = True) -> None:
        _, write = self._let_go()
        if write is not None:
            write(status, headers, body)
        if counted:
            self._metrics.on_request(status, time.perf_counter() - self._began_s)

    def _let_go(self) -> tuple[Waiting | None, Write | None]:
        """Forget what refers to this call, so that its memory is free at once.

        Otherwise call, request and connection would hold each other until Python's collector finds
        them. It looks seldom through objects that are old: after a flood, thousands of closed
        connections would wait for it.
        """
        let_go = self._waiting, self._write
        self._waiting = self._write = None
        return let_go


def error_reply(refused: RequestRefused) -> tuple[list[Header], bytes]:
    """Headers and body of an error, in the form of the Open Inference Protocol."""
    headers = [(name.encode(), value.encode()) for name, value in refused.headers.items()]
    return [*headers, JSON], json.dumps({"error": refused.message}).encode()


def _timing(parse_s: float, queue_s: float, predict_s: float, reply_s: float) -> bytes:
    """The header Server-Timing (W3C): milliseconds of each part."""
    parts = {"parse": parse_s, "queue": queue_s, "predict": predict_s, "reply": reply_s}
    return ", ".join(f"{name};dur={1000 * s:.4f}" for name, s in parts.items()).encode()
