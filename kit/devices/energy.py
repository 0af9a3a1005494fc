"""Joules, where a counter can be read: of the processor (RAPL), of an NVIDIA GPU (NVML).

Most laptops, containers and virtual machines show no counter. Then it is None, never a guess:
a watt figure from a data sheet times seconds is not a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kit.devices.backends import backend_of


@dataclass
class Meter:
    """What was used between the two ends of a `metered` block."""

    of: str = ""  # whose joules: "processor (RAPL)", "GPU (NVML)"
    joules: float | None = None


@contextmanager
def metered(device: torch.device | str = "cpu") -> Iterator[Meter]:
    """A meter that holds, after the block, the joules that the device used in it.

    The processor's counter covers the whole package: other programs' work is in it, memory is
    mostly not. The device is waited for at both edges.

    >>> with metered() as meter:
    ...     _ = torch.ones(1000).sum()
    >>> meter.joules is None or meter.joules >= 0
    True
    """
    backend = backend_of(device)
    meter, counters = Meter(), backend.energy_counters()
    backend.synchronise()
    before = [read() for read, _ in counters]
    yield meter
    backend.synchronise()
    if counters:
        used = [read() - b for (read, _), b in zip(counters, before, strict=True)]
        wrapped = [u + wrap if u < 0 else u for u, (_, wrap) in zip(used, counters, strict=True)]
        meter.joules = sum(wrapped)
        meter.of = backend.energy_source
