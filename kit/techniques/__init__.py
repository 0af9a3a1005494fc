"""Model -> model: other ways to run what was learnt. The model given stays as it is.

none      the model as it was trained, in evaluation mode
half      weights and arithmetic in bfloat16: half the bytes
compile   PyTorch's compiler: fused kernels, after a wait

To add a technique: a function from a model to a model, and a line in `SHELF` with its tolerance;
the tests of this room then hold it to it.
"""

from __future__ import annotations

from kit.errors import UnknownName
from kit.techniques.compiling import compiled, lacks_compiler
from kit.techniques.precision import half
from kit.techniques.technique import Technique, untouched

SHELF: dict[str, Technique] = {
    "none": Technique("none", "the model as it was trained", untouched, tolerance=0.0),
    "half": Technique("half", "weights and arithmetic in bfloat16", half, tolerance=0.1),
    "compile": Technique("compile", "PyTorch's compiler", compiled, 1e-3, lacks_compiler),
}


def get(name: str) -> Technique:
    """The technique of that name, as a notebook's parameter gives it."""
    if name not in SHELF:
        raise UnknownName("technique", name, SHELF)
    return SHELF[name]


__all__ = ["SHELF", "Technique", "compiled", "get", "half", "untouched"]
