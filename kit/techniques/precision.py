"""Fewer bits per weight, in numbers that processors multiply as they are.

Shapes: B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kit.data.packed_inputs import Packed

# What processors call their instructions for float16: x86, AMX, ARM.
FLOAT16 = ("avx512_fp16", "amx_fp16", "fp16_arith")


class Narrow(nn.Module):
    """A model whose weights and arithmetic are narrow; what goes in and out is as before."""

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype
        rows = [part for part in model.modules() if isinstance(part, Packed)]
        for part in rows:
            part.set_dtype(dtype)
        self.by_part = bool(rows)  # each part of a row is cast alone: whole numbers stay exact

    def forward(self, inputs: Tensor, *more: Any, **options: Any) -> Tensor:
        """(B, …) as the model takes them -> its outputs, in float32."""
        if inputs.is_floating_point() and not self.by_part:
            inputs = inputs.to(self.dtype)
        outputs: Any = self.model(inputs, *more, **options)
        return outputs.float()

    def __getattr__(self, name: str) -> Any:
        """What else the model offers, such as a GPT its cache."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def __repr__(self) -> str:
        return f"{self.model!r} in {str(self.dtype).removeprefix('torch.')}"


def half(model: nn.Module, example: Tensor) -> nn.Module:
    """float32's range with 8 bits of precision, in half the bytes.

    Faster where the hardware multiplies bfloat16 (recent GPUs, CPUs with AMX or AVX512-BF16);
    elsewhere it computes in float32 with conversions, and is slower.
    """
    return Narrow(model, torch.bfloat16).eval()


def float16(model: nn.Module, example: Tensor) -> nn.Module:
    """11 bits of precision in half the bytes, but nothing above 65,504."""
    return Narrow(model, torch.float16).eval()


def lacks_float16(device: torch.device) -> str:
    """Why float16 is nothing for that device; nothing if it is."""
    if device.type != "cpu":
        return ""
    known: Any = getattr(torch.cpu, "get_capabilities", dict)()
    if any(known.get(name) for name in FLOAT16):
        return ""
    return "this processor has no instructions for float16, and takes tens of times as long"


def channels_last(model: nn.Module, example: Tensor) -> nn.Module:
    """The numbers of one pixel side by side, as many convolutions read them."""
    from kit.techniques.technique import Unsuitable

    if not any(isinstance(part, nn.Conv2d) for part in model.modules()):
        raise Unsuitable("there is no convolution over images in it, and nothing else to reorder")
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
