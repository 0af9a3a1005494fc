"""Fewer bits per weight.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kit.techniques.technique import untouched


class Narrow(nn.Module):
    """A model whose weights and arithmetic are narrow; what goes in and out is as before."""

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype

    def forward(self, inputs: Tensor, *more: Any, **options: Any) -> Tensor:
        """(B, …) as the model takes them -> its outputs, in float32."""
        narrow = inputs.to(self.dtype) if inputs.is_floating_point() else inputs
        outputs: Any = self.model(narrow, *more, **options)
        return outputs.float()

    def __getattr__(self, name: str) -> Any:
        """What else the model offers, such as a GPT its cache."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def __repr__(self) -> str:
        return f"{self.model!r} in {str(self.dtype).removeprefix('torch.')}"


def half(model: nn.Module) -> nn.Module:
    """A copy in bfloat16: float32's range with 8 bits of precision, in half the bytes.

    Faster where the hardware multiplies bfloat16 (recent GPUs, CPUs with AMX or AVX512-BF16);
    elsewhere it computes in float32 with conversions, and is slower. Explained in lesson 09.
    """
    return Narrow(untouched(model), torch.bfloat16).eval()
