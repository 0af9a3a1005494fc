"""Under which conditions something was timed, and what of them gives cause to doubt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kit import devices
from kit.measurement.stopwatch import Stopwatch


@dataclass(frozen=True)
class Conditions:
    """Device, threads, versions, clock, and what else the machine did meanwhile."""

    device: str
    threads: int  # of the thread that was timed, asked for there
    torch: str
    resolution_s: float  # the smallest step of the clock
    surroundings: devices.Surroundings | None = None  # None where nobody looked
    processor: str = ""  # what its makers call the device

    @property
    def doubts(self) -> tuple[str, ...]:
        """What of the surroundings may have disturbed the timing."""
        return self.surroundings.doubts(self.threads) if self.surroundings else ()

    def __str__(self) -> str:
        return f"{self.device}, {self.threads} thread{'s' * (self.threads > 1)}"


class Observer:
    """Reads the machine's counters when made, and again when asked for the conditions."""

    def __init__(self, watch: Stopwatch):
        devices.threads_here()  # before anything is timed: this thread may be a new one
        self.watch = watch
        self.before = devices.reading(watch.device)

    def conditions(self) -> Conditions:
        """The conditions from then until now."""
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
    """Seconds that PyTorch spent compiling, on the clock given; 0 if nothing was compiled."""

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
    """Notes how long PyTorch compiles within: a first call is more than compiling."""
    noted = CompileTime(watch)
    if "torch._dynamo" not in sys.modules:  # nobody has asked for a compiled function
        yield noted
        return
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(noted.start)
    callback_handler.register_end_callback(noted.end)
    try:
        yield noted
    finally:
        callback_handler.remove_start_callback(noted.start)
        callback_handler.remove_end_callback(noted.end)
