"""A GPT whose linear layers keep their weights in the order in which a batch reads them best.

A linear layer holds its matrix as (outputs, inputs). A single row reads it at the memory's rate in
either order. With 16 rows the multiplication itself counts, and PyTorch's CPU kernels do it faster
with (inputs, outputs). On an Intel Xeon, a pass of 16 texts takes 0.89 of the time with a GPT of
6 × 256, and 0.96 with one of 12 × 768 (`benchmarks/continuous_batching.py`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kit.models import GPT

MOST_BYTES = 128 * 2**20  # of copied weights: with larger ones, the gain is small


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
    weights = [part.weight for part in model.modules() if _fits(part)]
    small = sum(weight.nbytes for weight in weights) <= MOST_BYTES
    if type(model) is not GPT or not weights or not small:
        return model
    # What the memo names is shared, not copied.
    batched = copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})
    for part in batched.modules():
        if _fits(part):
            part.columns = part.weight.detach().t().contiguous()
            part.__class__ = BatchLinear
    return batched.eval()


def _fits(part: nn.Module) -> bool:
    if type(part) is not nn.Linear or part.bias is not None:
        return False
    return part.weight.is_cpu and part.weight.dtype == torch.float32
