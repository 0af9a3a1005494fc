"""The KV cache: keys and values of the positions read so far, so that each is computed once.

Cache        grows with each call; prompts of different lengths are padded on the left
StaticCache  the same memory with fixed shapes, written where a tensor says: for a CUDA graph
LayerCache   one layer's part of either, during one forward pass

Shapes: L layers, B texts, A heads, S positions (the capacity), T new positions, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kit.core.errors import BadValue, ShapeMismatch


class LayerCache(NamedTuple):
    """One layer's keys and values: those of earlier positions, and memory for new ones."""

    memory: Tensor  # (2, B, A, S, d/A): keys and values
    start: int | Tensor  # the index in S at which the new positions are written
    mask: Tensor | None  # (…, T, S), True: may attend; None: as `Attention.attend` says

    def append(self, new: Tensor) -> Sequence[Tensor]:
        """Write new keys and values, (2, B, A, T, d/A); all so far: (B, A, start + T, d/A) each."""
        if isinstance(self.start, Tensor):
            # A static cache: always the whole capacity, so that shapes never change.
            return self.memory.index_copy_(3, self.start, new).unbind()
        count = new.shape[3]
        # Written in place: `torch.cat` would copy the whole cache for each new token.
        self.memory.narrow(3, self.start, count).copy_(new)
        return self.memory.narrow(3, 0, self.start + count).unbind()  # views, not copies


class Cache:
    """Keys and values of all layers. The memory is allocated once, for the whole capacity.

    Its size is 2 · L · B · A · S · d/A numbers: it grows with batch and length, not with the
    number of parameters, and often limits how many texts a server can generate at once.

    Parameters
    ----------
    layers, batch_size, heads, capacity, width
        L, B, A, S and d/A.
    left_padding
        (B,) the number of padding positions before each text, if the texts differ in length.
    options
        `dtype` and `device` of the memory; `GPT.cache` takes those of its weights.
    """

    def __init__(
        self,
        layers: int,
        batch_size: int,
        heads: int,
        capacity: int,
        width: int,
        left_padding: Tensor | None = None,
        **options: Any,
    ):
        if left_padding is not None and left_padding.shape != (batch_size,):
            given = tuple(left_padding.shape)
            raise ShapeMismatch(f"given left padding of shape {given}; needed ({batch_size},).")
        shape = (2, batch_size, heads, capacity, width)
        # Zeros, not `torch.empty`: 0 × NaN is NaN, so a masked NaN would spoil the result.
        self.layers = [torch.zeros(shape, **options) for _ in range(layers)]
        self.left_padding, self.length = left_padding, 0

    @property
    def capacity(self) -> int:
        """The most positions that it can hold."""
        return self.layers[0].shape[3]

    @property
    def bytes(self) -> int:
        """Its memory in bytes, filled or not."""
        return sum(memory.nbytes for memory in self.layers)

    def positions(self, new: int) -> slice | Tensor:
        """The positions of the next `new` tokens in their texts: equal for all, or (B, new)."""
        if self.length + new > self.capacity:
            raise BadValue(
                f"given {new:,} new positions after {self.length:,} cached ones; the cache has a "
                f"capacity of {self.capacity:,}. Create it with a larger capacity, or truncate it."
            )
        if self.left_padding is None:
            return slice(self.length, self.length + new)
        # A text that is padded by 3 has its position 0 at index 3. What the padding itself gets
        # does not matter, as long as the table of embeddings has it.
        indices = torch.arange(self.length, self.length + new, device=self.left_padding.device)
        return (indices - self.left_padding[:, None]).clamp(min=0)

    def for_layers(self, new: int) -> list[LayerCache]:
        """What each layer needs to read `new` more positions."""
        mask = self._mask(new)  # the same for all layers: made once
        return [LayerCache(memory, self.length, mask) for memory in self.layers]

    def _mask(self, new: int) -> Tensor | None:
        """A new position attends to those before it and to itself: (T, S), or (B, 1, T, S)."""
        start, end = self.length, self.length + new
        # Without a mask, PyTorch can use its fastest kernels: one query sees all keys, and a
        # prompt from the start is plain causal attention.
        if self.left_padding is None and (new == 1 or start == 0):
            return None
        device = self.layers[0].device
        causal = torch.ones(new, end, dtype=torch.bool, device=device).tril(start)
        if self.left_padding is None:
            return causal
        real = torch.arange(end, device=device) >= self.left_padding[:, None]  # (B, S)
        # A padding position attends to itself: a softmax over nothing would be NaN.
        itself = torch.ones_like(causal).triu(start)
        return causal & (real[:, None, None] | itself)

    def advance(self, new: int) -> None:
        """Count the new positions as cached: every layer has written them."""
        self.length += new

    def truncate(self, length: int) -> None:
        """Keep the first `length` positions and drop the rest, such as rejected draft tokens."""
        if not 0 <= length <= self.length:
            raise BadValue(
                f"truncate({length}): needs 0 to {self.length}, the number of cached positions."
            )
        self.length = length  # the memory beyond it is overwritten by what comes next

    def static(self) -> StaticCache:
        """The same memory as a `StaticCache`, for one token at a time."""
        return StaticCache(self)

    def __repr__(self) -> str:
        texts = self.layers[0].shape[1]
        filled = f"{self.length:,} of {self.capacity:,} positions of {texts:,} texts"
        return f"Cache: {filled}, {len(self.layers)} layers"


class StaticCache:
    """A cache whose shapes and addresses never change, with the position counted on the device.

    A CUDA graph replays the very same operations at the very same addresses. So the next position
    is a tensor, which the graph itself increments. Attention always runs over the whole capacity,
    and a mask hides what is not filled yet: a little wasted work, for no Python per token.
    """

    def __init__(self, cache: Cache):
        self.layers = cache.layers
        device = self.layers[0].device
        self.position = torch.tensor([cache.length], device=device)
        self.indices = torch.arange(cache.capacity, device=device)  # (S,)
        none = torch.zeros(self.layers[0].shape[1], dtype=torch.long, device=device)
        self.left_padding = none if cache.left_padding is None else cache.left_padding  # (B,)

    def positions(self, new: int) -> Tensor:
        """The position of the next token in each text: (B, 1)."""
        if new != 1:
            raise BadValue(
                f"given {new} new positions; a static cache takes one per call. Read a longer "
                f"text with the Cache first, then call .static()."
            )
        return (self.position - self.left_padding)[:, None]

    def for_layers(self, new: int) -> list[LayerCache]:
        """What each layer needs to read one more position."""
        filled = self.indices <= self.position
        mask = filled & (self.indices >= self.left_padding[:, None])  # (B, S)
        return [LayerCache(memory, self.position, mask[:, None, None]) for memory in self.layers]

    def advance(self, new: int) -> None:
        """Move on by one position, on the device: nothing waits for it."""
        self.position += new
