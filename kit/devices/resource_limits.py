"""What this process may use of the computer: affinity, container quota and memory limit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from kit.core.errors import CallFailed

CGROUPS = Path("/sys/fs/cgroup")


def cores_allowed(root: Path = CGROUPS) -> float:
    """Cores that this process may use: the smaller of affinity and container quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min([float(affinity or 1), *_quotas(root)])


def memory_allowed(root: Path = CGROUPS) -> int:
    """Bytes of memory that this process may use: the smaller of installed and container limit."""
    groups, names = _groups(root, "memory"), ("memory.max", "memory.limit_in_bytes")
    limits = (numbers_in(group / name) for group in groups for name in names)
    return min([memory_present(), *chain.from_iterable(limits)])


def memory_left(root: Path = CGROUPS) -> int:
    """Bytes that this process may still allocate: what system, container and `ulimit` leave."""
    import psutil

    left = [int(psutil.virtual_memory().available)]
    if (own := _data_left()) is not None:
        left.append(own)
    for group in _groups(root, "memory"):
        for limit, usage, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            allowed, used = numbers_in(group / limit), numbers_in(group / usage)
            if allowed and used:
                # Linux frees the bytes that cache files as soon as a program needs memory.
                cached = named_number(group / "memory.stat", files) or 0
                left.append(allowed[0] - used[0] + cached)
    return max(0, min(left))


def _data_left() -> int | None:
    """What `ulimit -d` leaves to this process; None without such a limit, or outside Linux."""
    taken = process_bytes("VmData")
    if taken is None:
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if soft == resource.RLIM_INFINITY else soft - taken


@contextmanager
def memory_guard() -> Iterator[None]:
    """Within, an allocation that exceeds the memory left raises an error.

    Linux grants more memory than there is, and kills the process that then uses it. A limit on
    this process's data, lifted afterwards, makes the allocation itself fail. Other systems refuse
    by themselves, or offer no such limit.
    """
    taken = process_bytes("VmData")  # private, writable memory, which the limit is about
    if taken is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = taken + memory_left()
    limit = allowed if soft == resource.RLIM_INFINITY else min(soft, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def process_bytes(name: str) -> int | None:
    """Bytes that Linux counts for this process under that name; None on other systems."""
    kilobytes = named_number(Path("/proc/self/status"), name)
    return None if kilobytes is None else 1024 * kilobytes


def out_of_memory(error: BaseException | None) -> bool:
    """Whether the error, or its cause, means that memory ran out, on any device."""
    import torch

    if isinstance(error, CallFailed):
        return out_of_memory(error.__cause__)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error)
        for sign in ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    )


def memory_present() -> int:
    """Bytes of memory that are installed."""
    import psutil  # here, because most programs never need it

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


def numbers_in(file: Path) -> list[int]:
    """The integers in one of the kernel's files; none if there is no file or it says 'max'."""
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return []


def named_number(file: Path, name: str) -> int | None:
    """The number in a line like "VmData:  1204 kB"; None if there is no file or no such line."""
    with suppress(OSError):
        found = re.search(rf"^{name}:?\s+(\d+)", file.read_text(), re.MULTILINE)
        return int(found[1]) if found else None
    return None


def cpu_groups(root: Path = CGROUPS) -> Iterator[Path]:
    """The control groups that limit this process's processor time, its own first."""
    return _groups(root, "cpu")


def _quotas(root: Path) -> Iterator[float]:
    for group in cpu_groups(root):
        pair = numbers_in(group / "cpu.max")  # v2: "200000 100000" or "max 100000"
        quota, period = (numbers_in(group / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
        if pair:
            yield pair[0] / pair[1]
        elif quota and period and quota[0] > 0:
            yield quota[0] / period[0]
