"""Sends requests on a schedule, or for users who wait, and notes the times: all in callbacks.

It runs in a process of its own (`kit.loadgen.sender_process`), because a notebook's process does
other things, and every one of them would delay a request. This file and what it imports need the
standard library only, so that the process starts at once.

Times are seconds from the start of the run. A request without an answer ends at infinity.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from kit.loadgen.http_answers import CONNECTION_FAILED, TIMED_OUT, Answer
from kit.loadgen.http_client import HTTPClient

MOST_SETTLING_S = 5.0
RETRIED = {TIMED_OUT, CONNECTION_FAILED, 408, 409, 429, 500, 502, 503, 504}
BACK_OFF_S, MOST_BACK_OFF_S = 0.1, 8.0  # the first wait before a retry; it doubles each time


@dataclass(frozen=True)
class Plan:
    """What a run sends, and when; see `kit.traffic`."""

    duration_s: float
    users: int | None = None  # None: an open loop
    think_s: float = 0.0
    retries: int = 0
    streamed: bool = False
    seed: int = 0
    warm_up: int = 8  # untimed requests, each on a connection of its own
    settled_s: float | None = None  # first wait until a request alone is answered so soon


class Run:
    """One run: `await go()`, then read the arrays."""

    def __init__(
        self, client: HTTPClient, requests: list[bytes], schedule: array[float], plan: Plan
    ):
        self.client, self.requests, self.plan = client, requests, plan
        self.schedule = schedule  # empty for users without a schedule
        self.scheduled_s, self.sent_s = array("d"), array("d")
        self.ended_s, self.first_s = array("d"), array("d")
        self.statuses, self.attempts, self.tokens = array("i"), array("i"), array("i")
        self.busy_share = 0.0  # of the thread's time: its processor time ÷ the run's
        self._loop, self._random = client.loop, random.Random(plan.seed)
        self._open = 0  # requests, and users who will send another
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._began = 0.0

    async def go(self) -> None:
        """Warm up, send everything, and wait until each request has ended."""
        await self._warm_up()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            busy, self._began = time.thread_time(), self._loop.time()
            self._start()
            await self._finished
            self.busy_share = (time.thread_time() - busy) / (self._loop.time() - self._began)
        finally:
            gc.enable()
            gc.unfreeze()  # the process stays for other runs

    async def _warm_up(self) -> None:
        """Open connections; and let a queue that an earlier run has left behind drain."""
        until, answered = self._loop.time() + MOST_SETTLING_S, 0
        # An answer means that the queue has drained: if the second is slow, the server is slow.
        while self.plan.settled_s is not None and self._loop.time() < until and answered < 2:
            began = self._loop.time()
            answered += await self._untimed(1) == [200]
            if answered and self._loop.time() - began <= self.plan.settled_s:
                break
            await asyncio.sleep(0.05)
        await self._untimed(self.plan.warm_up)

    async def _untimed(self, count: int) -> list[int]:
        """The statuses of this many requests, sent at once."""
        answered: asyncio.Queue[int] = asyncio.Queue()
        for i in range(count):
            request = self.requests[i % len(self.requests)]
            self.client.send(request, lambda answer, _: answered.put_nowait(answer.status))
        return [await answered.get() for _ in range(count)]

    def _start(self) -> None:
        if self.plan.users is None:
            self._open = 1  # the schedule itself, until its last request is sent
            self._send_due()
            return
        self._open = self.plan.users
        for _ in range(self.plan.users):
            self._later(self._think(), self._next)

    # Open loop: the schedule decides, whatever the server does.

    def _send_due(self) -> None:
        """Send every request that is due, then sleep until the next one is."""
        while (i := len(self.sent_s)) < len(self.schedule):
            if self.schedule[i] > self._now():
                self._loop.call_at(self._began + self.schedule[i], self._send_due)
                return
            self._open += 1
            self._send(self.schedule[i])
        self._close_one()

    # Closed loop: a user sends the next request after the last answer.

    def _next(self) -> None:
        """A user is ready to send; with a schedule, the next request in it may not be due yet."""
        i, now = len(self.sent_s), self._now()
        if not self.schedule:
            if now < self.plan.duration_s:
                self._send(now)
            else:
                self._close_one()
        elif i == len(self.schedule):
            self._close_one()
        elif self.schedule[i] > now:
            self._loop.call_at(self._began + self.schedule[i], self._next)
        else:
            self._send(self.schedule[i])

    def _think(self) -> float:
        """How long a user thinks: exponential, as between the arrivals of independent users."""
        return self._random.expovariate(1 / self.plan.think_s) if self.plan.think_s else 0.0

    # Both: one request, its attempts, its answer.

    def _send(self, scheduled_s: float) -> None:
        i = len(self.sent_s)
        self.scheduled_s.append(scheduled_s)
        self.sent_s.append(self._now())
        self.ended_s.append(math.inf)
        self.first_s.append(math.inf)
        for counts in (self.statuses, self.attempts, self.tokens):
            counts.append(0)
        self._attempt(i)

    def _attempt(self, i: int) -> None:
        self.attempts[i] += 1
        request = self.requests[i % len(self.requests)]
        streamed = self.plan.streamed
        self.client.send(request, lambda a, now: self._answered(i, a, now), streamed=streamed)

    def _answered(self, i: int, answer: Answer, now: float) -> None:
        if answer.status in RETRIED and self.attempts[i] <= self.plan.retries:
            self._later(self._back_off(i, answer), lambda: self._attempt(i))
            return
        self.statuses[i] = answer.status
        if answer.status > 0:
            self.ended_s[i] = now - self._began
            self.first_s[i] = answer.first_event_s - self._began
            self.tokens[i] = answer.told_tokens or answer.events
        if self.plan.users is None:
            self._close_one()
        else:
            self._later(self._think(), self._next)

    def _back_off(self, i: int, answer: Answer) -> float:
        """Seconds until the next attempt: what the server asks for, or twice the last ones."""
        for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
            try:
                asked_s = float(answer.header(name) or "") * unit_s
            except ValueError:
                continue
            if 0 <= asked_s <= 120:
                return asked_s
        wait_s = min(BACK_OFF_S * 2.0 ** (self.attempts[i] - 1), MOST_BACK_OFF_S)
        return wait_s * (1 - 0.25 * self._random.random())  # apart: or all would come together

    def _later(self, wait_s: float, call: Callable[[], None]) -> None:
        self._loop.call_later(wait_s, call)

    def _now(self) -> float:
        return self._loop.time() - self._began

    def _close_one(self) -> None:
        self._open -= 1
        if not self._open and not self._finished.done():
            self._finished.set_result(None)
