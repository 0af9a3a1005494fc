"""From examples to batches on a device, a chunk at a time: no epoch is copied at once.

Shapes: N examples, B batch, K examples of a chunk: several full batches.

computing on    the examples                    a chunk is
CPU, others     anywhere                        taken from them; a batch is a view of it
CUDA, XPU       in memory, small beside the     taken on the GPU, where they were moved once
                GPU's
CUDA, XPU       larger, or windows over a file  copied there while the one before it is computed on
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Pair = tuple[Tensor, Tensor]  # inputs (N, …) and targets (N, …)
Indices = slice | Tensor  # which examples: a range as they are stored, or (K,) int64
Asked = TypeVar("Asked")
Begun = TypeVar("Begun")
Done = TypeVar("Done")

# The limits of a chunk: enough batches to share its cost of about 20 µs; few enough bytes to stay
# in the CPU's cache, and to be gathered before a GPU has done the work in its queue.
MOST_BATCHES, MOST_BYTES = 64, 4_000_000
SHUFFLED_AT_ONCE = 2**23  # examples: their order takes 67 MB
SHARE = 0.1  # of a GPU's free memory: the most that examples may occupy for good


def feed(parts: Pair, batch_size: int, device: torch.device, seed: int | None) -> Iterator[Pair]:
    """Batches (B, …) and (B, …) on the device; for the order see `Split.batches`.

    This is the first of the two iterators that a batch passes through. The second, in
    `kit.training.setup`, goes on from epoch to epoch.
    """
    each = chunk_size(parts, batch_size)
    indices = in_order(len(parts[0]), each)
    if seed is not None:
        indices = shuffled(len(parts[0]), batch_size, each, seed)
    chunks = chunks_on_gpu if streams_of(device) else chunks_by_turns
    for inputs, targets in chunks(parts, indices, device):
        yield from zip(cut(inputs, batch_size), cut(targets, batch_size), strict=True)


def cut(chunk: Tensor, batch_size: int) -> Sequence[Tensor]:
    """The batches of a chunk, as views; a chunk of full batches is cut three times as fast."""
    if len(chunk) % batch_size:
        return chunk.split(batch_size)
    return chunk.unflatten(0, (-1, batch_size)).unbind()


def chunk_size(parts: Pair, batch_size: int) -> int:
    """K: as many full batches as both limits allow, at least one."""
    example_bytes = sum(as_tokens(part[:1]).nbytes for part in parts)
    fitting = MOST_BYTES // max(1, batch_size * example_bytes)
    return batch_size * max(1, min(MOST_BATCHES, fitting))


# --- Which examples ------------------------------------------------------------------------------


def in_order(n: int, each: int) -> Iterator[Indices]:
    """All of n examples as they are stored, in chunks."""
    return (slice(first, first + each) for first in range(0, n, each))


def shuffled(n: int, batch_size: int, each: int, seed: int) -> Iterator[Indices]:
    """Full batches of n examples in an order that the seed decides, in chunks.

    More than `SHUFFLED_AT_ONCE` examples are shuffled in stretches, and the stretches are shuffled
    too. So the order takes memory that does not grow with n, and a file is read one stretch at a
    time.
    """
    stretch = max(batch_size, SHUFFLED_AT_ONCE - SHUFFLED_AT_ONCE % batch_size)
    firsts = range(0, n - n % batch_size, stretch)
    shuffle = torch.Generator().manual_seed(int(seed) % 2**63)  # any integer is a seed
    for i in torch.randperm(len(firsts), generator=shuffle).tolist():  # one stretch draws nothing
        size = min(stretch, n - firsts[i])
        indices = torch.randperm(size, generator=shuffle)[: size - size % batch_size]
        yield from indices.add_(firsts[i]).split(each)


def taken(part: Tensor, indices: Indices) -> Tensor:
    """These examples: a view of a range, a copy of others."""
    return part[indices] if isinstance(indices, slice) else part.index_select(0, indices)


def as_tokens(part: Tensor) -> Tensor:
    """Bytes as the int64 that models take; other tensors unchanged. Texts are stored as bytes."""
    return part.long() if part.dtype == torch.uint8 else part


# --- To the device -------------------------------------------------------------------------------


def chunks_by_turns(
    parts: Pair, indices: Iterable[Indices], device: torch.device
) -> Iterator[list[Tensor]]:
    """Chunks on the device, each gathered when it is needed."""
    for chunk in indices:
        yield [as_tokens(taken(part, chunk).to(device)) for part in parts]


def chunks_on_gpu(
    parts: Pair, indices: Iterable[Indices], device: torch.device
) -> Iterator[list[Tensor]]:
    """Chunks on a GPU; after the first, nothing waits for the device."""
    device = torch.empty(0, device=device).device  # "cuda" with its number
    there = resident(parts, device, lambda: streams_of(device).mem_get_info(device)[0])
    if there is None:
        return ahead(indices, lambda chunk: sent(parts, chunk, device), arrived)
    near = (
        pinned(c).to(device, non_blocking=True) if isinstance(c, Tensor) else c for c in indices
    )
    return ([as_tokens(taken(part, chunk)) for part in there] for chunk in near)


def ahead(
    asked: Iterable[Asked], begin: Callable[[Asked], Begun], finish: Callable[[Begun], Done]
) -> Iterator[Done]:
    """Prefetching: each result in turn, with the next one begun before a result is handed out."""
    under_way: deque[Begun] = deque()
    for each in asked:
        under_way.append(begin(each))
        if len(under_way) == 2:
            yield finish(under_way.popleft())
    yield from map(finish, under_way)


@cache
def streams_of(device: torch.device) -> Any:
    """PyTorch's module for a device that copies while it computes; None for other devices.

    PyTorch has one module per type of device. Those with streams also know the free memory.
    """
    try:
        module = torch.get_device_module(device)
    except RuntimeError:  # a type without a module, such as "meta"
        return None
    return module if hasattr(module, "mem_get_info") else None


@cache
def copying(device: torch.device) -> torch.Stream:
    """The stream in which a GPU copies, beside the one in which it computes."""
    return streams_of(device).Stream(device)


def sent(parts: Pair, indices: Indices, device: torch.device) -> tuple[list[Tensor], torch.Event]:
    """A chunk on its way to the device, and the event of its arrival."""
    with streams_of(device).stream(copying(device)):
        waiting = [pinned(taken(part, indices)) for part in parts]
        chunk = [as_tokens(part.to(device, non_blocking=True)) for part in waiting]
        return chunk, copying(device).record_event()


def arrived(way: tuple[list[Tensor], torch.Event]) -> list[Tensor]:
    """The chunk, complete for what is computed from now on: the GPU waits for it, not Python."""
    chunk, arrival = way
    here = streams_of(chunk[0].device).current_stream(chunk[0].device)
    here.wait_event(arrival)
    for part in chunk:
        part.record_stream(here)  # else its memory could be reused while the GPU still reads it
    return chunk


def pinned(part: Tensor) -> Tensor:
    """A copy in pinned memory, which a GPU can fetch by itself while Python goes on."""
    # Not `part.pin_memory()`: it would pin overlapping windows as they are, and not copy them.
    return torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part)


# --- What stays on a GPU -------------------------------------------------------------------------

# Tensor -> its version and its copy on a GPU; both are dropped when the tensor is.
_MOVED = WeakTensorKeyDictionary()


def resident(
    parts: Pair, device: torch.device, free_bytes: Callable[[], int]
) -> list[Tensor] | None:
    """The parts on the device, moved once; None if they would take too much of its free memory.

    Overlapping windows of a text are not moved either: copied out, they would be many times as
    large as the text.
    """
    missing = [part for part in parts if not is_moved(part, device)]
    if not all(part.is_contiguous() for part in missing):
        return None
    if missing and sum(part.nbytes for part in missing) > SHARE * free_bytes():
        return None
    with torch.inference_mode(False):  # training must be able to use them too
        for part in missing:
            _MOVED[part] = version(part), part.to(device)
    return [_MOVED[part][1] for part in parts]


def is_moved(part: Tensor, device: torch.device) -> bool:
    """Whether the device has this tensor in its present version: it may have changed in place."""
    known, copy = _MOVED.get(part, (None, part))
    return known == version(part) and copy.device == device


def version(part: Tensor) -> int:
    """How often the tensor was changed in place; PyTorch does not count in inference mode."""
    return 0 if part.is_inference() else part._version
