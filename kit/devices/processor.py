"""What the operating system says about the processor: model, instructions, caches, energy."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
# What processors call their instructions for float16: x86, AMX, ARM.
FLOAT16 = ("avx512_fp16", "amx_fp16", "fp16_arith")
# The instruction sets that decide which dtypes are fast.
WIDE = ("avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16")

CACHE_FILES = ("level", "type", "size", "shared_cpu_list")  # in Linux' folder of each cache


def model() -> str:
    """The name that the maker gave it."""
    with suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        with suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def instructions() -> tuple[str, ...]:
    """The instruction sets that decide which dtypes are fast, PyTorch's choice first."""
    found = [torch.backends.cpu.get_cpu_capability()]
    with suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text().split())
        found += [flag for flag in WIDE if flag in flags]
    return tuple(found)


def multiplies_float16() -> bool:
    """Whether it has instructions for float16."""
    known: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in FLOAT16)


def last_cache_bytes(root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Bytes of its largest cache; None if the system does not say."""
    sizes = []
    for file in root.glob("cpu*/cache/index*/size"):
        with suppress(OSError, ValueError):
            sizes.append(1024 * int(file.read_text().strip().removesuffix("K")))
    return max(sizes, default=None)


def cache_bytes(
    threads: int, root: Path = Path("/sys/devices/system/cpu")
) -> tuple[int, int] | None:
    """Bytes that the caches of these threads can hold: those of the cores, and all of them.

    At most: each thread may run beside caches of its own. None if the system does not say.
    """
    levels: dict[int, dict[str, int]] = {}  # level -> cores that share a cache -> its bytes
    for index in root.glob("cpu*/cache/index*"):
        with suppress(OSError, ValueError):
            read = {name: (index / name).read_text().strip() for name in CACHE_FILES}
            if read["type"] != "Instruction":
                caches = levels.setdefault(int(read["level"]), {})
                caches[read["shared_cpu_list"]] = 1024 * int(read["size"].removesuffix("K"))
    held = [sum(sorted(levels[n].values())[-threads:]) for n in sorted(levels)]
    return (sum(held[:-1]), sum(held)) if len(held) > 1 else None


def rapl_counters() -> list[tuple[Callable[[], float], float]]:
    """Per package, a function that reads joules, and the value at which they wrap to zero.

    Newer Linux kernels let only root read them. (Intel's "running average power limit"; AMD's
    processors have it too, and Linux lists them under the same name.)
    """
    found: list[tuple[Callable[[], float], float]] = []
    for package in sorted(POWERCAP.glob("intel-rapl:?")):
        with suppress(OSError, ValueError):
            counter = partial(_from_millionths, package / "energy_uj")
            counter()
            found.append((counter, _from_millionths(package / "max_energy_range_uj")))
    return found


def _from_millionths(file: Path) -> float:
    return 1e-6 * int(file.read_text())
