"""What disturbs a timing on this machine: other programs, quotas, clocks, garbage collection.

Two readings, one before and one after, give the surroundings of what was timed between them.
A value is None if this system does not report it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from kit.core.units import plural
from kit.devices.backends import backend_of
from kit.devices.resource_limits import CGROUPS, cores_allowed, cpu_groups, named_number, numbers_in

THERMAL = "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
PARALLEL = "KIT_PARALLEL"  # set by a sweep for its notebooks: how many of them run at once here


@dataclass(frozen=True)
class Reading:
    """The machine's counters at one moment."""

    wall_s: float
    own_s: float  # processor time of this process
    busy_s: float  # processor time of all programs on this machine, on all cores
    stolen_s: float | None  # time that the host of this virtual machine gave to others
    throttled_s: float | None  # time for which the container's quota was used up
    cooled: int | None  # how often the processor slowed down to cool
    clock_hz: float | None
    load: float | None  # programs that wanted a core in the last minute


@dataclass(frozen=True)
class Surroundings:
    """What else the machine did between two readings."""

    cores: float  # that this process was allowed
    cores_present: int
    load: float | None  # programs that wanted a core in the minute before
    busy_elsewhere: float | None  # cores that other programs kept busy meanwhile
    stolen_share: float | None  # of the time of all cores
    throttled_share: float | None  # of the time
    cooled: int | None
    clock_hz_before: float | None
    clock_hz_after: float | None
    runs_at_once: int = 1  # of a sweep on this machine, as its user asked
    busy_here: float | None = None  # cores that all threads of this process kept busy

    def doubts(self, threads: int) -> tuple[str, ...]:
        """What may have disturbed a timing that used `threads` threads, one sentence each."""
        found = []
        stolen, throttled = self.stolen_share or 0, self.throttled_share or 0
        if self.runs_at_once > 1:
            found.append(f"{self.runs_at_once} runs at once on this machine, as asked")
        if threads > self.cores:
            found.append(f"{threads} threads wait for each other on {self.cores:g} cores")
        if (self.busy_here or 0) > threads + 0.25:
            found.append(
                f"this process kept {self.busy_here:.1f} cores busy, more than its "
                f"{plural(threads, 'thread')}: other threads of it computed as well"
            )
        if (elsewhere := self.busy_elsewhere) is None:
            if (self.load or 0) > self.cores + 0.5:
                found.append(f"this machine was busy before (load {self.load:.1f})")
        elif elsewhere > 0.25 and elsewhere + threads > self.cores_present - 0.25:
            busy = f"{elsewhere:.1f} of {self.cores_present} cores"
            found.append(f"other programs kept {busy} busy meanwhile")
        if stolen > 0.02:
            found.append(f"the host of this virtual machine took {stolen:.0%} of the time")
        if throttled > 0.01:
            found.append(f"the container's quota was used up {throttled:.0%} of the time")
        if self.cooled:
            found.append(f"the processor slowed down to cool, {self.cooled} times")
        before, after = self.clock_hz_before, self.clock_hz_after
        if before and after and after < 0.9 * before:
            found.append(f"the clock fell from {before / 1e9:.1f} to {after / 1e9:.1f} GHz")
        return tuple(found)


def reading(device: torch.device) -> Reading:
    """The machine's counters now; the clock is that of the device."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "steal", None)
    # Linux counts the time of its guests among user and nice, too.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return Reading(
        wall_s=time.perf_counter(),
        own_s=time.process_time(),
        busy_s=sum(times) - idle - (stolen or 0.0) - guests,
        stolen_s=stolen,
        throttled_s=_throttled_s(),
        cooled=next(iter(numbers_in(Path(THERMAL))), None),
        clock_hz=_clock_hz(device),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def between(before: Reading, after: Reading) -> Surroundings:
    """What else the machine did between the two readings."""
    wall = after.wall_s - before.wall_s
    present = os.cpu_count() or 1
    own = after.own_s - before.own_s
    others = (after.busy_s - before.busy_s) - own
    stolen, throttled = _gone(before.stolen_s, after.stolen_s), None
    if (gone := _gone(before.throttled_s, after.throttled_s)) is not None and wall > 0:
        throttled = min(1.0, gone / wall)
    return Surroundings(
        cores=cores_allowed(),
        cores_present=present,
        load=before.load,
        # These counters tick a hundred times a second: below half a second they say nothing.
        busy_elsewhere=min(max(0.0, others / wall), present) if wall > 0.5 else None,
        stolen_share=stolen / wall / present if stolen is not None and wall > 0.5 else None,
        throttled_share=throttled,
        cooled=None if after.cooled is None else after.cooled - (before.cooled or 0),
        clock_hz_before=before.clock_hz,
        clock_hz_after=after.clock_hz,
        runs_at_once=_runs_at_once(),
        busy_here=own / wall if wall > 0.5 else None,
    )


def _gone(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _runs_at_once() -> int:
    """How many notebooks a sweep runs at once here; 1 outside a sweep."""
    with suppress(KeyError, ValueError):
        return int(os.environ[PARALLEL])
    return 1


def _throttled_s(root: Path = CGROUPS) -> float | None:
    """Seconds for which a quota was used up, that of this process's control group or a parent."""
    per_second = {"throttled_usec": 1e6, "throttled_time": 1e9}  # in cgroup v2, and in v1
    pairs = ((group / "cpu.stat", name) for group in cpu_groups(root) for name in per_second)
    found = [(named_number(file, name), per_second[name]) for file, name in pairs]
    times_s = [number / per for number, per in found if number is not None]
    return sum(times_s) if times_s else None


def _clock_hz(device: torch.device) -> float | None:
    with suppress(Exception):  # each system and driver has its own way to say that it cannot tell
        return backend_of(device).clock_hz()
    return None


@contextmanager
def collector_held() -> Iterator[None]:
    """Within, Python does not collect reference cycles, which would pause the work now and then.

    Objects without references are still freed at once.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
