"""What is served: a model with named inputs and outputs, as arrays.

Shapes: B batch. A shape of the protocol has -1 where any size is allowed; its first number is B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.inference import predict
from kit.models import family_of
from kit.models.checks import check_generates
from kit.models.custom import find_logits, tensors_in
from kit.techniques.precision import LowPrecision

Arrays = dict[str, np.ndarray]

# The protocol's name of a datatype -> NumPy's. BYTES is left out (no model here takes text), and
# BF16, which NumPy does not have: a bfloat16 model takes and gives FP32.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
# Families of the kit whose inputs (B, T, …) may have any length T.
ANY_LENGTH = {"GPT", "CNN1d", "RNN", "Transformer", "Seq2Seq", "TwoTower"}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, its datatype in the protocol, its shape with -1 for any."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype of the datatype."""
        return DATATYPES[self.datatype]

    def to_dict(self) -> dict[str, Any]:
        """As the protocol's metadata have it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model for a server: what goes in, what comes out, and `predict` between them."""

    name: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: Arrays = field(repr=False)  # one row of each input, to warm up with
    predict: Callable[[Arrays], Arrays] = field(repr=False)  # (B, …) each -> (B, …) each
    module: nn.Module = field(repr=False)  # for generation

    @property
    def generates(self) -> bool:
        """Whether it can write texts: a GPT of the kit, or a form of one with its cache."""
        try:
            check_generates(self.module)
        except BadValue:
            return False
        return True

    def rows(self, count: int) -> Arrays:
        """The example, repeated to this many rows."""
        return {name: np.repeat(array, count, axis=0) for name, array in self.example.items()}


def served(
    module: nn.Module,
    example: Mapping[str, np.ndarray],
    *,
    name: str = "model",
    platform: str = "pytorch",
    style: str = "one",
    device: str = "cpu",
) -> ServedModel:
    """A model as a server uses it; what comes out is found by predicting the example.

    Parameters
    ----------
    module
        Any model that `kit.predict` takes.
    example
        Name -> at least one row (B, …) of that input.
    style
        How the module takes them: "one" tensor, a "tuple" of arguments, a "dict" of keyword
        arguments, or "one dict" as its only argument.
    device
        Where the module is; arrays come from the CPU and go back there.

    Examples
    --------
    >>> from kit.models import MLP
    >>> model = served(MLP(), {"input": np.zeros((1, 64), np.float32)})
    >>> model.inputs[0].to_dict()
    {'name': 'input', 'datatype': 'FP32', 'shape': [-1, 64]}
    >>> model.predict(model.rows(3))["output"].shape
    (3, 10)
    """
    one = {key: np.ascontiguousarray(array[:1]) for key, array in example.items()}
    compute = _computing(module, list(one), style, device)
    any_length = family_of(base_of(module)) in ANY_LENGTH
    inputs = tuple(_spec(key, array, any_length) for key, array in one.items())
    larger = {key: _grown(array, any_length) for key, array in one.items()}
    outputs = _output_specs(compute(one), compute(larger))
    return ServedModel(name, platform, inputs, outputs, one, compute, module)


def base_of(module: Any) -> nn.Module:
    """The model inside a compiled or low-precision one, which computes with its weights."""
    module = getattr(module, "_orig_mod", module)
    return module.model if isinstance(module, LowPrecision) else module


def datatype_of(dtype: Any, what: str) -> str:
    """The protocol's name of a NumPy dtype."""
    if np.dtype(dtype) not in NAMES:
        raise BadValue(f"{what} is {dtype}; a server takes and gives {', '.join(DATATYPES)}.")
    return NAMES[np.dtype(dtype)]


def _computing(
    module: nn.Module, names: list[str], style: str, device: str
) -> Callable[[Arrays], Arrays]:
    """The function from arrays to arrays, which computes what `kit.predict` does."""

    def compute(arrays: Arrays) -> Arrays:
        tensors = [_tensor(arrays[name]).to(device) for name in names]
        inputs: Any = tensors[0]
        if style != "one":
            named = dict(zip(names, tensors, strict=True))
            inputs = {"dict": named, "one dict": (named,)}.get(style, tuple(tensors))
        return _named(predict(module, inputs))

    return compute


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; bytes of a request cannot be written to, so they are copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _named(outputs: Any) -> Arrays:
    """Name -> array (B, …) of everything that the model returned."""
    logits = find_logits(outputs, outputs)
    if isinstance(logits, Tensor):
        return {"output": _array(logits)}
    if isinstance(outputs, Mapping):
        return {str(k): _array(v) for k, v in outputs.items() if isinstance(v, Tensor)}
    return {f"output_{i}": _array(tensor) for i, tensor in enumerate(tensors_in(outputs))}


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16; as float32, each number stays the same.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()


def _spec(name: str, array: np.ndarray, any_length: bool) -> TensorSpec:
    """The input's shape: any batch, and any length if the model's family allows it."""
    shape = [-1, *array.shape[1:]]
    if any_length:
        shape[1] = -1
    return TensorSpec(name, datatype_of(array.dtype, f"the input {name!r}"), tuple(shape))


def _grown(array: np.ndarray, any_length: bool) -> np.ndarray:
    """Two rows, and one position less if any length is allowed: what changes in the outputs?"""
    two = np.repeat(array, 2, axis=0)
    return np.ascontiguousarray(two[:, :-1]) if any_length and two.shape[1] > 1 else two


def _output_specs(one: Arrays, larger: Arrays) -> tuple[TensorSpec, ...]:
    """The outputs; a size is -1 where it changes with the inputs."""
    specs = []
    for name, array in one.items():
        other = larger[name]
        if array.ndim == 0 or len(array) != 1 or len(other) != 2:
            raise BadValue(
                f"the model's {name!r} has shape {array.shape} for one row and {other.shape} for "
                f"two; needs one row of each output per row of the inputs, so that requests can "
                f"share a batch. Wrap the model, and return only outputs (B, …)."
            )
        rest = (a if a == b else -1 for a, b in zip(array.shape[1:], other.shape[1:], strict=True))
        kind = datatype_of(array.dtype, f"the output {name!r}")
        specs.append(TensorSpec(name, kind, (-1, *rest)))
    return tuple(specs)
