"""Where the computing happens: pick a device, describe the machine, synchronise, seed.

A computer is what one is *allowed* to use of it: a container's quota and memory limit and the
process's affinity count, not what the box has inside.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kit.errors import BadValue, DeviceUnavailable
from kit.figures import Table
from kit.results import Result
from kit.units import words

CGROUPS = Path("/sys/fs/cgroup")
KNOWN_WRONG = {"mps"}  # backends that have returned wrong numbers without an error


def device(name: str | torch.device | None = None, *, threads: int | None = None) -> torch.device:
    """The device to compute on: the best one here, or the one asked for.

    Also sets how many threads PyTorch uses on the CPU, see `calm_threads`.

    Parameters
    ----------
    name
        "cuda", "mps", "xpu", "cpu", with an index if there are many; None or "auto" takes the
        best present.
    threads
        CPU threads; None takes `calm_threads()`.

    Raises
    ------
    DeviceUnavailable
        The device is not here, or fails the parity check: what was asked, what is present.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')

    Explained in lesson 00.
    """
    present = present_devices()
    wanted = present[0] if name in (None, "auto") else _parse(name, present)
    if wanted.type not in {d.type for d in present}:
        raise DeviceUnavailable(
            f"asked for {wanted.type!r}; present here: {', '.join(d.type for d in present)}. "
            f"Use kit.device() for the best of these."
        )
    if wanted.type != "cpu" and (wanted.index or 0) >= torch.accelerator.device_count():
        count = torch.accelerator.device_count()
        raise DeviceUnavailable(
            f"asked for {str(wanted)!r}; there are {count} of them, numbered from 0."
        )
    if wanted.type in KNOWN_WRONG and not agrees_with_cpu(wanted):
        if name not in (None, "auto"):
            raise DeviceUnavailable(
                f"asked for {wanted.type!r}, but it returns numbers that differ from the CPU's. "
                f"Use kit.device('cpu'), or a newer PyTorch or operating system."
            )
        wanted = torch.device("cpu")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise BadValue(f"threads={threads!r}: needs a whole number of at least 1.")
    torch.set_num_threads(threads or calm_threads())
    return wanted


def _parse(name: str | torch.device | None, present: list[torch.device]) -> torch.device:
    try:
        return torch.device(name)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as error:
        raise DeviceUnavailable(
            f"asked for {name!r}, which is no device; present here: "
            f"{', '.join(d.type for d in present)}."
        ) from error


def present_devices() -> list[torch.device]:
    """The devices of this computer, the best first; the CPU is always there."""
    cpu = torch.device("cpu")
    if not torch.accelerator.is_available():
        return [cpu]
    best = torch.accelerator.current_accelerator()
    return [best, cpu] if best is not None else [cpu]


def agrees_with_cpu(candidate: torch.device) -> bool:
    """Whether a device gives the CPU's answers on a small network, forward and backward.

    A second's work: a matmul, a convolution and a softmax with their gradients, non-contiguous
    input included, which is where wrong kernels have been found.
    """

    def answers(where: torch.device) -> list[torch.Tensor]:
        make = torch.Generator().manual_seed(0)
        image = torch.randn(4, 3, 12, 12, generator=make).transpose(2, 3).to(where)
        kernel = torch.randn(8, 3, 3, 3, generator=make).to(where).requires_grad_()
        weight = torch.randn(10, 8 * 10 * 10, generator=make).to(where).requires_grad_()
        hidden = torch.nn.functional.conv2d(image, kernel).relu().flatten(1)
        output = (hidden @ weight.T / 30).softmax(1)
        output[:, 0].sum().backward()
        return [t.detach().cpu() for t in (output, kernel.grad, weight.grad) if t is not None]

    pairs = zip(answers(candidate), answers(torch.device("cpu")), strict=True)
    return all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def synchronise(where: torch.device | str) -> None:
    """Wait until the device has done all it was given; nothing to wait for on the CPU.

    Accelerators work through a queue: a call returns when the work is *noted*. A clock that is
    read without waiting times the noting. This is the kit's one place that waits.
    """
    if torch.device(where).type != "cpu":
        torch.accelerator.synchronize(torch.device(where))


def seed(n: int) -> None:
    """Seed Python, NumPy and PyTorch, on every device."""
    if type(n) is not int or not 0 <= n < 2**32:
        raise BadValue(f"seed {n!r}: needs a whole number from 0 to 2**32 - 1.")
    random.seed(n)
    torch.manual_seed(n)
    np.random.seed(n)


def calm_threads() -> int:
    """How many threads PyTorch can use on the CPU without stalling: one fewer than it may.

    Threads of one operation wait for each other at its end. If another program holds one core,
    each operation lasts until the last thread has got its turn: on two shared cores that made
    small operations tens of times slower. So one allowed core stays free.
    """
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, int(min(physical, cores_allowed())) - 1)


def cores_allowed(root: Path = CGROUPS) -> float:
    """Cores that this process may use: the least of affinity and container quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min([float(affinity or 1), *_quotas(root)])


