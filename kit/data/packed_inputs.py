"""Models with several inputs: the inputs of an example in one row, which a module unpacks.

So everything that batches, counts, times and exports a model with one input works for them, too.

Shapes: N examples, B batch, K numbers of an example in all its inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, ShapeMismatch

EXACT = 2**24  # float32 holds integers exactly up to this


@dataclass(frozen=True)
class Layout:
    """The inputs in the row of an example: in this order, each flattened."""

    names: tuple[str, ...]  # of keyword arguments; empty: positional arguments
    shapes: tuple[tuple[int, ...], ...]  # of each input, without N
    dtypes: tuple[torch.dtype, ...]

    @property
    def sizes(self) -> list[int]:
        """The number of values in each input."""
        return [prod(shape) for shape in self.shapes]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the row: float32, or int64 if all inputs are integers."""
        floating = any(dtype.is_floating_point for dtype in self.dtypes)
        return torch.float32 if floating else torch.int64

    def unpack(self, rows: Tensor) -> list[Tensor]:
        """The inputs, (B, …) each, of rows (B, K)."""
        cut = rows.split(self.sizes, 1)
        return [
            (part.unflatten(1, shape) if shape else part.squeeze(1)).to(dtype)
            for part, shape, dtype in zip(cut, self.shapes, self.dtypes, strict=True)
        ]


def pack(what: str, given: Mapping[str, Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, Layout]:
    """Inputs (N, …) as rows (N, K), and the layout that unpacks them."""
    names = tuple(map(str, given)) if isinstance(given, Mapping) else ()
    parts = list(given.values() if isinstance(given, Mapping) else given)
    if len({len(part) for part in parts}) != 1:
        raise ShapeMismatch(
            f"{what} have shapes {', '.join(str(tuple(part.shape)) for part in parts)}; needs the "
            f"same number of examples in each."
        )
    layout = Layout(names, tuple(tuple(p.shape[1:]) for p in parts), tuple(p.dtype for p in parts))
    if layout.dtype == torch.float32:
        integers = [part for part in parts if not part.dtype.is_floating_point]
        if any(bool((part.long().abs() > EXACT).any()) for part in integers):
            raise BadValue(
                f"{what} have integers above {EXACT:,} together with floating-point numbers; one "
                f"row of float32 cannot hold both exactly. Renumber the integers from 0."
            )
    # A last dimension of 1, because (N,) has nothing to flatten.
    rows = torch.cat([part.unsqueeze(-1).flatten(1).to(layout.dtype) for part in parts], 1)
    return rows, layout


class Packed(nn.Module):
    """A wrapper for a model with several inputs: it takes them as one row (B, K) per example.

    Named inputs are keyword arguments, or one dict if that is what the model's `forward` takes.
    """

    def __init__(self, net: nn.Module, layout: Layout):
        super().__init__()
        self.net, self.layout = net, layout
        self.one_dict = bool(layout.names) and takes_one_dict(net, layout.names)

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Pass floating-point inputs on in that dtype; integers stay as they are."""
        dtypes = tuple(dtype if d.is_floating_point else d for d in self.layout.dtypes)
        self.layout = replace(self.layout, dtypes=dtypes)

    def forward(self, rows: Tensor) -> Any:
        """The model's outputs for the unpacked inputs."""
        parts = self.layout.unpack(rows)
        if not self.layout.names:
            return self.net(*parts)
        named = dict(zip(self.layout.names, parts, strict=True))
        return self.net(named) if self.one_dict else self.net(**named)

    def _get_name(self) -> str:
        """In results and messages it is called like the model inside."""
        return str(self.net._get_name()) if isinstance(self.net, nn.Module) else "Packed"


def takes_one_dict(net: Any, names: Iterable[str]) -> bool:
    """Whether `forward` has one argument for all inputs, and no arguments of these names.

    >>> class OfBatch(nn.Module):
    ...     def forward(self, batch): return batch["x"]
    >>> takes_one_dict(OfBatch(), ["x"]), takes_one_dict(nn.Identity(), ["input"])
    (True, False)
    """
    takes = signature(net.forward)
    try:
        takes.bind(**dict.fromkeys(names))
    except TypeError:
        try:
            takes.bind({})
        except TypeError:
            return False
        return True
    return False
