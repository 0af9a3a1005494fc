"""Energy in joules, from the counters of the processor (RAPL) or an NVIDIA GPU (NVML).

Most laptops, containers and virtual machines have no readable counter. Then the result is None,
never a guess: watts from a data sheet times seconds are not a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kit.devices.backends import backend_of


@dataclass
class Meter:
    """The energy used in a `metered` block."""

    of: str = ""  # what was measured: "processor (RAPL)", "GPU (NVML)"
    joules: float | None = None


@contextmanager
def metered(device: torch.device | str = "cpu") -> Iterator[Meter]:
    """A meter that holds, after the block, the joules that the device used in it.

    The processor's counter covers the whole package. It includes the work of other programs, but
    mostly not the memory. The block waits for the device at both edges.

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
