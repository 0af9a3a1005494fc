"""What a GPT keeps of the places that it has read, so that it need not read them again.

Cache        grows place by place; prompts of different lengths stand flush right in it
FixedCache   the same memory, each new place written where a tensor says: for a CUDA graph
Past         one layer's part of either, during one forward pass

Shapes: L layers, B texts, A heads, S places that there is room for, T new places, d width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kit.core.errors import BadValue, ShapeMismatch


class Past(NamedTuple):
    """One layer's keys and values: those of the places before, and room for new ones."""

    kept: Tensor  # (2, B, A, S, d/A): keys and values
    start: int | Tensor  # where the new places go
    mask: Tensor | None  # (…, T, S) who may look at whom; None: as `Attention.look` says

    def followed_by(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new ones, (B, A, T, d/A) each; all so far: (B, A, start + T, d/A) each."""
        if isinstance(self.start, Tensor):
            for kept, new in zip(self.kept, (keys, values), strict=True):
                kept.index_copy_(2, self.start, new)
            return self.kept[0], self.kept[1]
        end = self.start + keys.shape[2]
        self.kept[0, :, :, self.start : end] = keys
        self.kept[1, :, :, self.start : end] = values
        return self.kept[0, :, :, :end], self.kept[1, :, :, :end]


class Cache:
    """Keys and values of the places read so far, for all layers; the memory is taken at once.

    Parameters
    ----------
    layers, batch_size, heads, room, width
        L, B, A, S and d/A.
    padding
        (B,) how many places before each text are none, if the texts differ in length.
    options
        `dtype` and `device` of the memory.
    """

    def __init__(
        self,
        layers: int,
        batch_size: int,
        heads: int,
        room: int,
        width: int,
        padding: Tensor | None = None,
        **options: Any,
    ):
        if padding is not None and padding.shape != (batch_size,):
            given = tuple(padding.shape)
            raise ShapeMismatch(f"given padding of shape {given}; needed ({batch_size},).")
        shape = (2, batch_size, heads, room, width)
        # Zeros, not whatever is there: a masked NaN would still be multiplied by a weight of 0.
        self.layers = [torch.zeros(shape, **options) for _ in range(layers)]
        self.padding, self.length = padding, 0

    @property
    def room(self) -> int:
        """How many places there is room for."""
        return self.layers[0].shape[3]

    @property
    def bytes(self) -> int:
        """What it takes of memory, filled or not."""
        return sum(kept.nbytes for kept in self.layers)

    def places(self, new: int) -> slice | Tensor:
        """Where in their texts the next `new` places stand: the same for all, or (B, new)."""
        if self.length + new > self.room:
            told = f"{self.length:,} places kept and {new:,} new ones"
            raise BadValue(f"given {told}; the cache has room for {self.room:,}.")
        if self.padding is None:
            return slice(self.length, self.length + new)
        every = torch.arange(self.length, self.length + new, device=self.padding.device)
        return (every - self.padding[:, None]).clamp(min=0)

    def pasts(self, new: int) -> list[Past]:
        """What each layer needs, to go on with `new` places."""
        mask = self._mask(new)
        return [Past(kept, self.length, mask) for kept in self.layers]

    def _mask(self, new: int) -> Tensor | None:
        """Each new place may look at those before it and at itself: (T, S), or (B, 1, T, S)."""
        start, end = self.length, self.length + new
        if self.padding is None and (new == 1 or start == 0):
            return None
        device = self.layers[0].device
        seen = torch.ones(new, end, dtype=torch.bool, device=device).tril(start)
        if self.padding is None:
            return seen
        real = torch.arange(end, device=device) >= self.padding[:, None]  # (B, S)
        itself = torch.ones_like(seen).triu(start)  # a place of no text needs something to see
        return seen & (real[:, None, None] | itself)

    def advance(self, new: int) -> None:
        """Those places are kept now."""
        self.length += new

    def back_to(self, length: int) -> None:
        """Forget what was read after the first `length` places."""
        if not 0 <= length <= self.length:
            raise BadValue(f"back to {length} places; needs 0 to {self.length}, which it keeps.")
        self.length = length

    def fixed(self) -> FixedCache:
        """The same memory for one place at a time, without a number that Python has to know."""
        return FixedCache(self)

    def __repr__(self) -> str:
        texts = self.layers[0].shape[1]
        told = f"{self.length:,} of {self.room:,} places of {texts:,} texts"
        return f"Cache: {told}, {len(self.layers)} layers"


class FixedCache:
    """A cache that is read and written as a whole, and counts on the device.

    A CUDA graph repeats the very same operations at the very same addresses. So where the next
    place goes is a tensor, which the graph itself moves on, and attention always runs over all the
    room, with a mask for what is not filled yet.
    """

    def __init__(self, cache: Cache):
        self.layers = cache.layers
        device = self.layers[0].device
        self.place = torch.tensor([cache.length], device=device)
        self.every = torch.arange(cache.room, device=device)  # (S,)
        none = torch.zeros(self.layers[0].shape[1], dtype=torch.long, device=device)
        self.padding = none if cache.padding is None else cache.padding  # (B,)

    def places(self, new: int) -> Tensor:
        """Where in its text each next place stands: (B, 1)."""
        if new != 1:
            raise BadValue(f"{new} new places: a fixed cache goes on by one; read them before.")
        return (self.place - self.padding)[:, None]

    def pasts(self, new: int) -> list[Past]:
        """What each layer needs, to go on with one place."""
        seen = (self.every <= self.place) & (self.every >= self.padding[:, None])  # (B, S)
        return [Past(kept, self.place, seen[:, None, None]) for kept in self.layers]

    def advance(self, new: int) -> None:
        """The place is kept now."""
        self.place += new
