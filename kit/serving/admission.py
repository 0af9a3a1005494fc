"""The door of a model: how many requests may be inside, and which error the others get.

Little's law: requests inside = arrival rate × time inside. If the server finishes `rate` requests
per second and a request may take `deadline_s`, then the queue is useful up to `deadline_s × rate`
requests. A longer queue holds only requests that will be too late: the server would work, and
every client would have given up. So the next request is refused at once, and costs next to nothing.

The rate is measured all the time: requests that were finished, divided by the seconds in which at
least one request was inside. With few requests inside this underestimates what full batches reach,
so the limit never falls below two batches, and it rises with what these show.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from kit.core.checks import check_positive, check_whole
from kit.core.errors import BadValue, UnknownName
from kit.serving.refusals import Reason, RequestRefused

PROTECTIONS = ("queue bound", "deadlines", "gone clients")
TICKET = "kit.ticket"  # where a request's ASGI scope carries what the door gave it
SHARE = 0.8  # of the deadline may be spent by waiting: the rest is for rates that fluctuate
MEMORY_S = 1.0  # seconds of work after which an old measurement of the rate counts half


class Ticket:
    """A request that was admitted: counted from the door until its reply is written.

    A context manager: `with admission.admit() as ticket:`; leaving it gives the place back.

    Attributes
    ----------
    arrived_s, expires_s
        By the admission's clock; `expires_s` is infinite without a deadline.
    """

    __slots__ = ("_admission", "_state", "arrived_s", "expires_s")

    def __init__(self, admission: Admission, arrived_s: float, expires_s: float):
        self._admission = admission
        self._state = "waiting"
        self.arrived_s = arrived_s
        self.expires_s = expires_s

    def shorten(self, deadline_s: float) -> None:
        """Take the deadline that the request itself carries, if it is shorter.

        Raises RequestRefused 400 if it is not a finite number of seconds above 0.
        """
        if not (isinstance(deadline_s, int | float) and 0 < deadline_s < math.inf):
            raise RequestRefused(
                400, f"timeout of {deadline_s!r} s: needs a finite number of seconds above 0."
            )
        if "deadlines" in self._admission.protect:
            self.expires_s = min(self.expires_s, self.arrived_s + deadline_s)

    def start(self) -> None:
        """The request has left the queue, and runs; the model's thread may call this."""
        admission = self._admission
        with admission._lock:
            if self._state == "waiting":
                self._state = "running"
                admission.waiting -= 1
                admission.running += 1

    def release(self, finished: bool = True) -> None:
        """The request is over; `finished=False` if it was given up. Later calls do nothing."""
        admission = self._admission
        with admission._lock:
            before, self._state = self._state, "over"
            if before == "over":
                return
            admission.waiting -= before == "waiting"
            admission.running -= before == "running"
        # Only a request that ran tells how fast the server is: a refused one does not.
        admission._learn(finished and before == "running")

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.release(finished=kind is None)


