"""The stopwatch, and what every timing needs: warm-up, rounds, and no garbage collection."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch

from kit import devices
from kit.core.errors import BadValue, CallFailed

# The clock and the waiting cost about a microsecond. They must not be part of the result.
LEAST_TIMING_S = 50e-6  # a shorter call is timed in blocks of several calls …
LEAST_EMPTY_TIMINGS = 200  # … so that the stopwatch itself costs at most 1/200 of a timing
LEAST_REPEATS = 10  # six give the median an interval; ten survive a few slow moments
WINDOW = 5  # timings in a row, whose median is compared with that of the five before
SETTLED = 0.95  # of the time before: a call that takes more is no longer getting faster
Call = Callable[[], Any]


class Stopwatch:
    """Times calls on a device, waiting for the device at both edges.

    Parameters
    ----------
    device
        Where the calls compute.
    clock, synchronise
        For tests with a device or a time of their own.
    event
        Makes an event in the device's queue, which records when the device reaches it. On CUDA a
        block of calls is timed between two events, because waiting for the device costs some
        10 µs and would be charged to short calls. None elsewhere: the clock is good enough.

    Raises
    ------
    DeviceUnavailable
        This computer does not have the device.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[torch.device], None] = devices.synchronise,
        event: Callable[[], Any] | None = None,
    ):
        # `perf_counter` is monotonic and has the finest steps; `time.time` can be set back by NTP.
        own = synchronise is devices.synchronise
        self.device = devices.check_present(device) if own else torch.device(device)
        self.clock, self._synchronise = clock, synchronise
        self._backend = devices.backend_of(device)
        self._event = event or self._backend.timing_event

    def wait(self) -> None:
        """Wait until the device has finished all its work."""
        self._synchronise(self.device)

    def time(self, call: Call, repeats: int = 1) -> float:
        """Seconds for `repeats` calls in a row, with the device idle at both ends."""
        # Events need a queue that holds several calls; a single call is timed with the clock.
        if repeats > 1 and (first := self._event()) is not None:
            return self._between_events(first, call, repeats)
        # Before: work that is still in the queue would be charged to this call.
        self.wait()
        started = self.clock()
        for _ in repeat(None, repeats):  # the cheapest loop: its cost is charged to the call
            call()
        # After: a CUDA call returns once its work is queued, long before the work is done.
        self.wait()
        return self.clock() - started

    def _between_events(self, first: Any, call: Call, repeats: int) -> float:
        last = self._event()
        self.wait()
        self._backend.record(first)
        for _ in repeat(None, repeats):
            call()
        self._backend.record(last)
        self.wait()
        return float(first.elapsed_time(last)) / 1000  # from milliseconds

    def empty_s(self) -> float:
        """Seconds that timing an empty call takes: the overhead of the stopwatch itself."""
        # The median, because the first ones are slower.
        return float(np.median([self.time(lambda: None) for _ in range(100)]))

    def resolution_s(self) -> float:
        """The smallest step seen between two readings of the clock; 0 if it stood still."""
        # Many readings in a row: the smallest difference is the step, most are the call's cost.
        readings = np.array([self.clock() for _ in range(200)])
        steps = np.diff(readings)
        return float(min(steps[steps > 0], default=0.0))


def check_call(
    what: str, given: Any, right: str = "without arguments: lambda: kit.predict(model, inputs)"
) -> None:
    """Refuse a result in place of the function that computes it."""
    if not callable(given):
        raise BadValue(
            f"{what} is given a value ({type(given).__name__}); needs a function {right}."
        )


class WarmedUp(NamedTuple):
    """What the warm-up found."""

    block: int  # calls per timing, enough for the clock
    spent_s: float
    steady: bool  # whether times had settled
    call_s: float  # one call, at the end of the warm-up


def warm_up(call: Call, watch: Stopwatch, budget_s: float) -> WarmedUp:
    """Repeat the call until it is no longer getting faster, or until the budget is spent.

    The first calls are slower: they allocate memory, fill caches and let the processor raise its
    clock. A call of which ten would exceed the budget is made only twice, because its time is
    better spent on the rounds that count.
    """
    # A slow device makes even an empty timing long, so the limit depends on the stopwatch.
    least_s = max(LEAST_TIMING_S, LEAST_EMPTY_TIMINGS * watch.empty_s())
    block, spent, before, times = 1, 0.0, math.inf, [watch.time(call)]
    if 2 * WINDOW * times[0] > budget_s:
        again = watch.time(call)
        return WarmedUp(block, times[0] + again, again > SETTLED * times[0], again)
    while True:
        times += [watch.time(call, block) for _ in range(WINDOW - len(times))]
        spent += sum(times)
        now, times = float(np.median(times)), []
        if now < least_s:
            # Too short for the clock: time several calls at once.
            block = max(2 * block, math.ceil(block * least_s / max(now, 1e-9)))
            continue
        # Settled: the last window saved less than 5 % on the window before it.
        if (steady := now > SETTLED * before) or spent > budget_s:
            return WarmedUp(block, spent, steady, now / block)
        before = now


def rounds(left_s: float, watch: Stopwatch, budget_s: float | None = None) -> Iterator[int]:
    """Count rounds until the rest of the budget is spent, and to at least ten if they fit.

    Slow calls may take up to ten whole budgets for these ten, and finish the round they are in.
    """
    most_s = LEAST_REPEATS * (left_s if budget_s is None else budget_s)
    # Time between timings counts as well, or flushing the caches would overrun the budget.
    began, n, spent = watch.clock(), 0, 0.0
    while spent < (left_s if n >= LEAST_REPEATS else most_s):
        yield n
        n, spent = n + 1, watch.clock() - began


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """An error inside becomes `CallFailed` with this label; the original error is its cause."""
    try:
        yield
    except Exception as error:
        raise CallFailed(f"{label!r} raised {type(error).__name__}: {error}") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage once, then not again inside: a collection would be charged to a call."""
    # First collect what the set-up left. Inside, the collector is off: reference cycles hold
    # their memory until the end, so a call that makes large ones can run out of memory.
    gc.collect()
    with devices.collector_held():
        yield