def memory_allowed(root: Path = CGROUPS) -> int:
    """Bytes of memory that this process may use: the least of installed and container limit."""
    return min([_memory_present(), *_memory_limits(root)])


def _memory_present() -> int:
    import psutil  # here, because most programs that import the kit never ask

    return int(psutil.virtual_memory().total)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and its parents (cgroup v2, then v1)."""
    own: dict[Path, str] = {root: "", root / controller: ""}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names == "":
                own[root] = path.strip("/")
            elif controller in names.split(","):
                own[root / controller] = path.strip("/")
    for base, path in own.items():
        yield from (base / part for part in [Path(path), *Path(path).parents])


def _numbers(file: Path) -> list[int] | None:
    """The whole numbers in a control file; None where there is no file or it says 'max'."""
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return None


def _quotas(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        pair = _numbers(group / "cpu.max")  # v2: "200000 100000" or "max 100000"
        quota, period = (_numbers(group / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
        if pair:
            yield pair[0] / pair[1]
        elif quota and period and quota[0] > 0:
            yield quota[0] / period[0]


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _numbers(group / name)
            if limit:
                yield limit[0]


@dataclass(frozen=True)
class Machine(Result):
    """What this computer is, and what of it this process may use."""

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
            f"PyTorch {self.torch} with {self.threads} thread{'s' * (self.threads > 1)}"
        )

    def table(self) -> Table:
        """What people see."""
        accelerator = self.accelerator or "none: everything here runs on the CPU"
        if self.accelerator_memory_bytes:
            accelerator += f", {words(self.accelerator_memory_bytes, 'B')}"
        rows = [
            ("processor", self.cpu),
            ("cores allowed", f"{words(self.cores_allowed)} of {self.cores_present}"),
            (
                "memory allowed",
                f"{words(self.memory_allowed_bytes, 'B')} "
                f"of {words(self.memory_present_bytes, 'B')}",
            ),
            ("accelerator", accelerator),
            ("wide instructions", ", ".join(self.instructions) or "—"),
            ("threads for PyTorch", str(self.threads)),
            ("programs running now", "—" if self.load is None else f"{self.load:.1f} (load)"),
            ("software", f"PyTorch {self.torch}, Python {self.python}, {self.system}"),
        ]
        return Table(("this machine", ""), rows)

    def to_dict(self) -> dict[str, Any]:
        """The raw facts."""
        return asdict(self)


def machine() -> Machine:
    """What this computer is: processor, cores and memory *allowed*, accelerator, software.

    Explained in lesson 00.
    """
    best = present_devices()[0]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        cpu=_cpu_model(),
        cores_present=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        memory_present_bytes=_memory_present(),
        memory_allowed_bytes=memory_allowed(),
        accelerator=None if best.type == "cpu" else _accelerator_name(best),
        accelerator_memory_bytes=_accelerator_memory(best),
        threads=torch.get_num_threads(),
        instructions=_instructions(),
        load=load,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
    )


def _cpu_model() -> str:
    with suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        with suppress(OSError):
            ask = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def _instructions() -> tuple[str, ...]:
    """The instruction sets that decide which dtypes are quick here."""
    found = [torch.backends.cpu.get_cpu_capability()]
    with suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text().split())
        telling = ("avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16")
        found += [flag for flag in telling if flag in flags]
    return tuple(found)


def _accelerator_name(where: torch.device) -> str:
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    if where.type == "xpu":
        return str(torch.xpu.get_device_name(where))
    return f"{_cpu_model()} ({where.type})"


def _accelerator_memory(where: torch.device) -> int | None:
    if where.type == "cuda":
        return torch.cuda.get_device_properties(where).total_memory
    return None
