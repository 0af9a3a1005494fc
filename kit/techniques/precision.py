"""Fewer bits per weight, in dtypes that processors multiply directly.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kit.data.packed_inputs import Packed
from kit.devices import backend_of
from kit.techniques.technique import UnsuitableModel


class LowPrecision(nn.Module):
    """A model with weights and arithmetic in a narrow dtype; inputs and outputs stay float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype
        rows = [part for part in model.modules() if isinstance(part, Packed)]
        for part in rows:
            part.set_dtype(dtype)
        self.by_part = bool(rows)  # then each part of a row is cast alone, and integers stay exact

    def forward(self, inputs: Tensor, *more: Any, **options: Any) -> Tensor:
        """(B, …) as the model takes them -> its outputs, in float32."""
        if inputs.is_floating_point() and not self.by_part:
            inputs = inputs.to(self.dtype)
        outputs: Any = self.model(inputs, *more, **options)
        return outputs.float()

    def __getattr__(self, name: str) -> Any:
        """All other attributes are the model's, such as the cache of a GPT."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def __repr__(self) -> str:
        return f"{self.model!r} in {str(self.dtype).removeprefix('torch.')}"


def half(model: nn.Module, example: Tensor) -> nn.Module:
    """bfloat16: half the bytes, the range of float32, and 8 bits of precision.

    It is faster where the hardware multiplies bfloat16 (recent GPUs, CPUs with AMX or
    AVX512-BF16). Elsewhere PyTorch converts to float32 and back, which is slower.
    """
    return LowPrecision(model, torch.bfloat16).eval()


def float16(model: nn.Module, example: Tensor) -> nn.Module:
    """float16: half the bytes and 11 bits of precision, but no number above 65,504."""
    return LowPrecision(model, torch.float16).eval()


def lacks_float16(device: torch.device) -> str:
    """Why float16 should not be used on the device; an empty text if it can be."""
    return backend_of(device).lacks_dtype(torch.float16)


def channels_last(model: nn.Module, example: Tensor) -> nn.Module:
    """All channels of a pixel lie side by side in memory, as many convolutions read them."""
    if not any(isinstance(part, nn.Conv2d) for part in model.modules()):
        raise UnsuitableModel("it has no convolution over images, and nothing else to reorder")
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
