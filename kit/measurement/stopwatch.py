"""The stopwatch, and what every timing needs around it."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from kit import devices
from kit.errors import BadValue, CallFailed

LEAST_TIMING_S = 50e-6  # shorter calls are timed in blocks: reading the clock costs about 0.1 µs
LEAST_REPEATS = 10
WINDOW = 5  # timings whose medians decide whether it is still getting faster
Call = Callable[[], Any]


class Stopwatch:
    """Times calls on a device, waiting for the device at both edges.

    Parameters
    ----------
    device
        Where the calls compute.
    clock, synchronise
        Other ones for a test with a device or a time of its own.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[torch.device], None] = devices.synchronise,
    ):
        self.device, self.clock, self._synchronise = torch.device(device), clock, synchronise

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        self._synchronise(self.device)

    def time(self, call: Call, repeats: int = 1) -> float:
        """Seconds for `repeats` calls in a row."""
        self.wait()
        started = self.clock()
        for _ in range(repeats):
            call()
        self.wait()
        return self.clock() - started


def warm_up(call: Call, watch: Stopwatch, budget_s: float) -> tuple[int, float, bool]:
    """Call until it is no longer getting faster.

    Returns the calls per timing that outlast the clock, the seconds spent, and whether times had
    settled before the budget was gone.
    """
    block, spent, before = 1, 0.0, math.inf
    while True:
        times = [watch.time(call, block) for _ in range(WINDOW)]
        spent += sum(times)
        now = float(np.median(times))
        if now < LEAST_TIMING_S:
            block = max(2 * block, math.ceil(block * LEAST_TIMING_S / max(now, 1e-9)))
            continue
        if now > 0.95 * before:
            return block, spent, True
        if spent > budget_s:
            return block, spent, False
        before = now


def rounds(budget_s: float, watch: Stopwatch) -> Iterator[int]:
    """Numbers of rounds until the budget is spent: at least ten, unless those take ten budgets."""
    began, n, spent = watch.clock(), 0, 0.0
    while spent < (budget_s if n >= LEAST_REPEATS else LEAST_REPEATS * budget_s):
        yield n
        n, spent = n + 1, watch.clock() - began


def check_budget(budget_s: float) -> None:
    """Refuse a budget in which nothing can be timed."""
    if not isinstance(budget_s, (int, float)) or not 0 < budget_s < math.inf:
        raise BadValue(f"budget_s={budget_s!r}: needs seconds, a number above 0.")


def conditions_of(watch: Stopwatch) -> dict[str, Any]:
    """Device, threads, and how busy the machine is before the timing makes it busy."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": str(watch.device),
        "threads": torch.get_num_threads(),
        "load": load,
        "cores": devices.cores_allowed(),
    }


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Say which call raised; the original error stays as the cause."""
    try:
        yield
    except Exception as error:
        raise CallFailed(f"{label!r} raised {type(error).__name__}: {error}") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Hold Python's garbage collector, which would stop a call now and then, and let it go on."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
