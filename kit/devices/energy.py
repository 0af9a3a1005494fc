"""Joules, where a counter can be read: of the processor (RAPL), of an NVIDIA GPU (NVML).

Most laptops, containers and virtual machines show no counter. Then it is None, never a guess:
a watt figure from a data sheet times seconds is not a measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from kit.devices.selection import synchronise

POWERCAP = Path("/sys/class/powercap")


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
    device = torch.device(device)
    meter, counters = Meter(), _counters(device)
    synchronise(device)
    before = [read() for read, _ in counters]
    yield meter
    synchronise(device)
    if counters:
        used = [read() - b for (read, _), b in zip(counters, before, strict=True)]
        wrapped = [u + wrap if u < 0 else u for u, (_, wrap) in zip(used, counters, strict=True)]
        meter.joules = sum(wrapped)
        meter.of = "GPU (NVML)" if device.type == "cuda" else "processor (RAPL)"


def _counters(device: torch.device) -> list[tuple[Callable[[], float], float]]:
    """Ways to read joules that only grow, each with where it starts again from zero."""
    if device.type == "cuda":
        return _nvml(device)
    return _rapl() if device.type == "cpu" else []


def _rapl() -> list[tuple[Callable[[], float], float]]:
    """One counter per processor package; newer kernels show them to root alone."""
    found: list[tuple[Callable[[], float], float]] = []
    for package in sorted(POWERCAP.glob("intel-rapl:?")):  # also AMD's, in spite of the name
        with suppress(OSError, ValueError):
            counter = partial(_micro, package / "energy_uj")
            counter()
            found.append((counter, _micro(package / "max_energy_range_uj")))
    return found


def _micro(file: Path) -> float:
    """What a file tells in millionths, in whole units."""
    return 1e-6 * int(file.read_text())


def _nvml(device: torch.device) -> list[tuple[Callable[[], float], float]]:
    """The GPU's own counter, if NVIDIA's library for Python is here."""
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no such library, driver or counter: all mean that it cannot be read
        return []
    return [(lambda: 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0.0)]
