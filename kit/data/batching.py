"""From examples to batches on a device, a chunk at a time: no epoch is copied whole.

Shapes: N examples, B batch, K examples of a chunk: some whole batches.

computing on  the examples                    a chunk is
CPU, others   anywhere                        taken from them; a batch is a view of it
CUDA          in memory, small beside the     taken on the GPU, where they were moved once
              GPU's
CUDA          larger, or windows over a file  copied there while the one before it is computed on
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Pair = tuple[Tensor, Tensor]  # inputs (N, …) and targets (N, …)
Places = slice | Tensor  # which examples: neighbours as they are stored, or (K,) int64
Asked = TypeVar("Asked")
Begun = TypeVar("Begun")
Done = TypeVar("Done")

# Of a chunk: enough batches to share its cost of some 20 µs; few bytes, which caches hold, and
# which are gathered before a GPU has run out of the work that was queued for it.
MOST_BATCHES, MOST_BYTES = 64, 4_000_000
SHUFFLED_AT_ONCE = 2**23  # examples: their order takes 67 MB
SHARE = 0.1  # of a GPU's free memory: what examples may take for good


def feed(parts: Pair, batch_size: int, device: torch.device, seed: int | None) -> Iterator[Pair]:
    """Batches (B, …) and (B, …) on the device; `Split.batches` says in which order."""
    each = chunk_size(parts, batch_size)
    places = in_order(len(parts[0]), each)
    if seed is not None:
        places = shuffled(len(parts[0]), batch_size, each, seed)
    chunks = chunks_on_gpu if device.type == "cuda" else chunks_by_turns
    for inputs, targets in chunks(parts, places, device):
        yield from zip(cut(inputs, batch_size), cut(targets, batch_size), strict=True)


def cut(chunk: Tensor, batch_size: int) -> Sequence[Tensor]:
    """The batches of a chunk, views of it; whole ones are cut three times as fast."""
    if len(chunk) % batch_size:
        return chunk.split(batch_size)
    return chunk.unflatten(0, (-1, batch_size)).unbind()


def chunk_size(parts: Pair, batch_size: int) -> int:
    """K: as many whole batches as both limits allow, at least one."""
    example_bytes = sum(as_tokens(part[:1]).nbytes for part in parts)
    fitting = MOST_BYTES // max(1, batch_size * example_bytes)
    return batch_size * max(1, min(MOST_BATCHES, fitting))


# --- Which examples ------------------------------------------------------------------------------


def in_order(n: int, each: int) -> Iterator[Places]:
    """All of n examples as they are stored, in chunks."""
    return (slice(first, first + each) for first in range(0, n, each))


def shuffled(n: int, batch_size: int, each: int, seed: int) -> Iterator[Places]:
    """Whole batches of n examples in the seed's order, in chunks.

    More than `SHUFFLED_AT_ONCE` are shuffled by stretches, which come in an order of their own:
    then the order needs no memory that grows with n, and the disk reads one stretch of a file.
    """
    stretch = max(batch_size, SHUFFLED_AT_ONCE - SHUFFLED_AT_ONCE % batch_size)
    firsts = range(0, n - n % batch_size, stretch)
    shuffle = torch.Generator().manual_seed(int(seed) % 2**63)  # any whole number is a seed
    for i in torch.randperm(len(firsts), generator=shuffle).tolist():  # of one, nothing is drawn
        size = min(stretch, n - firsts[i])
        places = torch.randperm(size, generator=shuffle)[: size - size % batch_size]
        yield from places.add_(firsts[i]).split(each)


def taken(part: Tensor, places: Places) -> Tensor:
    """These examples: a view of neighbours, a copy of others."""
    return part[places] if isinstance(places, slice) else part.index_select(0, places)


def as_tokens(part: Tensor) -> Tensor:
    """Bytes, which are kept small, as the int64 that models take; others as they are."""
    return part.long() if part.dtype == torch.uint8 else part


# --- To the device -------------------------------------------------------------------------------


def chunks_by_turns(
    parts: Pair, places: Iterable[Places], device: torch.device
) -> Iterator[list[Tensor]]:
    """Chunks on the device, each taken when it is asked for."""
    for chunk in places:
        yield [as_tokens(taken(part, chunk).to(device)) for part in parts]


def chunks_on_gpu(
    parts: Pair, places: Iterable[Places], device: torch.device
) -> Iterator[list[Tensor]]:
    """Chunks on a CUDA device; after the first, none waits for the device."""
    device = torch.empty(0, device=device).device  # "cuda" is one of several: this one
    there = resident(parts, device, lambda: torch.cuda.mem_get_info(device)[0])
    if there is None:
        return ahead(places, lambda chunk: sent(parts, chunk, device), arrived)
    near = (pinned(c).to(device, non_blocking=True) if isinstance(c, Tensor) else c for c in places)
    return ([as_tokens(taken(part, chunk)) for part in there] for chunk in near)


def ahead(
    asked: Iterable[Asked], begin: Callable[[Asked], Begun], finish: Callable[[Begun], Done]
) -> Iterator[Done]:
    """What was begun, finished one after another; the next has begun before one is given."""
    under_way: deque[Begun] = deque()
    for each in asked:
        under_way.append(begin(each))
        if len(under_way) == 2:
            yield finish(under_way.popleft())
    yield from map(finish, under_way)


@cache
def copying(device: torch.device) -> torch.cuda.Stream:
    """The queue in which a GPU copies, beside the one in which it computes."""
    return torch.cuda.Stream(device)


def sent(
    parts: Pair, places: Places, device: torch.device
) -> tuple[list[Tensor], torch.cuda.Event]:
    """A chunk on its way to the device, and the event of its arrival."""
    with torch.cuda.stream(copying(device)):
        waiting = [pinned(taken(part, places)) for part in parts]
        chunk = [as_tokens(part.to(device, non_blocking=True)) for part in waiting]
        return chunk, copying(device).record_event()


def arrived(way: tuple[list[Tensor], torch.cuda.Event]) -> list[Tensor]:
    """The chunk, which what is computed from now on finds whole: the GPU waits, not we."""
    chunk, arrival = way
    here = torch.cuda.current_stream(chunk[0].device)
    here.wait_event(arrival)
    for part in chunk:
        part.record_stream(here)  # else its memory might be used again while it is computed on
    return chunk


def pinned(part: Tensor) -> Tensor:
    """A copy that a GPU can fetch by itself; PyTorch keeps its memory until it has done so."""
    # Not `part.pin_memory()`, which would keep the overlap of windows.
    return torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part)


# --- What stays on a GPU -------------------------------------------------------------------------

# A tensor -> its version and its copy on a GPU; both are forgotten with the tensor.
_MOVED = WeakTensorKeyDictionary()


def resident(
    parts: Pair, device: torch.device, free_bytes: Callable[[], int]
) -> list[Tensor] | None:
    """The parts on the device, moved once; None if they would take too much of what is free.

    Windows over one text are not moved either: as tensors of their own they would be many times
    that text.
    """
    missing = [part for part in parts if not is_moved(part, device)]
    if not all(part.is_contiguous() for part in missing):
        return None
    if missing and sum(part.nbytes for part in missing) > SHARE * free_bytes():
        return None
    with torch.inference_mode(False):  # whoever asks first: they are for training, too
        for part in missing:
            _MOVED[part] = version(part), part.to(device)
    return [_MOVED[part][1] for part in parts]


def is_moved(part: Tensor, device: torch.device) -> bool:
    """Whether the device has this tensor as it is now, not as it was before a change in place."""
    known, copy = _MOVED.get(part, (None, part))
    return known == version(part) and copy.device == device


def version(part: Tensor) -> int:
    """How often it was changed in place; of what inference mode made, PyTorch does not know."""
    return 0 if part.is_inference() else part._version
