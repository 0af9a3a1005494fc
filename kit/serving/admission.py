"""Who may enter: a queue bounded by Little's law (stub: the signatures stand, the rest follows)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

PROTECTIONS = ("queue bound", "deadlines", "gone clients")


class Ticket:
    """A request that was admitted: counted from the door until its reply is written.

    A context manager: `with admission.admit(…) as ticket:`; leaving it releases the place.
    """

    arrived_s: float  # by the admission's clock
    expires_s: float  # by the admission's clock; math.inf without a deadline

    def shorten(self, deadline_s: float) -> None:
        """A deadline that the request itself carries, from its arrival; it can only be shorter."""
        raise NotImplementedError

    def start(self) -> None:
        """The request has left the queue: it runs."""
        raise NotImplementedError

    def release(self) -> None:
        """The request has left the house, answered or not; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Admission:
    """The door of one model: at most `deadline_s × rate` requests are inside."""

    waiting: int  # admitted, not yet running
    running: int

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
        raise NotImplementedError

    def admit(
        self,
        deadline_s: float | None = None,
        *,
        scope: MutableMapping[str, Any] | None = None,
    ) -> Ticket:
        """A place for a request, or RequestRefused 503 (full, draining) at once.

        `deadline_s` is the request's own, and can only shorten the server's. `scope` is ASGI's: if
        the server's protocol (`limits.py`) has admitted this request already, its ticket is there.
        """
        raise NotImplementedError

    def drain(self) -> None:
        """Refuse every new request from now on; those inside are finished."""
        raise NotImplementedError

    async def empty(self, timeout_s: float) -> bool:
        """Whether the last request left before the time was over."""
        raise NotImplementedError

    @property
    def draining(self) -> bool:
        """Whether new requests are refused because the server stops."""
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """How many requests may be inside now (math.inf without a bound)."""
        raise NotImplementedError

    @property
    def rate(self) -> float | None:
        """Finished requests per second of the time in which there was work; None: unknown yet."""
        raise NotImplementedError
