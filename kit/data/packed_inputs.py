"""Models with several inputs: the parts of an example in one row, which a module takes apart.

So all that batches, counts, times and exports a model with one input takes them as well.

Shapes: N examples, B batch, K numbers of an example in all its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, ShapeMismatch

EXACT = 2**24  # whole numbers up to this are exact in float32


@dataclass(frozen=True)
class Layout:
    """How an example's parts lie in its row: in this order, each flat."""

    names: tuple[str, ...]  # of keyword arguments; empty: arguments by position
    shapes: tuple[tuple[int, ...], ...]  # of each part, without N
    dtypes: tuple[torch.dtype, ...]

    @property
    def sizes(self) -> list[int]:
        """How many numbers each part has."""
        return [prod(shape) for shape in self.shapes]

    @property
    def dtype(self) -> torch.dtype:
        """Of the row: float32, or int64 where no part has a point."""
        some = any(dtype.is_floating_point for dtype in self.dtypes)
        return torch.float32 if some else torch.int64

    def apart(self, rows: Tensor) -> list[Tensor]:
        """The parts, (B, …) each, of rows (B, K)."""
        cut = rows.split(self.sizes, 1)
        return [
            (part.unflatten(1, shape) if shape else part.squeeze(1)).to(dtype)
            for part, shape, dtype in zip(cut, self.shapes, self.dtypes, strict=True)
        ]


def packed(what: str, given: Mapping[str, Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, Layout]:
    """Parts (N, …) as rows (N, K), and how to take them apart."""
    names = tuple(map(str, given)) if isinstance(given, Mapping) else ()
    parts = list(given.values() if isinstance(given, Mapping) else given)
    if len({len(part) for part in parts}) != 1:
        raise ShapeMismatch(
            f"{what} have parts {', '.join(str(tuple(part.shape)) for part in parts)}; needs the "
            f"same number of examples in each."
        )
    layout = Layout(names, tuple(tuple(p.shape[1:]) for p in parts), tuple(p.dtype for p in parts))
    if layout.dtype == torch.float32:
        whole = [part for part in parts if not part.dtype.is_floating_point]
        if any(bool((part.long().abs() > EXACT).any()) for part in whole):
            raise BadValue(
                f"{what} have whole numbers above {EXACT:,} beside numbers with a point, which "
                f"float32 cannot hold together: number them from 0."
            )
    rows = torch.cat(
        [
            part.flatten(1).to(layout.dtype) if part.ndim > 1 else part[:, None].to(layout.dtype)
            for part in parts
        ],
        1,
    )
    return rows, layout


class Packed(nn.Module):
    """A model with several inputs, behind one that takes an example's parts as one row (B, K)."""

    def __init__(self, net: nn.Module, layout: Layout):
        super().__init__()
        self.net, self.layout = net, layout

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Give the model its numbers with a point in that dtype; whole ones stay as they are."""
        dtypes = tuple(dtype if d.is_floating_point else d for d in self.layout.dtypes)
        self.layout = replace(self.layout, dtypes=dtypes)

    def forward(self, rows: Tensor) -> Any:
        """What the model gives for the parts."""
        parts = self.layout.apart(rows)
        if self.layout.names:
            return self.net(**dict(zip(self.layout.names, parts, strict=True)))
        return self.net(*parts)


__all__ = ["Layout", "Packed", "packed"]
