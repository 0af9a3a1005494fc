"""PyTorch's compiler: how it is called here, and what it needs."""

from __future__ import annotations

import os
import shutil
from inspect import signature
from typing import Any

import torch

# Each compiled thing keeps its programs to itself. Else a second one in the same process would
# make the first one's programs slower, or after eight not be compiled.
COMPILING: dict[str, Any] = {}
if "isolate_recompiles" in signature(torch.compile).parameters:  # PyTorch 2.13
    COMPILING["isolate_recompiles"] = True


def lacks_compiler(device: torch.device) -> str:
    """Why it cannot compile for that device; nothing if it can."""
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        return "it needs a C++ compiler (g++ or clang++), and none is installed"
    return ""
