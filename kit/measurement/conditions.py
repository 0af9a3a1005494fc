"""The conditions under which a call was timed, and the doubts that follow from them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kit import devices
from kit.core.units import plural
from kit.measurement.stopwatch import Stopwatch


@dataclass(frozen=True)
class Conditions:
    """Device, threads, versions, clock, and what else the machine was doing."""

    device: str
    threads: int  # as read in the thread that was timed: each thread has its own setting
    torch: str
    resolution_s: float  # the smallest step of the clock
    surroundings: devices.Surroundings | None = None  # None: not observed
    processor: str = ""  # the product name of the device

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may have disturbed the timing."""
        return self.surroundings.doubts(self.threads) if self.surroundings else ()

    def __str__(self) -> str:
        return f"{self.device}, {plural(self.threads, 'thread')}"


class Observer:
    """Reads the machine's counters when it is made, and again for `conditions`."""

    def __init__(self, watch: Stopwatch):
        devices.threads_here()  # before anything is timed: this thread may be a new one
        self.watch = watch
        # Load, clock and throttling counters: only their difference says what happened meanwhile.
        self.before = devices.reading(watch.device)

    def conditions(self) -> Conditions:
        """The conditions between the two readings."""
        # Call this right after the timings: work that runs in between may look like a
        # disturbance, and so may a clock that falls meanwhile.
        after = devices.reading(self.watch.device)
        return Conditions(
            device=str(self.watch.device),
            threads=devices.threads_here(),
            torch=torch.__version__,
            resolution_s=self.watch.resolution_s(),
            surroundings=devices.between(self.before, after),
            processor=devices.backend_of(self.watch.device).name,
        )


class CompileTime:
    """Seconds that PyTorch, or the device's own compiler, spent compiling; 0 if neither did."""

    def __init__(self, watch: Stopwatch):
        self.watch, self.seconds, self._began = watch, 0.0, 0.0

    def start(self, _: object) -> None:
        """A compilation begins."""
        self._began = self.watch.clock()

    def end(self, _: object) -> None:
        """A compilation ends."""
        self.seconds += self.watch.clock() - self._began


@contextmanager
def compile_time(watch: Stopwatch) -> Iterator[CompileTime]:
    """Measure how long PyTorch compiles inside: only a part of a first call is compiling."""
    noted, backend = CompileTime(watch), devices.backend_of(watch.device)
    before_s = backend.compile_s()
    if "torch._dynamo" not in sys.modules:  # no function was compiled: do not import the compiler
        yield noted
        noted.seconds = backend.compile_s() - before_s
        return
    # The compiler reports when it starts and ends; the first call minus this is the rest.
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(noted.start)
    callback_handler.register_end_callback(noted.end)
    # Removed at the end: a callback that stays would count the next compilations as well.
    try:
        yield noted
    finally:
        callback_handler.remove_start_callback(noted.start)
        callback_handler.remove_end_callback(noted.end)
        noted.seconds += backend.compile_s() - before_s
