"""Requests that wait together are computed together: a queue, a thread, and a model.

A model computes 32 rows in much less than 32 times the time of one. Requests arrive one by one, so
somebody has to collect them. The rule here: while the model computes, requests wait; when it is
free, it takes the oldest ones, up to `max_batch` rows. If they are fewer, it waits for more until
the oldest has waited `max_wait_s`. A model that had nothing to do takes a request at once: where
requests are rare, waiting for a second one would only cost time. `wait_if_idle` makes it wait, too.

Thread A is the event loop: it reads requests and writes replies. Thread B runs the model. B takes
batches from the queue itself, so it never waits for a busy loop before it can continue.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from kit.core.checks import check_positive, check_whole
from kit.core.errors import BadValue
from kit.core.units import words
from kit.devices import threads_here
from kit.serving.admission import Admission, Ticket
from kit.serving.batch_queue import Answer, Arrays, RequestQueue, UsualTime, Waiting
from kit.serving.refusals import RequestRefused


class Observe(Protocol):
    """An observer of what happens; `metrics.py` counts it. Called from the event loop's thread."""

    def on_queue(self, wait_s: float) -> None:
        """A request left the queue after this wait."""

    def on_batch(self, rows: int, predict_s: float) -> None:
        """The model computed a batch."""

    def on_shed(self, reason: str) -> None:
        """A request was dropped: full, deadline, gone or draining."""

    def on_first_token(self, ttft_s: float) -> None:
        """The first token of a generation, from the request's arrival."""

    def on_token(self, gap_s: float) -> None:
        """A later token, from the one before."""


class Unobserved:
    """An observer that ignores everything."""

    def on_queue(self, wait_s: float) -> None:
        """Nothing."""

    def on_batch(self, rows: int, predict_s: float) -> None:
        """Nothing."""

    def on_shed(self, reason: str) -> None:
        """Nothing."""

    def on_first_token(self, ttft_s: float) -> None:
        """Nothing."""

    def on_token(self, gap_s: float) -> None:
        """Nothing."""