class Admission:
    """At most `deadline_s × rate` requests inside one model's queue and computation.

    Parameters
    ----------
    deadline_s
        How long a request may take; a request can ask for less, never for more.
    max_waiting
        "auto": by Little's law from the measured rate. A whole number: this many inside.
    max_batch
        Rows that the model takes at once: twice as many requests may always be inside.
    protect
        Which of `PROTECTIONS` are on. A lesson turns them off to show what each is for.
    on_shed
        Called with the reason of each refusal: "full" or "draining".
    clock
        Seconds; tests pass one of their own.

    Attributes
    ----------
    waiting, running
        How many requests are in the queue, and how many are being computed or answered.
    refused
        How many found the door closed so far.
    """

    def __init__(
        self,
        *,
        deadline_s: float = 1.0,
        max_waiting: int | str = "auto",
        max_batch: int = 32,
        protect: Collection[str] = PROTECTIONS,
        on_shed: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.deadline_s = check_positive("deadline_s", deadline_s, "seconds")
        self.max_waiting = _check_max_waiting(max_waiting)
        self.protect = _check_protections(protect)
        self.on_shed = on_shed or (lambda reason: None)
        self.clock = clock
        self.waiting = self.running = self.refused = 0
        self.draining = False
        self._lock = threading.Lock()  # the model's thread says when a request starts to run
        self._least = 2 * check_whole("max_batch", max_batch)
        self._finished = self._busy_s = 0.0  # both forget at the same speed
        self._counted_until_s = 0.0
        self._everybody_left = asyncio.Event()

    def admit(
        self, deadline_s: float | None = None, *, scope: MutableMapping[str, Any] | None = None
    ) -> Ticket:
        """A place for a request.

        Parameters
        ----------
        deadline_s
            The request's own, in seconds from now; it can only shorten the server's.
        scope
            ASGI's. If the server's protocol has admitted this request, its ticket is there, and
            the request is not counted twice.

        Raises
        ------
        RequestRefused
            503, at once, if the house is full or the server stops.
        """
        ticket = scope.pop(TICKET, None) if scope is not None else None
        if ticket is None:
            self.check()
            ticket = self._enter()
        if deadline_s is not None:
            try:
                ticket.shorten(deadline_s)
            except RequestRefused:
                ticket.release(finished=False)
                raise
        return ticket

    def check(self) -> None:
        """Raise what `admit` would raise; nothing is counted."""
        if self.draining:
            raise self._refused("draining", "the server stops. Send the request to another one.")
        if self.inside >= self.limit:
            again = f"Try again in {self.backlog_s:.2g} s, or ask less often."
            raise self._refused("full", f"{self.inside} requests wait already. {again}")

    def _enter(self) -> Ticket:
        now = self.clock()
        with self._lock:
            if not self.inside:
                self._counted_until_s = now
                self._everybody_left.clear()
            self.waiting += 1
        limited = "deadlines" in self.protect
        return Ticket(self, now, now + self.deadline_s if limited else math.inf)

    def _learn(self, finished: bool) -> None:
        """A request has left: count it, and the time since the one before."""
        now = self.clock()
        # A client that sends its body slowly is inside for long, and no sign of a slow server.
        passed_s = min(now - self._counted_until_s, self.deadline_s)
        self._counted_until_s = now
        weight = 0.5 ** (passed_s / MEMORY_S)
        self._finished = weight * self._finished + finished
        self._busy_s = weight * self._busy_s + passed_s
        if not self.inside:
            self._everybody_left.set()

    @property
    def inside(self) -> int:
        """Requests that were admitted and are not yet answered."""
        return self.waiting + self.running

    @property
    def rate(self) -> float | None:
        """Finished requests per second of the time in which there was work; None: unknown yet."""
        return self._finished / self._busy_s if self._finished and self._busy_s else None

    @property
    def limit(self) -> float:
        """How many requests may be inside now (math.inf without a bound)."""
        if "queue bound" not in self.protect:
            return math.inf
        if self.max_waiting is not None:
            return self.max_waiting
        return max(self._least, SHARE * self.deadline_s * (self.rate or 0))

    @property
    def backlog_s(self) -> float:
        """How long it takes to finish the requests that are inside."""
        return self.inside / self.rate if self.rate else self.deadline_s

    def drain(self) -> None:
        """Refuse every new request from now on; those inside are finished."""
        self.draining = True

    async def empty(self, timeout_s: float) -> bool:
        """Whether the last request left before the time was over."""
        if self.inside:
            try:
                await asyncio.wait_for(self._everybody_left.wait(), timeout_s)
            except TimeoutError:
                return False
        return True

    def _refused(self, reason: Reason, message: str) -> RequestRefused:
        self.refused += 1
        self.on_shed(reason)
        return RequestRefused(503, message, retry_after_s=self.backlog_s, reason=reason)


def _check_max_waiting(given: int | str) -> int | None:
    if given == "auto":
        return None
    return check_whole("max_waiting", given, hint='Or "auto": by Little\'s law.')


def _check_protections(given: Collection[str]) -> frozenset[str]:
    if isinstance(given, str):
        raise BadValue(f"protect={given!r}: needs a tuple of names. Write protect=({given!r},).")
    for name in given:
        if name not in PROTECTIONS:
            raise UnknownName("protection", name, PROTECTIONS)
    return frozenset(given)
