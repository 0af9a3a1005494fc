"""After a flood, the memory that it needed goes back to the system.

A flood brings a thousand connections and a full queue. When they are gone, Python has freed their
memory, but the C library keeps it for later requests: between two blocks that are in use, a free
one stays in the process. `malloc_trim` of glibc gives the pages of all free blocks back. It takes
some milliseconds, so it is called once after a flood, and not while requests are refused.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress

CALM_S = 1.0  # without a refusal: then a flood is over


class FloodMemory:
    """Notices that a flood is over, from the number of requests that were refused so far.

    >>> now_s = iter([0.0, 0.5, 2.0, 3.0])
    >>> memory = FloodMemory(clock=lambda: next(now_s))
    >>> [memory.is_over(refused) for refused in (7, 9, 9, 9)]  # calm since 0.5 s
    [False, False, True, False]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._refused = clock, 0
        self._last_s: float | None = None  # of the last refusal; None: no flood, or noticed before

    def is_over(self, refused: int) -> bool:
        """Whether a flood has ended; True once for each flood."""
        now_s = self._clock()
        if refused != self._refused:
            self._refused, self._last_s = refused, now_s
        over = self._last_s is not None and now_s - self._last_s >= CALM_S
        if over:
            self._last_s = None
        return over


def give_back() -> None:
    """Give the free memory of this process back to the system, where the C library can."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc; Windows has no None
        ctypes.CDLL(None).malloc_trim(0)