class DynamicBatcher:
    """A queue in front of one model, which takes several requests at a time.

    Make it inside the event loop that calls `add`. The model runs in a thread of its own, one
    batch after the other.

    Parameters
    ----------
    predict
        Arrays by name, axis 0 the rows -> arrays by name, axis 0 the same rows.
    max_batch
        Rows at once, at most. A request with more rows is refused.
    max_wait_s
        How long the oldest request waits for company, at most, when the model is free again.
    wait_if_idle
        Whether it waits for company also when the model had nothing to do.
    admission
        The door that gave the tickets; it learns what was shed.
    observe
        Told about waits, batches and dropped requests.
    threads
        PyTorch's threads for one batch. 1: two threads on a busy machine wait for each other.
    """

    def __init__(
        self,
        predict: Callable[[Arrays], Arrays],
        *,
        max_batch: int = 32,
        max_wait_s: float = 0.002,
        wait_if_idle: bool = False,
        admission: Admission | None = None,
        observe: Observe | None = None,
        threads: int = 1,
    ):
        self.predict = predict
        self.max_batch = check_whole("max_batch", max_batch)
        self.max_wait_s = check_positive("max_wait_s", max_wait_s, "seconds") if max_wait_s else 0.0
        self.wait_if_idle = wait_if_idle
        self.threads = check_whole("threads", threads)
        self.observe: Observe = observe or Unobserved()
        self.admission = admission or Admission(
            max_batch=self.max_batch, on_shed=self.observe.on_shed
        )
        self._queue = RequestQueue(self.max_batch, self.max_wait_s)
        self._usual = UsualTime()
        self._changed = threading.Condition()  # its lock guards the queue and the two flags
        self._idle = True  # the model's thread waits for a first request
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="kit-model", daemon=True)
        self._thread.start()

    # --- In the event loop -----------------------------------------------------------------------

    def add(
        self, inputs: Arrays, rows: int, ticket: Ticket, done: Callable[[Waiting], None]
    ) -> Waiting:
        """Put a request into the queue; when it is over, `done` finds its result in it.

        Parameters
        ----------
        inputs, rows
            Axis 0 of every array is the rows.
        done
            Called once, in the event loop. The result is an `Answer`, or a `RequestRefused`: 504,
            too late; 503, stopped; 500, the model failed, and the cause is the original error.

        Raises
        ------
        RequestRefused
            400: more rows than `max_batch`. 503: stopped.
        """
        if not 1 <= rows <= self.max_batch:
            raise RequestRefused(
                400,
                f"{rows} rows in a request: needs 1 to {self.max_batch}. Send several requests.",
            )
        request = Waiting(inputs, rows, ticket, self.admission.clock(), done)
        self._enqueue(request)
        return request

    def _enqueue(self, request: Waiting) -> None:
        with self._changed:
            if self._stopping:
                raise _stopped()
            full = self._queue.add(request)
            if full or self._idle:  # else the thread computes, or will look when the wait is over
                self._idle = False
                self._changed.notify()

    def give_up(self, request: Waiting) -> None:
        """The client has gone. If the request still waits, nothing is computed, or `done`."""
        with self._changed:
            waited = self._queue.remove(request)
        if waited:
            self.observe.on_shed("gone")

    def _deliver(self, requests: list[Waiting], rows: int, predict_s: float) -> None:
        """Hand the results to those who wait for them; called once per batch, not per request."""
        if rows:
            self.observe.on_batch(rows, predict_s)
        for request in requests:
            self.observe.on_queue(request.taken_s - request.queued_s)
            result = request.result
            if isinstance(result, RequestRefused) and result.reason in ("deadline", "draining"):
                self.observe.on_shed(result.reason)
            request.result = result or _stopped()
            request.done(request)

    async def drain(self, timeout_s: float = 20.0) -> bool:
        """Refuse new requests, finish those inside, stop the thread; whether all were finished."""
        self.admission.drain()
        finished = await self.admission.empty(timeout_s)
        self.close()
        return finished

    def close(self) -> None:
        """Stop the thread after the batch that runs; whatever waits gets 503."""
        with self._changed:
            self._stopping = True
            left = self._queue.clear()
            self._changed.notify()
        for request in left:
            request.taken_s, request.result = self.admission.clock(), _stopped()
        self._deliver(left, 0, 0.0)

    # --- In the model's thread -------------------------------------------------------------------

    def _work(self) -> None:
        """Take a batch, compute it, hand it over, until the batcher is closed."""
        torch.set_num_threads(self.threads)
        threads_here()  # only now do this thread's matrix products obey
        while (taken := self._next_batch()) is not None:
            batch, late = taken
            for request in late:
                request.result = _too_late(request)
            for request in batch:
                request.ticket.start()
            began = self.admission.clock()
            self._compute(batch)
            predict_s = self.admission.clock() - began
            if batch:
                self._usual.add(predict_s)
            self._send(batch + late, sum(request.rows for request in batch), predict_s)

    def _next_batch(self) -> tuple[list[Waiting], list[Waiting]] | None:
        """Wait for a batch; None when the batcher was closed."""
        with self._changed:
            at_once = False
            while not self._stopping:
                if not len(self._queue):
                    self._idle = True
                    at_once = not self.wait_if_idle  # a model without work waits for nobody
                    self._changed.wait()
                    continue
                now = self.admission.clock()
                patience_s = 0.0 if at_once else self._queue.patience_s(now)
                if patience_s <= 0:
                    self._idle = False
                    return self._queue.take(now, self._usual.bound_s)
                self._changed.wait(patience_s)
        return None

    def _compute(self, batch: list[Waiting]) -> None:
        """Results for a batch. If it fails, each half is tried: a bad request fails alone."""
        if not batch:
            return
        began = self.admission.clock()
        try:
            outputs = self._predict_together(batch)
            self._share_out(batch, outputs, self.admission.clock() - began)
        except Exception as error:
            if len(batch) == 1:
                batch[0].result = _failed(error)
                return
            middle = len(batch) // 2
            self._compute(batch[:middle])
            self._compute(batch[middle:])

    def _predict_together(self, batch: list[Waiting]) -> Arrays:
        """The outputs for the rows of all requests, one after the other."""
        first = batch[0].inputs
        if len(batch) == 1:
            return self.predict(first)
        return self.predict(
            {name: np.concatenate([request.inputs[name] for request in batch]) for name in first}
        )

    def _share_out(self, batch: list[Waiting], outputs: Arrays, predict_s: float) -> None:
        """Give each request its own rows."""
        rows = sum(request.rows for request in batch)
        if wrong := {
            name: np.shape(a) for name, a in outputs.items() if np.shape(a)[:1] != (rows,)
        }:
            raise ValueError(f"{rows} rows went in; out came {wrong}: needs as many rows on axis 0")
        start = 0
        for request in batch:
            stop = start + request.rows
            own = {name: array[start:stop] for name, array in outputs.items()}
            wait_s = request.taken_s - request.queued_s
            request.result = Answer(own, wait_s, predict_s, rows)
            start = stop

    def _send(self, requests: list[Waiting], rows: int, predict_s: float) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, requests, rows, predict_s)
        except RuntimeError:  # the loop was closed: nobody waits for an answer
            return


def _too_late(request: Waiting) -> RequestRefused:
    allowed_s = request.ticket.expires_s - request.ticket.arrived_s
    waited_s = request.taken_s - request.ticket.arrived_s
    return RequestRefused(
        504,
        f"the request waited {words(waited_s, 's')}, and cannot be answered within "
        f"{words(allowed_s, 's')}: it was dropped. Allow more time, or ask less often.",
        reason="deadline",
    )


def _stopped() -> RequestRefused:
    return RequestRefused(503, "the server stops. Send the request again.", reason="draining")


def _failed(error: Exception) -> RequestRefused:
    """What the client learns about an error of the model: the kit's own words, or its kind."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, BadValue):
        return _because(RequestRefused(400, str(error)), error)
    message = (
        f"the model failed on this request: {type(error).__name__}. Other requests are served."
    )
    return _because(RequestRefused(500, message, reason="failed"), error)


def _because(refused: RequestRefused, error: Exception) -> RequestRefused:
    refused.__cause__ = error  # for the server's log
    return refused
