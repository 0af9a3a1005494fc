"""One program instead of many operations: made when first called, or once and for all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kit.core.silence import silenced
from kit.devices import compiling, keep_programs
from kit.techniques.exporting import program
from kit.techniques.precision import half
from kit.techniques.runtimes import Exported, run_package


def compiled(model: nn.Module, example: Tensor) -> nn.Module:
    """PyTorch's compiler turns it into fused kernels at the first call of each shape.

    That call takes seconds (`kit.measure` tells how many).
    """
    optimised: Any = torch.compile(model, **compiling())
    return optimised


def half_compiled(model: nn.Module, example: Tensor) -> nn.Module:
    """In bfloat16 and compiled: the conversions around each operation become part of it."""
    return compiled(half(model, example), example)


def packaged(model: nn.Module, example: Tensor) -> nn.Module:
    """Compiled ahead of time into one file, which runs without Python and without the model's code.

    AOTInductor: the same compiler, whose kernels are called from C++ instead of from Python.
    """
    import tempfile
    from pathlib import Path

    keep_programs()
    with silenced(), tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.pt2"
        torch._inductor.aoti_compile_and_package(program(model, example), package_path=path)
        data = Path(path).read_bytes()
    return Exported("aoti", data, run_package, device=example.device)
