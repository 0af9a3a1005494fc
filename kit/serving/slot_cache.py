"""One KV cache for texts that begin, grow and end at different times.

SlotCache  the memory: a slot for each text, allocated once
SlotPass   which slots one forward pass reads and writes, at which positions
SlotLayer  one layer's part of a pass

`kit.models.kv_cache.Cache` has one length for all texts. Here each text has its own, so a text can
join the batch while others are in the middle, and its slot is free again when it ends.

Shapes: L layers, N slots, A heads, S positions (the context), n texts of a pass, T new positions
of a pass, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Rows = slice | list[int]  # which slots: neighbours need no copy


class SlotLayer(NamedTuple):
    """One layer's keys and values in a pass; takes the place of `LayerCache`."""

    memory: Tensor  # (2, N, A, S + 1, d/A): keys and values
    rows: Tensor  # (n,): the slots
    where: Tensor  # (2 · n · A · T,): the rows of `memory` to which the new ones are written
    neighbours: bool  # the slots are 0 to n - 1
    end: int  # positions from here on are nobody's
    mask: Tensor  # (n, 1, T, end): 0 where a new token may attend, else −∞

    def append(self, new: Tensor) -> Sequence[Tensor]:
        """Write new keys and values, (2, n, A, T, d/A); all so far: (n, A, end, d/A) each."""
        # As rows of a table: (2 · n · A · T, d/A).
        self.memory.flatten(0, -2).index_copy_(0, self.where, new.flatten(0, -2))
        filled = self.memory[:, :, :, : self.end]
        if self.neighbours:
            return filled[:, : len(self.rows)].unbind()  # views, not copies
        return filled[:, self.rows].unbind()


class SlotPass:
    """What a GPT needs as its cache in one forward pass over some slots.

    Texts with fewer new tokens than others are padded on the left, so that the last position of
    every text is a real one. Padding is written to a position that nobody reads.

    Parameters
    ----------
    cache
        The memory.
    rows
        The slots: `slice(0, n)`, or a list.
    starts
        The number of positions that each text has in the cache.
    counts
        The number of new tokens of each text; 0 for a slot that only lies between two others.
    """

    def __init__(self, cache: SlotCache, rows: Rows, starts: Sequence[int], counts: Sequence[int]):
        n, width = len(starts), max(counts)  # width: T
        nobodys = cache.context  # the last position of the memory
        positions, where = [], []
        for start, count in zip(starts, counts, strict=True):
            first, padding = start + count - width, width - count
            # Padding needs some position that exists: its embedding, and a key to attend to.
            positions.append([max(0, first + t) for t in range(width)])
            where.append([nobodys] * padding + list(range(start, start + count)))
        device = cache.layers[0].device
        both = torch.tensor([positions, where], device=device)  # one copy to the device
        self._positions = both[0]  # (n, T)
        self._end = max(1, max(s + c for s, c in zip(starts, counts, strict=True)))
        self._neighbours = isinstance(rows, slice)
        chosen = cache.all_slots[:n] if self._neighbours else torch.tensor(rows, device=device)
        self._rows = chosen  # (n,)
        # In each layer's memory as a table of d/A columns, whose rows are (2, N, A, S + 1).
        texts = cache.first_rows[:, chosen, :, None] + both[1][:, None]  # (2, n, A, T)
        self._where = texts.flatten()
        self._layers, self._ahead = cache.layers, cache.all_positions[: self._end]

    def positions(self, new: int) -> Tensor:
        """The positions of the new tokens in their texts: (n, T)."""
        return self._positions

    def for_layers(self, new: int) -> list[SlotLayer]:
        """What each layer needs in this pass."""
        memory = self._layers[0]
        ahead = self._ahead > self._positions[:, None, :, None]
        # Numbers, not truth values: attention would convert the mask again in each layer.
        mask = torch.zeros(ahead.shape, dtype=memory.dtype, device=memory.device)
        mask.masked_fill_(ahead, float("-inf"))  # (n, 1, T, end)
        rest = (self._rows, self._where, self._neighbours, self._end, mask)
        return [SlotLayer(memory, *rest) for memory in self._layers]

    def advance(self, new: int) -> None:
        """Nothing: who made the pass counts the positions of each text."""


class SlotCache:
    """Keys and values of all slots: 2 · L · N · A · (S + 1) · d/A numbers, allocated once.

    Parameters
    ----------
    model
        A GPT of the kit, or a form of one: its own cache tells layers, heads, width and dtype.
    slots
        N, the most texts at a time.
    context
        S, the most positions of a text.

    Examples
    --------
    Slot 1 reads two tokens while slot 0, which has read three, reads one:

    >>> from kit.models import GPT
    >>> model = GPT()
    >>> cache = SlotCache(model, slots=2, context=8)
    >>> both = cache.reading(slice(0, 2), starts=[3, 0], counts=[1, 2])
    >>> with torch.no_grad():
    ...     model(torch.tensor([[0, 5], [6, 7]]), both, last=1).shape
    torch.Size([2, 1, 103])
    """

    def __init__(self, model: Any, slots: int, context: int):
        self.slots, self.context = slots, context
        self.layers = []
        for layer in model.cache(1, 1).layers:
            two, _, heads, _, width = layer.shape
            # Zeros, not `torch.empty`: 0 × NaN is NaN, so a masked NaN would spoil the result.
            # One position more than the context: padding is written there.
            self.layers.append(layer.new_zeros(two, slots, heads, context + 1, width))
        self.all_slots = torch.arange(slots, device=self.layers[0].device)  # (N,)
        self.all_positions = torch.arange(context, device=self.layers[0].device)  # (S,)
        first = self.layers[0][..., 0, 0]  # (2, N, A): of each head's positions
        numbered = torch.arange(first.numel(), device=first.device).view(first.shape)
        self.first_rows = (context + 1) * numbered  # (2, N, A)

    @property
    def bytes(self) -> int:
        """Its memory in bytes, filled or not."""
        return sum(memory.nbytes for memory in self.layers)

    def reading(self, rows: Rows, starts: Sequence[int], counts: Sequence[int]) -> SlotPass:
        """What the model gets as its cache to read `counts` new tokens in these slots."""
        return SlotPass(self, rows, starts, counts)

    def erase(self, slot: int) -> None:
        """Make a slot all zeros, since its text may have left NaN there."""
        for memory in self.layers:
            memory[:, slot].zero_()
