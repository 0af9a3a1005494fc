"""Calls at a steady pace, each with the counters that can explain a slow one.

The counters are read before and after a call, outside its time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

SPIN_S = 0.0003  # before a call is due: a sleep may last this much longer than asked

# What is noted of each call, and in which order.
COUNTERS = ("late_s", "times_s", "running_s", "taken_away", "waited", "page_faults", "collections")


def usage() -> tuple[int, int, int]:
    """How often a core was taken from this thread, how often it waited, its page faults."""
    try:
        import resource

        found = resource.getrusage(resource.RUSAGE_THREAD)
    except (ImportError, AttributeError):  # Windows, macOS
        return 0, 0, 0
    return found.ru_nivcsw, found.ru_nvcsw, found.ru_minflt + found.ru_majflt


def wait_until(due_s: float, spin: bool) -> None:
    """Sleep until a moment; the last part in a loop, if a sleep would be too coarse."""
    left_s = due_s - time.perf_counter() - (SPIN_S if spin else 0.0)
    if left_s > 0:
        time.sleep(left_s)
    while spin and time.perf_counter() < due_s:
        pass


def timed_calls(
    call: Callable[[int], Any], calls: int, every_s: float | None, spin: bool = False
) -> list[Sequence[float]]:
    """The counters of each call, as columns in the order of `COUNTERS`.

    Parameters
    ----------
    call
        Takes the number of the call.
    calls
        How many.
    every_s
        From one call's due moment to the next; None: each call follows the last one.
    spin
        Wait in a loop, which keeps the core busy, so that calls begin when they are due.
    """
    rows: list[tuple[float, ...]] = []
    collections = [0]

    def count(phase: str, info: dict[str, int]) -> None:
        collections[0] += phase == "start"

    clock, own_clock = time.perf_counter, time.thread_time_ns
    gc.callbacks.append(count)
    try:
        due = clock() + (every_s or 0.0)
        for i in range(calls):
            if every_s:
                wait_until(due, spin)
            else:
                due = clock()
            before, collected, ran = usage(), collections[0], own_clock()
            began = clock()
            call(i)
            ended = clock()
            ran = own_clock() - ran
            after = usage()
            changes = (b - a for a, b in zip(before, after, strict=True))
            late = max(0.0, began - due)
            rows.append((late, ended - began, ran / 1e9, *changes, collections[0] - collected))
            due += every_s or 0.0
    finally:
        gc.callbacks.remove(count)
    return list(zip(*rows, strict=True))
