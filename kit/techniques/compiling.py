"""One program instead of many operations, compiled at the first call or ahead of time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kit.core.silence import silenced
from kit.devices import compiling, keep_programs
from kit.techniques.exporting import exported_program
from kit.techniques.precision import half
from kit.techniques.runtimes import Exported, load_package


def compiled(model: nn.Module, example: Tensor) -> nn.Module:
    """PyTorch's compiler turns the model into fused kernels at the first call with each shape.

    That call takes seconds; `kit.measure` reports how many.
    """
    optimised: Any = torch.compile(model, **compiling())
    return optimised


def half_compiled(model: nn.Module, example: Tensor) -> nn.Module:
    """Compiled in bfloat16: the dtype conversions are fused into the operations around them."""
    return compiled(half(model, example), example)


def packaged(model: nn.Module, example: Tensor) -> nn.Module:
    """Compiled ahead of time into one file, which needs neither Python nor the model's code.

    AOTInductor is the same compiler, but C++ calls its kernels instead of Python.
    """
    import tempfile
    from pathlib import Path

    keep_programs()
    with silenced(), tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.pt2"
        torch._inductor.aoti_compile_and_package(
            exported_program(model, example), package_path=path
        )
        data = Path(path).read_bytes()
    return Exported("aoti", data, load_package, device=example.device)
