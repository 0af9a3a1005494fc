"""Model -> model: other ways to run what was learnt. The model given stays as it is.

In the same bytes            none, channels_last, compiled, packaged
In fewer bits                half, half_compiled, float16, int8_weights, int8_dynamic,
                             int8_static, int4_weights
In another runtime           onnx, onnx_int8, onnx_int8_dynamic, openvino, openvino_bf16,
                             openvino_int8, executorch
With less to compute         zeroed, pruned, low_rank: train them on afterwards, the first
                             within zeros_kept; taught_by: a small model learns from a large one
On disk                      size_on_disk, write, read

Each is called with a model and a batch of real inputs, `kit.techniques.half(model, example)`, and
gives a model for `kit.predict`. It refuses where its answers would not agree.

To add a technique: a function from a copy of a model and an example to a model, and a line in
`SHELF` with its tolerance and what it needs; the tests of this room then hold it to it.
"""

from __future__ import annotations

import torch

from kit.core.errors import KitError, UnknownName
from kit.devices import lacks_compiler
from kit.plots import Table
from kit.techniques import compiling, exporting, factorization, precision, pruning, quantisation
from kit.techniques.distillation import taught_by
from kit.techniques.exported_files import is_open, read, size_on_disk, write
from kit.techniques.pruning import zeros_kept
from kit.techniques.runtimes import Exported
from kit.techniques.technique import Technique, untouched

SHRINK, ONNX = ("torchao",), ("onnx", "onnxscript", "onnxruntime")


def _cpu_only(device: torch.device) -> str:
    return "" if device.type == "cpu" else "it is made for CPUs here"


def _cpu_compiler(device: torch.device) -> str:
    return _cpu_only(device) or lacks_compiler(device)


none = Technique("none", "the model as it was trained", untouched, 0.0)
channels_last = Technique(
    "channels_last", "the numbers of a pixel side by side", precision.channels_last, 1e-3
)
half = Technique("half", "weights and arithmetic in bfloat16", precision.half, 0.1, computes="bf16")
float16 = Technique(
    "float16", "weights and arithmetic in float16", precision.float16, 0.02,
    lacks=precision.lacks_float16, instead="half", computes="fp16",
)  # fmt: skip
compiled = Technique("compiled", "PyTorch's compiler", compiling.compiled, 1e-3, lacks_compiler)
half_compiled = Technique(
    "half_compiled", "bfloat16, and PyTorch's compiler", compiling.half_compiled, 0.1,
    lacks_compiler, instead="half", computes="bf16",
)  # fmt: skip
packaged = Technique(
    "packaged", "PyTorch's compiler, ahead of time", compiling.packaged, 1e-3, lacks_compiler,
    instead="compiled",
)  # fmt: skip
int8_weights = Technique(
    "int8_weights", "weights as 8-bit integers", quantisation.int8_weights, 0.1,
    needs=SHRINK, extra="edge", instead="half",
)  # fmt: skip
int8_dynamic = Technique(
    "int8_dynamic", "8-bit integers, scaled at each call", quantisation.int8_dynamic, 0.15,
    needs=SHRINK, extra="edge", instead="half", computes="int8",
)  # fmt: skip
int8_static = Technique(
    "int8_static", "8-bit integers, compiled", quantisation.int8_static, 0.25,
    quantisation.lacks_x86, SHRINK, "edge", instead="onnx_int8", computes="int8",
)  # fmt: skip
int4_weights = Technique(
    "int4_weights", "weights as 4-bit integers", quantisation.int4_weights, 0.5,
    _cpu_only, SHRINK, "edge", instead="int8_weights", computes="bf16",
)  # fmt: skip
onnx = Technique(
    "onnx", "ONNX Runtime", exporting.onnx, 1e-3, _cpu_only, ONNX, "edge", instead="compiled"
)
onnx_int8 = Technique(
    "onnx_int8", "ONNX Runtime, 8-bit integers", exporting.onnx_int8, 0.25,
    _cpu_only, ONNX, "edge", instead="half", computes="int8",
)  # fmt: skip
onnx_int8_dynamic = Technique(
    "onnx_int8_dynamic", "ONNX Runtime, 8-bit, scaled at each call", exporting.onnx_int8_dynamic,
    0.25, _cpu_only, ONNX, "edge", instead="half", computes="int8",
)  # fmt: skip
openvino = Technique(
    "openvino", "OpenVINO", exporting.openvino, 1e-3,
    _cpu_only, (*ONNX, "openvino"), "openvino", instead="onnx",
)  # fmt: skip
openvino_bf16 = Technique(
    "openvino_bf16", "OpenVINO, bfloat16", exporting.openvino_bf16, 0.1,
    _cpu_only, (*ONNX, "openvino"), "openvino", instead="half", computes="bf16",
)  # fmt: skip
openvino_int8 = Technique(
    "openvino_int8", "OpenVINO, 8-bit integers", exporting.openvino_int8, 0.25,
    _cpu_only, (*ONNX, "openvino"), "openvino", instead="onnx_int8", computes="int8",
)  # fmt: skip
executorch = Technique(
    "executorch", "ExecuTorch, one at a time", exporting.executorch, 1e-3,
    _cpu_only, ("executorch",), "executorch", instead="onnx",
)  # fmt: skip
zeroed = Technique(
    "zeroed", "most weights set to zero", pruning.zeroed, None,
    after="train it on within zeros_kept",
)  # fmt: skip
pruned = Technique(
    "pruned", "whole channels taken out", pruning.pruned, None,
    needs=("torch_pruning",), extra="edge",
)  # fmt: skip
low_rank = Technique("low_rank", "matrices as products of thin ones", factorization.low_rank, None)

# In the order in which `kit.fastest` tries them: what is made quickly and often wins comes first.
SHELF: dict[str, Technique] = {
    technique.name: technique
    for technique in (
        none, half, onnx, onnx_int8, onnx_int8_dynamic, openvino, openvino_bf16, openvino_int8,
        channels_last, float16, compiled, half_compiled, packaged, int8_static, int8_dynamic,
        int8_weights, int4_weights, executorch, zeroed, pruned, low_rank,
    )
}  # fmt: skip


def get(name: str) -> Technique:
    """The technique of that name, as a notebook's parameter gives it."""
    if name not in SHELF:
        raise UnknownName("technique", name, SHELF)
    return SHELF[name]


def shelf(device: torch.device | str = "cpu") -> Table:
    """All techniques: what each does, how far its answers may lie apart, whether it works here."""
    rows = []
    for technique in SHELF.values():
        try:
            technique.check(device)
            here = "yes"
        except KitError as error:
            here = str(error)
        limit = technique.tolerance
        apart = technique.after if limit is None else f"{limit:g}"
        rows.append((technique.name, technique.does, apart, here))
    caption = (
        f"On {device}. Within: the largest difference of an answer from the model's own, as a "
        f"share of the largest answer."
    )
    return Table(("technique", "what it is", "within", "works here"), rows, caption)


__all__ = [
    "SHELF",
    "Exported",
    "Technique",
    "channels_last",
    "compiled",
    "executorch",
    "float16",
    "get",
    "half",
    "half_compiled",
    "int4_weights",
    "int8_dynamic",
    "int8_static",
    "int8_weights",
    "is_open",
    "low_rank",
    "none",
    "onnx",
    "onnx_int8",
    "onnx_int8_dynamic",
    "openvino",
    "openvino_bf16",
    "openvino_int8",
    "packaged",
    "pruned",
    "read",
    "shelf",
    "size_on_disk",
    "taught_by",
    "untouched",
    "write",
    "zeroed",
    "zeros_kept",
]
