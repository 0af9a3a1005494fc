"""The stopwatch, and what every timing needs around it."""

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
from kit.core.errors import CallFailed

LEAST_TIMING_S = 50e-6  # a shorter call is timed in blocks …
LEAST_EMPTY_TIMINGS = 200  # … and so is one that does not outlast this many empty timings
LEAST_REPEATS = 10
WINDOW = 5  # timings whose medians decide whether it is still getting faster
SETTLED = 0.95  # of the time before: what takes more is no longer getting faster
Call = Callable[[], Any]


class Stopwatch:
    """Times calls on a device, waiting for the device at both edges.

    Parameters
    ----------
    device
        Where the calls compute.
    clock, synchronise
        Other ones for a test with a device or a time of its own.
    event
        Makes a mark in the device's own queue that notes when the device comes to it. On CUDA a
        block of calls is timed between two: waiting for the device costs some 10 µs, which a
        block of short calls should not be charged with. None elsewhere: the clock will do.

    Raises
    ------
    DeviceUnavailable
        The device is not here.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[torch.device], None] = devices.synchronise,
        event: Callable[[], Any] | None = None,
    ):
        self.device, self.clock, self._synchronise = torch.device(device), clock, synchronise
        self._backend = devices.backend_of(device)
        if synchronise is devices.synchronise:
            devices.check_present(self.device)
        self._event = event or self._backend.timing_event

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        self._synchronise(self.device)

    def time(self, call: Call, repeats: int = 1) -> float:
        """Seconds for `repeats` calls in a row."""
        if repeats > 1 and (first := self._event()) is not None:
            return self._between_events(first, call, repeats)
        self.wait()
        started = self.clock()
        for _ in repeat(None, repeats):  # counts nothing: what the loop costs, the call is charged
            call()
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
        return float(first.elapsed_time(last)) / 1000  # it tells milliseconds

    def empty_s(self) -> float:
        """Seconds that a timing of nothing takes: what the stopwatch itself costs."""
        return float(np.median([self.time(_nothing) for _ in range(100)]))

    def resolution_s(self) -> float:
        """The smallest step that the clock was seen to make; 0 where it stood still."""
        readings = np.array([self.clock() for _ in range(200)])
        steps = np.diff(readings)
        return float(min(steps[steps > 0], default=0.0))


def _nothing() -> None:
    pass


class WarmedUp(NamedTuple):
    """What warming up found out."""

    block: int  # calls per timing that outlast the clock
    spent_s: float
    steady: bool  # whether times had settled
    call_s: float  # of one call, at the end


def warm_up(call: Call, watch: Stopwatch, budget_s: float) -> WarmedUp:
    """Call until it is no longer getting faster, or the budget is gone.

    Of a call so slow that ten would take more than the budget there are two: the time is better
    spent on rounds.
    """
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
            block = max(2 * block, math.ceil(block * least_s / max(now, 1e-9)))
            continue
        if (steady := now > SETTLED * before) or spent > budget_s:
            return WarmedUp(block, spent, steady, now / block)
        before = now


def rounds(left_s: float, watch: Stopwatch, budget_s: float | None = None) -> Iterator[int]:
    """Numbers of rounds until what is left of the budget is spent: at least ten, if they fit.

    Slow calls take up to ten whole budgets for them, and the round that is then running.
    """
    most_s = LEAST_REPEATS * (left_s if budget_s is None else budget_s)
    began, n, spent = watch.clock(), 0, 0.0
    while spent < (left_s if n >= LEAST_REPEATS else most_s):
        yield n
        n, spent = n + 1, watch.clock() - began


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Say which call raised; the original error stays as the cause."""
    try:
        yield
    except Exception as error:
        raise CallFailed(f"{label!r} raised {type(error).__name__}: {error}") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Let Python's garbage collector do its work once, and then hold it."""
    gc.collect()
    with devices.collector_held():
        yield
