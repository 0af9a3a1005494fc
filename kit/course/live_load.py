"""Traffic whose rate can be changed while it runs.

LiveLoad   sends requests at random moments (an open loop), and counts four times a second
Control    what decides about a run while it goes on: the panel
Counts     what is known of the requests that were sent

`kit.traffic` measures, in a process of its own. This shows what happens, in a thread.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, Protocol

import numpy as np

from kit.core.errors import CallFailed
from kit.core.statistics import samples_needed
from kit.course.live_run import Moment
from kit.loadgen.http_answers import TIMED_OUT, Answer
from kit.loadgen.http_client import Done, HTTPClient, new_loop
from kit.loadgen.http_requests import Target, prepare

EVERY_S = 0.25  # between two moments
RATES_S = 1.0  # rates are those of the last second
RECENT_S, OLDEST_S = 3.0, 10.0  # percentiles: of 3 s, or of more if these hold too few answers
NEEDED = samples_needed(99)
TIMEOUT_S = 2.0  # for one answer
MOST_OPEN = 1_000  # requests at a time; one more is not sent, and counts as failed
MAX_TOKENS = 16  # of a text
BUSY = {408, 429}  # of the statuses 4xx: the request was right
CLIENT_LATE = 0.2  # of the target: if requests are sent later than this, the client is the limit


class Counts:
    """What is known of the requests that were sent; times are seconds from the run's start."""

    def __init__(self, target_s: float, began_s: float = 0.0):
        self.target_s, self.began_s, self.waiting = target_s, began_s, 0
        self.scheduled_s: deque[float] = deque()
        self.late_s: deque[float] = deque()  # how late each of these was sent
        self.ended_s: deque[float] = deque()
        self.took_s: deque[float] = deque()  # of each of these; below 0: timed out; NaN: refused

    def arrived(self, scheduled_s: float, now_s: float) -> None:
        """A request was sent."""
        self.scheduled_s.append(scheduled_s)
        self.late_s.append(now_s - scheduled_s)
        self.waiting += 1

    def ended(self, scheduled_s: float, now_s: float, status: int) -> None:
        """A request was answered, or failed (a negative status)."""
        signs = {200: 1.0, TIMED_OUT: -1.0}
        self.ended_s.append(now_s)
        self.took_s.append(signs.get(status, math.nan) * (now_s - scheduled_s))
        self.waiting -= 1

    def moment(self, now_s: float, rate: float) -> Moment:
        """The last seconds, counted; what is older is forgotten.

        It takes 1 ms, because requests that are due meanwhile are sent late.
        """
        self._forget(now_s)
        span_s = min(RATES_S, now_s - self.began_s)
        arriving = len(self.scheduled_s) / span_s
        late_s = float(np.median(self.late_s)) if self.late_s else 0.0
        if late_s > CLIENT_LATE * self.target_s:
            return Moment(now_s, rate, arriving, waiting=self.waiting, client_late_s=late_s)
        ended_s, took_s = np.fromiter(self.ended_s, float), np.fromiter(self.took_s, float)
        last = took_s[ended_s >= now_s - RATES_S]
        answered = int((last >= 0).sum())
        good = int(((last >= 0) & (last <= self.target_s)).sum())
        times_s = np.abs(took_s[~np.isnan(took_s)])
        recent = int((ended_s >= now_s - RECENT_S)[~np.isnan(took_s)].sum())
        times_s = times_s[-max(recent, NEEDED) :]
        return Moment(
            at_s=now_s,
            rate=rate,
            arriving=arriving,
            good=good / span_s,
            late=(answered - good) / span_s,
            refused=(len(last) - answered) / span_s,
            p50_s=_percentile(times_s, 50),
            p99_s=_percentile(times_s, 99),
            waiting=self.waiting,
            client_late_s=late_s,
        )

    def _forget(self, now_s: float) -> None:
        while self.scheduled_s and self.scheduled_s[0] < now_s - RATES_S:
            self.scheduled_s.popleft()
            self.late_s.popleft()
        while self.ended_s and self.ended_s[0] < now_s - OLDEST_S:
            self.ended_s.popleft()
            self.took_s.popleft()


def _percentile(samples: np.ndarray, p: float) -> float | None:
    """The p-th percentile; None of fewer samples than it needs."""
    return float(np.percentile(samples, p)) if len(samples) >= samples_needed(p) else None


def target_of(url: str, inputs: Any, token: str | None, seed: int) -> Target:
    """The address and the requests, as `kit.traffic` would send them."""
    return prepare(
        url,
        inputs,
        model=None,
        batch_size=1,
        deadline_s=None,
        stream=False,
        max_tokens=MAX_TOKENS,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        seed=seed,
    )


class Control(Protocol):
    """What decides about a run while it goes on."""

    @property
    def rate(self) -> float:
        """Requests per second, from the next one on."""

    def go_on(self, moment: Moment) -> bool:
        """Whether to continue after this moment."""

    def stale(self) -> bool:
        """Whether `ready` has to be asked again, because settings were changed."""

    def ready(self) -> tuple[Target, str]:
        """Where to send what; and a note, if the server was changed for that."""


class LiveLoad:
    """One run: requests at random moments, at a rate that may change at any time."""

    def __init__(self, control: Control, target_s: float, seed: int):
        self.control, self.target_s, self.random = control, target_s, random.Random(seed)
        self.wrong: Answer | None = None  # to a request that cannot be right

    def run(self) -> None:
        """Send until `go_on` says that it is enough.

        Raises
        ------
        CallFailed
            No server answers, or it says that the requests are wrong.
        """
        # In a thread of its own: a notebook's kernel has an event loop in the main one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._run_to_its_end).result()

    def _run_to_its_end(self) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self.started_s = asyncio.get_running_loop().time()
        while True:
            paused_s = self._now()
            target, note = await asyncio.to_thread(self.control.ready)
            self.started_s += self._now() - paused_s  # it may have restarted the server
            if note and not self.control.go_on(Moment(self._now(), self.control.rate, note=note)):
                return
            client = HTTPClient(
                target.host, target.port, connections=MOST_OPEN, timeout_s=TIMEOUT_S
            )
            try:
                if not await self._send(client, target.requests):
                    return
            finally:
                client.close()

    async def _send(self, client: HTTPClient, requests: list[bytes]) -> bool:
        """Send until the server must be changed (True) or the run ends (False)."""
        counts, bodies = Counts(self.target_s, self._now()), cycle(requests)
        due_s, report_s = counts.began_s, counts.began_s + EVERY_S
        while True:
            now_s = self._now()
            while due_s <= now_s:
                counts.arrived(due_s, now_s)
                client.send(next(bodies), self._noted(counts, due_s))
                due_s += self.random.expovariate(self.control.rate)
            if report_s <= now_s:
                report_s = now_s + EVERY_S
                self._check()
                if not self.control.go_on(counts.moment(now_s, self.control.rate)):
                    return False
                if self.control.stale():
                    return True
            await asyncio.sleep(min(due_s, report_s) - now_s)

    def _noted(self, counts: Counts, due_s: float) -> Done:
        def note(answer: Answer, at_s: float) -> None:
            counts.ended(due_s, at_s - self.started_s, answer.status)
            if 400 <= answer.status < 500 and answer.status not in BUSY:
                self.wrong = answer

        return note

    def _check(self) -> None:
        if self.wrong is not None:
            said = bytes(self.wrong.body[:300]).decode(errors="replace")
            raise CallFailed(
                f"the server refuses the requests (status {self.wrong.status}): {said}"
            )

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self.started_s
