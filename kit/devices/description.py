"""A description of this computer, in words and numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.core.results import Result
from kit.core.units import words
from kit.devices import processor
from kit.devices.backends import backend_of
from kit.devices.resource_limits import cores_allowed, memory_allowed, memory_present, process_bytes
from kit.devices.selection import present_devices
from kit.plots import Table


@dataclass(frozen=True)
class Machine(Result):
    """What this computer has, and what this process may use of it."""

    cpu: str
    cores_present: int
    cores_allowed: float
    memory_present_bytes: int
    memory_allowed_bytes: int
    accelerator: str | None
    accelerator_memory_bytes: int | None
    threads: int
    instructions: tuple[str, ...]
    load: float | None
    system: str
    python: str
    torch: str

    def __repr__(self) -> str:
        return (
            f"{self.cpu}, {words(self.cores_allowed)} of {self.cores_present} cores, "
            f"{words(self.memory_allowed_bytes, 'B')}, {self.accelerator or 'no accelerator'}, "
            f"PyTorch {self.torch}"
        )

    def table(self) -> Table:
        """The table that a notebook shows."""
        accelerator = self.accelerator or "none: everything here runs on the CPU"
        if self.accelerator_memory_bytes:
            accelerator += f", {words(self.accelerator_memory_bytes, 'B')}"
        memory = (self.memory_allowed_bytes, self.memory_present_bytes)
        rows = [
            ("processor", self.cpu),
            ("cores allowed", f"{words(self.cores_allowed)} of {self.cores_present}"),
            ("memory allowed", " of ".join(words(n_bytes, "B") for n_bytes in memory)),
            ("accelerator", accelerator),
            ("wide instructions", ", ".join(self.instructions) or "—"),
            ("threads for PyTorch", str(self.threads)),
            ("programs running, on average", "—" if self.load is None else f"{self.load:.1f}"),
            ("software", f"PyTorch {self.torch}, Python {self.python}, {self.system}"),
        ]
        return Table(("this machine", ""), rows)

    def to_dict(self) -> dict[str, Any]:
        """All fields, in base units."""
        return asdict(self)


def machine() -> Machine:
    """A description of this computer: processor, *allowed* cores and memory, accelerator, software.

    Explained in lesson 00.
    """
    best = backend_of(present_devices()[0])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        cpu=processor.model(),
        cores_present=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        memory_present_bytes=memory_present(),
        memory_allowed_bytes=memory_allowed(),
        accelerator=None if best.is_cpu else best.name,
        accelerator_memory_bytes=best.memory_bytes,
        threads=torch.get_num_threads(),
        instructions=processor.instructions(),
        load=load,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
    )


def process_peak_bytes() -> int:
    """The most resident memory that this process has had since it started.

    On Linux it is the kernel's own record, because `getrusage` there may report the process that
    started this one. Measure in a fresh process: everything that it did before counts.

    Explained in lesson 05.
    """
    if most := process_bytes("VmHWM"):
        return most
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # others report kilobytes


def peak_bytes_of(program: str) -> int:
    """The most memory that a fresh Python process has had at the end of the program.

    >>> peak_bytes_of("import torch") > 50e6
    True

    Explained in lesson 05.
    """
    telling = f"{program}\nfrom kit.devices import process_peak_bytes as most\nprint(most())"
    printed = subprocess.check_output([sys.executable, "-c", telling], text=True)
    return int(printed.split()[-1])
