"""How much memory a call takes beyond what was there, and how to make caches cold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C._profiler import _EventType

from kit.core.silence import without_stderr
from kit.devices import backend_of, last_cache_bytes

COLD_BYTES = 128_000_000  # as much as a CPU core can hope for of the last cache, and more


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that one call had allocated at once, beyond what there was before it.

    CUDA's allocator counts them. On the CPU the number is the running sum of what PyTorch's
    profiler saw allocated and freed: what tensors hold. The memory that libraries take for
    themselves and Python's objects are not in it, and what the call frees of earlier memory is
    not taken off. None if the device does not say, or while another profiler runs.
    """
    backend = backend_of(device)
    if backend.counts_memory:
        backend.synchronise()
        before = backend.allocated_bytes()
        backend.reset_peak()
        call()
        backend.synchronise()
        return backend.peak_bytes() - before
    if not backend.is_cpu or torch._C._autograd._profiler_enabled():
        return None  # two profilers at once would end the one that somebody has started
    from torch.autograd.profiler import profile

    # It writes two lines to the process's stderr, which nobody needs.
    with without_stderr(), profile(profile_memory=True) as profiler:
        call()
    assert profiler.kineto_results is not None
    now = most = 0
    alive: set[int] = set()  # addresses: what an earlier profile saw is reported when it is freed
    for change in _allocations(profiler.kineto_results.experimental_event_tree()):
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
    """What the profiler saw allocated and freed (fewer bytes than 0), in the order of time."""
    found, waiting = [], list(events)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.typed[0] == _EventType.Allocation:
            found.append(event)
    return [event.typed[1] for event in sorted(found, key=lambda event: event.start_time_ns)]


class Flush:
    """Overwrites the device's caches, so that the next call finds none of its data there."""

    def __init__(self, device: torch.device):
        size = last_cache_bytes() if backend_of(device).is_cpu else None
        self.bytes = min(2 * size, COLD_BYTES) if size else COLD_BYTES
        self._buffer = torch.zeros(self.bytes // 4, device=device)

    def __call__(self) -> None:
        """Touch every byte of a buffer that no cache has room for."""
        self._buffer.add_(1)
