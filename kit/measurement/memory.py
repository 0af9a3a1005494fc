"""How much memory a call takes beyond what was in use, and how to make caches cold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch._C._profiler import _EventType

from kit.core.silence import without_stderr
from kit.devices import backend_of, last_cache_bytes

COLD_BYTES = 128_000_000  # more than the share of a last cache that one CPU core gets


def page_faults() -> float:
    """How many pages of memory this process has taken from the system; NaN if that is not known.

    A call that frees large results may give their memory back to the system. The next call then
    takes it again, page by page, and each page costs time (M_TRIM_THRESHOLD in mallopt(3)).
    """
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that one call had allocated at once, beyond what there was before it.

    CUDA's allocator counts them. On the CPU, PyTorch's profiler reports each allocation, and the
    result is the peak of their running sum. That is the memory of tensors: it leaves out Python
    objects and the libraries' own memory. Freeing earlier memory does not lower it. None if the
    device does not count, or while another profiler runs.

    >>> peak_bytes(lambda: torch.zeros(1_000), torch.device("cpu"))
    4000
    """
    backend = backend_of(device)
    if backend.counts_memory:
        backend.synchronise()
        # Only the growth counts: weights and inputs were there before.
        before = backend.allocated_bytes()
        backend.reset_peak()
        call()
        backend.synchronise()
        return backend.peak_bytes() - before
    if not backend.is_cpu or torch._C._autograd._profiler_enabled():
        return None  # a second profiler would end the one that is running
    from torch.autograd.profiler import profile

    # The profiler writes two lines to stderr.
    with without_stderr(), profile(profile_memory=True) as profiler:
        call()
    assert profiler.kineto_results is not None
    # Play back the allocations in order: the highest level of the sum is the peak.
    now = most = 0
    alive: set[int] = set()  # addresses: memory from before the call is also reported when freed
    for change in _allocations(profiler.kineto_results.experimental_event_tree()):
        # An address can be used again after it was freed, so a set of live ones is enough.
        if change.alloc_size > 0:
            alive.add(change.ptr)
        elif change.ptr not in alive:
            continue
        else:
            alive.remove(change.ptr)
        now += change.alloc_size
        most = max(most, now)
    return most


def _allocations(events: list[Any]) -> list[Any]:
    """The allocations, and the frees as negative numbers of bytes, in order of time."""
    found, waiting = [], list(events)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.typed[0] == _EventType.Allocation:
            found.append(event)
    return [event.typed[1] for event in sorted(found, key=lambda event: event.start_time_ns)]


class Flush:
    """Overwrites the device's caches, so that the next call does not find its data there."""

    def __init__(self, device: torch.device):
        # Twice the last cache, because a cache need not evict its oldest lines first. The limit
        # keeps a flush short; with a last cache above 128 MB, part of the data can stay warm.
        size = last_cache_bytes() if backend_of(device).is_cpu else None
        self.bytes = min(2 * size, COLD_BYTES) if size else COLD_BYTES
        self._buffer = torch.zeros(self.bytes // 4, device=device)

    def __call__(self) -> None:
        """Write to every byte of a buffer that is larger than the caches."""
        # An in-place addition reads and writes each byte: every line of the buffer is loaded and
        # evicts another one.
        self._buffer.add_(1)
