"""A GPT whose linear layers keep their weights in the order in which a batch reads them best.

A linear layer holds its matrix as (outputs, inputs). For a single row, the order does not matter:
the memory's rate is the limit. With 16 rows the multiplication itself counts, and PyTorch's CPU
kernels do it faster with (inputs, outputs). `benchmarks/continuous_batching.py` times both.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kit.models import GPT

MOST_BYTES = 128 * 2**20  # of copied weights: larger ones would cost much memory for a small gain


class BatchLinear(nn.Linear):
    """A linear layer without a bias that multiplies by `columns`, a copy of its weights."""

    columns: Tensor  # (inputs, outputs)

    def forward(self, input: Tensor) -> Tensor:
        """The same as `nn.Linear`, up to rounding."""
        return input @ self.columns


def for_batches(model: nn.Module) -> nn.Module:
    """A GPT that shares all tensors with this one, with copies of linear weights; or this one.

    Models that are not on a CPU, or not in float32, or too large for a copy stay as they are.

    >>> model = GPT()
    >>> batched = for_batches(model)
    >>> tokens = torch.zeros(16, 3, dtype=torch.int64)
    >>> torch.allclose(batched(tokens), model(tokens), atol=1e-5)
    True
    """
    layers = _fitting(model)
    small = sum(layer.weight.nbytes for layer in layers) <= MOST_BYTES
    if type(model) is not GPT or not layers or not small:
        return model
    # What the memo names is shared, not copied.
    batched = copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})
    for layer in _fitting(batched):
        layer.__class__ = BatchLinear
        layer.columns = layer.weight.detach().t().contiguous()
    return batched.eval()


def _fitting(model: nn.Module) -> list[nn.Linear]:
    """Its linear layers without a bias, in float32, on a CPU."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    plain = [layer for layer in layers if type(layer) is nn.Linear and layer.bias is None]
    return [layer for layer in plain if layer.weight.is_cpu and layer.weight.dtype == torch.float32]
