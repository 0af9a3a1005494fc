"""What of this computer the process may use: affinity, container quota and memory limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cores_allowed(root: Path = CGROUPS) -> float:
    """Cores that this process may use: the least of affinity and container quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min([float(affinity or 1), *_quotas(root)])


def memory_allowed(root: Path = CGROUPS) -> int:
    """Bytes of memory that this process may use: the least of installed and container limit."""
    return min([memory_present(), *_memory_limits(root)])


def memory_present() -> int:
    """Bytes of memory that are installed."""
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
