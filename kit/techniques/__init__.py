"""Model -> model: other ways to run a trained model. The model that you pass stays unchanged.

Same bytes           none, channels_last, compiled, packaged
Fewer bits           half, half_compiled, float16, int8_weights, int8_dynamic, int8_static,
                     int4_weights
Another runtime      onnx, onnx_int8, onnx_int8_dynamic, openvino, openvino_bf16, openvino_int8,
                     executorch
Fewer computations   zeroed, pruned, low_rank: train the result on, for `zeroed` within
                     `keep_zeros`; `taught_by`: a small model learns from a large one
On disk              size_on_disk, write, read

Call a technique with a model and a batch of real inputs: `kit.techniques.half(model, example)`.
It returns a model for `kit.predict`, or raises an error if the outputs of the two differ too much.

To add a technique, write a function from a copy of a model and an example to a model, and add one
entry to `TECHNIQUES`: its tolerance and what it needs. The tests then run it.
"""

from __future__ import annotations

from functools import partial

import torch

from kit.core.errors import KitError, UnknownName
from kit.devices import backend_of, lacks_compiler
from kit.plots import Table
from kit.techniques import compiling, exporting, factorization, precision, pruning, quantisation
from kit.techniques.distillation import taught_by
from kit.techniques.exported_files import is_pytorch, read, size_on_disk, write
from kit.techniques.pruning import keep_zeros
from kit.techniques.runtimes import Exported
from kit.techniques.technique import Technique, inference_copy


def _why_not_off_cpu(device: torch.device) -> str:
    return "" if backend_of(device).is_cpu else "it is made for CPUs here"


_torchao = partial(Technique, needs=("torchao",), extra="edge")
_onnx_needs = ("onnx", "onnxscript", "onnxruntime")
_onnx = partial(Technique, why_not=_why_not_off_cpu, needs=_onnx_needs, extra="edge")
_openvino = partial(
    Technique, why_not=_why_not_off_cpu, needs=(*_onnx_needs, "openvino"), extra="openvino"
)

# In the order in which `kit.fastest` tries them: first those that are quickly made and often win.
TECHNIQUES: dict[str, Technique] = {
    technique.name: technique
    for technique in (
        Technique("none", "the model as it was trained", inference_copy, 0.0),
        Technique(
            "half", "weights and arithmetic in bfloat16", precision.half, 0.1, precision="bf16"
        ),
        _onnx("onnx", "ONNX Runtime", exporting.onnx, 1e-3, alternative="compiled"),
        _onnx(
            "onnx_int8", "ONNX Runtime, 8-bit integers", exporting.onnx_int8, 0.25,
            alternative="half", precision="int8",
        ),
        _onnx(
            "onnx_int8_dynamic", "ONNX Runtime, 8-bit, scaled at each call",
            exporting.onnx_int8_dynamic, 0.25, alternative="half", precision="int8",
        ),
        _openvino("openvino", "OpenVINO", exporting.openvino, 1e-3, alternative="onnx"),
        _openvino(
            "openvino_bf16", "OpenVINO, bfloat16", exporting.openvino_bf16, 0.1,
            alternative="half", precision="bf16",
        ),
        _openvino(
            "openvino_int8", "OpenVINO, 8-bit integers", exporting.openvino_int8, 0.25,
            alternative="onnx_int8", precision="int8",
        ),
        Technique(
            "channels_last", "the numbers of a pixel side by side", precision.channels_last, 1e-3
        ),
        Technique(
            "float16", "weights and arithmetic in float16", precision.float16, 0.02,
            why_not=precision.lacks_float16, alternative="half", precision="fp16",
        ),
        Technique("compiled", "PyTorch's compiler", compiling.compiled, 1e-3, lacks_compiler),
        Technique(
            "half_compiled", "bfloat16, and PyTorch's compiler", compiling.half_compiled, 0.1,
            lacks_compiler, alternative="half", precision="bf16",
        ),
        Technique(
            "packaged", "PyTorch's compiler, ahead of time", compiling.packaged, 1e-3,
            lacks_compiler, alternative="compiled",
        ),
        _torchao(
            "int8_static", "8-bit integers, compiled", quantisation.int8_static, 0.25,
            quantisation.lacks_x86, alternative="onnx_int8", precision="int8",
        ),
        _torchao(
            "int8_dynamic", "8-bit integers, scaled at each call", quantisation.int8_dynamic, 0.15,
            alternative="half", precision="int8",
        ),
        _torchao(
            "int8_weights", "weights as 8-bit integers", quantisation.int8_weights, 0.1,
            alternative="half",
        ),
        _torchao(
            "int4_weights", "weights as 4-bit integers", quantisation.int4_weights, 0.5,
            _why_not_off_cpu, alternative="int8_weights", precision="bf16",
        ),
        Technique(
            "executorch", "ExecuTorch, one at a time", exporting.executorch, 1e-3,
            _why_not_off_cpu, ("executorch",), "executorch", alternative="onnx",
        ),
        Technique(
            "zeroed", "most weights set to zero", pruning.zeroed, None,
            next_step="train it on within keep_zeros",
        ),
        Technique(
            "pruned", "whole channels taken out", pruning.pruned, None,
            needs=("torch_pruning",), extra="edge",
        ),
        Technique(
            "low_rank", "matrices as products of thin ones", factorization.low_rank, None
        ),
    )
}  # fmt: skip

__all__ = [
    "TECHNIQUES",
    "Exported",
    "Technique",
    "get",
    "inference_copy",
    "is_pytorch",
    "keep_zeros",
    "read",
    "size_on_disk",
    "table",
    "taught_by",
    "write",
]


def __getattr__(name: str) -> Technique:
    if name in TECHNIQUES:
        return TECHNIQUES[name]
    raise AttributeError(str(UnknownName("technique", name, __dir__())))


def __dir__() -> list[str]:
    return sorted([*__all__, *TECHNIQUES])


def get(name: str) -> Technique:
    """The technique of that name, as a notebook's parameter gives it."""
    if name not in TECHNIQUES:
        raise UnknownName("technique", name, TECHNIQUES)
    return TECHNIQUES[name]


def table(device: torch.device | str = "cpu") -> Table:
    """All techniques: what each does, how much outputs may differ, and whether it works here."""
    rows = []
    for technique in TECHNIQUES.values():
        try:
            technique.check(device)
            works = "yes"
        except KitError as error:
            works = str(error)
        limit = technique.tolerance
        within = technique.next_step if limit is None else f"{limit:g}"
        rows.append((technique.name, technique.summary, within, works))
    caption = (
        f"On {device}. Within: the largest difference between an output and the model's own, as a "
        f"share of the largest output."
    )
    return Table(("technique", "what it is", "within", "works here"), rows, caption)
