"""The same model, compiled."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn

from kit.techniques.technique import untouched


def compiled(model: nn.Module) -> nn.Module:
    """A copy that PyTorch's compiler turns into fused kernels at its first call.

    That call takes seconds (`kit.measure` tells how many); other shapes take them anew.
    Explained in lesson 09.
    """
    optimised: Any = torch.compile(untouched(model))
    return optimised


def lacks_compiler(device: torch.device) -> str:
    """Why it cannot compile for that device; nothing if it can."""
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        return "it needs a C++ compiler (g++ or clang++), and none is installed"
    return ""
